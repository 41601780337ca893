-- State columns of every type that they may be of: the states are the texts of the values.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_typ;
SET LOCAL client_min_messages = warning;
SELECT ordflow.define_machine('att_typ_code', '{"states": {"0": "initial", "10": "normal", "-1": "final"}, "transitions": [
  {"from": "0", "event": "pay", "to": "10"}, {"from": "0", "event": "drop", "to": "-1", "after": "1 h"}]}');
SELECT ordflow.define_machine('att_typ_name', '{"states": {"new": "initial", "paid": "normal", "off": "final"}, "transitions": [
  {"from": "new", "event": "pay", "to": "paid"}, {"from": "new", "event": "drop", "to": "off", "after": "1 h"}]}');
SELECT ordflow.define_machine('att_typ_flag', '{"states": {"false": "initial", "true": "final"}, "transitions": [
  {"from": "false", "event": "pay", "to": "true", "after": "1 h"}]}');
CREATE TYPE att_typ.mood AS ENUM ('off', 'paid', 'new');
CREATE DOMAIN att_typ.small AS smallint DEFAULT 0 CHECK (value < 50);
CREATE DOMAIN att_typ.tiny AS att_typ.small;
CREATE DOMAIN att_typ.moods AS att_typ.mood;
CREATE TABLE att_typ.cases (type text PRIMARY KEY, machine text, first text, second text, wrong text);
INSERT INTO att_typ.cases VALUES
  ('smallint', 'att_typ_code', '0', '10', '11'), ('int', 'att_typ_code', '0', '10', '11'), ('bigint', 'att_typ_code', '0', '10', '11'),
  ('att_typ.small', 'att_typ_code', '0', '10', '11'), ('att_typ.tiny', 'att_typ_code', '0', '10', '11'),
  ('text', 'att_typ_name', 'new', 'paid', 'Paid'), ('varchar(4)', 'att_typ_name', 'new', 'paid', 'NEW'),
  ('char(6)', 'att_typ_name', 'new', 'paid', 'paidd'), ('att_typ.mood', 'att_typ_name', 'new', 'paid', 'off'),
  ('att_typ.moods', 'att_typ_name', 'new', 'paid', 'off'), ('boolean', 'att_typ_flag', 'false', 'true', NULL);

-- attached, paid by UPDATE and by fire, dropped when due; what is not legal is refused
CREATE FUNCTION att_typ.code(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN EXECUTE statement; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
CREATE FUNCTION att_typ.go(c att_typ.cases) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
  EXECUTE format('CREATE TABLE att_typ.t (id int PRIMARY KEY, s %s, due timestamptz)', c.type);
  PERFORM ordflow.attach('att_typ.t', c.machine, 's', due_column => 'due');
  EXECUTE format('INSERT INTO att_typ.t SELECT i, %L FROM generate_series(1, 4) i', c.first);
  EXECUTE format('UPDATE att_typ.t SET s = %L WHERE id = 1', c.second);
  result := ordflow.fire('att_typ.t', '2', 'pay') || ' ' || att_typ.code(format('INSERT INTO att_typ.t VALUES (5, %L)', c.second))
    || ' ' || att_typ.code(format('UPDATE att_typ.t SET s = %L WHERE id = 1', c.first)) || ' '
    || att_typ.code(format('UPDATE att_typ.t SET s = %L WHERE id = 2', c.wrong))
    || ' ' || att_typ.code('UPDATE att_typ.t SET s = NULL WHERE id = 1');
  UPDATE att_typ.t SET due = clock_timestamp() WHERE id = 3;
  result := result || ' ' || ordflow.run_due()::text;
  result := result || ' ' || (SELECT string_agg(s::text, ',' ORDER BY id) FROM att_typ.t)
    || ' ' || (SELECT bool_and(due > now() + interval '59 min')::text FROM att_typ.t WHERE id = 4);
  DROP TABLE att_typ.t;
  RETURN result;
END $$;
SELECT type, att_typ.go(c) FROM att_typ.cases c;
SELECT event, from_state, to_state, count(*) FROM ordflow.object_history WHERE target = 'att_typ.t' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- rows that stand in other states, by the text of their values
CREATE TABLE att_typ.old (id int PRIMARY KEY, code int, mood att_typ.mood, flag boolean, fixed char(5));
INSERT INTO att_typ.old VALUES (1, 0, 'new', false, 'new'), (2, 7, 'paid', NULL, 'older');
SELECT * FROM ordflow.attach_report('att_typ.old', 'att_typ_code', 'code');
SELECT * FROM ordflow.attach_report('att_typ.old', 'att_typ_flag', 'flag');
SELECT * FROM ordflow.attach_report('att_typ.old', 'att_typ_name', 'fixed');
SELECT ordflow.attach('att_typ.old', 'att_typ_code', 'code', due_column => 'due');
ALTER TABLE att_typ.old ADD due timestamptz;
SELECT ordflow.attach('att_typ.old', 'att_typ_code', 'code', due_column => 'due');

-- a state that the column cannot hold, also when the machine gets it later
SELECT ordflow.attach('att_typ.old', 'att_typ_name', 'code', due_column => 'due');
SELECT ordflow.attach('att_typ.old', 'att_typ_code', 'mood', due_column => 'due');
SELECT ordflow.attach('att_typ.old', 'att_typ_code', 'flag', due_column => 'due');
SELECT ordflow.define_machine('att_typ_few', '{"states": {"0": "initial", "07": "normal"}, "transitions": []}');
SELECT ordflow.attach('att_typ.old', 'att_typ_few', 'code');
SELECT ordflow.define_machine('att_typ_few', '{"states": {"0": "initial", "7": "normal"}, "transitions": []}');
SELECT ordflow.attach('att_typ.old', 'att_typ_few', 'code');
SELECT ordflow.define_machine('att_typ_few', '{"states": {"0": "initial", "7": "normal", "99999999999": "final"}, "transitions": []}');
SELECT ordflow.define_machine('att_typ_few', '{"states": {"0": "initial", "7": "normal", "lost": "final"}, "transitions": []}');
\set VERBOSITY default
SELECT ordflow.define_machine('att_typ_few', '{"states": {"0": "initial", "7": "normal", "08": "final"}, "transitions": []}');
ROLLBACK;
