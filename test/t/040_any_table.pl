# Attached tables as existing shops have them, with composite keys, status codes and partitions:
# the worker fires them, also after a crash, a dump takes them along, and what fails is parked.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = server('main', 'autovacuum = off', 'restart_after_crash = on');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	SELECT ordflow.define_machine('bill', '{
		"states": {"0": "initial", "10": "normal", "20": "final", "40": "final"},
		"transitions": [{"from": "0", "event": "pay", "to": "10"},
			{"from": "10", "event": "forget", "to": "20", "after": "1 day"},
			{"from": "0", "event": "expire", "to": "40", "after": "1 day"}]}');
	CREATE TABLE two (shop text, no int, status int DEFAULT 0, due timestamptz,
		PRIMARY KEY (shop, no));
	CREATE TABLE months (no bigint, day date, status smallint DEFAULT 0, due timestamptz,
		PRIMARY KEY (day, no)) PARTITION BY RANGE (day);
	CREATE TABLE spread (id uuid, status int DEFAULT 0, due timestamptz,
		PRIMARY KEY (id, status)) PARTITION BY LIST (status);
	CREATE TABLE spread_0 PARTITION OF spread FOR VALUES IN (0) PARTITION BY HASH (id);
	CREATE TABLE spread_0_0 PARTITION OF spread_0 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE spread_0_1 PARTITION OF spread_0 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE TABLE spread_rest PARTITION OF spread DEFAULT;
	CREATE INDEX ON two (due); CREATE INDEX ON months (due); CREATE INDEX ON spread (due);
	SELECT ordflow.attach(t, 'bill', 'status', due_column => 'due')
	FROM unnest('{two, months, spread}'::regclass[]) AS t;
	CREATE TABLE month1 PARTITION OF months FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
	CREATE TABLE month2 PARTITION OF months FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SQL

# Rows that are due in two seconds.
sub fill
{
	my ($first, $last) = @_;
	answer($node, <<"SQL");
		INSERT INTO two SELECT 'a "b"', i, 0, clock_timestamp() + interval '2 s'
		FROM generate_series($first, $last) AS i;
		INSERT INTO months SELECT i, date '2026-01-05' + 31 * (i % 2), 0,
			clock_timestamp() + interval '2 s' FROM generate_series($first, $last) AS i;
		INSERT INTO spread SELECT md5(i::text)::uuid, 0, clock_timestamp() + interval '2 s'
		FROM generate_series($first, $last) AS i;
SQL
	return;
}

my $left = q(SELECT (SELECT count(*) FROM two WHERE status = 0) || ' ' ||
	(SELECT count(*) FROM months WHERE status = 0) || ' ' ||
	(SELECT count(*) FROM spread WHERE status = 0));

fill(1, 100);
answer($node, q(UPDATE two SET status = 10 WHERE no = 1; UPDATE months SET status = 10 WHERE no = 1;
	UPDATE spread SET status = 10 WHERE id = md5('1')::uuid));
becomes($node, $left, '0 0 0', 'the worker fires them');
is(answer($node, q(SELECT string_agg(concat_ws(' ', target, event, n), ', ' ORDER BY target, event)
		FROM (SELECT target, event, count(*) AS n FROM ordflow.object_history
			WHERE event <> 'insert' GROUP BY 1, 2) AS h)),
	join(', ', map { ("public.$_ expire 99", "public.$_ pay 1") } qw(months spread two)),
	'each once');
is(answer($node, 'SELECT count(*) FROM ordflow.parked'), 0, 'none failed');

# an effect that fails for one row of each
answer($node, <<'SQL');
	CREATE FUNCTION refuse(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF coalesce(object #>> '{row,no}', '') = '200' OR object ->> 'key' = md5('200')::uuid::text
		THEN RAISE 'not this one'; END IF;
	END $$;
	SELECT ordflow.add_effect('bill', 'expire', 'refuse(jsonb, jsonb)');
SQL
fill(191, 210);
becomes($node, $left, '1 1 1', 'those that fail hold no other up');
is(answer($node, q(SELECT string_agg(key, ' ' ORDER BY target) FROM ordflow.parked)),
	'["2026-01-05", "200"] 3644a684-f98e-a8fe-223c-713b77189a77 ["a \"b\"", "200"]',
	'and are parked by their keys');
answer($node, q(SELECT ordflow.drop_effect('bill', 'expire', 'refuse(jsonb, jsonb)');
	UPDATE ordflow.parked SET retry_at = now()));
becomes($node, $left, '0 0 0', 'tried again');

# due while the server is down
fill(301, 340);
$node->stop('immediate');
$node->start;
becomes($node, $left, '0 0 0', 'after a crash');
audits_clean($node, 'after it');

# a dump takes triggers and rows along, and the copy refuses what the original refuses
fill(401, 402);
answer($node, q(UPDATE spread SET due = now() + interval '1 day' WHERE status = 0));
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
answer($node, 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-j', '3', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
my $triggers = q(SELECT string_agg(concat_ws(' ', tgrelid::regclass, tgname, tgenabled, tgtype), ','
	ORDER BY tgrelid::regclass::text, tgname) FROM pg_trigger WHERE tgname ~ '^~ordflow');
is(answer($node, $triggers, 'copy'), answer($node, $triggers), 'the same triggers');
raises($node, q(UPDATE spread SET status = 20 WHERE status = 0), 'OF001', 'a copy checks', 'copy');
is(answer($node, q(SELECT ordflow.fire('spread', id::text, 'pay') FROM spread WHERE status = 0
	LIMIT 1), 'copy'), 10, 'and fires');
is(answer($node, q(SELECT count(*) FROM ordflow.doctor() WHERE part = 'machine'), 'copy'), 0,
	'doctor() finds nothing');

done_testing();
