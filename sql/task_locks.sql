-- try_lock(): a lock of the session, which ends by unlock(), DISCARD ALL and the end of the session alone.
SELECT ordflow.try_lock('nightly');
SELECT ordflow.try_lock('nightly') AS again;
SELECT ordflow.unlock('nightly');
SELECT ordflow.unlock('nightly') AS again;
SELECT ordflow.unlock('never taken');

-- no transaction takes it back, nor does what the application does with its own locks
BEGIN;
SELECT ordflow.try_lock('nightly');
ROLLBACK;
SELECT pg_advisory_unlock_all();
SELECT ordflow.unlock('nightly') AS still_had;

SELECT count(*) FILTER (WHERE ordflow.try_lock('job ' || i)) FROM generate_series(1, 100) AS i;
DISCARD ALL;
SELECT count(*) FILTER (WHERE ordflow.unlock('job ' || i)) FROM generate_series(1, 100) AS i;

-- a session that ends lets go
SELECT ordflow.try_lock('of one that ends');
\c -
SELECT ordflow.unlock('of one that ends');

\set VERBOSITY sqlstate
SELECT ordflow.try_lock(NULL);
SELECT ordflow.try_lock('');
SELECT ordflow.try_lock(repeat('x', 256));
SELECT ordflow.unlock(NULL);
SELECT ordflow.try_lock(repeat('x', 255)), ordflow.unlock(repeat('x', 255));

-- there are 4096 for the whole server; an error takes none
SELECT count(*) FILTER (WHERE ordflow.try_lock('many ' || i)) FROM generate_series(1, 4096) AS i;
SELECT ordflow.try_lock('one more');
SELECT ordflow.try_lock('many 7') AS had_already;
DISCARD ALL;
SELECT ordflow.try_lock('one more'), ordflow.unlock('one more');
