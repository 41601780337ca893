# test/t/lib/Sessions.pm: what the tests of the counters share: sessions that are in the middle of
# something, and the check that all units are where they belong.
package Sessions;

use strict;
use warnings;
use Exporter 'import';
use Ordflow;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  session act start result wait_until waits exactly all_right goods submission hold ends);

use constant PATIENCE => 60;	# seconds

# A session that goes on after an error.
sub session
{
	my ($node, $db) = @_;
	my $session = $node->background_psql($db // 'postgres', on_error_stop => 0);
	$session->query('\set VERBOSITY sqlstate');
	$session->query('SET client_min_messages = error');
	$session->{pid} = $session->query('SELECT pg_backend_pid()');
	return $session;
}

# What statements answer, or the SQLSTATE of the first error.
sub act
{
	my ($session, $sql) = @_;
	my $out = $session->query($sql);
	my ($state) = $session->{stderr} =~ /(?:ERROR|FATAL):  (\w{5})/;
	$session->{stderr} = '';
	return $state // $out;
}

# Begins a statement that may have to wait; result() waits for its end.
sub start
{
	my ($session, $sql) = @_;
	$session->{stdin} .= "$sql\n;\n";
	$session->{run}->pump_nb while length $session->{stdin};
	return;
}

sub result
{
	my ($session) = @_;
	return act($session, '');
}

sub wait_until
{
	my ($node, $sql, $db) = @_;
	my $until = time + PATIENCE;
	until (answer($node, $sql, $db) eq 't')
	{
		die "never true: $sql" if time > $until;
		usleep(20_000);
	}
	return;
}

# The session has begun to wait: for a lock, or for another's load.
sub waits
{
	my ($node, $session, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, "SELECT coalesce(bool_or(wait_event_type IN ('Lock', 'Extension')), false)
		FROM pg_stat_activity WHERE pid = $session->{pid} AND state = 'active'");
	return pass("$name: it waits");
}

# Waits for the end of a process that was told to end; and of the psql that it served.
sub ends
{
	my ($node, $session) = @_;
	wait_until($node,
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $session->{pid}");
	$session->{stdin} = '';
	eval { $session->{run}->finish };
	return;
}

sub goods
{
	my ($sku, $quantity) = @_;
	return sprintf q('[{"sku": "%s", "quantity": %d, "unit_price": 1}]'), $sku, $quantity // 1;
}

sub submission
{
	my ($sku, $quantity) = @_;
	return 'SELECT ordflow.submit_order(NULL, ' . goods($sku, $quantity) . ') > 0';
}

sub hold
{
	my ($reference, $sku, $quantity) = @_;
	return sprintf q(SELECT ordflow.reserve_stock('%s', '[{"sku": "%s", "quantity": %d}]')),
	  $reference, $sku, $quantity // 1;
}

# Just so many units may be promised, by whoever asks.
sub exactly
{
	my ($node, $sku, $n, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $got = answer($node, <<"SQL", $db);
		BEGIN;
		SELECT ordflow.available_stock('$sku');
		SELECT string_agg(result, ' ' ORDER BY ordinality)
		FROM ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object('lines', jsonb_build_array(
			jsonb_build_object('sku', '$sku', 'quantity', n, 'unit_price', 1))) ORDER BY n DESC)
			FROM unnest(ARRAY[$n + 1, $n]) AS n WHERE n > 0));
		ROLLBACK;
SQL
	return is($got, "$n\ninsufficient_stock" . ($n > 0 ? ' ok' : ''),
		"$name: $n of $sku can be sold, and no more");
}

# What is promised is what orders and holds have, nothing is below zero, what is told is what the
# rows make; and audit() agrees.
sub all_right
{
	my ($node, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(answer($node, <<'SQL', $db), '', "$name: units add up");
		SELECT l.*, r.quantity, ordflow.available_stock(l.sku, l.location)
		FROM ordflow.stock_levels l
		LEFT JOIN (SELECT sku, location, sum(quantity) AS quantity FROM ordflow.reservations
			GROUP BY sku, location) AS r USING (sku, location)
		WHERE l.reserved <> coalesce(r.quantity, 0) OR l.available <> l.on_hand - l.reserved
			OR l.available < 0 OR l.reserved < 0
			OR l.available <> ordflow.available_stock(l.sku, l.location)
SQL
	return audits_clean($node, $name, $db);
}

1;
