# test/t/lib/Timers.pm: what the tests of timeouts share: orders that nobody pays, what became of
# them, what a process takes of the processor, and the death of a server.
package Timers;

use strict;
use warnings;
use Exporter 'import';
use Ordflow;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  LATE goods sell pending clock in_time asleep until_time processor_time share_of_processor crash);

# Seconds that a deadline may be kept late. Milliseconds are the rule; but a wake-up that is lost is
# made good by the check of the clock, every 30 s, so this tells the two apart on a busy machine.
use constant LATE => 3;

sub goods
{
	my ($sku) = @_;
	return qq([{"sku": "$sku", "quantity": 1, "unit_price": 10}]);
}

# Orders of one customer, by one call: first and last are when they are due, in seconds from the
# call on; the others lie between, at equal distances. Returns their ids.
sub sell
{
	my ($node, $customer, %order) = @_;
	my ($n, $sku) = ($order{n} // 1, $order{sku} // 'lamp');
	my $first = $order{first} // $order{last} // 0.5;
	my $step = $n > 1 ? (($order{last} // $first) - $first) / ($n - 1) : 0;
	my $coupon = defined $order{coupon} ? "'$order{coupon}'" : 'NULL';
	my $ids = answer($node, <<"SQL");
		SELECT string_agg(order_id::text, ' ' ORDER BY ordinality) FROM ordflow.submit_orders((
			SELECT jsonb_agg(jsonb_build_object('customer', '$customer', 'coupon', $coupon,
				'lines', '@{[goods($sku)]}'::jsonb, 'pay_within', ($first + $step * i) || ' s'))
			FROM generate_series(0, $n - 1) AS i))
SQL
	my @ids = split / /, $ids;
	die "not all orders of $customer were taken" if @ids != $n;
	return wantarray ? @ids : $ids[0];
}

# How many of a customer's orders are still to be paid.
sub pending
{
	my ($customer) = @_;
	return "SELECT count(*) FROM ordflow.orders
		WHERE customer = '$customer' AND state = 'pending_payment'";
}

sub clock
{
	my ($node) = @_;
	return answer($node, 'SELECT clock_timestamp()');
}

# All orders of a customer are cancelled by the worker: once, not early, not late. Where they could
# not be before some moment, "since", lateness counts from there; late: another bound in seconds.
sub in_time
{
	my ($node, $customer, $name, %about) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $since = $about{since} // '-infinity';
	my $late = $about{late} // LATE;
	becomes($node, pending($customer), 0, "$name: cancelled");
	return is(
		answer($node, <<"SQL"), '', "$name: by the worker, once, not early, not late");
		SELECT o.order_id, o.state, o.cancel_reason, h.*
		FROM ordflow.orders AS o, LATERAL (
			SELECT count(*) AS times, min(actor) AS actor,
				min(at - o.expires_at) AS early, max(at - greatest(o.expires_at, '$since')) AS late
			FROM ordflow.order_history
			WHERE order_id = o.order_id AND to_state = 'cancelled' AND event = 'expire') AS h
		WHERE customer = '$customer' AND (o.state, o.cancel_reason, times, actor) = (
			'cancelled', 'timeout', 1, 'ordflow coordinator') IS NOT TRUE
			OR customer = '$customer' AND (early >= '0' AND late < '$late s') IS NOT TRUE
SQL
}

# Waits until the coordinator has nothing to do for a good while.
sub asleep
{
	my ($node, $db) = @_;
	$db //= 'postgres';
	$node->poll_query_until($db, <<'SQL') or die 'the coordinator does not go to sleep';
		SELECT count(*) = 1 FROM ordflow.workers
		WHERE worker = 'coordinator' AND database = current_database() AND state = 'waiting'
			AND next_at > clock_timestamp() + interval '10 minutes'
SQL
	return;
}

# Sleeps until a time on the clock of this process.
sub until_time
{
	my ($time) = @_;
	my $left = $time - time;
	usleep($left * 1_000_000) if $left > 0;
	return;
}

# Seconds of processor time that a process has used; undef where that cannot be told.
sub processor_time
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return;
	my $line = <$file> // return;
	my @fields = split ' ', $line =~ s/^.*\) //r;
	return ($fields[11] + $fields[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# Since an earlier look, [process, its processor time, the time], a process has used less than so
# many percent of a processor. It is still the same process.
sub share_of_processor
{
	my ($look, $pid, $percent, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($pid_before, $used_before, $time_before) = @$look;
	return fail("$name: another process") if $pid ne $pid_before;
  SKIP:
	{
		my $used = processor_time($pid);
		skip 'this system does not tell processor times by /proc', 1 unless defined $used_before;
		my $seconds = time - $time_before;
		my $share = 100 * ($used - $used_before) / $seconds;
		note sprintf '%s: %.2f %% of %.1f s', $name, $share, $seconds;
		cmp_ok($share, '<', $percent, "$name: less than $percent % of a processor");
	}
	return;
}

# The processes of a server but for the postmaster: those that it knows of, and those that it has
# just started, where /proc tells.
sub children
{
	my ($node, $postmaster) = @_;
	my %pids = map { $_ => 1 } split /\n/, answer($node, 'SELECT pid FROM pg_stat_activity');
	kill STOP => $postmaster;
	for my $file (glob '/proc/[0-9]*/stat')
	{
		open my $stat, '<', $file or next;
		my ($pid, $parent) = (<$stat> // '') =~ /^(\d+) .*\) \S (\d+) /s or next;
		$pids{$pid} = 1 if $parent == $postmaster;
	}
	return keys %pids;
}

# Kills a server with SIGKILL, the postmaster and all its children; then the clients end. Returns
# when the last process is gone.
sub crash
{
	my ($node, @clients) = @_;
	my $file = PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid');
	my ($postmaster) = $file =~ /^(\d+)/;
	my @pids = children($node, $postmaster);
	$node->kill9;
	kill KILL => @pids;
	for my $client (@clients)
	{
		eval { $client->finish };
	}
	for (my $waited = 0; kill 0 => @pids; $waited++)
	{
		die 'killed processes are still there' if $waited > 6000;
		usleep(10_000);
	}
	return;
}

1;
