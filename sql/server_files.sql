-- files and the environment of the server's machine are for members of pg_read_server_files
-- needs: nothing
SET client_min_messages = error;
\set VERBOSITY sqlstate
CREATE ROLE server_files_clerk;
GRANT USAGE ON FOREIGN DATA WRAPPER ordflow_redis TO server_files_clerk;
SET ROLE server_files_clerk;
CREATE SERVER server_files FOREIGN DATA WRAPPER ordflow_redis OPTIONS (tls_ca '/etc/ssl/ca.pem');
CREATE SERVER server_files FOREIGN DATA WRAPPER ordflow_redis;
CREATE USER MAPPING FOR server_files_clerk SERVER server_files OPTIONS (password_file '/etc/passwd');
CREATE USER MAPPING FOR server_files_clerk SERVER server_files OPTIONS (password_env 'PGPASSWORD');
CREATE USER MAPPING FOR server_files_clerk SERVER server_files OPTIONS (password 'p');
ALTER USER MAPPING FOR server_files_clerk SERVER server_files
	OPTIONS (DROP password, ADD password_file '/etc/passwd');
ALTER SERVER server_files OPTIONS (ADD tls_ca '/etc/passwd');

-- one that a superuser has made can be taken away, and not be turned to another file
RESET ROLE;
ALTER USER MAPPING FOR server_files_clerk SERVER server_files
	OPTIONS (DROP password, ADD password_file '/etc/hostname');
SET ROLE server_files_clerk;
ALTER USER MAPPING FOR server_files_clerk SERVER server_files OPTIONS (SET password_file '/etc/passwd');
ALTER USER MAPPING FOR server_files_clerk SERVER server_files OPTIONS (ADD username 'u');
ALTER USER MAPPING FOR server_files_clerk SERVER server_files OPTIONS (DROP password_file, password 'q');
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'server_files';

-- a member may
RESET ROLE;
GRANT pg_read_server_files TO server_files_clerk;
SET ROLE server_files_clerk;
ALTER USER MAPPING FOR server_files_clerk SERVER server_files
	OPTIONS (DROP password, ADD password_file '/etc/hostname');
ALTER SERVER server_files OPTIONS (ADD tls_ca '/etc/ssl/ca.pem');
RESET ROLE;
SELECT umoptions, srvoptions FROM pg_user_mappings JOIN pg_foreign_server s ON s.oid = srvid
WHERE s.srvname = 'server_files';
DROP SERVER server_files CASCADE;
REVOKE ALL ON FOREIGN DATA WRAPPER ordflow_redis FROM server_files_clerk;
DROP ROLE server_files_clerk;
