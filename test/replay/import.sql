/*
 * import.sql: the file through ordflow's public functions, after load.sql, plan.sql and steps.sql.
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
SELECT replay.say('file', format('%s, %s', :'file', :'encoding'));
SELECT replay.say('read', format('%s of %s and %s', replay.many(count(*), 'line'),
    replay.many(count(DISTINCT invoice), 'invoice'), replay.many(count(DISTINCT sku), 'stock code')))
FROM replay.raw;

SELECT ordflow.create_coupon('WINTER10', 'percent', 10, '{"max_discount": 50}') \g /dev/null
SELECT ordflow.create_coupon('FIVEOFF', 'fixed', 5, '{"min_total": 30}') \g /dev/null

SELECT replay.receive(1, 1) \g /dev/null
SELECT replay.say('received', format('%s of %s', replay.many(sum(on_hand), 'unit'),
    replay.many(count(*), 'stock code')))
FROM ordflow.stock_levels;

SELECT replay.calls('submit') \gexec
SELECT replay.calls('submit_again') \gexec
SELECT replay.say('submitted', format('%s of %s; %s with a coupon; %s sent twice',
    replay.many(count(*), 'order'), replay.many(sum(jsonb_array_length(request -> 'lines')), 'line'),
    replay.num(count(coupon)), replay.num(count(*) FILTER (WHERE second_id = order_id))))
FROM replay.invoice;

SELECT replay.calls('pay') \gexec
SELECT replay.say('paid', format('%s, %s', replay.many(count(*), 'order'), replay.gbp(sum(amount))))
FROM ordflow.payments WHERE result = 'applied';

SELECT replay.calls('call_off') \gexec
SELECT replay.say('called off', format('%s, paid and not yet shipped', replay.many(count(*), 'order')))
FROM replay.invoice WHERE fate = 'called off';

SELECT replay.calls('ship') \gexec
SELECT replay.say('shipped', format('%s in %s, %s', replay.many(count(DISTINCT order_id), 'order'),
    replay.many(count(DISTINCT shipment_id), 'parcel'), replay.many(sum(quantity), 'unit')))
FROM ordflow.shipments JOIN ordflow.shipment_lines USING (shipment_id);

SELECT replay.calls('confirm') \gexec
SELECT replay.say('confirmed', format('%s by their customers', replay.many(count(*), 'order')))
FROM replay.invoice WHERE fate = 'confirmed';

SELECT replay.calls('refund', max(seq)) FROM replay.refund \gexec
SELECT replay.receive_returns(1, 1) \g /dev/null
SELECT replay.say('returned', format('%s, %s; %s of an earlier day into stock',
    replay.many((SELECT count(*) FROM replay.refund), 'refund'),
    replay.gbp(coalesce((SELECT sum(f.amount) FROM ordflow.refunds f JOIN replay.refund USING (refund_id)), 0)),
    replay.many(coalesce((SELECT sum(on_hand) FROM ordflow.stock_movements
                          WHERE reference = 'return of an earlier day'), 0), 'unit')));

SELECT replay.adjust(1, 1) \g /dev/null
SELECT replay.say('adjusted', format('%s written off in %s', replay.many(-sum(quantity), 'unit'),
    replay.many(count(*), 'line')))
FROM replay.line WHERE kind = 'adjustment' HAVING count(*) > 0;

SELECT replay.expire(1, max(seq)) FROM replay.invoice \g /dev/null
SELECT replay.say('expired', format('%s never paid, cancelled when their time was up', replay.many(count(*), 'order')))
FROM ordflow.orders WHERE cancel_reason = 'timeout';
