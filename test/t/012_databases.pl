# Databases come and go while their workers are at work: none stands in the way of a command that
# wants a database for itself, and none is lost by one. As many databases as make the worker slots
# of a server short. A server of its own, as the databases are the test.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

use constant DATABASES => 16;
use constant ORDERS => 12;	# of each, at first
use constant MANY_ORDERS => 300;	# of each, when they are dropped

my $node = server('main', 'max_worker_processes = 8');
my $create = "CREATE EXTENSION ordflow;
	SELECT ordflow.receive_stock('lamp', 100000) \\g /dev/null\n";
my $lines = q('[{"sku": "lamp", "quantity": 1, "unit_price": 5}]');
# an order that keeps its coordinator in a worker slot, asleep, where nobody else wants that
my $long = "SELECT ordflow.submit_order('c', $lines, pay_within => '1 hour') > 0";

# an effect that a coordinator is busy with for a while, as long as the table has a row
my $slow = <<'SQL';
CREATE TABLE slow (seconds float8);
CREATE FUNCTION be_slow(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(seconds) FROM public.slow;
END $$;
SELECT ordflow.add_effect('order', 'expire', 'public.be_slow(jsonb,jsonb)');
SQL

# how many coordinators are in database "shop"
my $is_there = q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'
	AND backend_type = 'ordflow coordinator');

answer($node, 'CREATE EXTENSION ordflow');
many_databases();
busy();
refused();
without_rights();
let_go();
closed_and_opened();
is(worker_complaints($node), '', 'the workers have complained of nothing');
done_testing();

# Orders that come due within so many seconds.
sub orders
{
	my ($n, $seconds) = @_;
	return "SELECT count(ordflow.submit_order('c', $lines,
		pay_within => make_interval(secs => 1 + i % $seconds))) FROM generate_series(1, $n) AS i;";
}

sub many_databases
{
	my @names = map { "d$_" } 1 .. DATABASES;
	my @done = at_once($node, map { [ 'postgres', "CREATE DATABASE $_" ] } @names);
	is("@done", ' ' x (DATABASES - 1), DATABASES . ' databases are created at once');
	@done = at_once($node, map { [ $_, $create . orders(ORDERS, 3) . $long ] } @names);
	is("@done", join(' ', (ORDERS . "\nt") x DATABASES), 'and sell at once');
	all_cancelled($node, $_, $_) for @names;
	is(answer($node, q(SELECT max(h.at - o.expires_at) < '20 s' FROM ordflow.orders o
		JOIN ordflow.order_history h USING (order_id) WHERE h.event = 'expire'), $_), 't',
		"$_: within seconds of the deadline")
	  for @names;

	@done = at_once($node, map { [ $_, orders(MANY_ORDERS, 3) ] } @names);
	is("@done", join(' ', (MANY_ORDERS) x DATABASES), 'they go on selling');
	becomes($node, q(SELECT count(*) > ) . ORDERS
		. q( FROM ordflow.orders WHERE state = 'cancelled'), 't', 'workers are busy', $names[0]);
	@done = at_once($node, map { [ 'postgres', "DROP DATABASE $_" ] } @names);
	is("@done", ' ' x (DATABASES - 1), 'all are dropped at once, without FORCE');
	becomes($node, q(SELECT worker, state FROM ordflow.workers WHERE state <> 'inactive'),
		'launcher|running', 'no coordinator is left');
	return;
}

# A database whose coordinator is in the midst of an effect.
sub busy_database
{
	my ($db) = @_;
	answer($node, "CREATE DATABASE $db");
	answer($node, $create . $slow, $db);
	becomes_busy($db, 0.5);
	return;
}

sub becomes_busy
{
	my ($db, $seconds) = @_;
	answer($node, "INSERT INTO slow VALUES ($seconds)", $db);
	answer($node, orders(ORDERS, 1), $db);
	becomes($node, "SELECT wait_event FROM pg_stat_activity WHERE datname = '$db'
		AND backend_type = 'ordflow coordinator'", 'PgSleep', "$db: the coordinator is busy");
	return;
}

# The coordinator is there again, without anybody's doing, and ends its work.
sub goes_on
{
	my ($db, $name) = @_;
	answer($node, 'DELETE FROM slow', $db);
	all_cancelled($node, $db, $name);
	return;
}

sub busy
{
	busy_database('busy');
	is(sqlstate($node, 'CREATE DATABASE copy TEMPLATE busy'), '', 'it is copied');
	goes_on('busy', 'copied');
	is(answer($node, 'SELECT count(*) FROM ordflow.orders', 'copy'), ORDERS, 'the copy is whole');

	becomes_busy('busy', 0.5);
	is(sqlstate($node, 'ALTER DATABASE busy RENAME TO renamed'), '', 'it is renamed');
	goes_on('renamed', 'renamed');

	becomes_busy('renamed', 0.5);
	is(sqlstate($node, 'BEGIN; ALTER DATABASE renamed RENAME TO other; ROLLBACK'), '',
		'it is renamed in a transaction that is rolled back');
	goes_on('renamed', 'not renamed');

	becomes_busy('renamed', 0.5);
	my $dir = PostgreSQL::Test::Utils::tempdir;
	answer($node, "CREATE TABLESPACE other_place LOCATION '$dir'");
	is(sqlstate($node, 'ALTER DATABASE renamed SET TABLESPACE other_place'), '', 'it is moved');
	goes_on('renamed', 'moved');

	becomes_busy('renamed', 0.5);
	is(sqlstate($node, "DROP DATABASE $_"), '', "$_ is dropped") for 'renamed', 'copy';
	return;
}

# Commands that the server refuses: nothing has happened.
sub refused
{
	busy_database('shop');
	my $other = $node->background_psql('shop');
	raises($node, 'DROP DATABASE shop', '55006', 'DROP is refused while somebody is connected');
	raises($node, 'BEGIN; DROP DATABASE shop', '25001', 'and in a transaction block');
	$other->quit;
	goes_on('shop', 'refused');
	return;
}

# Who may not run the command cannot send the workers away by it.
sub without_rights
{
	answer($node, 'CREATE ROLE nobody; CREATE ROLE creator CREATEDB');
	order_lamp($node, 'shop', '1 hour');
	becomes($node, $is_there, 1, 'a coordinator sleeps for an hour');
	my $pid = coordinator($node, 'shop');
	for my $role ('nobody', 'creator')
	{
		raises($node, "SET ROLE $role; $_", '42501', "$role: no $_")
		  for 'DROP DATABASE shop', 'ALTER DATABASE shop RENAME TO other',
		  'CREATE DATABASE other TEMPLATE shop', 'ALTER DATABASE shop SET TABLESPACE pg_default',
		  'ALTER DATABASE shop CONNECTION LIMIT 1';
	}
	is(coordinator($node, 'shop'), $pid, 'the coordinator has stayed');
	return;
}

# What keeps workers away ends with its transaction, however that ends.
sub let_go
{
	my $state = q(SELECT state FROM ordflow.workers WHERE worker = 'coordinator'
		AND database = 'shop');
	my $holder = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $holder->query('SELECT pg_backend_pid()');
	$holder->query('BEGIN; ALTER DATABASE shop RENAME TO other');
	is(answer($node, $is_there), 0, 'a RENAME that is not committed keeps workers away');
	is(answer($node, $state), 'away', 'the view says so');
	answer($node, "SELECT pg_terminate_backend($pid)");
	becomes($node, $is_there, 1, 'they are back when that backend was terminated');
	eval { $holder->quit };

	my $other = $node->background_psql('shop');
	$holder = $node->background_psql('postgres', on_error_stop => 0);
	$pid = $holder->query('SELECT pg_backend_pid()');
	$holder->query_until(qr/begun/, "\\echo begun\nDROP DATABASE shop;\n");
	becomes($node, $state, 'away', 'a DROP that waits for others keeps workers away');
	answer($node, "SELECT pg_cancel_backend($pid)");
	becomes($node, $is_there, 1, 'they are back when it was cancelled');
	$_->quit for $holder, $other;

	# given up while it waits for the worker, which is busy and need not leave any more
	becomes_busy('shop', 1000);
	$pid = coordinator($node, 'shop');
	raises($node, q(SET statement_timeout = '200 ms'; DROP DATABASE shop), '57014',
		'a DROP that waits for the worker is cancelled');
	is(coordinator($node, 'shop'), $pid, 'the worker has stayed');
	answer($node, 'DELETE FROM slow', 'shop');
	answer($node, "SELECT pg_terminate_backend($pid)");
	becomes($node, q(SELECT count(*) FROM ordflow.orders WHERE due_at < now()), 0,
		'and all is done in the end', 'shop');
	return;
}

# Deadlines that pass while no worker may go into the database are met with when one may.
sub closed_and_opened
{
	for my $option ('ALLOW_CONNECTIONS false', 'IS_TEMPLATE true')
	{
		my %opposite = (false => 'true', true => 'false');
		my $undone = $option =~ s/(\w+)$/$opposite{$1}/r;
		my $id = order_lamp($node, 'shop', '1 s');
		answer($node, "ALTER DATABASE shop $option");
		my $due = answer($node, "SELECT clock_timestamp() + interval '1.5 s'");
		becomes($node, "SELECT clock_timestamp() > '$due'", 't', "$option: a deadline passes");
		is(answer($node, $is_there), 0, "$option: no worker goes there");
		answer($node, "ALTER DATABASE shop $undone");
		becomes($node, "SELECT state FROM ordflow.orders WHERE order_id = $id", 'cancelled',
			"$undone: the order is cancelled", 'shop');
	}
	return;
}
