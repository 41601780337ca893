# Holders of tasks are killed: clients while they are idle and inside a statement, backends,
# workers, and the server with everything. What they held is another's, and nothing has to be
# repaired.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = server('main', 'fsync = on', 'max_worker_processes = 24', 'restart_after_crash = on');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE TABLE done (task bigint);
	CREATE FUNCTION work(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.done SELECT task_id FROM ordflow.current_task();
		PERFORM pg_sleep((p ->> 'sleep')::float8);
		RETURN NULL;
	END $$;
	SELECT ordflow.define_task('service'), ordflow.define_task('work', 'work(jsonb)'),
		ordflow.define_task('short', 'work(jsonb)', '{"short": true}');
	SELECT ordflow.submit_task('service', '"the one"');
SQL
my $claim = "SELECT payload FROM ordflow.claim_tasks('service', 1, wait => '30 s');";

# Each claims the one task, and is killed; the next one has waited for it.
for my $how ('idle', 'in a transaction', 'in a statement', 'by its backend')
{
	my $holder = client($how eq 'in a transaction' ? "BEGIN;\n$claim" : $claim);
	like(first_line($holder), qr/the one/, "$how: it holds the task");
	$holder->{in} .= "SELECT pg_sleep(300);\n" if $how eq 'in a statement';
	IPC::Run::pump_nb($holder->{run}) while $holder->{in} ne '';
	becomes($node, "SELECT count(*) FROM pg_stat_activity
		WHERE query LIKE 'SELECT pg_sleep(300)%'", 1,
		"$how: it is at work") if $how eq 'in a statement';
	my $next = client($claim);
	becomes($node, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'Extension'
		AND query LIKE '%claim_tasks%' AND pid <> pg_backend_pid()", 1, "$how: another waits");
	if ($how eq 'by its backend')
	{
		answer($node, "SELECT pg_terminate_backend(pid) FROM ordflow.tasks WHERE pid IS NOT NULL");
	}
	else
	{
		$holder->{run}->signal('KILL');
	}
	like(first_line($next), qr/the one/, "$how: it has the task as soon as the holder is gone");
	$next->{run}->kill_kill;
	eval { $holder->{run}->finish };
	becomes($node, "SELECT state FROM ordflow.tasks WHERE kind = 'service'", 'queued',
		"$how: free");
}
is(answer($node, "SELECT attempts FROM ordflow.tasks WHERE kind = 'service'"), 0,
	'none of that was a failed attempt');

# the server, in the middle of very many
my $many = answer($node, q(SELECT ordflow.submit_batch('short', array_fill('{"sleep": 0}'::jsonb,
	ARRAY[100000]))));
my $long = answer($node, q(SELECT ordflow.submit_batch('work', array_fill('{"sleep": 1}'::jsonb,
	ARRAY[3]))));
my $later = answer($node, q(SELECT ordflow.submit_task('work', '{"sleep": 0}',
	jsonb_build_object('run_at', clock_timestamp() + interval '3 s'))));
my $lease = answer($node, q(SELECT token FROM ordflow.claim_tasks('service', 1, '1 hour')));
becomes($node, "SELECT succeeded > 20000 FROM ordflow.batches WHERE batch_id = $many", 't',
	'at work');
my @pids = split /\n/, answer($node, 'SELECT pid FROM pg_stat_activity');
$node->kill9;
kill KILL => @pids;
usleep(10_000) while kill 0 => @pids;
$node->start;
becomes($node, "SELECT state, succeeded FROM ordflow.batches WHERE batch_id = $many",
	'finished|100000', 'killed with everything: the batch ends');
becomes($node, "SELECT state, succeeded FROM ordflow.batches WHERE batch_id = $long", 'finished|3',
	'and what ran');
becomes($node, "SELECT state FROM ordflow.tasks WHERE task_id = $later", 'succeeded',
	'what was to come');
is(answer($node, 'SELECT count(*), count(DISTINCT task) FROM done'), '100004|100004',
	'each has left its row, once');
is(answer($node, "SELECT ordflow.complete_task(task_id, $lease) FROM ordflow.tasks
	WHERE kind = 'service'"),
	'stale', 'a lease does not outlive the server: its token is stale');
is(answer($node, "SELECT payload FROM ordflow.claim_tasks('service')"), '"the one"',
	'and its task free');
is(answer($node, 'SELECT count(*) FROM ordflow.task_attempts'), 0, 'that was no failed attempt');

# a crash of a backend is one of all: what was claimed is free, what was done is done
answer($node, q(SELECT ordflow.submit_batch('short', array_fill('{"sleep": 0.001}'::jsonb,
	ARRAY[3000]))));
becomes($node, 'SELECT succeeded > 100 FROM ordflow.batches ORDER BY batch_id DESC LIMIT 1', 't',
	'at work');
my $victim = answer($node, "SELECT pid FROM ordflow.workers WHERE worker LIKE 'pool%' LIMIT 1");
kill KILL => $victim;
for (1 .. 600)
{
	usleep(100_000);
	my ($status, $out) = $node->psql('postgres',
		'SELECT state FROM ordflow.batches ORDER BY batch_id DESC LIMIT 1', timeout => 10);
	last if $status == 0 && $out eq 'finished';
}
is(answer($node, 'SELECT count(*), count(DISTINCT task) FROM done'), '103004|103004',
	'a worker killed with SIGKILL: each once');
is(answer($node, 'SELECT count(*) FROM ordflow.dead_tasks'), 0, 'and none is dead');
done_testing();

# A psql that is fed.
sub client
{
	my ($sql) = @_;
	my %client = (in => "$sql\n", out => '');
	$client{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
		'<', \$client{in}, '>', \$client{out}, '2>&1', IPC::Run::timeout(120));
	IPC::Run::pump_nb($client{run}) while $client{in} ne '';
	return \%client;
}

sub first_line
{
	my ($client) = @_;
	IPC::Run::pump($client->{run}) while $client->{out} !~ /\n/;
	return $client->{out};
}
