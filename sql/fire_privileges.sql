-- fire asks for the caller's UPDATE on the state column and for a row that he sees under his own policies.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA fire_prv;
CREATE ROLE regress_fire_clerk;
GRANT USAGE ON SCHEMA fire_prv TO regress_fire_clerk;
GRANT USAGE ON SCHEMA ordflow TO regress_fire_clerk;
GRANT EXECUTE ON FUNCTION ordflow.fire TO regress_fire_clerk;
GRANT EXECUTE ON FUNCTION ordflow.available_events(regclass, text) TO regress_fire_clerk;
CREATE TABLE fire_prv.bill (id int PRIMARY KEY, status text, clerk name, due timestamptz);
CREATE INDEX ON fire_prv.bill (due);
SELECT ordflow.define_machine('fire_prv', '{"states": {"open": "initial", "paid": "normal", "shut": "final"}, "transitions": [
  {"from": "open", "event": "pay", "to": "paid"}, {"from": "paid", "event": "shut", "to": "shut", "after": "1 day"}]}');
SELECT ordflow.attach('fire_prv.bill', 'fire_prv', 'status', due_column => 'due');
INSERT INTO fire_prv.bill VALUES (1, 'open', 'regress_fire_clerk'), (2, 'open', 'somebody');

SET ROLE regress_fire_clerk;
SELECT ordflow.fire('fire_prv.bill', '1', 'pay');
RESET ROLE;
GRANT SELECT ON fire_prv.bill TO regress_fire_clerk;
GRANT UPDATE (clerk) ON fire_prv.bill TO regress_fire_clerk;
SET ROLE regress_fire_clerk;
SELECT ordflow.fire('fire_prv.bill', '1', 'pay');
RESET ROLE;
REVOKE UPDATE (clerk) ON fire_prv.bill FROM regress_fire_clerk;

-- UPDATE on the state column is enough, the due column is ours to set
GRANT UPDATE (status) ON fire_prv.bill TO regress_fire_clerk;
SET ROLE regress_fire_clerk;
SELECT ordflow.fire('fire_prv.bill', '1', 'pay');
SELECT status, due > now() FROM fire_prv.bill WHERE id = 1;
UPDATE fire_prv.bill SET due = now();
RESET ROLE;

-- under row level security a row that is not seen is not there
ALTER TABLE fire_prv.bill ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON fire_prv.bill USING (clerk = current_user) WITH CHECK (status <> 'shut');
SET ROLE regress_fire_clerk;
SELECT ordflow.fire('fire_prv.bill', '2', 'pay');
SELECT count(*) FROM ordflow.available_events('fire_prv.bill', '1');
SELECT * FROM ordflow.available_events('fire_prv.bill', '2');
SELECT ordflow.fire('fire_prv.bill', '1', 'shut');
RESET ROLE;
CREATE POLICY see ON fire_prv.bill FOR SELECT USING (true);
SET ROLE regress_fire_clerk;
SELECT ordflow.fire('fire_prv.bill', '2', 'pay');
RESET ROLE;
SELECT id, status FROM fire_prv.bill ORDER BY id;

-- the built-in table: fire needs UPDATE on its state, which no part grants but to the owner
SELECT ordflow.grant_access('regress_fire_clerk', 'orders');
SELECT ordflow.receive_stock('fire_prv', 1);
SELECT ordflow.submit_order('fire_prv', '[{"sku": "fire_prv", "quantity": 1, "unit_price": 1}]') AS o \gset
SET ROLE regress_fire_clerk;
SELECT ordflow.fire('ordflow.orders', :'o', 'cancel');
SELECT ordflow.cancel_order(:o);
ROLLBACK;
