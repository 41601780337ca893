# A handler that takes the server down with it is found out: what ran at that moment runs alone
# after the restart, the one that crashes it alone again and again ends among the dead, and those
# that only ran beside it do not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Handler;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $handler = Handler::build();
plan skip_all => 'no C compiler, or no headers of the server' unless $handler;

my $node = server('main', 'max_worker_processes = 24', 'restart_after_crash = on',
	'ordflow.task_workers_max = 6');
answer($node, <<"SQL");
	CREATE EXTENSION ordflow;
	CREATE TABLE done (task bigint);
	CREATE FUNCTION crash(jsonb) RETURNS jsonb LANGUAGE c AS '$handler', 'test_crash';
	CREATE FUNCTION innocent(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	BEGIN
		INSERT INTO public.done SELECT task_id FROM ordflow.current_task();
		PERFORM pg_sleep((p ->> 'sleep')::float8);
		RETURN p;
	END \$\$;
	SELECT ordflow.define_task('crash', 'crash(jsonb)', '{"max_crashes": 2}');
	SELECT ordflow.define_task('innocent', 'innocent(jsonb)');
	SELECT ordflow.define_task('quick', 'innocent(jsonb)', '{"short": true}');
SQL

# three run beside it when it crashes for the first time
my $three = answer($node, q(SELECT ordflow.submit_batch('innocent',
	array_fill('{"sleep": 0.5}'::jsonb, ARRAY[3]))));
becomes($node, "SELECT running FROM ordflow.batches WHERE batch_id = $three", 3, 'three run');
answer($node, "SELECT ordflow.submit_task('crash')");
my $restarted = back('the server is back');
my $others = answer($node, q(SELECT ordflow.submit_batch('quick',
	array_fill('{"sleep": 0}'::jsonb, ARRAY[200]))));
becomes_at_last("SELECT kind, cause, sqlstate, error FROM ordflow.dead_tasks",
	'crash|crash|XX000|the server crashed 2 times while the task ran alone',
	'who crashes the server alone is dead');
becomes_at_last("SELECT state, succeeded FROM ordflow.batches WHERE batch_id = $three",
	'finished|3',
	'the three that ran beside it are not');
becomes_at_last("SELECT state, succeeded FROM ordflow.batches WHERE batch_id = $others",
	'finished|200', 'and all others are done');
is(answer($node, 'SELECT count(*), count(DISTINCT task) FROM done'), '203|203', 'each once');
is(answer($node, "SELECT count(*) FROM ordflow.tasks WHERE kind <> 'crash' AND attempts <> 1"), 0,
	'none of them counts a failed attempt');
my @crashes = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /was terminated by signal 6/g;
is(scalar @crashes, 3, 'once in company, twice alone');

# the file outlives a stop; a task that was running when the server was killed is no suspect for
# long
answer($node, q(SELECT ordflow.submit_task('innocent', '{"sleep": 2}')));
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE state = 'running'", 1, 'one runs');
$node->stop('immediate');
$node->start;
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE state NOT IN ('succeeded', 'dead')", 0,
	'it runs again, alone');
is(answer($node, 'SELECT count(*), count(DISTINCT task) FROM done'), '204|204', 'and is done once');
done_testing();

sub back
{
	my ($name) = @_;
	for (1 .. 600)
	{
		usleep(100_000);
		my ($status) = $node->psql('postgres', 'SELECT 1', timeout => 10);
		return ok(1, $name) if $status == 0;
	}
	return ok(0, $name);
}

# The server may go down meanwhile.
sub becomes_at_last
{
	my ($sql, $expected, $name) = @_;
	my $out = '';
	for (1 .. 600)
	{
		(my $status, $out) = $node->psql('postgres', $sql, timeout => 10);
		last if $status == 0 && $out eq $expected;
		usleep(100_000);
	}
	return is($out, $expected, $name);
}
