-- audit(since) looks at what changed at or after it; NULL is everything.
\a \t
BEGIN;
SELECT ordflow.receive_stock('ausi', 10);
SELECT ordflow.submit_order('ausi', '[{"sku": "ausi", "quantity": 1, "unit_price": 5}]') AS o,
  ordflow.submit_order('ausi', '[{"sku": "ausi", "quantity": 1, "unit_price": 5}]') AS p \gset
UPDATE ordflow.orders SET due_at = NULL, updated_at = CASE order_id WHEN :o THEN now() - interval '1 h' ELSE clock_timestamp() END WHERE order_id IN (:o, :p);
SELECT check_name, object = 'order ' || :o AS o, object = 'order ' || :p AS p FROM ordflow.audit() ORDER BY o;
SELECT check_name, object = 'order ' || :o AS o, object = 'order ' || :p AS p FROM ordflow.audit(NULL) ORDER BY o;
SELECT check_name, object = 'order ' || :o AS o, object = 'order ' || :p AS p FROM ordflow.audit(now() - interval '1 min') ORDER BY o;
SELECT check_name, object = 'order ' || :o AS o, object = 'order ' || :p AS p FROM ordflow.audit(now() - interval '1 h') ORDER BY o;
SELECT count(*) FROM ordflow.audit(clock_timestamp());
SELECT count(*) FROM ordflow.audit('infinity');
SELECT count(*) = (SELECT count(*) FROM ordflow.audit()) FROM ordflow.audit('-infinity');
UPDATE ordflow.orders SET due_at = expires_at WHERE order_id IN (:o, :p);

-- stock: rows that moved since
UPDATE ordflow.stock SET on_hand = -20 WHERE sku = 'ausi';
SELECT check_name, object FROM ordflow.audit(now());
SELECT check_name, object FROM ordflow.audit(clock_timestamp());
SELECT check_name, object FROM ordflow.audit();
UPDATE ordflow.stock SET on_hand = 0 WHERE sku = 'ausi';

-- whoever may read may ask; it reads for him what he may not see
CREATE ROLE regress_ausi;
SELECT ordflow.grant_access('regress_ausi', 'read');
SET ROLE regress_ausi;
SELECT count(*) FROM ordflow.audit();
SELECT count(*) FROM ordflow.doctor() WHERE part = 'money';
ROLLBACK;
