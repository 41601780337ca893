-- test/pgtap/signatures.sql: the public functions, as applications call them
BEGIN;
SELECT plan(3);

CREATE TEMP TABLE promised (name text, arguments text, result text);
INSERT INTO promised VALUES
('quote_order', 'customer text, lines jsonb, coupon text DEFAULT NULL::text, charges jsonb DEFAULT ''[]''::jsonb, '
    'currency text DEFAULT NULL::text', 'jsonb'),
('submit_order', 'customer text, lines jsonb, coupon text DEFAULT NULL::text, idempotency_key text DEFAULT NULL::text, '
    'pay_within interval DEFAULT NULL::interval, metadata jsonb DEFAULT ''{}''::jsonb, '
    'charges jsonb DEFAULT ''[]''::jsonb, currency text DEFAULT NULL::text, order_no text DEFAULT NULL::text', 'bigint'),
('submit_orders', 'orders jsonb', 'TABLE(ordinality integer, order_id bigint, result text, detail jsonb)'),
('add_charge', 'order_id bigint, code text, amount numeric, reason text DEFAULT NULL::text', 'numeric'),
('pay_order', 'order_id bigint, provider text, transaction_id text, amount numeric, currency text DEFAULT NULL::text', 'text'),
('ship_order', 'order_id bigint, carrier text, tracking_number text, lines jsonb DEFAULT NULL::jsonb', 'text'),
('confirm_order', 'order_id bigint, reason text DEFAULT ''customer''::text', 'text'),
('cancel_order', 'order_id bigint, reason text DEFAULT ''customer''::text', 'text'),
('expire_order', 'order_id bigint', 'text'),
('extend_order', 'order_id bigint, extra interval', 'timestamp with time zone'),
('refund_order', 'order_id bigint, lines jsonb DEFAULT NULL::jsonb, amount numeric DEFAULT NULL::numeric, '
    'restock boolean DEFAULT true, reason text DEFAULT ''customer''::text, idempotency_key text DEFAULT NULL::text', 'bigint'),
('refund_done', 'refund_id bigint, provider_refund_id text', 'text'),
('refund_failed', 'refund_id bigint, error text', 'text'),
('release_refund', 'refund_id bigint', 'text'),
('order_id', 'order_no text', 'bigint'),
('receive_stock', 'sku text, quantity bigint, location text DEFAULT ''main''::text, reference text DEFAULT NULL::text', 'bigint'),
('adjust_stock', 'sku text, delta bigint, reason text, location text DEFAULT ''main''::text', 'bigint'),
('set_stock', 'sku text, on_hand bigint, reason text, location text DEFAULT ''main''::text', 'bigint'),
('available_stock', 'sku text, location text DEFAULT ''main''::text', 'bigint'),
('reserve_stock', 'reference text, lines jsonb, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone',
    'bigint'),
('commit_stock', 'reference text', 'text'),
('release_stock', 'reference text', 'text'),
('set_purchase_limit', 'sku text, per_customer bigint, '
    'valid_until timestamp with time zone DEFAULT NULL::timestamp with time zone', 'void'),
('create_coupon', 'code text, kind text, value numeric, options jsonb DEFAULT ''{}''::jsonb', 'bigint'),
('alter_coupon', 'code text, options jsonb', 'void'),
('run_due', 'as_of timestamp with time zone DEFAULT clock_timestamp(), max_rows integer DEFAULT 1000', 'integer'),
('schedule_run_due', 'schedule text DEFAULT ''* * * * *''::text', 'bigint'),
('unschedule_run_due', '', 'boolean'),
('modules', '', 'TABLE(module text, installed boolean, package text)'),
('server_options', 'server name', 'TABLE(option text, value text)'),
('fold_stock', '', 'bigint'),
('audit', 'since timestamp with time zone DEFAULT NULL::timestamp with time zone',
    'TABLE(check_name text, object text, detail text)'),
('activate', '', 'void'),
('deactivate', '', 'void'),
('is_active', 'part text', 'boolean'),
('doctor', '', 'TABLE(severity text, part text, object text, problem text, fix text)'),
('grant_access', 'role regrole, part text', 'void'),
('revoke_access', 'role regrole, part text', 'void'),
('define_machine', 'name text, definition jsonb', 'void'),
('check_machine', 'name text', 'TABLE(severity text, state text, problem text)'),
('diagram', 'machine text DEFAULT ''order''::text, format text DEFAULT ''mermaid''::text', 'text'),
('add_effect', 'machine text, event text, effect regprocedure', 'void'),
('drop_effect', 'machine text, event text, effect regprocedure', 'void'),
('attach', 'target regclass, machine text, state_column name, key_column name DEFAULT NULL::name, '
    'due_column name DEFAULT NULL::name', 'void'),
('detach', 'target regclass, state_column name DEFAULT NULL::name', 'void'),
('attach_report', 'target regclass, machine text, state_column name', 'TABLE(key text, state text)'),
('fire', 'target regclass, key text, event text, args jsonb DEFAULT ''{}''::jsonb', 'text'),
('available_events', 'order_id bigint', 'TABLE(event text, to_state text, at timestamp with time zone)'),
('available_events', 'target regclass, key text', 'TABLE(event text, to_state text, at timestamp with time zone)'),
('define_task', 'kind text, handler regprocedure DEFAULT NULL::regprocedure, options jsonb DEFAULT ''{}''::jsonb', 'void'),
('grant_kind', 'kind text, role regrole', 'void'),
('revoke_kind', 'kind text, role regrole', 'void'),
('pause_kind', 'kind text', 'void'),
('resume_kind', 'kind text', 'void'),
('submit_batch', 'kind text, payloads jsonb[], options jsonb DEFAULT ''{}''::jsonb', 'bigint'),
('submit_task', 'kind text, payload jsonb DEFAULT ''{}''::jsonb, options jsonb DEFAULT ''{}''::jsonb', 'bigint'),
('submit_shards', 'kind text, shards integer, payload jsonb DEFAULT ''{}''::jsonb', 'bigint'),
('complete_task', 'task_id bigint, token bigint, result jsonb DEFAULT NULL::jsonb', 'text'),
('fail_task', 'task_id bigint, token bigint, error text, retry_in interval DEFAULT NULL::interval', 'text'),
('extend_task', 'task_id bigint, token bigint, lease interval', 'text'),
('release_task', 'task_id bigint, token bigint', 'text'),
('wait_batch', 'batch_id bigint, timeout interval', 'boolean'),
('cancel_batch', 'batch_id bigint', 'integer'),
('retry_batch', 'batch_id bigint', 'integer'),
('cancel_task', 'task_id bigint', 'integer'),
('retry_task', 'task_id bigint', 'integer'),
('unschedule_task', 'name text', 'boolean'),
('try_lock', 'name text', 'boolean'),
('unlock', 'name text', 'boolean'),
('schedule_task', 'name text, schedule text, kind text, payload jsonb DEFAULT ''{}''::jsonb, options jsonb DEFAULT ''{}''::jsonb', 'void'),
('claim_tasks', 'kind text, max_tasks integer DEFAULT 1, lease interval DEFAULT NULL::interval, wait interval DEFAULT NULL::interval, '
    'OUT task_id bigint, OUT token bigint, OUT payload jsonb, OUT attempt integer', 'SETOF record'),
('claim_task', 'INOUT task_id bigint, lease interval DEFAULT NULL::interval, OUT token bigint, OUT payload jsonb, OUT attempt integer',
    'SETOF record'),
('current_task', 'OUT task_id bigint, OUT batch_id bigint, OUT attempt integer, OUT key text, OUT shard integer, OUT shards integer, '
    'OUT submitter name', 'SETOF record'),
('wait_for_tasks', 'IN kind text, IN timeout interval', NULL),
('create_sync', 'name text, source regclass, server name DEFAULT NULL::name, target text DEFAULT NULL::text, mode text DEFAULT ''cdc''::text, '
    'options jsonb DEFAULT ''{}''::jsonb', 'void'),
('alter_sync', 'name text, options jsonb', 'void'),
('drop_sync', 'name text', 'void'),
('pause_sync', 'name text', 'void'),
('resume_sync', 'name text', 'void'),
('run_sync', 'name text', 'bigint'),
('replay_dead_letters', 'name text', 'bigint'),
('resync', 'name text, filter text DEFAULT NULL::text', 'void'),
('emit', 'server name, topic text, key text, payload jsonb', 'void'),
('wait_for_sync', 'name text, lsn pg_lsn DEFAULT pg_current_wal_insert_lsn(), timeout interval DEFAULT ''00:00:05''::interval', 'boolean'),
('check_sync', 'name text', 'TABLE(severity text, problem text, fix text)'),
('preview_sync', 'name text, max_rows integer DEFAULT 10', 'TABLE(op text, target text, key text, fields jsonb, body text)');

CREATE TEMP VIEW found AS
SELECT proname::text AS name, pg_get_function_arguments(oid) AS arguments, pg_get_function_result(oid) AS result
FROM pg_proc WHERE pronamespace = 'ordflow'::regnamespace;

SELECT is_empty('TABLE promised EXCEPT TABLE found', 'every public function has the promised arguments, defaults and result');

SELECT set_eq('SELECT name FROM (TABLE found EXCEPT TABLE promised) AS f', ARRAY[
    'activation_changed', 'amqp_options', 'audit_coupons', 'audit_orders', 'audit_stock', 'counter_differences', 'counter_gate', 'hold_deadline',
    'library', 'machine_changed', 'machine_due', 'machine_rows_changed', 'order_deadline', 'parked_changed', 'purchase_limits_changed',
    'open_reservations', 'postgres_options', 'redis_options', 'refuse_truncate', 'timer_driver_figures', 'timer_figures', 'worker_slots',
    'batch_progress', 'next_slot', 'task_changed', 'task_claims', 'task_lane_figures', 'task_state',
    'delivery_figures', 'dual_write_changed', 'dual_write_truncated', 'script_options', 'sync_figures'
], 'no other function exists but these, which are of no public use');

SELECT is_empty($$
    SELECT name FROM promised GROUP BY name HAVING count(*) > 1 AND name <> 'available_events'
$$, 'no other name is overloaded, so that arguments of unknown type resolve');

SELECT * FROM finish();
ROLLBACK;
