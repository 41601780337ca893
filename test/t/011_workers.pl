# The life of the workers: who runs and when, how they stop, reload and come back, and what becomes
# of a shop where they cannot run. A server of its own, as much of it is signals and restarts; its
# log says at DEBUG1 each worker that the server was asked to start.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant STOP_SECONDS => 20;	# a server that waits for its workers would take minutes

my $node = server('main', 'log_min_messages = debug1', 'restart_after_crash = on', 'fsync = on',
	"ordflow.fold_interval = '100ms'");
my $activity = q(SELECT backend_type, application_name, datname FROM pg_stat_activity
	WHERE backend_type ~ '^ordflow' ORDER BY 1, 3);
my $launcher_only = 'ordflow launcher||';
my $launchers;	# how many were started before they were switched off

answer($node, "CREATE DATABASE $_") for qw(long brief plain mould);
answer($node, "CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 1000)", $_)
  for qw(long brief mould);

only_with_work();
settings_do_not_reach_it();
reload();
terminated();
killed();
extension_dropped();
restarted();
is(worker_complaints($node), '', 'the workers have complained of nothing');
long_effect();
switched_off();
no_room();
outside_the_server();
done_testing();

# How often the server was asked to start a worker of this name.
sub starts
{
	my ($worker) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
	return scalar(() = $log =~ /\bregistering background worker "ordflow $worker"/g);
}

sub launcher
{
	return answer($node,
		q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'ordflow launcher'));
}

sub only_with_work
{
	becomes($node, $activity, $launcher_only, 'no work: the launcher runs alone');
	is( answer($node, 'SELECT worker, database, pid IS NOT NULL, state, since <= now(), problem
			FROM ordflow.workers', 'brief'),
		'launcher||t|running|t|', 'the view says so');
	answer($node, 'CREATE DATABASE fresh');
	is( answer($node, "CREATE EXTENSION ordflow;
			SELECT database, state, problem FROM ordflow.workers
			WHERE worker = 'coordinator'", 'fresh'),
		'fresh|inactive|no worker acts in this database: it is new, a copy, or deactivated',
		'nor does one act in a new database');
	answer($node, 'DROP DATABASE fresh');

	my $starts = starts('coordinator');
	my $session = $node->background_psql('long');
	my $submit = q(SELECT ordflow.submit_order('c', '[{"sku": "lamp", "quantity": 1,
		"unit_price": 5}]', pay_within => '1 hour'));
	$session->query("BEGIN; $submit; ROLLBACK");
	$session->query("BEGIN; $submit");
	# of work in another database the launcher hears now: what came before it has met with
	order_lamp($node, 'brief', '1 s');
	becomes($node, q(SELECT state FROM ordflow.orders), 'cancelled', 'a deadline passes', 'brief');
	all_cancelled($node, 'brief', 'brief');
	is(coordinator($node, 'long'), '', 'an order that is not committed brings no coordinator');
	is(starts('coordinator'), $starts + 1, 'nor did one that was rolled back');
	becomes($node, $activity, $launcher_only, 'with nothing due any more a coordinator ends');

	$session->query('COMMIT');
	becomes($node, $activity, "ordflow coordinator|ordflow coordinator|long\n$launcher_only",
		'its commit brings one, and its name stands in pg_stat_activity');
	becomes($node, q(SELECT w.pid = a.pid, w.state, w.problem,
		w.next_at = (SELECT expires_at FROM ordflow.orders)
		FROM ordflow.workers w LEFT JOIN pg_stat_activity a ON a.datname = w.database
		AND a.backend_type = 'ordflow coordinator' WHERE w.worker = 'coordinator'),
		't|waiting||t', 'the view shows it, and when it wakes', 'long');
	is(starts('coordinator'), $starts + 2, 'nobody else was started');
	is(starts('launcher'), 1, 'nor was the launcher, again');
	$session->quit;
	return;
}

# What somebody sets for a database must not bend what the worker does in it.
sub settings_do_not_reach_it
{
	my $session = $node->background_psql('brief');
	answer($node, <<'SQL', 'brief');
		CREATE SCHEMA evil;
		CREATE TABLE evil.orders (order_id bigint);
		CREATE FUNCTION evil.less(timestamptz, timestamptz) RETURNS boolean
			LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR evil.<= (FUNCTION = evil.less, LEFTARG = timestamptz,
			RIGHTARG = timestamptz);
		ALTER DATABASE brief SET search_path = evil, pg_catalog;
		ALTER DATABASE brief SET session_replication_role = replica;
		ALTER DATABASE brief SET default_transaction_isolation = serializable;
		ALTER DATABASE brief SET statement_timeout = '1 ms';
		ALTER DATABASE brief SET lock_timeout = '1 ms';
		ALTER DATABASE brief SET row_security = off;
		ALTER DATABASE brief SET role = pg_monitor;
		ALTER DATABASE brief SET "TimeZone" = 'Asia/Kathmandu';
		ALTER DATABASE brief SET "DateStyle" = 'SQL, DMY';
		ALTER DATABASE brief SET ordflow.actor = 'evil';
		ALTER DATABASE brief SET ordflow.event = 'cancel';
		ALTER DATABASE brief SET application_name = 'evil';
SQL
	$session->query(q(SELECT ordflow.submit_order('c', '[{"sku": "lamp", "quantity": 1,
		"unit_price": 5}]', pay_within => '1 s')));
	becomes($node, q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'brief'
		AND backend_type = 'ordflow coordinator'), 1, 'a coordinator starts in all that');
	answer($node, 'ALTER DATABASE brief RESET ALL');
	$session->quit;
	all_cancelled($node, 'brief', 'with hostile settings of the database');
	return;
}

sub reload
{
	my %pid = (launcher => launcher(), coordinator => coordinator($node, 'long'));
	my $offset = -s $node->logfile;
	answer($node, 'ALTER SYSTEM SET log_min_messages = debug5');
	$node->reload;
	for my $worker (sort keys %pid)
	{
		my $said = qr/\[$pid{$worker}\] ordflow $worker DEBUG:  StartTransaction/;
		my $log = '';
		for (1 .. 60)	# its first transaction may come before the signal
		{
			last if $log =~ $said;
			order_lamp($node, $_, '1 s') for 'long', 'brief';
			select undef, undef, undef, 0.5;
			$log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset);
		}
		ok($log =~ $said, "the $worker reads its settings again");
	}
	answer($node, 'ALTER SYSTEM RESET log_min_messages');
	$node->reload;
	is(coordinator($node, 'long'), $pid{coordinator}, 'and is the same as before');
	return;
}

sub terminated
{
	my $coordinator = coordinator($node, 'long');
	order_lamp($node, 'brief', '3 s');
	is(answer($node, "SELECT pg_terminate_backend($coordinator, 10000)"), 't',
		'the coordinator ends on SIGTERM');
	becomes($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'long'
		AND backend_type = 'ordflow coordinator' AND pid <> $coordinator", 1, 'and comes back');

	my $launcher = launcher();
	is(answer($node, "SELECT pg_terminate_backend($launcher, 10000)"), 't',
		'the launcher ends on SIGTERM');
	becomes($node, "SELECT count(*) FROM pg_stat_activity WHERE pid <> $launcher
		AND backend_type = 'ordflow launcher'", 1, 'and comes back');
	is(answer($node, q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'long'
		AND backend_type = 'ordflow coordinator')), 1, 'with one coordinator as before');

	answer($node, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE backend_type ~ '^ordflow'));
	all_cancelled($node, 'brief', 'all workers terminated');
	is(answer($node, q(SELECT max(h.at - o.expires_at) < '20 s' FROM ordflow.orders o
		JOIN ordflow.order_history h USING (order_id) WHERE h.event = 'expire'), 'brief'), 't',
		'within seconds of its deadline');
	becomes($node, $activity, "ordflow coordinator|ordflow coordinator|long\n$launcher_only",
		'and they are all there again');
	return;
}

# A worker killed by SIGKILL takes all sessions with it; the server starts anew by itself.
sub killed
{
	order_lamp($node, 'brief', '2 s');
	my $pid = coordinator($node, 'long');
	kill KILL => $pid;
	for (1 .. 600)
	{
		# psql may be gone before it is asked
		my ($status, $out) = eval {
			$node->psql('postgres', "SELECT count(*) FROM pg_stat_activity
				WHERE datname = 'long' AND pid <> $pid");
		};
		last if defined $status && $status == 0 && $out eq '1';
		select undef, undef, undef, 0.1;
	}
	all_cancelled($node, 'brief', 'a worker killed');
	becomes($node, $activity, "ordflow coordinator|ordflow coordinator|long\n$launcher_only",
		'and no worker is there twice');
	return;
}

sub extension_dropped
{
	order_lamp($node, 'brief', '1 hour');
	becomes($node, q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'brief'
		AND backend_type = 'ordflow coordinator'), 1, 'a coordinator sleeps for an hour');
	my $session = $node->background_psql('brief');
	$session->query('BEGIN; DROP EXTENSION ordflow; ROLLBACK');
	isnt(coordinator($node, 'brief'), '', 'DROP EXTENSION is rolled back: it is still there');
	$session->query('DROP EXTENSION ordflow');
	becomes($node, q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'brief'
		AND backend_type = 'ordflow coordinator'), 0, 'DROP EXTENSION: it ends');
	$session->query(q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 1000)));
	order_lamp($node, 'brief', '1 s');
	all_cancelled($node, 'brief', 'created again');
	$session->query('BEGIN; DROP EXTENSION ordflow; CREATE EXTENSION ordflow; COMMIT;');
	$session->query(q(SELECT ordflow.receive_stock('lamp', 1000)));
	order_lamp($node, 'brief', '1 s');
	all_cancelled($node, 'brief', 'created again in one transaction');
	$session->quit;
	return;
}

# After a start each database is looked into, but no template.
sub restarted
{
	order_lamp($node, 'mould', '1 hour');
	becomes($node, q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'mould'
		AND backend_type = 'ordflow coordinator'), 1, 'an order of a database');
	answer($node, 'ALTER DATABASE mould IS_TEMPLATE true');
	is(coordinator($node, 'mould'), '', 'that becomes a template: its coordinator has left');
	order_lamp($node, 'brief', '1 s');
	$node->stop('fast');
	my $starts = starts('coordinator');
	$node->start;
	all_cancelled($node, 'brief', 'restarted');
	becomes($node, $activity, "ordflow coordinator|ordflow coordinator|long\n$launcher_only",
		'after a start only who has work stays');
	is(starts('coordinator') - $starts, 4,
		'one look into each of postgres, long, brief and plain, none into a template');
	like(answer($node, 'SELECT state FROM ordflow.orders', 'mould'), qr/pending/,
		'an order of a template stays as it is');
	return;
}

# An effect that does not end: the server stops all the same, and nothing is done by half.
sub long_effect
{
	answer($node, <<'SQL', 'long');
		CREATE TABLE napping ();
		INSERT INTO napping DEFAULT VALUES;
		CREATE FUNCTION nap(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			WHILE EXISTS (SELECT FROM public.napping) LOOP
				PERFORM pg_sleep(0.05);
			END LOOP;
		END $$;
		SELECT ordflow.add_effect('order', 'expire', 'public.nap(jsonb,jsonb)');
SQL
	order_lamp($node, 'long', '1 s');
	my $asleep = q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'long'
		AND backend_type = 'ordflow coordinator' AND wait_event = 'PgSleep');
	becomes($node, $asleep, 1, 'an effect takes its time');
	my $pid = coordinator($node, 'long');
	is(answer($node, "SELECT pg_terminate_backend($pid, 10000)"), 't',
		'the coordinator ends on SIGTERM in the midst of it');
	becomes($node, $asleep, 1, 'and does it again');
	answer($node, 'ALTER SYSTEM SET ordflow.workers = off');
	$launchers = starts('launcher');
	my $start = time;
	$node->stop('fast');
	cmp_ok(time - $start, '<', STOP_SECONDS, 'a fast stop does not wait for it');
	return;
}

# A shop where no worker comes by sells as ever; what is overdue waits.
sub foreground
{
	my ($name) = @_;
	my $paid = order_lamp($node, 'long', '1 hour');
	is(answer($node, "SELECT ordflow.pay_order($paid, 'bank', 'tx $paid', 5)", 'long'), 'applied',
		"$name: an order is sold and paid");
	my $overdue = order_lamp($node, 'long', '1 s');
	becomes($node, "SELECT clock_timestamp() > expires_at + interval '0.5 s', state
		FROM ordflow.orders WHERE order_id = $overdue", 't|pending_payment',
		"$name: an overdue one waits", 'long');
	return;
}

sub switched_off
{
	$node->start;
	is(answer($node, $activity), '', 'ordflow.workers = off: no worker runs');
	is(answer($node, 'SELECT worker, pid, state, problem FROM ordflow.workers', 'long'),
		'launcher||off|ordflow.workers is off', 'the view says why');
	answer($node, 'DELETE FROM napping', 'long');
	foreground('off');
	is(answer($node, 'SELECT ordflow.run_due()', 'long'), 2, 'off: run_due() does what is due');
	is(starts('launcher'), $launchers, 'off: none was started');

	answer($node, answer($node, 'SELECT fix FROM ordflow.workers WHERE fix IS NOT NULL', 'long'));
	$node->restart;
	order_lamp($node, 'brief', '1 s');
	all_cancelled($node, 'brief', 'with the line that the view gives');
	return;
}

# The server's own launcher of logical replication takes the first slot.
sub no_room
{
	my @state = ('launcher|not running', 'launcher|not running', 'coordinator|no slot');

	for my $slots (0 .. 2)
	{
		my $name = "max_worker_processes = $slots";
		my $fix = 'ALTER SYSTEM SET max_worker_processes = ' . ($slots + 4);
		answer($node, "ALTER SYSTEM SET max_worker_processes = $slots");
		$node->restart;
		foreground($name);
		becomes($node, q(SELECT DISTINCT worker, state, split_part(fix, ';', 1)
			FROM ordflow.workers WHERE problem IS NOT NULL), "$state[$slots]|$fix",
			"$name: the view says what to do", 'long');
		is( answer($node, q(SELECT DISTINCT split_part(fix, ';', 1) FROM ordflow.doctor()
				WHERE part = 'worker'), 'long'), $fix, "$name: so does doctor()");
	}
	answer($node, answer($node, q(SELECT DISTINCT fix FROM ordflow.doctor()
		WHERE part = 'worker'), 'long'));
	$node->restart;
	becomes($node, q(SELECT count(*) FROM ordflow.orders WHERE due_at < now()), 0,
		'with the line that they give all that waited is cancelled', 'long');
	is(answer($node, q(SELECT * FROM ordflow.doctor() WHERE part = 'worker'), 'long'), '',
		'and doctor() is content');
	audits_clean($node, 'all this', 'long');
	is(worker_complaints($node), '', 'the workers have complained of nothing');
	return;
}

# Neither for pg_upgrade nor in single-user mode is a worker so much as registered.
sub outside_the_server
{
	my $id = order_lamp($node, 'brief', '2 s');
	$node->stop;
	my $log = PostgreSQL::Test::Utils::tempdir . '/log';
	my @pg_ctl = ('pg_ctl', '-D', $node->data_dir, '-w', '-l', $log);
	command_ok([ @pg_ctl, '-o', '-b', 'start' ], 'the server starts for pg_upgrade');
	becomes($node, "SELECT clock_timestamp() > expires_at, state FROM ordflow.orders
		WHERE order_id = $id", 't|pending_payment', 'binary upgrade: nobody cancels', 'brief');
	is(answer($node, $activity), '', 'binary upgrade: no worker runs');
	command_ok([ @pg_ctl, 'stop' ], 'and stops');
	my $said = PostgreSQL::Test::Utils::slurp_file($log);
	unlike($said, qr/ordflow launcher/, 'binary upgrade: none was registered');

	my ($out, $err) = ('', '');
	my $sql = "SELECT state FROM ordflow.orders WHERE order_id = $id\n"
	  . "SELECT ordflow.receive_stock('lamp', 1)\n";
	IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'brief' ],
		'<', \$sql, '>', \$out, '2>', \$err, IPC::Run::timeout(60));
	like($out, qr/state = "pending_payment".*receive_stock = /s, 'single-user mode: it works');
	unlike($err, qr/ordflow launcher|ERROR|WARNING/, 'single-user mode: none was registered');

	$node->start;
	all_cancelled($node, 'brief', 'afterwards');
	return;
}
