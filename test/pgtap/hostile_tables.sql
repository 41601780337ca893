-- test/pgtap/hostile_tables.sql: what hangs on a user's table runs as its owner, restricted, whoever lets ordflow write it
--
-- The owner of the table has put code wherever PostgreSQL takes it: triggers, a CHECK, a generated
-- column, a policy, indexes, statistics, a cast. Each piece notes who runs it and tries to get more.
BEGIN;
SELECT plan(37);

CREATE ROLE ordflow_evil;
SELECT ordflow.grant_access('ordflow_evil', 'admin') \g /dev/null
CREATE SCHEMA evil AUTHORIZATION ordflow_evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
SET ROLE ordflow_evil;

CREATE TABLE evil.seen (via text, who text, result text);
CREATE FUNCTION evil.take(via text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    who text := current_user;
    result text := 'done';
BEGIN
    BEGIN
        SET LOCAL ROLE postgres;
    EXCEPTION WHEN OTHERS THEN
        result := SQLSTATE;
    END;
    INSERT INTO evil.seen VALUES (via, who, result);
    RETURN true;
END $$;
-- what planning evaluates must pretend to be constant
CREATE FUNCTION evil.pretend(via text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM evil.take(via); RETURN true; END $$;
CREATE FUNCTION evil.number(via text, n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM evil.take(via); RETURN n; END $$;
CREATE FUNCTION evil.on_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM evil.take(lower(TG_WHEN) || ' ' || lower(TG_LEVEL) || ' trigger'); RETURN NEW; END $$;

SELECT ordflow.define_machine('pgtap-evil', '{"states": {"a": "initial", "b": "normal", "c": "final"}, "transitions": [
    {"from": "a", "event": "go", "to": "b", "after": "1 min"}, {"from": "b", "event": "end", "to": "c"}]}') \g /dev/null

-- a table with code in every place that an UPDATE of another column visits
CREATE FUNCTION evil.make(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE evil.%I (id int PRIMARY KEY, state text, due timestamptz, n int,
        CHECK (n IS NULL OR evil.number(''check'', n) > 0), g int GENERATED ALWAYS AS (evil.number(''generated'', n)) STORED)', name);
    EXECUTE format('INSERT INTO evil.%I VALUES (1, ''a'', now() - interval ''1 hour'', 7)', name);
    EXECUTE format('CREATE INDEX i1 ON evil.%I (due)', name);
    EXECUTE format('CREATE INDEX i2 ON evil.%I (due) WHERE evil.pretend(''index predicate'')', name);
    EXECUTE format('CREATE INDEX i3 ON evil.%I (due, evil.number(''index expression'', n), evil.number(''constant index expression'', 1))',
        name);
    EXECUTE format('CREATE STATISTICS evil.s ON due, evil.number(''statistics'', 1) FROM evil.%I', name);
    EXECUTE format('CREATE TRIGGER t1 BEFORE UPDATE ON evil.%I FOR EACH ROW EXECUTE FUNCTION evil.on_row()', name);
    EXECUTE format('CREATE TRIGGER t2 AFTER UPDATE ON evil.%I FOR EACH ROW EXECUTE FUNCTION evil.on_row()', name);
    EXECUTE format('CREATE TRIGGER t3 BEFORE UPDATE ON evil.%I EXECUTE FUNCTION evil.on_row()', name);
    EXECUTE format('CREATE TRIGGER t4 AFTER UPDATE ON evil.%I EXECUTE FUNCTION evil.on_row()', name);
    EXECUTE format('CREATE POLICY p ON evil.%I USING (evil.take(''policy'')) WITH CHECK (evil.take(''policy check''))', name);
    EXECUTE format('ALTER TABLE evil.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE evil.%I FORCE ROW LEVEL SECURITY', name);
END $$;
-- what the relation cache has computed is forgotten, so the next to plan computes it again
CREATE FUNCTION evil.rearm() RETURNS void LANGUAGE sql AS $$
    ALTER INDEX evil.i2 SET (fillfactor = 50); ALTER INDEX evil.i2 RESET (fillfactor);
    ALTER INDEX evil.i3 SET (fillfactor = 50); ALTER INDEX evil.i3 RESET (fillfactor);
    DELETE FROM evil.seen;
$$;
RESET ROLE;
CREATE FUNCTION pg_temp.rearm() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL ROLE ordflow_evil;
    PERFORM evil.rearm();
    RESET ROLE;
END $$;

-- owner_only: nothing in evil.seen ran as another role, or got anywhere
CREATE FUNCTION pg_temp.owner_only(description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT is_empty($q$ SELECT DISTINCT via, who, result FROM evil.seen WHERE (who, result) <> ('ordflow_evil', '42501') $q$,
        description || ': all that ran did so as the owner of the table, restricted');
END $$;
CREATE FUNCTION pg_temp.must_have_run(VARIADIC via text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT is_empty(format('SELECT unnest(%L::text[]) EXCEPT SELECT via FROM evil.seen', via),
        'and that was ' || array_to_string(via, ', '));
END $$;

-- attach: by the owner himself, where it must not borrow the rights of ordflow
SET ROLE ordflow_evil;
SELECT evil.make('t') \g /dev/null
SELECT evil.rearm() \g /dev/null
SET LOCAL client_min_messages = warning;
SELECT ordflow.attach('evil.t', 'pgtap-evil', 'state', 'id', 'due') \g /dev/null
RESET ROLE;
SELECT is_empty($$ SELECT DISTINCT via, who FROM evil.seen WHERE who <> 'ordflow_evil' $$, 'attach: nothing ran as another role');

-- run_due, called by a superuser
SELECT pg_temp.rearm() \g /dev/null
SELECT cmp_ok(ordflow.run_due(), '>=', 1, 'run_due fires it');
SELECT pg_temp.owner_only('run_due');
SELECT pg_temp.must_have_run('before row trigger', 'after row trigger', 'before statement trigger', 'after statement trigger',
    'check', 'generated', 'policy', 'policy check', 'index predicate', 'index expression');
SELECT is(string_agg(to_state, ' ' ORDER BY history_id), 'b', 'the row has moved on') FROM ordflow.object_history
    WHERE target = 'evil.t' AND event <> 'insert';

-- fire, called by a superuser
SELECT pg_temp.rearm() \g /dev/null
SELECT is(ordflow.fire('evil.t', '1', 'end'), 'c', 'fire moves it on');
SELECT pg_temp.owner_only('fire');
SELECT pg_temp.must_have_run('before row trigger', 'after row trigger', 'before statement trigger', 'after statement trigger',
    'check', 'generated', 'index predicate');

-- the reports, called by a superuser
SELECT pg_temp.rearm() \g /dev/null
SELECT count(*) FROM ordflow.available_events('evil.t', '1') \g /dev/null
SELECT count(*) FROM ordflow.attach_report('evil.t', 'order', 'state') \g /dev/null
SELECT pg_temp.owner_only('available_events and attach_report');
SELECT pg_temp.must_have_run('index predicate');

-- a new definition of the machine, by a superuser: rows in states that go are looked for
SELECT pg_temp.rearm() \g /dev/null
SELECT lives_ok($$ SELECT ordflow.define_machine('pgtap-evil', '{"states": {"a": "initial", "c": "final"}, "transitions": []}') $$,
    'define_machine looks into the table');
SELECT pg_temp.owner_only('define_machine');
SELECT pg_temp.rearm() \g /dev/null
SELECT throws_ok($$ SELECT ordflow.define_machine('pgtap-evil', '{"states": {"a": "initial"}, "transitions": []}') $$,
    'OF001', NULL, 'and sees its rows');
SELECT pg_temp.rearm() \g /dev/null
SELECT ordflow.detach('evil.t') \g /dev/null
SELECT pg_temp.owner_only('detach');
DROP TABLE evil.t;

-- audit and doctor, by a superuser, with such a table about
SET ROLE ordflow_evil;
SELECT ordflow.define_machine('pgtap-evil', '{"states": {"a": "initial", "b": "normal", "c": "final"}, "transitions": [
    {"from": "a", "event": "go", "to": "b", "after": "1 min"}, {"from": "b", "event": "end", "to": "c"}]}') \g /dev/null
SELECT evil.make('t2') \g /dev/null
SELECT ordflow.attach('evil.t2', 'pgtap-evil', 'state', 'id', 'due') \g /dev/null
RESET ROLE;
SELECT pg_temp.rearm() \g /dev/null
SELECT count(*) FROM ordflow.audit() \g /dev/null
SELECT count(*) FROM ordflow.doctor() \g /dev/null
SELECT is_empty('TABLE evil.seen', 'audit and doctor run nothing of it');

-- the state column is swapped for one of a type with a cast of the owner's
SET ROLE ordflow_evil;
CREATE TYPE evil.mood AS ENUM ('a', 'b', 'c');
CREATE FUNCTION evil.mood_text(evil.mood) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM evil.take('cast'); RETURN enum_out($1)::text; END $$;
CREATE CAST (evil.mood AS text) WITH FUNCTION evil.mood_text(evil.mood);
ALTER TABLE evil.t2 RENAME COLUMN state TO old_state;
ALTER TABLE evil.t2 ADD COLUMN state evil.mood DEFAULT 'a';
RESET ROLE;
SELECT pg_temp.rearm() \g /dev/null
SELECT ordflow.run_due() \g /dev/null
SELECT pg_temp.owner_only('run_due with a swapped state column');
SELECT pg_temp.rearm() \g /dev/null
SELECT throws_like($$ SELECT ordflow.fire('evil.t2', '1', 'go') $$, '%', 'fire does not take a column of another type');
SELECT pg_temp.owner_only('fire with a swapped state column');
SELECT pg_temp.rearm() \g /dev/null
SELECT throws_like($$ SELECT ordflow.define_machine('pgtap-evil', '{"states": {"x": "initial"}, "transitions": []}') $$, '%',
    'nor define_machine');
SELECT pg_temp.owner_only('define_machine with a swapped state column');
DROP TABLE evil.t2;

-- the text of a key is read by its type, which may ask a CHECK of the owner's
SET ROLE ordflow_evil;
CREATE DOMAIN evil.number AS int CHECK (evil.take('key'));
CREATE TYPE evil.key AS (number evil.number);
CREATE TABLE evil.k (id evil.key PRIMARY KEY, state text);
INSERT INTO evil.k VALUES (ROW(1), 'a');
SELECT ordflow.define_machine('pgtap-key', '{"states": {"a": "initial"}, "transitions": [{"from": "a", "event": "go", "to": "a"}]}')
    \g /dev/null
SELECT ordflow.attach('evil.k', 'pgtap-key', 'state') \g /dev/null
DELETE FROM evil.seen;
RESET ROLE;
SELECT is(ordflow.fire('evil.k', '(1)', 'go'), 'a', 'fire with a key of a type of the owner''s');
SELECT count(*) FROM ordflow.available_events('evil.k', '(1)') \g /dev/null
SELECT pg_temp.owner_only('the key of fire');
SELECT pg_temp.must_have_run('key');
DROP TABLE evil.k;

-- names are names, whatever they look like
SET ROLE ordflow_evil;
CREATE TABLE evil."t'; DROP TABLE evil.seen; --" ("i""d'" text PRIMARY KEY, "st""ate'); SELECT 1/0; --" text, "d""ue'" timestamptz);
SELECT ordflow.define_machine('m''"; SELECT 1/0; --', '{"states": {"a''\"); SELECT 1/0; --": "initial", "b''": "final"}, "transitions":
    [{"from": "a''\"); SELECT 1/0; --", "event": "e''\"", "to": "b''", "after": "1 min"}]}') \g /dev/null
SELECT ordflow.attach('evil."t''; DROP TABLE evil.seen; --"', 'm''"; SELECT 1/0; --', 'st"ate''); SELECT 1/0; --', due_column => 'd"ue''')
    \g /dev/null
INSERT INTO evil."t'; DROP TABLE evil.seen; --" VALUES ('k''"; SELECT 1/0; --', 'a''"); SELECT 1/0; --'),
    ('2', 'a''"); SELECT 1/0; --');
RESET ROLE;
SELECT is(ordflow.fire('evil."t''; DROP TABLE evil.seen; --"', 'k''"; SELECT 1/0; --', 'e''"'), 'b''', 'fire, with names full of quotes');
SELECT is(ordflow.run_due(clock_timestamp() + interval '2 min'), 1, 'run_due');
SELECT is(count(*), 0::bigint, 'attach_report') FROM ordflow.attach_report('evil."t''; DROP TABLE evil.seen; --"',
    'm''"; SELECT 1/0; --', 'st"ate''); SELECT 1/0; --');
SELECT is(array_agg(key || to_state ORDER BY key), ARRAY['2b''', 'k''"; SELECT 1/0; --b'''], 'the history')
    FROM ordflow.object_history WHERE target ~ 'DROP' AND event <> 'insert';
SELECT lives_ok($$ SELECT ordflow.detach('evil."t''; DROP TABLE evil.seen; --"') $$, 'detach');

-- a deferred trigger would run when the restrictions are gone: the row is parked, others go on
SET ROLE ordflow_evil;
CREATE TABLE evil.t3 (id int PRIMARY KEY, state text, due timestamptz);
INSERT INTO evil.t3 VALUES (1, 'a', now() - interval '1 hour');
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON evil.t3 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.on_row();
CREATE TABLE evil.t4 (id int PRIMARY KEY, state text, due timestamptz);
INSERT INTO evil.t4 SELECT n, 'a', now() - interval '1 hour' FROM generate_series(1, 5) AS n;
DELETE FROM evil.seen;
SELECT ordflow.attach('evil.t3', 'pgtap-evil', 'state', 'id', 'due') \g /dev/null
SELECT ordflow.attach('evil.t4', 'pgtap-evil', 'state', 'id', 'due') \g /dev/null
RESET ROLE;
SELECT is(ordflow.run_due(), 5, 'of two tables one fires');
SELECT is(concat_ws(' ', target, key, event, sqlstate), 'evil.t3 1 go 42501', 'the row with the deferred trigger is parked (42501)')
    FROM ordflow.parked WHERE target = 'evil.t3';
SELECT is_empty('TABLE evil.seen', 'its trigger did not run');
CREATE FUNCTION pg_temp.hint() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    RETURN ordflow.fire('evil.t3', '1', 'go');
EXCEPTION WHEN insufficient_privilege THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN substring(hint FROM 'SET CONSTRAINTS ... IMMEDIATE');
END $$;
SELECT is(pg_temp.hint(), 'SET CONSTRAINTS ... IMMEDIATE', 'fire refuses it too (42501), with the hint');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is(ordflow.fire('evil.t3', '1', 'go'), 'b', 'with SET CONSTRAINTS ALL IMMEDIATE it passes');
SELECT pg_temp.owner_only('an immediate constraint trigger');
DROP TABLE evil.t3;

-- a table that cannot even be read holds up no other
SET ROLE ordflow_evil;
CREATE FUNCTION evil.fail(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN IF current_setting('evil.fail', true) = 'on' THEN RAISE 'no'; END IF; RETURN true; END $$;
CREATE TABLE evil.a5 (id int PRIMARY KEY, state text, due timestamptz);
INSERT INTO evil.a5 VALUES (1, 'a', now() - interval '1 hour');
CREATE INDEX i5 ON evil.a5 (due) WHERE evil.fail(1);
SELECT ordflow.attach('evil.a5', 'pgtap-evil', 'state', 'id', 'due') \g /dev/null
ALTER INDEX evil.i5 SET (fillfactor = 50);
UPDATE evil.t4 SET state = 'c';
DELETE FROM evil.t4;
INSERT INTO evil.t4 SELECT n, 'a', now() - interval '1 hour' FROM generate_series(1, 5) AS n;
RESET ROLE;
SET LOCAL evil.fail = 'on';
SET LOCAL client_min_messages = error;
SELECT lives_ok('SELECT ordflow.run_due()', 'run_due passes a table that cannot be read');
SELECT set_eq('SELECT state FROM evil.t4', ARRAY['b'], 'and fires what is due elsewhere');
SET LOCAL evil.fail = 'off';
SELECT is(state, 'a', 'the other waits') FROM evil.a5;

SELECT * FROM finish();
ROLLBACK;
