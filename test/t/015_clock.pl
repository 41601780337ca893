# The wall clock is set forward and back while the server runs, and crosses changes of summer time:
# deadlines are moments, kept by the clock as it stands. Cron and its kin go by local time, and wait
# or repeat an hour then (pg_cron #16, #105); some stop, or spin (node-cron #509).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use Time::Local 'timegm';
use Timers;

use constant CLOCK_CHECK => 30;	# seconds, at most, until a worker that sleeps sees a new clock
use constant HOUR => 3600;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $library = "$dir/clock.so";
my @cc = ($ENV{CC} // 'cc', qw(-shared -fPIC -O -o), $library, "$FindBin::Bin/lib/clock.c", '-ldl');
my $built = eval { IPC::Run::run(\@cc, '>&', \my $output) };
plan skip_all => 'no C compiler, to build a clock that can be set' unless $built;

# Each server has a clock of its own, so that two tests can wait at once.
my %clocks;
my ($node, $other) = map { server_with_clock($_) } 'main', 'other';

forward(back_alone());
back();
terminated();
summer_time();
for my $server ($node, $other)
{
	audits_clean($server, 'in the end');
	is(worker_complaints($server), '', 'the workers had nothing to complain of');
}

sub server_with_clock
{
	my ($name) = @_;
	my $server = PostgreSQL::Test::Cluster->new($name);
	$server->init;
	configure($server, 'autovacuum = off');
	open $clocks{$name}, '+>', "$dir/$name" or die $!;
	set_clock($server, 0);
	{
		local @ENV{qw(LD_PRELOAD TEST_CLOCK)} = ($library, "$dir/$name");
		$server->start;
	}
	answer($server, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock(sku, 1000)
		FROM unnest('{lamp,rug}'::text[]) AS sku));
	return $server;
}

# Seconds from the machine's clock, for the server and whatever it has started.
sub set_clock
{
	my ($server, $seconds) = @_;
	my $file = $clocks{ $server->name };
	sysseek $file, 0, 0 or die $!;
	syswrite $file, pack 'q', int $seconds or die $!;
	return;
}

sub look
{
	my ($server) = @_;
	my $pid = coordinator($server, 'postgres');
	return [ $pid, processor_time($pid), time ];
}

# Locks an order that is overdue, when its time has come: the session that holds it, and the order.
sub lock_overdue
{
	my ($server, $customer) = @_;
	my $session = $server->background_psql('postgres');
	my $order = sell($server, $customer, last => 0.5);
	$session->query_safe("BEGIN; SELECT 1 FROM ordflow.orders WHERE order_id = $order FOR UPDATE");
	return $session;
}

# A row is locked that is overdue, before and after the clock is set back, and no commit comes by.
# The worker's next try must not be an hour away. Returns what is to be done later.
sub back_alone
{
	my $session = lock_overdue($other, 'alone');
	set_clock($other, 2 * HOUR);
	sell($other, 'beside', first => 0.3);
	in_time($other, 'beside', 'set forward: an order beside one that is locked');
	usleep(1_500_000);
	set_clock($other, HOUR);
	my $since = clock($other);
	$session->query_safe('ROLLBACK');
	$session->quit;
	return sub {
		in_time($other, 'alone', 'set back: an order that was locked', since => $since,
			late => CLOCK_CHECK + LATE);
	};
}

# An hour ahead: nobody tells the worker, which sleeps, and it sees for itself. Orders and a hold.
sub forward
{
	my (@others) = @_;
	sell($node, 'within the hour', n => 20, first => 900, last => 3000);
	sell($node, 'later', n => 5, first => 50_000 * HOUR);
	answer($node, q(SELECT ordflow.reserve_stock('cart', '[{"sku": "rug", "quantity": 7}]',
		clock_timestamp() + interval '30 minutes')));
	asleep($node);
	my $look = look($node);
	set_clock($node, HOUR);
	my $since = clock($node);
	in_time($node, 'within the hour', 'set forward: orders', since => $since,
		late => CLOCK_CHECK + LATE);
	becomes($node, "SELECT state FROM ordflow.holds WHERE reference = 'cart'", 'expired',
		'set forward: a hold');
	is(answer($node, pending('later')), 5, 'what is due later waits');
	$_->() for @others;
	share_of_processor($look, coordinator($node, 'postgres'), 1, 'waiting for the clock');
	return;
}

# An hour back: what had nearly come is an hour away again, and what comes new is in time.
sub back
{
	my $session = lock_overdue($node, 'overdue');
	set_clock($node, 5 * HOUR);
	sell($node, 'as it was', first => 0.5);
	in_time($node, 'as it was', 'set forward again');
	sell($node, 'too early', n => 3, first => 2, last => 4);
	usleep(300_000);
	my $look = look($node);
	set_clock($node, 4 * HOUR);

	sell($node, 'new', n => 3, first => 0.5, last => 1);
	in_time($node, 'new', 'set back: new orders');
	my $since = clock($node);
	$session->query_safe('COMMIT');
	$session->quit;
	in_time($node, 'overdue', 'set back: one that was overdue, and locked', since => $since);
	until_time($look->[2] + 5);
	is(answer($node, pending('too early')), 3, 'nothing is cancelled by the clock as it was');
	share_of_processor($look, coordinator($node, 'postgres'), 5, 'set back');

	# a new coordinator need not wait for its look at the clock
	set_clock($node, 5 * HOUR);
	$since = clock($node);
	terminate();
	in_time($node, 'too early', 'as it was again: what had to wait', since => $since);
	return;
}

# Ends the coordinator, which comes back: at once for the first time.
sub terminate
{
	$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'ordflow coordinator')) or die 'there is no coordinator';
	my $pid = coordinator($node, 'postgres');
	answer($node, "SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid")
	  or die 'the coordinator does not end';
	return;
}

# The clock is set back while the launcher lets a coordinator rest that was terminated again and
# again.
sub terminated
{
	terminate() for 1 .. 3;
	set_clock($node, 4 * HOUR);
	sell($node, 'rested', first => 0.5);
	in_time($node, 'rested', 'set back: while the coordinator rests', late => 2 + LATE);
	set_clock($node, 5 * HOUR);
	return;
}

# A deadline on the other side of a change: local time jumps, or comes twice. The database and the
# customers have zones of their own.
sub summer_time
{
	my %changes = (
		'an hour is left out' => timegm(55, 59, 0, 28, 2, 2027),
		'an hour comes twice' => timegm(55, 59, 0, 31, 9, 2027));
	answer($node, q(ALTER DATABASE postgres SET timezone = 'Europe/Berlin'));
	for my $name ('an hour is left out', 'an hour comes twice')
	{
		set_clock($node, $changes{$name} - time);
		terminate();
		answer($node, "SET timezone = '$_';
			SELECT ordflow.submit_order('$name', '@{[goods('lamp')]}', pay_within => '7 s')")
		  for 'Europe/Berlin', 'Europe/London', 'UTC';
		is( answer(
				$node, "SELECT count(*), bool_and(expires_at - created_at = '7 s'),
					bool_and(extract(timezone FROM created_at) <> extract(timezone FROM expires_at))
					FROM ordflow.orders WHERE customer = '$name'"),
			'3|t|t', "$name: the deadline lies beyond it, and as far away as was said");
		in_time($node, $name, $name);
	}
	return;
}

done_testing();
