# Timeouts by Redis: a real server that is killed, emptied, refuses, or says the same twice. An
# order is cancelled once and by the grace period at the latest, and no key is left behind.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Drivers;
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Test::More;
use Time::HiRes qw(time usleep);
use Timers;

plan skip_all => 'there is no redis-server' unless Redis::installed();

# Without the driver nothing is cancelled before: so what is, is by the driver.
use constant GRACE => 30;

my $redis = Redis->new;
my $node = server('main', 'autovacuum = off');
plan skip_all => 'the module was not built' unless -e module_file('redis');
my ($channel, $far) = ('__keyevent@0__:expired', '1 day');
lamps($node, 'postgres');
my $name_space = name_space('postgres');
answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
	OPTIONS (port '@{[$redis->port]}', timeout '2')");
drive($node, 'redis(cache)', GRACE);
my $waiting = order_lamp($node, 'postgres', $far);
publishes($node, 'cache', 'an order that waits is told to Redis');

keys_come_and_go();
said_twice();
killed();
flushed();
subscription_killed();
flags_taken_away();
with_worker();
two_databases();
wrong_password();
no_events();
far_deadlines();
stopped();
stock_is_whole($node, 'in the end');
nothing_left();

sub module_file
{
	my ($module) = @_;
	return $node->config_data('--pkglibdir') . "/ordflow_$module.so";
}

sub name_space
{
	my ($db) = @_;
	return answer($node, q(SELECT format('ordflow:%s:%s:due:', system_identifier, oid)
		FROM pg_control_system(), pg_database WHERE datname = current_database()), $db);
}

# The keys of deadlines in one name space.
sub deadlines
{
	my ($space) = @_;
	return map { /^\Q$space\E(\d.*|hold:.*)/ ? $1 : () } $redis->keys_like("$space*");
}

sub becomes_deadlines
{
	my ($space, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @found = deadlines($space);
	for (my $tries = 0; "@found" ne "@$expected" && $tries < 400; $tries++)
	{
		usleep(50_000);
		@found = deadlines($space);
	}
	return is_deeply(\@found, $expected, $name);
}

sub keys_come_and_go
{
	is_deeply([ deadlines($name_space) ], [$waiting], 'as a key of its name space');
	cmp_ok($redis->ask('PTTL', "$name_space$waiting"), '<=', 86_400_000, 'that expires');
	my @ids = sell($node, 'paid', n => 2, first => 60);
	becomes_deadlines($name_space, [ sort $waiting, @ids ], 'two more');
	answer($node, "SELECT ordflow.pay_order($ids[0], 'bank', 't', 10)");
	answer($node, "SELECT ordflow.cancel_order($ids[1])");
	becomes_deadlines($name_space, [$waiting], 'a paid and a cancelled order have none');
	sell($node, 'alone', n => 50, first => 0.5, last => 3);
	expired($node, 'alone', GRACE / 2, 'by Redis alone');
	becomes_deadlines($name_space, [$waiting], 'their keys are gone');
	return;
}

# Events that are no deadline's: again, of a paid order, of one that waits, of nothing.
sub said_twice
{
	my $paid = answer($node, q(SELECT min(order_id) FROM ordflow.orders WHERE customer = 'paid'));
	my $gone = answer($node, q(SELECT min(order_id) FROM ordflow.orders
		WHERE state = 'cancelled'));
	for my $item ($gone, $gone, $paid, $waiting, 999_999, 'x', '', '1:2', 'hold:none', '9' x 60)
	{
		is($redis->ask('PUBLISH', $channel, "$name_space$item"), 1, "an event of \"$item\"");
	}
	sell($node, 'twice', n => 20, first => 0.5, last => 1);
	expired($node, 'twice', GRACE / 2, 'beside events that are no deadlines');
	is( answer($node, "SELECT string_agg(state, ' ' ORDER BY order_id) FROM ordflow.orders
			WHERE order_id IN ($paid, $waiting)"), 'pending_payment pending_shipment',
		'a paid order and one that waits are left alone');
	stock_is_whole($node, 'after them');
	return;
}

# Deadlines before, while and after Redis is away; it comes back empty.
sub killed
{
	drive($node, 'redis(cache)', 2);
	sell($node, 'killed', n => 60, first => 0.5, last => 6);
	usleep(2_000_000);
	$redis->crash;
	usleep(2_000_000);
	$redis->start;
	expired($node, 'killed', 2 + LATE, 'with Redis killed and empty');
	drive($node, 'redis(cache)', GRACE);
	becomes_deadlines($name_space, [$waiting], 'it is told everything again');
	sell($node, 'back', n => 20, first => 0.5, last => 2);
	expired($node, 'back', GRACE / 2, 'by Redis again');
	return;
}

sub flushed
{
	drive($node, 'redis(cache)', 2);
	sell($node, 'flushed', n => 20, first => 1, last => 2);
	is($redis->ask('FLUSHALL'), 'OK', 'all keys are flushed');
	expired($node, 'flushed', 2 + LATE, 'with Redis flushed');
	becomes_deadlines($name_space, [$waiting], 'that is seen, and told again');
	return;
}

# Pub/Sub alone is cut off: the keys are there, and nobody would hear of them.
sub subscription_killed
{
	drive($node, 'redis(cache)', GRACE);
	is($redis->ask('CLIENT', 'KILL', 'TYPE', 'pubsub'), 1, 'the subscription is cut off');
	sell($node, 'deaf', n => 20, first => 1, last => 2);
	expired($node, 'deaf', GRACE / 2, 'with the subscription cut off');
	return;
}

sub flags_taken_away
{
	$redis->ask('CONFIG', 'SET', 'notify-keyspace-events', '');
	my $tries = 0;
	usleep(100_000)
	  while $redis->ask('CONFIG', 'GET', 'notify-keyspace-events') !~ /x/ && $tries++ < 600;
	like($redis->ask('CONFIG', 'GET', 'notify-keyspace-events'), qr/x/,
		'flags that are taken away later are set again');
	sell($node, 'flags', n => 5, first => 0.5);
	expired($node, 'flags', GRACE / 2, 'by Redis with its flags again');
	return;
}

# Redis by itself finds what has expired among many keys that have not only after minutes.
sub far_deadlines
{
	answer($node, <<'SQL');
		SELECT ordflow.define_machine('far', '{"states": {"0": "initial", "40": "final"},
			"transitions": [{"from": "0", "event": "expire", "to": "40", "after": "1 day"}]}');
		CREATE TABLE far (id int PRIMARY KEY, status int, due timestamptz);
		CREATE INDEX ON far (due);
		INSERT INTO far SELECT i, 0, clock_timestamp() + interval '1 day'
		FROM generate_series(1, 20000) AS i;
		SELECT ordflow.attach('far', 'far', 'status', due_column => 'due');
SQL
	my $tries = 0;
	usleep(100_000) while $redis->ask('DBSIZE') < 20_000 && $tries++ < 600;
	cmp_ok($redis->ask('DBSIZE'), '>=', 20_000, 'many deadlines that are far');
	sell($node, 'near', n => 200, first => 0.5, last => 3);
	expired($node, 'near', GRACE / 2, 'the near ones come in time');
	answer($node, 'UPDATE far SET due = NULL WHERE id <= 10000');
	answer($node, 'UPDATE far SET due = NULL WHERE id > 10000');
	becomes_deadlines($name_space, [$waiting], 'and the far ones can be taken back');
	answer($node, 'DROP TABLE far');
	return;
}

# A Redis that does not answer, and is not gone: nobody else waits for it.
sub stopped
{
	my $begun;
	answer($node, "ALTER SERVER cache OPTIONS (SET timeout '60')");
	publishes($node, 'cache', 'with a long timeout');
	answer($node, 'CREATE DATABASE other');
	lamps($node, 'own');
	answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
		OPTIONS (port '@{[$redis->port]}', timeout '60')", 'own');
	order_lamp($node, 'own', '1 day');
	publishes($node, 'cache', 'in another database', 'own');
	my $own = name_space('own');
	$redis->{run}->signal('STOP');
	order_lamp($node, $_, '1 day') for qw(postgres own);
	usleep(1_000_000);
	$begun = time;
	answer($node, "DROP DATABASE $_") for qw(other own);
	$node->restart;
	drive($node, 'worker', GRACE);
	becomes($node, q(SELECT count(*) FROM ordflow.workers WHERE worker ~ 'driver'), 0,
		'a driver leaves that waits for Redis');
	cmp_ok(time - $begun, '<', 40, 'it is not waited for');
	$redis->{run}->signal('CONT');
	drive($node, 'redis(cache)', GRACE);
	publishes($node, 'cache', 'and is back');
	$redis->ask('DEL', $_) for $redis->keys_like("$own*");
	answer($node, q(SELECT ordflow.cancel_order(order_id) FROM ordflow.orders
		WHERE state = 'pending_payment' AND order_id <> ) . $waiting);
	return;
}

sub with_worker
{
	drive($node, 'worker, redis(cache)', 2);
	sell($node, 'both', n => 200, first => 0.5, last => 3);
	expired($node, 'both', LATE, 'by worker and Redis at once');
	cmp_ok(answer($node, 'SELECT fired FROM ordflow.timer_drivers'), '>', 0, 'Redis had its part');
	stock_is_whole($node, 'by both');
	return;
}

# Order ids are the same in both.
sub two_databases
{
	lamps($node, 'second');
	answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
		OPTIONS (port '@{[$redis->port]}')", 'second');
	drive($node, 'redis(cache)', GRACE);
	my $other = name_space('second');
	isnt($other, $name_space, 'each database has a name space');
	my $id = order_lamp($node, 'second', $far);
	becomes_deadlines($other, [$id], 'and its keys');
	order_lamp($node, 'second', '1 s') for 1 .. 5;
	sell($node, 'first', n => 5, first => 1);
	expired($node, 'first', GRACE / 2, 'one database of two');
	becomes($node, q(SELECT count(*) FILTER (WHERE state = 'cancelled') || ' of ' || count(*)
		FROM ordflow.orders), '5 of 6', 'the other', 'second');
	is(answer($node, q(SELECT fired FROM ordflow.timer_drivers), 'second'), 5, 'by Redis');
	becomes_deadlines($name_space, [$waiting], 'each knows its own');
	answer($node, 'DROP DATABASE second');
	becomes_deadlines($other, [], 'a dropped database leaves no key');
	return;
}

sub wrong_password
{
	my $secret = 'geheim-und-lang';
	drive($node, 'redis(cache)', 2);
	$redis->stop;
	$redis->start('--requirepass', $secret);
	complains($node, 'cache', 'NOAUTH', qr/USER MAPPING/, 'no password');
	answer($node, "CREATE USER MAPPING FOR CURRENT_USER SERVER cache
		OPTIONS (password '$secret-nicht')");
	complains($node, 'cache', 'password', qr/user mapping/, 'wrong password');
	without_driver($node, 2, 'with a wrong password');
	answer($node, "ALTER USER MAPPING FOR CURRENT_USER SERVER cache
		OPTIONS (SET password '$secret')");
	becomes($node, q(SELECT problem IS NULL
		FROM ordflow.timer_drivers), 't', 'the right one: it works');
	unlike(slurp_file($node->logfile) =~ s/^.*STATEMENT.*$//gmr, qr/\Q$secret\E/,
		'no secret in the log');
	unlike(answer($node, 'SELECT * FROM ordflow.timer_drivers') . answer($node,
			'SELECT * FROM ordflow.workers'), qr/\Q$secret\E/, 'nor in the views');
	answer($node, 'DROP USER MAPPING FOR CURRENT_USER SERVER cache');
	return;
}

# CONFIG may not be used, and Redis tells of nothing; then it tells, and CONFIG is not needed.
sub no_events
{
	$redis->stop;
	$redis->start('--rename-command', 'CONFIG', '');
	complains($node, 'cache', 'expired keys', qr/notify-keyspace-events Ex/, 'no CONFIG');
	without_driver($node, 2, 'without events');
	$redis->stop;
	$redis->start('--notify-keyspace-events', 'Kg', '--user', 'default', 'on', 'nopass', '~*', '&*',
		'+@all', '-config|set');
	complains($node, 'cache', '"gK"', qr/notify-keyspace-events gKEx/, 'no CONFIG SET');
	$redis->stop;
	$redis->start('--rename-command', 'CONFIG', '', '--notify-keyspace-events', 'Ex');
	becomes_deadlines($name_space, [$waiting], 'redis.conf has the line: it works');
	drive($node, 'redis(cache)', GRACE);
	sell($node, 'probed', n => 10, first => 0.5);
	expired($node, 'probed', GRACE / 2, 'by events found without CONFIG');
	return;
}

sub nothing_left
{
	answer($node, q(SELECT ordflow.reserve_stock('cart', '[{"sku": "lamp", "quantity": 1}]',
		clock_timestamp() + interval '1 day')));
	becomes_deadlines($name_space, [ $waiting, 'hold:cart' ], 'a hold has a key too');
	drive($node, 'worker', GRACE);
	becomes_deadlines($name_space, [], 'a driver that leaves the setting leaves no key');
	is(join(' ', $redis->keys_like('*')), '', 'nor anything else');
	drive($node, 'redis(cache)', GRACE);
	becomes_deadlines($name_space, [ $waiting, 'hold:cart' ], 'it is back');
	answer($node, 'DROP EXTENSION ordflow CASCADE');
	becomes_deadlines($name_space, [], 'nor does DROP EXTENSION');
	is(join(' ', $redis->keys_like('*')), '', 'nor anything else');
	return;
}

done_testing();
