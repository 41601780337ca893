-- test/pgtap/hostile_callers.sql: names, temporary objects and settings of the caller mean nothing inside ordflow
BEGIN;
SELECT plan(25);

CREATE ROLE ordflow_evil;
SELECT ordflow.grant_access('ordflow_evil', part) FROM unnest(ARRAY['orders', 'stock', 'tasks', 'sync', 'read', 'admin']) AS part \g /dev/null
CREATE SCHEMA evil AUTHORIZATION ordflow_evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
SET ROLE ordflow_evil;
CREATE TABLE evil.seen (via text, who text);

-- for each of these functions of pg_catalog one of the same arguments and result that tells who called it
CREATE FUNCTION evil.shadow(function regprocedure) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    SELECT proname, proretset, format_type(prorettype, NULL) AS result, oidvectortypes(proargtypes) AS arguments
    INTO p FROM pg_proc WHERE oid = function;
    EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS %L', p.proname, p.arguments,
        CASE WHEN p.proretset THEN 'SETOF' END, p.result,
        format('BEGIN INSERT INTO evil.seen VALUES (%L, current_user); RETURN %s; END', p.proname,
            CASE WHEN p.proretset THEN '' ELSE 'NULL' END));
END $$;
SELECT evil.shadow(f) FROM unnest(ARRAY['now()', 'clock_timestamp()', 'lower(text)', 'quote_literal(text)', 'format(text)',
    'substr(text, int)', 'jsonb_array_elements(jsonb)', 'jsonb_array_length(jsonb)', 'round(numeric, int)',
    'to_regprocedure(text)', 'current_setting(text)', 'nextval(regclass)', 'array_length(anyarray, int)', 'cardinality(anyarray)',
    'obj_description(oid, name)', 'generate_series(int, int)', 'has_function_privilege(oid, text, text)',
    'aclexplode(aclitem[])', 'text(name)', 'int8(numeric)']::regprocedure[]) AS f \g /dev/null
CREATE FUNCTION evil.eq_text(text, text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('text =', current_user); RETURN NULL; END $$;
CREATE FUNCTION evil.eq_int8(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('bigint =', current_user); RETURN NULL; END $$;
CREATE FUNCTION evil.le_time(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('timestamptz <=', current_user); RETURN NULL; END $$;
CREATE FUNCTION evil.plus(numeric, numeric) RETURNS numeric LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('numeric +', current_user); RETURN 0; END $$;
CREATE FUNCTION evil.minus(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('bigint -', current_user); RETURN 1000000; END $$;
CREATE FUNCTION evil.field(jsonb, text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('jsonb ->>', current_user); RETURN NULL; END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.eq_text, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR evil.= (FUNCTION = evil.eq_int8, LEFTARG = bigint, RIGHTARG = bigint);
CREATE OPERATOR evil.<= (FUNCTION = evil.le_time, LEFTARG = timestamptz, RIGHTARG = timestamptz);
CREATE OPERATOR evil.+ (FUNCTION = evil.plus, LEFTARG = numeric, RIGHTARG = numeric);
CREATE OPERATOR evil.- (FUNCTION = evil.minus, LEFTARG = bigint, RIGHTARG = bigint);
CREATE OPERATOR evil.->> (FUNCTION = evil.field, LEFTARG = jsonb, RIGHTARG = text);

-- temporary tables, views and types with the names of ours and of the catalogs, found before these by an unpinned path
CREATE FUNCTION evil.told() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO evil.seen VALUES ('temp ' || TG_TABLE_NAME, current_user); RETURN NULL; END $$;
DO $$
DECLARE
    r text;
BEGIN
    FOR r IN SELECT relname FROM pg_class WHERE relnamespace = 'ordflow'::regnamespace AND relkind IN ('r', 'p')
                 AND has_table_privilege(oid, 'SELECT') LOOP
        EXECUTE format('CREATE TEMP TABLE %I (LIKE ordflow.%1$I)', r);
        EXECUTE format('CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON pg_temp.%I EXECUTE FUNCTION evil.told()', r);
    END LOOP;
END $$;
CREATE TEMP VIEW stock_levels AS SELECT 'x' AS sku, evil.lower('X') AS location, 1 AS on_hand;
CREATE TEMP VIEW pg_extension AS SELECT 'ordflow' AS extname, '9.9' AS extversion FROM evil.lower('X');
CREATE TEMP TABLE pg_trigger (LIKE pg_catalog.pg_trigger);
CREATE TEMP TABLE pg_proc (proname name);
CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK (evil.lower('X') IS NULL);
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (evil.lower('X') IS NULL);
RESET ROLE;

-- A statement of the caller, with his path and settings. Its own text uses pg_catalog's names in full.
CREATE FUNCTION public.evil_call(sql pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
    result pg_catalog.text;
BEGIN
    PERFORM pg_catalog.set_config('role', 'ordflow_evil', true);
    PERFORM pg_catalog.set_config('search_path', 'evil, pg_temp, pg_catalog, public', true);
    EXECUTE sql INTO result;
    PERFORM pg_catalog.set_config('search_path', 'public, pg_catalog, pg_temp', true);
    PERFORM pg_catalog.set_config('role', 'none', true);
    RETURN result;
END $$;

CREATE FUNCTION public.evil_life(tag pg_catalog.text) RETURNS SETOF pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
    id pg_catalog.text;
    lines pg_catalog.text := pg_catalog.format('[{"sku": "%s", "quantity": 2, "unit_price": "1.25"}]', tag);
    coupon pg_catalog.text := pg_catalog.upper(tag);
BEGIN
    RETURN NEXT is(evil_call(format('SELECT ordflow.receive_stock(%L, 10)', tag))::pg_catalog.text, '10', tag || ': receive');
    PERFORM evil_call(format('SELECT ordflow.create_coupon(%L, ''percent'', 50, ''{"usage_limit": 5}'')', coupon));
    PERFORM evil_call(format('SELECT ordflow.set_purchase_limit(%L, 9)', tag));
    RETURN NEXT is(evil_call(format('SELECT (ordflow.quote_order(''c'', %L, %L) OPERATOR(pg_catalog.->>) ''payable''::pg_catalog.text)',
        lines, coupon)), '1.25', tag || ': quote');
    id := evil_call(format('SELECT ordflow.submit_order(''c'', %L, %L, %L, order_no => %3$L)', lines, coupon, tag));
    RETURN NEXT is(evil_call(format('SELECT ordflow.pay_order(%s, ''visa'', %L, 1.25)', id, tag)), 'applied', tag || ': pay');
    RETURN NEXT is(evil_call(format('SELECT ordflow.ship_order(%s, ''dhl'', %L)', id, tag)), 'applied', tag || ': ship');
    RETURN NEXT is(evil_call(format('SELECT ordflow.confirm_order(%s)', id)), 'applied', tag || ': confirm');
    PERFORM evil_call(format('SELECT ordflow.refund_order(%s, ''[{"line": 1, "quantity": 1}]'')', id));
    RETURN NEXT is(evil_call(format('SELECT ordflow.available_stock(%L)', tag)), '9', tag || ': available');
    PERFORM evil_call(format('SELECT ordflow.reserve_stock(%L, ''[{"sku": "%s", "quantity": 4}]'')', 'cart ' || tag, tag));
    PERFORM evil_call(format('SELECT ordflow.release_stock(%L)', 'cart ' || tag));
    PERFORM evil_call(format('SELECT ordflow.set_stock(%L, 20, ''count'')', tag));
    PERFORM evil_call(format('SELECT ordflow.submit_order(''c'', %L, pay_within => ''1 us'')', lines));
    RETURN NEXT is(evil_call('SELECT ordflow.run_due()'), '1', tag || ': run_due');
    RETURN NEXT is(evil_call(format('SELECT available FROM ordflow.stock_levels WHERE sku OPERATOR(pg_catalog.=) %L', tag)), '20',
        tag || ': the view');
    PERFORM evil_call('SELECT ordflow.diagram()');
    PERFORM evil_call('SELECT pg_catalog.count(*) FROM ordflow.doctor()');
    PERFORM evil_call('SELECT pg_catalog.count(*) FROM ordflow.reservations');
    PERFORM evil_call('SELECT pg_catalog.count(*) FROM ordflow.check_machine(''order'')');
    PERFORM evil_call(format('SELECT pg_catalog.count(*) FROM ordflow.available_events(%s::pg_catalog.int8)', id));
    RETURN NEXT is(evil_call(format('SELECT pg_catalog.count(*) FROM ordflow.audit() WHERE object OPERATOR(pg_catalog.~) %L', tag)), '0',
        tag || ': audit');
END $$;

SET LOCAL search_path = public, pg_catalog, pg_temp;
SELECT is(public.evil_call($$ SELECT pg_catalog.concat(lower('A'), 3::bigint - 2::bigint, (SELECT pg_catalog.count(*) FROM pg_proc)) $$),
    '10000000', 'the traps are set: names of the caller are found first');
DELETE FROM evil.seen;
SELECT public.evil_life('pgtap-names');
SELECT is_empty('SELECT DISTINCT via, who FROM evil.seen', 'no function, operator or temporary object of the caller was used');
SELECT is_empty($$ SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r' AND relname <> 'seen'
    AND pg_relation_size(oid) > 0 AND pg_get_userbyid(relowner) = 'ordflow_evil' $$, 'no temporary table was written');

-- settings that change what statements mean
SET LOCAL standard_conforming_strings = off;
SET LOCAL escape_string_warning = off;
SET LOCAL transform_null_equals = on;
SET LOCAL array_nulls = off;
SET LOCAL row_security = off;
SET LOCAL quote_all_identifiers = on;
SET LOCAL datestyle = 'German, DMY';
SET LOCAL intervalstyle = 'sql_standard';
SET LOCAL timezone = 'Asia/Kathmandu';
SET LOCAL extra_float_digits = -15;
SET LOCAL bytea_output = 'escape';
SET LOCAL check_function_bodies = off;
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_seqscan = off;
SET LOCAL default_text_search_config = 'simple';
SELECT public.evil_life('pgtap-settings');
SELECT is_empty('SELECT DISTINCT via, who FROM evil.seen', 'with all these settings too');

-- before the call somebody else's rights are no nearer either
SELECT throws_ok($$ SELECT public.evil_call('SELECT ordflow.grant_access(''ordflow_evil'', ''read'')') $$, '42501', NULL,
    'and grant_access stays closed');
SELECT throws_ok($$ SELECT public.evil_call('SELECT ordflow.add_effect(''order'', ''pay'', ''pg_catalog.pg_reload_conf()'')') $$,
    '42804', NULL, 'no function of another kind becomes an effect');
SELECT throws_ok($$ SELECT public.evil_call('ALTER FUNCTION ordflow.run_due(timestamptz, int) RESET search_path') $$, '42501', NULL,
    'the pinned path stays pinned');

SELECT * FROM finish();
ROLLBACK;
