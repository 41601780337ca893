-- test/pgtap/hostile_attached.sql: code in a table with status codes gains nothing when ordflow fires the table's timeouts
--
-- hostile_tables.sql asks this of tables whose states are text, this file of codes, whose values go through input and output
-- functions, comparisons and casts of their type; with an audience of its own for each attack, and with run_due of a superuser.
-- The worker comes to the same rows by the same way: 036_hostile_worker.pl.
BEGIN;
SELECT plan(29);
SET LOCAL client_min_messages = warning;

CREATE ROLE ordflow_evil;
SELECT ordflow.grant_access('ordflow_evil', 'admin') \g /dev/null
CREATE SCHEMA evil AUTHORIZATION ordflow_evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE TABLE public.treasure (gold int);
INSERT INTO public.treasure VALUES (1);
REVOKE ALL ON public.treasure FROM PUBLIC;
SET ROLE ordflow_evil;

CREATE TABLE evil.seen (via text, who text, command text, result text);
-- Each attack by itself, and what came of it. Only what ordflow runs is meant, not the DDL that sets the traps in this session.
CREATE FUNCTION evil.attack(via text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    who text := current_user;
    command text;
    result text;
BEGIN
    IF current_setting('evil.armed', true) IS DISTINCT FROM 'on' THEN
        RETURN;
    END IF;
    FOREACH command IN ARRAY ARRAY['SET ROLE postgres', 'SET LOCAL ROLE postgres', 'RESET ROLE', 'SET ROLE NONE',
        'RESET SESSION AUTHORIZATION', 'SELECT set_config(''role'', ''none'', false)', 'UPDATE public.treasure SET gold = 0',
        'CREATE TEMP TABLE bill (id int, status int, due timestamptz)', 'CREATE TEMP VIEW machines AS SELECT 1',
        'CREATE TEMP TABLE transitions (machine text)', 'ALTER ROLE ordflow_evil SUPERUSER', 'DELETE FROM ordflow.object_history',
        'UPDATE ordflow.transitions SET role = ''postgres''', 'SELECT ordflow.grant_access(''ordflow_evil'', ''orders'')'] LOOP
        BEGIN
            EXECUTE command;
            result := 'done';
        EXCEPTION WHEN OTHERS THEN
            result := SQLSTATE;
        END;
        INSERT INTO evil.seen VALUES (via, who, command, result);
    END LOOP;
END $$;
CREATE FUNCTION evil.number(via text, n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM evil.attack(via); RETURN n; END $$;
CREATE FUNCTION evil.yes(via text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.attack(via); RETURN true; END $$;
CREATE FUNCTION evil.on_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM evil.attack(TG_ARGV[0]); RETURN NEW; END $$;
SELECT ordflow.define_machine('pgtap-codes', '{"states": {"0": "initial", "10": "normal", "40": "final"}, "transitions": [
    {"from": "0", "event": "go", "to": "10", "after": "1 min"}, {"from": "10", "event": "end", "to": "40"}]}') \g /dev/null

-- The attack is put into the table after attach, so that only the timer meets it; more rows than one,
-- and a table of no malice in the same run.
CREATE FUNCTION evil.make(type regtype) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS evil.bill;
    DROP TABLE IF EXISTS evil.harmless;
    DROP TABLE IF EXISTS evil.log;
    DELETE FROM evil.seen;
    EXECUTE format('CREATE TABLE evil.bill (id int PRIMARY KEY, status %s, due timestamptz, n int)', type);
    EXECUTE format('CREATE TABLE evil.harmless (LIKE evil.bill INCLUDING ALL)');
    CREATE TABLE evil.log (id int, note int DEFAULT evil.number('default', 1));
    CREATE INDEX ON evil.bill (due);
    CREATE INDEX ON evil.harmless (due);
    PERFORM ordflow.attach('evil.bill', 'pgtap-codes', 'status', due_column => 'due');
    PERFORM ordflow.attach('evil.harmless', 'pgtap-codes', 'status', due_column => 'due');
    INSERT INTO evil.bill SELECT n, 0, now() - interval '1 hour', n FROM generate_series(1, 3) AS n;
    INSERT INTO evil.harmless SELECT n, 0, now() - interval '1 hour', n FROM generate_series(1, 3) AS n;
END $$;
RESET ROLE;

CREATE FUNCTION pg_temp.gains_nothing(type regtype, via text, VARIADIC ddl text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    command text;
    fired int;
BEGIN
    SET LOCAL ROLE ordflow_evil;
    PERFORM evil.make(type);
    FOREACH command IN ARRAY ddl LOOP
        EXECUTE command;
    END LOOP;
    DELETE FROM evil.seen;
    RESET ROLE;
    SET LOCAL evil.armed = 'on';
    fired := ordflow.run_due();
    SET LOCAL evil.armed = 'off';
    RETURN NEXT is(fired, 6, format('%s, %s: the rows fire, and so do those of the other table', type, via));
    RETURN NEXT set_eq($q$ SELECT DISTINCT via, who, result FROM evil.seen $q$, format($q$ VALUES (%L, 'ordflow_evil', '42501') $q$, via),
        format('%s, %s: it ran as the owner of the table, and every attack was refused', type, via));
END $$;

SELECT pg_temp.gains_nothing('int', 'before trigger',
    'CREATE TRIGGER t BEFORE UPDATE ON evil.bill FOR EACH ROW EXECUTE FUNCTION evil.on_row(''before trigger'')');
SELECT pg_temp.gains_nothing('int', 'after trigger',
    'CREATE TRIGGER t AFTER UPDATE ON evil.bill FOR EACH ROW EXECUTE FUNCTION evil.on_row(''after trigger'')');
SELECT pg_temp.gains_nothing('smallint', 'statement trigger',
    'CREATE TRIGGER t AFTER UPDATE ON evil.bill EXECUTE FUNCTION evil.on_row(''statement trigger'')');
SELECT pg_temp.gains_nothing('smallint', 'index expression',
    'CREATE INDEX ON evil.bill ((evil.number(''index expression'', n)), status)');
SELECT pg_temp.gains_nothing('int', 'index predicate',
    'CREATE INDEX ON evil.bill (due) WHERE evil.number(''index predicate'', n) > 0');
SELECT pg_temp.gains_nothing('int', 'generated column',
    'ALTER TABLE evil.bill ADD g int GENERATED ALWAYS AS (evil.number(''generated column'', n)) STORED');
SELECT pg_temp.gains_nothing('smallint', 'check',
    'ALTER TABLE evil.bill ADD CHECK (evil.number(''check'', status) >= 0)');
SELECT pg_temp.gains_nothing('int', 'policy', 'ALTER TABLE evil.bill ENABLE ROW LEVEL SECURITY',
    'ALTER TABLE evil.bill FORCE ROW LEVEL SECURITY',
    'CREATE POLICY p ON evil.bill USING (evil.yes(''policy'')) WITH CHECK (evil.yes(''policy''))');
SELECT pg_temp.gains_nothing('int', 'default',
    'CREATE FUNCTION evil.to_log() RETURNS trigger LANGUAGE plpgsql AS
        ''BEGIN INSERT INTO evil.log (id) VALUES (NEW.id); RETURN NULL; END''',
    'CREATE TRIGGER t AFTER UPDATE ON evil.bill FOR EACH ROW EXECUTE FUNCTION evil.to_log()');

-- deferred triggers would run when the restriction is over: their rows wait, and nobody else's
SET ROLE ordflow_evil;
SELECT evil.make('int') \g /dev/null
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON evil.bill DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION evil.on_row('deferred');
RESET ROLE;
SET LOCAL evil.armed = 'on';
SELECT is(ordflow.run_due(), 3, 'deferred trigger: the rows of the other table fire');
SELECT set_eq($$ SELECT key, sqlstate FROM ordflow.parked WHERE target = 'evil.bill' $$,
    $$ VALUES ('1', '42501'), ('2', '42501'), ('3', '42501') $$, 'deferred trigger: its own are parked (42501)');
SELECT is_empty('TABLE evil.seen', 'deferred trigger: it did not run');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is_empty('TABLE evil.seen', 'deferred trigger: nor is it waiting');
SET CONSTRAINTS ALL DEFERRED;
SET LOCAL evil.armed = 'off';
DELETE FROM ordflow.parked;

-- temporary tables of the caller's session with the names of the table, and of ours
SET ROLE ordflow_evil;
SELECT evil.make('int') \g /dev/null
RESET ROLE;
CREATE TEMP TABLE bill (LIKE evil.bill);
INSERT INTO pg_temp.bill VALUES (1, 0, now() - interval '1 hour');
CREATE TEMP TABLE parked (LIKE ordflow.parked);
CREATE TEMP TABLE object_history (LIKE ordflow.object_history);
SET LOCAL search_path = pg_temp, evil, public;
SELECT is(ordflow.run_due(), 6, 'temporary tables: the rows of the real one fire');
SELECT is(ordflow.fire('evil.bill', '2', 'end'), '40', 'temporary tables: fire finds the real one');
SELECT is(concat((SELECT status FROM pg_temp.bill), (SELECT count(*) FROM pg_temp.parked), (SELECT count(*) FROM pg_temp.object_history)),
    '000', 'temporary tables: nobody touched them');
RESET search_path;
DROP TABLE pg_temp.bill, pg_temp.parked, pg_temp.object_history;

-- a domain over int with a CHECK: the code is read by its type, as the owner
SET ROLE ordflow_evil;
CREATE DOMAIN evil.code AS int CHECK (evil.number('domain', VALUE) >= 0);
RESET ROLE;
SELECT pg_temp.gains_nothing('evil.code', 'domain', VARIADIC ARRAY[]::text[]);

SELECT is(gold, 1, 'the treasure is whole') FROM public.treasure;
SELECT is_empty($$ SELECT 1 FROM pg_roles WHERE rolname = 'ordflow_evil' AND rolsuper $$, 'and so is its owner''s rank');

SELECT * FROM finish();
ROLLBACK;
