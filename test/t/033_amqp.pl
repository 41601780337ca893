# Timeouts by RabbitMQ: a real broker that is killed, refuses, or says the same twice. An order is
# cancelled once and by the grace period at the latest, and no queue is left behind.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Drivers;
use Ordflow;
use PostgreSQL::Test::Utils;
use Rabbit;
use Test::More;
use Time::HiRes qw(time usleep);
use Timers;

plan skip_all => 'there is no rabbitmq-server' unless Rabbit::installed();

# Without the driver nothing is cancelled before: so what is, is by the driver.
use constant GRACE => 30;

my $node = server('main', 'autovacuum = off');
plan skip_all => 'the module was not built'
  unless -e $node->config_data('--pkglibdir') . '/ordflow_amqp.so';
my $rabbit = Rabbit->new;
lamps($node, 'postgres');
my $name_space = answer($node, q(SELECT format('ordflow:%s:%s:due:', system_identifier, oid)
	FROM pg_control_system(), pg_database WHERE datname = current_database()));
make_users();
answer($node, "CREATE SERVER mq FOREIGN DATA WRAPPER ordflow_amqp
	OPTIONS (port '@{[$rabbit->port]}', timeout '3');
	CREATE USER MAPPING FOR CURRENT_USER SERVER mq OPTIONS (username 'shop', password 'right')");
drive($node, 'amqp(mq)', GRACE);
my $waiting = order_lamp($node, 'postgres', '1 day');
publishes($node, 'mq', 'an order that waits is told to the broker');

by_broker();
queue_deleted();
killed();
refused();
two_of_one_name();
out_of_memory();
two_databases();
left_meanwhile();
emptied();
stock_is_whole($node, 'in the end');
nothing_left();

sub make_users
{
	$rabbit->user('shop', 'right', '^ordflow:.*', '^(ordflow:.*|amq\.default)$', '^ordflow:.*');
	$rabbit->user('guest2', 'right', '^$', '^$', '^$');
	return;
}

# Of many delays, exact in spite of few queues; of an order that is paid meanwhile and one that is
# extended; and with the worker at once.
sub by_broker
{
	my ($paid, $extended) = sell($node, 'other', n => 2, first => 1);
	answer($node, "SELECT ordflow.pay_order($paid, 'bank', 't', 10),
		ordflow.extend_order($extended, '2 s')");
	sell($node, 'alone', n => 100, first => 0.2, last => 4);
	expired($node, 'alone', GRACE / 2, 'by the broker alone');
	my $queues = grep { /^\Q$name_space\Edelay\.\d+$/ } $rabbit->queues;
	cmp_ok($queues, '<=', 64, "in $queues queues");
	becomes($node, "SELECT state FROM ordflow.orders WHERE order_id = $extended", 'cancelled',
		'an extended order is cancelled');
	is( answer($node, "SELECT at >= o.expires_at AND at < o.expires_at + interval '15 s'
			FROM ordflow.orders o JOIN ordflow.order_history h USING (order_id)
			WHERE order_id = $extended AND event = 'expire'"), 't', 'at its new deadline');
	is(answer($node, "SELECT state FROM ordflow.orders WHERE order_id = $paid"),
		'pending_shipment', 'a paid one is left alone');
	drive($node, 'worker, amqp(mq)', GRACE);
	sell($node, 'both', n => 200, first => 0.5, last => 3);
	expired($node, 'both', LATE, 'by worker and broker at once');
	cmp_ok(answer($node, 'SELECT fired FROM ordflow.timer_drivers'), '>', 0, 'who had its part');
	stock_is_whole($node, 'by both');
	drive($node, 'amqp(mq)', GRACE);
	return;
}

# Somebody deletes the queue that is read; then those that wait.
sub queue_deleted
{
	$rabbit->control('delete_queue', "${name_space}fire");
	sell($node, 'deleted', n => 10, first => 1, last => 2);
	expired($node, 'deleted', GRACE / 2, 'with the queue deleted');
	drive($node, 'amqp(mq)', 2);
	sell($node, 'waited', n => 10, first => 15, last => 16);
	$rabbit->control('delete_queue', $_) for grep { /delay/ } $rabbit->queues;
	expired($node, 'waited', 2 + LATE, 'with all queues deleted');
	return;
}

# Deadlines before, while and after the broker is away.
sub killed
{
	drive($node, 'amqp(mq)', 2);
	sell($node, 'killed', n => 60, first => 0.5, last => 30);
	usleep(2_000_000);
	$rabbit->crash;
	usleep(2_000_000);
	$rabbit->start;
	expired($node, 'killed', 2 + LATE, 'with the broker killed');
	drive($node, 'amqp(mq)', GRACE);
	becomes($node, q(SELECT problem IS NULL FROM ordflow.timer_drivers), 't', 'it is back');
	sell($node, 'back', n => 20, first => 0.5, last => 2);
	expired($node, 'back', GRACE / 2, 'by the broker again');
	return;
}

# A password and permissions that are wrong.
sub refused
{
	answer($node, q(ALTER USER MAPPING FOR CURRENT_USER SERVER mq OPTIONS (SET password 'falsch')));
	$rabbit->control('close_all_connections', 'again');
	complains($node, 'mq', 'ACCESS_REFUSED', qr/user mapping/, 'a wrong password');
	without_driver($node, 2, 'with a wrong password');
	answer($node, q(ALTER USER MAPPING FOR CURRENT_USER SERVER mq
		OPTIONS (SET username 'guest2', SET password 'right')));
	complains($node, 'mq', 'access to queue', qr/set_permissions/, 'no permission for queues');
	without_driver($node, 2, 'without permissions');
	unlike(slurp_file($node->logfile) =~ s/^.*STATEMENT.*$//gmr, qr/falsch/,
		'no secret in the log');
	answer($node, q(ALTER USER MAPPING FOR CURRENT_USER SERVER mq OPTIONS (SET username 'shop')));
	becomes($node, q(SELECT problem IS NULL FROM ordflow.timer_drivers), 't', 'it works');
	return;
}

# Two servers that are one broker: one of the drivers has the names, the other waits.
sub two_of_one_name
{
	answer($node, "CREATE SERVER mq2 FOREIGN DATA WRAPPER ordflow_amqp
		OPTIONS (port '@{[$rabbit->port]}', timeout '3');
		CREATE USER MAPPING FOR CURRENT_USER SERVER mq2
			OPTIONS (username 'shop', password 'right')");
	drive($node, 'amqp(mq), amqp(mq2)', GRACE);
	becomes($node, q(SELECT string_agg(hint ~ 'set another prefix' || '', ' ')
		FROM ordflow.timer_drivers WHERE problem IS NOT NULL), 'true', 'one of two says so');
	sell($node, 'two', n => 20, first => 1, last => 2);
	expired($node, 'two', GRACE / 2, 'by the other one');
	drive($node, 'amqp(mq)', GRACE);
	becomes($node, q(SELECT count(*) FILTER (WHERE problem IS NULL) || ' of ' || count(*)
		FROM ordflow.timer_drivers), '1 of 1', 'one alone works');
	answer($node, 'DROP SERVER mq2 CASCADE');
	return;
}

# A broker that takes nothing: no deadline can be told, and none can wait on.
sub out_of_memory
{
	drive($node, 'amqp(mq)', 2);
	sell($node, 'before', n => 10, first => 8, last => 9);
	$rabbit->control('set_vm_memory_high_watermark', '0.0000001');
	sell($node, 'during', n => 5, first => 0.5);
	complains($node, 'mq', 'no answer', qr/memory/, 'what is new is not taken');
	expired($node, 'during', 2 + LATE, 'which the worker makes good');
	expired($node, 'before', 2 + LATE, 'as it does for what waited there');
	$rabbit->control('set_vm_memory_high_watermark', '0.4');
	becomes($node, q(SELECT problem IS NULL FROM ordflow.timer_drivers), 't',
		'the broker has memory again');
	drive($node, 'amqp(mq)', GRACE);
	sell($node, 'after', n => 5, first => 0.5);
	expired($node, 'after', GRACE / 2, 'by the broker again');
	return;
}

# Order ids are the same in both.
sub two_databases
{
	lamps($node, 'second');
	answer($node, "CREATE SERVER mq FOREIGN DATA WRAPPER ordflow_amqp
		OPTIONS (port '@{[$rabbit->port]}', timeout '3');
		CREATE USER MAPPING FOR CURRENT_USER SERVER mq
			OPTIONS (username 'shop', password 'right')", 'second');
	order_lamp($node, 'second', '1 day');
	publishes($node, 'mq', 'a second database', 'second');
	my $other = $name_space =~ s/\d+:due:$//r . answer($node,
		q(SELECT oid || ':due:' FROM pg_database WHERE datname = 'second'));
	order_lamp($node, 'second', '1 s') for 1 .. 5;
	sell($node, 'first', n => 5, first => 1);
	expired($node, 'first', GRACE / 2, 'one database of two');
	becomes($node, q(SELECT count(*) FILTER (WHERE state = 'cancelled') || ' of ' || count(*)
		FROM ordflow.orders), '5 of 6', 'the other', 'second');
	is(answer($node, q(SELECT fired FROM ordflow.timer_drivers), 'second'), 5, 'by the broker');
	cmp_ok(scalar(grep { /^\Q$other\E/ } $rabbit->queues), '>', 0, 'it has its queues');
	answer($node, 'DROP DATABASE second');
	is(join(' ', grep { /^\Q$other\E/ } $rabbit->queues), '',
		'a dropped database leaves no queue');
	return;
}

# A driver that leaves while the broker is away has nobody to tell, and does not wait for it.
sub left_meanwhile
{
	$rabbit->crash;
	becomes($node, q(SELECT problem IS NOT NULL FROM ordflow.timer_drivers), 't',
		'the broker is away');
	drive($node, 'worker', GRACE);
	becomes($node, q(SELECT count(*) FROM ordflow.workers WHERE worker ~ 'driver'), 0,
		'the driver leaves all the same');
	$rabbit->start;
	drive($node, 'amqp(mq)', GRACE);
	sell($node, 'returned', n => 5, first => 2);
	expired($node, 'returned', GRACE / 2, 'and comes again');
	return;
}

# A broker that starts again knowing nothing, our user neither.
sub emptied
{
	drive($node, 'amqp(mq)', 2);
	sell($node, 'emptied', n => 10, first => 1, last => 15);
	$rabbit->crash;
	$rabbit->forget;
	$rabbit->start;
	make_users();
	expired($node, 'emptied', 2 + LATE, 'with the broker empty');
	drive($node, 'amqp(mq)', GRACE);
	becomes($node, q(SELECT problem IS NULL FROM ordflow.timer_drivers), 't', 'it is told all');
	sell($node, 'anew', n => 10, first => 0.5, last => 2);
	expired($node, 'anew', GRACE / 2, 'by the broker again');
	return;
}

sub nothing_left
{
	drive($node, 'worker', GRACE);
	becomes_queues('', 'a driver that leaves the setting leaves no queue');
	drive($node, 'amqp(mq)', GRACE);
	becomes_queues('some', 'it is back');
	answer($node, 'DROP EXTENSION ordflow CASCADE');
	becomes_queues('', 'nor does DROP EXTENSION');
	return;
}

# rabbitmqctl takes a second or two.
sub becomes_queues
{
	my ($expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $until = time + 60;
	my @queues = $rabbit->queues;
	@queues = $rabbit->queues while (@queues ? 'some' : '') ne $expected && time < $until;
	return is(@queues ? 'some' : '', $expected, $name) || diag "@queues";
}

done_testing();
