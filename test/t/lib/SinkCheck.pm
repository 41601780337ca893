# test/t/lib/SinkCheck.pm: what every sink must do, tried by test/module/sink_check.c: the sink by
# itself, without a server of PostgreSQL that it belongs to.
package SinkCheck;

use strict;
use warnings;
use File::Basename;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

use constant PATIENCE => 180;	# seconds, for a call

my $root = dirname(__FILE__) . '/../../..';

# Of the module of that name; undef where it, or what it is tried with, is not there.
sub new
{
	my ($class, $module) = @_;
	chomp(my ($include, $lib) = map { scalar `pg_config $_` } '--includedir-server', '--pkglibdir');
	my $check = PostgreSQL::Test::Utils::tempdir() . '/sink_check';
	my ($version) = slurp_file("$root/ordflow.control") =~ /^default_version = '(.*)'/m;
	return unless -e "$lib/ordflow_$module.so";
	my @cc = ($ENV{CC} // 'cc', '-O', '-w', '-rdynamic', "-I$root/src", "-I$include",
		"-DORDFLOW_VERSION=\"$version\"", '-o', $check, "$root/test/module/sink_check.c",
		'-Wl,-u,pg_snprintf,-u,strlcpy', "$lib/libpgport.a", '-ldl', '-lm');
	return unless eval { IPC::Run::run(\@cc, '>&', \my $output) };
	return bless { check => $check, module => "$lib/ordflow_$module.so" }, $class;
}

# Runs cases with options of the server, a target and options of the route. Each line of TAP is a
# test of ours; what it has printed.
sub run
{
	my ($self, $server, $name, $route, @cases) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $out = '';
	IPC::Run::run([ $self->{check}, $self->{module}, @$server, '--', @$route, '--', @cases ],
		'<', '/dev/null', '>', \$out, '2>&1', IPC::Run::timeout(PATIENCE));
	my ($planned) = $out =~ /^1\.\.(\d+)$/m;
	my $passed = () = $out =~ /^ok \d/mg;
	ok(defined $planned && $planned == $passed, "$name: @{[grep { /^\w+$/ } @cases]}")
	  or diag $out;
	return $out;
}

1;
