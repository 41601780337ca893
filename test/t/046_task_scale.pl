# Who joins takes his part of the work, and who goes leaves it to the rest, with nothing configured:
# services that claim, processes that only call from a timer, and the pool, between its bounds.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Time::HiRes qw(time usleep);

use constant MANY => 20000;	# more than claimers get through while their rates are taken

my $node = server('main', 'max_worker_processes = 24', 'ordflow.task_workers_min = 1',
	'ordflow.task_workers_max = 4', "ordflow.task_worker_idle = '300ms'");
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE TABLE done (task bigint, who text, at timestamptz DEFAULT clock_timestamp());

	-- claims a few at a time until there is none for a while; each takes so many seconds
	CREATE PROCEDURE claimer(kind text, who text, seconds float8, few int) LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz;
		tasks bigint[];
		tokens bigint[];
	BEGIN
		LOOP
			began := clock_timestamp();
			SELECT array_agg(task_id), array_agg(token) INTO tasks, tokens
				FROM ordflow.claim_tasks(claimer.kind, few, wait => '500 ms');
			EXIT WHEN tasks IS NULL;
			COMMIT;
			FOR i IN 1 .. cardinality(tasks) LOOP
				PERFORM pg_sleep(seconds - extract(epoch FROM clock_timestamp() - began));
				INSERT INTO public.done VALUES (tasks[i], who);
				IF ordflow.complete_task(tasks[i], tokens[i]) = 'applied' THEN
					COMMIT;
				ELSE
					ROLLBACK;
				END IF;
				began := clock_timestamp();
			END LOOP;
		END LOOP;
	END $$;
	CREATE FUNCTION nap(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.01);
		INSERT INTO public.done SELECT task_id, 'pool' FROM ordflow.current_task();
		RETURN NULL;
	END $$;
	SELECT ordflow.define_task('service');
	SELECT ordflow.define_task('nap', 'nap(jsonb)');
SQL

joining();
balance();
killed();
timers();
pool();
is(worker_complaints($node), '', 'no worker has anything to complain of');
done_testing();

sub submit
{
	my ($kind, $n) = @_;
	answer($node, 'TRUNCATE done');
	return answer($node, "SELECT ordflow.submit_batch('$kind', array_fill('1'::jsonb, ARRAY[$n]))");
}

# Sessions that are busy from now on.
sub claimers
{
	my ($few, @seconds) = @_;
	my @sessions;
	for my $i (0 .. $#seconds)
	{
		push @sessions, session($node);
		start($sessions[$i], "CALL claimer('service', '$i', $seconds[$i], $few)");
	}
	return @sessions;
}

# They have come to an end by themselves.
sub finish
{
	for my $session (@_)
	{
		result($session);
		$session->quit;
	}
	return;
}

sub done_once
{
	my ($batch, $n, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, "SELECT state, succeeded FROM ordflow.batches WHERE batch_id = $batch",
		"finished|$n", "$name: all are done");
	return is(answer($node, 'SELECT count(*), count(DISTINCT task) FROM done'), "$n|$n",
		"$name: each once");
}

# Tasks a second, of the second that follows.
sub rate
{
	my $count = 'SELECT count(*) FROM done';
	my ($first, $since) = (answer($node, $count), time);
	usleep(1_000_000);
	my $last = answer($node, $count);
	return ($last - $first) / (time - $since);
}

sub joining
{
	my $batch = submit('service', MANY);
	my (@sessions, @rates);
	for my $n (1, 2, 4)
	{
		push @sessions, claimers(1, (0.01) x ($n - @sessions));
		usleep(200_000);
		push @rates, rate();
		note(sprintf '%d claimers: %d tasks a second', $n, $rates[-1]);
	}
	cmp_ok($rates[1], '>', 1.6 * $rates[0], 'two do more than one');
	cmp_ok($rates[2], '>', 1.6 * $rates[1], 'four do more than two');
	answer($node, "SELECT ordflow.cancel_batch($batch)");
	finish(@sessions);
	is(answer($node, "SELECT count(*) - count(DISTINCT task), count(*) - b.succeeded FROM done,
		ordflow.batches b WHERE batch_id = $batch GROUP BY b.succeeded"), '0|0',
		'nothing is done twice meanwhile');
	return;
}

sub balance
{
	my $batch = submit('service', 780);
	finish(claimers(1, 0.01, 0.01, 0.01, 0.04));
	done_once($batch, 780, 'one of four is slow');
	my $parts = answer($node, q(SELECT count(*) FILTER (WHERE who = '3') * 4.0 /
		(count(*) FILTER (WHERE who <> '3') / 3.0) FROM done));
	cmp_ok(abs($parts - 1), '<=', 0.1, 'who is four times slower does a quarter')
	  or diag(answer($node, 'SELECT who, count(*) FROM done GROUP BY 1 ORDER BY 1'));
	return;
}

# Each of them has claimed ten when one is gone.
sub killed
{
	my $batch = submit('service', 200);
	my @sessions = claimers(10, (0.02) x 4);
	wait_until($node, q(SELECT count(*) > 2 FROM done WHERE who = '0'));
	my $victim = shift @sessions;
	answer($node, "SELECT pg_terminate_backend($victim->{pid}, 10000)");
	ends($node, $victim);
	finish(@sessions);
	done_once($batch, 200, 'one of four is killed');
	cmp_ok(answer($node, q(SELECT count(*) FROM done WHERE who = '0')), '<', 40,
		'the rest has done its share');
	return;
}

# Four that only look in once a second, each for as many as it can take.
sub timers
{
	my $batch = submit('service', 100);
	my $script = <<'SQL' x 4;
		WITH c AS MATERIALIZED (SELECT * FROM ordflow.claim_tasks('service', 10)),
			d AS (INSERT INTO done SELECT task_id, pg_backend_pid()::text FROM c)
		SELECT ordflow.complete_task(task_id, token) FROM c;
		SELECT pg_sleep(1) \g /dev/null
SQL
	my @answers = at_once($node, map { [ 'postgres', $script ] } 1 .. 4);
	is(join("\n", sort grep { $_ ne '' } @answers) =~ s/applied\n?//gr, '', 'four timers look in');
	done_once($batch, 100, 'four timers');
	cmp_ok(answer($node, 'SELECT count(DISTINCT who) FROM done'), '>=', 3, 'all of them do some');
	return;
}

sub pool
{
	my $workers = q(SELECT count(*) FROM ordflow.workers
		WHERE worker LIKE 'pool%' AND pid IS NOT NULL);
	becomes($node, $workers, 1, 'the pool keeps its minimum');
	my $batch = submit('nap', 400);
	becomes($node, $workers, 4, 'it grows to its maximum while there is more to do');
	done_once($batch, 400, 'the pool');
	becomes($node, $workers, 1, 'and shrinks again');
	my $pid = answer($node, q(SELECT pid FROM ordflow.workers WHERE worker LIKE 'pool%'));
	answer($node, "SELECT pg_terminate_backend($pid, 10000)");
	becomes($node, "$workers AND pid <> $pid", 1, 'one that is terminated is replaced');
	$batch = submit('nap', 1);
	done_once($batch, 1, 'by one that works');
	return;
}
