# The engine of syncs against a target that fails as it is told to: ordflow_script writes into files
# and answers by a script. Whatever happens, each change arrives once and in order, or is a dead
# letter; and nobody else waits for it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = server('main', 'wal_level = logical', 'max_worker_processes = 40',
	'restart_after_crash = on', 'max_replication_slots = 10');
plan skip_all => 'the module was not built'
  unless -e $node->config_data('--pkglibdir') . '/ordflow_script.so';
my $directory = PostgreSQL::Test::Utils::tempdir();
my $slots = q(SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'ordflow%');
answer($node, 'CREATE EXTENSION ordflow');

arrives();
retries();
rejects();
rejects_without_a_name();
misconfigured();
slow();
pauses();
moved();
crashes();
failing_expression();
dropped_column();
skips();
stops();
emptied();
last_sync_dropped();
extension_dropped();
database_dropped();
is(answer($node, 'SELECT 1'), 1, 'the server is well');
done_testing();

# ---- what the tests are made of ----

# A table, a server with a directory, and a sync, all of one name.
sub sync
{
	my ($name, $options, $db) = @_;
	mkdir "$directory/$name";
	answer($node, "CREATE TABLE $name (id int PRIMARY KEY, v int, w text)", $db);
	answer($node, "CREATE SERVER $name FOREIGN DATA WRAPPER ordflow_script
		OPTIONS (path '$directory/$name', timeout '20')", $db);
	return create_sync($name, $name, $name, $options, $db);
}

sub create_sync
{
	my ($name, $table, $server, $options, $db) = @_;
	$options = encode_json({ copy => JSON::PP::false, %{ $options // {} } });
	answer($node, "SELECT ordflow.create_sync('$name', '$table', '$server',
		target => '$table:{id}', options => '$options')", $db);
	# the first sync of a database begins when its slot is there
	$node->poll_query_until($db // 'postgres',
		"SELECT state <> 'creating' FROM ordflow.sync_status WHERE name = '$name'");
	return;
}

# What apply() does next, a line for each call.
sub script
{
	my ($name, @lines) = @_;
	my $file = "$directory/$name/outcomes";
	PostgreSQL::Test::Utils::append_to_file("$file.mine", join('', map { "$_\n" } @lines));
	rename "$file.mine", $file or die "rename: $!";
	return;
}

sub items
{
	my ($name) = @_;
	my ($length) = PostgreSQL::Test::Utils::slurp_file("$directory/$name/position") =~ /^(\d+)/;
	my $text = substr PostgreSQL::Test::Utils::slurp_file("$directory/$name/items"), 0, $length;
	return map { decode_json($_) } split /\n/, $text;
}

# What has arrived: op, key, and the column v, in order.
sub arrived
{
	my ($name, $sync) = @_;
	return join ', ', map { join ' ', $_->{op}, $_->{key}, $_->{fields}{v} // () }
	  grep { $_->{sync} eq ($sync // $name) } items($name);
}

sub settled
{
	my ($sync, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return becomes($node, "SELECT ordflow.wait_for_sync('$sync')", 't',
		"$name: it is waited for", $db);
}

sub have
{
	my ($name, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	settled($name, $what);
	return is(arrived($name), $expected, $what);
}

sub put
{
	my ($table, @rows) = @_;
	answer($node, "INSERT INTO $table VALUES " . join ', ', map { "($_)" } @rows);
	return;
}

sub status
{
	my ($sync, $columns) = @_;
	return "SELECT $columns FROM ordflow.sync_status WHERE name = '$sync'";
}

sub letters
{
	my ($sync) = @_;
	return "SELECT state, key, op, sqlstate, message FROM ordflow.sync_dead_letters
		WHERE name = '$sync' ORDER BY letter_id";
}

# ---- the tests ----

sub arrives
{
	sync('plain');
	put('plain', '1, 10', '2, 20');
	answer($node, 'UPDATE plain SET v = 11 WHERE id = 1; DELETE FROM plain WHERE id = 2');
	is(answer($node, "SELECT ordflow.wait_for_sync('plain', timeout => '20 s')"), 't',
		'a sync that has just been made is waited for');
	have('plain', 'insert 1 10, insert 2 20, put 1 11, delete 2', 'all is well');
	is((items('plain'))[0]{target}, 'plain:1', 'to its target');
	is(answer($node, status('plain', 'state, rows, dead_letters, problem')), 'streaming|4|0|',
		'the status says so');
	return;
}

sub retries
{
	sync('retried');
	script('retried', map { "retry attempt $_" } 1 .. 6);
	my $begun = time;
	put('retried', "$_, $_") for 1 .. 3;
	becomes($node, status('retried', "state, problem ~ 'attempt', retry_at IS NOT NULL"),
		'retrying|t|t', 'a target that cannot be reached now: retrying');
	answer($node, 'UPDATE retried SET v = 4 WHERE id = 1');
	have('retried', 'insert 1 1, insert 2 2, insert 3 3, put 1 4', 'retried: once, in order');
	my $took = time - $begun;
	note sprintf 'six failures took %.1f s', $took;
	cmp_ok($took, '>', 2, 'retried: each time later');
	cmp_ok($took, '<', 20, 'retried: not too late');
	becomes($node, status('retried', 'state, problem, retry_at'), 'streaming||', 'retried: well');
	return;
}

sub rejects
{
	sync('refused');
	script('refused', 'reject 1 no such color');
	put('refused', '1, 1', '2, 2', '3, 3');
	have('refused', 'insert 1 1, insert 3 3', 'refused: the others arrive');
	is(answer($node, letters('refused')), 'dead|2|put||no such color',
		'refused: it is a dead letter');
	answer($node, 'UPDATE refused SET v = v + 10');
	answer($node, 'UPDATE refused SET v = v + 10');
	have('refused', 'insert 1 1, insert 3 3, put 1 11, put 3 13, put 1 21, put 3 23',
		'refused: later changes of other keys arrive');
	is(answer($node, "SELECT string_agg(state || ' ' || key, ', ' ORDER BY letter_id)
		FROM ordflow.sync_dead_letters WHERE name = 'refused'"), 'dead 2, parked 2, parked 2',
		'refused: those of the same key queue behind it');
	is(answer($node, status('refused', 'state, dead_letters')), 'streaming|3',
		'refused: and are counted');
	raises($node, q(SELECT ordflow.replay_dead_letters('none')), 'OF004', 'no such sync');
	is(answer($node, q(SELECT ordflow.replay_dead_letters('refused'))), 3, 'refused: again');
	becomes($node, status('refused', 'dead_letters, waiting'), '0|0', 'refused: all are sent');
	like(arrived('refused'), qr/put 3 23, (?:insert|put) 2 2, put 2 12, put 2 22$/,
		'refused: in order');
	answer($node, 'UPDATE refused SET v = 0 WHERE id = 2');
	settled('refused', 'later');
	like(arrived('refused'), qr/put 2 22, put 2 0$/, 'refused: the key is free again');

	script('refused', 'reject 0 once', 'reject 0 twice');
	answer($node, 'UPDATE refused SET v = 5 WHERE id = 3');
	becomes($node, letters('refused'), 'dead|3|put||once', 'refused again');
	answer($node, q(SELECT ordflow.replay_dead_letters('refused')));
	becomes($node, "SELECT state, message, attempts FROM ordflow.sync_dead_letters
		WHERE name = 'refused'", 'dead|twice|2', 'a replay that is refused is a dead letter again');
	return;
}

sub rejects_without_a_name
{
	sync('poisoned');
	script('poisoned', 'poison 5');
	answer($node, 'INSERT INTO poisoned SELECT i, i FROM generate_series(1, 40) AS i');
	have('poisoned', join(', ', map { "insert $_ $_" } grep { $_ != 5 } 1 .. 40),
		'nobody knows which: the others arrive');
	is(answer($node, letters('poisoned')), 'dead|5|put||poison', 'and the one is found');
	return;
}

sub misconfigured
{
	sync('wrong');
	script('wrong', ('misconfigured the password is wrong') x 2);
	put('wrong', '1, 1');
	becomes($node, status('wrong', 'state, problem'), 'misconfigured|the password is wrong',
		'somebody has to act: the status says so');
	have('wrong', 'insert 1 1', 'it recovers');
	becomes($node, status('wrong', 'state, problem'), 'streaming|', 'and says so');

	answer($node, "ALTER SERVER wrong OPTIONS (SET path '$directory/nowhere')");
	becomes($node, status('wrong', 'state'), 'misconfigured', 'a server that is changed');
	answer($node, "ALTER SERVER wrong OPTIONS (SET path '$directory/wrong')");
	put('wrong', '2, 2');
	have('wrong', 'insert 1 1, insert 2 2', 'and changed back');
	return;
}

sub slow
{
	sync('slow');
	sync('quick');
	put($_, '1, 1') for qw(slow quick);
	settled($_, 'before') for qw(slow quick);
	script('slow', 'slow 6000');
	my $begun = time;
	put($_, '2, 2') for qw(slow quick);
	have('quick', 'insert 1 1, insert 2 2', 'beside a slow target');
	cmp_ok(time - $begun, '<', 4, 'nobody waits for a slow target');
	have('slow', 'insert 1 1, insert 2 2', 'it arrives there');
	cmp_ok(time - $begun, '>', 5, 'when it is ready');
	return;
}

sub pauses
{
	sync('paused');
	create_sync('beside', 'paused', 'paused');
	put('paused', '1, 1');
	settled('paused', 'before the pause');
	answer($node, q(SELECT ordflow.pause_sync('paused')));
	put('paused', '2, 2');
	answer($node, 'UPDATE paused SET v = v + 1');
	answer($node, 'DELETE FROM paused WHERE id = 1');
	settled('beside', 'another sync of the server');
	is(arrived('paused', 'beside'), 'insert 1 1, insert 2 2, put 1 2, put 2 3, delete 1',
		'another sync of the server goes on');
	is(arrived('paused'), 'insert 1 1', 'paused: nothing is sent');
	becomes($node, status('paused', 'state, waiting'), 'paused|4', 'paused: it waits');
	answer($node, q(SELECT ordflow.resume_sync('paused')));
	put('paused', '1, 7');
	becomes($node, status('paused', 'state, waiting'), 'streaming|0', 'resumed');
	have('paused', 'insert 1 1, insert 2 2, put 1 2, put 2 3, delete 1, insert 1 7',
		'resumed: all that waited, in order, and then what came');
	return;
}

sub moved
{
	sync('moved');
	script('moved', 'moved', 'done', 'moved', 'moved');
	put('moved', '1, 1');
	settled('moved', 'moved');
	put('moved', '2, 2', '3, 3');
	have('moved', 'insert 1 1, insert 2 2, insert 3 3', 'somebody else was there: each once');
	return;
}

# The process ends in the middle of a batch; PostgreSQL restarts all others.
sub crashes
{
	sync('crashed', { batch_rows => 10 });
	script('crashed', 'done', 'crash', 'done', 'crash');
	answer($node, 'INSERT INTO crashed SELECT i, i FROM generate_series(1, 45) AS i');
	my $lines = '';
	for (1 .. 600)
	{
		usleep(100_000);
		$lines = PostgreSQL::Test::Utils::slurp_file("$directory/crashed/outcomes");
		last if $lines !~ /^crash/m && server_is_up();
	}
	have('crashed', join(', ', map { "insert $_ $_" } 1 .. 45),
		'killed in the middle of two batches: each once, in order');
	like($lines, qr/^#one\n#rash\n#one\n#rash$/, 'it was');
	settled('plain', 'after it: a sync that has nothing to send');
	return;
}

sub server_is_up
{
	my ($status) = $node->psql('postgres', 'SELECT 1', timeout => 10);
	return defined $status && $status == 0;
}

sub failing_expression
{
	sync('divided', { columns => { id => 'id', v => '100 / v' } });
	put('divided', '1, 5', '2, 0', '3, 10');
	have('divided', 'insert 1 20, insert 3 10', 'an expression fails: the others arrive');
	is(answer($node, "SELECT state, key, sqlstate FROM ordflow.sync_dead_letters
		WHERE name = 'divided'"), 'dead|2|22012', 'and it is a dead letter');
	answer($node, 'UPDATE divided SET v = 50 WHERE id = 2');
	settled('divided', 'mended');
	answer($node, q(SELECT ordflow.replay_dead_letters('divided')));
	becomes($node, status('divided', 'dead_letters, waiting'), '0|0', 'mended: it is sent');
	like(arrived('divided'), qr/(?:insert|put) 2 2$/, 'mended: as the row is now');
	return;
}

sub dropped_column
{
	sync('dropped', { columns => { id => 'id', v => 'length(w)' } });
	create_sync('stays', 'dropped', 'dropped');
	put('dropped', q(1, 1, 'abc'));
	settled('dropped', 'before');
	answer($node, 'ALTER TABLE dropped DROP COLUMN w');
	put('dropped', '2, 2');
	becomes($node, status('dropped', 'state, problem IS NOT NULL'), 'paused|t',
		'a column that an expression uses is dropped: paused, and it says why');
	put('dropped', '3, 3');
	settled('stays', 'the other');
	is(arrived('dropped', 'stays'), 'insert 1 1, insert 2 2, insert 3 3', 'the other goes on');
	is(arrived('dropped'), 'insert 1 3', 'nothing else was sent');
	answer($node, q(SELECT ordflow.alter_sync('dropped', '{"columns": ["id", "v"]}')));
	answer($node, q(SELECT ordflow.resume_sync('dropped')));
	becomes($node, status('dropped', 'state, waiting, dead_letters, problem'), 'streaming|0|0|',
		'mended and resumed');
	settled('dropped', 'mended');
	like(arrived('dropped'), qr/^insert 1 3, (?:insert|put) 2 2, (?:insert|put) 3 3$/,
		'mended: what has waited is sent');
	return;
}

sub skips
{
	sync('skipped', { on_error => 'skip' });
	script('skipped', 'reject 1 not this one');
	put('skipped', '1, 1', '2, 2');
	settled('skipped', 'skipped');
	answer($node, 'UPDATE skipped SET v = 3 WHERE id = 2');
	have('skipped', 'insert 1 1, put 2 3', 'on_error skip: later changes of the key arrive');
	return;
}

sub stops
{
	sync('stopped', { on_error => 'stop' });
	script('stopped', 'reject 0 never', 'reject 0 never');
	put('stopped', '1, 1', '2, 2');
	becomes($node, status('stopped', 'state, problem'), 'misconfigured|never',
		'on_error stop: it stands, and says why');
	is(answer($node, status('stopped', 'dead_letters')), 0, 'on_error stop: no dead letter');
	have('stopped', 'insert 1 1, insert 2 2', 'on_error stop: when it is taken, all arrive');
	return;
}

# A target that has lost what it had is not filled as though nothing had happened.
sub emptied
{
	sync('emptied');
	put('emptied', '1, 1');
	settled('emptied', 'before');
	becomes($node, "SELECT sent IS NOT NULL FROM ordflow.sync_deliveries
		WHERE server = 'emptied'", 't', 'the position is known here, too');
	unlink "$directory/emptied/items", "$directory/emptied/position";
	put('emptied', '2, 2');
	becomes($node, status('emptied', "state, problem ~ 'lost'"), 'gap|t',
		'a target that was emptied: a gap');
	answer($node, q(SELECT ordflow.resume_sync('emptied')));
	put('emptied', '3, 3');
	settled('emptied', 'resumed');
	like(arrived('emptied'), qr/insert 3 3$/, 'resumed: it goes on');
	becomes($node, status('emptied', 'state'), 'streaming', 'resumed: and is well');
	return;
}

sub last_sync_dropped
{
	is(answer($node, $slots), 1, 'one slot for all syncs');
	answer($node, 'SELECT ordflow.drop_sync(name) FROM ordflow.sync_status');
	becomes($node, $slots, 0, 'the slot goes with the last sync');
	becomes($node, 'SELECT count(*) FROM ordflow.sync_deliveries', 0, 'and the deliveries');
	is(spools('postgres'), '', 'and their files');
	is(join(' ', map { s/.*\///r } glob "$directory/*/position"), '', 'the targets are cleared');
	becomes($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'ordflow de'", 0,
		'and no process is left');
	return;
}

# The files of spools in the folder of a database.
sub spools
{
	my ($db) = @_;
	my $oid = answer($node, "SELECT oid FROM pg_database WHERE datname = '$db'");
	return join ' ', map { s/.*\///r } glob $node->data_dir . "/base/$oid/ordflow_sync_*";
}

sub extension_dropped
{
	answer($node, 'CREATE DATABASE other');
	answer($node, 'CREATE EXTENSION ordflow', 'other');
	sync('short', {}, 'other');
	answer($node, 'INSERT INTO short VALUES (1, 1)', 'other');
	settled('short', 'in another database', 'other');
	isnt(spools('other'), '', 'it has files');
	is(answer($node, $slots), 1, 'and a slot');
	answer($node, 'DROP EXTENSION ordflow CASCADE', 'other');
	becomes($node, $slots, 0, 'DROP EXTENSION leaves no slot');
	usleep(100_000) for 1 .. (spools('other') eq '' ? 0 : 50);
	is(spools('other'), '', 'and no files');
	return;
}

sub database_dropped
{
	answer($node, 'CREATE DATABASE third');
	answer($node, 'CREATE EXTENSION ordflow', 'third');
	sync('third', {}, 'third');
	script('third', 'done', 'slow 8000');
	answer($node, 'INSERT INTO third VALUES (1, 1)', 'third');
	settled('third', 'in a third database', 'third');
	answer($node, 'INSERT INTO third VALUES (2, 1)', 'third');
	usleep(300_000);
	my $begun = time;
	my ($status, $out, $err) = $node->psql('postgres', 'DROP DATABASE third', timeout => 60);
	is($err, '', 'DROP DATABASE while it syncs, and while a target is slow');
	cmp_ok(time - $begun, '<', 5, 'nobody waits for the target');
	is(answer($node, $slots), 0, 'no slot is left');
	return;
}
