# The worker keeps deadlines: of orders, holds and tables of users, whoever brings them and however,
# whatever fails or is locked beside them, and at no cost while none is due.
#
# What users of other systems complain of is named where it is answered:
#	mall #311, WooCommerce #24581	a sweep at intervals: cancelled between one and two intervals
#	WooCommerce #30682, pg_cron #99	one failure, or one termination, and nothing is ever cancelled
#	WooCommerce #55310				saving settings begins the interval anew
#	RocketMQ #6984					one failure in a batch, and all of it is done again
#	pg_cron #401					the beat drifts
#	Redisson #5172, mall #159		a short delay behind a long one waits for the long one
#	Redisson #1960, #5653, #4481	a delay is lost where nobody listens at the time
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Test::More;
use Time::HiRes qw(time usleep);
use Timers;

my $quiet = quiet_server();
my @quiet_before = quiet_look();
my $node = server('main', 'max_connections = 30', "shared_buffers = '16MB'",
	'max_prepared_transactions = 2', 'autovacuum = off', "statement_timeout = '1min'",
	"ordflow.fold_interval = '1h'");	# asleep, then, is until a deadline
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	SELECT ordflow.receive_stock(sku, 1000000) FROM unnest('{lamp,rug,vase}'::text[]) AS sku;
	SELECT ordflow.receive_stock('last', 5);
	SELECT ordflow.create_coupon('ONCE', 'percent', 10, '{"usage_limit": 1}');

	CREATE ROLE keeper;
	CREATE ROLE clerk;
	CREATE SCHEMA shop AUTHORIZATION keeper;
	SELECT ordflow.define_machine('parcel', '{
		"states": {"packed": "initial", "sent": "normal", "lost": "final"},
		"transitions": [{"from": "packed", "event": "send", "to": "sent"},
			{"from": "packed", "event": "forget", "to": "lost", "after": "1 hour"}]}');
	SET ROLE keeper;
	CREATE TABLE shop.parcel (id int PRIMARY KEY, status text DEFAULT 'packed' NOT NULL,
		due timestamptz, batch text);
	CREATE TABLE shop.log (id int, status text, who name, due timestamptz,
		at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION shop.logged() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO shop.log VALUES (NEW.id, NEW.status, current_user, OLD.due);
		RETURN NULL;
	END $$;
	CREATE TRIGGER logged AFTER UPDATE OF status ON shop.parcel
		FOR EACH ROW EXECUTE FUNCTION shop.logged();
	GRANT USAGE ON SCHEMA shop TO clerk;
	GRANT SELECT, INSERT, UPDATE ON shop.parcel TO clerk;
	RESET ROLE;
	SELECT ordflow.attach('shop.parcel', 'parcel', 'status', due_column => 'due');
SQL
sell($node, 'later', last => 7200);

kept();
brought_forward();
brought_by_transactions();
failing();
rows_locked();
stock_locked();
disturbed();
status();
quiet();
audits_clean($node, 'in the end');
like(worker_complaints($node),
	qr/\A\N+ WARNING:  timeouts of table shop.old are not run: \N+\z/,
	'the workers complained of one table, once');

# Parcels that the worker is to forget, of one batch, each once, as the table's owner.
sub forgotten
{
	my ($batch, $name, %about) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $since = $about{since} // '-infinity';
	becomes($node, "SELECT count(*) FROM shop.parcel WHERE batch = '$batch' AND status = 'packed'",
		0, "$name: fired");
	return is(
		answer($node, <<"SQL"), '', "$name: by the worker as the table's owner, in time");
		SELECT p.id, p.status, h.event, h.actor, h.reason, l.who, l.due, h.at
		FROM shop.parcel AS p
		LEFT JOIN ordflow.object_history AS h ON h.target = 'shop.parcel' AND h.key = p.id::text
			AND h.to_state <> 'packed'
		LEFT JOIN shop.log AS l ON l.id = p.id
		WHERE p.batch = '$batch' AND (
			(p.status, h.event, h.reason, h.actor, l.who) IS DISTINCT FROM
				('lost', 'forget', 'timeout', 'ordflow coordinator', 'keeper')
			OR (h.at >= l.due) IS NOT TRUE
			OR (h.at < greatest(l.due, '$since') + interval '@{[LATE]} s') IS NOT TRUE
			OR (SELECT count(*) FROM shop.log AS l WHERE l.id = p.id) <> 1)
SQL
}

# Every kind of deadline, at its time: no sweep comes by (mall #311, WooCommerce #24581), nothing
# drifts (pg_cron #401).
sub kept
{
	my ($discounted) = sell($node, 'kept', coupon => 'ONCE', first => 1);
	sell($node, 'kept', n => 5, sku => 'last', first => 0.2, last => 1.5);
	sell($node, 'kept', n => 40, first => 0.1, last => 3);
	is(answer($node, q(SELECT ordflow.available_stock('last'))), 0, 'the last units are promised');
	answer($node, q(SELECT ordflow.reserve_stock('cart', '[{"sku": "vase", "quantity": 7}]',
		clock_timestamp() + interval '1 second')));
	my $sent = sell($node, 'receiver', last => 60);
	answer($node, qq(SET ordflow.confirm_within = '1s';
		SELECT ordflow.pay_order($sent, 'bank', 'sent', 10);
		SELECT ordflow.ship_order($sent, 'post', 'p')));
	answer($node, q(INSERT INTO shop.parcel VALUES
		(1, 'packed', clock_timestamp() + interval '0.5 s', 'kept'),
		(2, 'packed', clock_timestamp() + interval '1 s', 'kept')));

	in_time($node, 'kept', 'unpaid orders');
	is(answer($node, q(SELECT ordflow.available_stock('last'))), 5, 'their units are free again');
	is(
		answer($node, "SELECT state FROM ordflow.coupon_redemptions WHERE order_id = $discounted"),
		'returned', 'the coupon is returned');
	forgotten('kept', 'parcels');

	becomes($node, "SELECT state FROM ordflow.orders WHERE order_id = $sent", 'completed',
		'what has arrived long ago is completed');
	is( answer(
			$node, "SELECT c.event, c.reason, c.actor, c.at >= s.at + interval '1 s',
				c.at < s.at + interval '1 s' + interval '@{[LATE]} s'
				FROM ordflow.order_history AS c JOIN ordflow.order_history AS s USING (order_id)
				WHERE order_id = $sent AND s.event = 'ship' AND c.to_state = 'completed'"),
		'confirm|timeout|ordflow coordinator|t|t', 'by the worker, a second after it was sent');

	becomes($node, "SELECT state FROM ordflow.holds WHERE reference = 'cart'", 'expired',
		'a hold ends');
	is( answer(
			$node, "SELECT h.ended_at >= h.expires_at,
				h.ended_at < h.expires_at + interval '@{[LATE]} s', m.actor, sum(m.reserved)
				FROM ordflow.holds AS h JOIN ordflow.stock_movements AS m USING (reference)
				WHERE reference = 'cart' AND m.kind = 'released' GROUP BY h.reference, m.actor"),
		't|t|ordflow coordinator|-7', 'in time, and its units are free');
	return;
}

# The worker sleeps for hours. A commit that brings an earlier deadline wakes it, by whatever
# statement (Redisson #5172, mall #159); one that moves a deadline later keeps it from firing.
sub brought_forward
{
	asleep($node);
	sell($node, 'shorter');
	in_time($node, 'shorter', 'a short deadline behind a long one');

	sell($node, 'moved', last => 3600);
	asleep($node);
	answer($node, q(UPDATE ordflow.orders SET expires_at = clock_timestamp() + interval '0.5 s'
		WHERE customer = 'moved'));
	in_time($node, 'moved', q(a deadline moved forward by the tables' owner));

	answer($node, q(INSERT INTO shop.parcel (id, batch) VALUES (10, 'moved'), (11, 'never')));
	asleep($node);
	answer($node, q(SET ROLE clerk;
		UPDATE shop.parcel SET due = clock_timestamp() + interval '0.5 s' WHERE id = 10));
	forgotten('moved', 'a due column updated');

	asleep($node);
	answer($node, qq(COPY shop.parcel (id, batch, due) FROM STDIN (DELIMITER ',');
20,copied,yesterday
21,copied,2001-01-01
\\.
));
	forgotten('copied', 'parcels copied in, overdue', since => clock($node));

	answer($node, q(CREATE TABLE shop.old AS SELECT 1 AS id, 'packed' AS status,
		clock_timestamp() - interval '1 day' AS due; ALTER TABLE shop.old ADD PRIMARY KEY (id)));
	asleep($node);
	answer($node, q(SELECT ordflow.attach('shop.old', 'parcel', 'status', due_column => 'due')));
	becomes($node, 'SELECT status FROM shop.old', 'lost', 'a table attached with an overdue row');

	answer($node, q(SELECT ordflow.reserve_stock('aside', '[{"sku": "vase", "quantity": 1}]',
		clock_timestamp() + interval '1 hour')));
	asleep($node);
	answer($node, q(SELECT ordflow.reserve_stock('soon', '[{"sku": "vase", "quantity": 1}]',
		clock_timestamp() + interval '0.3 s')));
	becomes($node, "SELECT state FROM ordflow.holds WHERE reference = 'soon'", 'expired',
		'a short hold behind a long one');

	my $extended = sell($node, 'extended', last => 0.8);
	my $left = sell($node, 'left', last => 0.8);
	answer($node, "SELECT ordflow.extend_order($extended, '1.5 s')");
	in_time($node, 'left', 'an order beside one that is extended');
	is(answer($node, pending('extended')), 1, 'which waits on at its first deadline');
	in_time($node, 'extended', 'and then');
	is( answer(
			$node, "SELECT expires_at - created_at > interval '2.2 s'
				FROM ordflow.orders WHERE order_id = $extended"),
		't', 'at the second one');
	return;
}

# A deadline counts from the commit that brings it, in whatever transaction, also where it has
# passed before anybody could see it (Redisson #1960 and others: lost where nobody listens).
sub brought_by_transactions
{
	my $open = $node->background_psql('postgres');
	my $submit = sub {
		my ($customer, $seconds) = @_;
		return "SELECT ordflow.submit_order('$customer', '@{[goods('rug')]}',
			pay_within => '$seconds s')";
	};
	asleep($node);
	$open->query_safe('BEGIN; ' . $submit->('open', 0.2));
	sell($node, 'passing', first => 0.4, n => 3, last => 0.6);
	in_time($node, 'passing', 'deadlines that pass while a transaction is open');
	asleep($node);
	my $since = clock($node);
	$open->query_safe('COMMIT');
	in_time($node, 'open', 'the earlier one that it then commits', since => $since);

	asleep($node);
	$open->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM ordflow.stock');
	sell($node, 'unseen', last => 0.3);
	in_time($node, 'unseen', 'beside an old snapshot');
	$open->query_safe('SAVEPOINT s; ' . $submit->('kept in s', 0.3) . '; RELEASE s; COMMIT');
	in_time($node, 'kept in s', 'brought by a subtransaction');

	my $back = sell($node, 'rolled back', last => 3600);
	my $in_vain = "SAVEPOINT s; UPDATE ordflow.orders SET expires_at = clock_timestamp()
		WHERE order_id = $back; ROLLBACK TO SAVEPOINT s";
	asleep($node);
	$open->query_safe("BEGIN; @{[$submit->('brought before', 0.5)]}; $in_vain; COMMIT");
	in_time($node, 'brought before', 'brought before a savepoint that is rolled back to');
	asleep($node);
	$open->query_safe("BEGIN; $in_vain; @{[$submit->('brought after', 0.5)]}; COMMIT");
	in_time($node, 'brought after', 'brought after one');
	is(answer($node, pending('rolled back')), 1, 'what was rolled back has not fired');
	asleep($node);
	$open->query_safe("BEGIN; UPDATE ordflow.orders SET expires_at = clock_timestamp()
		WHERE order_id = $back; ROLLBACK; UPDATE ordflow.orders
		SET expires_at = clock_timestamp() + interval '0.3 s' WHERE order_id = $back");
	in_time($node, 'rolled back', 'brought again after a rollback');
	$open->quit;

	asleep($node);
	answer($node, q(BEGIN; INSERT INTO shop.parcel (id, batch, due)
		VALUES (30, 'prepared', clock_timestamp() + interval '0.2 s'); PREPARE TRANSACTION 'p'));
	sell($node, 'passing p', last => 0.4);
	in_time($node, 'passing p', 'a deadline that passes beside a prepared transaction');
	asleep($node);
	$since = clock($node);
	answer($node, q(COMMIT PREPARED 'p'));
	forgotten('prepared', 'the earlier one that it then commits', since => $since);
	return;
}

# A step that always fails holds up nobody and is not repeated for the others (WooCommerce #30682,
# RocketMQ #6984). It comes again later and later, and succeeds when what it failed of is repaired.
sub failing
{
	answer($node, <<'SQL');
		CREATE SEQUENCE shop.tried;
		CREATE TABLE shop.told (order_id bigint);
		CREATE FUNCTION shop.fail(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			customer text := object #>> '{row,customer}';
		BEGIN
			IF customer LIKE 'poison %' THEN
				PERFORM nextval('shop.tried');
				RAISE 'no way, %', customer USING ERRCODE = split_part(customer, ' ', 2);
			END IF;
			INSERT INTO shop.told VALUES ((object->>'key')::bigint);
		END $$;
		SELECT ordflow.add_effect('order', 'expire', 'shop.fail(jsonb,jsonb)');
		ALTER TABLE shop.old RENAME COLUMN due TO gone;
SQL
	my $at = time;
	sell($node, 'wholesome', n => 100, first => 60);
	my $poison = sell($node, 'poison P0001', first => 60);
	sell($node, 'wholesome', n => 100, first => 60);
	sell($node, "poison $_", first => 60) for '57014', '40001';
	answer($node, q(UPDATE ordflow.orders SET expires_at = now() + interval '0.7 s'
		WHERE state = 'pending_payment' AND customer ~ '^(wholesome|poison .*)$'));
	my $pid = coordinator($node, 'postgres');
	my $look = [ $pid, processor_time($pid), time ];
	in_time($node, 'wholesome', '200 orders due at one moment with three that fail');
	is(answer($node, "SELECT count(*), count(DISTINCT order_id) FROM shop.told
			JOIN ordflow.orders USING (order_id) WHERE customer = 'wholesome'"),
		'200|200', 'the effect was done for each of them, once');

	becomes($node, "SELECT target, event, sqlstate, error, attempts > 1 FROM ordflow.parked
			WHERE key = '$poison'", 'ordflow.orders|expire|P0001|no way, poison P0001|t',
		'one that failed is parked, and has been tried again');
	is( answer(
			$node, "SELECT o.state, (SELECT string_agg(event, ' ') FROM ordflow.order_history h
				WHERE h.order_id = o.order_id), r.quantity
				FROM ordflow.orders o JOIN ordflow.reservations r USING (order_id)
				WHERE order_id = $poison"),
		'pending_payment|submit|1', 'nothing of its step has remained');
	is( answer(
			$node, "SELECT parked >= 1, last_error ~ 'no way, poison', last_error_at IS NOT NULL
				FROM ordflow.timer_status"),
		't|t|t', 'timer_status tells of it');
	sell($node, 'after them', first => 0.3);
	in_time($node, 'after them', 'an order that comes later');
	until_time($at + 5);
	share_of_processor($look, coordinator($node, 'postgres'), 10, 'failing again and again');
	cmp_ok(answer($node, "SELECT attempts FROM ordflow.parked WHERE key = '$poison'"),
		'<=', 3, 'it comes later and later');

	answer($node, q(SELECT ordflow.drop_effect('order', 'expire', 'shop.fail(jsonb,jsonb)');
		ALTER TABLE shop.old RENAME COLUMN gone TO due));
	my $retry_at = answer($node, "SELECT retry_at FROM ordflow.parked WHERE key = '$poison'");
	becomes($node, "SELECT count(*) FROM ordflow.orders
		WHERE customer LIKE 'poison %' AND state = 'pending_payment'", 0, 'repaired: cancelled');
	is( answer(
			$node, "SELECT count(*), bool_and(at >= '$retry_at'),
					bool_and(at < '$retry_at'::timestamptz + interval '@{[LATE]} s')
				FROM ordflow.order_history WHERE order_id = $poison AND event = 'expire'"),
		'1|t|t', 'at its next try, once');
	is(answer($node, 'SELECT count(*) FROM ordflow.parked'), 0, 'nothing is parked any more');
	answer($node, q(SELECT ordflow.detach('shop.old')));
	return;
}

# Rows that others have locked are passed over and fire right after; the worker does not spin.
sub rows_locked
{
	my ($row, $share, $table, $many, @payers) =
	  map { $node->background_psql('postgres') } 1 .. 8;
	asleep($node);
	my $start = time;
	my $locked = sell($node, 'locked', first => 1);
	my @payed = sell($node, 'payed', n => 4, first => 1);
	my $shared = sell($node, 'shared', first => 1);
	sell($node, 'beside', n => 40, first => 1.1, last => 9.5);
	answer($node, q(INSERT INTO shop.parcel (id, batch, due)
		VALUES (40, 'table', clock_timestamp() + interval '1 s')));
	$row->query_safe("BEGIN; SELECT 1 FROM ordflow.orders WHERE order_id = $locked FOR UPDATE");
	$table->query_safe('BEGIN; LOCK TABLE shop.parcel');
	# as a foreign key does, in a transaction that has added a row which refers to the order
	$share->query_safe("BEGIN; SELECT 1 FROM ordflow.orders
		WHERE order_id = $shared FOR KEY SHARE");
	for my $i (0 .. $#payers)
	{
		is( $payers[$i]->query_safe("BEGIN; SELECT ordflow.pay_order($payed[$i], 'b', 't$i', 10)"),
			'applied', 'paid in time');
	}
	my $pid = coordinator($node, 'postgres');
	my $look = [ $pid, processor_time($pid), time ];
	in_time($node, 'shared', 'an order that a row refers to');

	# Each after a while, so that the worker's own tries have become rare.
	for my $i (0 .. 2)
	{
		until_time($start + 4 + 1.4 * $i);
		my $since = $payers[$i]->query_safe('SELECT clock_timestamp()');
		$payers[$i]->query_safe('ROLLBACK');
		becomes($node, "SELECT state FROM ordflow.orders WHERE order_id = $payed[$i]", 'cancelled',
			'a payment is rolled back: the order is cancelled');
		my $late = answer($node, "SELECT extract(epoch FROM at - '$since')
			FROM ordflow.order_history WHERE order_id = $payed[$i] AND event = 'expire'");
		cmp_ok($late, '<', 0.4, 'at once');
	}
	my $since = clock($node);
	$table->query_safe('ROLLBACK');
	forgotten('table', 'in a table that was locked', since => $since);
	until_time($start + 7);
	sell($node, 'crowd', n => 1000, first => 2);
	$many->query_safe("BEGIN; SELECT 1 FROM ordflow.orders WHERE customer = 'crowd' FOR UPDATE");
	until_time($start + 11);
	in_time($node, 'beside', 'orders due meanwhile', late => 1);
	$payers[3]->query_safe('COMMIT');
	is( answer(
			$node, "SELECT o.state, string_agg(h.event, ' ' ORDER BY h.seq)
				FROM ordflow.orders o JOIN ordflow.order_history h USING (order_id)
				WHERE order_id = $payed[3] GROUP BY o.order_id"),
		'pending_shipment|submit pay', 'paid in time, committed ten seconds late: paid');
	is(answer($node, pending('locked')), 1, 'the one that is locked waits');
	is(answer($node, pending('crowd')), 1000, 'so do the thousand');
	share_of_processor($look, coordinator($node, 'postgres'), 5, 'ten seconds beside locked rows');

	$since = clock($node);
	$_->query_safe('COMMIT') for $row, $many;
	in_time($node, 'locked', 'the lock ends: it', since => $since, late => 2);
	in_time($node, 'crowd', 'and they', since => $since);
	$_->quit for $row, $share, $table, $many, @payers;
	return;
}

# An open transaction sells the goods of some orders that are due, and that keeps nobody waiting.
# One that writes to stock itself has them all wait.
sub stock_locked
{
	asleep($node);
	my $customer = $node->background_psql('postgres');
	$customer->query_safe("BEGIN; SELECT ordflow.submit_order('seller', '@{[goods('rug')]}')");
	sell($node, 'sold beside', n => 20, sku => 'rug', first => 0.5);
	in_time($node, 'sold beside', 'orders of goods that somebody sells', late => 1);
	$customer->query_safe('COMMIT');

	sell($node, 'rugs', n => 20, sku => 'rug', first => 0.8);
	$customer->query_safe("BEGIN; UPDATE ordflow.stock SET location = location WHERE sku = 'vase'");
	my $pid = coordinator($node, 'postgres');
	my $look = [ $pid, processor_time($pid), time ];
	usleep(2_500_000);
	is(answer($node, pending('rugs')), 20, 'beside a direct write to stock they wait');
	share_of_processor($look, coordinator($node, 'postgres'), 30, 'beside stock that is held');

	my $since = clock($node);
	$customer->query_safe('COMMIT');
	$customer->quit;
	becomes($node, pending('rugs'), 0, 'then they are cancelled');
	is( answer(
			$node, "SELECT h.event, h.actor, count(*), max(h.at) < '$since'::timestamptz
					+ interval '@{[LATE]} s'
				FROM ordflow.orders o JOIN ordflow.order_history h USING (order_id)
				WHERE customer = 'rugs' AND to_state = 'cancelled' GROUP BY 1, 2 ORDER BY 1"),
		"expire|ordflow coordinator|20|t", 'each of them once');
	return;
}

# Settings saved again and again do not begin anything anew (WooCommerce #55310), and workers that
# somebody terminates come back (pg_cron #99).
sub disturbed
{
	sell($node, 'settled', first => 2);
	for my $minutes (1 .. 15)
	{
		answer($node, "ALTER SYSTEM SET ordflow.pay_within = '$minutes min'");
		$node->reload;
		usleep(100_000);
	}
	in_time($node, 'settled', 'settings change all the time');

	for my $worker ('coordinator', 'launcher', '%')
	{
		sell($node, "without $worker", first => 0.5);
		answer($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type LIKE 'ordflow $worker'");
		in_time($node, "without $worker", "terminated: $worker", late => LATE + 2);
	}
	return;
}

sub status
{
	asleep($node);
	is( answer(
			$node, "SELECT state, due_now, parked, done > 1300,
					lateness_p50 <= lateness_p99, lateness_p99 <= lateness_max,
					next_deadline = (SELECT min(due_at) FROM ordflow.orders)
				FROM ordflow.timer_status"),
		'active|0|0|t|t|t|t', 'timer_status tells what was done');
	return;
}

# A server of its own, with 1,000 orders that are due in an hour, that nobody touches.
sub quiet_server
{
	# with more in the WAL the background writer tells there what runs
	my $server = server('quiet', 'autovacuum = off', 'checkpoint_timeout = 1d',
		'wal_level = minimal', 'max_wal_senders = 0');
	$server->safe_psql('postgres', 'CREATE DATABASE shop');
	answer($server, <<"SQL", 'shop');
		CREATE EXTENSION ordflow;
		SELECT ordflow.receive_stock('lamp', 1000);
		SELECT count(*) FROM ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object(
			'lines', '@{[goods('lamp')]}'::jsonb, 'pay_within', '1 hour'))
			FROM generate_series(1, 1000)))
SQL
	asleep($server, 'shop');
	$server->safe_psql($_, 'VACUUM') for 'shop', 'postgres';
	asleep($server, 'shop');
	$server->safe_psql('postgres', 'CHECKPOINT');
	quiet_statements($server);
	usleep(1_500_000);
	return $server;
}

# What the workers have done by now, as seen from another database.
sub quiet_statements
{
	my ($server) = @_;
	return answer($server, <<'SQL');
		SELECT pid, backend_type, state_change, query_start, backend_xmin FROM pg_stat_activity
		WHERE backend_type LIKE 'ordflow%' ORDER BY 2;
		SELECT xact_commit + xact_rollback AS transactions, tup_returned, tup_fetched
		FROM pg_stat_database WHERE datname = 'shop';
		SELECT pg_current_wal_insert_lsn();
SQL
}

sub quiet_look
{
	my %pids = map { $_ => answer($quiet,
			"SELECT pid FROM pg_stat_activity WHERE backend_type = 'ordflow $_'") }
	  qw(coordinator launcher);
	my %looks = map { $_ => [ $pids{$_}, processor_time($pids{$_}), time ] } keys %pids;
	return (quiet_statements($quiet), \%looks);
}

# All that this file has taken: no statement, no WAL, no time.
sub quiet
{
	my ($statements, $looks) = @quiet_before;
	until_time($looks->{launcher}[2] + 35);
	my $now = quiet_statements($quiet);
	is($now, $statements, 'nothing due: no statement, no WAL');
	share_of_processor($looks->{$_}, $now =~ /^(\d+)\|ordflow $_\|/m ? $1 : '', 1,
		"nothing due: the $_")
	  for qw(coordinator launcher);
	is(worker_complaints($quiet), '', 'and no complaint');
	return;
}

done_testing();
