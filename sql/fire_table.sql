-- fire: an event by its name on a row of an attached table; answers the new state.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA fire_tab;
CREATE TABLE fire_tab.door (id int PRIMARY KEY, status text, note text);
CREATE TABLE fire_tab.wall (id int PRIMARY KEY, status text);
SELECT ordflow.define_machine('fire_tab', '{"states": {"shut": "initial", "open": "normal", "torn down": "final"}, "transitions": [
  {"from": null, "event": "build", "to": "shut"}, {"from": "shut", "event": "open", "to": "open"},
  {"from": "open", "event": "shut", "to": "shut"}, {"from": "open", "event": "knock", "to": "open"},
  {"from": "open", "event": "tear", "to": "torn down"}]}');
SELECT ordflow.attach('fire_tab.door', 'fire_tab', 'status');
INSERT INTO fire_tab.door VALUES (1, 'shut', 'oak');
SELECT ordflow.fire('fire_tab.door', '1', 'open');
SELECT ordflow.fire('fire_tab.door', ' 1 ', 'knock', '{"reason": "guests", "times": 2}');
SELECT ordflow.fire(target => 'fire_tab.door', key => '1', event => 'shut', args => '{"reason": {"not": "text"}}');
SELECT * FROM fire_tab.door;
SET LOCAL ordflow.actor = 'porter';
SELECT ordflow.fire('fire_tab.door', '1', 'open', '[1, 2]');
SELECT event, from_state, to_state, actor = session_user AS me, actor = 'porter' AS porter, reason, data
FROM ordflow.object_history WHERE target = 'fire_tab.door' ORDER BY history_id;

-- not legal in this state; known, but it creates objects; not known at all
SELECT ordflow.fire('fire_tab.door', '1', 'open');
SELECT ordflow.fire('fire_tab.door', '1', 'build');
SELECT ordflow.fire('fire_tab.door', '1', 'paint');
SELECT ordflow.fire('fire_tab.door', '1', 'tear');
SELECT ordflow.fire('fire_tab.door', '1', 'open');

-- no such row, no such key, no machine, no table
SELECT ordflow.fire('fire_tab.door', '2', 'open');
SELECT ordflow.fire('fire_tab.door', 'one', 'open');
SELECT ordflow.fire('fire_tab.door', '', 'open');
SELECT ordflow.fire('fire_tab.door', '99999999999', 'open');
SELECT ordflow.fire('fire_tab.wall', '1', 'open');
SELECT ordflow.fire('fire_tab.gate', '1', 'open');
SELECT ordflow.fire(1::regclass, '1', 'open');

-- NULL, empty and too long
SELECT ordflow.fire(NULL, '1', 'open');
SELECT ordflow.fire('fire_tab.door', NULL, 'open');
SELECT ordflow.fire('fire_tab.door', '1', NULL);
SELECT ordflow.fire('fire_tab.door', '1', 'open', NULL);
SELECT ordflow.fire('fire_tab.door', '1', '');
SELECT ordflow.fire('fire_tab.door', '1', repeat('e', 256));

-- a row whose state the machine does not know
SET LOCAL session_replication_role = replica;
INSERT INTO fire_tab.door VALUES (3, 'ajar'), (4, NULL);
RESET session_replication_role;
SELECT ordflow.fire('fire_tab.door', '3', 'open');
SELECT ordflow.fire('fire_tab.door', '4', 'open');
SELECT count(*) FROM ordflow.object_history WHERE target = 'fire_tab.door';
ROLLBACK;
