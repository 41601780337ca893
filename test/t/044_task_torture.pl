# Ten thousand tasks, each of which inserts one row: by workers, by services that hold their
# claims by session and by lease, killed at random, and the server with them. In the end there are
# exactly ten thousand rows, and the batch ends once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use constant TASKS => 10000;	# of both kinds together
use constant KILLS => 60;

my $seed = $ENV{ORDFLOW_SEED} // time ^ $$;
srand $seed;
my $node = server('main', 'fsync = on', 'max_worker_processes = 24', 'restart_after_crash = on');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE TABLE done (task bigint);
	CREATE FUNCTION work(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.done SELECT task_id FROM ordflow.current_task();
		PERFORM pg_sleep(0.003);
		IF random() < 0.01 THEN RAISE 'a failure'; END IF;
		RETURN NULL;
	END $$;
	SELECT ordflow.define_task('work', 'work(jsonb)', '{"backoff": "10 ms", "max_attempts": 1000}');
	SELECT ordflow.define_task('short', 'work(jsonb)',
		'{"short": true, "backoff": "10 ms", "max_attempts": 1000}');
	SELECT ordflow.define_task('service'), ordflow.define_task('end', 'work(jsonb)',
		'{"backoff": "10 ms", "max_attempts": 1000}');
SQL
my @batches = map { answer($node, "SELECT ordflow.submit_batch('$_->[0]', array_fill('{}'::jsonb,
	ARRAY[$_->[1]]), '{\"on_finish\": \"end\"}')") }
  [ 'work', 2000 ], [ 'short', 4000 ], [ 'service', TASKS - 6000 ];

my $kills = 0;
my @clients = map { client($_) } 0 .. 3;
for (my $until = time + 90; time < $until && $kills < KILLS;)
{
	usleep(50_000 + int rand 250_000);
	strike();
	$kills++;
	come_again();
}
note "seed $seed, $kills kills";
for (1 .. 1200)
{
	come_again();
	my ($status, $out) = $node->psql('postgres', "SELECT count(*) FROM ordflow.batches
		WHERE state = 'finished'", timeout => 10);
	last if $status == 0 && $out eq 3;
	usleep(100_000);
}
for my $client (@clients)
{
	eval { $client->{run}->kill_kill };
}
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'end' AND state = 'succeeded'", 3,
	'on_finish has run once for each batch');
is(answer($node, 'SELECT count(*) FROM ordflow.tasks'), TASKS + 3, 'there is no other task');
is(answer($node, 'SELECT state, sum(total), sum(succeeded) FROM ordflow.batches GROUP BY state'),
	'finished|' . TASKS . '|' . TASKS, 'all have succeeded');
is(answer($node, 'SELECT count(*), count(DISTINCT task) FROM done'), join('|', (TASKS + 3) x 2),
	"exactly one row each ($kills kills)");
is(answer($node, 'SELECT count(*) FROM ordflow.task_unique'), 0, 'no key is left');
done_testing();

# A service that is started again and again: two by session, two by lease.
sub client
{
	my ($number) = @_;
	my $lease = $number < 2 ? '' : ", lease => '500 ms'";
	my $sql = <<"SQL";
	DO \$\$
	DECLARE
		c record;
	BEGIN
		LOOP
			FOR c IN SELECT * FROM ordflow.claim_tasks('service', 5, wait => '100 ms'$lease) LOOP
				COMMIT;
				PERFORM pg_sleep(0.001);
				IF ordflow.complete_task(c.task_id, c.token) = 'applied' THEN
					INSERT INTO done VALUES (c.task_id);
				END IF;
				COMMIT;
			END LOOP;
			COMMIT;
		END LOOP;
	END \$\$;
SQL
	my %client = (in => $sql, out => '');
	$client{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
		'<', \$client{in}, '>', \$client{out}, '2>&1', IPC::Run::timeout(300));
	return \%client;
}

# Who is gone comes again.
sub come_again
{
	for my $number (0 .. $#clients)
	{
		my $there = eval { IPC::Run::pump_nb($clients[$number]{run}); 1 };
		next if $there && $clients[$number]{run}->pumpable;
		eval { $clients[$number]{run}->kill_kill };
		$clients[$number] = client($number);
	}
	return;
}

# A client, a backend, a worker, or everything.
sub strike
{
	my $what = int rand 10;
	if ($what < 4)
	{
		$clients[ rand @clients ]{run}->signal('KILL');
	}
	elsif ($what < 7)
	{
		$node->psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type IN ('ordflow pool', 'ordflow coordinator', 'client backend')
			AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1", timeout => 10);
	}
	elsif ($what < 9)
	{
		my ($status, $pid) = $node->psql('postgres', "SELECT pid FROM pg_stat_activity
			WHERE backend_type = 'ordflow pool' ORDER BY random() LIMIT 1", timeout => 10);
		kill KILL => $pid if defined $pid && $pid =~ /^\d+\z/;
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	return;
}
