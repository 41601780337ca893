# The blocks of docs/calling.md run as they stand and print what the page says, each language in a
# database of its own; and the traps are as the page says. A driver that is not there is skipped.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

# psycopg hands out bytes where a database without an encoding names none
$ENV{PGCLIENTENCODING} = 'UTF8';


my %block = blocks("$FindBin::Bin/../../docs/calling.md");
my $python = $ENV{PYTHON} || 'python3';
my %language = (
	psql => [ [ 'psql', '-XAtq' ], '' ],
	psycopg => [ [ $python, '-' ], 'import psycopg' ],
	'node-postgres' => [ [ 'node', '-' ], "require('pg')" ]);

my $node = server('main');
answer($node, 'CREATE ROLE shop LOGIN');

for my $name ('psql', 'psycopg', 'node-postgres')
{
	my ($command, $probe) = @{ $language{$name} };
  SKIP:
	{
		my ($status) = run($command, $probe, 'postgres');
		skip "$name is not there: $command->[0] cannot load it", 3 if $status != 0;
		answer($node, qq(CREATE DATABASE "$name"));
		answer($node, $block{'Calling ordflow'}, $name);
		my ($failed, @printed) = run($command, $block{$name}, $name);
		is($failed, 0, "$name: the blocks run");
		is_deeply(\@printed, [ expected($block{$name}) ], "$name: they print what the page says");
		is( answer($node, 'SELECT state, cancel_reason, h.actor FROM ordflow.orders
				JOIN ordflow.order_history h USING (order_id) WHERE event = \'cancel\'', $name),
			'cancelled|called by phone|clerk:42', "$name: the order was cancelled by the clerk");
	}
}

traps('psycopg', 'a float is no money, a list is no jsonb', <<'PYTHON', '42883', '22P02');
import psycopg
connection = psycopg.connect(autocommit=True)
for sql, value in (("pay_order(1, 'bank', 't', %s)", 0.3), ("submit_order('c', %s)", ["a"])):
    try:
        connection.execute("SELECT ordflow." + sql, (value,))
    except psycopg.Error as error:
        print(error.sqlstate)
PYTHON
traps('node-postgres', 'an array is no jsonb', <<'JAVASCRIPT', '22P02');
const { Client } = require('pg')
const client = new Client()
client.connect()
client.query("SELECT ordflow.submit_order('c', $1::jsonb)", [[{ sku: 'a' }]])
  .catch((error) => console.log(error.code)).finally(() => client.end())
JAVASCRIPT
raises($node, q(PREPARE typed (text) AS SELECT ordflow.submit_order('c', $1)), '42883',
	'a typed parameter needs a cast', 'psql');

# The code of a page by the heading that it stands under.
sub blocks
{
	my ($file) = @_;
	my ($heading, $inside, %found) = ('', 0);
	for my $line (split /^/, PostgreSQL::Test::Utils::slurp_file($file))
	{
		if ($line =~ /^```/) { $inside = !$inside; }
		elsif ($inside) { $found{$heading} .= $line; }
		elsif ($line =~ /^#+ (.*)/) { $heading = $1; }
	}
	return %found;
}

sub expected
{
	my ($code) = @_;
	return $code =~ /^\s*(?:--|#|\/\/) => (.*)$/gm;
}

# Runs a program with its text from standard input, as the role shop; its status, its output.
sub run
{
	my ($command, $text, $db) = @_;
	local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, $db, 'shop');
	my $out = '';
	my @streams = ('<', \$text, '>', \$out, '2>&1', IPC::Run::timeout(60));
	my $done = eval { IPC::Run::run($command, @streams) };
	return ($done ? 0 : 1, split /\n/, $out);
}

sub traps
{
	my ($name, $trap, $text, @sqlstates) = @_;
  SKIP:
	{
		my ($command, $probe) = @{ $language{$name} };
		my ($status) = run($command, $probe, 'postgres');
		skip "$name is not there: $command->[0] cannot load it", 1 if $status != 0;
		my (undef, @printed) = run($command, $text, $name);
		is_deeply(\@printed, \@sqlstates, "$name: $trap");
	}
	return;
}

done_testing();
