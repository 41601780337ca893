-- servers and user mappings take the options of their module, and refuse the rest by name
-- needs: nothing
SET client_min_messages = error;	-- where a module is not installed, CREATE SERVER warns
\set VERBOSITY sqlstate
CREATE SERVER server_options_cache FOREIGN DATA WRAPPER ordflow_redis
	OPTIONS (host 'cache.example', port '6380', database '2', prefix 'shop', tls 'yes', timeout '3');
CREATE SERVER server_options_mq FOREIGN DATA WRAPPER ordflow_amqp
	OPTIONS (host 'mq.example', port '5671', vhost '/shop', prefix 'shop', heartbeat '1', tls 'off',
		tls_ca '/etc/ssl/ca.pem', timeout '60');
CREATE SERVER server_options_plain FOREIGN DATA WRAPPER ordflow_amqp;
CREATE USER MAPPING FOR PUBLIC SERVER server_options_cache OPTIONS (username 'shop', password 'p');
CREATE USER MAPPING FOR PUBLIC SERVER server_options_mq OPTIONS (password_file '/etc/p');
ALTER USER MAPPING FOR PUBLIC SERVER server_options_mq OPTIONS (DROP password_file, password_env 'P');
SELECT srvname, umoptions FROM pg_user_mappings WHERE srvname ~ '^server_options' ORDER BY 1;

-- unknown names, also those of another module and of another place
ALTER SERVER server_options_cache OPTIONS (ADD hots 'h');
ALTER SERVER server_options_cache OPTIONS (ADD vhost '/');
ALTER SERVER server_options_mq OPTIONS (ADD database '1');
ALTER SERVER server_options_cache OPTIONS (ADD password 'p');
CREATE USER MAPPING FOR CURRENT_USER SERVER server_options_cache OPTIONS (host 'h');
ALTER FOREIGN DATA WRAPPER ordflow_redis OPTIONS (ADD host 'h');
\set VERBOSITY terse
ALTER SERVER server_options_plain OPTIONS (ADD hots 'h');
\set VERBOSITY default
ALTER SERVER server_options_plain OPTIONS (ADD username 'u');
\set VERBOSITY sqlstate

-- values
ALTER SERVER server_options_cache OPTIONS (SET port '0');
ALTER SERVER server_options_cache OPTIONS (SET port '65536');
ALTER SERVER server_options_cache OPTIONS (SET port '6379x');
ALTER SERVER server_options_cache OPTIONS (SET port '99999999999999999999');
ALTER SERVER server_options_cache OPTIONS (SET database '-1');
ALTER SERVER server_options_cache OPTIONS (SET timeout '0');
ALTER SERVER server_options_cache OPTIONS (SET timeout '61');
ALTER SERVER server_options_cache OPTIONS (SET tls 'maybe');
ALTER SERVER server_options_cache OPTIONS (ADD tls_ca 'ca.pem');
ALTER SERVER server_options_cache OPTIONS (SET host '');
ALTER SERVER server_options_mq OPTIONS (SET heartbeat '0');
DO $$ BEGIN
	EXECUTE format('ALTER SERVER server_options_cache OPTIONS (SET prefix %L)', repeat('x', 256));
END $$;
DO $$ BEGIN
	EXECUTE format('ALTER USER MAPPING FOR PUBLIC SERVER server_options_cache OPTIONS (SET password %L)',
		repeat('x', 8193));
END $$;
SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname ~ '^server_options' ORDER BY 1;

-- one way to a password
CREATE USER MAPPING FOR CURRENT_USER SERVER server_options_mq OPTIONS (password 'p', password_env 'P');
ALTER USER MAPPING FOR PUBLIC SERVER server_options_mq OPTIONS (ADD password_file '/etc/p');
ALTER USER MAPPING FOR PUBLIC SERVER server_options_cache OPTIONS (ADD password_env 'P');

-- no error tells a secret
\set VERBOSITY default
ALTER USER MAPPING FOR PUBLIC SERVER server_options_cache OPTIONS (SET password '');
DROP SERVER server_options_cache, server_options_mq, server_options_plain CASCADE;
