-- run_due writes expired holds as expired, at most max_rows of them, the earliest first.
\a \t
\set VERBOSITY sqlstate
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
SELECT ordflow.receive_stock('hswp', 10);
SELECT ordflow.reserve_stock('hswp ' || n, '[{"sku": "hswp", "quantity": 1}]', now() + n * interval '1 h') FROM generate_series(1, 5) n;
SELECT ordflow.reserve_stock('hswp never', '[{"sku": "hswp", "quantity": 1}]');
SELECT ordflow.run_due();
UPDATE ordflow.holds SET expires_at = clock_timestamp() - (10 - right(reference, 1)::int) * interval '1 min'
WHERE reference IN ('hswp 1', 'hswp 2', 'hswp 3', 'hswp 4');
SELECT ordflow.run_due(max_rows => 1);
SELECT ordflow.run_due(max_rows => 2);
SELECT reference, state FROM ordflow.holds WHERE reference ~ '^hswp' ORDER BY 1;
SELECT ordflow.run_due();
SELECT ordflow.run_due();
SELECT reference, state FROM ordflow.holds WHERE reference ~ '^hswp' ORDER BY 1;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'hswp';
SELECT kind, m.reserved, reference, reason FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
WHERE sku = 'hswp' AND kind = 'released' ORDER BY reference;
SELECT ordflow.release_stock('hswp 1'), ordflow.release_stock('hswp 5');
SELECT * FROM ordflow.audit();
ROLLBACK;
