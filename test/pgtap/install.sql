-- test/pgtap/install.sql: the extension is made, dropped and made again, and takes over nothing that it finds
BEGIN;
SELECT plan(11);

CREATE ROLE ordflow_evil;
CREATE TEMP VIEW left_behind AS
SELECT 'schema' AS kind, nspname::text AS name FROM pg_namespace WHERE nspname ~ '^ordflow'
UNION ALL SELECT 'relation', relname FROM pg_class WHERE relname ~ 'ordflow'
UNION ALL SELECT 'function', proname FROM pg_proc WHERE proname ~ 'ordflow' OR probin ~ 'ordflow'
UNION ALL SELECT 'trigger', tgname FROM pg_trigger WHERE tgname ~ 'ordflow'
UNION ALL SELECT 'type', typname FROM pg_type WHERE typname ~ 'ordflow'
UNION ALL SELECT 'wrapper', fdwname FROM pg_foreign_data_wrapper WHERE fdwname ~ 'ordflow'
UNION ALL SELECT 'cast, operator', oprname FROM pg_operator WHERE oprnamespace NOT IN (SELECT oid FROM pg_namespace);

-- privileges and rows do not keep it
SELECT ordflow.grant_access('ordflow_evil', part) FROM unnest(ARRAY['orders', 'stock', 'tasks', 'sync', 'read', 'admin']) AS part \g /dev/null
SELECT ordflow.receive_stock('pgtap-install', 5) \g /dev/null
SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-install", "quantity": 1, "unit_price": 1}]') \g /dev/null
SELECT lives_ok('DROP EXTENSION ordflow', 'DROP EXTENSION');
SELECT is_empty('TABLE left_behind', 'leaves nothing behind');

-- A schema of that name that is there already may hold functions that are found before PostgreSQL's own, and its owner could take
-- it away again. So it is refused, whoever owns it.
CREATE SCHEMA ordflow AUTHORIZATION ordflow_evil;
CREATE TABLE ordflow.seen (who text);
ALTER TABLE ordflow.seen OWNER TO ordflow_evil;
CREATE FUNCTION ordflow.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS
    $$ INSERT INTO ordflow.seen VALUES (current_user) RETURNING who $$;
SELECT throws_ok('CREATE EXTENSION ordflow', '42P06', NULL, 'a schema ordflow of somebody else is refused');
SELECT is_empty('TABLE ordflow.seen', 'and nothing in it was run');
ALTER SCHEMA ordflow OWNER TO CURRENT_USER;
SELECT throws_ok('CREATE EXTENSION ordflow', '42P06', NULL, 'one of one''s own too');
SELECT throws_ok('CREATE EXTENSION ordflow SCHEMA public', '0A000', NULL, 'no other schema can be asked for');
SET LOCAL client_min_messages = warning;
DROP SCHEMA ordflow CASCADE;

CREATE FUNCTION pg_temp.create_as(role name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    CREATE EXTENSION ordflow;
END $$;
SELECT throws_ok($$ SELECT pg_temp.create_as('ordflow_evil') $$, '42501', NULL, 'an ordinary role cannot create it');

-- again, in the same session
SELECT lives_ok('CREATE EXTENSION ordflow', 'CREATE EXTENSION again');
SELECT ordflow.receive_stock('pgtap-install', 5) \g /dev/null
SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-install", "quantity": 2, "unit_price": 1}]') \g /dev/null
SELECT is(ordflow.available_stock('pgtap-install'), 3::bigint, 'and it sells at once, from a clean sheet');
SELECT ok(NOT has_schema_privilege('ordflow_evil', 'ordflow', 'USAGE'), 'old grants are gone');

-- what doctor() says is one statement, whatever a key holds
CREATE TABLE public.pgtap_doctor (id text);
INSERT INTO ordflow.parked VALUES ('public.pgtap_doctor', E'1\n; SELECT 1/0; --''', 'go', 1, now(), 'OF001', E'e\n SELECT 1/0;');
SELECT throws_ok((SELECT fix FROM ordflow.doctor() WHERE object ~ 'pgtap_doctor'), 'OF004', NULL, 'the line to paste is one statement');

SELECT * FROM finish();
ROLLBACK;
