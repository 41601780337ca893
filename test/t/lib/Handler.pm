# test/t/lib/Handler.pm: builds test/module/crash.c, whose handlers tests of tasks need.
package Handler;

use strict;
use warnings;
use File::Basename;
use IPC::Run;
use PostgreSQL::Test::Utils;

my $root = dirname(__FILE__) . '/../../..';

# The path of the library, without its suffix; '' where it cannot be built.
sub build
{
	my $file = PostgreSQL::Test::Utils::tempdir() . '/crash';
	chomp(my $include = `pg_config --includedir-server`);
	my $output = '';
	my $built = eval {
		IPC::Run::run([ $ENV{CC} // 'cc', '-O', '-fPIC', '-shared', "-I$include", '-o', "$file.so",
				"$root/test/module/crash.c" ], '>&', \$output);
	};
	return $built ? $file : '';
}

1;
