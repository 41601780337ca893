-- The same reference again: the same lines answer the same, other lines OF005; once released or expired it begins anew.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('haga', 10), ordflow.receive_stock('haga', 10, 'shop');
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga", "quantity": 4}, {"sku": "haga", "quantity": 1, "location": "shop"}]', '2100-01-01');
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga", "quantity": 4}, {"sku": "haga", "quantity": 1, "location": "shop"}]', '2100-01-01');
-- in another order, in other words, with another time: the time stays
SELECT ordflow.reserve_stock('haga', '[{"location": "shop", "sku": "haga", "quantity": 1}, {"sku": "haga", "quantity": 1},
  {"sku": "haga", "quantity": 3, "location": "main"}]', '2101-01-01');
SELECT expires_at = '2100-01-01' FROM ordflow.holds WHERE reference = 'haga';
SELECT location, reserved FROM ordflow.stock_levels WHERE sku = 'haga' ORDER BY 1;

-- more, less, elsewhere
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga", "quantity": 5}, {"sku": "haga", "quantity": 1, "location": "shop"}]');
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga", "quantity": 4}]');
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga", "quantity": 5}]');
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga nothing", "quantity": 4}, {"sku": "haga", "quantity": 1, "location": "shop"}]');
SELECT location, reserved FROM ordflow.stock_levels WHERE sku = 'haga' ORDER BY 1;

-- committed: the same lines answer the same and take nothing
SELECT ordflow.commit_stock('haga');
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga", "quantity": 4}, {"sku": "haga", "quantity": 1, "location": "shop"}]');
SELECT ordflow.reserve_stock('haga', '[{"sku": "haga", "quantity": 1}]');
SELECT state FROM ordflow.holds WHERE reference = 'haga';
SELECT location, on_hand, reserved FROM ordflow.stock_levels WHERE sku = 'haga' ORDER BY 1;

-- released: a new hold with lines of its own
SELECT ordflow.reserve_stock('haga r', '[{"sku": "haga", "quantity": 2}]'), ordflow.release_stock('haga r');
SELECT ordflow.reserve_stock('haga r', '[{"sku": "haga", "quantity": 3}]', '2100-01-01');
SELECT state, ended_at, expires_at = '2100-01-01' FROM ordflow.holds WHERE reference = 'haga r';
SELECT reserved FROM ordflow.stock_levels WHERE sku = 'haga' AND location = 'main';

-- expired: likewise, and what it held is given back first
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'haga r';
SELECT ordflow.reserve_stock('haga r', '[{"sku": "haga", "quantity": 6}]');
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'haga' ORDER BY 1;

-- refused, the expired hold stands as it was
SELECT ordflow.reserve_stock('haga e', '[{"sku": "haga", "quantity": 2, "location": "shop"}]', clock_timestamp() + interval '1 h');
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'haga e';
SELECT ordflow.reserve_stock('haga e', '[{"sku": "haga", "quantity": 99, "location": "shop"}]');
SELECT state FROM ordflow.holds WHERE reference = 'haga e';
SELECT * FROM ordflow.audit();
ROLLBACK;
