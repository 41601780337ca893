# What lies between the WAL and the targets: spools with torn ends, slots that are lost or
# invalidated, databases that are put to sleep. Nothing is lost without being told, and nothing is
# sent twice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Test::More;
use Time::HiRes qw(sleep);

my $node = server('main', 'wal_level = logical', 'max_worker_processes = 30', 'autovacuum = off',
	"min_wal_size = '32MB'", "max_wal_size = '64MB'");
my $redis = Redis::installed() ? Redis->new : undef;
answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA copy');

attached();
asleep();
torn();
lost_before_anything_was_sent();
invalidated();
backlog() if $redis;
done_testing();

# ---- what the tests are made of ----

sub sync
{
	my ($name) = @_;
	answer($node, "CREATE TABLE $name (id int PRIMARY KEY, w text);
		CREATE TABLE copy.$name (LIKE $name INCLUDING ALL);
		SELECT ordflow.create_sync('$name', '$name', target => 'copy.$name',
			options => '{\"copy\": false}')");
	return state_is($name, 'streaming', 'streams');
}

sub state_is
{
	my ($name, $state, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return becomes($node, "SELECT state FROM ordflow.sync_status WHERE name = '$name'", $state,
		"$name: $what");
}

sub same
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(answer($node, "SELECT ordflow.wait_for_sync('$name', timeout => '60 s')"), 't',
		"$name: $what: arrives");
	return is(
		answer($node, "SELECT count(*) FROM (
			(TABLE $name EXCEPT ALL TABLE copy.$name) UNION ALL
			(TABLE copy.$name EXCEPT ALL TABLE $name)) d"),
		0, "$name: $what: the same rows");
}

sub without_workers
{
	my ($what) = @_;
	answer($node, 'ALTER SYSTEM SET ordflow.workers = off');
	$node->restart;
	$what->();
	answer($node, 'ALTER SYSTEM RESET ordflow.workers');
	return $node->restart;
}

sub segments
{
	my $oid = answer($node, 'SELECT oid FROM pg_database WHERE datname = current_database()');
	my $folder = $node->data_dir . "/base/$oid";
	return sort { ($a =~ /(\d+)$/)[0] <=> ($b =~ /(\d+)$/)[0] } glob "$folder/ordflow_sync_*";
}

# ---- the tests ----

# A table that nobody wanted becomes a partition of a source, within a transaction, in a part of it.
sub attached
{
	answer($node, q(CREATE TABLE parted (id int, w text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
		CREATE TABLE copy.parted (id int PRIMARY KEY, w text);
		CREATE TABLE piece (id int PRIMARY KEY, w text);
		SELECT ordflow.create_sync('parted', 'parted', target => 'copy.parted',
			options => '{"copy": false}')));
	state_is('parted', 'streaming', 'streams');
	answer($node, "INSERT INTO piece VALUES (1, 'unwanted')");
	answer($node, 'SELECT ordflow.wait_for_sync($$parted$$)');
	answer($node, q(BEGIN;
		INSERT INTO piece VALUES (2, 'unwanted still');
		SAVEPOINT a;
		INSERT INTO piece VALUES (3, 'unwanted still');
		SAVEPOINT b;
		ALTER TABLE parted ATTACH PARTITION piece FOR VALUES FROM (0) TO (100);
		RELEASE b;
		INSERT INTO piece VALUES (4, 'wanted');
		RELEASE a;
		INSERT INTO parted VALUES (5, 'wanted');
		SAVEPOINT c;
		INSERT INTO piece VALUES (6, 'wanted');
		ROLLBACK TO c;
		COMMIT;
		INSERT INTO piece VALUES (7, 'wanted')));
	is(answer($node, 'SELECT ordflow.wait_for_sync($$parted$$)'), 't', 'the attached one: arrives');
	is(answer($node, 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM copy.parted'), '4 5 7',
		'what was written after it was attached');
	answer($node, "SELECT ordflow.drop_sync('parted')");
	return;
}

# While a database sleeps its slot waits; what was committed meanwhile arrives.
sub asleep
{
	sync('sleeper');
	my $slot = answer($node, 'SELECT slot_name FROM pg_replication_slots');
	answer($node, 'SELECT ordflow.deactivate()');
	state_is('sleeper', 'inactive', 'sleeps');
	answer($node, q(INSERT INTO sleeper VALUES (1, 'meanwhile');
		SELECT ordflow.alter_sync('sleeper', '{"rate": 1000}')));
	sleep 1;
	is(answer($node, 'SELECT slot_name FROM pg_replication_slots'), $slot, 'its slot is there');
	answer($node, 'SELECT ordflow.activate()');
	same('sleeper', 'awake');
	return;
}

# A crash while a segment is begun leaves a part of its header: what lies before it is kept, though
# the WAL of it has gone.
sub torn
{
	sync('spooled');
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query('BEGIN; LOCK TABLE copy.spooled IN ACCESS EXCLUSIVE MODE');
	answer($node, "INSERT INTO spooled SELECT i, repeat(md5(i::text), 30)
		FROM generate_series($_ * 10000, $_ * 10000 + 9999) i") for 1 .. 4;
	my $lsn = answer($node, 'SELECT pg_current_wal_lsn()');
	ok($node->poll_query_until('postgres',
			"SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots"),
		'the WAL is let go, as the spool is on disk');
	my @segments = segments();
	cmp_ok(scalar @segments, '>', 1, 'it has several segments');
	$node->stop('immediate');
	$session->{run}->finish if eval { $session->{run}->kill_kill; 1 };
	my ($last) = $segments[-1] =~ /\.(\d+)$/;
	my $next = $segments[-1] =~ s/\d+$/$last + 1/er;
	PostgreSQL::Test::Utils::append_to_file($next, "\0" x 10);
	PostgreSQL::Test::Utils::append_to_file($segments[-1], 'C and what was not written whole');
	$node->start;
	same('spooled', 'behind a torn segment');
	is(answer($node, "SELECT state, problem FROM ordflow.sync_status WHERE name = 'spooled'"),
		'streaming|', 'and no gap is told');
	return;
}

# Nothing of it is known to have been sent: still what was committed is lost.
sub lost_before_anything_was_sent
{
	answer($node, 'SELECT ordflow.drop_sync(name) FROM ordflow.syncs');
	is($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_replication_slots'), 1,
		'with the last sync the slot goes');
	sync('quiet');
	without_workers(sub {
		answer($node, q(SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots;
			INSERT INTO quiet VALUES (1, 'lost')));
	});
	state_is('quiet', 'gap', 'a lost slot is told');
	answer($node, "SELECT ordflow.resume_sync('quiet')");
	state_is('quiet', 'streaming', 'resumed');
	answer($node, q(INSERT INTO quiet VALUES (2, 'after')));
	is(answer($node, 'SELECT ordflow.wait_for_sync($$quiet$$)'), 't', 'goes on');
	is(answer($node, 'SELECT id FROM copy.quiet'), 2, 'behind the gap');
	return;
}

# Of a slot that fell too far behind the WAL is gone: it is told, and a new one takes its place.
sub invalidated
{
	my $name = 'quiet';
	without_workers(sub {
		answer($node, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
		$node->reload;
		answer($node, "INSERT INTO quiet VALUES (3, 'lost')");
		answer($node, 'SELECT pg_logical_emit_message(false, $$fill$$, repeat($$x$$, 1000));
			SELECT pg_switch_wal(); CHECKPOINT') for 1 .. 5;
		is(answer($node, 'SELECT wal_status FROM pg_replication_slots'), 'lost', 'it is lost');
		answer($node, 'ALTER SYSTEM RESET max_slot_wal_keep_size');
	});
	state_is($name, 'gap', 'an invalidated slot is told');
	answer($node, "SELECT ordflow.resume_sync('$name')");
	state_is($name, 'streaming', 'resumed');
	answer($node, q(INSERT INTO quiet VALUES (4, 'after')));
	is(answer($node, 'SELECT ordflow.wait_for_sync($$quiet$$)'), 't', 'goes on');
	is(answer($node, 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM copy.quiet'), '2 4',
		'behind the gap');
	is(answer($node, 'SELECT count(*) FROM pg_replication_slots'), 1, 'one slot is there');
	return;
}

# Messages of before there was a slot: more than one place in the WAL has numbers for.
sub backlog
{
	answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
		OPTIONS (port '@{[$redis->port]}')");
	without_workers(sub {
		answer($node, "SELECT ordflow.emit('cache', 'backlog', i::text, to_jsonb(i))
			FROM generate_series(1, 1300) i");
		answer($node, 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
	});
	is($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM ordflow.outbox'), 1,
		'the outbox is emptied');
	is($redis->ask('XLEN', 'backlog'), 1300, 'each message is there once');
	my @keys = $redis->ask('--no-raw', 'XRANGE', 'backlog', '-', '+') =~ /"key"\s+\d+\) "(\d+)"/g;
	is((grep { $keys[$_] != $_ + 1 } 0 .. 1299), 0, 'in order');
	return;
}
