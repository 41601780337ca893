# The process of a timer driver, when the database or a command is in its way: what fails is tried
# again, what is locked holds nothing else up, and it follows its server and its database.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Drivers;
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Sessions;
use Test::More;
use Time::HiRes qw(usleep);
use Timers;

plan skip_all => 'there is no redis-server' unless Redis::installed();

# Without the driver nothing is cancelled before: so what is, is by the driver.
use constant GRACE => 60;

my $redis = Redis->new;
my $node = server('main', 'autovacuum = off', 'log_min_messages = log');
plan skip_all => 'the module was not built'
  unless -e $node->config_data('--pkglibdir') . '/ordflow_redis.so';
lamps($node, 'postgres');
answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
	OPTIONS (port '@{[$redis->port]}', timeout '2')");
drive($node, 'redis(cache)', GRACE);
my $waiting = order_lamp($node, 'postgres', '1 day');
publishes($node, 'cache', 'it works');

failed_transaction();
attached_with_rows();
locked_table();
other_relations();
other_server();
no_right_to_restart();
renamed();
places();

sub published
{
	my ($db) = @_;
	return answer($node, q(SELECT published FROM ordflow.timer_drivers WHERE server = 'cache'),
		$db);
}

# What came while the transaction could not be had comes again.
sub failed_transaction
{
	my $session = session($node);
	act($session, 'BEGIN; LOCK TABLE ordflow.parked');
	sell($node, 'failed', n => 5, first => 0.5, last => 1);
	becomes($node, q(SELECT last_error IS NOT NULL FROM ordflow.timer_drivers
		WHERE server = 'cache'), 't', 'a transaction of the driver fails');
	my $since = clock($node);
	act($session, 'ROLLBACK');
	expired($node, 'failed', GRACE / 2, 'tried again', since => $since);
	$session->quit;
	return;
}

# Rows that were there before are told too.
sub attached_with_rows
{
	answer($node, <<'SQL');
		SELECT ordflow.define_machine('bill', '{"states": {"0": "initial", "40": "final"},
			"transitions": [{"from": "0", "event": "expire", "to": "40", "after": "1 day"}]}');
		CREATE TABLE bill (id int PRIMARY KEY, status int, due timestamptz);
		CREATE INDEX ON bill (due);
		INSERT INTO bill SELECT i, 0, clock_timestamp() + interval '2 s'
		FROM generate_series(1, 5) AS i;
		INSERT INTO bill VALUES (6, 0, clock_timestamp() + interval '1 day');
		SELECT ordflow.attach('bill', 'bill', 'status', due_column => 'due');
SQL
	becomes($node, 'SELECT count(*) FROM bill WHERE status = 40', 5, 'rows of an attached table');
	cmp_ok(answer($node, q(SELECT fired FROM ordflow.timer_drivers WHERE server = 'cache')),
		'>=', 10, 'by the driver');
	return;
}

# A table that cannot be read is tried again by itself.
sub locked_table
{
	my $session = session($node);
	act($session, 'BEGIN; LOCK TABLE bill');
	sell($node, 'far', n => 200, first => 3600);
	$redis->crash;
	$redis->start;
	my $keys = sub { return scalar(() = $redis->keys_like('*:due:[0-9]*')) };
	my $tries = 0;
	usleep(50_000) while $keys->() < 201 && $tries++ < 600;
	is($keys->(), 201, 'the others are told while one table is locked');
	my $before = published();
	usleep(2_500_000);
	cmp_ok(published() - $before, '<', 50, 'and told once');
	act($session, 'ROLLBACK');
	becomes($node, "SELECT published > $before FROM ordflow.timer_drivers WHERE server = 'cache'",
		't', 'that table follows');
	$session->quit;
	return;
}

# Tables that have no deadlines come and go.
sub other_relations
{
	my $before = published();
	answer($node, "CREATE TEMP TABLE t$_ AS SELECT 1 AS a; DROP TABLE t$_") for 1 .. 20;
	usleep(1_500_000);
	cmp_ok(published() - $before, '<', 50, 'other tables are none of its business');
	return;
}

# What is at the old place goes, what is at the new one comes.
sub other_server
{
	answer($node, "ALTER SERVER cache OPTIONS (ADD prefix 'shop')");
	my $tries = 0;
	usleep(50_000) while (() = $redis->keys_like('ordflow:*')) && $tries++ < 400;
	is(join(' ', $redis->keys_like('ordflow:*')), '', 'an altered server: nothing stays');
	publishes($node, 'cache', 'and all comes again');
	$tries = 0;
	usleep(50_000) while (() = $redis->keys_like("shop:*:due:$waiting")) != 1 && $tries++ < 400;
	is(scalar(() = $redis->keys_like("shop:*:due:$waiting")), 1, 'at the new place');
	sell($node, 'moved', n => 5, first => 1);
	expired($node, 'moved', GRACE / 2, 'by the altered server');
	return;
}

sub no_right_to_restart
{
	my $pid = q(SELECT pid FROM ordflow.workers WHERE worker = 'coordinator'
		AND database = 'postgres');
	my $before = answer($node, $pid);
	answer($node, 'CREATE ROLE nobody');
	raises($node, q(SET ROLE nobody; ALTER DATABASE postgres SET work_mem = '4MB'), '42501',
		'ALTER DATABASE by somebody else');
	usleep(500_000);
	is(answer($node, $pid), $before, 'restarts no coordinator');
	return;
}

# A command that wants the database for itself is no failure of the driver.
sub renamed
{
	lamps($node, 'name0');
	answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
		OPTIONS (port '@{[$redis->port]}', prefix 'second')", 'name0');
	order_lamp($node, 'name0', '1 day');
	publishes($node, 'cache', 'a second database', 'name0');
	my $slow = 0;
	for my $i (1 .. 4)
	{
		my ($old, $new) = ('name' . ($i - 1), "name$i");
		answer($node, "ALTER DATABASE $old RENAME TO $new");
		becomes($node, q(SELECT state FROM ordflow.workers WHERE worker ~ 'driver'
			AND database = current_database()), 'running', "renamed to $new", $new);
		$slow++ if answer($node, q(SELECT count(*) FROM ordflow.workers WHERE worker ~ 'driver'
			AND state = 'failed'), $new);
	}
	is($slow, 0, 'never called failed');
	return;
}

# The place of a driver is free again when its database is gone.
sub places
{
	answer($node, 'DROP DATABASE name4');
	becomes($node, q(SELECT string_agg(database, ' ') FROM ordflow.workers
		WHERE worker ~ 'driver'), 'postgres', 'no place is kept for a dropped database');
	becomes($node, q(SELECT count(*) FROM ordflow.workers WHERE worker ~ 'driver'), 1,
		'under any name');
	is(join(' ', $redis->keys_like('second:*')), '', 'nor a key');
	return;
}

done_testing();
