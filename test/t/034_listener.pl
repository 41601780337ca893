# The listener of docs/timeouts.md runs as it stands, on a server whose own workers are off: it
# cancels what Redis says has expired, and what came due while it did not listen.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Test::More;
use Time::HiRes qw(usleep);
use Timers;

plan skip_all => 'there is no redis-server' unless Redis::installed();

my $page = slurp_file("$FindBin::Bin/../../docs/timeouts.md");
my ($listener) = $page =~ /^### A listener of your own\n.*?^```bash\n(.*?)^```/ms;
ok($listener, 'the page has a listener');
cmp_ok($listener =~ tr/\n//, '<=', 10, 'of ten lines');

my $redis = Redis->new;
my $node = server('main', 'ordflow.workers = off');
answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 100)));
my $missed = sell($node, 'missed', first => 0.1);
usleep(200_000);
my $run = start_listener();

is_state($missed, 'cancelled', 'what came due before it listened');
my ($unpaid, $paid, $waiting) = sell($node, 'heard', n => 3, first => 0.5);
answer($node, "SELECT ordflow.pay_order($paid, 'bank', 't', 10),
	ordflow.extend_order($waiting, '1 hour')");
$redis->ask('SET', "shop:due:$_", 1, 'PX', 600) for $unpaid, $paid, $waiting;
is_state($unpaid, 'cancelled', 'what Redis tells of');
$redis->ask('PUBLISH', '__keyevent@0__:expired', $_)
  for "shop:due:$unpaid", 'shop:due:', "shop:due:1'; DROP TABLE x", 'other', "shop:due:$paid";
$redis->crash;
my $away = sell($node, 'away', first => 0.1);
usleep(200_000);
$redis->start;
is_state($away, 'cancelled', 'what came due while Redis was away');
my $again = sell($node, 'again', first => 0.1);
$redis->ask('SET', "shop:due:$again", 1, 'PX', 200);
is_state($again, 'cancelled', 'and it listens again');
is_state($paid, 'pending_shipment', 'a paid order stays');
is_state($waiting, 'pending_payment', 'and one that was extended');
audits_clean($node, 'in the end');
kill TERM => -$run->{KIDS}[0]{PID};
eval { $run->finish };

sub start_listener
{
	local @ENV{qw(PGHOST PGPORT PGDATABASE REDIS_PORT)} =
	  ($node->host, $node->port, 'postgres', $redis->port);
	return IPC::Run::start([ 'bash', '-c', $listener ], '<', '/dev/null',
		'>', "$PostgreSQL::Test::Utils::log_path/listener.log", '2>&1',
		init => sub { setpgrp 0, 0 });
}

sub is_state
{
	my ($id, $state, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return becomes($node, "SELECT state FROM ordflow.orders WHERE order_id = $id", $state, $name);
}

done_testing();
