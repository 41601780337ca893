-- Every JSON argument refuses unknown keys, naming the valid ones; malformed and deeply nested JSON never gets in.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bad_json', 'pending_shipment') AS id \gset
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.hint(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE call;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', sqlstate, substring(hint FROM '".*"'));
END
$$;
SELECT pg_temp.hint(c) FROM unnest(ARRAY[
    $$SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1, "price": 1}]')$$,
    $$SELECT ordflow.quote_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1, "": 1}]')$$,
    $$SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]',
        charges => '[{"code": "x", "amount": 1, "tax": 1}]')$$,
    format($$SELECT ordflow.ship_order(%s, 'c', 't', '[{"line": 1, "quantity": 1, "sku": "x"}]')$$, :id),
    format($$SELECT ordflow.refund_order(%s, '[{"line": 1, "quantity": 1, "Line": 1}]')$$, :id)]) c;
SELECT result, detail->0->>'sqlstate' AS sqlstate, substring(detail->0->>'hint' FROM '".*"') AS hint
FROM ordflow.submit_orders('[{"lines": [{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}], "coupons": []}]');
-- malformed
SELECT j, pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L)', j)) FROM unnest(ARRAY['', '[', '[{]', '[1,]', '[1] 2',
    '[{"sku": "s" "quantity": 1}]', '[{sku: 1}]', '[{"sku": "s", "quantity": 01, "unit_price": 1}]',
    '[{"sku": "s", "quantity": NaN, "unit_price": 1}]', '[{"sku": "\u0000"}]', '[{"sku": "\ud800"}]']) j;
-- deeply nested: too deep to be parsed; as deep as can be parsed where an object, an array, a text or a number belongs
SELECT pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L)', repeat('[', 100000))) AS brackets,
    pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L)', repeat('{"a":', 100000))) AS objects;
CREATE FUNCTION pg_temp.deep(n int) RETURNS text LANGUAGE sql AS $$ SELECT repeat('[', n) || repeat(']', n) $$;
SELECT l, pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L)', replace(l, 'DEEP', pg_temp.deep(1000)))) FROM unnest(ARRAY[
    'DEEP', '[DEEP]', '[{"sku": DEEP, "quantity": 1, "unit_price": 1}]', '[{"sku": "s", "quantity": DEEP, "unit_price": 1}]',
    '[{"sku": "s", "quantity": 1, "unit_price": DEEP}]', '[{"sku": "s", "quantity": 1, "unit_price": 1, "x": DEEP}]',
    '[{"sku": "s", "quantity": 1, "unit_price": 1, "metadata": DEEP}]']) l;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- what is the shop's own may be as deep as it likes, and is compared as deep
PREPARE submit (text) AS SELECT ordflow.submit_order('bad_json', replace('[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1,
    "metadata": {"deep": DEEP}}]', 'DEEP', $1)::jsonb, idempotency_key => 'k', metadata => format('{"deep": %s}', $1)::jsonb) AS id;
EXECUTE submit (pg_temp.deep(1000)) \gset
EXECUTE submit (pg_temp.deep(1000)) \gset again_
SELECT :id = :again_id AS same;
EXECUTE submit (pg_temp.deep(1001));
-- of a key that is there twice the last counts, as in every jsonb
SELECT ordflow.quote_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1, "unit_price": 2}]')->'payable' AS payable;
SELECT * FROM ordflow.audit(:'began');
