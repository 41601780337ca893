-- Guards and effects run as the role that registered them, in a security-restricted operation: they gain nothing.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA eff_res;
CREATE ROLE regress_eff_evil;
GRANT USAGE, CREATE ON SCHEMA eff_res TO regress_eff_evil;
SELECT ordflow.grant_access('regress_eff_evil', 'admin');
SET ROLE regress_eff_evil;
CREATE TABLE eff_res.log (line text);
CREATE FUNCTION eff_res.who(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO eff_res.log VALUES (format('%s, path %s', current_user, current_setting('search_path')));
END $$;
CREATE FUNCTION eff_res.try(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE a->>'sql';
EXCEPTION WHEN OTHERS THEN
  INSERT INTO eff_res.log VALUES (format('%s: %s', SQLSTATE, a->>'sql'));
END $$;
SELECT ordflow.add_effect('order', 'cancel', 'eff_res.who(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'cancel', 'eff_res.try(jsonb,jsonb)');
RESET ROLE;

CREATE TABLE eff_res.secret (line text);
REVOKE ALL ON eff_res.secret FROM PUBLIC;
SELECT ordflow.receive_stock('eff_res', 20);
CREATE FUNCTION pg_temp.attack(sql text) RETURNS void LANGUAGE sql AS $$
SELECT ordflow.fire('ordflow.orders', ordflow.submit_order(NULL, '[{"sku": "eff_res", "quantity": 1, "unit_price": 1}]')::text,
  'cancel', jsonb_build_object('sql', sql)) $$;
SELECT pg_temp.attack('SELECT 1');
SELECT pg_temp.attack('SELECT line FROM eff_res.secret');
SELECT pg_temp.attack('SET ROLE postgres');
SELECT pg_temp.attack('RESET ROLE');
SELECT pg_temp.attack('SET SESSION AUTHORIZATION DEFAULT');
SELECT pg_temp.attack('SELECT set_config(''role'', session_user, false)');
SELECT pg_temp.attack('CREATE TEMP TABLE orders (x int)');
SELECT pg_temp.attack('DECLARE c CURSOR WITH HOLD FOR SELECT 1');
SELECT pg_temp.attack('UPDATE ordflow.orders SET payable = 0');
SELECT pg_temp.attack('PREPARE p AS SELECT 1');
SELECT line FROM eff_res.log WHERE line NOT LIKE 'regress_eff_evil, path pg_catalog, pg_temp';
SELECT count(*) FROM eff_res.log WHERE line LIKE 'regress_eff_evil, path pg_catalog, pg_temp';
SELECT current_user = session_user;
SHOW search_path;
SELECT count(*) FROM pg_class WHERE relname = 'orders' AND relpersistence = 't';

-- settings that an effect makes are its own
SELECT pg_temp.attack('SET ordflow.actor = ''somebody else''');
SHOW ordflow.actor;
SELECT DISTINCT actor = session_user FROM ordflow.order_history WHERE event = 'cancel' AND at >= now();
ROLLBACK;
