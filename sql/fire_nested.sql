-- Effects may fire in turn: another row, another table, the next event of the same row.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA fire_nst;
CREATE TABLE fire_nst.parent (id int PRIMARY KEY, status text);
CREATE TABLE fire_nst.child (id int PRIMARY KEY, parent int, status text);
CREATE FUNCTION fire_nst.close_children(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ordflow.fire('fire_nst.child', id::text, 'close', a) FROM fire_nst.child WHERE parent = (o->>'key')::int ORDER BY id;
END $$;
CREATE FUNCTION fire_nst.archive(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ordflow.fire((o->>'table')::regclass, o->>'key', 'archive');
END $$;
CREATE FUNCTION fire_nst.touch(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE fire_nst.parent SET status = a->>'parent' WHERE id = 1 AND a ? 'parent';
END $$;
SELECT ordflow.define_machine('fire_nst', '{"states": {"open": "initial", "closed": "normal", "archived": "final"}, "transitions": [
  {"from": "open", "event": "close", "to": "closed", "effect": "fire_nst.close_children(jsonb,jsonb)"},
  {"from": "closed", "event": "archive", "to": "archived"}]}');
SELECT ordflow.define_machine('fire_nst_child', '{"states": {"open": "initial", "closed": "normal", "archived": "final"}, "transitions": [
  {"from": "open", "event": "close", "to": "closed", "effect": "fire_nst.archive(jsonb,jsonb)"},
  {"from": "closed", "event": "archive", "to": "archived", "effect": "fire_nst.touch(jsonb,jsonb)"}]}');
SELECT ordflow.add_effect('fire_nst_child', 'close', 'fire_nst.touch(jsonb,jsonb)');
SELECT ordflow.attach('fire_nst.parent', 'fire_nst', 'status');
SELECT ordflow.attach('fire_nst.child', 'fire_nst_child', 'status');
INSERT INTO fire_nst.parent VALUES (1, 'open'), (2, 'open');
INSERT INTO fire_nst.child VALUES (11, 1, 'open'), (12, 1, 'open'), (21, 2, 'open');
SELECT ordflow.fire('fire_nst.parent', '1', 'close');
SELECT id, status FROM fire_nst.child ORDER BY id;
SELECT target, key, event, from_state, to_state FROM ordflow.object_history
WHERE target ~ '^fire_nst' AND from_state IS NOT NULL ORDER BY history_id;

-- the plain UPDATE sets off the same
UPDATE fire_nst.parent SET status = 'closed' WHERE id = 2;
SELECT id, status FROM fire_nst.child WHERE id = 21;

-- what goes wrong below undoes what is above: the touch of row 1, which is closed, is illegal
INSERT INTO fire_nst.parent VALUES (3, 'open');
INSERT INTO fire_nst.child VALUES (31, 3, 'open');
SELECT ordflow.fire('fire_nst.parent', '3', 'close', '{"parent": "open"}');
SELECT status FROM fire_nst.parent WHERE id = 3 UNION ALL SELECT status FROM fire_nst.child WHERE id = 31;
SELECT ordflow.fire('fire_nst.parent', '3', 'close', '{"parent": "archived"}');
SELECT id, status FROM fire_nst.parent ORDER BY id;

-- without an end: the depth of the stack is watched
SET client_min_messages = error;
CREATE FUNCTION fire_nst.again(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN PERFORM ordflow.fire('fire_nst.spin', '1', 'spin'); END $$;
CREATE TABLE fire_nst.spin (id int PRIMARY KEY, status text);
SELECT ordflow.define_machine('fire_spin', '{"states": {"on": "initial"}, "transitions": [
  {"from": "on", "event": "spin", "to": "on", "effect": "fire_nst.again(jsonb,jsonb)"}]}');
SELECT ordflow.attach('fire_nst.spin', 'fire_spin', 'status');
INSERT INTO fire_nst.spin VALUES (1, 'on');
SET max_stack_depth = '1MB';
SELECT ordflow.fire('fire_nst.spin', '1', 'spin');
SELECT count(*) FROM ordflow.object_history WHERE target = 'fire_nst.spin' AND event = 'spin';
ROLLBACK;
