# test/t/lib/Ordflow.pm: what the TAP tests share: servers with ordflow, a shop with every kind of
# row in it, and comparisons of whole databases.
package Ordflow;

use strict;
use warnings;
use Exporter 'import';
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  server configure shop answer sqlstate raises audits_clean checksums same_checksums);

my $here = dirname(__FILE__);

# A server that runs, with the settings given as lines; ordflow is preloaded unless they say else.
sub server
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	configure($node, @settings);
	$node->start;
	return $node;
}

sub configure
{
	my ($node, @settings) = @_;
	$node->append_conf('postgresql.conf',
		join("\n", "shared_preload_libraries = 'ordflow'", "timezone = 'UTC'",
			'log_statement = none', @settings, ''));
	return;
}

# Fills the database with a shop in full swing: see shop.sql.
sub shop
{
	my ($node, $db) = @_;
	$node->psql($db, PostgreSQL::Test::Utils::slurp_file("$here/shop.sql"),
		on_error_die => 1);
	return;
}

# What a query answers: rows as lines, columns apart by "|".
sub answer
{
	my ($node, $sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

# The SQLSTATE that the statements raise; '' for none.
sub sqlstate
{
	my ($node, $sql, $db) = @_;
	my ($status, $out, $err) = $node->psql($db // 'postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	return $err =~ /ERROR:  (\w{5})$/m ? $1 : '';
}

sub raises
{
	my ($node, $sql, $state, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sqlstate($node, $sql, $db), $state, $name);
}

sub audits_clean
{
	my ($node, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $findings = answer($node, 'SELECT * FROM ordflow.audit()', $db);
	return is($findings, '', "$name: audit finds nothing");
}

# One line for each table of ordflow and of users, and for each sequence: its rows, as a sum.
sub checksums
{
	my ($node, $db) = @_;
	my $tables = answer($node, <<'SQL', $db);
		SELECT format('SELECT %L, count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) '
			'FROM %s t;', c.oid::regclass, c.oid::regclass)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema$'
		ORDER BY c.oid::regclass::text COLLATE "C"
SQL
	my $sequences = "SELECT format('%s.%s', schemaname, sequencename), last_value
		FROM pg_sequences ORDER BY 1;";
	return answer($node, "$tables\n$sequences", $db);
}

# Compares line by line, so that a difference names its table.
sub same_checksums
{
	my ($got, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ split /\n/, $got ], [ split /\n/, $expected ], "$name: the same rows");
}

1;
