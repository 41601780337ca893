# Deadlines pass while the server is dead, by the thousands and in the same second; the server, and
# the coordinator alone, are killed at work. Nothing is lost, repeated or left for long.
#
# What users of other systems complain of, of delays that live in memory or in a queue:
#	litemall PR #275, Redisson #3599	a restart empties the queue
#	Redisson #1754						nothing comes any more until somebody restarts it
#	RocketMQ #6566, rabbit-delayed #72	the more are due at once, the later they come
#	RocketMQ #6984						a failure in a batch, and part of it comes twice
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Test::More;
use Time::HiRes qw(time usleep);
use Timers;

use constant ORDERS => 20_000;
use constant SKUS => 100;
use constant HOLDS => 200;
use constant CATCH_UP => 30;	# seconds for all of them, at most; a few is the rule

my $node = server('main', "shared_buffers = '64MB'", 'max_connections = 20', 'autovacuum = off',
	'restart_after_crash = on', 'max_wal_size = 1GB');
answer($node, <<"SQL");
	CREATE EXTENSION ordflow;
	SELECT count(ordflow.receive_stock('s' || i, 1000)) FROM generate_series(1, @{[SKUS]}) AS i;
	SELECT count(ordflow.create_coupon('C' || i, 'fixed', 1, '{"usage_limit": 20}'))
	FROM generate_series(1, 10) AS i;
SQL

deadlines_while_dead();
coordinator_killed();
audits_clean($node, 'in the end');

# Orders of two lines, some with a coupon, for an hour at first: to take them needs time.
sub sell_all
{
	my $per_call = 1000;
	for my $first (map { $_ * $per_call } 0 .. ORDERS / $per_call - 1)
	{
		answer($node, <<"SQL");
			DO \$\$ BEGIN ASSERT (SELECT count(*) = $per_call FROM ordflow.submit_orders((
				SELECT jsonb_agg(jsonb_build_object('customer', 'many', 'pay_within', '1 hour',
					'coupon', CASE WHEN i % 100 = 1 THEN 'C' || (1 + i / 100 % 10) END,
					'lines', jsonb_build_array(
						jsonb_build_object('sku', 's' || (1 + i % @{[SKUS]}), 'quantity', 2,
							'unit_price', 5),
						jsonb_build_object('sku', 's' || (1 + (i + 7) % @{[SKUS]}), 'quantity', 1,
							'unit_price', 5))))
				FROM generate_series($first, $first + $per_call - 1) AS i)) WHERE result = 'ok');
			END \$\$
SQL
	}
	answer($node, <<"SQL");
		SELECT count(ordflow.reserve_stock('cart ' || i, '[{"sku": "s1", "quantity": 1}]',
			clock_timestamp() + interval '1 hour'))
		FROM generate_series(1, @{[HOLDS]}) AS i
SQL
	return;
}

sub deadlines_while_dead
{
	sell_all();
	asleep($node);

	# all of them within the same second, and a third in one moment
	my $due = answer($node, <<'SQL');
		BEGIN;
		SELECT date_trunc('second', clock_timestamp()) + interval '6 s' AS due \gset
		UPDATE ordflow.orders SET expires_at = CASE WHEN order_id % 3 = 0 THEN :'due'
			ELSE :'due'::timestamptz + order_id % 997 * interval '1 ms' END;
		UPDATE ordflow.holds SET expires_at = :'due';
		COMMIT;
		SELECT ceil(extract(epoch FROM :'due'::timestamptz) + 1);
SQL
	crash($node);
	cmp_ok(time, '<', $due - 1, 'the server is dead before the first deadline');
	until_time($due);
	my $started = time;
	$node->start;
	is(answer($node, 'SELECT count(*) FROM ordflow.orders'), ORDERS, 'every order is there');

	# killed again, in the midst of catching up
	$node->poll_query_until('postgres', "SELECT count(*) > 100 FROM ordflow.orders
		WHERE state = 'cancelled'") or die 'nothing is cancelled';
	crash($node);
	$node->start;
	note answer($node, pending('many')), ' orders were left after the second crash';
	my $restarted = clock($node);
	in_time($node, 'many', ORDERS . ' deadlines passed while the server was dead',
		since => $restarted, late => CATCH_UP);
	becomes($node, "SELECT count(*) FROM ordflow.holds WHERE state = 'held'", 0, 'holds too');
	is( answer(
			$node, "SELECT count(*), count(DISTINCT order_id),
				bool_and(at >= to_timestamp($started))
				FROM ordflow.order_history WHERE event = 'expire'"),
		ORDERS . '|' . ORDERS . '|t', 'each has one row of history, of after the restart');
	is( answer($node, 'SELECT DISTINCT on_hand, reserved, available FROM ordflow.stock_levels'),
		'1000|0|1000', 'every unit is for sale again, once');
	is( answer(
			$node, "SELECT kind, count(*), sum(m.reserved) FROM ordflow.stock_movements AS m
				WHERE kind IN ('reserved', 'released') GROUP BY kind ORDER BY kind"),
		join("\n", map { join '|', $_->[0], 2 * ORDERS + HOLDS, $_->[1] * (3 * ORDERS + HOLDS) }
			[ 'released', -1 ], [ 'reserved', 1 ]),
		'what was reserved is released, line by line');
	is(answer($node, 'SELECT state, count(*) FROM ordflow.coupon_redemptions GROUP BY state'),
		'returned|' . ORDERS / 100, 'every coupon is returned');
	is( answer(
			$node, "SELECT count(*) FROM ordflow.holds WHERE state = 'expired'
				AND ended_at >= expires_at"),
		HOLDS, 'every hold has expired, not early');
	audits_clean($node, 'after two crashes');
	return;
}

# kill -9 of the coordinator: the server restarts all its processes, and deadlines are kept.
sub coordinator_killed
{
	sell($node, 'survivors', sku => 's2', n => 30, first => 1, last => 3);
	sell($node, 'later', sku => 's2', first => 3600);
	my $pid = coordinator($node, 'postgres');
	ok(kill(KILL => $pid), 'the coordinator is killed');
	$node->poll_query_until('postgres', "SELECT pid <> $pid FROM ordflow.workers
		WHERE worker = 'coordinator'") or die 'there is no new coordinator';
	in_time($node, 'survivors', 'its orders', since => clock($node));
	sell($node, 'new', sku => 's2', first => 0.5);
	in_time($node, 'new', 'and new ones');
	return;
}

done_testing();
