# Syncs whose source is a foreign table: of another PostgreSQL, and of MariaDB. Nobody here sees who
# writes there, so the option overlap goes back behind what was pulled. And one that pg_cron runs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sessions qw(session act);
use Test::More;
use Time::HiRes qw(time usleep);

use constant PATIENCE => 60;	# seconds, for MariaDB to start, and for pg_cron's next minute

my $node = PostgreSQL::Test::Cluster->new('main');
my $has_cron = extension('pg_cron');
$node->init;
configure($node, 'wal_level = minimal', 'max_wal_senders = 0', 'max_worker_processes = 20',
	$has_cron ? ("shared_preload_libraries = 'ordflow, pg_cron'",
		"cron.database_name = 'postgres'", sprintf("cron.host = '%s'", $node->host)) : ());
$node->start;
my $directory = PostgreSQL::Test::Utils::tempdir_short();
my $maria;

answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA shop');
slowly_begins();
cron_begins() if $has_cron;
SKIP:
{
	skip('the extension postgres_fdw is not installed', 1) unless extension('postgres_fdw');
	other_postgres();
}
SKIP:
{
	skip('the extension mysql_fdw is not installed', 1) unless extension('mysql_fdw');
	skip('mariadb-server is not installed', 1) unless program('mariadbd', 'mariadb-install-db');
	mariadb();
}
SKIP:
{
	skip('the extension pg_cron is not installed', 1) unless $has_cron;
	cron_ends();
}
slowly_ends();
done_testing();

# ---- what the tests are made of ----

sub extension
{
	my ($name) = @_;
	return -e $node->config_data('--sharedir') . "/extension/$name.control";
}

# Are all of them there?
sub program
{
	my (@names) = @_;
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
	return @names == grep {
		my $name = $_;
		grep { -x "$_/$name" } split /:/, $ENV{PATH}
	} @names;
}

sub pull
{
	my ($name) = @_;
	return answer($node, "SELECT ordflow.run_sync('$name')");
}

sub copy_is
{
	my ($table, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(answer($node, "SELECT coalesce(string_agg(id || ':' || v, ' ' ORDER BY id), '')
		FROM shop.$table"), $expected, $name);
}

# ---- a schedule between whose times the process goes ----

sub slowly_begins
{
	answer($node, q(CREATE TABLE shop.slow (id int PRIMARY KEY, at timestamptz DEFAULT now());
		CREATE TABLE shop.slow_copy (id int PRIMARY KEY, at timestamptz,
			pulled timestamptz DEFAULT clock_timestamp());
		SELECT ordflow.create_sync('slow', 'shop.slow', target => 'shop.slow_copy',
			mode => 'scheduled', options => '{"cursor": "at", "schedule": "20 seconds"}');
		INSERT INTO shop.slow VALUES (1)));
	return;
}

sub slowly_ends
{
	becomes($node, 'SELECT count(*) FROM shop.slow_copy', 1, 'every 20 seconds: at first');
	answer($node, 'INSERT INTO shop.slow VALUES (2)');
	becomes($node, 'SELECT count(*) FROM shop.slow_copy', 2, 'every 20 seconds: and again');
	is(answer($node, q(SELECT bool_and(extract(second FROM pulled)::int % 20 < 5)
		FROM shop.slow_copy)), 't', 'every 20 seconds: on time');
	return;
}

# ---- pg_cron ----

sub cron_begins
{
	answer($node, q(CREATE EXTENSION pg_cron;
		CREATE TABLE shop.daily (id int PRIMARY KEY, v int);
		CREATE TABLE shop.daily_copy (id int PRIMARY KEY, v int);
		SELECT ordflow.create_sync('daily', 'shop.daily', target => 'shop.daily_copy',
			mode => 'full')));
	pull('daily');
	answer($node, q(INSERT INTO shop.daily VALUES (1, 1);
		SELECT cron.schedule('daily', '* * * * *', $$SELECT ordflow.run_sync('daily')$$)));
	return;
}

sub cron_ends
{
	my $until = time + PATIENCE;
	usleep(200_000)
	  while answer($node, 'SELECT count(*) FROM shop.daily_copy') eq '0' && time < $until;
	copy_is('daily_copy', '1:1', 'pg_cron runs a sync');
	return;
}

# ---- PostgreSQL ----

sub other_postgres
{
	my $far = server('far');
	my ($host, $port) = ($far->host, $far->port);
	my $user = answer($far, 'SELECT current_user');
	answer($far,
		q(CREATE TABLE item (id int PRIMARY KEY, v int, cursor timestamptz DEFAULT now());
		INSERT INTO item VALUES (1, 1, '2024-01-01')));
	answer($node, "CREATE EXTENSION postgres_fdw;
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
			OPTIONS (host '$host', port '$port', dbname 'postgres');
		CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user '$user', password_required 'false');
		CREATE FOREIGN TABLE shop.far (id int, v int, cursor timestamptz) SERVER far
			OPTIONS (schema_name 'public', table_name 'item');
		CREATE TABLE shop.far_copy (id int PRIMARY KEY, v int, cursor timestamptz)");
	answer($node, q(SELECT ordflow.create_sync('far', 'shop.far', target => 'shop.far_copy',
		mode => 'scheduled',
		options => '{"cursor": "cursor", "key": ["id"], "overlap": "1 min"}')));
	is(pull('far'), 1, 'another PostgreSQL');
	my $slow = session($far);
	act($slow, 'BEGIN');
	act($slow, 'INSERT INTO item VALUES (2, 2)');
	answer($far, 'INSERT INTO item VALUES (3, 3)');
	is(pull('far'), 2, 'another PostgreSQL: what has committed, and what is in the overlap');
	act($slow, 'COMMIT');
	is(pull('far'), 2, 'another PostgreSQL: later, of what is in the overlap then');
	copy_is('far_copy', '1:1 2:2 3:3', 'another PostgreSQL: the late one with it');
	like(answer($node, q(EXPLAIN (VERBOSE, COSTS off) SELECT id FROM shop.far
		WHERE cursor OPERATOR(pg_catalog.>) now() ORDER BY cursor USING OPERATOR(pg_catalog.<))),
		qr/Remote SQL: .*ORDER BY/, 'another PostgreSQL: its index can serve us');
	$far->stop;
	raises($node, q(SELECT ordflow.run_sync('far')), 'OF007', 'another PostgreSQL: it is down');
	like(answer($node, q(SELECT state, problem FROM ordflow.sync_status WHERE name = 'far')),
		qr/^failed\|could not connect to server "far"/, 'another PostgreSQL: the status says so');
	$far->start;
	answer($far, 'UPDATE item SET v = 30, cursor = now() WHERE id = 3');
	becomes($node, q(SELECT state FROM ordflow.sync_status WHERE name = 'far'), 'idle',
		'another PostgreSQL: it is back');
	pull('far');
	copy_is('far_copy', '1:1 2:2 3:30', 'another PostgreSQL: all is there');

	answer($node, q(CREATE TABLE shop.far_whole (id int PRIMARY KEY, v int);
		SELECT ordflow.create_sync('far whole', 'shop.far', target => 'shop.far_whole',
		mode => 'full', options => '{"columns": ["id", "v"], "key": ["id"]}')));
	becomes($node, 'SELECT count(*) FROM shop.far_whole', 3, 'another PostgreSQL: a full copy');
	answer($far, 'DELETE FROM item WHERE id = 1');
	is(pull('far whole'), 2, 'another PostgreSQL: a full copy later');
	copy_is('far_whole', '2:2 3:30', 'another PostgreSQL: without what was deleted');
	$slow->quit;
	return;
}

# ---- MariaDB ----

# A server of our own on a socket, ended by its pid.
sub start_mariadb
{
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
	my @own = ('--no-defaults', "--datadir=$directory/data");
	IPC::Run::run([ 'mariadb-install-db', @own, '--auth-root-authentication-method=normal',
			'--skip-test-db' ], '<', '/dev/null', '>', "$directory/install", '2>&1',
		IPC::Run::timeout(PATIENCE))
	  or die PostgreSQL::Test::Utils::slurp_file("$directory/install");
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	$maria = IPC::Run::start([ 'mariadbd', @own, "--socket=$directory/socket", "--port=$port",
			'--bind-address=127.0.0.1', "--pid-file=$directory/pid",
			'--innodb-buffer-pool-size=16M' ], '<', '/dev/null', '>', "$directory/log", '2>&1');
	my $until = time + PATIENCE;
	until (maria('SELECT 1') eq '1')
	{
		die PostgreSQL::Test::Utils::slurp_file("$directory/log")
		  if time > $until || !$maria->pumpable;
		usleep(100_000);
	}
	maria(q(CREATE DATABASE shop; CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'secret';
		GRANT SELECT ON shop.* TO reader@'127.0.0.1'));
	return $port;
}

sub maria
{
	my ($sql) = @_;
	my $out = '';
	IPC::Run::run([ 'mariadb', '--no-defaults', '-u', 'root', "--socket=$directory/socket",
			'-N', '-e', $sql ], '<', '/dev/null', '>', \$out, '2>', "$directory/errors",
		IPC::Run::timeout(PATIENCE));
	chomp $out;
	return $out;
}

sub mariadb
{
	my $port = start_mariadb();
	maria(q(CREATE TABLE shop.item (id int PRIMARY KEY, v int, cursor_at timestamp(6)
		DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6), KEY (cursor_at));
		INSERT INTO shop.item (id, v) VALUES (1, 1), (2, 2), (3, NULL)));
	answer($node, "CREATE EXTENSION mysql_fdw;
		CREATE SERVER maria FOREIGN DATA WRAPPER mysql_fdw
			OPTIONS (host '127.0.0.1', port '$port');
		CREATE USER MAPPING FOR PUBLIC SERVER maria OPTIONS (username 'reader', password 'secret');
		CREATE FOREIGN TABLE shop.maria (id int, v int, cursor_at timestamp) SERVER maria
			OPTIONS (dbname 'shop', table_name 'item');
		CREATE TABLE shop.maria_copy (id int PRIMARY KEY, v int, cursor_at timestamp)");
	answer($node, q(SELECT ordflow.create_sync('maria', 'shop.maria', target => 'shop.maria_copy',
		mode => 'scheduled', options =>
		'{"cursor": "cursor_at", "key": ["id"], "overlap": "0 s", "schedule": "1 second"}')));
	becomes($node, 'SELECT count(*) FROM shop.maria_copy', 3,
		'MariaDB: its rows come by a schedule');
	maria('UPDATE shop.item SET v = 20 WHERE id = 2; INSERT INTO shop.item (id, v) VALUES (4, 4)');
	becomes($node, q(SELECT string_agg(id || ':' || coalesce(v::text, '-'), ' ' ORDER BY id)
		FROM shop.maria_copy), '1:1 2:20 3:- 4:4', 'MariaDB: its changes');
	answer($node, q(CREATE TABLE shop.maria_whole (id int PRIMARY KEY, v int);
		SELECT ordflow.create_sync('maria whole', 'shop.maria', target => 'shop.maria_whole',
		mode => 'full', options => '{"columns": ["id", "v"], "key": ["id"]}')));
	becomes($node, 'SELECT count(*) FROM shop.maria_whole', 4, 'MariaDB: a full copy');
	maria('DELETE FROM shop.item WHERE id = 3');
	is(pull('maria whole'), 3, 'MariaDB: a full copy later');
	copy_is('maria_whole', '1:1 2:20 4:4', 'MariaDB: without what was deleted');
	$maria->signal('TERM');
	eval { $maria->finish };
	undef $maria;
	return;
}

END
{
	my $status = $?;
	if ($maria)
	{
		$maria->signal('KILL');
		eval { $maria->finish };
	}
	$? = $status;
}
