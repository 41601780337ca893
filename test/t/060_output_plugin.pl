# The output plugin as its readers see it: pg_recvlogical gets every change once, across restarts of
# the server and of itself; Flink's readers rebuild the table from a random day of it; a large
# transaction is streamed to who asks for that; the server's list of plugins is obeyed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use JSON::PP;
use Ordflow;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
configure($node, 'ordflow.workers = off',
	'logical_decoding_work_mem = 64kB', 'max_replication_slots = 20');
# PostgreSQL of August 2026 and later
my $listed = `postgres --describe-config` =~ /^output_plugin_libraries\t/m;
$node->append_conf('postgresql.conf', q(output_plugin_libraries = 'pgoutput, ordflow')) if $listed;
$node->start;
answer($node, 'CREATE EXTENSION ordflow');

# Texts that JSON has to escape, keys that change, nulls that come and go.
my $columns = 'id:int name:string n:int amount:decimal ok:bool at:timestamp raw:bytes';
answer($node, <<'SQL');
CREATE TABLE item (id bigint PRIMARY KEY, name text, n bigint, amount numeric(10, 2), ok boolean,
	at timestamp, raw bytea);
CREATE TABLE whole (LIKE item INCLUDING ALL);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE PROCEDURE day(tbl regclass, steps int) LANGUAGE plpgsql AS $$
DECLARE
	row text := $q$(random() * 1000000)::int,
		nullif(repeat(E'x"\\\n\t\x01é€😀', (random() * 3)::int), ''),
		nullif((random() * 10)::bigint, 3), round((random() * 2000 - 1000)::numeric, 2),
		nullif(random() < 0.5, random() < 0.2),
		'2024-01-01'::timestamp + random() * interval '1 year',
		decode(md5(random()::text), 'hex')$q$;
BEGIN
	PERFORM setseed(0.42);
	FOR i IN 1 .. steps LOOP
		CASE (random() * 6)::int
			WHEN 0, 1, 2 THEN
				EXECUTE format('INSERT INTO %s SELECT %s FROM generate_series(1, 3)
					ON CONFLICT DO NOTHING', tbl, row);
			WHEN 3 THEN
				EXECUTE format('UPDATE %s SET (n, ok) = (SELECT nullif((random() * 10)::bigint, 3),
					random() < 0.5) WHERE id %% 7 = %s', tbl, i % 7);
			WHEN 4 THEN
				EXECUTE format('UPDATE %s SET (name, at) = (NULL, NULL) WHERE id %% 11 = %s',
					tbl, i % 11);
			WHEN 5 THEN
				EXECUTE format('UPDATE %s SET id = id + 1000000 * %s::bigint WHERE id %% 23 = %s',
					tbl, i, i % 23);
			ELSE
				EXECUTE format('DELETE FROM %s WHERE id %% 13 = %s', tbl, i % 13);
		END CASE;
		IF i % 3 = 0 THEN COMMIT; END IF;
		IF i % 17 = 0 THEN ROLLBACK; END IF;
	END LOOP;
END $$;
SQL

SKIP:
{
	skip 'there is no python3', 10 if system('python3 -c 1 2>/dev/null') != 0;
	readers();
}
goes_on();
streamed();
options_of_recvlogical();
settings();
not_listed() if $listed;
done_testing();

sub slot
{
	my ($name) = @_;
	return answer($node,
		"SELECT 'made' FROM pg_create_logical_replication_slot('$name', 'ordflow')");
}

sub flush_lsn
{
	return answer($node, 'SELECT pg_current_wal_flush_lsn()');
}

# Receives to an LSN; what was received, and the program's errors.
sub receive
{
	my ($slot, $until, @options) = @_;
	my ($out, $err);
	my $ok = IPC::Run::run(
		[
			'pg_recvlogical', '-d', $node->connstr('postgres'), '-S', $slot, '--start', '--no-loop',
			'-f', '-', '-F', '1', '-E', $until, map { ('-o', $_) } @options
		],
		'>', \$out, '2>', \$err, IPC::Run::timeout(180));
	return ($out, $err);
}

# What the readers make of a random day is what the table has.
sub readers
{
	my @cases = ([ 'canal', 'whole' ], [ 'maxwell', 'whole' ], [ 'debezium', 'whole' ],
		[ 'canal', 'item' ], [ 'maxwell', 'item' ]);
	slot("reader_$_->[0]_$_->[1]") for @cases;
	answer($node, "CALL day('$_', 400)") for qw(item whole);
	for my $case (@cases)
	{
		my ($format, $table) = @$case;
		my ($out, $err) = receive("reader_${format}_$table", flush_lsn(), "format=$format",
			"tables=public.$table");
		my ($got, $complaints);
		my @types = split ' ', $columns;
		@types = map { s/timestamp/micros/r } @types if $format eq 'debezium';
		IPC::Run::run([ 'python3', "$FindBin::Bin/lib/flink_readers.py", $format, 1,
			$table eq 'whole' ? 'whole' : 'key', @types ],
			'<', \$out, '>', \$got, '2>', \$complaints, IPC::Run::timeout(60));
		like($complaints, qr/^messages [1-9]\d{2,}$/, "$format of $table: no message is refused")
		  or diag($complaints);
		is($got, expected_rows($table), "$format of $table: the rows are the table's");
	}
	return;
}

# As the reader shows them: sorted by bytes, each in one line.
sub expected_rows
{
	my ($table) = @_;
	return answer($node, qq(SELECT line FROM (SELECT concat_ws('|', id,
		coalesce(translate(name, E'\\n', '~'), ''), coalesce(n::text, ''), amount,
		coalesce(left(ok::text, 1), ''), coalesce(at::text, ''),
		encode(raw, 'hex')) AS line FROM $table) AS t ORDER BY line COLLATE "C")) . "\n";
}

# Every change comes once in a row of receivers, with a crash of the server between.
sub goes_on
{
	slot('goes_on');
	my $all = '';
	for my $round (1 .. 4)
	{
		answer($node, "INSERT INTO item (id)
			SELECT -g FROM generate_series($round * 100, $round * 100 + 9) AS g");
		if ($round == 3)
		{
			$node->stop('immediate');
			$node->start;
		}
		my ($out, $err) = receive('goes_on', flush_lsn(), 'tables=public.item');
		$all .= $out;
	}
	my @ids = map { decode_json($_)->{new}{id} } split /\n/, $all;
	my %seen;
	$seen{$_}++ for @ids;
	is(scalar(keys %seen), 40, 'every change is told');
	is(join(' ', sort { $b <=> $a } keys %seen),
		join(' ', map { my $r = $_; map { -($r * 100 + $_) } 0 .. 9 } 1 .. 4), 'and no other');
	return;
}

# A reader of streamed parts gets what was committed, and what it has to take back.
sub streamed
{
	slot('streamed');
	answer($node, <<'SQL');
BEGIN;
INSERT INTO item (id) SELECT -g FROM generate_series(1000, 3999) AS g;
SAVEPOINT s;
INSERT INTO item (id) SELECT -g FROM generate_series(4000, 6999) AS g;
ROLLBACK TO s;
INSERT INTO item (id) SELECT -g FROM generate_series(7000, 9999) AS g;
COMMIT;
BEGIN;
INSERT INTO item (id) SELECT -g FROM generate_series(10000, 12999) AS g;
ROLLBACK;
SQL
	# a commit flushes what came before it; the end of what was rolled back would wait for one
	answer($node, 'CREATE TABLE public.flushed ()');
	my ($out, $err) = receive('streamed', flush_lsn(), 'tables=public.item', 'streaming');
	my (%parts, %committed, $top);
	for my $m (map { decode_json($_) } split /\n/, $out)
	{
		my $op = $m->{op};
		if ($op eq 'stream_start') { $top = $m->{xid} }
		elsif ($op eq 'insert') { push @{ $parts{$top}{ $m->{xid} } }, $m->{new}{id} }
		elsif ($op eq 'stream_abort')
		{
			if ($m->{top_xid}) { delete $parts{ $m->{top_xid} }{ $m->{xid} } }
			else { delete $parts{ $m->{xid} } }
		}
		elsif ($op eq 'stream_commit')
		{
			$committed{$_} = 1 for map { @$_ } values %{ delete $parts{ $m->{xid} } };
		}
	}
	is(scalar(keys %committed), 6000, 'what was committed is there');
	is(scalar(grep { $_ <= -4000 && $_ > -7000 || $_ <= -10000 } keys %committed), 0,
		'and nothing that was rolled back');
	is(scalar(map { values %$_ } values %parts), 0, 'and nothing is left over');
	return;
}

# Options come as the client sends them, and what is none ends the connection with a hint.
sub options_of_recvlogical
{
	slot('options');
	answer($node, 'INSERT INTO item (id) VALUES (-20000)');
	my ($out, $err) = receive('options', flush_lsn(), 'tables=public.item', 'include_key');
	like($out, qr/^\{"key":\{"id":-20000\},"value":\{"op":"insert"/,
		'an option without a value is on');
	like($out, qr/"new":\{"id":-20000,"name":null/, 'what was asked for is told');
	($out, $err) = receive('options', '0/1', 'format');
	like($err, qr/"" is no value of option "format"/, 'one that needs a value');
	($out, $err) = receive('options', '0/1', 'pretty-print=1');
	like($err, qr/there is no option "pretty-print".*Options are format, tables/s,
		'one that does not exist');
	return;
}

# What a role or a client sets does not show in values.
sub settings
{
	slot('settings');
	answer($node, q(INSERT INTO item (id, at) VALUES (-30000, '2024-02-29 12:00')));
	answer($node, q(CREATE TABLE moment (id int PRIMARY KEY, at timestamptz, took interval)));
	answer($node, q(INSERT INTO moment VALUES (1, '2024-02-29 12:00+02', '1 day 02:00')));
	local $ENV{PGOPTIONS} = '-c timezone=Asia/Tokyo -c datestyle=German -c intervalstyle=postgres';
	my $by_sql = answer($node, q(SELECT data FROM pg_logical_slot_peek_changes('settings', NULL,
		NULL, 'tables', 'public.moment')));
	like($by_sql, qr/"at":"2024-02-29 10:00:00\+00","took":"P1DT2H"/, 'values are in UTC and ISO');
	my ($out, $err) = receive('settings', flush_lsn(), 'tables=public.moment');
	is($out, "$by_sql\n", 'for pg_recvlogical as for SQL');
	return;
}

sub not_listed
{
	$node->append_conf('postgresql.conf', q(output_plugin_libraries = 'pgoutput'));
	$node->reload;
	becomes($node, 'SHOW output_plugin_libraries', 'pgoutput', 'the list is another');
	isnt(sqlstate($node, q(SELECT pg_create_logical_replication_slot('x', 'ordflow'))), '',
		'a plugin that is not listed is refused');
	return;
}
