# verify_sync() finds each key that differs, and no other, while source and target are written;
# repair_sync() mends these, and no other. Of tables here and elsewhere, and of Redis.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Test::More;

use constant {
	ROWS => 5000,
	QUIET => 1000,		# rows that the writers leave alone, of which some are spoiled
	SECONDS => 25,		# the most that a writer writes
};

# What is done to a table, and what tells whether a row was written besides.
my $spoil_table = <<'SQL';
	UPDATE %1$s SET w = 'spoiled' WHERE id % 3 = 0 AND id <= 99;
	DELETE FROM %1$s WHERE id % 3 = 0 AND id BETWEEN 303 AND 399;
	INSERT INTO %1$s SELECT i, 1, 1, now(), 'extra' FROM generate_series(700001, 700033) i;
SQL
my $others = 'SELECT md5(string_agg(xmin::text, $$,$$ ORDER BY id)) FROM %s
	WHERE id <= 1000 AND NOT (id % 3 = 0 AND (id <= 99 OR id BETWEEN 303 AND 399))';

my $node = server('main', 'wal_level = logical', 'max_worker_processes = 30');
my $there = PostgreSQL::Test::Cluster->new('there');
$there->init;
$there->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\n");
PostgreSQL::Test::Utils::append_to_file($there->data_dir . '/pg_hba.conf',
	"host all all 127.0.0.1/32 trust\n");
$there->start;
my $redis = Redis::installed() ? Redis->new : undef;
my $libdir = $node->config_data('--pkglibdir');
answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA copy');

tables();
elsewhere() if -e "$libdir/ordflow_postgres.so";
redis($_) for $redis && -e "$libdir/ordflow_redis.so" ? qw(hash json string) : ();
not_up_to_date();
done_testing();

# ---- what the tests are made of ----

sub table
{
	my ($name) = @_;
	answer($node, "CREATE TABLE $name (id int PRIMARY KEY, v int, n numeric, at timestamptz,
		w text)");
	answer($node, "INSERT INTO $name SELECT i, i, i / 8.0, now(), 'w' || i
		FROM generate_series(1, @{[ROWS]}) i");
	return;
}

sub is_done
{
	my ($name) = @_;
	return becomes($node, "SELECT phase FROM ordflow.sync_progress WHERE name = '$name'", 'done',
		"$name: copied");
}

# What is wrong with a sync: lines of key and problem.
sub wrong { return answer($node, "SELECT key || ' ' || problem FROM ordflow.verify_sync('$_[0]')
	ORDER BY key::int"); }

# Someone who inserts, updates and deletes all the time, but for the quiet rows.
sub writer
{
	my ($name) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . '/script';
	my ($from, $rows) = (QUIET + 1, ROWS);
	PostgreSQL::Test::Utils::append_to_file($script, <<"SQL");
\\set id random($from, $rows)
\\set other random(1, 1000)
BEGIN;
UPDATE $name SET v = v + 1, w = 'written' WHERE id = :id;
DELETE FROM $name WHERE id = $rows + :other;
INSERT INTO $name VALUES ($rows + :other, 1, 1.50, now(), 'new') ON CONFLICT DO NOTHING;
UPDATE $name SET v = v + 1 WHERE id = $from;
COMMIT;
DELETE FROM $name WHERE id = $rows + :other;
SQL
	return IPC::Run::start([ 'pgbench', '-n', '-R', 200, '-T', SECONDS, '-f', $script, '-d',
		$node->connstr('postgres') ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

# Three kinds of faults among quiet rows, 99 in all, and how they are told.
sub faults
{
	return join "\n", (map { "$_ changed" } map { $_ * 3 } 1 .. 33),
	  (map { "$_ missing" } map { 300 + $_ * 3 } 1 .. 33),
	  (map { "$_ extra" } 700001 .. 700033);
}

sub verified_while_written
{
	my ($name, $spoil, $others) = @_;
	is(wrong($name), '', "$name: nothing is wrong");
	my $writer = writer($name);
	$spoil->();
	my $before = $others->();
	is(wrong($name), faults(), "$name: each fault is found, and nothing else");
	is(answer($node, "SELECT ordflow.repair_sync('$name')"), 99, "$name: all are repaired");
	is(answer($node, "SELECT ordflow.wait_for_sync('$name', timeout => '60 s')"), 't',
		"$name: at once");
	is($others->(), $before, "$name: and no other row is touched");
	is(wrong($name), '', "$name: nothing is wrong any more");
	$writer->signal('INT');
	$writer->finish;
	is(answer($node, "SELECT ordflow.wait_for_sync('$name', timeout => '60 s')"), 't',
		"$name: when nobody writes");
	is(wrong($name), '', "$name: it is the same");
	is(answer($node, 'SELECT count(*) FROM ordflow.sync_dead_letters'), 0,
		"$name: no letter is left");
	return;
}

sub in_table { my ($sql, $table) = @_; return $sql =~ s/%1\$s|%s(?= *\n)/$table/gr; }

# ---- the tests ----

sub tables
{
	table('here');
	answer($node, q(CREATE TABLE copy.here (id int PRIMARY KEY, v int, n numeric(10,3),
			at timestamptz, w text);
		SELECT ordflow.create_sync('here', 'here', target => 'copy.here')));
	is_done('here');
	verified_while_written('here', sub { answer($node, in_table($spoil_table, 'copy.here')) },
		sub { answer($node, in_table($others, 'copy.here')) });

	# what the filter refuses is not to be there
	answer($node, q(CREATE TABLE copy.some (LIKE copy.here INCLUDING ALL);
		SELECT ordflow.create_sync('some', 'here', target => 'copy.some',
			options => '{"filter": "id % 2 = 0", "columns": {"id": "id", "v": "-v"}}')));
	is_done('some');
	is(wrong('some'), '', 'some: with filter and expressions nothing is wrong');
	answer($node, 'INSERT INTO copy.some VALUES (5, -5); UPDATE copy.some SET v = 6 WHERE id = 6');
	is(wrong('some'), "5 extra\n6 changed", 'some: what the filter refuses is extra');
	answer($node, 'SELECT ordflow.repair_sync($$some$$)');
	answer($node, 'SELECT ordflow.wait_for_sync($$some$$)');
	is(wrong('some'), '', 'some: repaired');
	return;
}

sub elsewhere
{
	table('far');
	answer($there, 'CREATE TABLE far (id int PRIMARY KEY, v int, n numeric(10,3), at timestamptz,
		w text)');
	my $port = $there->port;
	answer($node, "CREATE SERVER there FOREIGN DATA WRAPPER ordflow_postgres
			OPTIONS (host '127.0.0.1', port '$port', dbname 'postgres', password_required 'off');
		CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS (user 'postgres');
		SELECT ordflow.create_sync('far', 'far', 'there', 'public.far')");
	is_done('far');
	verified_while_written('far', sub { answer($there, in_table($spoil_table, 'far')) },
		sub { answer($there, in_table($others, 'far')) });
	return;
}

sub redis
{
	my ($type) = @_;
	my $name = "in_$type";
	my $options = $type eq 'string' ? '{"type": "string", "value": "w"}' : qq({"type": "$type"});
	table($name);
	answer($node, "CREATE SERVER IF NOT EXISTS cache FOREIGN DATA WRAPPER ordflow_redis
			OPTIONS (port '@{[$redis->port]}');
		SELECT ordflow.create_sync('$name', '$name', 'cache', '$name:{id}',
			options => '$options')");
	is_done($name);
	$redis->ask('SET', "$name:not a row:1", 'of somebody else');
	my $spoil = sub {
		if ($type eq 'hash')
		{
			$redis->ask('HSET', "$name:" . 3 * $_, 'w', 'spoiled') for 1 .. 33;
			$redis->ask('HSET', "$name:$_", 'id', $_) for 700001 .. 700033;
		}
		else
		{
			$redis->ask('SET', "$name:" . 3 * $_, 'spoiled') for 1 .. 33;
			$redis->ask('SET', "$name:$_", 'extra') for 700001 .. 700033;
		}
		$redis->ask('DEL', map { "$name:" . (300 + 3 * $_) } 1 .. 33);
	};
	verified_while_written($name, $spoil, sub { $redis->ask('EXISTS', "$name:not a row:1") });
	return;
}

# What is still on its way is not told as missing.
sub not_up_to_date
{
	answer($node, q(SELECT ordflow.pause_sync('here'); UPDATE here SET v = 0 WHERE id = 1;
		SELECT ordflow.resync('some')));
	raises($node, 'SELECT * FROM ordflow.verify_sync($$here$$)', '55000',
		'a sync that is paused cannot be verified');
	return;
}
