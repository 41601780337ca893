-- test/pgtap/servers.sql: the wrappers of other systems, who may use them, and who sees a secret
BEGIN;
SELECT plan(15);

SET LOCAL client_min_messages = error;   -- where a module is not installed, CREATE SERVER warns
CREATE ROLE ordflow_clerk;
CREATE ROLE ordflow_other;

CREATE TEMP VIEW wrappers AS
SELECT w.*, substr(w.fdwname, 9) AS module FROM pg_foreign_data_wrapper w WHERE w.fdwname ~ '^ordflow_';

-- the SQLSTATE, or the hint, that a statement ends with as that role; NULL when it succeeds
CREATE FUNCTION pg_temp.end_as(role name, sql text, hint boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    PERFORM set_config('role', role, true);
    EXECUTE sql;
    PERFORM set_config('role', 'none', true);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = PG_EXCEPTION_HINT;
    RETURN CASE WHEN hint THEN said ELSE SQLSTATE END;
END $$;

SELECT set_eq('SELECT module FROM wrappers', ARRAY['redis', 'amqp', 'postgres', 'script'], 'the wrappers of this version');
SELECT set_eq('SELECT module FROM ordflow.modules()', 'SELECT module FROM wrappers', 'each has its module');
SELECT is_empty($$
    SELECT fdwname FROM wrappers
    WHERE fdwhandler <> 0 OR fdwvalidator <> to_regproc('ordflow.' || module || '_options')
$$, 'no wrapper has a handler, each has the validator of its module');
SELECT is_empty($$
    SELECT fdwname FROM wrappers WHERE coalesce(length(obj_description(oid, 'pg_foreign_data_wrapper')), 0) < 20
$$, 'each has a comment');
SELECT is_empty($$
    SELECT fdwname FROM wrappers w WHERE NOT EXISTS (
        SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'ordflow'
        WHERE d.classid = 'pg_foreign_data_wrapper'::regclass AND d.objid = w.oid AND d.deptype = 'e')
$$, 'each belongs to the extension');
SELECT is_empty($$
    SELECT fdwname, g.grantee FROM wrappers CROSS JOIN LATERAL aclexplode(coalesce(fdwacl, acldefault('F', fdwowner))) AS g
    WHERE g.grantee <> fdwowner
$$, 'nobody but the owner may use any');

-- the valid options, as the errors name them, stand in the comments; scripts have no mappings
CREATE TEMP TABLE named (module text, option text);
CREATE FUNCTION pg_temp.note_options(module text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    command text;
BEGIN
    EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER %I', 'pgtap_' || module, 'ordflow_' || module);
    FOREACH command IN ARRAY ARRAY['ALTER SERVER %I OPTIONS (ADD nothing ''x'')',
                                   'CREATE USER MAPPING FOR PUBLIC SERVER %I OPTIONS (nothing ''x'')'] LOOP
        INSERT INTO named SELECT module, o FROM regexp_split_to_table(rtrim(regexp_replace(
            pg_temp.end_as('postgres', format(command, 'pgtap_' || module), true), '^.*: ', ''), '.'), ', ') AS o
        WHERE o !~ '^There are no';
    END LOOP;
END $$;
SELECT pg_temp.note_options(module) FROM wrappers \g /dev/null
SELECT cmp_ok((SELECT count(*) FROM named), '>', 20::bigint, 'errors name the valid options');
SELECT is_empty($$
    SELECT module, option FROM named JOIN wrappers w USING (module)
    WHERE obj_description(w.oid, 'pg_foreign_data_wrapper') !~ ('\m' || option || '\M')
$$, 'and so do the comments');

-- who may
SELECT is(pg_temp.end_as('ordflow_clerk', 'CREATE SERVER pgtap_mine FOREIGN DATA WRAPPER ordflow_redis'), '42501',
    'CREATE SERVER is refused to an ordinary role');
CREATE FOREIGN TABLE pg_temp.keys (k text) SERVER pgtap_redis;
SELECT is(pg_temp.end_as('postgres', 'SELECT * FROM pg_temp.keys'), '55000', 'there is nothing to select from a server');
CREATE USER MAPPING FOR ordflow_clerk SERVER pgtap_redis OPTIONS (password 'swordfish');
CREATE USER MAPPING FOR PUBLIC SERVER pgtap_amqp OPTIONS (password 'swordfish');
GRANT USAGE ON FOREIGN SERVER pgtap_redis, pgtap_amqp TO ordflow_other;
SELECT ordflow.grant_access('ordflow_other', part) FROM unnest(ARRAY['admin', 'read', 'orders', 'stock']) AS part \g /dev/null
SET LOCAL ROLE ordflow_other;
SELECT is_empty($$ SELECT umoptions FROM pg_user_mappings WHERE umoptions IS NOT NULL $$,
    'with every part and USAGE nobody sees the secrets of others in the catalogs');
RESET ROLE;
SELECT is(pg_temp.end_as('ordflow_other', 'TABLE pg_user_mapping'), '42501', 'nor in the table itself');
SELECT is(pg_temp.end_as('ordflow_clerk', $$ SELECT ordflow.redis_options('{}', 'pg_foreign_server'::regclass) $$), '42501',
    'a validator is not for calling');
SELECT is((SELECT count(*) FROM pg_user_mappings WHERE umoptions::text ~ 'swordfish'), 2::bigint, 'a superuser does see them');

-- they go with the extension
SELECT throws_ok('DROP EXTENSION ordflow', '2BP01', NULL, 'servers hold the extension: DROP needs CASCADE');

SELECT * FROM finish();
ROLLBACK;
