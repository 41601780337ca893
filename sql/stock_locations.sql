-- Locations are kept apart: each line is sold from its own, and the same sku at another has its own figures.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('sloc', 2, 'north'), ordflow.receive_stock('sloc', 3, 'south');
SELECT ordflow.submit_order('sloc', '[{"sku": "sloc", "quantity": 1, "unit_price": 1}]');
SELECT ordflow.submit_order('sloc', '[{"sku": "sloc", "quantity": 3, "unit_price": 1, "location": "north"}]');
SELECT ordflow.submit_order('sloc', '[{"sku": "sloc", "quantity": 2, "unit_price": 1, "location": "north"},
  {"sku": "sloc", "quantity": 1, "unit_price": 2, "location": "south"}]') AS o \gset
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sloc' ORDER BY location;

-- the same sku twice at one location is added up for the check
SELECT ordflow.submit_order('sloc', '[{"sku": "sloc", "quantity": 1, "unit_price": 1, "location": "south"},
  {"sku": "sloc", "quantity": 2, "unit_price": 1, "location": "south"}]');
SELECT ordflow.submit_order('sloc', '[{"sku": "sloc", "quantity": 1, "unit_price": 1, "location": "south"},
  {"sku": "sloc", "quantity": 1, "unit_price": 9, "location": "south"}]') AS p \gset
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sloc' ORDER BY location;

-- each goes back where it came from
SELECT ordflow.cancel_order(:o);
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sloc' ORDER BY location;
SELECT ordflow.pay_order(:p, 'sloc', '1', 10), ordflow.ship_order(:p, 'c', '1');
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sloc' ORDER BY location;
SELECT ordflow.refund_order(:p, '[{"line": 2, "quantity": 1}]') IS NOT NULL;
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sloc' ORDER BY location;
SELECT location, kind, sum(m.on_hand) AS on_hand, sum(m.reserved) AS reserved FROM ordflow.stock_movements m
JOIN ordflow.stock USING (stock_id) WHERE sku = 'sloc' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM ordflow.audit();
ROLLBACK;
