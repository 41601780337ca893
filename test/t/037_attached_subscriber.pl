# An attached table that a subscription writes: what it applies is taken as it comes, without check
# and history, and its deadlines are the publisher's business, until the subscription ends.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $table = <<'SQL';
	CREATE EXTENSION ordflow;
	CREATE TABLE bill (id int PRIMARY KEY, status smallint NOT NULL, due timestamptz);
	CREATE INDEX ON bill (due);
	SELECT ordflow.define_machine('bill', '{
		"states": {"0": "initial", "10": "normal", "40": "final"},
		"transitions": [{"from": "0", "event": "pay", "to": "10"},
			{"from": "0", "event": "expire", "to": "40", "after": "1 hour"}]}');
	SELECT ordflow.attach('bill', 'bill', 'status', due_column => 'due');
SQL
my $rows = "SELECT string_agg(id || ':' || status, ' ' ORDER BY id) FROM bill";
my $history = q(SELECT string_agg(key || event || to_state, ' ' ORDER BY history_id)
	FROM ordflow.object_history WHERE target = 'public.bill');
my $settings = "wal_level = logical\nmax_replication_slots = 10\nmax_wal_senders = 10";

# no workers at the publisher: there it is the test that fires
my $publisher = server('publisher', $settings, 'ordflow.workers = off');
my $subscriber = server('subscriber', $settings);
answer($publisher, "$table CREATE PUBLICATION bills FOR TABLE bill;
	INSERT INTO bill VALUES (1, 0), (2, 0), (3, 0);
	UPDATE bill SET status = 10 WHERE id = 3; UPDATE bill SET due = now() WHERE id = 1");
answer($subscriber, $table);
answer($subscriber, "CREATE SUBSCRIPTION apply CONNECTION '"
	. $publisher->connstr . q( dbname=postgres' PUBLICATION bills));
$subscriber->wait_for_subscription_sync($publisher, 'apply');
is(answer($subscriber, $rows), '1:0 2:0 3:10', 'the first copy: no state is illegal');

# what is illegal in two ways: not published step by step, and by a session without triggers
answer($publisher, q(UPDATE bill SET status = 10 WHERE id = 2;
	SET session_replication_role = replica; INSERT INTO bill VALUES (4, 40), (5, 0);
	UPDATE bill SET status = 77 WHERE id = 4; UPDATE bill SET status = 0 WHERE id = 3));
applied();
is(answer($subscriber, $rows), '1:0 2:10 3:0 4:77 5:0', 'applied: nothing is checked');
is(answer($subscriber, $history), '', 'applied: no history');
is(answer($subscriber, q(SELECT * FROM ordflow.attach_report('bill', 'bill', 'status'))), '4|77',
	'attach_report tells what is illegal');

# row 1 has been due all the time
is(answer($subscriber, 'SELECT ordflow.run_due()'), 0, 'run_due leaves applied rows alone');
answer($publisher, 'UPDATE bill SET due = now() WHERE id = 5');
applied();
answer($subscriber, 'SELECT ordflow.activate(); SELECT pg_sleep(1)');
is(answer($subscriber, $rows), '1:0 2:10 3:0 4:77 5:0', 'and so does the worker');
is(answer($subscriber, q(SELECT coalesce(sum(due_now), 0) FROM ordflow.timer_status)), 0,
	'they are not counted as due');
is(answer($subscriber, 'SELECT count(*) FROM ordflow.parked'), 0, 'nor are they parked');

# a table beside it, in the same database, has its timeouts as ever
answer($subscriber, q(CREATE TABLE own (LIKE bill INCLUDING ALL);
	SELECT ordflow.attach('own', 'bill', 'status', due_column => 'due');
	INSERT INTO own VALUES (1, 0, now() + interval '0.2 s')));
becomes($subscriber, 'SELECT status FROM own', 40, 'a table of its own is not touched by this');

is(answer($publisher, 'SELECT ordflow.run_due()'), 2, 'the publisher fires');
applied();
is(answer($subscriber, $rows), '1:40 2:10 3:0 4:77 5:40', 'and its timeouts are applied');
is(answer($subscriber, $history), '', 'still without history');

# taken over: now the rows are the subscriber's
answer($publisher, 'UPDATE bill SET due = now() WHERE id = 3');
applied();
answer($subscriber, 'DROP SUBSCRIPTION apply; SELECT ordflow.activate()');
becomes($subscriber, 'SELECT status FROM bill WHERE id = 3', 40,
	'when the subscription is gone its timer fires');
is(answer($subscriber, $history), '3expire40', 'with history');
raises($subscriber, 'UPDATE bill SET status = 0 WHERE id = 2', 'OF001', 'and a check');
is(worker_complaints($subscriber), '', 'no worker has complained');
done_testing();

sub applied
{
	$publisher->wait_for_catchup('apply');
	return;
}
