-- test/pgtap/order_life.sql: a role with nothing but the part "orders" runs whole lives of orders
BEGIN;
SELECT plan(31);

CREATE ROLE ordflow_shop;
SELECT ordflow.grant_access('ordflow_shop', 'orders') \g /dev/null
SELECT ordflow.receive_stock('pgtap-life', 100) \g /dev/null
SELECT ordflow.create_coupon('PGTAP-LIFE', 'percent', 10) \g /dev/null

-- the first column of the first row, of a statement run by the shop
CREATE FUNCTION pg_temp.shop(sql text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('role', 'ordflow_shop', true);
    EXECUTE format(sql, VARIADIC args) INTO result;
    PERFORM set_config('role', 'none', true);
    RETURN result;
END $$;
CREATE FUNCTION pg_temp.order_state(id text) RETURNS text LANGUAGE sql AS
    $$ SELECT state FROM ordflow.orders WHERE order_id = id::bigint $$;

SELECT is(pg_temp.shop($$ SELECT ordflow.quote_order('ada', '[{"sku": "pgtap-life", "quantity": 4, "unit_price": "2.50"}]',
    'PGTAP-LIFE')->>'payable' $$)::numeric, 9.00, 'quote');

-- one order, paid, shipped in two parcels, confirmed, partly refunded
SELECT pg_temp.shop($$ SELECT ordflow.submit_order('ada', '[{"sku": "pgtap-life", "quantity": 4, "unit_price": "2.50"}]',
    'PGTAP-LIFE', 'key-1', order_no => 'PGTAP-1') $$) AS id \gset
SELECT is(pg_temp.order_state(:'id'), 'pending_payment', 'submit');
SELECT is(pg_temp.shop($$ SELECT ordflow.order_id('PGTAP-1') $$), :'id', 'the order by its number');
SELECT is(pg_temp.shop($$ SELECT string_agg(event, ' ' ORDER BY event) FROM ordflow.available_events(%s::bigint) $$, :'id'),
    'cancel expire pay', 'its events');
SELECT is(pg_temp.shop($$ SELECT ordflow.add_charge(%s, 'shipping', 1.50) $$, :'id')::numeric, 10.50, 'add a charge');
SELECT isnt(pg_temp.shop($$ SELECT ordflow.extend_order(%s, '10 min') $$, :'id'), NULL, 'extend the deadline');
SELECT is(pg_temp.shop($$ SELECT ordflow.pay_order(%s, 'visa', 'pgtap-1', 10.50) $$, :'id'), 'applied', 'pay');
SELECT is(pg_temp.shop($$ SELECT ordflow.ship_order(%s, 'dhl', 'P1', '[{"line": 1, "quantity": 1}]') $$, :'id'), 'applied',
    'ship a part');
SELECT is(pg_temp.order_state(:'id'), 'pending_shipment', 'the rest is still to be shipped');
SELECT is(pg_temp.shop($$ SELECT ordflow.ship_order(%s, 'dhl', 'P2') $$, :'id'), 'applied', 'ship the rest');
SELECT is(pg_temp.order_state(:'id'), 'pending_receipt', 'all is shipped');
SELECT is(pg_temp.shop($$ SELECT ordflow.confirm_order(%s, 'carrier') $$, :'id'), 'applied', 'confirm');
SELECT is(pg_temp.order_state(:'id'), 'completed', 'it is completed');
SELECT pg_temp.shop($$ SELECT ordflow.refund_order(%s, '[{"line": 1, "quantity": 1}]') $$, :'id') AS refund \gset
SELECT is((SELECT amount FROM ordflow.refunds WHERE refund_id = :refund), 2.25, 'refund one of four units');
SELECT is(pg_temp.shop($$ SELECT ordflow.refund_failed(%s, 'card closed') $$, :'refund'), 'applied', 'the refund failed');
SELECT is(pg_temp.shop($$ SELECT ordflow.refund_done(%s, 'R1') $$, :'refund'), 'applied', 'and was made after all');

-- one that is cancelled after the payment, one in bulk, one paid twice with one transaction
SELECT pg_temp.shop($$ SELECT ordflow.submit_order(NULL, '[{"sku": "pgtap-life", "quantity": 1, "unit_price": 5}]') $$) AS id2 \gset
SELECT is(pg_temp.shop($$ SELECT ordflow.pay_order(%s, 'visa', 'pgtap-2', 5) $$, :'id2'), 'applied', 'a guest pays');
SELECT is(pg_temp.shop($$ SELECT ordflow.cancel_order(%s) $$, :'id2'), 'applied', 'and cancels');
SELECT is(pg_temp.order_state(:'id2'), 'cancelled', 'it is cancelled');
SELECT results_eq('SELECT state, amount FROM ordflow.refunds WHERE order_id = ' || :id2, $$ VALUES ('due', 5.00) $$, 'its money is due');
SELECT is(pg_temp.shop($$ SELECT result FROM ordflow.submit_orders(
    '[{"customer": "bob", "lines": [{"sku": "pgtap-life", "quantity": 1, "unit_price": 5}]}]') $$), 'ok', 'submit in bulk');
SELECT is(pg_temp.shop($$ SELECT ordflow.pay_order(%s, 'visa', 'pgtap-2', 6) $$, :'id2'), 'mismatch', 'a strange payment');
SELECT refund_id AS held FROM ordflow.refunds WHERE order_id = :id2 AND state = 'held' \gset
SELECT is(pg_temp.shop($$ SELECT ordflow.release_refund(%s) $$, :'held'), 'applied', 'its refund is looked at and released');

-- the repeat of a submit
SELECT is(pg_temp.shop($$ SELECT ordflow.submit_order('ada', '[{"sku": "pgtap-life", "quantity": 4, "unit_price": "2.50"}]',
    'PGTAP-LIFE', 'key-1', order_no => 'PGTAP-1') $$), :'id', 'the same idempotency key gives the same order');

-- who did it
SELECT set_eq($$ SELECT DISTINCT actor FROM ordflow.order_history h JOIN ordflow.orders USING (order_id)
    WHERE order_no = 'PGTAP-1' $$, ARRAY[session_user::text], 'the history names the session user');
SET LOCAL ordflow.actor = 'clerk:7';
SELECT pg_temp.shop($$ SELECT ordflow.submit_order('eve', '[{"sku": "pgtap-life", "quantity": 1, "unit_price": 5}]') $$) AS id3 \gset
RESET ordflow.actor;
SELECT is((SELECT actor FROM ordflow.order_history WHERE order_id = :id3), 'clerk:7', 'or whom ordflow.actor names');

-- what it may not do
SELECT throws_ok($$ SELECT pg_temp.shop('SELECT ordflow.receive_stock(''pgtap-life'', 1)') $$, '42501', NULL, 'no stock');
SELECT throws_ok($$ SELECT pg_temp.shop('SELECT ordflow.run_due()') $$, '42501', NULL, 'no run_due');
SELECT throws_ok(format($$ SELECT pg_temp.shop('SELECT ordflow.fire(''ordflow.orders'', ''%s'', ''cancel'')') $$, :'id3'),
    '42501', NULL, 'no fire');
SELECT throws_ok(format($$ SELECT pg_temp.shop('UPDATE ordflow.orders SET state = ''cancelled'' WHERE order_id = %s') $$, :'id3'),
    '42501', NULL, 'no UPDATE of the state');
SELECT is_empty('SELECT * FROM ordflow.audit() WHERE object ~ ''pgtap|order''', 'and audit finds nothing');

SELECT * FROM finish();
ROLLBACK;
