-- Many orders at once, for bench/hot/run: the rows that submit_order() writes, written by INSERT ... SELECT into
-- the tables with their indexes. The owner may; stock is counted anew from the movements.
CREATE SCHEMA bench;

-- Order 1, which the others are copies of.
SELECT ordflow.submit_order(NULL, idempotency_key => lpad('0', 18, '0'), pay_within => '30 days',
    lines => '[{"sku": "1", "quantity": 1, "unit_price": "10.00"}]') AS template \g /dev/null

-- Orders 2 to n. Their keys ascend, which loads fast, and lie evenly over the range of 18 digits: so a random key comes
-- to a random page of the index.
CREATE FUNCTION bench.load_orders(n bigint) RETURNS void LANGUAGE sql AS $$
INSERT INTO ordflow.orders (order_id, order_no, customer, state, currency, subtotal, discount, charges, payable,
    expires_at, due_at, idempotency_key, metadata, created_at, updated_at)
SELECT i, i, customer, state, currency, subtotal, discount, charges, payable, expires_at, due_at,
    lpad((i * (1000000000000000000 / (n + 1)))::text, 18, '0'), metadata, created_at, updated_at
FROM (SELECT o.*, generate_series(2, n) AS i FROM ordflow.orders o WHERE order_id = 1) o;
INSERT INTO ordflow.order_history (order_id, seq, event, from_state, to_state, actor, reason, data, at)
SELECT i, seq, event, from_state, to_state, actor, reason, data, at
FROM (SELECT h.*, generate_series(2, n) AS i FROM ordflow.order_history h WHERE order_id = 1) h;
SELECT setval('ordflow.orders_order_id_seq', n);
$$;

-- One unit each, of the SKUs 1 to 10,000, first all orders of the first: that loads fast too.
CREATE FUNCTION bench.load_lines(n bigint) RETURNS void LANGUAGE sql AS $$
INSERT INTO ordflow.order_lines (order_id, line_no, sku, location, stock_id, quantity, unit_price, amount, discount, payable)
SELECT i, line_no, ((i - 1) * 10000 / n + 1)::text, location, stock[(i - 1) * 10000 / n + 1],
    quantity, unit_price, amount, discount, payable
FROM (SELECT l.*, generate_series(2, n) AS i FROM ordflow.order_lines l WHERE order_id = 1) l,
    (SELECT array_agg(stock_id ORDER BY sku::int) AS stock FROM ordflow.stock) s;
INSERT INTO ordflow.stock_movements (segment, stock_id, kind, on_hand, reserved, order_id, actor, at)
SELECT segment, stock[(i - 1) * 10000 / n + 1], kind, on_hand, reserved, i, actor, at
FROM (SELECT m.*, generate_series(2, n) AS i FROM ordflow.stock_movements m WHERE order_id = 1) m,
    (SELECT array_agg(stock_id ORDER BY sku::int) AS stock FROM ordflow.stock) s;
$$;

-- n deliveries of one unit each.
CREATE FUNCTION bench.load_movements(of_sku text, n bigint) RETURNS void LANGUAGE sql AS $$
INSERT INTO ordflow.stock_movements (segment, stock_id, kind, on_hand, reserved, actor, at)
SELECT segment, stock_id, kind, 1, 0, actor, at
FROM (SELECT m.*, generate_series(1, n) AS i FROM ordflow.stock_movements m JOIN ordflow.stock s USING (stock_id)
      WHERE s.sku = of_sku AND m.kind = 'received') m;
$$;

-- Movements that are in no balance yet.
CREATE VIEW bench.unfolded AS
SELECT * FROM ordflow.stock_movements
WHERE segment > COALESCE((SELECT max(segment) FROM ordflow.stock_segments WHERE folded_at IS NOT NULL), 0);
