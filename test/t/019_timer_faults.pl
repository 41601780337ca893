# A fault of one table holds up no other: steps that never end, errors outside a row's own step,
# rows of ordflow.parked that somebody has locked. And what the worker hears of by triggers of ours.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Test::More;
use Time::HiRes qw(time usleep);
use Timers;

my $node = server('main', 'autovacuum = off');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	SELECT ordflow.receive_stock('lamp', 1000);
	CREATE ROLE keeper;
	CREATE SCHEMA shop AUTHORIZATION keeper;
	SELECT ordflow.define_machine('parcel', '{
		"states": {"packed": "initial", "lost": "final"},
		"transitions": [{"from": "packed", "event": "forget", "to": "lost", "after": "1 hour"}]}');
	SET ROLE keeper;
	CREATE FUNCTION shop.step() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF OLD.fault = 'sleep' THEN PERFORM pg_sleep(3600); END IF;
		IF OLD.fault = 'revoke' THEN REVOKE SELECT ON shop.secret FROM keeper; END IF;
		IF OLD.fault = 'raise' THEN RAISE 'no way'; END IF;
		RETURN NEW;
	END $$;
SQL
for my $table ('slow', 'secret', 'parcel')
{
	answer($node, <<"SQL");
		SET ROLE keeper;
		CREATE TABLE shop.$table (id int PRIMARY KEY, status text DEFAULT 'packed' NOT NULL,
			due timestamptz, fault text DEFAULT '');
		CREATE INDEX ON shop.$table (due);
		CREATE TRIGGER step BEFORE UPDATE OF status ON shop.$table
			FOR EACH ROW EXECUTE FUNCTION shop.step();
		RESET ROLE;
		SELECT ordflow.attach('shop.$table', 'parcel', 'status', due_column => 'due');
SQL
}

hold_moved();
parked_locked();
table_broken();
step_endless();
audits_clean($node, 'in the end');
unlike(worker_complaints($node), qr/ (?:ERROR|FATAL|PANIC): /, 'the worker itself never failed');

# Parcels that are due at once, one for each fault.
sub due_now
{
	my ($table, %faults) = @_;
	my $rows = join ', ', map { "($_, clock_timestamp(), '$faults{$_}')" } sort keys %faults;
	return answer($node, "INSERT INTO shop.$table (id, due, fault) VALUES $rows");
}

sub hold_moved
{
	answer($node, q(SELECT ordflow.reserve_stock('cart', '[{"sku": "lamp", "quantity": 1}]',
		clock_timestamp() + interval '1 day')));
	asleep($node);
	answer($node, q(UPDATE ordflow.holds SET expires_at = clock_timestamp() + interval '0.5 s'));
	my $until = time + LATE;
	becomes($node, 'SELECT state FROM ordflow.holds', 'expired', 'a hold moved by hand expires');
	cmp_ok(time, '<', $until, 'in time');
	return;
}

# A parked row that somebody locks, and a row of the table that somebody locks.
sub parked_locked
{
	due_now('parcel', 1 => 'raise', 2 => 'raise');
	becomes($node, 'SELECT count(*) FROM ordflow.parked', 2, 'two rows are parked');
	my ($parked, $row) = map { $node->background_psql('postgres') } 1 .. 2;
	$row->query_safe('BEGIN; SELECT 1 FROM shop.parcel WHERE id = 2 FOR UPDATE');
	answer($node, q(UPDATE ordflow.parked
		SET attempts = 9, retry_at = clock_timestamp() + interval '1 s'));
	$parked->query_safe(q(BEGIN; UPDATE ordflow.parked SET error = 'mine' WHERE key = '1'));
	sell($node, 'beside', n => 8, first => 0.2, last => 2);
	in_time($node, 'beside', 'orders beside a parked row that somebody has locked');
	$parked->query_safe('ROLLBACK');
	becomes($node, q(SELECT attempts > 9 FROM ordflow.parked WHERE key = '1'), 't',
		'which is tried again when it is free');
	is(answer($node, q(SELECT attempts FROM ordflow.parked WHERE key = '2')), 9,
		'a row that could not be tried keeps its attempts');
	$row->query_safe('ROLLBACK');
	answer($node, q(UPDATE shop.parcel SET fault = '';
		UPDATE ordflow.parked SET retry_at = clock_timestamp()));
	becomes($node, q(SELECT count(*) FROM shop.parcel WHERE status = 'lost'), 2, 'both are fired');
	becomes($node, 'SELECT count(*) FROM ordflow.parked', 0, 'and forgotten');
	$_->quit for $parked, $row;
	return;
}

# The step takes from the owner what the worker reads with.
sub table_broken
{
	due_now('secret', 1 => 'revoke', 2 => '');
	sell($node, 'sold', n => 8, first => 0.2, last => 2);
	in_time($node, 'sold', 'orders beside a table that cannot be read');
	my @lines = grep { /shop\.secret/ } split /\n/, worker_complaints($node);
	is(scalar @lines, 1, 'one warning');
	like($lines[0], qr/WARNING: .*shop\.secret could not be run: permission denied/, 'that tells');
	answer($node, q(UPDATE shop.secret SET fault = ''; SELECT ordflow.activate()));
	becomes($node, q(SELECT count(*) FROM shop.secret WHERE status = 'lost'), 2, 'repaired: fired');
	return;
}

# A batch has 5 s; a row alone 1 s.
sub step_endless
{
	due_now('slow', 1 => 'sleep', 2 => '');
	usleep(200_000);
	sell($node, 'behind', n => 2, first => 0.1);
	in_time($node, 'behind', 'orders beside a step that never ends', late => 12);
	becomes($node, q(SELECT key, sqlstate, error FROM ordflow.parked),
		'1|57014|the step takes longer than 1 s', 'the row is parked');
	becomes($node, 'SELECT status FROM shop.slow WHERE id = 2', 'lost', 'the other is fired');
	answer($node, q(UPDATE shop.slow SET fault = ''));
	becomes($node, 'SELECT count(*) FROM ordflow.parked', 0, 'repaired: fired');
	return;
}

done_testing();
