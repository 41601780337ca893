-- where there is no server of ours, the error says which is meant; pg_cron is none of ours
CREATE FOREIGN DATA WRAPPER server_none_wrapper;
CREATE SERVER server_none FOREIGN DATA WRAPPER server_none_wrapper;
\set VERBOSITY sqlstate
SELECT * FROM ordflow.server_options('server_none_at_all');
SELECT * FROM ordflow.server_options('server_none');
SELECT * FROM ordflow.server_options(NULL);
SELECT ordflow.schedule_run_due();
SELECT ordflow.schedule_run_due(NULL);
SELECT ordflow.schedule_run_due('');
SELECT ordflow.unschedule_run_due();
SELECT module, package FROM ordflow.modules() ORDER BY 1;

-- whoever may not use a server is not told its options
SET client_min_messages = error;
CREATE SERVER server_none_cache FOREIGN DATA WRAPPER ordflow_redis;
CREATE ROLE server_none_clerk;
SELECT ordflow.grant_access('server_none_clerk', 'admin');
SET ROLE server_none_clerk;
SELECT * FROM ordflow.server_options('server_none_cache');
RESET ROLE;
DROP SERVER server_none_cache;
DROP FOREIGN DATA WRAPPER server_none_wrapper CASCADE;
SELECT ordflow.revoke_access('server_none_clerk', 'admin');
DROP ROLE server_none_clerk;
