-- pay_order raises only for what is no payment, and then nothing is recorded.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bad_payment') AS id \gset
SELECT pg_temp.fingerprint() AS before \gset
SELECT a, pg_temp.try(format('SELECT ordflow.pay_order(%s, ''p'', ''bad_payment'', %s)', o, a))
FROM unnest(ARRAY[:id, 0]) o,
    unnest(ARRAY['0', '-10', '-0.01', '''NaN''', '''Infinity''', '''-Infinity''', '1e30', '1e131000', '1000000000000001']) a;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- any other amount is one, however odd
SELECT a, pg_temp.peek(format('SELECT ordflow.pay_order(%s, ''p'', ''bad_payment'', %s)', :id, a))
FROM unnest(ARRAY['1e-20', '10.00000000000000000001', '1000000000000000', '10.0']) a;
SELECT * FROM ordflow.audit(:'began');
