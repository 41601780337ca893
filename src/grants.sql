/* src/grants.sql: every privilege, one list */

REVOKE ALL ON SCHEMA ordflow FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA ordflow FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA ordflow FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA ordflow FROM PUBLIC;

-- trigger functions run whoever fires them; the schema must be visible to whoever may be granted a part
CREATE TABLE ordflow.parts (
    part      text NOT NULL,
    privilege text NOT NULL,
    object    text NOT NULL,
    CONSTRAINT parts_pkey PRIMARY KEY (part, privilege, object)
);
COMMENT ON TABLE ordflow.parts IS
'What each part of ordflow.grant_access() grants: a privilege as GRANT writes it, and the object it is on. Comes with the version; not dumped.';

INSERT INTO ordflow.parts (part, privilege, object) SELECT part, privilege, object FROM (VALUES
    ('orders', 'EXECUTE', ARRAY[
        'FUNCTION ordflow.quote_order(text, jsonb, text, jsonb, text)',
        'FUNCTION ordflow.submit_order(text, jsonb, text, text, interval, jsonb, jsonb, text, text)',
        'FUNCTION ordflow.submit_orders(jsonb)',
        'FUNCTION ordflow.add_charge(bigint, text, numeric, text)',
        'FUNCTION ordflow.pay_order(bigint, text, text, numeric, text)',
        'FUNCTION ordflow.ship_order(bigint, text, text, jsonb)',
        'FUNCTION ordflow.confirm_order(bigint, text)',
        'FUNCTION ordflow.cancel_order(bigint, text)',
        'FUNCTION ordflow.extend_order(bigint, interval)',
        'FUNCTION ordflow.refund_order(bigint, jsonb, numeric, boolean, text, text)',
        'FUNCTION ordflow.refund_done(bigint, text)',
        'FUNCTION ordflow.refund_failed(bigint, text)',
        'FUNCTION ordflow.release_refund(bigint)',
        'FUNCTION ordflow.order_id(text)',
        'FUNCTION ordflow.available_events(bigint)',
        'FUNCTION ordflow.available_events(regclass, text)']),
    ('orders', 'SELECT (order_id, order_no, metadata), UPDATE (metadata)', ARRAY['TABLE ordflow.orders']),
    ('stock', 'EXECUTE', ARRAY[
        'FUNCTION ordflow.receive_stock(text, bigint, text, text)',
        'FUNCTION ordflow.adjust_stock(text, bigint, text, text)',
        'FUNCTION ordflow.set_stock(text, bigint, text, text)',
        'FUNCTION ordflow.available_stock(text, text)',
        'FUNCTION ordflow.reserve_stock(text, jsonb, timestamptz)',
        'FUNCTION ordflow.commit_stock(text)',
        'FUNCTION ordflow.release_stock(text)']),
    ('tasks', 'EXECUTE', ARRAY[
        'FUNCTION ordflow.define_task(text, regprocedure, jsonb)',
        'FUNCTION ordflow.grant_kind(text, regrole)',
        'FUNCTION ordflow.revoke_kind(text, regrole)',
        'FUNCTION ordflow.pause_kind(text)',
        'FUNCTION ordflow.resume_kind(text)',
        'FUNCTION ordflow.submit_batch(text, jsonb[], jsonb)',
        'FUNCTION ordflow.submit_task(text, jsonb, jsonb)',
        'FUNCTION ordflow.submit_shards(text, integer, jsonb)',
        'FUNCTION ordflow.claim_tasks(text, integer, interval, interval)',
        'FUNCTION ordflow.claim_task(bigint, interval)',
        'FUNCTION ordflow.complete_task(bigint, bigint, jsonb)',
        'FUNCTION ordflow.fail_task(bigint, bigint, text, interval)',
        'FUNCTION ordflow.extend_task(bigint, bigint, interval)',
        'FUNCTION ordflow.release_task(bigint, bigint)',
        'PROCEDURE ordflow.wait_for_tasks(text, interval)',
        'FUNCTION ordflow.current_task()',
        'FUNCTION ordflow.wait_batch(bigint, interval)',
        'FUNCTION ordflow.cancel_batch(bigint)',
        'FUNCTION ordflow.retry_batch(bigint)',
        'FUNCTION ordflow.cancel_task(bigint)',
        'FUNCTION ordflow.retry_task(bigint)',
        'FUNCTION ordflow.schedule_task(text, text, text, jsonb, jsonb)',
        'FUNCTION ordflow.unschedule_task(text)',
        'FUNCTION ordflow.try_lock(text)',
        'FUNCTION ordflow.unlock(text)']),
    ('sync', 'EXECUTE', ARRAY[
        'FUNCTION ordflow.create_sync(text, regclass, name, text, text, jsonb)',
        'FUNCTION ordflow.alter_sync(text, jsonb)',
        'FUNCTION ordflow.drop_sync(text)',
        'FUNCTION ordflow.pause_sync(text)',
        'FUNCTION ordflow.resume_sync(text)',
        'FUNCTION ordflow.resync(text, text)',
        'FUNCTION ordflow.replay_dead_letters(text)',
        'FUNCTION ordflow.run_sync(text)',
        'FUNCTION ordflow.check_sync(text)',
        'FUNCTION ordflow.preview_sync(text, integer)',
        'FUNCTION ordflow.wait_for_sync(text, pg_lsn, interval)',
        'FUNCTION ordflow.emit(name, text, text, jsonb)']),
    ('sync', 'USAGE', ARRAY[
        'FOREIGN DATA WRAPPER ordflow_redis', 'FOREIGN DATA WRAPPER ordflow_amqp',
        'FOREIGN DATA WRAPPER ordflow_postgres', 'FOREIGN DATA WRAPPER ordflow_script']),
    ('read', 'EXECUTE', ARRAY[
        'FUNCTION ordflow.audit(timestamptz)',
        'FUNCTION ordflow.doctor()',
        'FUNCTION ordflow.diagram(text, text)',
        'FUNCTION ordflow.is_active(text)',
        'FUNCTION ordflow.worker_slots()',
        'FUNCTION ordflow.timer_figures()', 'FUNCTION ordflow.timer_driver_figures()',
        'FUNCTION ordflow.open_reservations()',
        'FUNCTION ordflow.counter_differences()',
        'FUNCTION ordflow.modules()',
        'FUNCTION ordflow.task_claims()',
        'FUNCTION ordflow.task_state(bigint, smallint, bigint, "char")',
        'FUNCTION ordflow.batch_progress(bigint)',
        'FUNCTION ordflow.task_lane_figures()',
        'FUNCTION ordflow.delivery_figures()', 'FUNCTION ordflow.sync_figures(bigint)',
        'FUNCTION ordflow.next_slot(text, text, timestamptz)']),
    ('read', 'SELECT', ARRAY[
        'TABLE ordflow.machines', 'TABLE ordflow.states', 'TABLE ordflow.transitions', 'TABLE ordflow.effects',
        'TABLE ordflow.object_history', 'TABLE ordflow.activation', 'TABLE ordflow.workers', 'TABLE ordflow.parked',
        'TABLE ordflow.timer_status', 'TABLE ordflow.timer_drivers',
        'TABLE ordflow.stock', 'TABLE ordflow.stock_segments', 'TABLE ordflow.stock_movements', 'TABLE ordflow.holds',
        'TABLE ordflow.hold_lines', 'TABLE ordflow.stock_levels', 'TABLE ordflow.reservations', 'TABLE ordflow.stock_holds',
        'TABLE ordflow.open_segments', 'TABLE ordflow.ledger_start',
        'TABLE ordflow.coupons', 'TABLE ordflow.coupon_redemptions', 'TABLE ordflow.purchase_limits',
        'TABLE ordflow.purchase_counts', 'TABLE ordflow.orders', 'TABLE ordflow.order_lines',
        'TABLE ordflow.order_charges', 'TABLE ordflow.order_history', 'TABLE ordflow.shipments',
        'TABLE ordflow.tasks', 'TABLE ordflow.batches', 'TABLE ordflow.dead_tasks', 'TABLE ordflow.schedules',
        'TABLE ordflow.task_lanes', 'TABLE ordflow.open_task_parts', 'TABLE ordflow.task_kinds', 'TABLE ordflow.task_grants',
        'TABLE ordflow.task_segments', 'TABLE ordflow.task_progress', 'TABLE ordflow.task_queue', 'TABLE ordflow.task_outcomes',
        'TABLE ordflow.task_attempts', 'TABLE ordflow.task_batches', 'TABLE ordflow.task_batch_ends', 'TABLE ordflow.task_unique',
        'TABLE ordflow.task_schedules',
        'TABLE ordflow.syncs', 'TABLE ordflow.sync_starts', 'TABLE ordflow.sync_deliveries', 'TABLE ordflow.sync_letters',
        'TABLE ordflow.outbox', 'TABLE ordflow.sync_copies', 'TABLE ordflow.sync_copy_places', 'TABLE ordflow.sync_pulls',
        'TABLE ordflow.sync_status', 'TABLE ordflow.sync_progress', 'TABLE ordflow.sync_dead_letters',
        'TABLE ordflow.shipment_lines', 'TABLE ordflow.payments', 'TABLE ordflow.refunds', 'TABLE ordflow.refund_lines']),
    ('admin', 'EXECUTE', ARRAY[
        'FUNCTION ordflow.define_machine(text, jsonb)',
        'FUNCTION ordflow.check_machine(text)',
        'FUNCTION ordflow.add_effect(text, text, regprocedure)',
        'FUNCTION ordflow.drop_effect(text, text, regprocedure)',
        'FUNCTION ordflow.attach(regclass, text, name, name, name)',
        'FUNCTION ordflow.attach_report(regclass, text, name)',
        'FUNCTION ordflow.detach(regclass, name)',
        'FUNCTION ordflow.fire(regclass, text, text, jsonb)',
        'FUNCTION ordflow.create_coupon(text, text, numeric, jsonb)',
        'FUNCTION ordflow.alter_coupon(text, jsonb)',
        'FUNCTION ordflow.set_purchase_limit(text, bigint, timestamptz)',
        'FUNCTION ordflow.expire_order(bigint)',
        'FUNCTION ordflow.activate()',
        'FUNCTION ordflow.deactivate()',
        'FUNCTION ordflow.run_due(timestamptz, integer)',
        'FUNCTION ordflow.schedule_run_due(text)',
        'FUNCTION ordflow.unschedule_run_due()',
        'FUNCTION ordflow.server_options(name)',
        'FUNCTION ordflow.fold_stock()'])
) AS v (part, privilege, objects), unnest(objects) AS object;
INSERT INTO ordflow.parts (part, privilege, object)
SELECT part, 'USAGE', 'SCHEMA ordflow' FROM ordflow.parts GROUP BY part;

CREATE FUNCTION ordflow.grant_access(role regrole, part text)
RETURNS void LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_grant_access';
COMMENT ON FUNCTION ordflow.grant_access(regrole, text) IS
'Grants a role one part: orders, stock, tasks, sync, read or admin; what that is stands in ordflow.parts. The caller must own the extension''s objects or hold their grant options. Raises 22023 for an unknown part, 22004, 42501.';

CREATE FUNCTION ordflow.revoke_access(role regrole, part text)
RETURNS void LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_revoke_access';
COMMENT ON FUNCTION ordflow.revoke_access(regrole, text) IS
'Takes back what grant_access() granted the role with this part, but not the use of the schema while the role holds another part. Raises as grant_access().';

REVOKE ALL ON ordflow.parts FROM PUBLIC;
REVOKE ALL ON FUNCTION ordflow.grant_access(regrole, text), ordflow.revoke_access(regrole, text) FROM PUBLIC;
