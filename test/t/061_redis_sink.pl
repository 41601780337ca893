# The sink of Redis by itself, driven by test/module/sink_check.c without a server of PostgreSQL:
# what it does whatever happens, and what is in Redis then.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PostgreSQL::Test::Utils;
use Redis;
use SinkCheck;
use Test::More;

plan skip_all => 'there is no redis-server' unless Redis::installed();

my $root = "$FindBin::Bin/../..";
my $position = 'ordflow:check:position';
my $sink = SinkCheck->new('redis');
plan skip_all => 'the module was not built, or there is no C compiler' unless $sink;

my $redis = Redis->new;
my $cli = 'redis-cli -h 127.0.0.1 -p ' . $redis->port;
my @server = ('host=127.0.0.1', 'port=' . $redis->port, 'database=0', 'prefix=ordflow',
	'timeout=2');

routes();
hashes();
strings();
documents();
streams();
evicted();
expiries();
truncated();
poisoned();
faults();
turned_away();
users();
killed();
done_testing();

# ---- what the tests are made of ----

# Runs cases; each line of TAP is a test of ours. What it has printed.
sub checks
{
	my ($name, $route, @cases) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return checks_at(\@server, $name, $route, @cases);
}

sub checks_at
{
	my ($server, $name, $route, @cases) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $sink->run($server, $name, $route, @cases);
}

sub holds
{
	my ($expected, $name, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($redis->ask(@command), $expected, $name);
}

# What a key holds, in the order of the fields' names.
sub hash_of
{
	my ($key) = @_;
	my @pairs = split /\n/, $redis->ask('--json', 'HGETALL', $key);
	return "@pairs";
}

sub keys_are
{
	my ($expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join(' ', grep { $_ ne $position } $redis->keys_like('*')),
		join(' ', sort split / /, $expected), $name);
}

sub name_is { return "name $_[0] \"\\ '{}\n \xc3\xa9 r$_[1]" }
sub rows { my ($table, @ids) = @_; return join ' ', map { "$table:$_" } @ids }

sub routes
{
	for my $route ([ '-', 'type=hash' ], [ 'a:{id}', 'type=string' ],
		[ 'a:{id}', 'value=name' ], [ '{id}', 'type=json' ], [ 'a:{id}', 'type=hash', 'maxlen=5' ],
		[ 'a', 'type=stream', 'ttl=5' ], [ 'a:{id}', 'type=evict', 'ttl=5' ])
	{
		checks("@$route", $route, 'refused');
	}
	return;
}

sub hashes
{
	checks('hash', ['h:{id}'], qw(fresh write));
	keys_are(rows('h', 1 .. 5, 8 .. 13), 'hash: rows that were deleted are gone');
	holds(100, 'a column that was not told is kept', qw(HGET h:1 amount));
	holds(name_is(1, 3), 'a text is as it was', qw(HGET h:1 name));
	holds('noted', 'what was null has a value', qw(HGET h:2 note));
	holds(0, 'what has become null is no field', qw(HEXISTS h:1 note));
	$redis->ask(qw(HSET h:11 stale 1));
	checks('hash', ['h:{id}'], qw(large cancel replay));
	holds(2008, 'all rows of large batches are there, those of dead letters and what follows them',
		'EVAL', 'return #redis.call("KEYS", "h:*") + 995', 0);
	checks('hash', ['h:{id}'], 'clear');
	keys_are(join(' ', $redis->keys_like('h:*')), 'clear() leaves nothing of ours');
	holds('', 'no position', 'GET', $position);
	$redis->ask(qw(HSET h:1 stale 1));
	checks('hash', ['h:{id}'], 'fresh');
	holds(0, 'a new row is nothing of what was there before', qw(HEXISTS h:1 stale));
	return;
}

sub strings
{
	$redis->ask('FLUSHALL');
	checks('string', [ 's:{id}', 'type=string', 'value=note' ], qw(fresh write large clear));
	keys_are(rows('s', 2 .. 5), 'string: null is no key');
	holds('noted', 'the value of the column', qw(GET s:2));
	$redis->ask('FLUSHALL');
	checks('string', [ 's:{id}', 'type=string', 'value=amount' ], qw(fresh write replay));
	holds(100, 'a value that was not told stays', qw(GET s:1));
	$redis->ask('FLUSHALL');
	return;
}

sub documents
{
	checks('json', [ 'j[{id}]', 'type=json' ], qw(fresh write truncate large cancel replay clear));
	holds('{"id": 21, "revision": 1}', 'json: the document', qw(GET j[21]));
	$redis->ask('FLUSHALL');
	return;
}

# Each once, in order, with the position as the id.
sub streams
{
	my @route = ('x', 'type=stream');
	checks('stream', \@route, qw(fresh write));
	holds(24, 'stream: each change is an entry', qw(XLEN x));
	my @ids = $redis->ask(qw(XRANGE x - +)) =~ /^(\d+-\d+)$/mg;
	is($ids[0], (1 << 52) + 1000 . '-256', 'its id is its position');
	is(scalar(() = $redis->ask(qw(XRANGE x - +)) =~ /^value$/mg), 21, 'a tombstone has no value');
	checks('stream', \@route, qw(truncate large cancel replay clear));
	$redis->ask('FLUSHALL');
	checks('stream', [ @route, 'maxlen=50' ], qw(fresh large));
	cmp_ok($redis->ask(qw(XLEN x)), '<', 300, 'maxlen');
	checks('stream', \@route, qw(clear fresh));
	my ($last) = $redis->ask(qw(XREVRANGE x + - COUNT 1)) =~ /\A(\d+)-/;
	is($last >> 52, 2, 'where positions begin anew the ids of the new generation are later');
	$redis->ask('FLUSHALL');
	return;
}

sub evicted
{
	$redis->ask('SET', "e:$_", 1) for 1 .. 20;
	checks('evict', [ 'e:{id}', 'type=evict' ], 'fresh');
	keys_are(rows('e', 11 .. 20), 'evict: what has changed is gone');
	checks('evict', [ 'e:{id}', 'type=evict' ], 'write');
	keys_are(rows('e', 14 .. 20), 'and what was deleted');
	checks('evict', [ 'e:{id}', 'type=evict' ], qw(truncate replay clear));
	keys_are('', 'a TRUNCATE changes all');
	return;
}

sub expiries
{
	for my $type ([ 'type=hash' ], [ 'type=json' ], [ 'type=string', 'value=amount' ])
	{
		checks("ttl of @$type", [ 't:{id}', @$type, 'ttl=1000' ], 'fresh');
		$redis->ask('PERSIST', 't:1');
		checks("ttl of @$type", [ 't:{id}', @$type, 'ttl=1000' ], 'write');
		like($redis->ask(qw(TTL t:1)), qr/^(?:99\d|1000)$/, 'each change begins it anew');
		holds(-1, 'the position has none', 'TTL', $position);
		$redis->ask('FLUSHALL');
	}
	return;
}

# Keys of the pattern and no others; the position is none of them, nor is anything else of ours.
sub truncated
{
	$redis->ask('SET', $_, 1) for 'tr:1:x', 'trx', 'ordflow:1:2:due:5', 'u*[1]', 'u:[1]';
	checks('truncate', ['tr:{id}'], qw(fresh truncate));
	keys_are('tr:21 trx ordflow:1:2:due:5 u*[1] u:[1]', 'it removes what the target may make');
	checks('truncate', [ 'u*[{id}]', 'type=json' ], qw(fresh truncate));
	keys_are('tr:21 trx ordflow:1:2:due:5 u:[1] u*[21]', 'a glob in the target stands for itself');
	$redis->ask('FLUSHALL');
	return;
}

sub poisoned
{
	$redis->ask('SET', 'p:102', 'a string');
	my $out = checks('hash', ['p:{id}'], qw(fresh poison 102));
	like($out, qr/WRONGTYPE/, 'a key of another type');
	keys_are(rows('p', 1 .. 10, 100 .. 103), 'the others are there');
	$redis->ask('FLUSHALL');
	$redis->ask('XADD', 'l:102', '18446744073709551615-5', 'somebody', 'else');
	$out = checks('stream', [ 'l:{id}', 'type=stream' ], 'fresh', 'poison', 102);
	like($out, qr/later entries/, 'a stream that somebody else writes to');
	$redis->ask('FLUSHALL');
	return;
}

# Nothing is lost, and no row is to blame.
sub faults
{
	my @full = ("$cli config set maxmemory 1 >/dev/null", "$cli config set maxmemory 0 >/dev/null");
	my @replica = ("$cli replicaof 127.0.0.1 1 >/dev/null", "$cli replicaof no one >/dev/null");
	my @cut = ("$cli client kill type normal skipme yes >/dev/null", 'true');
	my @min = ("$cli config set min-replicas-to-write 3 >/dev/null",
		"$cli config set min-replicas-to-write 0 >/dev/null");
	for my $route ([ 'f:{id}' ], [ 'f', 'type=stream' ], [ 'e:{id}', 'type=evict' ])
	{
		checks("@$route", $route, 'fresh', 'fault', 'RETRY', @replica, 'fault', 'RETRY', @cut,
			'fault', 'RETRY', @min, $route->[0] =~ /^e/ ? () : ('fault', 'RETRY', @full));
		$redis->ask('FLUSHALL');
	}
	my $pause = "$cli client pause 60000 write >/dev/null";
	checks('paused', ['f:{id}'], 'fresh', 'fault', 'RETRY', $pause,
		"$cli client unpause >/dev/null");
	$redis->ask('FLUSHALL');
	return;
}

sub turned_away
{
	my $nobody = PostgreSQL::Test::Cluster::get_free_port();
	checks('nobody', ['d:{id}'], 'down', "port=$nobody", 'down', 'host=no.such.host.invalid');
	checks('no password is asked for', ['d:{id}'], 'denied', 'password=right');
	$redis->stop;
	$redis->start('--requirepass', 'right');
	checks_at([ @server, 'password=right' ], 'a password', ['d:{id}'], 'fresh', 'denied',
		'password=wrong', 'clear');
	$redis->stop;
	$redis->start('--loglevel', 'notice');
	return;
}

# A user with the rights that docs/redis.md has, and one that lacks a command.
sub users
{
	my ($acl) = slurp_file("$root/docs/redis.md") =~ /ACL SETUSER .*?( \+.*)/;
	my @user = (@server, 'username=shop', 'password=right');
	$redis->ask(qw(ACL SETUSER shop on >right ~ordflow:* ~order:* ~order), split ' ', $acl);
	for my $route ([ 'order:{id}', 'ttl=9' ], [ 'order', 'type=stream', 'maxlen=9' ],
		[ 'order:{id}', 'type=string', 'value=note' ], [ 'order:{id}', 'type=json' ],
		[ 'order:{id}', 'type=evict' ])
	{
		checks_at(\@user, "a user of its own, @$route", $route, qw(fresh write truncate clear));
		$redis->ask('FLUSHALL');
	}
	my ($take, $give) = map { "$cli acl setuser shop $_ >/dev/null" } '-hset', '+hset';
	checks_at(\@user, 'a command', ['order:{id}'], 'fresh', 'fault', 'MISCONFIGURED', $take, $give);
	$redis->ask('FLUSHALL');
	($take, $give) = map { "$cli acl setuser shop resetkeys $_ >/dev/null" } "'~ordflow:*'",
	  "'~ordflow:*' '~order:*'";
	checks_at(\@user, 'keys', ['order:{id}'], 'fresh', 'fault', 'MISCONFIGURED', $take, $give);
	$redis->ask('FLUSHALL');
	return;
}

# What a killed process has still in its socket may come later than its successor.
sub killed
{
	checks('hash', ['k:{id}'], qw(fresh kill 20));
	is(join(' ', map { $redis->ask('HGET', "k:$_", 'name') =~ / r20x*$/ ? () : $_ } 5000 .. 5399),
		'', 'each row is as it was last');
	checks('stream', [ 'k', 'type=stream' ], 'clear');
	$redis->ask('FLUSHALL');
	checks('stream', [ 'k', 'type=stream' ], qw(fresh kill 20));
	holds(10 + 20 * 400, 'each event is there once', qw(XLEN k));
	return;
}
