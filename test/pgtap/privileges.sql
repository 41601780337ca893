-- test/pgtap/privileges.sql: what a role may do before and after ordflow.grant_access()
BEGIN;
SELECT plan(51);

CREATE ROLE ordflow_nobody;
CREATE ROLE ordflow_somebody;

-- the SQLSTATE that a statement ends with as that role; NULL when it succeeds
CREATE FUNCTION pg_temp.state_as(role name, sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    EXECUTE sql;
    PERFORM set_config('role', 'none', true);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;

CREATE TEMP VIEW functions AS
SELECT p.oid, p.proname, format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) AS signature,
       p.prorettype = 'trigger'::regtype AS is_trigger, CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END AS verb,
       (SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ' ORDER BY n)
        FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)) AS nulls
FROM pg_proc p WHERE p.pronamespace = 'ordflow'::regnamespace;

CREATE TEMP VIEW relations AS
SELECT c.oid, c.relname::text, c.relkind FROM pg_class c
WHERE c.relnamespace = 'ordflow'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S');

-- everything that a role may do in the schema, as "privilege on object"
CREATE FUNCTION pg_temp.rights(role name) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT 'EXECUTE ' || signature FROM functions WHERE has_function_privilege(role, oid, 'EXECUTE')
    UNION ALL
    SELECT p || ' ' || relname FROM relations, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
        'REFERENCES', 'TRIGGER']) AS p WHERE relkind <> 'S' AND has_table_privilege(role, oid, p)
    UNION ALL
    SELECT format('%s (%s) %s', p, attname, relname) FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p
    WHERE relkind <> 'S' AND NOT attisdropped AND has_column_privilege(role, r.oid, a.attnum, p)
      AND NOT has_table_privilege(role, r.oid, p)
    UNION ALL
    SELECT p || ' ' || relname FROM relations, unnest(ARRAY['SELECT', 'UPDATE', 'USAGE']) AS p
    WHERE relkind = 'S' AND has_sequence_privilege(role, oid, p)
    UNION ALL
    SELECT p || ' schema' FROM unnest(ARRAY['USAGE', 'CREATE']) AS p WHERE has_schema_privilege(role, 'ordflow', p)
$$;

-- The promise, part by part, written down a second time: the first is src/grants.sql.
CREATE TEMP TABLE promised (part text, privilege text);
INSERT INTO promised
SELECT 'orders', 'EXECUTE ' || signature FROM functions WHERE proname IN ('quote_order', 'submit_order', 'submit_orders',
    'add_charge', 'pay_order', 'ship_order', 'confirm_order', 'cancel_order', 'extend_order', 'refund_order', 'refund_done',
    'refund_failed', 'release_refund', 'order_id', 'available_events')
UNION ALL SELECT 'orders', unnest(ARRAY['SELECT (order_id) orders', 'SELECT (order_no) orders', 'SELECT (metadata) orders',
    'UPDATE (metadata) orders'])
UNION ALL SELECT 'stock', 'EXECUTE ' || signature FROM functions WHERE proname ~ '_stock$' AND proname NOT IN ('audit_stock', 'fold_stock')
UNION ALL SELECT 'tasks', 'EXECUTE ' || signature FROM functions WHERE proname ~ '_(task|tasks|kind|batch|shards)$'
    OR proname IN ('try_lock', 'unlock')
UNION ALL SELECT 'sync', 'EXECUTE ' || signature FROM functions WHERE proname ~ '_sync$' OR proname IN ('replay_dead_letters', 'emit', 'resync')
UNION ALL SELECT 'read', 'EXECUTE ' || signature FROM functions WHERE proname IN ('audit', 'doctor', 'diagram', 'is_active',
    'worker_slots', 'timer_figures', 'open_reservations', 'counter_differences', 'modules', 'timer_driver_figures', 'task_claims',
    'task_state', 'batch_progress', 'task_lane_figures', 'next_slot', 'delivery_figures', 'sync_figures')
UNION ALL SELECT 'read', 'SELECT ' || relname FROM relations WHERE relkind <> 'S'
    AND relname NOT IN ('parts', 'counter_gate') AND relname !~ '^(stock_movements|task_queue|task_outcomes)_\d+$'
UNION ALL SELECT 'admin', 'EXECUTE ' || signature FROM functions WHERE proname IN ('define_machine', 'check_machine', 'add_effect',
    'drop_effect', 'attach', 'attach_report', 'detach', 'fire', 'create_coupon', 'alter_coupon', 'set_purchase_limit',
    'run_due', 'schedule_run_due', 'unschedule_run_due', 'server_options', 'fold_stock', 'expire_order', 'activate', 'deactivate')
UNION ALL SELECT part, 'USAGE schema' FROM unnest(ARRAY['orders', 'stock', 'tasks', 'sync', 'read', 'admin']) AS part;

-- nothing until granted
SELECT is_empty($$ SELECT pg_temp.rights('ordflow_nobody') $$, 'an ordinary role has no right of any kind');
SELECT is_empty($$
    SELECT signature, pg_temp.state_as('ordflow_nobody', format('%s ordflow.%I(%s)', verb, proname, nulls)) FROM functions
    WHERE NOT is_trigger
      AND pg_temp.state_as('ordflow_nobody', format('%s ordflow.%I(%s)', verb, proname, nulls)) IS DISTINCT FROM '42501'
$$, 'every function is refused to it (42501)');
SELECT is_empty($$
    SELECT relname FROM relations
    WHERE pg_temp.state_as('ordflow_nobody', format('SELECT * FROM ordflow.%I', relname)) IS DISTINCT FROM '42501'
$$, 'every table, view and sequence is refused to it (42501)');

-- the schema alone opens nothing
GRANT USAGE ON SCHEMA ordflow TO ordflow_nobody;
SELECT is_empty($$
    SELECT signature, pg_temp.state_as('ordflow_nobody', format('%s ordflow.%I(%s)', verb, proname, nulls)) FROM functions
    WHERE NOT is_trigger
      AND pg_temp.state_as('ordflow_nobody', format('%s ordflow.%I(%s)', verb, proname, nulls)) IS DISTINCT FROM '42501'
$$, 'with USAGE on the schema every function is still refused (42501)');
SELECT is_empty($$
    SELECT relname, command FROM relations, unnest(ARRAY['SELECT * FROM ordflow.%I', 'DELETE FROM ordflow.%I',
        'TRUNCATE ordflow.%I', 'LOCK TABLE ordflow.%I', 'INSERT INTO ordflow.%I DEFAULT VALUES',
        'ALTER TABLE ordflow.%I DISABLE TRIGGER ALL', 'DROP TABLE ordflow.%I']) AS command
    WHERE relkind IN ('r', 'p')
      AND pg_temp.state_as('ordflow_nobody', format(command, relname)) IS DISTINCT FROM '42501'
$$, 'and so is every statement on every table');
SELECT is_empty($$
    SELECT relname FROM relations WHERE relkind = 'S'
       AND pg_temp.state_as('ordflow_nobody', format('SELECT nextval(%L)', 'ordflow.' || relname)) IS DISTINCT FROM '42501'
$$, 'and every sequence');
CREATE TABLE pg_temp.own (id int);
GRANT ALL ON pg_temp.own TO ordflow_nobody;
ALTER TABLE pg_temp.own OWNER TO ordflow_nobody;
SELECT is_empty($$
    SELECT signature FROM functions WHERE is_trigger AND pg_temp.state_as('ordflow_nobody',
        format('CREATE TRIGGER t BEFORE UPDATE ON pg_temp.own FOR EACH ROW EXECUTE FUNCTION ordflow.%I()', proname))
        IS DISTINCT FROM '42501'
$$, 'and no trigger function can be put on a table of one''s own');
SELECT is(pg_temp.state_as('ordflow_nobody', 'CREATE TABLE ordflow.mine (id int)'), '42501', 'and nothing can be created');
REVOKE USAGE ON SCHEMA ordflow FROM ordflow_nobody;

-- who may grant
SELECT is(pg_temp.state_as('ordflow_nobody', $$ SELECT ordflow.grant_access('ordflow_nobody', 'admin') $$), '42501',
    'grant_access is refused to an ordinary role');
SELECT ordflow.grant_access('ordflow_somebody', part) FROM unnest(ARRAY['orders', 'stock', 'tasks', 'sync', 'read', 'admin']) AS part \g /dev/null
SELECT is(pg_temp.state_as('ordflow_somebody', $$ SELECT ordflow.grant_access('ordflow_nobody', 'read') $$), '42501',
    'and to a role that holds every part');
SELECT is(pg_temp.state_as('ordflow_somebody', $$ SELECT ordflow.revoke_access('ordflow_somebody', 'read') $$), '42501',
    'as is revoke_access');
SET LOCAL client_min_messages = error;
SELECT pg_temp.state_as('ordflow_somebody', 'GRANT EXECUTE ON FUNCTION ordflow.run_due(timestamptz, int) TO ordflow_nobody')
    \g /dev/null
RESET client_min_messages;
SELECT is_empty($$ SELECT pg_temp.rights('ordflow_nobody') $$, 'so the other role has got nothing, nor what is handed on');
SELECT throws_ok($$ SELECT ordflow.grant_access('ordflow_nobody', 'everything') $$, '22023', NULL, 'an unknown part is 22023');
SELECT throws_ok($$ SELECT ordflow.revoke_access('ordflow_nobody', 'Orders') $$, '22023', NULL, 'its case counts');
SELECT throws_ok($$ SELECT ordflow.grant_access('ordflow_nobody', '') $$, '22023', NULL, 'an empty part is 22023');
SELECT throws_ok($$ SELECT ordflow.grant_access(NULL, 'read') $$, '22004', NULL, 'a role that is NULL is 22004');
SELECT throws_ok($$ SELECT ordflow.grant_access('ordflow_nobody', NULL) $$, '22004', NULL, 'a part that is NULL is 22004');
SELECT throws_ok($$ SELECT ordflow.grant_access('ordflow_unheard_of', 'read') $$, '42704', NULL, 'an unknown role is 42704');

-- all parts together, and all of them taken back
SELECT bag_eq($$ SELECT pg_temp.rights('ordflow_somebody') $$, $$
    SELECT DISTINCT privilege FROM promised WHERE privilege NOT IN ('SELECT (order_id) orders', 'SELECT (order_no) orders',
        'SELECT (metadata) orders')
$$, 'all parts give what they promise, and nothing else');
SELECT set_hasnt($$ SELECT pg_temp.rights('ordflow_somebody') $$, $$
    SELECT 'EXECUTE ' || signature FROM functions WHERE is_trigger
$$, 'no part gives a trigger function');
SELECT ordflow.revoke_access('ordflow_somebody', 'read') \g /dev/null
SELECT bag_eq($$ SELECT pg_temp.rights('ordflow_somebody') $$,
    $$ SELECT DISTINCT privilege FROM promised WHERE part <> 'read' $$, 'taking back "read" leaves the others whole');
SELECT ordflow.grant_access('ordflow_somebody', 'read') \g /dev/null
SELECT ordflow.revoke_access('ordflow_somebody', 'orders') \g /dev/null
SELECT bag_eq($$ SELECT pg_temp.rights('ordflow_somebody') $$,
    $$ SELECT DISTINCT privilege FROM promised WHERE part <> 'orders' $$, 'taking back "orders" leaves the others whole');
SELECT ordflow.revoke_access('ordflow_somebody', part) FROM unnest(ARRAY['stock', 'tasks', 'sync', 'read', 'admin']) AS part \g /dev/null
SELECT is_empty($$ SELECT pg_temp.rights('ordflow_somebody') $$, 'taking back all leaves nothing');

-- each part alone
CREATE FUNCTION pg_temp.part_alone(part text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ordflow.grant_access('ordflow_somebody', part);
    RETURN NEXT bag_eq('SELECT pg_temp.rights(''ordflow_somebody'')',
        format('SELECT privilege FROM promised WHERE part = %L', part), format('"%s" alone is what it promises', part));
    RETURN NEXT is_empty(format($q$
        SELECT signature FROM functions WHERE NOT is_trigger
           AND (pg_temp.state_as('ordflow_somebody', format('%%s ordflow.%%I(%%s)', verb, proname, nulls)) = '42501')
            = (EXISTS (SELECT FROM promised WHERE part = %L AND privilege = 'EXECUTE ' || signature))
    $q$, part), format('"%s": calls of all functions are let through and refused as promised', part));
    PERFORM ordflow.grant_access('ordflow_somebody', part);
    PERFORM ordflow.revoke_access('ordflow_somebody', part);
    RETURN NEXT is_empty('SELECT pg_temp.rights(''ordflow_somebody'')', format('"%s" is taken back', part));
END $$;
SELECT pg_temp.part_alone(part) FROM unnest(ARRAY['orders', 'stock', 'tasks', 'sync', 'read', 'admin']) AS part;
SELECT is(pg_temp.state_as('postgres', $$ SELECT ordflow.revoke_access('ordflow_somebody', 'admin') $$), NULL,
    'taking back what was never granted is no error');

-- a member of a granted role works with its rights
GRANT ordflow_somebody TO ordflow_nobody;
SELECT ordflow.grant_access('ordflow_somebody', 'stock') \g /dev/null
SELECT is(pg_temp.state_as('ordflow_nobody', $$ SELECT ordflow.receive_stock('pgtap-member', 1) $$), NULL,
    'a member of a granted role may use it');

-- of the rows of orders an application may change the metadata, and nothing else
SELECT ordflow.grant_access('ordflow_somebody', 'orders') \g /dev/null
SELECT ordflow.submit_order('pgtap', '[{"sku": "pgtap-member", "quantity": 1, "unit_price": 1}]', order_no => 'pgtap-metadata')
    \g /dev/null
SELECT is(pg_temp.state_as('ordflow_somebody', $$
    UPDATE ordflow.orders SET metadata = '{"gift": true}' WHERE order_no = 'pgtap-metadata' $$), NULL, 'metadata may be updated');
SELECT is((SELECT metadata FROM ordflow.orders WHERE order_no = 'pgtap-metadata'), '{"gift": true}', 'and stand updated');
SELECT is_empty($$
    SELECT attname FROM pg_attribute WHERE attrelid = 'ordflow.orders'::regclass AND attnum > 0 AND attname <> 'metadata'
       AND pg_temp.state_as('ordflow_somebody', format('UPDATE ordflow.orders SET %1$I = %1$I WHERE order_no = ''pgtap-metadata''',
           attname)) IS DISTINCT FROM '42501'
$$, 'every other column of orders is refused (42501)');
SELECT is(pg_temp.state_as('ordflow_somebody', 'DELETE FROM ordflow.orders'), '42501', 'so is DELETE');
SELECT is(pg_temp.state_as('ordflow_somebody', $$ INSERT INTO ordflow.orders (order_no) VALUES ('pgtap-2') $$), '42501', 'and INSERT');
SELECT is(pg_temp.state_as('ordflow_somebody', $$ UPDATE ordflow.stock SET on_hand = 99 $$), '42501', 'and stock');
SELECT is(pg_temp.state_as('ordflow_somebody', $$ SELECT payable FROM ordflow.orders $$), '42501',
    'without "read" an application sees no other column of orders');

-- parts of later versions are not promised yet
SELECT is_empty($$ SELECT DISTINCT part FROM ordflow.parts EXCEPT SELECT part FROM promised $$, 'there is no other part');

SELECT * FROM finish();
ROLLBACK;
