-- Bad input and NULL in every argument of the stock functions; nothing is written.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('sbad', 5);
SELECT count(*) AS n FROM ordflow.stock_movements \gset

SELECT ordflow.receive_stock(NULL, 1);
SELECT ordflow.receive_stock('sbad', NULL);
SELECT ordflow.receive_stock('sbad', 1, NULL);
SELECT ordflow.receive_stock('', 1);
SELECT ordflow.receive_stock('sbad', 0);
SELECT ordflow.receive_stock('sbad', -1);
SELECT ordflow.receive_stock('sbad', 1.5);
SELECT ordflow.receive_stock('sbad', 1000000000001);
SELECT ordflow.receive_stock('sbad', 9223372036854775807);
SELECT ordflow.receive_stock('sbad', 1, '');
SELECT ordflow.receive_stock('sbad', 1, 'main', '');
SELECT ordflow.receive_stock('sbad', 1, 'main', 'order:1');
SELECT ordflow.receive_stock(repeat('x', 256), 1);
SELECT ordflow.receive_stock(repeat('x', 1000000), 1);
SELECT ordflow.receive_stock('sbad', 1, repeat('x', 256));
SELECT ordflow.receive_stock('sbad', 1, 'main', repeat('x', 256));

SELECT ordflow.adjust_stock(NULL, 1, 'x');
SELECT ordflow.adjust_stock('sbad', NULL, 'x');
SELECT ordflow.adjust_stock('sbad', 1, NULL);
SELECT ordflow.adjust_stock('sbad', 1, 'x', NULL);
SELECT ordflow.adjust_stock('', 1, 'x');
SELECT ordflow.adjust_stock('sbad', 0, 'x');
SELECT ordflow.adjust_stock('sbad', 1, '');
SELECT ordflow.adjust_stock('sbad', 1, 'x', '');
SELECT ordflow.adjust_stock('sbad', 1000000000001, 'x');
SELECT ordflow.adjust_stock('sbad', -1000000000001, 'x');
SELECT ordflow.adjust_stock('sbad', -9223372036854775808, 'x');
SELECT ordflow.adjust_stock('sbad', 1, repeat('x', 256));

SELECT ordflow.set_stock(NULL, 1, 'x');
SELECT ordflow.set_stock('sbad', NULL, 'x');
SELECT ordflow.set_stock('sbad', 1, NULL);
SELECT ordflow.set_stock('sbad', 1, 'x', NULL);
SELECT ordflow.set_stock('sbad', -1, 'x');
SELECT ordflow.set_stock('sbad', 1000000000001, 'x');
SELECT ordflow.set_stock('sbad new', -1, 'x');
SELECT ordflow.set_stock('', 1, 'x');
SELECT ordflow.set_stock('sbad', 1, '');
SELECT ordflow.set_stock('sbad', 1, 'x', '');

SELECT count(*) = :n FROM ordflow.stock_movements;
SELECT sku, on_hand, available FROM ordflow.stock_levels WHERE sku ~ '^sbad';
ROLLBACK;
