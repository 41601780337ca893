# Services behind PgBouncer in transaction mode, which changes the session under them with each
# transaction: with a lease the token is all that is needed, without one the claim is the session's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my ($program) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
plan skip_all => 'there is no pgbouncer' unless $program;

my $node = server('main');
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my ($user, $port) = (scalar getpwuid($<), $node->port);
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	SELECT ordflow.define_task('service'), ordflow.define_task('once');
	SELECT ordflow.submit_batch('service', array_agg(to_jsonb(i))) FROM generate_series(1, 42) AS i;
	SELECT ordflow.submit_task('once');
SQL
PostgreSQL::Test::Utils::append_to_file("$dir/users", qq("$user" ""\n));
PostgreSQL::Test::Utils::append_to_file("$dir/ini", <<"INI");
[databases]
postgres = host=@{[ $node->host ]} port=$port user=$user
[pgbouncer]
pool_mode = transaction
default_pool_size = 3
max_client_conn = 100
listen_addr =
unix_socket_dir = $dir
listen_port = 6432
auth_type = any
auth_file = $dir/users
logfile = $dir/log
pidfile = $dir/pid
server_reset_query_always = 0
ignore_startup_parameters = extra_float_digits
INI
my $pooler = IPC::Run::start([ $program, '-q', "$dir/ini" ], '>&', \my $said);
for (1 .. 500)
{
	last if -e "$dir/.s.PGSQL.6432";
	usleep(20_000);
}
my $conninfo = "host=$dir port=6432 user=$user dbname=postgres";

# The first of three sessions claims; then another client keeps that session in a transaction, so
# the next statement of the service is in another one.
my ($with, $with_token, $pid) = split /\|/,
  pooled("SELECT task_id, token, pg_backend_pid() FROM ordflow.claim_tasks('service', 1,
	'1 minute')");
my ($without, $without_token, $same) = split /\|/,
  pooled("SELECT task_id, token, pg_backend_pid() FROM ordflow.claim_tasks('once')");
is($same, $pid, 'one session claims both');
my $busy = IPC::Run::start([ 'psql', '-XAtq', '-d', $conninfo, '-c',
		'BEGIN; SELECT pg_backend_pid(), pg_sleep(5); COMMIT' ], '>', \my $slept);
becomes($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid", 'PgSleep',
	'another client has that session');
is(pooled("SELECT pg_backend_pid() <> $pid, ordflow.complete_task($with, $with_token)"),
	't|applied',
	'with a lease another session completes it');
like(pooled("SELECT pg_backend_pid() <> $pid, ordflow.complete_task($without, $without_token)"),
	qr/held by another session.*with a lease/s, 'without one it is told what to do');
is(pooled("SELECT ordflow.extend_task(task_id, token, '1 s') FROM ordflow.claim_tasks('service', 1,
	'1 minute')"),
	'applied', 'a lease is extended');

# many services on three sessions: each task once
my $service = <<'SQL' x 4;
SELECT task_id, token FROM ordflow.claim_tasks('service', 1, '1 minute') \gset
SELECT ordflow.complete_task(:task_id, :token);
SQL
my @out = ('') x 10;
my @in = ($service) x @out;
my @runs = map {
	IPC::Run::start([ 'psql', '-XAtq', '-d', $conninfo ], '<', \$in[$_], '>', \$out[$_], '2>&1',
		IPC::Run::timeout(60));
} 0 .. $#out;
$_->finish for @runs;
is(join('', @out), "applied\n" x 40, 'ten services complete what they claim');
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'service' AND state = 'succeeded'",
	41,
	'each once');
is(pooled("SELECT payload FROM ordflow.claim_tasks('service', 1, '1 s', '2 s')"), '2',
	'waiting for the lease that ends works through it');
$busy->finish;
$pooler->signal('INT');
$pooler->kill_kill;
done_testing();

sub pooled
{
	my ($sql) = @_;
	my $out = '';
	IPC::Run::run([ 'psql', '-XAtq', '-d', $conninfo, '-c', $sql ], '>', \$out, '2>&1',
		IPC::Run::timeout(60));
	chomp $out;
	return $out;
}
