/* src/order/order_functions.sql: the verbs of an order */

CREATE FUNCTION ordflow.quote_order(customer text, lines jsonb, coupon text DEFAULT NULL,
    charges jsonb DEFAULT '[]', currency text DEFAULT NULL)
RETURNS jsonb LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_quote_order';
COMMENT ON FUNCTION ordflow.quote_order(text, jsonb, text, jsonb, text) IS
'What submit_order would make of these arguments, without locking or writing anything: an object with currency, subtotal, discount, charges, payable, lines (each with amount, discount, payable and what is available) and problems, all of them at once. customer NULL is a guest; currency NULL is the setting ordflow.currency. Raises 22xxx for malformed arguments only.';

CREATE FUNCTION ordflow.submit_order(customer text, lines jsonb, coupon text DEFAULT NULL,
    idempotency_key text DEFAULT NULL, pay_within interval DEFAULT NULL, metadata jsonb DEFAULT '{}',
    charges jsonb DEFAULT '[]', currency text DEFAULT NULL, order_no text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_submit_order';
COMMENT ON FUNCTION ordflow.submit_order(text, jsonb, text, text, interval, jsonb, jsonb, text, text) IS
'Submits one order and returns its id: stock reserved, coupon locked, payment deadline set, history written, all in the caller''s transaction. lines: [{"sku", "quantity", "unit_price", "location" (main), "metadata", "stock" (true)}, ...], 1 to ordflow.max_lines of them; charges: [{"code", "amount"}, ...], negative ones lower the payable; customer NULL is a guest; pay_within NULL is the setting ordflow.pay_within; currency NULL is the setting ordflow.currency; order_no NULL is the order id. The same idempotency_key of the same customer with the same customer, lines, coupon, currency and charges returns the same order. An order with a payable of 0 stands in pending_shipment at once. Raises OF002 not enough stock, OF003 coupon refused, OF004 unknown sku, location or coupon, OF005 key used with other arguments, OF006 purchase limit (OF002, OF003, OF004, OF006 with a JSON array of every problem as DETAIL), OF008 not preloaded, 22xxx bad input, 23505 order_no taken, 54000 too many lines.';

CREATE FUNCTION ordflow.submit_orders(orders jsonb)
RETURNS TABLE (ordinality int, order_id bigint, result text, detail jsonb)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 100
AS 'MODULE_PATHNAME', 'ordflow_submit_orders';
COMMENT ON FUNCTION ordflow.submit_orders(jsonb) IS
'Submits many orders in one call, at most 10,000: an array of objects keyed by the argument names of submit_order. A row for each, in order: result is ok, duplicate, insufficient_stock, coupon_refused, unknown_object, key_conflict, limit_reached, invalid, or refused (by a guard or effect of the shop); detail is a JSON array that names every problem. One bad order never fails the others and leaves nothing behind. Raises 22004, 22023 for an argument that is no array, 54000.';

CREATE FUNCTION ordflow.add_charge(order_id bigint, code text, amount numeric, reason text DEFAULT NULL)
RETURNS numeric LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_add_charge';
COMMENT ON FUNCTION ordflow.add_charge(bigint, text, numeric, text) IS
'Adds a charge (negative: a deduction) to an unpaid order and returns the new payable; a payable of 0 moves the order to pending_shipment. Raises OF001 when the order is not unpaid or its deadline has passed, OF004 no such order, 22023 payable below 0 or more decimals than the currency has, 22003.';

CREATE FUNCTION ordflow.pay_order(order_id bigint, provider text, transaction_id text, amount numeric,
    currency text DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_pay_order';
COMMENT ON FUNCTION ordflow.pay_order(bigint, text, text, numeric, text) IS
'Records a verified payment and says what became of it: applied (the order is paid); duplicate (this very report came before: nothing changes); late (the order was cancelled, or its deadline had passed: it expires in this commit); mismatch (another amount or currency, or a transaction id seen before with other values: then its refund is held); already_paid; unknown_order. Every outcome but applied and duplicate leaves a refund due for all of it. amount in the currency''s main unit; currency NULL is the order''s. The deadline is compared with the clock read after the order''s row is locked. Raises only for what is no payment: 22004, 22023, 22001, 22003; and 40001, 40P01: call again.';

CREATE FUNCTION ordflow.ship_order(order_id bigint, carrier text, tracking_number text, lines jsonb DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_ship_order';
COMMENT ON FUNCTION ordflow.ship_order(bigint, text, text, jsonb) IS
'Records a parcel: lines [{"line": 1, "quantity": 2}, ...], NULL is all that is left. Takes the units from on hand and from reserved. Once all is shipped the order stands in pending_receipt and confirms itself after ordflow.confirm_within. Returns applied, or duplicate when all is shipped already or this parcel (carrier, tracking number, lines) was recorded before. Raises OF001 before the payment and after a cancel, OF004 no such order or line, OF005 the parcel is known with other lines, 22023 more than is left.';

CREATE FUNCTION ordflow.confirm_order(order_id bigint, reason text DEFAULT 'customer')
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_confirm_order';
COMMENT ON FUNCTION ordflow.confirm_order(bigint, text) IS
'The goods arrived: completes the order. reason is customer, carrier or timeout (22023 otherwise). Returns applied or duplicate. Raises OF001 unless it was shipped, OF004 no such order.';

CREATE FUNCTION ordflow.cancel_order(order_id bigint, reason text DEFAULT 'customer')
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_cancel_order';
COMMENT ON FUNCTION ordflow.cancel_order(bigint, text) IS
'Cancels an order of which nothing has shipped: stock is released, the coupon returned, a refund is due if it was paid. reason: free text of at most 255 bytes. Returns applied or duplicate. Raises OF001 once anything has shipped (refund_order is for that), OF004 no such order.';

CREATE FUNCTION ordflow.expire_order(order_id bigint)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_expire_order';
COMMENT ON FUNCTION ordflow.expire_order(bigint) IS
'Cancels an unpaid order if its payment deadline has passed: what a listener, a consumer or a job of one''s own calls, as often as it likes. Returns applied, not_due, or duplicate when it is cancelled already. Raises OF004 no such order.';

CREATE FUNCTION ordflow.extend_order(order_id bigint, extra interval)
RETURNS timestamptz LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_extend_order';
COMMENT ON FUNCTION ordflow.extend_order(bigint, interval) IS
'Moves the deadline of the current state, payment or receipt, later by extra (above zero, 22023) and returns it. Raises OF001 when the state has no deadline or the deadline has passed, OF004 no such order.';

CREATE FUNCTION ordflow.refund_order(order_id bigint, lines jsonb DEFAULT NULL, amount numeric DEFAULT NULL,
    restock boolean DEFAULT true, reason text DEFAULT 'customer', idempotency_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_refund_order';
COMMENT ON FUNCTION ordflow.refund_order(bigint, jsonb, numeric, boolean, text, text) IS
'Records a refund of a paid order, due, and returns its id. lines [{"line": 1, "quantity": 2}, ...]: these units, those that have not shipped first; their money is round(payable x units refunded / quantity) less what earlier refunds of the line took, unless amount says otherwise. amount alone: money without goods. Both NULL: all units and all money that is left. restock: units go back into stock; without it those not yet shipped are written off. The order is cancelled when no unit is left. The same idempotency_key with the same arguments returns the same refund. Raises OF001 unless the order is paid, OF004 no such order or line, OF005, 22023 more units or money than is left.';

CREATE FUNCTION ordflow.refund_done(refund_id bigint, provider_refund_id text)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_refund_done';
COMMENT ON FUNCTION ordflow.refund_done(bigint, text) IS
'The provider has paid a refund back. Returns applied or duplicate. Raises OF001 while it is held, or when it is done with another provider_refund_id; OF004 no such refund.';

CREATE FUNCTION ordflow.refund_failed(refund_id bigint, error text)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_refund_failed';
COMMENT ON FUNCTION ordflow.refund_failed(bigint, text) IS
'The provider could not pay a refund back, or a held one is not to be made. refund_done() is still possible after a later success. Returns applied or duplicate. Raises OF001 when it is done, OF004 no such refund.';

CREATE FUNCTION ordflow.release_refund(refund_id bigint)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_release_refund';
COMMENT ON FUNCTION ordflow.release_refund(bigint) IS
'A held refund has been looked at and is due. Returns applied, or duplicate when it is due already. Raises OF001 when it is done or failed, OF004 no such refund.';

CREATE FUNCTION ordflow.order_id(order_no text)
RETURNS bigint LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_order_id';
COMMENT ON FUNCTION ordflow.order_id(text) IS
'The id of the order with this number. Raises OF004 when there is none.';
