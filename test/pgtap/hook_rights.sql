-- test/pgtap/hook_rights.sql: whose rights fire, attach, guards and effects need, and when these are asked for
BEGIN;
SELECT plan(43);

CREATE ROLE ordflow_owner;
CREATE ROLE ordflow_clerk;
CREATE ROLE ordflow_coder;
SELECT ordflow.grant_access(role, 'admin') FROM unnest(ARRAY['ordflow_owner', 'ordflow_clerk', 'ordflow_coder']::regrole[]) AS role
    \g /dev/null
SELECT ordflow.grant_access('ordflow_clerk', 'orders') \g /dev/null
CREATE SCHEMA shop AUTHORIZATION ordflow_owner;
GRANT USAGE ON SCHEMA shop TO PUBLIC;
CREATE SCHEMA code AUTHORIZATION ordflow_coder;
GRANT USAGE ON SCHEMA code TO PUBLIC;

-- the first column of a statement as that role, or its SQLSTATE
CREATE FUNCTION pg_temp.as_role(role name, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('role', role, true);
    EXECUTE sql INTO result;
    PERFORM set_config('role', 'none', true);
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;

SET ROLE ordflow_owner;
CREATE TABLE shop.job (id int PRIMARY KEY, state text DEFAULT 'new', boss text, note text);
INSERT INTO shop.job (id, boss) VALUES (1, 'ordflow_clerk'), (2, 'ordflow_clerk'), (3, 'somebody else');
SELECT ordflow.define_machine('pgtap-job', '{"states": {"new": "initial", "busy": "normal", "done": "final"}, "transitions": [
    {"from": "new", "event": "start", "to": "busy"}, {"from": "busy", "event": "stop", "to": "new"},
    {"from": "busy", "event": "end", "to": "done"}]}') \g /dev/null
SELECT ordflow.attach('shop.job', 'pgtap-job', 'state') \g /dev/null
RESET ROLE;

-- fire: UPDATE on the state column
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '1', 'start') $$), '42501', 'fire without any right');
GRANT SELECT ON shop.job TO ordflow_clerk;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '1', 'start') $$), '42501', 'SELECT is not enough');
GRANT UPDATE (note) ON shop.job TO ordflow_clerk;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '1', 'start') $$), '42501',
    'nor is UPDATE on another column');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '9', 'start') $$), '42501',
    'which is asked first: no right, no word on what exists');
GRANT UPDATE (state) ON shop.job TO ordflow_clerk;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '1', 'start') $$), 'busy',
    'UPDATE on the state column is');
REVOKE SELECT ON shop.job FROM ordflow_clerk;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '1', 'stop') $$), '42501', 'with SELECT, as for UPDATE');
GRANT SELECT ON shop.job TO ordflow_clerk;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT string_agg(event, ' ') FROM ordflow.available_events('shop.job', '1') $$),
    'end stop', 'available_events reads as the caller');
REVOKE SELECT ON shop.job FROM ordflow_clerk;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT string_agg(event, ' ') FROM ordflow.available_events('shop.job', '1') $$),
    '42501', 'and needs his SELECT');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT count(*) FROM ordflow.attach_report('shop.job', 'pgtap-job', 'note') $$),
    '42501', 'so does attach_report');
GRANT SELECT ON shop.job TO ordflow_clerk;

-- fire: policies
SET ROLE ordflow_owner;
ALTER TABLE shop.job ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shop.job FOR SELECT USING (boss = current_user);
RESET ROLE;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '3', 'start') $$), 'OF004',
    'a row that the caller does not see is unknown (OF004)');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '2', 'start') $$), 'OF004',
    'and so is one that he sees, but no policy lets him update');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT event FROM ordflow.available_events('shop.job', '3') $$), 'OF004',
    'available_events does not see it either');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT event FROM ordflow.available_events('shop.job', '2') $$), 'start',
    'but one that SELECT shows');
SET ROLE ordflow_owner;
CREATE POLICY change ON shop.job FOR UPDATE USING (boss = current_user);
RESET ROLE;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '2', 'start') $$), 'busy', 'with a policy he may');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.fire('shop.job', '3', 'start') $$), 'OF004', 'his own rows only');
SELECT results_eq('SELECT id, state FROM shop.job ORDER BY id', $$ VALUES (1, 'busy'), (2, 'busy'), (3, 'new') $$,
    'which is what happened');

-- orders: their owner alone
SELECT ordflow.receive_stock('pgtap-rights', 10) \g /dev/null
SELECT ordflow.submit_order('c', '[{"sku": "pgtap-rights", "quantity": 1, "unit_price": 1}]') AS id \gset
SELECT is(pg_temp.as_role('ordflow_clerk', format($$ SELECT ordflow.fire('ordflow.orders', '%s', 'cancel') $$, :'id')), '42501',
    'fire on orders needs UPDATE on their state');
SELECT is(ordflow.fire('ordflow.orders', :'id', 'cancel', '{"reason": "test"}'), 'cancelled', 'which their owner has');

-- attach and detach: the owner of the table
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.detach('shop.job') $$), '42501', 'detach is for the owner');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.attach('shop.job', 'pgtap-job', 'note') $$), '42501', 'so is attach');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.attach('pg_catalog.pg_proc', 'pgtap-job', 'prosrc') $$), '42501',
    'of a catalog too');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.attach('ordflow.orders', 'pgtap-job', 'coupon') $$), '42501',
    'and of orders');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.detach('ordflow.orders') $$), '42501', 'whose machine stays');
SELECT throws_ok($$ SELECT ordflow.detach('ordflow.orders') $$, '0A000', NULL, 'for everybody');
GRANT ordflow_owner TO ordflow_clerk;
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.detach('shop.job') $$), '', 'a member of the owning role may');
SELECT is(pg_temp.as_role('ordflow_clerk', $$ SELECT ordflow.attach('shop.job', 'pgtap-job', 'state') $$), '', 'both');
REVOKE ordflow_owner FROM ordflow_clerk;

-- registering a function needs EXECUTE on it, running it needs it again
SET ROLE ordflow_coder;
CREATE TABLE code.seen (who text, note text);
GRANT INSERT ON code.seen TO PUBLIC;
CREATE FUNCTION code.effect(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO code.seen VALUES (current_user, 'first') $$;
CREATE FUNCTION code.guard(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA code FROM PUBLIC;
RESET ROLE;
SELECT is(pg_temp.as_role('ordflow_owner', $$ SELECT ordflow.add_effect('pgtap-job', 'end', 'code.effect(jsonb, jsonb)') $$), '42501',
    'a function that the caller may not execute is no effect of his');
SELECT is(pg_temp.as_role('ordflow_owner', $$ SELECT ordflow.define_machine('pgtap-2', '{"states": {"a": "initial"}, "transitions":
    [{"from": "a", "event": "e", "to": "a", "guard": "code.guard(jsonb,jsonb)"}]}') $$), '42501', 'nor a guard');
GRANT EXECUTE ON FUNCTION code.effect(jsonb, jsonb) TO ordflow_owner;
SELECT is(pg_temp.as_role('ordflow_owner', $$ SELECT ordflow.add_effect('pgtap-job', 'end', 'code.effect(jsonb, jsonb)') $$), '',
    'with EXECUTE it is');
SELECT is(pg_temp.as_role('ordflow_coder', $$ SELECT ordflow.add_effect('pgtap-job', 'end', 'code.guard(jsonb, jsonb)') $$), '42804',
    'a function of another type is refused');
SELECT is(ordflow.fire('shop.job', '1', 'end'), 'done', 'a superuser fires');
SELECT results_eq('SELECT who, note FROM code.seen', $$ VALUES ('ordflow_owner', 'first') $$,
    'the effect runs as the role that registered it, not as caller or owner of the function');

-- what the owner of the function makes of it later still runs as the role that registered it
SET ROLE ordflow_coder;
CREATE OR REPLACE FUNCTION code.effect(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO code.seen VALUES (current_user, 'replaced');
    BEGIN
        SET LOCAL ROLE postgres;
    EXCEPTION WHEN insufficient_privilege THEN
        INSERT INTO code.seen VALUES (current_user, 'refused');
    END;
END $$;
DELETE FROM code.seen;
RESET ROLE;
SELECT is(ordflow.fire('shop.job', '2', 'end'), 'done', 'a function replaced by its owner');
SELECT bag_eq('SELECT who, note FROM code.seen', $$ VALUES ('ordflow_owner', 'replaced'), ('ordflow_owner', 'refused') $$,
    'runs as that role still');

-- rights that are gone stop the step
SELECT is(ordflow.fire('shop.job', '3', 'start'), 'busy', 'the third goes on');
REVOKE EXECUTE ON FUNCTION code.effect(jsonb, jsonb) FROM ordflow_owner;
SELECT throws_ok($$ SELECT ordflow.fire('shop.job', '3', 'end') $$, '42501', NULL, 'EXECUTE lost: the step is refused, also a superuser''s');
SELECT throws_ok($$ UPDATE shop.job SET state = 'done' WHERE id = 3 $$, '42501', NULL, 'by UPDATE too');
SELECT is(state, 'busy', 'nothing has changed') FROM shop.job WHERE id = 3;
SELECT isnt_empty($$ SELECT FROM ordflow.check_machine('pgtap-job') WHERE severity = 'error' AND problem ~ 'code.effect' $$,
    'check_machine tells');
GRANT EXECUTE ON FUNCTION code.effect(jsonb, jsonb) TO ordflow_owner;
ALTER ROLE ordflow_owner RENAME TO ordflow_owner_2;
SELECT throws_ok($$ SELECT ordflow.fire('shop.job', '3', 'end') $$, '42704', NULL, 'a role that is gone: 42704');
SELECT isnt_empty($$ SELECT FROM ordflow.check_machine('pgtap-job') WHERE severity = 'error' AND problem ~ 'ordflow_owner' $$,
    'check_machine tells');
ALTER ROLE ordflow_owner_2 RENAME TO ordflow_owner;
DROP FUNCTION code.effect(jsonb, jsonb);
SELECT throws_ok($$ SELECT ordflow.fire('shop.job', '3', 'end') $$, 'OF004', NULL, 'a function that is gone: OF004');
SELECT is(state, 'busy', 'nothing has changed still') FROM shop.job WHERE id = 3;

SELECT * FROM finish();
ROLLBACK;
