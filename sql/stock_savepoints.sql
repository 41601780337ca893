-- Savepoints, nested and in PL/pgSQL: what they take back is there again, for their transaction and then for others, and nothing is twice.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SELECT ordflow.receive_stock('ssav', 10), ordflow.receive_stock('ssav2', 10);
CREATE FUNCTION pg_temp.take(reference text, quantity int) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.reserve_stock('ssav ' || reference, jsonb_build_array(jsonb_build_object('sku', 'ssav', 'quantity', quantity))) $$;
-- what the counter says, what rows say, and what is held, each once
CREATE FUNCTION pg_temp.left() RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', ordflow.available_stock('ssav'), (SELECT available FROM ordflow.stock_levels WHERE sku = 'ssav'),
  (SELECT sum(quantity) FROM ordflow.reservations WHERE sku = 'ssav')) $$;

-- taken at three levels; the second is released, the third rolled back
BEGIN;
SELECT pg_temp.take('a', 1);
SAVEPOINT one;
SELECT pg_temp.take('b', 2);
SAVEPOINT two;
SELECT pg_temp.take('c', 3);
SELECT pg_temp.left();
ROLLBACK TO two;
SELECT pg_temp.left();
SELECT pg_temp.take('c', 8);
SELECT pg_temp.take('c', 7);
SELECT pg_temp.left();
RELEASE one;
SELECT pg_temp.left();
ROLLBACK;
SELECT pg_temp.left();

-- an outer savepoint takes back what an inner one released
BEGIN;
SAVEPOINT one;
SAVEPOINT two;
SELECT pg_temp.take('a', 10);
RELEASE two;
SELECT pg_temp.take('b', 1);
ROLLBACK TO one;
SELECT pg_temp.take('b', 10);
COMMIT;
SELECT pg_temp.left();
SELECT pg_temp.take('more', 1);
SELECT ordflow.release_stock('ssav b');

-- own receipts: sold inside a savepoint that goes, or received in one
BEGIN;
SELECT ordflow.receive_stock('ssav', 5);
SAVEPOINT one;
SELECT pg_temp.take('a', 15);
SELECT pg_temp.take('b', 1);
ROLLBACK TO one;
SELECT pg_temp.left();
SAVEPOINT two;
SELECT ordflow.receive_stock('ssav', 5);
SELECT pg_temp.take('a', 18);
RELEASE two;
SELECT pg_temp.left();
SELECT pg_temp.take('b', 3);
ROLLBACK TO one;
SELECT pg_temp.take('b', 16);
SELECT pg_temp.take('b', 4);
SELECT ordflow.release_stock('ssav b');
SELECT pg_temp.left();
COMMIT;
SELECT pg_temp.left();

-- an exception block a round: all but each third is taken back; a sku that is new in one that is
DO $$
BEGIN
  FOR n IN 1 .. 30 LOOP
    BEGIN
      PERFORM ordflow.receive_stock('ssav new ' || n, 5);
      PERFORM ordflow.reserve_stock('ssav do ' || n, jsonb_build_array(jsonb_build_object('sku', 'ssav', 'quantity', 1),
        jsonb_build_object('sku', 'ssav new ' || n, 'quantity', 2)));
      BEGIN
        PERFORM ordflow.release_stock('ssav do ' || n);
        RAISE division_by_zero;
      EXCEPTION WHEN division_by_zero THEN
        PERFORM ordflow.reserve_stock('ssav inner ' || n, '[{"sku": "ssav2", "quantity": 1}]');
      END;
      IF n % 3 <> 0 THEN
        RAISE SQLSTATE 'SH001';
      END IF;
    EXCEPTION WHEN SQLSTATE 'SH001' THEN
      NULL;
    END;
  END LOOP;
END $$;
SELECT pg_temp.left();
SELECT count(*), sum(available), min(sku), max(sku) FROM ordflow.stock_levels WHERE sku ~ '^ssav new ';
SELECT ordflow.available_stock('ssav2');
SELECT ordflow.available_stock('ssav new 1');

-- more levels than a backend keeps in shared memory
CREATE FUNCTION pg_temp.dive(depth int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF depth > 0 THEN
    PERFORM pg_temp.dive(depth - 1);
    PERFORM ordflow.receive_stock('ssav2', 2);
    PERFORM ordflow.reserve_stock('ssav deep ' || depth, '[{"sku": "ssav2", "quantity": 1}]');
  END IF;
  IF depth % 10 = 5 THEN
    RAISE SQLSTATE 'SH001';
  END IF;
EXCEPTION WHEN SQLSTATE 'SH001' THEN
  NULL;
END $$;
SELECT pg_temp.dive(99);
SELECT ordflow.available_stock('ssav2'), available FROM ordflow.stock_levels WHERE sku = 'ssav2';
SELECT * FROM ordflow.audit();
