# A counter is being loaded, and the load is cut off: cancelled, timed out, its process terminated,
# or by an error of the rows. Those who wait for it get on, one of them loads, and nobody is told a
# figure that is half there. Then a process is killed in the middle of a sale.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Sessions;
use Test::More;

my $node = server('main', 'ordflow.workers = off', 'restart_after_crash = on');
answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock(sku, 10)
	FROM unnest('{lamp,rug}'::text[]) AS sku));
my $holder = session($node);
my @buyers = map { session($node) } 1 .. 4;

# ---- what the load reads is locked, so that it stops in the middle ----
sub begin_load
{
	my ($name) = @_;
	# a direct write drops the counters
	answer($node, q(UPDATE ordflow.stock SET on_hand = on_hand WHERE sku = 'lamp'));
	act($holder, 'BEGIN; LOCK TABLE ordflow.stock_movements');
	start($buyers[0], hold("$name 0", 'lamp', 4));
	waits($node, $buyers[0], "$name: the loader");
	for my $i (1 .. $#buyers)
	{
		start($buyers[$i], hold("$name $i", 'lamp', 4));
		waits($node, $buyers[$i], "$name: buyer $i");
	}
	return;
}

# Two of them get what they want, and as many as that have not been sent away.
sub end_load
{
	my ($name, @left) = @_;
	is(act($holder, 'COMMIT'), '', "$name: the lock is gone");
	my @answers = sort map { result($_) } @left;
	is("@answers", join(' ', (4) x 2, ('OF002') x (@left - 2)),
		"$name: the others buy what there is");
	exactly($node, 'lamp', 2, $name);
	all_right($node, $name);
	answer($node, "SELECT ordflow.release_stock(reference) FROM ordflow.holds
		WHERE reference ~ '^$name' AND state = 'held'");
	return;
}

begin_load('undisturbed');
end_load('undisturbed', @buyers);

begin_load('cancelled');
answer($node, "SELECT pg_cancel_backend($buyers[0]{pid})");
is(result($buyers[0]), '57014', 'the loader is cancelled');
end_load('cancelled', @buyers[ 1 .. 3 ]);

begin_load('a waiter cancelled');
answer($node, "SELECT pg_cancel_backend($buyers[1]{pid})");
is(result($buyers[1]), '57014', 'one who waits is cancelled');
end_load('a waiter cancelled', @buyers[ 0, 2, 3 ]);

act($buyers[0], q(SET lock_timeout = '300ms'));
begin_load('timed out');
is(result($buyers[0]), '55P03', 'the loader has waited long enough for the lock');
end_load('timed out', @buyers[ 1 .. 3 ]);
act($buyers[0], 'RESET lock_timeout');

begin_load('terminated');
answer($node, "SELECT pg_terminate_backend($buyers[0]{pid})");
ends($node, $buyers[0]);
end_load('terminated', @buyers[ 1 .. 3 ]);
$buyers[0] = session($node);

# the loader catches it, and tries again in the same transaction
act($buyers[0], <<'SQL');
	CREATE FUNCTION pg_temp.twice(reference text) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		lines jsonb := '[{"sku": "lamp", "quantity": 4}]';
	BEGIN
		SET LOCAL lock_timeout = '300ms';
		BEGIN
			PERFORM ordflow.reserve_stock(reference, lines);
			RETURN 0;
		EXCEPTION WHEN lock_not_available THEN
			SET LOCAL lock_timeout = 0;
			PERFORM pg_sleep(0.5);	-- the other is there first
			RETURN ordflow.reserve_stock(reference, lines);
		END;
	END $$;
SQL
answer($node, q(UPDATE ordflow.stock SET on_hand = on_hand WHERE sku = 'lamp'));
act($holder, 'BEGIN; LOCK TABLE ordflow.stock_movements');
start($buyers[0], q(SELECT pg_temp.twice('caught 0')));
waits($node, $buyers[0], 'caught: the loader');
start($buyers[1], hold('caught 1', 'lamp', 4));
# who waits becomes the loader
wait_until($node, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity
	WHERE pid = $buyers[0]{pid}");
waits($node, $buyers[1], 'caught: the other');
end_load('caught', @buyers[ 0, 1 ]);

# nobody waits for ever
answer($node, q(UPDATE ordflow.stock SET on_hand = on_hand WHERE sku = 'lamp'));
act($holder, 'BEGIN; LOCK TABLE ordflow.stock_movements');
start($buyers[0], hold('long 0', 'lamp', 4));
waits($node, $buyers[0], 'a long load');
start($buyers[1], hold('long 1', 'lamp', 4));
is(result($buyers[1]), '55P03', 'after ten seconds one who waits is told so');
act($holder, 'COMMIT');
is(result($buyers[0]), 4, 'the loader gets his');
is(act($buyers[1], hold('long 1', 'lamp', 4)), 4, 'and the other, when he asks again');
exactly($node, 'lamp', 2, 'a long load');
all_right($node, 'a long load');

# ---- a process is killed in the middle of a sale: all sessions go, no unit does ----
act($buyers[0], 'BEGIN; ' . hold('killed', 'rug', 7));
act($buyers[1], 'BEGIN; ' . q(SELECT ordflow.receive_stock('rug', 5)));
act($buyers[2], 'BEGIN; ' . q(SELECT ordflow.release_stock('long 1')));
act($buyers[3], hold('before', 'rug', 1));
kill KILL => $buyers[0]{pid};
$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
for my $session ($holder, @buyers)
{
	$session->{stdin} = '';
	eval { $session->{run}->finish };
}
exactly($node, 'rug', 9, 'after SIGKILL');
exactly($node, 'lamp', 2, 'after SIGKILL');
is(answer($node, q(SELECT count(*) FROM ordflow.reservations WHERE pid IS NOT NULL)), 0,
	'no open transaction holds anything');
all_right($node, 'after SIGKILL');

done_testing();
