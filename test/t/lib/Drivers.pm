# test/t/lib/Drivers.pm: what the tests of timer drivers share: servers that an extension knows,
# orders that nobody pays, and what became of them with such a driver alone.
package Drivers;

use strict;
use warnings;
use Exporter 'import';
use Ordflow;
use Test::More;
use Timers ();

our @EXPORT = qw(lamps drive publishes expired stock_is_whole complains without_driver);

# A database with lamps to sell.
sub lamps
{
	my ($node, $db) = @_;
	answer($node, "CREATE DATABASE $db") if $db ne 'postgres';
	answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 1000)), $db);
	return;
}

# Sets the drivers of all databases, and how many seconds the database itself waits for them.
sub drive
{
	my ($node, $drivers, $grace) = @_;
	answer($node, "ALTER SYSTEM SET ordflow.timer_drivers = '$drivers'");
	answer($node, "ALTER SYSTEM SET ordflow.timer_grace = '$grace s'");
	answer($node, 'SELECT pg_reload_conf()');
	return;
}

# The driver of a server works: an order that is far from due has reached it.
sub publishes
{
	my ($node, $server, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return becomes($node, "SELECT published > 0 AND problem IS NULL
		FROM ordflow.timer_drivers WHERE server = '$server'", 't', $name, $db);
}

# All orders of a customer end cancelled, once, not early, less than so many seconds late; where
# they could not be before some moment, "since", lateness counts from there.
sub expired
{
	my ($node, $customer, $late, $name, %about) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $since = $about{since} // '-infinity';
	becomes($node, Timers::pending($customer), 0, "$name: cancelled", $about{db});
	return is(
		answer($node, <<"SQL", $about{db}), '', "$name: once, not early, not late");
		SELECT o.order_id, o.state, o.cancel_reason, h.*
		FROM ordflow.orders AS o, LATERAL (
			SELECT count(*) AS times, min(at - o.expires_at) AS early,
				max(at - greatest(o.expires_at, '$since')) AS late
			FROM ordflow.order_history
			WHERE order_id = o.order_id AND to_state = 'cancelled' AND event = 'expire') AS h
		WHERE customer = '$customer' AND (early >= '0' AND late < '$late s'
			AND (state, cancel_reason, times) = ('cancelled', 'timeout', 1)) IS NOT TRUE
SQL
}

# Units are reserved for open orders and for nothing else, so they were given back once.
sub stock_is_whole
{
	my ($node, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	audits_clean($node, $name, $db);
	return is(
		answer($node, q(SELECT sum(s.on_hand - s.available) = (SELECT coalesce(sum(l.quantity), 0)
				FROM ordflow.orders JOIN ordflow.order_lines AS l USING (order_id)
				WHERE state IN ('pending_payment', 'pending_shipment'))
			FROM ordflow.stock_levels AS s), $db),
		't', "$name: units are reserved for open orders alone");
}

# What the driver of a server says is wrong, and what to do.
sub complains
{
	my ($node, $server, $error, $hint, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, "SELECT problem ~ '$error' FROM ordflow.timer_drivers
		WHERE server = '$server'", 't', "$name: the view says so");
	return like(answer($node, "SELECT hint FROM ordflow.timer_drivers WHERE server = '$server'"),
		$hint, "$name: and what to do");
}

# Orders are cancelled all the same, when the grace period is over.
sub without_driver
{
	my ($node, $grace, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $customer = $name =~ s/\W+/ /gr;
	drive($node, answer($node, 'SHOW ordflow.timer_drivers'), $grace);
	Timers::sell($node, $customer, n => 5, first => 0.1, last => 0.5);
	return expired($node, $customer, $grace + Timers::LATE, $name);
}

1;
