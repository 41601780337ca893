-- When fold_stock() is refused, and that it writes nothing where there is nothing to do.
\set VERBOSITY sqlstate
BEGIN READ ONLY;
SELECT ordflow.fold_stock();
ROLLBACK;

-- in a transaction that has written the tables directly, once there is something to add up
SELECT ordflow.receive_stock('fold-errors', 1);
SELECT ordflow.fold_stock() \g /dev/null
BEGIN;
UPDATE ordflow.stock SET on_hand = on_hand WHERE sku = 'fold-errors';
SELECT ordflow.fold_stock();
ROLLBACK;
SELECT ordflow.fold_stock() >= 1 AS folded;

BEGIN;
SELECT ordflow.fold_stock();
SELECT pg_current_xact_id_if_assigned() IS NULL AS written_nothing;
COMMIT;
SELECT * FROM ordflow.audit();
