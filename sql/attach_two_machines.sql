-- Two machines on two columns of one table.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_two;
CREATE TABLE att_two.sale (id int PRIMARY KEY, goods text, money text, due timestamptz, money_due timestamptz);
CREATE INDEX ON att_two.sale (due);
CREATE INDEX ON att_two.sale (money_due);
SELECT ordflow.define_machine('att_two_goods', '{"states": {"packed": "initial", "sent": "normal", "back": "final"},
  "transitions": [{"from": "packed", "event": "send", "to": "sent", "after": "2 days"}, {"from": "sent", "event": "return", "to": "back"}]}');
SELECT ordflow.define_machine('att_two_money', '{"states": {"open": "initial", "paid": "normal", "back": "final"},
  "transitions": [{"from": "open", "event": "pay", "to": "paid", "after": "5 days"}, {"from": "paid", "event": "return", "to": "back"}]}');
SELECT ordflow.attach('att_two.sale', 'att_two_goods', 'goods', due_column => 'due');
SELECT ordflow.attach('att_two.sale', 'att_two_money', 'money', due_column => 'due');
SELECT ordflow.attach('att_two.sale', 'att_two_money', 'money', due_column => 'money_due');
SELECT ordflow.attach('att_two.sale', 'att_two_money', 'goods');

-- both are checked at INSERT and by one UPDATE; each sets its own due column
INSERT INTO att_two.sale VALUES (1, 'packed', 'paid');
INSERT INTO att_two.sale VALUES (1, 'sent', 'open');
INSERT INTO att_two.sale VALUES (1, 'packed', 'open'), (2, 'packed', 'open');
SELECT id, (money_due - due)::text ~ '3 days' AS three_days_apart FROM att_two.sale ORDER BY id;
UPDATE att_two.sale SET goods = 'sent', money = 'back' WHERE id = 1;
UPDATE att_two.sale SET goods = 'back', money = 'paid' WHERE id = 1;
UPDATE att_two.sale SET goods = 'sent', money = 'paid' WHERE id = 1;
SELECT id, goods, money, due, money_due FROM att_two.sale WHERE id = 1;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_two.sale' AND key = '1' ORDER BY history_id;

-- fire finds the machine by the event; an event of both must be an UPDATE
SELECT ordflow.fire('att_two.sale', '2', 'pay');
SELECT ordflow.fire('att_two.sale', '2', 'send');
SELECT ordflow.fire('att_two.sale', '2', 'return');
SELECT ordflow.fire('att_two.sale', '2', 'dance');
UPDATE att_two.sale SET goods = 'back' WHERE id = 2;
SELECT goods, money FROM att_two.sale WHERE id = 2;
SELECT event, to_state FROM ordflow.available_events('att_two.sale', '1') ORDER BY 1, 2;

-- one is taken off, the other stays
SELECT ordflow.detach('att_two.sale', 'goods');
SELECT ordflow.detach('att_two.sale', 'goods');
UPDATE att_two.sale SET goods = 'anything' WHERE id = 2;
UPDATE att_two.sale SET money = 'anything' WHERE id = 2;
SELECT ordflow.fire('att_two.sale', '2', 'return');
SELECT ordflow.attach('att_two.sale', 'att_two_goods', 'goods', due_column => 'due');
UPDATE att_two.sale SET goods = 'back' WHERE id = 2;
SELECT ordflow.attach('att_two.sale', 'att_two_goods', 'goods', due_column => 'due');
SELECT ordflow.detach('att_two.sale');
SELECT ordflow.detach('att_two.sale');

-- columns whose names are alike: the triggers' names would be the same
\set VERBOSITY terse
CREATE TABLE att_two.alike (id int PRIMARY KEY, state_of_the_goods_as_the_warehouse_of_the_shop_sees_it_1 text, due timestamptz, due_x text, x_insert text,
  state_of_the_goods_as_the_warehouse_of_the_shop_sees_it_2 text);
CREATE INDEX ON att_two.alike (due);
SELECT ordflow.define_machine('att_two', '{"states": {"a": "initial"}, "transitions": []}');
SELECT ordflow.attach('att_two.alike', 'att_two', 'state_of_the_goods_as_the_warehouse_of_the_shop_sees_it_1');
SELECT ordflow.attach('att_two.alike', 'att_two', 'state_of_the_goods_as_the_warehouse_of_the_shop_sees_it_2');
SELECT ordflow.attach('att_two.alike', 'att_two', 'due_x');
SELECT ordflow.attach('att_two.alike', 'att_two', 'x_insert', due_column => 'due');
ALTER TRIGGER "~ordflow_due_x_insert" ON att_two.alike RENAME TO "~ordflow_insert";
SELECT ordflow.attach('att_two.alike', 'att_two', 'x_insert', due_column => 'due');
ROLLBACK;
