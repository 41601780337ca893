# The modules of Redis and RabbitMQ by themselves, driven by test/module/drive.c without a server of
# PostgreSQL: what they hand over, and what they say when the other side fails.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use PostgreSQL::Test::Utils;
use Rabbit;
use Redis;
use Test::More;

my $root = "$FindBin::Bin/../..";
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($drive, $name_space) = ("$dir/drive", 'ordflow:1:2:due:');
chomp(my ($include, $lib) = map { scalar `pg_config $_` } '--includedir-server', '--pkglibdir');
my @cc = ($ENV{CC} // 'cc', '-O', '-w', '-rdynamic', "-I$root/src", "-I$include",
	'-DORDFLOW_VERSION="0"', '-o', $drive, "$root/test/module/drive.c",
	'-Wl,-u,pg_snprintf,-u,strlcpy', "$lib/libpgport.a", '-ldl', '-lm');
my $in_time = qr/latest \d{1,3}$/;	# ms
my $built = eval { IPC::Run::run(\@cc, '>&', \my $output) };
plan skip_all => 'no C compiler, or no headers of the server' unless $built;

redis() if -e "$lib/ordflow_redis.so" && Redis::installed();
amqp() if -e "$lib/ordflow_amqp.so" && Rabbit::installed();
ok(1, 'that is all');

# Runs the calls; compares the lines that they print with patterns.
sub drives
{
	my ($module, $options, $calls, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $out = '';
	IPC::Run::run([ $drive, "$lib/ordflow_$module.so", 'host=127.0.0.1', @$options, '--',
			split / /, $calls ], '>', \$out, '2>&1', IPC::Run::timeout(120));
	my @lines = split /\n/, $out;
	my $fits = @lines == @$expected && !grep { $lines[$_] !~ $expected->[$_] } 0 .. $#lines;
	ok($fits, $name) or diag $out;
	return;
}

sub redis
{
	my $redis = Redis->new;
	my @options = ('port=' . $redis->port, 'database=3', 'timeout=1');
	my $done = qr/^\w+: ok$/;
	drives('redis', \@options, 'connect put 2000 100 1000 drop 500 take 4000 idle take 100',
		[ ($done) x 3, qr/^events 1500 early 0 twice 0 $in_time/, ($done) x 2, qr/^events 0 /,
			$done ],
		'Redis: each that was not withdrawn, once');
	$redis->ask('-n', 3, 'SET', 'ordflow:1:2:dues', 1);
	$redis->ask('CONFIG', 'RESETSTAT');
	drives('redis', \@options, 'connect put 100 200 1 put 100 60000 1 take 2000 clear',
		[ ($done) x 3, qr/^events 0 /, ($done) x 2 ], 'none whose deadline was put off');
	my ($looks) = $redis->ask('INFO', 'commandstats') =~ /^cmdstat_exists:calls=(\d+)/m;
	cmp_ok($looks, '<', 2000, 'which are asked for again a few times only');
	drives('redis', \@options, 'connect put 100 90000 1 clear', [ ($done) x 3 ], 'and clears');
	is_deeply([ $redis->keys_like('*', 3) ], ['ordflow:1:2:dues'], 'its own, nothing else');
	$redis->ask('ACL', 'SETUSER', 'shop', 'on', '>right', '~ordflow:*', '&__keyevent@*__:expired',
		qw(+set +del +exists +scan +get +ping +select +subscribe));
	drives('redis', [ @options, 'username=shop', 'password=right' ],
		'connect put 10 100 1 take 1000 clear',
		[ ($done) x 2, qr/^events 10 early 0/, ($done) x 2 ], 'with the rights of the docs');
	drives('redis', [ @options, 'username=shop', 'password=wrong' ], 'connect',
		[qr/^connect: misconfigured: (?!.*wrong).*password/], 'a wrong password, not repeated');
	$redis->ask('CONFIG', 'SET', 'notify-keyspace-events', '');
	drives('redis', [ @options, 'username=shop', 'password=right' ], 'connect',
		[qr/^connect: misconfigured: .*notify-keyspace-events Ex/], 'no events');
	$redis->stop;
	drives('redis', \@options, 'connect put 1 1 1 idle clear', [
			qr/^connect: no connection to Redis/, qr/^put: there is no connection/,
			qr/^idle: there is no connection/, qr/^clear: no connection to Redis/ ], 'no server');
	return;
}

sub amqp
{
	my $rabbit = Rabbit->new;
	my @options = ('port=' . $rabbit->port, 'vhost=/', 'timeout=3', 'heartbeat=30');
	my $done = qr/^\w+: ok$/;
	drives('amqp', \@options, 'connect put 1000 50 3000 drop 1000 take 6000 idle',
		[ ($done) x 3, qr/^events 1000 early 0 twice 0 $in_time/, ($done) x 2 ],
		'RabbitMQ: each once, and not early');
	cmp_ok(scalar(grep { /^\Q$name_space\Edelay/ } $rabbit->queues), '<=', 64, 'few queues');
	$rabbit->user('shop', 'right', '^ordflow:.*', '^(ordflow:.*|amq\.default)$', '^ordflow:.*');
	$rabbit->user('none', 'right', '^$', '^$', '^$');
	my @shop = ('username=shop', 'password=right');
	drives('amqp', [ @options, @shop ], 'connect put 10 100 1 take 1000 clear',
		[ ($done) x 2, qr/^events 10 early 0/, ($done) x 2 ], 'with the permissions of the docs');
	is_deeply([ $rabbit->queues ], [], 'it clears all queues');
	two_of_one_name(\@options);
	drives('amqp', [ @options, 'username=shop', 'password=wrong' ], 'connect',
		[qr/^connect: misconfigured: .*ACCESS_REFUSED.*user mapping/], 'a wrong password');
	drives('amqp', [ @options, 'username=none', 'password=right' ], 'connect',
		[qr/^connect: misconfigured: .*access to queue.*set_permissions/], 'no permission');
	drives('amqp', [ $options[0], 'vhost=nix', @options[ 2, 3 ] ], 'connect',
		[qr/^connect: misconfigured: .*vhost nix not found.*vhost/], 'no such vhost');
	$rabbit->stop;
	drives('amqp', \@options, 'connect clear',
		[ qr/^connect: no connection to the broker/, qr/^clear: no connection to the broker/ ],
		'no broker');
	return;
}

# The second one may neither use nor clear what is the first one's.
sub two_of_one_name
{
	my ($options) = @_;
	my $done = qr/^\w+: ok$/;
	my $out = '';
	my $first = IPC::Run::start([ $drive, "$lib/ordflow_amqp.so", 'host=127.0.0.1', @$options,
			'--', qw(connect put 50 8000 100 take 12000 clear) ],
		'>', \$out, '2>&1', IPC::Run::timeout(120));
	$first->pump until $out =~ /^put/m;
	drives('amqp', $options, 'connect clear',
		[ (qr/^\w+: misconfigured: .*another prefix/) x 2 ], 'a second driver of one name');
	$first->finish;
	my @lines = split /\n/, $out;
	like(join(' ', @lines), qr/^connect: ok put: ok events 50 .* take: ok clear: ok$/,
		'leaves the queues of the first alone');
	return;
}

done_testing();
