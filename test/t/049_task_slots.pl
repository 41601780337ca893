# The worker slots of the server are used up: the view, the doctor and the log say so, the tasks are
# run by fewer workers, and by all as soon as there is room.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

# the server's own launcher of logical replication, ours and the coordinator leave room for one
my $node = server('main', 'max_worker_processes = 4', 'ordflow.task_workers_max = 3');
my $pool = q(FROM ordflow.workers WHERE worker LIKE 'pool%');
my $fix = 'ALTER SYSTEM SET max_worker_processes = 8';

answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE TABLE done (task bigint, pid int);
	CREATE FUNCTION nap(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(p::float8);
		INSERT INTO public.done SELECT task_id, pg_backend_pid() FROM ordflow.current_task();
		RETURN NULL;
	END $$;
	SELECT ordflow.define_task('nap', 'nap(jsonb)');
SQL

fewer();
none();
more();
is(worker_complaints($node), '', 'no worker has anything to complain of');
done_testing();

sub submit
{
	my ($n, $seconds) = @_;
	answer($node, 'TRUNCATE done');
	return answer($node,
		"SELECT ordflow.submit_batch('nap', array_fill('$seconds'::jsonb, ARRAY[$n]))");
}

sub done_once
{
	my ($batch, $n, $workers, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, "SELECT state, succeeded FROM ordflow.batches WHERE batch_id = $batch",
		"finished|$n", "$name: all are done");
	return is(answer($node, 'SELECT count(*), count(DISTINCT task), count(DISTINCT pid) FROM done'),
		"$n|$n|$workers", "$name: each once, by $workers");
}

sub fewer
{
	my $batch = submit(60, 0.05);
	becomes($node, "SELECT count(*) FILTER (WHERE state = 'running' AND pid IS NOT NULL),
		count(*) FILTER (WHERE state = 'no slot' AND pid IS NULL),
		max(problem), split_part(max(fix), ';', 1) $pool",
		"1|1|every slot of max_worker_processes is taken|$fix",
		'one runs, and of another the view says what is missing');
	is(answer($node, "SELECT DISTINCT split_part(fix, ';', 1) FROM ordflow.doctor()
		WHERE object LIKE 'pool%'"), $fix, 'so does the doctor');
	done_once($batch, 60, 1, 'one worker');
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
	my @said = $log =~ /LOG:  no background worker slot is free for tasks of role "postgres"/g;
	is(scalar @said, 1, 'the log says it once');
	becomes($node, "SELECT count(*) $pool AND state = 'no slot'", 0,
		'with nothing more to do nobody is missing');
	return;
}

# Tasks of a kind with a handler wait until somebody can run them; services go on.
sub none
{
	answer($node, 'ALTER SYSTEM SET max_worker_processes = 3');
	$node->restart;
	my $batch = submit(6, 0.05);
	becomes($node, "SELECT count(*), max(state) $pool", '1|no slot', 'no room for a single one');
	answer($node, q(SELECT ordflow.define_task('service'); SELECT ordflow.submit_task('service')));
	is(answer($node, q(SELECT ordflow.complete_task(task_id, token)
		FROM ordflow.claim_tasks('service', 1))), 'applied', 'services work all the same');
	is(answer($node, "SELECT queued FROM ordflow.batches WHERE batch_id = $batch"), 6,
		'tasks of the pool wait');
	return;
}

sub more
{
	answer($node, answer($node, "SELECT DISTINCT fix FROM ordflow.doctor()
		WHERE object LIKE 'pool%'"));
	$node->restart;
	becomes($node, "SELECT state FROM ordflow.batches ORDER BY batch_id DESC LIMIT 1", 'finished',
		'with the line that it gives they are done');
	done_once(submit(60, 0.05), 60, 3, 'room for all');
	is(answer($node, "SELECT * FROM ordflow.doctor() WHERE part = 'worker'"), '',
		'and the doctor is content');
	return;
}
