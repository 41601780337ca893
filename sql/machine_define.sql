-- define_machine writes the rows of ordflow.machines, states and transitions.
\a \t
BEGIN;
CREATE SCHEMA machine_define;
CREATE FUNCTION machine_define.may(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION machine_define.note(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS '';
SELECT ordflow.define_machine('md_ticket', '{
  "states": {"new": "initial", "imported": {"kind": "initial"}, "open": {"kind": "normal", "label": "in work"}, "done": "final"},
  "transitions": [
    {"from": null, "event": "file", "to": "new"},
    {"from": "new", "event": "take", "to": "open", "guard": "machine_define.may(jsonb,jsonb)"},
    {"from": "imported", "event": "take", "to": "open"},
    {"from": "open", "event": "close", "to": "done", "effect": "machine_define.note( jsonb , jsonb )"},
    {"from": "new", "event": "forget", "to": "done", "after": "90 minutes"}]}');
SELECT machine, builtin FROM ordflow.machines WHERE machine = 'md_ticket';
SELECT state, kind, label, builtin FROM ordflow.states WHERE machine = 'md_ticket' ORDER BY state;
SELECT ordinal, from_state, event, to_state, guard, effect, after, after_setting, role = current_user AS mine, builtin
FROM ordflow.transitions WHERE machine = 'md_ticket' ORDER BY ordinal;

-- one transition a state and event is not asked for, and neither is any transition at all
SELECT ordflow.define_machine('md_still', '{"states": {"só": "initial"}, "transitions": []}');
SELECT state, kind FROM ordflow.states WHERE machine = 'md_still';

-- state names may be codes, empty labels are none, names of 255 bytes are taken
SELECT ordflow.define_machine('md_codes', jsonb_build_object(
  'states', jsonb_build_object('10', 'initial', repeat('9', 255), jsonb_build_object('kind', 'final', 'label', null)),
  'transitions', jsonb_build_array(jsonb_build_object('from', '10', 'event', repeat('e', 255), 'to', repeat('9', 255),
    'guard', null, 'effect', null, 'after', null))));
SELECT left(state, 3), length(state), label FROM ordflow.states WHERE machine = 'md_codes' ORDER BY state;
SELECT length(event), guard, effect, after, role FROM ordflow.transitions WHERE machine = 'md_codes';
SELECT count(*) FROM ordflow.check_machine('md_codes');
ROLLBACK;
SELECT count(*) FROM ordflow.machines WHERE machine LIKE 'md\_%';
