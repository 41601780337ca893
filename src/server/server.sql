/* src/server/server.sql: other systems, as foreign servers */

CREATE FUNCTION ordflow.redis_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';
COMMENT ON FUNCTION ordflow.redis_options(text[], oid) IS
'Validator of the wrapper ordflow_redis: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a file or an environment variable named by a role that is no member of pg_read_server_files.';

CREATE FUNCTION ordflow.amqp_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';
COMMENT ON FUNCTION ordflow.amqp_options(text[], oid) IS
'Validator of the wrapper ordflow_amqp: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a file or an environment variable named by a role that is no member of pg_read_server_files.';

CREATE FUNCTION ordflow.postgres_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';
COMMENT ON FUNCTION ordflow.postgres_options(text[], oid) IS
'Validator of the wrapper ordflow_postgres: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a file or an environment variable named by a role that is no member of pg_read_server_files, and for password_required switched off by a role that is no superuser.';

CREATE FUNCTION ordflow.script_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';
COMMENT ON FUNCTION ordflow.script_options(text[], oid) IS
'Validator of the wrapper ordflow_script: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a path named by a role that is no member of pg_read_server_files and pg_write_server_files.';

CREATE FOREIGN DATA WRAPPER ordflow_redis NO HANDLER VALIDATOR ordflow.redis_options;
COMMENT ON FOREIGN DATA WRAPPER ordflow_redis IS
'Redis. Servers: host, port, database, prefix, tls, tls_ca, timeout (seconds, at most 60); user mappings: username and one of password, password_file, password_env.';

CREATE FOREIGN DATA WRAPPER ordflow_amqp NO HANDLER VALIDATOR ordflow.amqp_options;
COMMENT ON FOREIGN DATA WRAPPER ordflow_amqp IS
'RabbitMQ. Servers: host, port, vhost, prefix, heartbeat (seconds), timeout (seconds, at most 60), tls, tls_ca; user mappings: username and one of password, password_file, password_env.';

CREATE FOREIGN DATA WRAPPER ordflow_postgres NO HANDLER VALIDATOR ordflow.postgres_options;
COMMENT ON FOREIGN DATA WRAPPER ordflow_postgres IS
'Another PostgreSQL. Servers: host, port, dbname, schema, prefix, timeout (seconds, at most 60), sslmode, sslrootcert, sslcert, sslkey, password_required; user mappings: user and one of password, password_file, password_env.';

CREATE FOREIGN DATA WRAPPER ordflow_script NO HANDLER VALIDATOR ordflow.script_options;
COMMENT ON FOREIGN DATA WRAPPER ordflow_script IS
'Files that syncs write to, and that fail as a script says: for tests, and to copy. Servers: path (a directory, of one server alone), timeout (seconds, at most 60).';

CREATE FUNCTION ordflow.modules()
RETURNS TABLE (module text, installed boolean, package text)
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_modules';
COMMENT ON FUNCTION ordflow.modules() IS
'The modules of this version, one for each wrapper ordflow_<module>: whether its file is there, and the Debian package to build it with, by make && make install (NULL: none is needed).';

CREATE FUNCTION ordflow.server_options(server name)
RETURNS TABLE (option text, value text)
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_options';
COMMENT ON FUNCTION ordflow.server_options(name) IS
'What would be used by the caller for the server: its options, those of his user mapping, else of PUBLIC''s, and the defaults; a password is read from where it is and shown as asterisks. Raises OF004 for no such server, 42809 for one of another wrapper, 42501, OF007 where the module is not installed, OF011 where it is of another version, and what reading the password raises.';
