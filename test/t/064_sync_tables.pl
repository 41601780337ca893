# Syncs of tables of every kind, while their definition changes, of very large rows and
# transactions, and in databases that are copies: what arrives is what the sources hold, and a
# copy sends nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Test::More;

my $node = server('main', 'max_worker_processes = 30', 'max_replication_slots = 6',
	'max_wal_senders = 4', 'logical_decoding_work_mem = 1MB', 'autovacuum = off');
answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA shop; CREATE SCHEMA copy');

kinds();
definitions();
partitions();
large();
renamed();
copied();
slots();
needs();
promoted();
done_testing();

# ---- what the tests are made of ----

# A table, its copy, and the sync between them; the columns as CREATE TABLE has them.
sub mirror
{
	my ($name, $columns, $options) = @_;
	answer($node, "CREATE TABLE shop.$name ($columns); CREATE TABLE copy.$name ($columns)");
	return sync($name, $options);
}

sub sync
{
	my ($name, $options) = @_;
	$options = join ', ', '"copy": false', $options // ();
	answer($node, "SELECT ordflow.create_sync('$name', 'shop.$name', target => 'copy.$name',
		options => '{$options}')");
	return becomes($node, "SELECT state FROM ordflow.sync_status WHERE name = '$name'",
		'streaming', "$name: streams");
}

# Both tables hold the same rows, once what was committed has arrived.
sub same
{
	my ($name, $what, $columns) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$columns //= '*';
	is(answer($node, "SELECT ordflow.wait_for_sync('$name', timeout => '60 s')"), 't',
		"$name: $what: arrives");
	return is(
		answer($node, "SELECT count(*) FROM (
			(SELECT $columns FROM shop.$name EXCEPT ALL SELECT $columns FROM copy.$name)
			UNION ALL (SELECT $columns FROM copy.$name EXCEPT ALL SELECT $columns
				FROM shop.$name)) d"),
		0, "$name: $what: the same rows");
}

# ---- the tests ----

sub kinds
{
	answer($node, q(CREATE TYPE shop.mood AS ENUM ('sad', 'it''s "fine"');
		CREATE DOMAIN shop.amount AS numeric(30,10) CHECK (VALUE >= 0)));
	mirror('kind', q(a int, b uuid, j jsonb, t text[], m shop.mood, n shop.amount, at timestamptz,
		d date, i interval, b2 bytea, f float8, big text, r int4range, o bool, c char(5), mo money,
		x xml, ip inet, twice int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (b, a)));
	answer($node, <<'SQL');
		INSERT INTO shop.kind VALUES
		(1, gen_random_uuid(), '{"a": [1, null, "\u00e9\\"]}', ARRAY['x', NULL, '{"y"}'], 'sad',
		 12345678901234567890.0123456789, '2024-02-29 12:00:00.000001+05:30', '0044-03-15 BC',
		 '1 mon -2 days 00:00:00.5', '\x00ff5c27', 'NaN', NULL, '[1,5)', true, 'ab', 12.34,
		 '<a>&lt;</a>', '10.0.0.0/8'),
		(2, gen_random_uuid(), 'null', '{}', NULL, 0, 'infinity', '-infinity', '-1 year', '', '-0',
		 E'tab\tnewline\nquote''', 'empty', false, NULL, NULL, NULL, '::1')
SQL
	answer($node, q(UPDATE shop.kind SET big = repeat('0123456789abcdef', 65536) || b,
		n = 'NaN' WHERE a = 1));
	same('kind', 'values', 'kind::text');
	answer($node, q(UPDATE shop.kind SET a = a + 10; UPDATE shop.kind SET m = 'it''s "fine"'));
	same('kind', 'keys that change beside TOAST that does not', 'kind::text');
	answer($node, q(BEGIN; SAVEPOINT s; DELETE FROM shop.kind; ROLLBACK TO s;
		INSERT INTO shop.kind (a, b) VALUES (5, gen_random_uuid()); COMMIT;
		BEGIN; TRUNCATE shop.kind; ROLLBACK));
	same('kind', 'what was rolled back', 'kind::text');

	my $wide = join ', ', 'id int PRIMARY KEY', map { "c$_ text" } 1 .. 199;
	mirror('wide', $wide);
	answer($node, 'INSERT INTO shop.wide (id, c1, c199) SELECT g, g, g FROM generate_series(1,
		50) g;
		UPDATE shop.wide SET c100 = id');
	same('wide', '200 columns');

	answer($node, 'CREATE TABLE shop.full_row (id int, v text);
		CREATE UNIQUE INDEX ON shop.full_row (id);
		ALTER TABLE shop.full_row REPLICA IDENTITY FULL;
		CREATE TABLE copy.full_row (id int PRIMARY KEY, v text)');
	sync('full_row', '"key": ["id"]');
	answer($node, q(INSERT INTO shop.full_row VALUES (1, 'a'), (2, 'b'); UPDATE shop.full_row
		SET id = 3
		WHERE id = 1; DELETE FROM shop.full_row WHERE id = 2));
	same('full_row', 'no primary key');
	return;
}

# Each change of a definition between changes of rows, all of it decoded in one go.
sub definitions
{
	mirror('item', 'id int PRIMARY KEY, a text, b int');
	answer($node, q(INSERT INTO shop.item SELECT g, 'a' || g, g FROM generate_series(1, 20) g;
		VACUUM FULL shop.item; UPDATE shop.item SET a = 'full' WHERE id = 1;
		CLUSTER shop.item USING item_pkey; UPDATE shop.item SET a = 'clustered' WHERE id = 2;
		ALTER TABLE copy.item ALTER b TYPE numeric; ALTER TABLE shop.item ALTER b TYPE numeric;
		UPDATE shop.item SET b = 1.5 WHERE id = 3;
		ALTER TABLE copy.item ADD c text DEFAULT 'new'; ALTER TABLE shop.item
			ADD c text DEFAULT 'new';
		INSERT INTO shop.item VALUES (21, 'x', 1, 'c'); UPDATE shop.item SET c = 'set' WHERE id = 4;
		ALTER TABLE shop.item DROP a; UPDATE shop.item SET b = 7 WHERE id = 5));
	same('item', 'rewritten, altered', 'id, b, c');
	answer($node, q(TRUNCATE shop.item; INSERT INTO shop.item VALUES (1, 1, 'after')));
	same('item', 'emptied', 'id, b, c');

	# a column that the target lacks stops this sync alone, and nothing of it is lost
	answer($node, q(ALTER TABLE shop.item ADD d int; INSERT INTO shop.item VALUES (2, 2, 'c', 2);
		INSERT INTO shop.wide (id) VALUES (1000)));
	becomes($node, q(SELECT state, problem LIKE '%"d"%' FROM ordflow.sync_status
		WHERE name = 'item'),
		'paused|t', 'a column that the target lacks pauses the sync, and it says which');
	same('wide', 'others go on');
	answer($node, q(INSERT INTO shop.item VALUES (3, 3, 'c', 3); DELETE FROM shop.item
		WHERE id = 1));
	becomes($node, q(SELECT waiting FROM ordflow.sync_status WHERE name = 'item'), 3,
		'what comes meanwhile is kept');
	answer($node, q(ALTER TABLE copy.item ADD d int; SELECT ordflow.resume_sync('item')));
	becomes($node, q(SELECT waiting FROM ordflow.sync_status WHERE name = 'item'), 0, 'and sent');
	same('item', 'resumed', 'id, b, c, d');

	answer($node, 'INSERT INTO shop.item VALUES (4); DROP TABLE shop.item');
	same('wide', 'after a source was dropped');
	is(answer($node, 'SELECT count(*) FROM copy.item WHERE id = 4'), 1,
		'what a table got before it was dropped arrives');
	answer($node, q(SELECT ordflow.drop_sync('item')));
	return;
}

sub partitions
{
	answer($node, q(CREATE TABLE shop.sale (id int, at date, v text, PRIMARY KEY (id, at))
			PARTITION BY RANGE (at);
		CREATE TABLE shop.sale_1 PARTITION OF shop.sale FOR VALUES FROM ('2024-01-01')
			TO ('2025-01-01');
		CREATE TABLE shop.sale_2 (v text, gone int, at date NOT NULL, id int NOT NULL);
		ALTER TABLE shop.sale_2 DROP gone;
		INSERT INTO shop.sale_2 VALUES ('before', '2025-06-01', 0);
		CREATE TABLE copy.sale (LIKE shop.sale INCLUDING ALL)));
	sync('sale');
	answer($node, q(INSERT INTO shop.sale VALUES (1, '2024-05-05', 'one');
		INSERT INTO shop.sale_2 VALUES ('not yet', '2025-07-01', 9); DELETE FROM shop.sale_2));
	answer($node, q(ALTER TABLE shop.sale ATTACH PARTITION shop.sale_2
			FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
		INSERT INTO shop.sale VALUES (2, '2025-05-05', 'two');
		UPDATE shop.sale SET at = '2025-08-08' WHERE id = 1));
	same('sale', 'rows that move, a partition that came later', 'id, at, v');
	answer($node, 'TRUNCATE shop.sale');
	same('sale', 'emptied', 'id, at, v');
	return;
}

# In bounded memory, or as a clear dead letter.
sub large
{
	mirror('heap', 'id int PRIMARY KEY, v text');
	answer($node, q(INSERT INTO shop.heap SELECT g, repeat(md5(g::text), 30)
		FROM generate_series(1, 60000) g));
	same('heap', 'a transaction of 60 MB');
	answer($node, q(INSERT INTO shop.heap SELECT 0, string_agg(md5(g::text), '')
		FROM generate_series(1, 3000000) g; INSERT INTO shop.heap VALUES (-1, 'after')));
	is(answer($node, q(SELECT ordflow.wait_for_sync('heap', timeout => '60 s'))), 't',
		'a row of 96 MB holds up nothing');
	is(answer($node, q(SELECT name, state, key, sqlstate FROM ordflow.sync_dead_letters)),
		'heap|dead|0|54000', 'and is a dead letter');
	is(answer($node, 'SELECT count(*), count(*) FILTER (WHERE id = -1) FROM copy.heap'), '60001|1',
		'all else is there');
	answer($node, q(UPDATE shop.heap SET v = 'small' WHERE id = 0));
	becomes($node, q(SELECT count(*) FROM ordflow.sync_dead_letters), 2,
		'what follows queues behind it');
	is(answer($node, q(SELECT ordflow.replay_dead_letters('heap'))), 2, 'both are sent again');
	becomes($node, q(SELECT count(*) FROM ordflow.sync_dead_letters), 0, 'and are gone');
	return same('heap', 'replayed');
}

sub renamed
{
	mirror('named', 'id int PRIMARY KEY, v text');
	answer($node, q(INSERT INTO shop.named VALUES (1, 'a'); ALTER TABLE shop.named RENAME TO called;
		INSERT INTO shop.called VALUES (2, 'b'); ALTER TABLE shop.called RENAME TO named));
	return same('named', 'renamed, and back');
}

# A database made from this one, and one restored from a dump, send nothing until they are told to.
sub copied
{
	answer($node, 'CREATE DATABASE other TEMPLATE postgres', 'template1');
	is(answer($node, 'SELECT DISTINCT state FROM ordflow.sync_status', 'other'), 'inactive',
		'the syncs of a copied database sleep');
	answer($node, q(INSERT INTO shop.named VALUES (3, 'only here')), 'other');
	same('named', 'where it was copied from all goes on');
	is(answer($node, q(SELECT count(*) FROM pg_replication_slots WHERE slot_name ~ '^ordflow_')), 1,
		'the copy has no slot');
	is(answer($node, 'SELECT count(*) FROM copy.named', 'other'), 2, 'and nothing is delivered');
	answer($node, 'SELECT ordflow.activate()', 'other');
	becomes($node, q(SELECT state FROM ordflow.sync_status WHERE name = 'named'), 'gap',
		'once it acts, it says what it cannot know', 'other');
	answer($node, q(SELECT ordflow.resume_sync('named')), 'other');
	becomes($node, q(SELECT state FROM ordflow.sync_status WHERE name = 'named'), 'streaming',
		'and goes on when it is told to', 'other');
	answer($node, q(INSERT INTO shop.named VALUES (4, 'here')), 'other');
	becomes($node, 'SELECT count(*) FROM copy.named WHERE id = 4', 1, 'with its own changes',
		'other');
	answer($node, 'DROP DATABASE other');
	return is(answer($node, q(SELECT count(*) FROM pg_replication_slots
		WHERE slot_name ~ '^ordflow_')),
		1, 'and is dropped with its slot while it streams');
}

sub slots
{
	answer($node, "SELECT pg_create_physical_replication_slot('taken' || g) FROM generate_series(1,
		5) g");
	answer($node, 'CREATE DATABASE late');
	answer($node, 'CREATE EXTENSION ordflow; CREATE TABLE t (id int PRIMARY KEY);
		CREATE TABLE u (id int PRIMARY KEY)', 'late');
	raises($node, q(SELECT ordflow.create_sync('t', 't', target => 'public.u',
		options => '{"copy": false}')),
		'55000', 'without a free slot create_sync says so', 'late');
	is(answer($node, 'SELECT count(*) FROM ordflow.syncs', 'late'), 0, 'and leaves nothing');
	answer($node, "SELECT pg_drop_replication_slot('taken' || g) FROM generate_series(1, 5) g");
	return answer($node, 'DROP DATABASE late');
}

sub needs
{
	my $other = server('replica', 'wal_level = replica');
	answer($other, 'CREATE EXTENSION ordflow; CREATE TABLE t (id int PRIMARY KEY);
		CREATE TABLE u (id int PRIMARY KEY)');
	raises($other, q(SELECT ordflow.create_sync('t', 't', target => 'public.u',
		options => '{"copy": false}')),
		'55000', 'wal_level = replica does not do');
	return $other->stop;
}

# A standby takes over: its slot is another server's, so what is missing is told, not guessed.
sub promoted
{
	$node->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'base', has_streaming => 1);
	$standby->start;
	answer($node, q(INSERT INTO shop.named VALUES (5, 'before')));
	same('named', 'before the failover');
	$node->wait_for_catchup($standby);
	$node->stop('immediate');
	$standby->promote;
	becomes($standby, q(SELECT state, problem LIKE '%slot was lost%' FROM ordflow.sync_status
		WHERE name = 'named'), 'gap|t', 'a promoted standby tells of the gap');
	answer($standby, q(SELECT ordflow.resume_sync('named')));
	becomes($standby, q(SELECT state FROM ordflow.sync_status WHERE name = 'named'), 'streaming',
		'and goes on when it is told to');
	answer($standby, q(INSERT INTO shop.named VALUES (6, 'after')));
	is(answer($standby, q(SELECT ordflow.wait_for_sync('named'))), 't', 'what comes then');
	return is(answer($standby, 'SELECT count(*) FROM copy.named WHERE id IN (5, 6)'), 2, 'arrives');
}
