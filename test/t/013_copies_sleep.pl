# A copy sleeps: workers act in a database that was restored, or copied as a template, only when
# somebody says so, or sells in it. What was deactivated stays so. One server with running workers,
# which could act in any database at any time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = server('main');
my $dir = PostgreSQL::Test::Utils::tempdir;
my $lines = q('[{"sku": "lamp", "quantity": 1, "unit_price": 5}]');
my $create = "CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 1000) \\g /dev/null\n";
my $brief = "SELECT ordflow.submit_order('c', $lines, pay_within => '1 s')";
my $active = "SELECT ordflow.is_active('timer')";
my $workers = "$active, w.pid, w.state, w.fix FROM ordflow.workers w
	WHERE w.database = current_database()";
my $inactive = 'f||inactive|SELECT ordflow.activate();';
my $overdue = q(SELECT count(*) FROM ordflow.orders
	WHERE state = 'pending_payment' AND expires_at < clock_timestamp());

answer($node, "CREATE DATABASE $_") for qw(shop live fresh);
answer($node, $create, $_) for qw(shop live fresh);
deactivated();
restored();
copied();
first_things();
first_submits();
rolled_back();
is(worker_complaints($node), '', 'the workers have complained of nothing');
done_testing();

# A launcher that starts looks into every database; this returns when it has.
sub looked_into
{
	my ($db, $name) = @_;
	answer($node, q(SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE backend_type = 'ordflow launcher'));
	becomes($node, q(SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'ordflow launcher'), 1, "$name: a launcher starts");
	# the wish of a commit is met with after those of the start
	order_lamp($node, 'live', '1 s');
	all_cancelled($node, 'live', "$name: meanwhile another database");
	becomes($node, $workers, $inactive, "$name: no worker acts here, the view says what to do",
		$db);
	return;
}

sub is_overdue
{
	my ($db, $n, $name) = @_;
	return becomes($node, $overdue, $n, "$name: $n orders are overdue", $db);
}

sub sell
{
	my ($db, $n, $pay_within) = @_;
	return map { order_lamp($node, $db, $pay_within) } 1 .. $n;
}

# deactivate() lasts: over submits, of sessions too that knew it active, and over restarts.
sub deactivated
{
	my $session = $node->background_psql('shop');
	$session->query("SELECT ordflow.submit_order('c', $lines, pay_within => '1 hour')");
	becomes($node, $workers =~ s/w.pid/w.pid > 0/r, 't|t|waiting|', 'the first order activates',
		'shop');
	answer($node, 'SELECT ordflow.deactivate()', 'shop');
	becomes($node, $workers, $inactive, 'deactivate() sends the coordinator away', 'shop');
	for (1 .. 15)
	{
		answer($node, 'SELECT ordflow.activate()', 'shop');
		usleep(rand 20_000);
		answer($node, 'SELECT ordflow.deactivate()', 'shop');
		becomes($node, $workers, $inactive, 'to and fro: the last word counts', 'shop');
	}
	$session->query($brief);
	sell('shop', 2, '1 s');
	is_overdue('shop', 3, 'deactivated');
	$session->quit;
	$node->restart;
	looked_into('shop', 'restarted');
	is_overdue('shop', 3, 'restarted');
	return;
}

# A dump of a shop with overdue orders. That the launcher starts when the rows are there and
# their indexes and triggers are not is the worst moment.
sub restored
{
	my $rows = checksums($node, 'shop');
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", 'shop' ], 'the shop is dumped');
	for my $db ('by_hand', 'by_submit')
	{
		my @restore = ('pg_restore', '--exit-on-error', '-d', $db);
		answer($node, "CREATE DATABASE $db");
		$node->command_ok([ @restore, "--section=$_", "$dir/dump" ], "$db: $_")
		  for 'pre-data', 'data';
		looked_into($db, $db) if $db eq 'by_hand';
		$node->command_ok([ @restore, '--section=post-data', "$dir/dump" ], "$db: post-data");
		is(answer($node, $workers, $db), $inactive, "$db: restored, it sleeps");
		same_checksums(checksums($node, $db), $rows, "$db: restored");
		is(answer($node, 'SELECT count(*) FROM ordflow.activation', $db), 0,
			"$db: the activation is in no dump");
	}
	answer($node, 'SELECT ordflow.activate()', 'by_hand');
	sell('by_submit', 1, '1 hour');
	for my $db ('by_hand', 'by_submit')
	{
		is(answer($node, $active, $db), 't', "$db: it is active");
		is_overdue($db, 0, "$db: activated");
		is(answer($node, q(SELECT DISTINCT actor, count(*) FROM ordflow.order_history
			WHERE event = 'expire' GROUP BY 1), $db), 'ordflow coordinator|3',
			"$db: the coordinator has cancelled them, each once");
		audits_clean($node, "$db: activated", $db);
	}
	is_overdue('shop', 3, 'the original');
	return;
}

# A copy by TEMPLATE has the rows of ordflow.activation, but they are of another database.
sub copied
{
	answer($node, 'SELECT ordflow.activate()', 'live');
	sell('live', 2, '3 s');
	answer($node, 'CREATE DATABASE copy TEMPLATE live');
	my $rows = checksums($node, 'copy');
	is(answer($node, $workers, 'copy'), $inactive, 'a copy by TEMPLATE sleeps');
	all_cancelled($node, 'live', 'the original goes on');
	is_overdue('copy', 2, 'the copy');
	looked_into('copy', 'the copy');
	same_checksums(checksums($node, 'copy'), $rows, 'the copy, untouched');
	answer($node, 'SELECT ordflow.activate()', 'copy');
	all_cancelled($node, 'copy', 'the copy, activated');
	audits_clean($node, 'the copy', 'copy');
	return;
}

# Databases of their own, as each is to be new.
sub fresh
{
	my ($db) = @_;
	answer($node, "CREATE DATABASE $db TEMPLATE fresh");
	return $db;
}

sub first_things
{
	my $hold = q{reserve_stock('r', '[{"sku": "lamp", "quantity": 1}]'};
	my %activates = (
		"receive_stock('lamp', 1)" => 'f',
		"quote_order('c', $lines)" => 'f',
		"create_coupon('C', 'percent', 10)" => 'f',
		"$hold)" => 'f',
		"$hold, now() + interval '1 hour')" => 't',
		"submit_order('c', $lines)" => 't',
		qq(submit_orders('[{"customer": "c", "lines": [{"sku": "lamp", "quantity": 1,
			"unit_price": 5}]}]')) => 't',
		"attach('jobs', 'job', 'state', due_column => 'due')" => 't');
	answer($node, <<'SQL', 'fresh');
		CREATE TABLE jobs (id int PRIMARY KEY, state text, due timestamptz);
		SELECT ordflow.define_machine('job', '{"states": {"new": "initial", "late": "final"},
			"transitions": [{"from": "new", "event": "lapse", "to": "late", "after": "1 s"}]}');
SQL
	my $n = 0;
	for my $verb (sort keys %activates)
	{
		my $db = fresh('first_' . ++$n);
		is(answer($node, $active, $db), 'f', 'a new database is not active');
		answer($node, "SELECT * FROM ordflow.$verb", $db);
		is(answer($node, $active, $db), $activates{$verb}, "$verb activates: $activates{$verb}");
	}
	return;
}

# First submits that meet wait neither for each other nor for deactivate(), which counts more.
sub first_submits
{
	my $db = fresh('meeting');
	my $submit = 'SELECT ordflow.submit_order(\'c\', \'[{"sku": "lesson", "quantity": 1,
		"unit_price": 5, "stock": false}]\', pay_within => \'1 s\') > 0';
	my @sessions = map { $node->background_psql($db) } 1 .. 3;
	$_->query("SET statement_timeout = '20 s'; BEGIN") for @sessions;
	$sessions[2]->query('SELECT ordflow.deactivate()');
	is($_->query($submit), 't', 'a first submit waits for nobody') for @sessions[ 0, 1 ];
	is(answer($node, $active, $db), 'f', 'none is committed');
	$sessions[0]->query('COMMIT');
	is(answer($node, $active, $db), 't', 'one is committed');
	all_cancelled($node, $db, 'one is committed');
	$sessions[2]->query('COMMIT');
	$sessions[1]->query('COMMIT');
	is(answer($node, $active, $db), 'f', 'whoever came last, deactivate() counts');
	is_overdue($db, 1, 'deactivated');
	is(answer($node, $workers, $db), $inactive, 'deactivated: nobody cancels it');
	answer($node, 'SELECT ordflow.activate()', $db);
	all_cancelled($node, $db, 'activated');
	$_->quit for @sessions;
	return;
}

# What is rolled back has activated nothing, and nobody remembers it as if it had.
sub rolled_back
{
	my $db = fresh('rolled_back');
	my $session = $node->background_psql($db);
	my $is = sub { is($session->query($active), $_[0], $_[1]) };
	$session->query("BEGIN; $brief");
	$is->('t', 'the transaction sees its own activation');
	$session->query('ROLLBACK');
	$is->('f', 'rolled back');
	$session->query("BEGIN; SAVEPOINT s; $brief; ROLLBACK TO s; COMMIT;");
	$is->('f', 'rolled back to a savepoint');
	$session->query('BEGIN; SELECT ordflow.activate(); ROLLBACK');
	$is->('f', 'activate() rolled back');
	raises($node, $brief =~ s/lamp/nothing/r, 'OF004', 'a submit that fails', $db);
	is(answer($node, $workers, $db), $inactive, 'nothing has activated it');
	$session->query($brief);
	$is->('t', 'the first submit that is committed has');
	all_cancelled($node, $db, 'then');
	$session->quit;
	return;
}
