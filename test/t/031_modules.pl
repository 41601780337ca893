# Modules are found, loaded and refused as they should, and secrets are read from where a user
# mapping says. The modules here are small ones of the test's own, in a folder before PostgreSQL's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $include = `pg_config --includedir-server`;
chomp $include;
my $version = slurp_file("$FindBin::Bin/../../ordflow.control") =~ /^default_version = '(.*)'/m
  ? $1 : die;
plan skip_all => 'no C compiler, or no headers of this server, to build a module'
  unless build('good', qq(ORDFLOW_MODULE("redis", NULL, NULL);));

my $options = q(SELECT * FROM ordflow.server_options('cache'));
$ENV{ORDFLOW_TEST_SECRET} = 'open sesame';
my $node = server('main', q(shared_preload_libraries = '$libdir/ordflow'),
	"dynamic_library_path = '$dir'");
answer($node, 'CREATE EXTENSION ordflow');

missing();
refused();
loaded();
secrets();
rights();
unlike(slurp_file($node->logfile), qr/open sesame|swordfish/, 'no secret stands in the log');
done_testing();

sub build
{
	my ($name, $source, @flags) = @_;
	open my $file, '>', "$dir/$name.c" or die $!;
	print $file qq(#include "server/module.h"\n$source\n);
	close $file;
	my @cc = ($ENV{CC} // 'cc', qw(-shared -fPIC -O), "-I$include", "-I$FindBin::Bin/../../src",
		qq(-DORDFLOW_VERSION="$version"), '-o', "$dir/$name.so", "$dir/$name.c", @flags);
	return eval { IPC::Run::run(\@cc, '>&', \my $output) };
}

# From here on that is the module redis. PostgreSQL tells files apart by inode.
sub install
{
	my ($name) = @_;
	unlink "$dir/ordflow_redis.so";
	link "$dir/$name.so", "$dir/ordflow_redis.so" or die $!;
	return;
}

sub complaint
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $sql);
	return $err;
}

sub option
{
	my ($name, $role) = @_;
	my $as = $role ? "SET ROLE $role;" : '';
	return answer($node, "$as SELECT value FROM ordflow.server_options('cache')
		WHERE option = '$name'");
}

sub missing
{
	like(complaint('CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis'),
		qr/^psql.*WARNING:  module ordflow_redis is not installed/, 'CREATE SERVER warns');
	raises($node, $options, 'OF007', 'its use is refused');
	like(complaint($options), qr/apt-get install libhiredis-dev.*make && make install/,
		'and what to install is named');
	is(answer($node, 'SELECT * FROM ordflow.modules() ORDER BY 1'),
		"amqp|f|librabbitmq-dev\npostgres|f|libpq-dev\nredis|f|libhiredis-dev\nscript|f|",
		'none is there');
	is(answer($node, q(SELECT severity, object, problem FROM ordflow.doctor()
		WHERE part = 'server' AND object ~ 'cache')),
		'warning|server cache|module ordflow_redis is not installed', 'doctor() says so too');
	my $dump = $node->backup_dir . '/servers.sql';
	mkdir $node->backup_dir;
	$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'a dump');
	answer($node, 'CREATE DATABASE copy');
	$node->command_ok([ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-f', $dump, '-d',
			$node->connstr('copy') ], 'is restored without the module');
	is(answer($node, 'SELECT srvname FROM pg_foreign_server', 'copy'), 'cache', 'with the server');
	return;
}

sub refused
{
	build('abi', q(#undef ORDFLOW_MODULE_ABI
#define ORDFLOW_MODULE_ABI 9999
ORDFLOW_MODULE("redis", NULL, NULL);));
	build('old', q(#undef ORDFLOW_VERSION
#define ORDFLOW_VERSION "0.0"
ORDFLOW_MODULE("redis", NULL, NULL);));
	build('foreign', 'PG_MODULE_MAGIC;');
	build('plain', 'int ordflow_nothing;');
	build('client', 'extern int ordflow_test_client(void); PG_MODULE_MAGIC;
		int ordflow_test_caller(void) { return ordflow_test_client(); }', '-Wl,-z,now');
	my %state = (abi => 'OF011', old => 'OF011', foreign => 'OF011', plain => 'OF007',
		client => 'OF007');
	for my $name (sort keys %state)
	{
		install($name);
		raises($node, $options, $state{$name}, "a module that is refused: $name");
	}
	install('client');
	like(complaint($options), qr/DETAIL:  .*ordflow_test_client/, 'the detail is the reason');
	is(answer($node, "DO \$\$ BEGIN PERFORM * FROM ordflow.server_options('cache');
		EXCEPTION WHEN SQLSTATE 'OF007' THEN NULL; END \$\$; SELECT 'on'"), 'on',
		'a failed load can be caught');
	return;
}

sub loaded
{
	install('good');
	is(answer($node, q(SELECT string_agg(option || '=' || coalesce(value, ''), ' ')
		FROM ordflow.server_options('cache'))),
		'host=127.0.0.1 port=6379 database=0 prefix=ordflow tls=off tls_ca= timeout=5'
		  . ' username= password=', 'the defaults');
	is(answer($node, 'SELECT installed FROM ordflow.modules() WHERE module = $$redis$$'), 't',
		'it is there now');
	is(answer($node, q(SELECT * FROM ordflow.doctor() WHERE object ~ 'cache')), '',
		'doctor() is content');
	is(complaint(q(ALTER SERVER cache OPTIONS (ADD tls 'YES', ADD port '7000'))), '',
		'no warning any more');
	is(option('tls') . option('port'), 'on7000', 'options over defaults, booleans as on and off');
	return;
}

sub secrets
{
	my $file = "$dir/secret";
	my $write = sub { open my $fh, '>', $file or die $!; print $fh @_; close $fh; };
	answer($node, q(CREATE USER MAPPING FOR PUBLIC SERVER cache OPTIONS (password 'swordfish')));
	is(option('password'), '********', 'a password is masked');
	answer($node, q(CREATE USER MAPPING FOR postgres SERVER cache OPTIONS (username 'me')));
	is(option('username') . option('password'), 'me', 'one\'s own mapping is used whole');
	answer($node, q(DROP USER MAPPING FOR postgres SERVER cache;
		ALTER USER MAPPING FOR PUBLIC SERVER cache
			OPTIONS (DROP password, ADD password_env 'ORDFLOW_TEST_SECRET')));
	is(option('password'), '********', 'from the environment');
	answer($node, q(ALTER USER MAPPING FOR PUBLIC SERVER cache
		OPTIONS (SET password_env 'ORDFLOW_TEST_NOTHING')));
	raises($node, $options, '22023', 'a variable that is not set');
	answer($node, "ALTER USER MAPPING FOR PUBLIC SERVER cache
		OPTIONS (DROP password_env, ADD password_file '$file')");
	raises($node, $options, '58P01', 'a file that is not there');
	my @bad = ('', "\n", "swordfish\0", 's' x 8193, "s\n" x 4097);
	for my $n (0 .. $#bad)
	{
		$write->($bad[$n]);
		raises($node, $options, '22023', "a file without a password: $n");
	}
	for my $good ("swordfish", "swordfish\n", "swordfish\r\n", 's' x 8191 . "\n")
	{
		$write->($good);
		is(option('password'), '********', 'a file with a password of ' . length $good);
	}
	answer($node, "ALTER USER MAPPING FOR PUBLIC SERVER cache OPTIONS (SET password_file '$dir')");
	raises($node, $options, '42809', 'a folder');
	answer($node, "ALTER USER MAPPING FOR PUBLIC SERVER cache OPTIONS (SET password_file '$file')");
	return;
}

# At use the owner of the server and the mapping's user are asked again.
sub rights
{
	answer($node, q(CREATE ROLE clerk; GRANT USAGE ON FOREIGN SERVER cache TO clerk;
		SELECT ordflow.grant_access('clerk', 'admin')));
	is(option('password', 'clerk'), '********', 'PUBLIC\'s: the owner of the server may');
	answer($node, "CREATE USER MAPPING FOR clerk SERVER cache
		OPTIONS (password_file '$dir/secret')");
	raises($node, "SET ROLE clerk; $options", '42501', 'the role\'s own: it may not');
	answer($node, 'GRANT pg_read_server_files TO clerk');
	is(option('password', 'clerk'), '********', 'a member may');
	answer($node, 'GRANT USAGE ON FOREIGN DATA WRAPPER ordflow_redis TO clerk;
		ALTER SERVER cache OWNER TO clerk; DROP USER MAPPING FOR clerk SERVER cache');
	is(option('password'), '********', 'nor does a member as owner hinder');
	answer($node, 'REVOKE pg_read_server_files FROM clerk');
	raises($node, $options, '42501', 'an owner who may not is not sent the secret of a file');
	answer($node, "CREATE USER MAPPING FOR postgres SERVER cache
		OPTIONS (password_file '$dir/secret')");
	raises($node, $options, '42501', 'nor that of a superuser');
	answer($node, 'ALTER SERVER cache OWNER TO postgres');
	is(option('password'), '********', 'as it was');
	return;
}
