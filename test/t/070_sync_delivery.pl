# What a delivery must get right beside the plain way: gaps that somebody has closed, letters and
# what overtakes them, keys that change, identities that tell no key, constraints that are checked
# at the end, and what is left behind by syncs that are no more.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = server('main', 'max_worker_processes = 60', 'max_replication_slots = 10',
	'autovacuum = off');
plan skip_all => 'the module was not built'
  unless -e $node->config_data('--pkglibdir') . '/ordflow_script.so';
my $directory = PostgreSQL::Test::Utils::tempdir();
answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA copy');

resumed();
truncated_behind_a_letter();
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
