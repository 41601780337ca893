# Syncs to tables, Redis hashes and Redis streams under a mixed load, while deliveries, the decoder,
# the server and Redis are killed: in the end every target holds just what the source does, and
# the streams tell each change once and in order.
#
# Tables a, b, c begin with the present. Of d and e many rows are there before: they are copied
# while all this goes on, d again and again, as resync() is called and the table rewritten.
#
# TORTURE=600 says how many seconds (60 where it is not set), KILLS=200 to go on until there were as
# many kills; SEED=n begins with other random numbers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use List::Util qw(sum0);
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Test::More;
use Time::HiRes qw(time usleep);
use Timers ();

use constant {
	CLIENTS => 3,
	STATEMENTS => 400,		# in one script of a client
	IDS => 200,
	ROWS => 60_000,			# of d and e
	RATE => 4000,			# of their copies, rows a second
	PATIENCE => 180,		# seconds, to catch up in the end
};

plan skip_all => 'there is no redis-server' unless Redis::installed();
my $seed = $ENV{SEED} || int(time) % 100_000;
srand $seed;
note "SEED=$seed";
my $seconds = $ENV{TORTURE} || 60;
my @tables = qw(a b c);
my ($copied, %kills, %clients) = (1_000_000);
my $node = server('main', 'wal_level = logical', 'max_worker_processes = 30',
	'restart_after_crash = on', "max_wal_size = '128MB'", "checkpoint_timeout = '30s'");
plan skip_all => 'the module was not built'
  unless -e $node->config_data('--pkglibdir') . '/ordflow_redis.so';
my $redis = Redis->new('--appendonly', 'yes', '--appendfsync', 'always');
my %ways = (
	delivery => sub { kill_process('delivery') },
	decoder => sub { kill_process('decoder') },
	coordinator => sub { kill_process('coordinator') },
	'delivery, asked' => sub { kill_process('delivery', 'TERM') },
	'decoder, asked' => sub { kill_process('decoder', 'TERM') },
	immediate => sub { $node->stop('immediate'); $node->start; 1 },
	server => sub { Timers::crash($node); $node->start; 1 },
	redis => sub { $redis->crash; usleep(rand 2_000_000); $redis->start; 1 });

set_up();
torture();
finish();
is(compare_table($_), '', "$_: the table is as the source") for @tables, 'd';
is(compare_hashes($_), '', "$_: the hashes are as the rows, and no others are there")
  for @tables, 'd';
compare_stream($_) for @tables;
compare_copied_stream();
is(answer($node, 'SELECT count(*) FROM ordflow.sync_dead_letters'), 0, 'no dead letter');
note join ', ', 'killed: ' . join(' ', map { "$_ $kills{$_}" } sort keys %kills),
  'operations: ' . answer($node, 'SELECT count(*) FROM log');
cmp_ok(scalar keys %kills, '>', 2, 'there were kills');
done_testing();

END
{
	$_->kill_kill for values %clients;
}

# ---- the load ----

sub set_up
{
	answer($node, <<"SQL");
		CREATE EXTENSION ordflow;
		CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port '@{[$redis->port]}');
		CREATE TABLE log (xid bigint, name text, op text);
		CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
			INSERT INTO log VALUES (pg_current_xact_id()::xid::text::bigint, TG_TABLE_NAME,
				lower(TG_OP));
			RETURN NULL;
		END \$\$;
SQL
	for my $table (@tables)
	{
		my $options = q(options => '{"copy": false}');
		answer($node, <<"SQL");
			CREATE TABLE $table (id int PRIMARY KEY, v int, w text, big text);
			CREATE TABLE ${table}_copy (LIKE $table INCLUDING ALL);
			CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON $table
				FOR EACH ROW EXECUTE FUNCTION log();
			CREATE TRIGGER log_truncate AFTER TRUNCATE ON $table EXECUTE FUNCTION log();
			SELECT ordflow.create_sync('${table}_copy', '$table', target => 'public.${table}_copy',
				$options);
			SELECT ordflow.create_sync('${table}_hash', '$table', 'cache', '$table:{id}', $options);
			SELECT ordflow.create_sync('${table}_stream', '$table', 'cache', 'stream-$table',
				options => '{"copy": false, "type": "stream"}');
SQL
	}
	for my $table (qw(d e))
	{
		answer($node, <<"SQL");
			CREATE TABLE $table (id int PRIMARY KEY, v int, w text, big text);
			INSERT INTO $table SELECT i, i, 'old', CASE WHEN i % 5000 = 0 THEN repeat('x', 9000) END
			FROM generate_series(1, @{[ROWS]}) AS i;
			CREATE TABLE ${table}_copy (LIKE $table INCLUDING ALL);
			CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON $table
				FOR EACH ROW EXECUTE FUNCTION log();
SQL
	}
	my $rate = RATE;
	answer($node, <<"SQL");
		ALTER TABLE d ALTER big SET STORAGE EXTERNAL;
		SELECT ordflow.create_sync('d_copy', 'd', target => 'public.d_copy');
		SELECT ordflow.create_sync('d_hash', 'd', 'cache', 'd:{id}', options => '{"rate": $rate}');
		SELECT ordflow.create_sync('e_stream', 'e', 'cache', 'stream-e',
			options => '{"type": "stream", "rate": $rate}');
SQL
	return;
}

sub id { return 1 + int rand IDS; }

sub big { return q((SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 3200))); }

# Statements of every kind, each with its weight.
sub statement
{
	my $t = (@tables, 'd', 'e')[ rand 2 + @tables ];
	my ($id, $other, $v) = (id(), id(), int rand 1000);
	my $copy = join '', map { $copied++ . "\t$v\tcopied\t\\N\n" } 0 .. 20;
	my $large = $t eq 'd' || $t eq 'e';
	($id, $other) = map { $_ * ROWS / IDS } $id, $other if $large;
	my @kinds = (
		[ 20, "INSERT INTO $t VALUES ($id, $v, 'x') ON CONFLICT (id) DO UPDATE SET v = $v" ],
		[ 8, "INSERT INTO $t SELECT i, $v, 'many ' || i FROM generate_series($id, $id + 30) AS i
			ON CONFLICT DO NOTHING" ],
		[ 20, "UPDATE $t SET v = v + 1, w = nullif(w, 'x') WHERE id = $id" ],
		[ 8, "UPDATE $t SET v = v + 1 WHERE id BETWEEN $id AND $id + 20" ],
		[ 6, "UPDATE $t SET id = $other WHERE id = $id" ],
		[ 4, "UPDATE $t SET id = id + 500, v = $v WHERE id BETWEEN $id AND $id + 3" ],
		[ $large ? 0 : 4, "DELETE FROM $t WHERE id > 500 AND id % 7 = $id % 7" ],
		[ 10, "DELETE FROM $t WHERE id = $id" ],
		[ 2, "INSERT INTO $t VALUES ($id, $v, 'big', " . big() . ') ON CONFLICT (id)
			DO UPDATE SET big = excluded.big' ],
		[ 1, 'TRUNCATE c' ],
		[ 1, q(SELECT ordflow.resync('d_copy', 'id % 3 = 0')) ],
		[ 0.3, q(SELECT ordflow.resync('d_hash')) ],
		[ 0.1, 'VACUUM FULL d' ],
		[ 0.1, 'ALTER TABLE d ALTER v TYPE ' . (rand() < 0.5 ? 'int' : 'bigint') ],
		[ 3, "COPY $t FROM stdin;\n$copy\\." ],
		[ 4, "DO \$\$ BEGIN FOR i IN 1 .. 20 LOOP BEGIN
			UPDATE $t SET v = v + i WHERE id = i;
			IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
			EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END \$\$" ]);
	my $sum = 0;
	$sum += $_->[0] for @kinds;
	my $dice = rand $sum;
	for my $kind (@kinds)
	{
		return $kind->[1] if ($dice -= $kind->[0]) < 0;
	}
	return 'SELECT 1';
}

sub transaction
{
	my $dice = rand;
	return statement() . ";\n" if $dice < 0.5;
	return join '', "BEGIN;\n", (map { statement() . ";\n" } 1 .. 2 + rand 6),
	  rand() < 0.15 ? "ROLLBACK;\n" : "COMMIT;\n"
	  if $dice < 0.8;
	return join '', "BEGIN;\n", statement(), ";\nSAVEPOINT s;\n", statement(),
	  ";\nROLLBACK TO s;\n", statement(), ";\nSAVEPOINT u;\n", statement(), ";\nRELEASE u;\n",
	  statement(), ";\nCOMMIT;\n";
}

# Clients that have ended, or lost the server, begin again.
sub feed
{
	for my $client (1 .. CLIENTS)
	{
		if (my $run = $clients{$client})
		{
			eval { $run->pump_nb } if $run->pumpable;
			next if $run->pumpable;
			eval { $run->finish };
		}
		my $file = PostgreSQL::Test::Utils::tempdir() . '/script';
		PostgreSQL::Test::Utils::append_to_file($file,
			join '', map { transaction() } 1 .. STATEMENTS);
		$clients{$client} = IPC::Run::start([ 'psql', '-XAtq', '-f', $file, '-d',
			$node->connstr('postgres') ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
	}
	return;
}

# ---- kills ----

sub server_is_up
{
	my ($status) = $node->psql('postgres', 'SELECT 1', timeout => 20);
	return defined $status && $status == 0;
}

sub process
{
	my ($type) = @_;
	my ($status, $out) = $node->psql('postgres', "SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'ordflow $type' ORDER BY random() LIMIT 1", timeout => 20);
	return defined $status && $status == 0 && $out =~ /^(\d+)$/ ? $1 : undef;
}

sub kill_process
{
	my ($type, $signal) = @_;
	my $pid = process($type) or return 0;
	return kill $signal // 'KILL' => $pid;
}

sub torture
{
	my $until = time + $seconds;
	my @order = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand, $_ ] } keys %ways;
	while ($ENV{KILLS} ? sum0(values %kills) < $ENV{KILLS} : time < $until)
	{
		my $next = time + 1 + rand 4;
		while (time < $next)
		{
			feed();
			usleep(50_000);
		}
		push @order, (keys %ways)[ rand keys %ways ];
		my $way = shift @order;
		note "kill: $way";
		$kills{$way}++ if $ways{$way}->();
		for (1 .. 100)
		{
			last if server_is_up();
			usleep(200_000);
		}
	}
	return;
}

# All clients end; a last row in each table has to come by.
sub finish
{
	$_->kill_kill for values %clients;
	%clients = ();
	my $begun = time;
	my $done = '';
	my $left = join ', ', (map { ("'${_}_copy'", "'${_}_hash'", "'${_}_stream'") } @tables),
	  "'d_copy'", "'d_hash'", "'e_stream'";
	answer($node, "INSERT INTO $_ VALUES (9999999, 0, 'last')") for @tables, qw(d e);
	while ($done ne 't' && time < $begun + PATIENCE)
	{
		$done = answer($node, "SELECT bool_and(ordflow.wait_for_sync(name, timeout => '5 s'))
			FROM unnest(ARRAY[$left]) AS name");
	}
	is($done, 't', 'all syncs catch up')
	  or diag answer($node, 'SELECT * FROM ordflow.sync_status'),
	  answer($node, 'SELECT * FROM ordflow.sync_progress');
	note answer($node, 'SELECT name, phase, rows, restarts, reason FROM ordflow.sync_progress');
	note sprintf 'caught up in %.1f s', time - $begun;
	return;
}

# ---- comparisons ----

sub compare_table
{
	my ($t) = @_;
	return answer($node, <<"SQL");
		SELECT 'missing', id, v, w, md5(big) FROM (TABLE $t EXCEPT TABLE ${t}_copy) AS x
		UNION ALL SELECT 'extra', id, v, w, md5(big) FROM (TABLE ${t}_copy EXCEPT TABLE $t) AS x
		ORDER BY 2 LIMIT 10
SQL
}

# A connection of our own: redis-cli would be started for each key.
my $socket;

sub redis
{
	my (@words) = @_;
	$socket //= IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $redis->port)
	  or die 'no connection to Redis';
	print $socket join '', '*' . @words . "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @words;
	$socket->flush;
	return reply();
}

sub reply
{
	my $line = <$socket> // die 'Redis is gone';
	my ($kind, $rest) = $line =~ /^(.)(.*?)\r\n$/s or die "not RESP: $line";
	return $rest if $kind eq '+' || $kind eq ':';
	die "Redis: $rest" if $kind eq '-';
	return undef if $rest < 0;
	return [ map { reply() } 1 .. $rest ] if $kind eq '*';
	my $text = '';
	read($socket, $text, $rest + 2) == $rest + 2 or die 'Redis is gone';
	return substr $text, 0, $rest;
}

# The rows of a table, each as a hash of texts, by id.
sub rows
{
	my ($t) = @_;
	my %rows;
	for my $line (split /\n/, answer($node, "SELECT row_to_json(x) FROM
		(SELECT id::text, v::text, w, big FROM $t) AS x"))
	{
		my $row = decode_json($line);
		$rows{ $row->{id} } = $row;
	}
	return \%rows;
}

sub same
{
	my ($row, $other) = @_;
	return !grep { ($row->{$_} // "\0") ne ($other->{$_} // "\0") } qw(id v w big);
}

# The first differences between rows and what stands in their place; '' for none.
sub differences
{
	my ($rows, $found) = @_;
	my @wrong = map { "missing $_" } grep { !$found->{$_} } keys %$rows;
	push @wrong, map { "extra $_" } grep { !$rows->{$_} } keys %$found;
	push @wrong, map { "different $_" }
	  grep { $found->{$_} && !same($rows->{$_}, $found->{$_}) } keys %$rows;
	my $n = @wrong;
	@wrong = sort @wrong;
	return $n > 10 ? join ', ', @wrong[ 0 .. 9 ], "$n in all" : join ', ', @wrong;
}

sub compare_hashes
{
	my ($t) = @_;
	my %found;
	for my $key (@{ redis('KEYS', "$t:*") })
	{
		$found{ $key =~ s/^$t://r } = { @{ redis('HGETALL', $key) } };
	}
	return differences(rows($t), \%found);
}

# All that the stream of a table tells.
sub events
{
	my ($t) = @_;
	my @events;
	my $from = '-';
	while (my @entries = @{ redis('XRANGE', "stream-$t", $from, '+', 'COUNT', 500) })
	{
		push @events, map { my %message = @{ $_->[1] }; decode_json($message{value}) } @entries;
		$from = "($entries[-1][0]";
	}
	return \@events;
}

# The replay of a stream: [the rows, the number of events by "xid op", what is wrong].
sub replay
{
	my ($t) = @_;
	my (%rows, %events, @wrong);
	my ($last, $from) = ([ 0, 0 ], '-');
	while (my @entries = @{ redis('XRANGE', "stream-$t", $from, '+', 'COUNT', 500) })
	{
		for my $entry (@entries)
		{
			my @id = split /-/, $entry->[0];
			my %message = @{ $entry->[1] };
			my $event = decode_json($message{value});
			push @wrong, "$entry->[0] after @$last"
			  unless $id[0] > $last->[0] || $id[0] == $last->[0] && $id[1] > $last->[1];
			$last = \@id;
			$events{"$event->{xid} $event->{op}"}++;
			push @wrong, apply_event(\%rows, $event);
		}
		$from = "($entries[-1][0]";
	}
	return (\%rows, \%events, \@wrong);
}

sub apply_event
{
	my ($rows, $event) = @_;
	my ($op, $new) = @$event{qw(op new)};
	my $id = $event->{key}{id};
	if ($op eq 'truncate')
	{
		%$rows = ();
		return;
	}
	my $before = $op eq 'update' && $event->{old} ? $event->{old}{id} : $id;
	my $there = $op eq 'insert' ? undef : delete $rows->{$before};
	return "$op of $before, which is not there, in $event->{xid}" if $op ne 'insert' && !$there;
	return if $op eq 'delete';
	return "$op of $id, which is there, in $event->{xid}" if $rows->{$id};
	$rows->{$id} = { %$new, map { $_ => $there->{$_} } @{ $event->{unchanged} // [] } };
	return;
}

sub compare_stream
{
	my ($t) = @_;
	my ($rows, $events, $wrong) = replay($t);
	my %log = map { my ($key, $n) = /^(.*)\|(\d+)$/; ($key => $n) } split /\n/,
	  answer($node, "SELECT xid || ' ' || op, count(*) FROM log WHERE name = '$t' GROUP BY 1");
	my @gaps = map { "$_: " . ($events->{$_} // 0) . " of " . ($log{$_} // 0) }
	  grep { ($events->{$_} // 0) != ($log{$_} // 0) } sort keys %{ { %log, %$events } };
	is(scalar @$wrong, 0, "$t: the stream can be replayed")
	  or diag join "\n", splice @$wrong, 0, 10;
	is(scalar @gaps, 0, "$t: it tells each change of each transaction once")
	  or diag join "\n", splice @gaps, 0, 10;
	return is(differences(rows($t), $rows), '', "$t: and what comes of it is the source");
}

# A row that was there before is told once as it stood, or its changes alone are; the changes of a
# transaction are told all, or, where the copy has seen it, none.
sub compare_copied_stream
{
	my (%rows, %changed, %events, @wrong);
	my $snapshots = 0;
	for my $event (@{ events('e') })
	{
		my $id = $event->{key}{id};
		if ($event->{snapshot})
		{
			$snapshots++;
			push @wrong, "the row $id is told after a change of it, or twice" if $changed{$id};
			push @wrong, "the row $id is told though it is there" if $rows{$id};
			$rows{$id} = $event->{new};
			next;
		}
		my $before = $event->{op} eq 'update' && $event->{old} ? $event->{old}{id} : $id;
		my $there = delete $rows{$before};
		$changed{$_} = 1 for $id, $before;
		$events{"$event->{xid} $event->{op}"}++;
		next if $event->{op} eq 'delete';
		$rows{$id} = { %{ $event->{new} },
			map { $_ => $there->{$_} } @{ $event->{unchanged} // [] } };
	}
	my %log = map { my ($key, $n) = /^(.*)\|(\d+)$/; ($key => $n) } split /\n/,
	  answer($node, "SELECT xid || ' ' || op, count(*) FROM log WHERE name = 'e' GROUP BY 1");
	push @wrong, map { "$_: $events{$_} of " . ($log{$_} // 0) }
	  grep { $events{$_} != ($log{$_} // 0) } keys %events;
	is(scalar @wrong, 0, 'e: each row and each change is told once')
	  or diag join "\n", splice @wrong, 0, 10;
	cmp_ok($snapshots, '>', ROWS / 2, 'e: rows that were there are told');
	return is(differences(rows('e'), \%rows), '', 'e: and what comes of it is the source');
}
