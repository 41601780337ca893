-- test/pgtap/functions.sql: what every function of the schema promises
BEGIN;
SELECT plan(11);

CREATE TEMP VIEW functions AS
SELECT p.*, format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) AS signature
FROM pg_proc p WHERE p.pronamespace = 'ordflow'::regnamespace;

SELECT cmp_ok((SELECT count(*) FROM functions), '>', 40::bigint, 'there are functions to look at');

SELECT is_empty($$
    SELECT signature, proconfig FROM functions
    WHERE proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp']
      AND signature NOT IN ('machine_changed()', 'machine_due()', 'dual_write_changed()') AND prokind = 'f'
$$, 'every function pins search_path, and nothing else; row triggers of attached tables where they run SQL');
SELECT is_empty($$
    SELECT signature FROM functions WHERE prokind = 'p' AND (proconfig IS NOT NULL OR prosecdef)
$$, 'a procedure that commits pins nothing, as that would keep it from committing');

SELECT is_empty($$
    SELECT signature FROM functions WHERE coalesce(length(obj_description(oid, 'pg_proc')), 0) < 20
$$, 'every function has a comment');

SELECT is_empty($$
    SELECT signature, g.grantee FROM functions f
    CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS g
    WHERE g.grantee <> f.proowner
$$, 'nobody but the owner may execute any function');

SELECT set_eq('SELECT signature FROM functions WHERE prosecdef', ARRAY[
    'activate()',
    'add_charge(bigint, text, numeric, text)',
    'adjust_stock(text, bigint, text, text)',
    'alter_coupon(text, jsonb)',
    'audit(timestamp with time zone)',
    'available_events(bigint)',
    'available_stock(text, text)',
    'batch_progress(bigint)',
    'cancel_order(bigint, text)',
    'check_machine(text)',
    'commit_stock(text)',
    'confirm_order(bigint, text)',
    'create_coupon(text, text, numeric, jsonb)',
    'current_task()',
    'deactivate()',
    'diagram(text, text)',
    'doctor()',
    'expire_order(bigint)',
    'extend_order(bigint, interval)',
    'fold_stock()',
    'order_id(text)',
    'pay_order(bigint, text, text, numeric, text)',
    'quote_order(text, jsonb, text, jsonb, text)',
    'receive_stock(text, bigint, text, text)',
    'refund_done(bigint, text)',
    'refund_failed(bigint, text)',
    'refund_order(bigint, jsonb, numeric, boolean, text, text)',
    'release_refund(bigint)',
    'release_stock(text)',
    'reserve_stock(text, jsonb, timestamp with time zone)',
    'run_due(timestamp with time zone, integer)',
    'set_purchase_limit(text, bigint, timestamp with time zone)',
    'set_stock(text, bigint, text, text)',
    'ship_order(bigint, text, text, jsonb)',
    'submit_order(text, jsonb, text, text, interval, jsonb, jsonb, text, text)',
    'submit_orders(jsonb)',
    'task_state(bigint, smallint, bigint, "char")',
    'timer_figures()',
    'wait_batch(bigint, interval)'
], 'SECURITY DEFINER stands exactly where a granted role works on our tables');

SELECT is_empty($$
    SELECT signature FROM functions WHERE proparallel <> 'u' AND provolatile = 'v'
$$, 'no function that may write is safe for parallel workers');

SELECT set_eq($$ SELECT proname::text FROM functions WHERE proparallel <> 'u' $$,
    ARRAY['audit_orders', 'audit_stock', 'audit_coupons', 'current_task', 'next_slot'],
    'only the checks of audit, which are plain SQL that reads, and what asks for times run in parallel workers');

SELECT set_eq($$ SELECT proname::text FROM functions WHERE provolatile <> 'v' $$,
    ARRAY['attach_report', 'audit', 'audit_orders', 'audit_stock', 'audit_coupons', 'available_events', 'check_machine',
          'current_task', 'diagram', 'doctor', 'is_active', 'library', 'next_slot', 'order_id', 'quote_order', 'worker_slots'],
    'only functions that read are declared so');

SELECT is_empty($$
    SELECT signature, lanname FROM functions JOIN pg_language l ON l.oid = prolang
    WHERE lanname NOT IN ('c', 'sql') OR proisstrict OR proleakproof
$$, 'functions are C or SQL, answer NULL arguments themselves, and claim no leakproofness');

SELECT is_empty($$
    SELECT signature FROM functions f
    WHERE NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'ordflow'
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
$$, 'every function belongs to the extension');

SELECT * FROM finish();
ROLLBACK;
