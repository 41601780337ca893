/*
 * import.sql: the file through ordflow's public functions, after load.sql, plan.sql and steps.sql.
 *
 * Prints its narration, and lines of progress that begin with "~".
 * Variables: file, its name; encoding, of it.
 */
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
SET ordflow.currency = 'GBP';
SET ordflow.actor = 'replay';
SELECT replay.start_clock() \g /dev/null
SELECT replay.say('read', format('%s lines of %s, %s invoices of %s stock codes, %s', replay.num(count(*)), :'file',
    replay.num(count(DISTINCT invoice)), replay.num(count(DISTINCT sku)), :'encoding')) FROM replay.raw;

SELECT ordflow.create_coupon('WINTER10', 'percent', 10, '{"max_discount": 50}') \g /dev/null
SELECT ordflow.create_coupon('FIVEOFF', 'fixed', 5, '{"min_total": 30}') \g /dev/null

SELECT replay.receive(1, 1) \g /dev/null
SELECT replay.say('received', format('%s units of %s stock codes',
    replay.num(sum(on_hand)), replay.num(count(*)))) FROM ordflow.stock_levels;

SELECT replay.calls('submit') \gexec
SELECT replay.calls('submit_again') \gexec
SELECT replay.say('submitted', format('%s orders of %s lines; %s with a coupon; %s twice, answered the same',
    replay.num(count(*)), replay.num(sum(jsonb_array_length(request -> 'lines'))),
    replay.num(count(coupon)), replay.num(count(*) FILTER (WHERE second_id = order_id)))) FROM replay.invoice;

SELECT replay.calls('pay') \gexec
SELECT replay.say('paid', format('%s orders, %s', replay.num(count(*)), replay.gbp(sum(amount))))
FROM ordflow.payments WHERE result = 'applied';

SELECT replay.calls('call_off') \gexec
SELECT replay.say('called off', format('%s orders by their customers before they were shipped', replay.num(count(*))))
FROM replay.invoice WHERE fate = 'called off';

SELECT replay.calls('ship') \gexec
SELECT replay.say('shipped', format('%s orders in %s parcels, %s units', replay.num(count(DISTINCT order_id)),
    replay.num(count(DISTINCT shipment_id)), replay.num(sum(quantity))))
FROM ordflow.shipments JOIN ordflow.shipment_lines USING (shipment_id);

SELECT replay.calls('confirm') \gexec
SELECT replay.say('confirmed', format('%s orders received by their customers', replay.num(count(*))))
FROM replay.invoice WHERE fate = 'confirmed';

SELECT replay.calls('refund', max(seq)) FROM replay.refund \gexec
SELECT replay.receive_returns(1, 1) \g /dev/null
SELECT replay.say('returned', format('%s refunds, %s; %s units of an earlier day back into stock',
    replay.num((SELECT count(*) FROM replay.refund)),
    replay.gbp(coalesce((SELECT sum(f.amount) FROM ordflow.refunds f JOIN replay.refund USING (refund_id)), 0)),
    replay.num(coalesce((SELECT sum(on_hand) FROM ordflow.stock_movements
                         WHERE reference = 'return of an earlier day'), 0))));

SELECT replay.adjust(1, 1) \g /dev/null
SELECT replay.say('adjusted', format('%s stock lines, %s units written off', replay.num(count(*)),
    replay.num(-coalesce(sum(quantity), 0))))
FROM replay.line WHERE kind = 'adjustment';

SELECT replay.expire(1, max(seq)) FROM replay.invoice \g /dev/null
SELECT replay.say('expired', format('%s orders never paid, cancelled when their time was up', replay.num(count(*))))
FROM ordflow.orders WHERE cancel_reason = 'timeout';
