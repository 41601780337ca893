-- check_machine: states that cannot be reached, dead ends, effects on events that no state takes.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SELECT * FROM ordflow.check_machine('order');
SELECT * FROM ordflow.check_machine('no such machine');
SELECT * FROM ordflow.check_machine(NULL);
BEGIN;
CREATE FUNCTION pg_temp.note(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
SELECT ordflow.define_machine('mchk', '{
  "states": {"start": "initial", "work": "normal", "stuck": "normal", "done": "final",
             "island": "normal", "lagoon": "normal", "far": "final"},
  "transitions": [{"from": "start", "event": "begin", "to": "work"}, {"from": "work", "event": "end", "to": "done"},
                  {"from": "work", "event": "jam", "to": "stuck"}, {"from": "island", "event": "swim", "to": "lagoon"},
                  {"from": "lagoon", "event": "swim", "to": "island"}]}');
SELECT severity, state, problem ~ 'reached' AS unreached, problem ~ 'dead end' AS dead_end
FROM ordflow.check_machine('mchk') ORDER BY 1, 2, 3;

-- an effect whose event goes away
SELECT ordflow.add_effect('mchk', 'jam', 'pg_temp.note(jsonb,jsonb)');
SELECT ordflow.define_machine('mchk', '{"states": {"start": "initial", "done": "final"},
  "transitions": [{"from": "start", "event": "begin", "to": "done"}]}');
SELECT severity, state, problem ~ 'jam' AS names_event, problem ~ 'note' AS names_effect FROM ordflow.check_machine('mchk');

-- an initial state without an exit is a dead end, a final one is none; a loop is an exit
SELECT ordflow.define_machine('mchk2', '{"states": {"a": "initial", "b": "initial", "c": "final", "d": "initial"},
  "transitions": [{"from": "b", "event": "spin", "to": "b"}, {"from": null, "event": "make", "to": "d"}]}');
SELECT severity, state, problem ~ 'dead end' FROM ordflow.check_machine('mchk2') ORDER BY state, 3;
ROLLBACK;
