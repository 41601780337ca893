-- A hold becomes an order in one transaction: nobody can take the last units between.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.receive_stock('hto', 3);
SELECT ordflow.reserve_stock('cart:hto', '[{"sku": "hto", "quantity": 3}]', clock_timestamp() + interval '1 h');
SELECT ordflow.submit_order('hto', '[{"sku": "hto", "quantity": 3, "unit_price": 1}]');
BEGIN;
SELECT ordflow.release_stock('cart:hto');
SELECT ordflow.submit_order('hto', '[{"sku": "hto", "quantity": 3, "unit_price": 1}]') AS o \gset
COMMIT;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'hto';
SELECT state FROM ordflow.holds WHERE reference = 'cart:hto';

-- an order that is refused keeps the hold, as the transaction fails as a whole
SELECT ordflow.cancel_order(:o);
SELECT ordflow.reserve_stock('cart:hto', '[{"sku": "hto", "quantity": 2}]', clock_timestamp() + interval '1 h');
BEGIN;
SELECT ordflow.release_stock('cart:hto');
SELECT ordflow.submit_order('hto', '[{"sku": "hto", "quantity": 4, "unit_price": 1}]') AS o \gset
COMMIT;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'hto';
SELECT state FROM ordflow.holds WHERE reference = 'cart:hto';

-- the other way about: a shop's own order, held for good and committed when it ships
SELECT ordflow.release_stock('cart:hto');
SELECT ordflow.reserve_stock('hto 4711', '[{"sku": "hto", "quantity": 1}]'), ordflow.commit_stock('hto 4711');
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'hto';
SELECT * FROM ordflow.audit();
