# What a delivery must get right beside the plain way: gaps that somebody has closed, letters and
# what overtakes them, keys that change, identities that tell no key, constraints that are checked
# at the end, and what is left behind by syncs that are no more.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use JSON::PP;
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = server('main', 'max_worker_processes = 60', 'max_replication_slots = 10',
	'autovacuum = off', 'restart_after_crash = on');
plan skip_all => 'the module was not built'
  unless -e $node->config_data('--pkglibdir') . '/ordflow_script.so';
my $directory = PostgreSQL::Test::Utils::tempdir();
answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA copy');

resumed();
truncated_behind_a_letter();
truncated_and_refused();
waiting_behind_dead();
replayed_while_paused();
moved_and_failing();
stops_at_truncate();
skipped_and_replayed();
events_once();
failing_events();
deferred();
in_any_order();
progress();
identities();
identity_lost();
names_that_move();
null_keys();
own_policies();
internal_errors();
waited_through_a_pause();
dropped_in_a_rest();
letters_of_nobody();
figures();
well_again();
expired();
emitted_and_dropped();
paths();
extension_again();
is(answer($node, 'SELECT 1'), 1, 'the server is well');
done_testing();

# ---- what the tests are made of ----

# A table, a server with a directory, and a sync, all of one name.
sub script_sync
{
	my ($name, $options, $target, $columns) = @_;
	mkdir "$directory/$name";
	$columns //= 'id int PRIMARY KEY, v int, w text';
	answer($node, "CREATE TABLE $name ($columns); CREATE SERVER $name
		FOREIGN DATA WRAPPER ordflow_script OPTIONS (path '$directory/$name', timeout '20')");
	return create_sync($name, $name, $name, $target // "$name:{id}", $options);
}

# A table, its copy, and the sync between them.
sub table_sync
{
	my ($name, $columns, $options) = @_;
	answer($node, "CREATE TABLE $name ($columns); CREATE TABLE copy.$name ($columns)");
	return create_sync($name, $name, undef, "copy.$name", $options);
}

sub create_sync
{
	my ($name, $table, $server, $target, $options) = @_;
	$options = encode_json({ copy => JSON::PP::false, %{ $options // {} } });
	$server = defined $server ? "'$server'" : 'NULL';
	answer($node, "SELECT ordflow.create_sync('$name', '$table', $server, '$target',
		options => '$options')");
	local $Test::Builder::Level = $Test::Builder::Level + 2;
	return becomes($node, status($name, 'state'), 'streaming', "$name: streams");
}

sub refuses
{
	my ($source, $target, $options, $state, $what) = @_;
	$options = encode_json({ copy => JSON::PP::false, %$options });
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return raises($node, "SELECT ordflow.create_sync('refused', '$source', target => '$target',
		options => '$options')", $state, $what);
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
	my ($name) = @_;
	return join ', ', map { join ' ', $_->{op}, $_->{key} // (), $_->{fields}{v} // () }
	  items($name);
}

sub status
{
	my ($sync, $columns) = @_;
	return "SELECT $columns FROM ordflow.sync_status WHERE name = '$sync'";
}

sub letters
{
	my ($sync) = @_;
	return "SELECT coalesce(string_agg(concat_ws(' ', state, key), ', ' ORDER BY letter_id), '')
		FROM ordflow.sync_letters JOIN ordflow.syncs USING (sync_id) WHERE name = '$sync'";
}

sub settled
{
	my ($sync, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return becomes($node, "SELECT ordflow.wait_for_sync('$sync')", 't', "$name: it is waited for");
}

sub have
{
	my ($name, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	settled($name, $what);
	return is(arrived($name), $expected, $what);
}

sub replayed
{
	my ($sync, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	answer($node, "SELECT ordflow.replay_dead_letters('$sync')");
	becomes($node, letters($sync), '', "$what: no letter is left");
	return is(arrived($sync), $expected, $what);
}

# ---- the tests ----

# Nothing new has to come before the status says that all is well.
sub resumed
{
	script_sync('gap');
	answer($node, 'INSERT INTO gap VALUES (1, 1)');
	settled('gap', 'before the gap');
	becomes($node, q(SELECT sent IS NOT NULL FROM ordflow.sync_deliveries
		WHERE server = 'gap'), 't', 'the position is known here, too');
	unlink "$directory/gap/items", "$directory/gap/position";
	answer($node, 'INSERT INTO gap VALUES (2, 2)');
	closes_gap('what the target has lost');
	# as the decoder does it, when a spool has grown too large
	answer($node, q(UPDATE ordflow.sync_deliveries SET stopped = true, problem = 'too large',
			generation = generation + 1, sent = NULL, released = NULL WHERE server = 'gap';
		UPDATE ordflow.syncs SET name = name WHERE name = 'gap'));
	closes_gap('what the spool could not hold');
	# in the first second nothing is written down
	answer($node, 'INSERT INTO gap VALUES (4, 4)');
	settled('gap', 'before the next');
	unlink "$directory/gap/items", "$directory/gap/position";
	answer($node, 'INSERT INTO gap VALUES (5, 5)');
	closes_gap('what the target has lost at once');
	answer($node, 'INSERT INTO gap VALUES (3, 3)');
	settled('gap', 'what comes then');
	like(arrived('gap'), qr/insert 3 3$/, 'what comes then arrives');
	return;
}

sub closes_gap
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, status('gap', 'state, problem IS NULL'), 'gap|f', "$what: a gap");
	answer($node, q(SELECT ordflow.resume_sync('gap')));
	becomes($node, status('gap', 'state, problem'), 'streaming|', "$what: resumed, it is well");
	return settled('gap', "$what: resumed");
}

# The rows of older letters are gone; that of a later one is not.
sub truncated_behind_a_letter
{
	script_sync('emptied', { columns => { id => 'id', v => '100 / v' } });
	answer($node, 'INSERT INTO emptied VALUES (1, 0), (9, 10)');
	becomes($node, letters('emptied'), 'dead 1', 'a letter');
	# all of it in one batch
	script('emptied', 'slow 1000');
	answer($node, 'INSERT INTO emptied VALUES (8, 10)');
	answer($node, 'BEGIN; TRUNCATE emptied; INSERT INTO emptied VALUES (2, 0); COMMIT;
		INSERT INTO emptied VALUES (3, 10)');
	settled('emptied', 'emptied');
	is(answer($node, letters('emptied')), 'dead 2', 'a letter of a row that came later stays');
	is(arrived('emptied'), 'insert 9 10, insert 8 10, truncate, insert 3 10', 'the others arrive');
	answer($node, 'UPDATE emptied SET v = 50 WHERE id = 2');
	becomes($node, letters('emptied'), 'dead 2, parked 2', 'what follows queues behind it');
	answer($node, q(SELECT ordflow.replay_dead_letters('emptied')));
	becomes($node, letters('emptied'), '', 'both are sent');
	like(arrived('emptied'), qr/truncate, insert 3 10, put 2 2, put 2 2$/, 'in order');
	return;
}

# What a target did not empty keeps everything behind it waiting: later rows would go with it.
sub truncated_and_refused
{
	table_sync('filled', 'id int PRIMARY KEY, v int');
	answer($node, q(CREATE FUNCTION copy.never() RETURNS trigger LANGUAGE plpgsql
			AS 'BEGIN RAISE ''not now''; END';
		CREATE TRIGGER never BEFORE TRUNCATE ON copy.filled EXECUTE FUNCTION copy.never();
		INSERT INTO filled VALUES (1, 1)));
	settled('filled', 'before');
	answer($node, q(TRUNCATE filled;
		INSERT INTO filled VALUES (2, 2)));
	becomes($node, status('filled', "state, problem, waiting"), 'paused|not now|2',
		'a TRUNCATE that is refused pauses the sync');
	answer($node, q(SELECT ordflow.resume_sync('filled')));
	becomes($node, status('filled', 'state, waiting'), 'paused|2', 'again when it is refused');
	answer($node, q(INSERT INTO filled VALUES (3, 3);
		DROP TRIGGER never ON copy.filled; SELECT ordflow.resume_sync('filled')));
	becomes($node, status('filled', 'state, waiting, dead_letters'), 'streaming|0|0', 'it goes');
	is(answer($node, q(SELECT string_agg(id::text, ' ' ORDER BY id) FROM copy.filled)), '2 3',
		'and the rows that came later are there');
	return;
}

# A pause does not make later changes overtake a dead letter.
sub waiting_behind_dead
{
	script_sync('overtaken');
	script('overtaken', 'reject 0 no');
	answer($node, 'INSERT INTO overtaken VALUES (1, 1)');
	becomes($node, letters('overtaken'), 'dead 1', 'a dead letter');
	answer($node, q(SELECT ordflow.pause_sync('overtaken')));
	answer($node, 'UPDATE overtaken SET v = 2; INSERT INTO overtaken VALUES (2, 5)');
	becomes($node, letters('overtaken'), 'dead 1, waiting 1, waiting 2', 'paused');
	answer($node, q(SELECT ordflow.resume_sync('overtaken')));
	becomes($node, letters('overtaken'), 'dead 1, parked 1', 'resumed: what follows it queues');
	have('overtaken', 'insert 2 5', 'other keys go on');
	return replayed('overtaken', 'insert 2 5, insert 1 1, put 1 2', 'replayed in order');
}

sub replayed_while_paused
{
	script_sync('quiet');
	script('quiet', 'reject 0 no');
	answer($node, 'INSERT INTO quiet VALUES (1, 1)');
	becomes($node, letters('quiet'), 'dead 1', 'a dead letter');
	answer($node, q(SELECT ordflow.pause_sync('quiet')));
	answer($node, q(SELECT ordflow.replay_dead_letters('quiet')));
	answer($node, 'INSERT INTO quiet VALUES (2, 2)');
	becomes($node, letters('quiet'), 'waiting 1, waiting 2', 'a replay waits for the sync');
	is(arrived('quiet'), '', 'while it is paused nothing is sent');
	answer($node, q(SELECT ordflow.resume_sync('quiet')));
	return have('quiet', 'insert 1 1, insert 2 2', 'then it is');
}

# Where no item could be made of a change of the key, both keys are read again.
sub moved_and_failing
{
	script_sync('moved', { columns => { id => 'id', v => '100 / v' } });
	answer($node, 'INSERT INTO moved VALUES (1, 10), (5, 10)');
	settled('moved', 'before');
	answer($node, 'UPDATE moved SET id = 2, v = 0 WHERE id = 1');
	becomes($node, letters('moved'), 'dead 1, dead 2', 'a letter for the old key and the new');
	answer($node, 'INSERT INTO moved VALUES (1, 50); UPDATE moved SET v = 20 WHERE id = 2');
	becomes($node, letters('moved'), 'dead 1, dead 2, parked 1, parked 2', 'what follows queues');
	answer($node, 'DELETE FROM moved WHERE id = 1');
	becomes($node, letters('moved'), 'dead 1, dead 2, parked 1, parked 2, parked 1', 'all of it');
	return replayed('moved',
		'insert 1 10, insert 5 10, delete 1, put 2 5, insert 1 2, put 2 5, delete 1', 'replayed');
}

sub stops_at_truncate
{
	script_sync('kept', { on_truncate => 'stop' });
	answer($node, 'INSERT INTO kept VALUES (1, 1); TRUNCATE kept; INSERT INTO kept VALUES (2, 2)');
	becomes($node, status('kept', 'state, dead_letters'), 'misconfigured|0',
		'on_truncate stop: it waits for a person');
	usleep(200_000);
	is(arrived('kept'), 'insert 1 1', 'and sends nothing behind it');
	answer($node, q(SELECT ordflow.alter_sync('kept', '{"on_truncate": "ignore"}')));
	return have('kept', 'insert 1 1, insert 2 2', 'who acts lets it go on');
}

# What was skipped has been overtaken: the row is sent as it is.
sub skipped_and_replayed
{
	script_sync('skipped', { on_error => 'skip' });
	script('skipped', 'reject 0 no');
	answer($node, 'INSERT INTO skipped VALUES (1, 1)');
	becomes($node, letters('skipped'), 'dead 1', 'a dead letter');
	answer($node, 'UPDATE skipped SET v = 2');
	have('skipped', 'put 1 2', 'later changes are sent');
	answer($node, 'DELETE FROM skipped; INSERT INTO skipped VALUES (1, 3)');
	settled('skipped', 'later');
	return replayed('skipped', 'put 1 2, delete 1, insert 1 3, put 1 3', 'replayed as it is now');
}

# The answer to a message that is sent again is lost, or the process is killed before it comes.
sub events_once
{
	script_sync('event', { shape => 'event' });
	script('event', 'reject 0 no', 'reject 0 no', 'reject 0 no');
	answer($node, "INSERT INTO event VALUES ($_, $_)") for 1 .. 3;
	becomes($node, "SELECT count(*) FROM ordflow.sync_letters WHERE state = 'dead'
		AND sync_id = (SELECT sync_id FROM ordflow.syncs WHERE name = 'event')", 3,
		'messages that were refused');
	script('event', 'lost the answer', 'crash', 'done', 'lost again');
	answer($node, q(SELECT ordflow.replay_dead_letters('event')));
	for (1 .. 300)
	{
		usleep(100_000);
		last if PostgreSQL::Test::Utils::slurp_file("$directory/event/outcomes") !~ /^lost/m
		  && eval { ($node->psql('postgres', 'SELECT 1', timeout => 10))[0] == 0 };
	}
	becomes($node, letters('event'), '', 'all are sent again');
	answer($node, 'INSERT INTO event VALUES (4, 4)');
	settled('event', 'messages');
	return is(join(' ', map { $_->{key} =~ /(\d+)/ } items('event')), '1 2 3 4', 'each once');
}

# An event that no message could be made of keeps those of its key behind it, too.
sub failing_events
{
	script_sync('made', { shape => 'event', columns => { id => 'id', v => '100 / v' } });
	answer($node, 'INSERT INTO made VALUES (1, 0), (2, 10); UPDATE made SET v = 10 WHERE id = 1');
	becomes($node, "SELECT string_agg(state || ' ' || key, ', ' ORDER BY letter_id)
		FROM ordflow.sync_dead_letters WHERE name = 'made'", 'dead {"id":1}, parked {"id":1}',
		'what follows an event that failed queues behind it');
	answer($node, q(SELECT ordflow.replay_dead_letters('made')));
	becomes($node, letters('made'), '', 'both are sent');
	return is(scalar(items('made')), 3, 'once each');
}

# A constraint that is checked at the end does not tell which row it is: they are sent singly.
sub deferred
{
	answer($node, q(CREATE TABLE copy.parent (id int PRIMARY KEY);
		INSERT INTO copy.parent VALUES (1)));
	table_sync('child', 'id int PRIMARY KEY, parent int');
	table_sync('beside', 'id int PRIMARY KEY');
	answer($node, q(ALTER TABLE copy.child ADD FOREIGN KEY (parent) REFERENCES copy.parent
		DEFERRABLE INITIALLY DEFERRED));
	answer($node, q(BEGIN; INSERT INTO child VALUES (1, 1), (2, 7), (3, 1);
		INSERT INTO beside VALUES (1); COMMIT; INSERT INTO child VALUES (4, 1)));
	settled('child', 'a deferred constraint');
	becomes($node, q(SELECT string_agg(id::text, ' ' ORDER BY id) FROM copy.child), '1 3 4',
		'a deferred constraint: the others arrive');
	is(answer($node, letters('child')), 'dead 2', 'and the one is found');
	is(answer($node, 'SELECT count(*) FROM copy.beside'), 1, 'other syncs get theirs');
	answer($node, q(INSERT INTO copy.parent VALUES (7);
		SELECT ordflow.replay_dead_letters('child')));
	becomes($node, q(SELECT count(*) FROM copy.child), 4, 'mended: it is sent');
	return;
}

# What is deferred would run as somebody else: for other roles it is checked at once, and what does
# not fit until the transaction is whole is tried again then.
sub in_any_order
{
	answer($node, q(CREATE ROLE clerk; SELECT ordflow.grant_access('clerk', 'sync');
		CREATE SCHEMA clerk AUTHORIZATION clerk; SET ROLE clerk;
		CREATE TABLE clerk.a (id int PRIMARY KEY);
		CREATE TABLE clerk.b (id int PRIMARY KEY);
		CREATE TABLE clerk.c (id int PRIMARY KEY, a int); CREATE TABLE clerk.d (id int PRIMARY KEY,
			a int REFERENCES clerk.b DEFERRABLE INITIALLY DEFERRED);
		SELECT ordflow.create_sync('a', 'clerk.a', NULL, 'clerk.b', options => '{"copy": false}');
		SELECT ordflow.create_sync('c', 'clerk.c', NULL, 'clerk.d', options => '{"copy": false}')));
	becomes($node, status($_, 'state'), 'streaming', "$_: streams") for qw(a c);
	answer($node, q(BEGIN; INSERT INTO clerk.c VALUES (1, 5), (2, 6);
		INSERT INTO clerk.a VALUES (5); COMMIT; INSERT INTO clerk.c VALUES (3, 5)));
	settled('c', 'a child before its parent');
	is(answer($node, q(SELECT string_agg(id::text, ' ' ORDER BY id) FROM clerk.d)), '1 3',
		'a child before its parent arrives');
	is(answer($node, letters('c')), 'dead 2', 'one without a parent does not');
	return;
}

# A backlog of small transactions is not one large one.
sub progress
{
	table_sync('small', 'id int PRIMARY KEY, v text');
	answer($node, q(CREATE FUNCTION copy.slow() RETURNS trigger LANGUAGE plpgsql
			AS 'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END';
		CREATE TRIGGER slow BEFORE INSERT ON copy.small FOR EACH ROW
			EXECUTE FUNCTION copy.slow()));
	my $holder = $node->background_psql('postgres');
	$holder->query('BEGIN; LOCK copy.small');
	answer($node, q(DO $$ BEGIN FOR i IN 1 .. 5000 LOOP INSERT INTO small VALUES (i); COMMIT;
		END LOOP; END $$));
	$holder->query('COMMIT');
	$holder->quit;
	my %seen;
	my $n = 0;
	for (my $until = time + 60; $n < 5000 && time < $until; usleep(20_000))
	{
		$n = answer($node, 'SELECT count(*) FROM copy.small');
		$seen{$n} = 1;
	}
	is($n, 5000, 'all of a backlog arrives');
	cmp_ok(scalar(keys %seen), '>', 3, 'in pieces: ' . join ' ', sort { $a <=> $b } keys %seen);
	return;
}

# Deletions must tell the key by which rows are found.
sub identities
{
	answer($node, q(
		CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE copy.nothing (id int PRIMARY KEY);
		CREATE TABLE other_index (id int PRIMARY KEY, code int NOT NULL UNIQUE);
		ALTER TABLE other_index REPLICA IDENTITY USING INDEX other_index_code_key;
		CREATE TABLE copy.other_index (id int PRIMARY KEY, code int NOT NULL UNIQUE);
		CREATE TABLE swapped (id int NOT NULL UNIQUE DEFERRABLE, v int);
		ALTER TABLE swapped REPLICA IDENTITY FULL;
		CREATE TABLE copy.swapped (id int PRIMARY KEY, v int)));
	refuses('nothing', 'copy.nothing', {}, '42P16', 'REPLICA IDENTITY NOTHING');
	refuses('other_index', 'copy.other_index', {}, '22023', 'a key that deletions do not tell');
	refuses('swapped', 'copy.swapped', { key => ['id'] }, '42P16',
		'a key that two rows may have until the commit');
	create_sync('coded', 'other_index', undef, 'copy.other_index', { key => ['code'] });
	answer($node, q(INSERT INTO other_index VALUES (1, 1), (2, 2);
		UPDATE other_index SET code = 3 WHERE id = 1; DELETE FROM other_index WHERE id = 2));
	settled('coded', 'the index of the replica identity');
	is(answer($node, 'SELECT id, code FROM copy.other_index'), '1|3', 'the index is the key');
	return;
}

# An identity that is taken away does not lose what it would have told.
sub identity_lost
{
	table_sync('bare', 'id int PRIMARY KEY, v int');
	answer($node, 'INSERT INTO bare VALUES (1, 1), (2, 2)');
	settled('bare', 'before');
	answer($node, q(ALTER TABLE bare REPLICA IDENTITY NOTHING; DELETE FROM bare WHERE id = 1));
	becomes($node, status('bare', "state, problem ~ 'identity'"), 'paused|t',
		'a deletion without a key pauses the sync');
	is(answer($node, letters('bare')), 'waiting', 'and is kept');
	answer($node, q(SELECT ordflow.drop_sync('bare')));
	return;
}

# The name of a target may have columns beside the key, whose changes move it too. What an update
# left alone in TOAST the row before it tells.
sub names_that_move
{
	mkdir "$directory/named";
	answer($node, "CREATE TABLE named (id int PRIMARY KEY, v int, w text);
		ALTER TABLE named ALTER w SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
		CREATE SERVER named FOREIGN DATA WRAPPER ordflow_script OPTIONS (path '$directory/named')");
	create_sync('named', 'named', 'named', 'named:{v}:{id}');
	answer($node, q(INSERT INTO named VALUES (1, 1, repeat('x', 5000));
		UPDATE named SET v = 2; INSERT INTO named VALUES (2, NULL); DELETE FROM named));
	settled('named', 'a name of other columns');
	is(join(', ', map { "$_->{op} $_->{target} " . length($_->{fields}{w} // '') } items('named')),
		'insert named:1:1 5000, delete named:1:1 0, insert named:2:1 5000, delete named:2:1 0',
		'the old name goes, and the new one has the whole row');
	is(answer($node, q(SELECT state, key, sqlstate FROM ordflow.sync_dead_letters
		WHERE name = 'named' ORDER BY letter_id LIMIT 1)), 'dead|2|22004',
		'a name with a NULL is none');
	return;
}

sub null_keys
{
	answer($node, 'CREATE TABLE nullable (id int UNIQUE, v int);
		ALTER TABLE nullable REPLICA IDENTITY FULL;
		CREATE TABLE copy.nullable (id int UNIQUE, v int)');
	create_sync('nullable', 'nullable', undef, 'copy.nullable', { key => ['id'] });
	answer($node, 'INSERT INTO nullable VALUES (1, 1), (NULL, 2); UPDATE nullable SET v = v + 10');
	settled('nullable', 'a key that is NULL');
	is(answer($node, 'SELECT id, v FROM copy.nullable'), '1|11', 'is found by nothing');
	is(answer($node, q(SELECT DISTINCT sqlstate FROM ordflow.sync_dead_letters
		WHERE name = 'nullable')), '23502', 'so it is a dead letter');
	return;
}

# Where a policy hides rows of the target, deletions would miss them.
sub own_policies
{
	answer($node, q(CREATE ROLE writer; CREATE TABLE owned (id int PRIMARY KEY);
		CREATE TABLE copy.owned (id int PRIMARY KEY); ALTER TABLE copy.owned
			ENABLE ROW LEVEL SECURITY;
		SELECT ordflow.grant_access('writer', 'sync'); GRANT USAGE ON SCHEMA copy TO writer;
		GRANT ALL ON owned, copy.owned TO writer));
	raises($node, q(SET ROLE writer; SELECT ordflow.create_sync('owned', 'owned',
		target => 'copy.owned', options => '{"copy": false}')), '42501', 'policies of the target');
	return;
}

# One that comes again and again is about the row, whatever its class.
sub internal_errors
{
	answer($node, q(CREATE FUNCTION public.broken(v int) RETURNS int LANGUAGE plpgsql
		AS 'BEGIN IF v = 2 THEN RAISE ''broken'' USING ERRCODE = ''XX000''; END IF; RETURN v;
			END'));
	script_sync('internal', { columns => { id => 'id', v => 'public.broken(v)' } });
	answer($node, 'INSERT INTO internal VALUES (1, 1), (2, 2), (3, 3)');
	have('internal', 'insert 1 1, insert 3 3', 'an internal error: the others arrive');
	is(answer($node, letters('internal')), 'dead 2', 'and it is a dead letter');
	return;
}

sub waited_through_a_pause
{
	script_sync('waited');
	settled('waited', 'before');
	answer($node, q(SELECT ordflow.pause_sync('waited'); INSERT INTO waited VALUES (1, 1)));
	my $waited = '';
	my $waiter = IPC::Run::start([ 'psql', '-XAtqd', $node->connstr('postgres'), '-c',
		q(SELECT ordflow.wait_for_sync('waited', timeout => '30 s')) ], '>', \$waited);
	usleep(500_000);
	answer($node, q(SELECT ordflow.resume_sync('waited')));
	$waiter->finish;
	is($waited, "t\n", 'who waits hears of a sync that is resumed meanwhile');
	return is(arrived('waited'), 'insert 1 1', 'and has been told the truth');
}

# Who waits for a person looks up when a person has acted.
sub dropped_in_a_rest
{
	script_sync('resting');
	script('resting', ('misconfigured broken') x 30);
	answer($node, 'INSERT INTO resting VALUES (1, 1)');
	becomes($node, status('resting', 'state'), 'misconfigured', 'it rests');
	my $begun = time;
	answer($node, q(SELECT ordflow.drop_sync('resting')));
	becomes($node, q(SELECT count(*) FROM ordflow.sync_deliveries WHERE server = 'resting'), 0,
		'dropped');
	cmp_ok(time - $begun, '<', 3, 'at once');
	return;
}

sub letters_of_nobody
{
	script_sync('former');
	answer($node, q(INSERT INTO ordflow.sync_letters (sync_id, position, state, item)
		VALUES (1000000, '1-1-1-1', 'dead', '{"op": "put"}')));
	script_sync('later');
	becomes($node, 'SELECT count(*) FROM ordflow.sync_letters WHERE sync_id = 1000000', 0,
		'letters of a sync that is no more go');
	return;
}

sub figures
{
	script_sync('counted');
	answer($node, 'INSERT INTO counted VALUES (1, 1)');
	settled('counted', 'counted');
	my $id = answer($node, q(SELECT sync_id FROM ordflow.syncs WHERE name = 'counted'));
	my $figure = "SELECT rows FROM ordflow.sync_figures($id)";
	is(answer($node, $figure), 1, 'a sync has figures');
	answer($node, q(SELECT ordflow.drop_sync('counted')));
	becomes($node, $figure, 0, 'that end with it');
	return;
}

# What has expired is set whole again, with what the update left alone in TOAST.
sub expired
{
	return unless Redis::installed() && -e $node->config_data('--pkglibdir') . '/ordflow_redis.so';
	my $redis = Redis->new;
	answer($node, 'CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port ' .
		"'" . $redis->port . "'); CREATE TABLE large (id int PRIMARY KEY, v int, w text);
		ALTER TABLE large ALTER w SET STORAGE EXTERNAL");
	create_sync('large', 'large', 'cache', 'large:{id}', { ttl => '1000 s' });
	create_sync('value', 'large', 'cache', 'value:{id}', { type => 'string', value => 'w' });
	answer($node, q(INSERT INTO large SELECT g, g, repeat('x', 5000)
		FROM generate_series(1, 20) g));
	settled($_, 'a hash and a string') for qw(large value);
	$redis->ask('DEL', map { ("large:$_", "value:$_") } 3, 7, 20);
	answer($node, 'UPDATE large SET v = v + 1');
	settled($_, 'what has expired') for qw(large value);
	is(join(' ', map { $redis->ask('HSTRLEN', "large:$_", 'w') . $redis->ask('HGET', "large:$_",
		'v') } 1, 3, 7, 20), '50002 50004 50008 500021', 'a hash is whole');
	is(join(' ', map { $redis->ask('STRLEN', "value:$_") } 1, 3, 7, 20), '5000 5000 5000 5000',
		'a string is there');
	is(answer($node, letters($_)), '', "$_: no dead letter") for qw(large value);
	$redis->stop;
	return;
}

# Where nothing is to be sent a target that can be reached again is well, too.
sub well_again
{
	script_sync('away');
	answer($node, "ALTER SERVER away OPTIONS (SET path '$directory/nowhere')");
	becomes($node, status('away', 'state'), 'misconfigured', 'a target that is away');
	answer($node, "ALTER SERVER away OPTIONS (SET path '$directory/away')");
	becomes($node, status('away', 'state, problem'), 'streaming|', 'is well when it is back');
	return;
}

# A server that is no more, and to which nothing is to be emitted, keeps no process.
sub emitted_and_dropped
{
	mkdir "$directory/posted";
	answer($node, "CREATE SERVER posted FOREIGN DATA WRAPPER ordflow_script
		OPTIONS (path '$directory/posted')");
	answer($node, q(SELECT ordflow.emit('posted', 't', 'k', '{}')));
	becomes($node, q(SELECT count(*) FROM ordflow.outbox), 0, 'a message is sent');
	answer($node, 'DROP SERVER posted');
	becomes($node, q(SELECT count(*) FROM ordflow.sync_deliveries WHERE server = 'posted'), 0,
		'the delivery goes with the server');
	return;
}

# To write files takes more than to read them.
sub paths
{
	answer($node, q(CREATE ROLE reads_files IN ROLE pg_read_server_files;
		CREATE ROLE writes_files IN ROLE pg_read_server_files, pg_write_server_files;
		GRANT USAGE ON FOREIGN DATA WRAPPER ordflow_script TO reads_files, writes_files));
	my $server = "CREATE SERVER written FOREIGN DATA WRAPPER ordflow_script
		OPTIONS (path '/nowhere')";
	raises($node, "SET ROLE reads_files; $server", '42501', 'who reads files does not write them');
	return raises($node, "SET ROLE writes_files; $server", '', 'who may write them does');
}

# What a former extension knew of its deliveries is not the new one's.
sub extension_again
{
	my $figures = 'SELECT count(*) FROM ordflow.delivery_figures()';
	cmp_ok(answer($node, $figures), '>', 0, 'there are deliveries');
	answer($node, 'DROP EXTENSION ordflow CASCADE');
	becomes($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'ordflow de'", 0,
		'no process is left');
	answer($node, 'CREATE EXTENSION ordflow');
	return becomes($node, $figures, 0, 'none is left in memory');
}
