# With nothing to do there is nothing done: a database with tasks that are finished, due tomorrow,
# scheduled for next year, paused and held runs no statement and writes no WAL, for a minute; and
# works at once when there is something.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Time::HiRes qw(time usleep);

use constant MINUTE => 60;
use constant WAKE_UPS => 12;	# of a process, that wakes now and then to look at its clock

my $node = server('main', 'max_worker_processes = 24', 'wal_level = minimal', 'max_wal_senders = 0',
	'autovacuum = off', 'checkpoint_timeout = 1h', "ordflow.task_worker_idle = '500ms'",
	'ordflow.task_workers_min = 1');
answer($node, 'CREATE DATABASE shop');
answer($node, <<'SQL', 'shop');
	CREATE EXTENSION ordflow;
	CREATE FUNCTION echo(p jsonb) RETURNS jsonb LANGUAGE sql RETURN p;
	SELECT ordflow.define_task('echo', 'echo(jsonb)');
	SELECT ordflow.define_task('paused', 'echo(jsonb)');
	SELECT ordflow.define_task('service');
	SELECT ordflow.pause_kind('paused');
	SELECT ordflow.submit_batch('echo', array_fill('1'::jsonb, ARRAY[1000]));
	SELECT ordflow.submit_batch('paused', array_fill('1'::jsonb, ARRAY[10]));
	SELECT ordflow.submit_batch('service', array_fill('1'::jsonb, ARRAY[10]));
	SELECT ordflow.submit_task('echo', '2', jsonb_build_object('run_at', now() + interval '1 day'));
	SELECT ordflow.submit_task('echo', '3',
		jsonb_build_object('run_at', now() + interval '10 min'));
	SELECT ordflow.schedule_task('new year', '@yearly', 'echo');
	SELECT count(*) FROM ordflow.claim_tasks('service', 1, lease => '1 hour');
SQL
my $holder = session($node, 'shop');
act($holder, q(SELECT count(*) FROM ordflow.claim_tasks('service', 3)));
my $waiter = session($node, 'shop');
start($waiter, q(CALL ordflow.wait_for_tasks('echo', '1 hour')));
becomes($node, q(SELECT count(*) FROM ordflow.tasks WHERE state = 'succeeded'), 1000,
	'what there was to do is done', 'shop');
becomes($node, q(SELECT string_agg(worker || ' ' || state, ', ' ORDER BY worker)
	FROM ordflow.workers WHERE database = 'shop'),
	'coordinator waiting, pool postgres 1 waiting', 'who is left waits', 'shop');
# up to where all is done is written once, half a minute later
becomes($node, q(SELECT done_through FROM ordflow.task_progress WHERE part = 1), 1000,
	'and how far it is', 'shop');

# from now on all is asked of another database; half a minute later the coordinator has seen that
# nothing has moved since
usleep(32_000_000);
my %before = facts();
my %woken = wake_ups();
my $since = time;
usleep(MINUTE * 1_000_000);
my %after = facts();
is_deeply(\%after, \%before, 'a minute without a statement, a transaction, a block or WAL');
SKIP:
{
	skip 'no /proc', 1 unless %woken;
	my %now = wake_ups();
	my @restless = grep { ($now{$_} // 0) - $woken{$_} > WAKE_UPS } keys %woken;
	is(join(', ', map { "$_ " . ($now{$_} - $woken{$_}) } @restless), '', 'all of them sleep');
}

my $task = answer($node, q(SELECT ordflow.submit_task('echo', '4')), 'shop');
becomes($node, "SELECT state, started_at - submitted_at < '1 s' FROM ordflow.tasks
	WHERE task_id = $task", 'succeeded|t', 'the next task runs at once', 'shop');
act($holder, 'ROLLBACK');
$holder->quit;
becomes($node, q(SELECT count(*) FROM ordflow.tasks
	WHERE kind = 'service' AND state = 'running'), 1, 'what the session held is free', 'shop');
$waiter->{run}->kill_kill;
is(worker_complaints($node), '', 'no worker has anything to complain of');
done_testing();

# What would change by anything that is done in the database.
sub facts
{
	my $row = answer($node, <<'SQL');
		SELECT d.xact_commit, d.xact_rollback, d.blks_hit + d.blks_read, d.tup_returned,
			pg_current_wal_insert_lsn(), (SELECT string_agg(a.pid || ' ' || a.backend_type, ', '
				ORDER BY a.pid) FROM pg_stat_activity a WHERE a.datid = d.datid)
		FROM pg_stat_database d WHERE d.datname = 'shop'
SQL
	my %facts;
	@facts{qw(commits rollbacks blocks rows wal processes)} = split /\|/, $row;
	return %facts;
}

# How often each worker has gone to sleep, where the system tells.
sub wake_ups
{
	my %count;
	for my $line (split /\n/, answer($node, q(SELECT pid, backend_type FROM pg_stat_activity
		WHERE backend_type LIKE 'ordflow%')))
	{
		my ($pid, $type) = split /\|/, $line;
		open my $file, '<', "/proc/$pid/status" or return;
		my ($n) = map { /^voluntary_ctxt_switches:\s+(\d+)/ } <$file>;
		$count{$type} = $n;
		close $file;
	}
	return %count;
}
