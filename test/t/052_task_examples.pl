# The consumers of docs/examples, as they stand: one in psql, one in Python with psycopg2. They are
# killed in the middle, and each report is made once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $examples = "$FindBin::Bin/../../docs/examples";
my $node = server('main');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	SELECT ordflow.define_task('report');
	SELECT ordflow.submit_batch('report', array_agg(jsonb_build_object('month', i)))
	FROM generate_series(1, 3) AS i;
SQL
my $conninfo = $node->connstr('postgres');

# psql: one round each
for my $round (1 .. 3)
{
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-X', '-d', $conninfo, '-f', "$examples/consumer.sql" ], '>', \$out,
		'2>', \$err, IPC::Run::timeout(60));
	like($out, qr/task \d+: applied/, "psql, round $round") or diag $err;
}
is(answer($node, 'SELECT array_agg(month ORDER BY month) FROM reports'), '{1,2,3}',
	'the reports are there');
is(answer($node, "SELECT count(*) FROM ordflow.tasks WHERE state = 'succeeded'
	AND result ->> 'pages' = '3'"),
	3, 'and the tasks done');

# Python: started before there is anything, killed in the middle, started again
SKIP:
{
	my $there = eval { IPC::Run::run([ 'python3', '-c', 'import psycopg2' ], '>&', \my $output) };
	skip 'there is no psycopg2', 4 unless $there;
	my $first = consumer();
	usleep(300_000);
	answer($node, q(SELECT ordflow.submit_batch('report', array_agg(jsonb_build_object('month', i,
		'seconds', 0.2))) FROM generate_series(11, 30) AS i));
	my $second = consumer();
	becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE state = 'running'", 8,
		'two of them hold four each');
	$first->{run}->signal('KILL');
	eval { $first->{run}->finish };
	becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE state = 'succeeded'", 23,
		'one is killed in the middle, the other does the rest');
	is(answer($node, 'SELECT count(*), count(DISTINCT month) FROM reports'), '23|23',
		'each report once');
	answer($node, q(SELECT ordflow.submit_task('report', '{"day": 1}')));
	becomes($node, "SELECT attempts, error FROM ordflow.tasks WHERE error IS NOT NULL", "1|'month'",
		'one that fails is told so');
	$second->{run}->kill_kill;
}
done_testing();

sub consumer
{
	my %consumer = (out => '');
	$consumer{run} = IPC::Run::start([ 'python3', "$examples/consumer.py", $conninfo ], '>',
		\$consumer{out}, '2>&1', IPC::Run::timeout(120));
	return \%consumer;
}
