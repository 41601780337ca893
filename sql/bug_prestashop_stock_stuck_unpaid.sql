-- PrestaShop #19100 (69 units), Vendure #3509, Saleor #11257, Woo #22206: units stay in orders that nobody pays.
-- Here: an order holds them until its deadline, and expire_order, however often and by whomever it is called, gives them back once.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bug_prestashop_stuck', 69);
SELECT n, ordflow.submit_order('c', '[{"sku": "bug_prestashop_stuck", "quantity": 3, "unit_price": 5}]') AS id INTO TEMP sold
FROM generate_series(1, 23) n;
SELECT * FROM pg_temp.stock('bug_prestashop_stuck');
SELECT count(*) AS overdue FROM sold WHERE n > 3 AND pg_temp.overdue(id);
SELECT sweep, answer, count(*) FROM (SELECT sweep, ordflow.expire_order(id) AS answer FROM generate_series(1, 3) sweep, sold) s
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM pg_temp.stock('bug_prestashop_stuck');
SELECT count(*), sum(quantity) FROM ordflow.reservations WHERE sku = 'bug_prestashop_stuck';
SELECT ordflow.submit_order('d', '[{"sku": "bug_prestashop_stuck", "quantity": 60, "unit_price": 5}]') > 0 AS sold;
SELECT * FROM ordflow.audit(:'began');
