-- Machine "order" is only added to; what is built in stays as it is.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE TEMP TABLE built AS SELECT t.* FROM ordflow.transitions t WHERE machine = 'order' AND builtin;
SELECT ordflow.define_machine('order', '{"states": {"on_hold": {"kind": "normal", "label": "on hold"}},
  "transitions": [{"from": "pending_payment", "event": "hold", "to": "on_hold"},
                  {"from": "on_hold", "event": "resume", "to": "pending_payment"},
                  {"from": "on_hold", "event": "cancel", "to": "cancelled", "after": "3 days"}]}');
SELECT state, kind, label FROM ordflow.states WHERE machine = 'order' AND NOT builtin;
SELECT from_state, event, to_state, after FROM ordflow.transitions WHERE machine = 'order' AND NOT builtin ORDER BY ordinal;
SELECT min(ordinal) > (SELECT max(ordinal) FROM built) FROM ordflow.transitions WHERE machine = 'order' AND NOT builtin;

-- again: what is named is replaced, what is not named stays
SELECT ordflow.define_machine('order', '{"states": {"on_hold": {"kind": "normal", "label": "parked"}},
  "transitions": [{"from": "on_hold", "event": "cancel", "to": "cancelled", "after": "7 days"}]}');
SELECT state, label FROM ordflow.states WHERE machine = 'order' AND NOT builtin;
SELECT from_state, event, to_state, after FROM ordflow.transitions WHERE machine = 'order' AND NOT builtin ORDER BY ordinal;

-- built-in states and transitions are not the shop's to change
SELECT ordflow.define_machine('order', '{"states": {"completed": "normal"}, "transitions": []}');
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [{"from": "pending_payment", "event": "cancel", "to": "cancelled"}]}');
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [{"from": "cancelled", "event": "pay", "to": "cancelled"}]}');

-- a built-in timeout stays the only one of its state; orders are created by submit alone
SELECT ordflow.define_machine('order', '{"states": {},
  "transitions": [{"from": "pending_payment", "event": "remind", "to": "pending_payment", "after": "5 min"}]}');
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [{"from": null, "event": "import", "to": "completed"}]}');
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [{"from": "nowhere", "event": "go", "to": "completed"}]}');

TABLE built EXCEPT SELECT t.* FROM ordflow.transitions t;
SELECT count(*) FROM ordflow.states WHERE machine = 'order' AND builtin;
ROLLBACK;
SELECT count(*) FROM ordflow.transitions WHERE machine = 'order' AND NOT builtin;
