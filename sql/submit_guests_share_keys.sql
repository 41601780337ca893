-- Guests share one space of idempotency keys, apart from every customer's.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('submit_guests_share_keys', 10);
PREPARE submit (text, int) AS SELECT ordflow.submit_order($1, jsonb_build_array(jsonb_build_object('sku', 'submit_guests_share_keys',
    'quantity', $2, 'unit_price', 1)), idempotency_key => 'submit_guests_share_keys') AS id;
EXECUTE submit (NULL, 1) \gset guest_
EXECUTE submit (NULL, 1) \gset again_
EXECUTE submit ('anna', 1) \gset anna_
EXECUTE submit ('berta', 2) \gset berta_
EXECUTE submit (NULL, 2);
SELECT :guest_id = :again_id AS same, :guest_id <> :anna_id AND :anna_id <> :berta_id AND :guest_id <> :berta_id AS others;
-- NULL is no key at all
SELECT count(DISTINCT ordflow.submit_order(NULL, '[{"sku": "submit_guests_share_keys", "quantity": 1, "unit_price": 1}]'))
FROM generate_series(1, 3);
SELECT customer, idempotency_key, count(*) FROM ordflow.orders JOIN ordflow.order_lines USING (order_id)
WHERE sku = 'submit_guests_share_keys' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM ordflow.audit(:'began');
