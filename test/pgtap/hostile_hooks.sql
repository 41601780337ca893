-- test/pgtap/hostile_hooks.sql: guards and effects of a role that wants to be more than it is
--
-- All steps are done by a superuser, whose rights would be worth having. The attacks stand in a
-- table of the attacker; the hook tries each of them, and notes as whom and with what result.
BEGIN;
SELECT plan(44);

CREATE ROLE ordflow_evil;
CREATE ROLE ordflow_other;
SELECT ordflow.grant_access('ordflow_evil', 'admin') \g /dev/null
CREATE SCHEMA evil AUTHORIZATION ordflow_evil;
CREATE SCHEMA other AUTHORIZATION ordflow_other;
GRANT USAGE ON SCHEMA other TO ordflow_evil;
SELECT ordflow.receive_stock('pgtap-evil', 1000) \g /dev/null

SET ROLE ordflow_evil;
CREATE TABLE evil.attacks (n int GENERATED ALWAYS AS IDENTITY, command text, allowed boolean DEFAULT false);
CREATE TABLE evil.seen (hook text, command text, who_before text, who_after text, result text, path text);
CREATE TABLE evil.late (id int);
CREATE FUNCTION evil.late() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('deferred trigger', NULL, current_user, current_user); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON evil.late DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION evil.late();
CREATE FUNCTION evil.definer(command text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN EXECUTE command; RETURN current_user; END $$;

INSERT INTO evil.attacks (command) VALUES
    ('SET ROLE postgres'), ('SET LOCAL ROLE postgres'), ('SET ROLE ordflow_other'), ('RESET ROLE'), ('SET ROLE NONE'),
    ('SET SESSION AUTHORIZATION postgres'), ('RESET SESSION AUTHORIZATION'), ('SET SESSION AUTHORIZATION DEFAULT'),
    ('SELECT set_config(''role'', ''postgres'', false)'), ('SELECT set_config(''role'', ''none'', true)'),
    ('SELECT set_config(''session_authorization'', ''postgres'', true)'),
    ('SELECT evil.definer(''SET ROLE postgres'')'), ('SELECT evil.definer(''RESET SESSION AUTHORIZATION'')'),
    ('SELECT evil.definer(''CREATE TEMP TABLE orders ()'')'),
    ('CREATE TEMP TABLE orders (order_id bigint)'), ('CREATE TABLE pg_temp.pg_proc (oid oid)'), ('SELECT 1 AS a INTO TEMP stock'),
    ('CREATE TEMP VIEW stock_levels AS SELECT 1'), ('CREATE TEMP SEQUENCE orders_order_id_seq'),
    ('DISCARD ALL'), ('DISCARD PLANS'), ('PREPARE p AS SELECT 1'), ('DEALLOCATE ALL'), ('LISTEN evil'), ('UNLISTEN *'),
    ('DECLARE c CURSOR WITH HOLD FOR SELECT 1'), ('INSERT INTO evil.late VALUES (1)'),
    ('ALTER ROLE ordflow_evil SUPERUSER'), ('CREATE ROLE ordflow_evil_2 SUPERUSER'), ('GRANT postgres TO ordflow_evil'),
    ('GRANT ordflow_other TO ordflow_evil'), ('UPDATE ordflow.stock SET on_hand = 0'), ('DELETE FROM ordflow.order_history'),
    ('UPDATE ordflow.orders SET payable = 0, subtotal = 0'), ('ALTER TABLE ordflow.orders DISABLE TRIGGER ALL'),
    ('UPDATE ordflow.effects SET role = ''postgres'''), ('UPDATE ordflow.parts SET part = ''x'''),
    ('SELECT ordflow.grant_access(''ordflow_evil'', ''orders'')'), ('SELECT ordflow.receive_stock(''pgtap-evil'', 1)'),
    ('UPDATE pg_authid SET rolsuper = true'), ('COPY evil.seen TO PROGRAM ''true'''), ('COPY evil.seen TO ''/tmp/ordflow.evil'''),
    ('CREATE FUNCTION pg_catalog.lower(jsonb) RETURNS text LANGUAGE sql AS ''SELECT NULL'''),
    ('CREATE OPERATOR pg_catalog.= (FUNCTION = textne, LEFTARG = text, RIGHTARG = jsonb)'),
    ('CREATE FUNCTION ordflow.f() RETURNS int LANGUAGE sql AS ''SELECT 1'''), ('DROP EXTENSION ordflow CASCADE'),
    ('SELECT set_config(''session_replication_role'', ''replica'', true)'), ('SET LOCAL ordflow.max_lines = 1'),
    ('LOAD ''plpgsql''');
INSERT INTO evil.attacks (command, allowed) VALUES
    ('SELECT evil.definer(''SELECT 1'')', true), ('SET search_path = evil, pg_catalog', true), ('SET LOCAL search_path = evil', true),
    ('SELECT set_config(''ordflow.actor'', ''forged'', false)', true),
    -- PostgreSQL lets this pass where a temporary schema exists already; no name finds it
    ('CREATE OR REPLACE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS ''SELECT $1''', true);

CREATE FUNCTION evil.attack(hook text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a record;
    result text;
    who text;
BEGIN
    FOR a IN SELECT * FROM evil.attacks ORDER BY n LOOP
        who := current_user;
        BEGIN
            EXECUTE a.command;
            result := 'done';
        EXCEPTION WHEN OTHERS THEN
            result := SQLSTATE;
        END;
        INSERT INTO evil.seen VALUES (hook, a.command, who, current_user, result, current_setting('search_path'));
    END LOOP;
END $$;
CREATE FUNCTION evil.effect(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS $$ SELECT evil.attack(object->>'event') $$;
CREATE FUNCTION evil.guard(object jsonb, args jsonb) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN PERFORM evil.attack('guard'); RETURN true; END $$;
CREATE FUNCTION evil.deferred(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO evil.late VALUES (1) $$;

-- on the machine "order" an effect on each event, and an event with a guard; on one of his own both
SELECT ordflow.add_effect('order', event, 'evil.effect(jsonb, jsonb)')
    FROM unnest(ARRAY['submit', 'pay', 'cancel', 'expire', 'ship', 'confirm', 'refund']) AS event \g /dev/null
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [{"from": "pending_payment", "event": "look",
    "to": "pending_payment", "guard": "evil.guard(jsonb,jsonb)"}]}') \g /dev/null
SELECT ordflow.define_machine('pgtap-evil', '{"states": {"a": "initial", "b": "normal", "c": "final"}, "transitions": [
    {"from": null, "event": "begin", "to": "a", "guard": "evil.guard(jsonb,jsonb)", "effect": "evil.effect(jsonb,jsonb)"},
    {"from": "a", "event": "go", "to": "b", "guard": "evil.guard(jsonb,jsonb)", "effect": "evil.effect(jsonb,jsonb)"},
    {"from": "b", "event": "end", "to": "c", "after": "1 min", "effect": "evil.effect(jsonb,jsonb)"}]}') \g /dev/null
RESET ROLE;

-- what an attack may not leave behind
CREATE TEMP VIEW traces AS
SELECT 'role' AS what, rolname::text AS name FROM pg_authid WHERE rolname ~ '^ordflow_evil' AND (rolsuper OR rolcreaterole)
UNION ALL SELECT 'role', rolname FROM pg_authid WHERE rolname = 'ordflow_evil_2'
UNION ALL SELECT 'member', pg_get_userbyid(roleid) FROM pg_auth_members WHERE pg_get_userbyid(member) = 'ordflow_evil'
UNION ALL SELECT 'temp', relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND pg_get_userbyid(relowner) <> session_user
UNION ALL SELECT 'prepared', name FROM pg_prepared_statements
UNION ALL SELECT 'cursor', name FROM pg_cursors WHERE is_holdable
UNION ALL SELECT 'channel', c FROM pg_listening_channels() AS c
UNION ALL SELECT 'function', proname FROM pg_proc WHERE pg_get_userbyid(proowner) = 'ordflow_evil'
    AND pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname = 'evil' OR oid = pg_my_temp_schema())
UNION ALL SELECT 'function', 'lower' WHERE lower('A') <> 'a'
UNION ALL SELECT 'user', current_user WHERE current_user <> session_user
UNION ALL SELECT 'path', current_setting('search_path') WHERE current_setting('search_path') ~ 'evil'
UNION ALL SELECT 'actor', current_setting('ordflow.actor') WHERE current_setting('ordflow.actor') = 'forged'
UNION ALL SELECT 'actor', actor FROM ordflow.order_history WHERE actor = 'forged'
UNION ALL SELECT 'actor', actor FROM ordflow.object_history WHERE actor = 'forged'
UNION ALL SELECT 'actor', actor FROM ordflow.stock_movements WHERE actor = 'forged';

-- what the hook saw and did, and that nothing is left of it
CREATE FUNCTION pg_temp.nothing_gained(event text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT set_eq(format('SELECT DISTINCT who_before, who_after FROM evil.seen WHERE hook = %L', event),
        $q$ VALUES ('ordflow_evil', 'ordflow_evil') $q$, event || ': it ran as the role that registered it, throughout');
    RETURN NEXT bag_eq(format('SELECT DISTINCT command, result FROM evil.seen WHERE hook = %L', event),
        $q$ SELECT command, CASE WHEN allowed THEN 'done' ELSE '42501' END FROM evil.attacks $q$,
        event || ': every attack was refused (42501)');
    RETURN NEXT is_empty('TABLE traces', event || ': nothing is left of it');
    DELETE FROM evil.seen;
END $$;

SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-evil", "quantity": 3, "unit_price": 2}]') AS id \gset
SELECT pg_temp.nothing_gained('submit');
SELECT ordflow.pay_order(:id, 'visa', 'pgtap-evil', 6) \g /dev/null
SELECT pg_temp.nothing_gained('pay');
SELECT ordflow.ship_order(:id, 'dhl', 'E1') \g /dev/null
SELECT pg_temp.nothing_gained('ship');
SELECT ordflow.confirm_order(:id) \g /dev/null
SELECT pg_temp.nothing_gained('confirm');
SELECT ordflow.refund_order(:id) \g /dev/null
SELECT pg_temp.nothing_gained('refund');
SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-evil", "quantity": 3, "unit_price": 2}]') AS id \gset
SELECT ordflow.fire('ordflow.orders', :'id', 'look') \g /dev/null
SELECT pg_temp.nothing_gained('guard');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :id;
SELECT pg_temp.nothing_gained('cancel');
SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-evil", "quantity": 3, "unit_price": 2}]', pay_within => '1 s') AS id \gset
DELETE FROM evil.seen;
SELECT ordflow.run_due(clock_timestamp() + interval '1 min') \g /dev/null
SELECT is(state, 'cancelled', 'expire: run_due of a superuser did it') FROM ordflow.orders WHERE order_id = :id;
SELECT pg_temp.nothing_gained('expire');
SELECT result FROM ordflow.submit_orders('[{"lines": [{"sku": "pgtap-evil", "quantity": 1, "unit_price": 2}]},
    {"lines": [{"sku": "pgtap-evil", "quantity": 1, "unit_price": 2}]}]') \g /dev/null
SELECT pg_temp.nothing_gained('submit');

-- the clock: only a superuser may run ahead of it, and in the hook nobody is
SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-evil", "quantity": 1, "unit_price": 2}]') AS waiting \gset
SET ROLE ordflow_evil;
CREATE FUNCTION evil.haste(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS
    $$ SELECT ordflow.run_due(clock_timestamp() + interval '1 year') $$;
SELECT ordflow.add_effect('order', 'submit', 'evil.haste(jsonb, jsonb)') \g /dev/null
RESET ROLE;
SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-evil", "quantity": 1, "unit_price": 2}]') \g /dev/null
SELECT is(state, 'pending_payment', 'a hook that calls run_due(next year) expires nothing') FROM ordflow.orders
    WHERE order_id = :waiting;
SELECT ordflow.drop_effect('order', 'submit', 'evil.haste(jsonb, jsonb)') \g /dev/null
SET ROLE ordflow_evil;
SELECT ordflow.run_due(clock_timestamp() + interval '1 year') \g /dev/null
RESET ROLE;
SELECT is(state, 'pending_payment', 'nor does the role by itself') FROM ordflow.orders WHERE order_id = :waiting;
DELETE FROM evil.seen;

-- on somebody else's table
CREATE TABLE other.thing (id int PRIMARY KEY, state text DEFAULT 'a', due timestamptz);
CREATE INDEX ON other.thing (due) WHERE due IS NOT NULL;
SELECT ordflow.attach('other.thing', 'pgtap-evil', 'state', due_column => 'due') \g /dev/null
ALTER TABLE other.thing OWNER TO ordflow_other;
INSERT INTO other.thing VALUES (1);
SELECT pg_temp.nothing_gained('begin');
UPDATE other.thing SET state = 'b';
SELECT pg_temp.nothing_gained('go');
SELECT ordflow.run_due(clock_timestamp() + interval '2 min') \g /dev/null
SELECT is(state, 'c', 'end: run_due of a superuser did it') FROM other.thing;
SELECT pg_temp.nothing_gained('end');

-- deferred triggers would run when all restrictions are gone: refused, and the hint says what to do
CREATE FUNCTION pg_temp.error_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE command;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', SQLSTATE, substring(hint FROM 'SET CONSTRAINTS ... IMMEDIATE'));
END $$;
SELECT ordflow.drop_effect('order', event, 'evil.effect(jsonb, jsonb)')
    FROM unnest(ARRAY['submit', 'pay', 'cancel', 'expire', 'ship', 'confirm', 'refund']) AS event \g /dev/null
SET ROLE ordflow_evil;
SELECT ordflow.add_effect('order', 'submit', 'evil.deferred(jsonb, jsonb)') \g /dev/null
RESET ROLE;
SELECT is(pg_temp.error_of($$ SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-evil", "quantity": 1, "unit_price": 2}]') $$),
    '42501 SET CONSTRAINTS ... IMMEDIATE', 'an effect that leaves a deferred trigger behind is refused, with the hint');
SELECT is_empty('TABLE evil.late', 'and nothing of it stays');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is(pg_temp.error_of($$ SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-evil", "quantity": 1, "unit_price": 2}]') $$),
    'done', 'with SET CONSTRAINTS ALL IMMEDIATE it passes');
SELECT results_eq($$ SELECT who_before FROM evil.seen WHERE hook = 'deferred trigger' $$, ARRAY['ordflow_evil'],
    'and its trigger ran as the role that registered the effect');

SELECT * FROM finish();
ROLLBACK;
