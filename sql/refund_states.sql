-- Where a refund of units leaves the order: each row of the table.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
CREATE FUNCTION pg_temp.walk(steps text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
    step text;
    seen text[];
    n int = 0;
BEGIN
    PERFORM ordflow.receive_stock('refund_states', 4);
    id = ordflow.submit_order('refund_states', '[{"sku": "refund_states", "quantity": 2, "unit_price": 5},
        {"sku": "refund_states", "quantity": 2, "unit_price": 5}]');
    PERFORM ordflow.pay_order(id, 'p', 'refund_states ' || id, 20);
    FOREACH step IN ARRAY steps LOOP
        n = n + 1;
        CASE split_part(step, ' ', 1)
            WHEN 'ship' THEN PERFORM ordflow.ship_order(id, 'c', n::text, jsonb_build_array(
                jsonb_build_object('line', split_part(step, ' ', 2)::int, 'quantity', split_part(step, ' ', 3)::int)));
            WHEN 'refund' THEN PERFORM ordflow.refund_order(id, jsonb_build_array(
                jsonb_build_object('line', split_part(step, ' ', 2)::int, 'quantity', split_part(step, ' ', 3)::int)));
            WHEN 'money' THEN PERFORM ordflow.refund_order(id, amount => split_part(step, ' ', 2)::numeric);
            WHEN 'confirm' THEN PERFORM ordflow.confirm_order(id);
        END CASE;
        seen = seen || (SELECT state FROM ordflow.orders WHERE order_id = id);
    END LOOP;
    RETURN array_to_string(seen, ', ');
END
$$;
SELECT s AS steps, pg_temp.walk(string_to_array(s, ', ')) AS states FROM unnest(ARRAY[
    'refund 1 1, refund 1 1, refund 2 1, refund 2 1',
    'ship 1 1, refund 1 1, refund 2 2',
    'ship 1 2, refund 1 2, refund 2 2',
    'ship 1 2, refund 2 1, ship 2 1, refund 2 1',
    'ship 1 2, refund 2 2, refund 1 1, refund 1 1',
    'ship 1 2, ship 2 2, refund 1 2, refund 2 2',
    'ship 1 2, ship 2 2, confirm, refund 1 2, refund 2 1, refund 2 1',
    'ship 1 2, refund 2 2, confirm, refund 1 1, refund 1 1',
    'money 20, refund 1 2, refund 2 2',
    'money 19.99, money 0.01, ship 1 2, ship 2 2, confirm']) s;
-- every refund took what was left, never more
SELECT DISTINCT sum(r.amount) FROM ordflow.refunds r JOIN ordflow.orders o USING (order_id) WHERE customer = 'refund_states'
GROUP BY order_id ORDER BY 1;
SELECT * FROM pg_temp.stock('refund_states');
SELECT * FROM ordflow.audit(:'began');
