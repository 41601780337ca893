-- available_stock: on hand less reserved, at one location or at all of them.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('sava', 10), ordflow.receive_stock('sava', 5, 'shop'), ordflow.set_stock('sava', 0, 'none', 'attic');
SELECT ordflow.available_stock('sava'), ordflow.available_stock('sava', 'shop'), ordflow.available_stock('sava', 'attic'),
  ordflow.available_stock('sava', NULL);
SELECT ordflow.submit_order('sava', '[{"sku": "sava", "quantity": 3, "unit_price": 1}]') AS o \gset
SELECT ordflow.reserve_stock('sava', '[{"sku": "sava", "quantity": 2}, {"sku": "sava", "quantity": 4, "location": "shop"}]');
SELECT ordflow.available_stock('sava'), ordflow.available_stock('sava', 'shop'), ordflow.available_stock('sava', NULL);

-- paying changes nothing, shipping neither, cancelling gives back
SELECT ordflow.pay_order(:o, 'sava', '1', 3), ordflow.available_stock('sava');
SELECT ordflow.ship_order(:o, 'c', '1', '[{"line": 1, "quantity": 1}]'), ordflow.available_stock('sava');
SELECT ordflow.refund_order(:o) IS NOT NULL, ordflow.available_stock('sava');

-- the units of an expired hold are available at once, nobody has to come by
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'sava';
SELECT ordflow.available_stock('sava'), ordflow.available_stock('sava', 'shop'), ordflow.available_stock('sava', NULL);
SELECT location, reserved, available FROM ordflow.stock_levels WHERE sku = 'sava' ORDER BY location;

SELECT ordflow.available_stock('sava', 'nowhere');
SELECT ordflow.available_stock('sava nothing');
SELECT ordflow.available_stock('sava nothing', NULL);
SELECT ordflow.available_stock(NULL);
SELECT ordflow.available_stock('');
SELECT ordflow.available_stock('sava', '');
SELECT ordflow.available_stock(repeat('s', 256));
SELECT ordflow.available_stock('sava', repeat('l', 256));
ROLLBACK;
