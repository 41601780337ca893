-- test/t/lib/shop.sql: a shop in full swing, every kind of row that a dump has to carry. What the
-- tests call it by: orders have numbers, "overdue" ones are past their deadline. No worker touches them.
CREATE EXTENSION ordflow;
SELECT ordflow.deactivate();
CREATE SCHEMA shop;

-- effects: of the shop's owner, and of a role that has left
CREATE TABLE shop.notes (note_id bigint GENERATED ALWAYS AS IDENTITY, event text, key text);
CREATE FUNCTION shop.note(object jsonb, args jsonb) RETURNS void LANGUAGE sql
AS $$ INSERT INTO shop.notes (event, key) VALUES (object->>'event', object->>'key') $$;
CREATE FUNCTION shop.is_small(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql
AS $$ SELECT (object->'row'->>'cost')::numeric < 100 $$;
SELECT ordflow.add_effect('order', 'pay', 'shop.note(jsonb,jsonb)');

-- the built-in machine with a state more, a machine of the shop's own and its table
SELECT ordflow.define_machine('order', '{"states": {"in_review": "normal"}, "transitions": [
	{"from": "pending_shipment", "event": "review", "to": "in_review"},
	{"from": "in_review", "event": "release", "to": "pending_shipment"}]}');
SELECT ordflow.define_machine('repair', '{
	"states": {"new": "initial", "open": {"kind": "normal", "label": "on the bench"},
		"done": "final", "lapsed": "final"},
	"transitions": [
		{"from": "new", "event": "open", "to": "open", "guard": "shop.is_small(jsonb,jsonb)",
			"effect": "shop.note(jsonb,jsonb)"},
		{"from": "new", "event": "lapse", "to": "lapsed", "after": "7 days"},
		{"from": "open", "event": "finish", "to": "done"}]}');
CREATE TABLE shop.repairs (id int PRIMARY KEY, cost numeric, status text NOT NULL DEFAULT 'new', due timestamptz);
SELECT ordflow.attach('shop.repairs', 'repair', 'status', due_column => 'due');
INSERT INTO shop.repairs (id, cost) VALUES (1, 10), (2, 500), (3, 20), (4, 30);
UPDATE shop.repairs SET status = 'open' WHERE id IN (1, 3);
SELECT ordflow.fire('shop.repairs', '3', 'finish', '{"reason": "picked up"}');
UPDATE shop.repairs SET due = now() - interval '1 day' WHERE id = 4;

CREATE ROLE porter;
SELECT ordflow.grant_access('porter', 'admin');
GRANT USAGE ON SCHEMA shop TO porter;
SET ROLE porter;
SELECT ordflow.add_effect('repair', 'lapse', 'shop.note(jsonb,jsonb)');
RESET ROLE;
REVOKE USAGE ON SCHEMA shop FROM porter;
SELECT ordflow.revoke_access('porter', 'admin');
DROP ROLE porter;

-- stock, coupons, limits, holds
SELECT ordflow.receive_stock('lamp', 100, reference => 'delivery 1'), ordflow.receive_stock('lamp', 20, 'north'),
	ordflow.set_stock('vase', 50, 'stocktaking'), ordflow.receive_stock('rug', 10),
	ordflow.adjust_stock('rug', -1, 'torn');
SELECT ordflow.set_purchase_limit('rug', 2),
	ordflow.create_coupon('TEN', 'percent', 10, '{"usage_limit": 5, "per_customer": 2}'),
	ordflow.create_coupon('FIVE', 'fixed', 5, '{"min_total": 20, "skus": ["lamp", "vase"]}');
SELECT ordflow.alter_coupon('FIVE', '{"max_discount": 5}');
SELECT ordflow.reserve_stock('cart:live', '[{"sku": "lamp", "quantity": 2}]', now() + interval '1 day'),
	ordflow.reserve_stock('cart:overdue', '[{"sku": "vase", "quantity": 3}]', now() + interval '1 day'),
	ordflow.reserve_stock('cart:gone', '[{"sku": "lamp", "quantity": 1, "location": "north"}]'),
	ordflow.reserve_stock('cart:back', '[{"sku": "rug", "quantity": 1}]');
SELECT ordflow.commit_stock('cart:gone'), ordflow.release_stock('cart:back');
UPDATE ordflow.holds SET expires_at = now() - interval '1 second' WHERE reference = 'cart:overdue';

-- orders in every state
SET ordflow.actor = 'shop:1';
SELECT ordflow.submit_order('c' || i, '[{"sku": "lamp", "quantity": 2, "unit_price": "19.99"},
	{"sku": "vase", "quantity": 1, "unit_price": "5.05", "metadata": {"gift": true}},
	{"sku": "wrapping", "quantity": 1, "unit_price": "0.5", "stock": false}]',
	CASE WHEN i <= 3 THEN 'TEN' WHEN i <= 6 THEN 'FIVE' END, 'key ' || i, interval '1 day',
	jsonb_build_object('n', i), '[{"code": "shipping", "amount": 12}]', 'EUR', 'no ' || i)
FROM generate_series(7, 28) AS i;
SELECT ordflow.submit_order('c' || i, '[{"sku": "lamp", "quantity": 1, "unit_price": 40}]',
	CASE WHEN i <= 3 THEN 'TEN' ELSE 'FIVE' END, order_no => 'no ' || i, pay_within => interval '1 day')
FROM generate_series(1, 6) AS i;
SELECT ordflow.submit_order(NULL, '[{"sku": "vase", "quantity": 1, "unit_price": 700}]', NULL, 'guest key',
	currency => 'JPY', order_no => 'guest', pay_within => interval '1 day'),
	ordflow.submit_order('c1', '[{"sku": "rug", "quantity": 2, "unit_price": 0}]', order_no => 'free'),
	ordflow.add_charge(ordflow.order_id('no 7'), 'express', 3, 'in a hurry');
SELECT ordflow.pay_order(order_id, 'bank', 'tx ' || order_no, payable, currency)
FROM ordflow.orders WHERE order_no IN ('no 1', 'no 4') OR order_id BETWEEN 9 AND 22;
SELECT ordflow.ship_order(order_id, 'post', 'p' || order_id, '[{"line": 1, "quantity": 1}]')
FROM ordflow.orders WHERE order_id BETWEEN 11 AND 14;
SELECT ordflow.ship_order(order_id, 'post', 'p' || order_id) FROM ordflow.orders WHERE order_id BETWEEN 15 AND 20;
SELECT ordflow.confirm_order(order_id) FROM ordflow.orders WHERE order_id BETWEEN 17 AND 20;
SELECT ordflow.refund_order(order_id, '[{"line": 1, "quantity": 1}]', idempotency_key => 'back')
FROM ordflow.orders WHERE order_id IN (13, 19, 20);
SELECT ordflow.refund_done(refund_id, 'r' || refund_id) FROM ordflow.refunds WHERE order_id = 19;
SELECT ordflow.cancel_order(order_id) FROM ordflow.orders WHERE order_id IN (3, 21, 22) OR order_no = 'no 2';
SELECT ordflow.fire('ordflow.orders', '9', 'review');
-- money that came late, for nothing, and twice
SELECT ordflow.pay_order(3, 'bank', 'late', 10), ordflow.pay_order(999, 'bank', 'for nothing', 7, 'USD'),
	ordflow.pay_order(4, 'bank', 'tx no 1', 1, 'EUR');
SELECT ordflow.release_refund(refund_id) FROM ordflow.refunds WHERE state = 'held';
UPDATE ordflow.orders SET expires_at = now() - interval '1 hour', due_at = now() - interval '1 hour'
WHERE order_id IN (5, 6) OR order_no = 'no 5';
UPDATE ordflow.orders SET due_at = now() - interval '1 hour' WHERE order_id = 15;

-- tasks that services claim, in every partition
SELECT ordflow.define_task('report', NULL, '{"max_attempts": 1}'), ordflow.define_task('mail');
SELECT ordflow.grant_kind('report', 'pg_monitor'), ordflow.schedule_task('new year', '@yearly', 'mail');
SELECT ordflow.submit_batch('report', ARRAY['{"month": 1}', '{"month": 2}']::jsonb[], '{"on_finish": "mail"}'),
	ordflow.submit_task('mail', '{"to": "c1"}', '{"unique_key": "c1", "key": "c1"}');
-- as they end elsewhere: this shop's workers are kept away
INSERT INTO ordflow.task_outcomes (task_id, part, finished_at, attempts, state)
SELECT q.task_id, q.part, now(), 1, CASE ordinality WHEN 1 THEN 's' ELSE 'd' END::"char"
FROM ordflow.task_queue AS q JOIN ordflow.task_batches AS b USING (batch_id),
	LATERAL (SELECT task_id - first_task + 1 AS ordinality) AS o;
INSERT INTO ordflow.task_attempts (task_id, attempt, cause, error, at)
SELECT task_id, 1, 'error', 'out of paper', now() FROM ordflow.task_outcomes WHERE state = 'd';
INSERT INTO ordflow.task_batch_ends (batch_id, finished_at, succeeded, dead, cancelled)
SELECT batch_id, now(), 1, 1, 0 FROM ordflow.task_batches;
INSERT INTO ordflow.task_queue (task_id, kind_id, part, submitter, submitted_at, payload)
SELECT 100000 + p, k.kind_id, p, k.owner, now(), '{}' FROM generate_series(0, 8) AS p, ordflow.task_kinds AS k
WHERE k.kind = 'report';
INSERT INTO ordflow.task_outcomes (task_id, part, finished_at, attempts, state)
SELECT 100000 + p, p, now(), 1, 's' FROM generate_series(0, 8) AS p;
INSERT INTO ordflow.task_segments (segment, part, opened_at) VALUES (1, 1, now());

-- syncs, which sleep here; what they would leave behind
CREATE SCHEMA IF NOT EXISTS shop_sync;
CREATE TABLE shop_sync.source (id int PRIMARY KEY, name text);
CREATE TABLE shop_sync.target (id int PRIMARY KEY, name text);
CREATE TABLE shop_sync.pulled (id int PRIMARY KEY, name text);
CREATE TABLE shop_sync.beside (id int PRIMARY KEY, name text);
CREATE SERVER shop_cache FOREIGN DATA WRAPPER ordflow_redis;
SELECT ordflow.create_sync('shop cdc', 'shop_sync.source', target => 'shop_sync.target', options => '{"copy": false}'),
	ordflow.create_sync('shop beside', 'shop_sync.source', target => 'shop_sync.beside', mode => 'dual_write'),
	ordflow.emit('shop_cache', 'orders', '7', '{"paid": true}');
SELECT ordflow.create_sync('shop pulled', 'shop_sync.source', target => 'shop_sync.pulled', mode => 'scheduled', options => '{"cursor": "id"}');
INSERT INTO shop_sync.source VALUES (1, 'one');
INSERT INTO ordflow.sync_copies (sync_id, is_fresh) SELECT sync_id, true FROM ordflow.syncs WHERE name = 'shop cdc';
INSERT INTO ordflow.sync_copy_places (sync_id, relid, relfilenode, blocks)
SELECT sync_id, 'shop_sync.source'::regclass, 0, 1 FROM ordflow.syncs WHERE name = 'shop cdc';
INSERT INTO ordflow.sync_letters (sync_id, position, state, key, item)
SELECT sync_id, '1-2-3-0', 'dead', '1', '{"op": "put", "insert": true, "target": null, "fields": {"id": "1"}, "body": null}'
FROM ordflow.syncs WHERE name = 'shop cdc';
