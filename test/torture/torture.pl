# test/torture/torture.pl: 32 clients that want the same few units, and whatever can happen to them
# and to the server: nothing is ever sold twice, nothing acknowledged is lost.
#
# MINUTES=60 says how long (1 where it is not set), SEED=n begins with other random numbers. Rounds,
# each in a database of its own, are made of loads; after each all clients are quiet, and
# checks.sql is. Every second load ends with SIGKILL for all processes of the server; every third
# has sales only.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin, "$FindBin::Bin/../t/lib";
use Client;
use List::Util qw(min max sum0);
use Ordflow;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);
use Timers;

use constant {
	CLIENTS => 32,
	ROUND => 90,	# seconds, at most
	PATIENCE => 20,	# seconds, for what the worker tidies up
};

my $until = time + 60 * ($ENV{MINUTES} || 1);
my $seed = $ENV{SEED} || int(time) % 100_000;
srand $seed;
my $dir = PostgreSQL::Test::Utils::tempdir;
my ($load, %counters, %stats, @pids) = ($seed * 1000);
my %counts = map { $_ => 0 } qw(rounds loads crashes checks findings);
my $counters = 65536;
my $node = server('torture', "shared_buffers = '64MB'", 'max_connections = 60',
	'restart_after_crash = on', "max_wal_size = '256MB'", "checkpoint_timeout = '30s'",
	"include_if_exists = 'torture.conf'");
note "SEED=$seed";

round() while time < $until && !$counts{findings};
is(worker_complaints($node), '', 'no worker complains');
summary();
done_testing();

END
{
	kill CONT => @pids;
	kill TERM => @pids;
}

# ---- rounds ----

sub round
{
	my $end = min($until, time + ROUND);
	$counts{rounds}++;
	unlink glob "$dir/*";
	%counters = ();
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	$node->psql('shop', PostgreSQL::Test::Utils::slurp_file("$FindBin::Bin/shop.sql"),
		on_error_die => 1);
	do
	{
		load(2 + rand 4, 0);
		check("load $load");
		if (!$counts{findings} && time < $end)
		{
			load(1 + rand 4, 1);
			check("load $load, after a crash");
		}
	} while (time < $end && !$counts{findings});
	$node->safe_psql('postgres', 'DROP DATABASE shop') if !$counts{findings};
	return;
}

# All clients at work for so many seconds, then either they end or the server does.
sub load
{
	my ($seconds, $crash) = @_;
	my $end = time + $seconds;
	$load++;
	$counts{loads}++;
	unlink "$dir/over";
	@pids = map { my $n = $_; child(sub { client($n, $end + 60 * $crash) }) } 0 .. CLIENTS - 1;
	push @pids, child(sub { trouble($end, $crash) });
	look_on() while time < $end - 0.5;
	usleep(1_000_000 * max(0, $end - time));
	if ($crash)
	{
		$counts{crashes}++;
		crash($node);
	}
	PostgreSQL::Test::Utils::append_to_file("$dir/over", '');
	gone($_) for @pids;
	@pids = ();
	settings(), $node->start if $crash;
	return;
}

# The next server has other sizes.
sub settings
{
	$counters = (16, 24, 40, 64, 65536, 65536)[ rand 6 ];
	my $fold = (20, 200, 1000, 5000)[ rand 4 ];
	my $conf = $node->data_dir . '/torture.conf';
	unlink $conf;
	PostgreSQL::Test::Utils::append_to_file($conf,
		"ordflow.stock_counters = $counters\nordflow.fold_interval = '$fold ms'\n");
	return;
}

sub child
{
	my ($work) = @_;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	local $SIG{TERM} = 'DEFAULT';
	eval { $work->(); 1 } or PostgreSQL::Test::Utils::append_to_file("$dir/errors", "child: $@");
	POSIX::_exit(0);
}

sub gone
{
	my ($pid) = @_;
	my $end = time + 120;
	until (waitpid($pid, POSIX::WNOHANG()) != 0)
	{
		kill KILL => $pid if time > $end;
		die 'a client does not end' if time > $end;
		usleep(5_000);
	}
	return;
}

sub client
{
	my ($number, $end) = @_;
	my $client = Client->new(number => $number, connstr => $node->connstr('shop'), seed => $load,
		until => $end, over => "$dir/over", log => "$dir/log.$number", counters => $counters,
		sales => $load % 3 == 0);
	$client->run;
	my $stats = join '', map { "$_\t$client->{stats}{$_}\n" } keys %{ $client->{stats} };
	PostgreSQL::Test::Utils::append_to_file("$dir/stats.$load.$number", $stats);
	PostgreSQL::Test::Utils::append_to_file("$dir/errors", "$_\n") for @{ $client->{errors} };
	return;
}

# ---- trouble ----

# Backends are cancelled, terminated, frozen for a moment and, where the load does not end with a
# crash anyhow, killed, which makes the server restart all of them. So does the coordinator end.
sub trouble
{
	my ($end, $crash) = @_;
	my ($psql, %did);
	local $SIG{PIPE} = 'IGNORE';
	while (time < $end && !-e "$dir/over")
	{
		usleep(rand 50_000);
		$psql //= Psql->new($node->connstr('postgres'), 'trouble', '') // next;
		my $r = rand;
		my $what = $r < 0.3 ? 'cancel' : $r < 0.38 ? 'terminate' : $r < 0.39 ? 'coordinator'
		  : $r < 0.41 && !$crash ? 'kill' : 'freeze';
		my $answer = $psql->ask(victim($what));
		if ($answer->{lost})
		{
			$psql = undef;
			next;
		}
		my ($pid) = ($answer->{lines}[0] // '') =~ /^(\d+)$/ or next;
		$did{$what}++;
		kill KILL => $pid if $what eq 'kill';
		next if $what ne 'freeze';
		kill STOP => $pid;
		usleep(rand 60_000);
		kill CONT => $pid;
	}
	$psql->quit if $psql;
	my %names = (
		cancel => 'pg_cancel_backend', terminate => 'pg_terminate_backend',
		coordinator => 'coordinator terminated', kill => 'backends killed',
		freeze => 'backends frozen');
	PostgreSQL::Test::Utils::append_to_file("$dir/stats.$load.trouble",
		join '', map { "\t$names{$_}\t$did{$_}\n" } keys %did);
	return;
}

sub victim
{
	my ($what) = @_;
	my %function = (cancel => 'pg_cancel_backend', terminate => 'pg_terminate_backend',
		coordinator => 'pg_terminate_backend');
	my $pid = $function{$what} ? "CASE WHEN $function{$what}(pid) THEN pid END" : 'pid';
	my $who = $what eq 'coordinator' ? "backend_type = 'ordflow coordinator'"
	  : "application_name LIKE 'shopper%' AND (state <> 'idle' OR random() < 0.2)";
	return "SELECT $pid FROM (SELECT pid FROM pg_stat_activity WHERE $who
		ORDER BY random() LIMIT 1) AS p";
}

# What may be asked while all are at work; nobody answers while the server restarts.
sub look_on
{
	my $sql = rand() < 0.2 ? 'SELECT * FROM ordflow.audit()' : q(SELECT * FROM ordflow.stock_levels
		WHERE on_hand < 0 OR reserved < 0 OR available < 0);
	my ($status, $out) = $node->psql('shop', $sql);
	finding("while all are at work: $sql", $out) if $status == 0 && $out ne '';
	usleep(200_000);
	return;
}

# ---- checks ----

sub check
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	quiet('SELECT application_name, state, query FROM pg_stat_activity
		WHERE application_name LIKE \'shopper%\'', "$name: all clients have gone");
	read_logs();
	my $errors = -e "$dir/errors" ? PostgreSQL::Test::Utils::slurp_file("$dir/errors") : '';
	finding("$name: no client was answered what it must not be", $errors);
	finding("$name: rows agree, with each other and with what was acknowledged",
		answer($node, PostgreSQL::Test::Utils::slurp_file("$FindBin::Bin/checks.sql"), 'shop'));
	quiet(q(SELECT order_id, expires_at FROM ordflow.orders
		WHERE state = 'pending_payment' AND expires_at < clock_timestamp() - interval '1 s'),
		"$name: who did not pay is cancelled");
	quiet('SELECT torture.probe()', "$name: just what is left can be had", 'shop');
	my $n = min($counters, 64);
	quiet("SELECT 1 WHERE (SELECT count(ordflow.receive_stock('s' || i, 1)) = 0
		FROM generate_series(1, $n) AS i)", "$name: no counter is pinned", 'shop') if $n < 64;
	return;
}

# Nothing is there; asked again for a while, as the worker may be at work. What is asked is rolled
# back.
sub quiet
{
	my ($sql, $name) = @_;
	my $end = time + PATIENCE;
	my ($status, $out, $err);
	do
	{
		usleep(100_000) if defined $out;
		($status, $out, $err) = $node->psql('shop', "BEGIN;\n$sql;\nROLLBACK;");
		$out .= $err;
	} while ($out ne '' && time < $end);
	return finding($name, $out);
}

sub finding
{
	my ($name, $found) = @_;
	$counts{checks}++;
	return if $found eq '';
	$counts{findings}++;
	fail($name);
	diag(substr $found, 0, 5000);
	return;
}

# What clients have written since the last time goes into torture.log.
sub read_logs
{
	my $rows = '';
	for my $file (glob "$dir/log.*")
	{
		my $all = PostgreSQL::Test::Utils::slurp_file($file, $counters{$file} // 0);
		$counters{$file} += length $all;
		$rows .= $all;
	}
	unlink "$dir/rows";
	PostgreSQL::Test::Utils::append_to_file("$dir/rows", $rows);
	answer($node, "COPY torture.log FROM '$dir/rows'; ANALYZE", 'shop');
	for my $file (glob "$dir/stats.*")
	{
		for (split /\n/, PostgreSQL::Test::Utils::slurp_file($file))
		{
			my ($verb, $outcome, $n) = split /\t/;
			$stats{$verb}{$outcome} += $n;
		}
		unlink $file;
	}
	return;
}

sub summary
{
	ok(!$counts{findings}, 'nothing was sold twice, nothing was lost');
	my %trouble = %{ delete $stats{''} // {} };
	my $out = Test::More->builder->output;
	print $out "#: torture, SEED=$seed: ", join(', ', map { "$counts{$_} $_" }
		  qw(rounds loads crashes checks findings)), "\n";
	print $out '#: trouble: ', join(', ', map { "$_ $trouble{$_}" } sort keys %trouble), "\n";
	for my $verb (sort keys %stats)
	{
		my $of = $stats{$verb};
		print $out "#: $verb ", sum0(values %$of), ': ',
		  join(', ', map { "$_ $of->{$_}" } sort { $of->{$b} <=> $of->{$a} } keys %$of), "\n";
	}
	return;
}
