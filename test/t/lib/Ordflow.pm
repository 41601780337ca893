# test/t/lib/Ordflow.pm: what the TAP tests share: servers with ordflow, a shop with every kind of
# row in it, and comparisons of whole databases.
package Ordflow;

use strict;
use warnings;
use Exporter 'import';
use File::Basename;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  server configure shop spread_ledger order_lamp answer sqlstate raises becomes at_once audits_clean
  checksums same_checksums coordinator all_cancelled worker_complaints);

use constant PATIENCE => 60;	# seconds, for what a worker does at once on an idle machine

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
			'log_statement = none', "log_line_prefix = '%m [%p] %b '", 'wal_level = logical',
			plugins(), @settings, ''));
	return;
}

# The plugins that may decode, where the server wants them listed; others do not know the setting.
sub plugins
{
	my ($known) = run_command([ 'postgres', '--describe-config' ]);
	return $known =~ /^output_plugin_libraries/m
	  ? "output_plugin_libraries = 'pgoutput, test_decoding, ordflow'" : ();
}

# Fills the database with a shop in full swing: see shop.sql.
sub shop
{
	my ($node, $db) = @_;
	$node->psql($db, PostgreSQL::Test::Utils::slurp_file("$here/shop.sql"),
		on_error_die => 1);
	return;
}

# The shop's ledger as it is after years of retention: movements in every partition, some folded.
sub spread_ledger
{
	my ($node, $db) = @_;
	for my $stretch (0 .. 7)
	{
		answer($node, "INSERT INTO ordflow.stock_segments (segment, opened_at)
			VALUES (greatest($stretch << 20, 1), now())", $db);
		answer($node, q(SELECT ordflow.receive_stock('chair', 1)), $db);
		answer($node, 'SELECT ordflow.fold_stock()', $db) if $stretch == 5;
	}
	return;
}

# Orders one lamp; the id of the order.
sub order_lamp
{
	my ($node, $db, $pay_within) = @_;
	my $lines = q('[{"sku": "lamp", "quantity": 1, "unit_price": 5}]');
	return answer($node,
		"SELECT ordflow.submit_order('c', $lines, pay_within => '$pay_within')", $db);
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

# Asks again and again until the answer is the expected one.
sub becomes
{
	my ($node, $sql, $expected, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $until = time + PATIENCE;
	my $got = answer($node, $sql, $db);
	while ($got ne $expected && time < $until)
	{
		usleep(50_000);
		$got = answer($node, $sql, $db);
	}
	return is($got, $expected, $name);
}

# Runs scripts, each [database, statements], all at once; what each answers, errors included.
sub at_once
{
	my ($node, @scripts) = @_;
	my @out = ('') x @scripts;
	my @runs = map {
		my ($db, $sql) = @{ $scripts[$_] };
		IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr($db) ],
			'<', \$sql, '>', \$out[$_], '2>&1', IPC::Run::timeout(3 * PATIENCE));
	} 0 .. $#scripts;
	$_->finish for @runs;
	return map { s/\n\z//r } @out;
}

sub audits_clean
{
	my ($node, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $findings = answer($node, 'SELECT * FROM ordflow.audit()', $db);
	return is($findings, '', "$name: audit finds nothing");
}

# One line for each table of ordflow and of users, and each sequence: its rows, as a sum. All but
# what is of one database, and in no dump.
sub checksums
{
	my ($node, $db) = @_;
	my $tables = answer($node, <<'SQL', $db);
		SELECT format('SELECT %L, count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) '
			'FROM %s t;', c.oid::regclass, c.oid::regclass)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema$'
			AND c.relname NOT IN ('activation', 'task_progress', 'sync_starts', 'sync_copies',
				'sync_copy_places', 'sync_deliveries')
		ORDER BY c.oid::regclass::text COLLATE "C"
SQL
	my $sequences = "SELECT format('%s.%s', schemaname, sequencename), last_value
		FROM pg_sequences
		WHERE sequencename NOT IN ('activation_id_seq',
			'sync_deliveries_delivery_id_seq') ORDER BY 1;";
	return answer($node, "$tables\n$sequences", $db);
}

# Compares line by line, so that a difference names its table.
sub same_checksums
{
	my ($got, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ split /\n/, $got ], [ split /\n/, $expected ], "$name: the same rows");
}

# The pid of the coordinator in a database; '' for none.
sub coordinator
{
	my ($node, $db) = @_;
	return answer($node, "SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'ordflow coordinator' AND datname = '$db'");
}

# The worker cancels every unpaid order of the database that has less than a minute left, each once
# and not before its time.
sub all_cancelled
{
	my ($node, $db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, q(SELECT count(*) FROM ordflow.orders
		WHERE state = 'pending_payment' AND expires_at < now() + interval '1 minute'), 0,
		"$name: every unpaid order is cancelled", $db);
	return is(
		answer(
			$node, q(SELECT o.order_id, array_agg(h.actor || ' ' || h.event ORDER BY h.seq)
				FROM ordflow.orders o LEFT JOIN ordflow.order_history h
				ON h.order_id = o.order_id AND h.to_state = 'cancelled' AND h.at >= o.expires_at
				WHERE o.state = 'cancelled' GROUP BY o.order_id
				HAVING array_agg(h.actor || ' ' || h.event)
				IS DISTINCT FROM ARRAY['ordflow coordinator expire']), $db),
		'', "$name: by the coordinator, once, not early");
}

# What workers have logged of WARNING and above, but for the end that somebody asked them for.
sub worker_complaints
{
	my ($node) = @_;
	my @lines = grep { /\] ordflow \w+ (?:WARNING|ERROR|FATAL|PANIC):/ } split /\n/,
	  PostgreSQL::Test::Utils::slurp_file($node->logfile);
	return join "\n", grep { !/terminating background worker .* due to administrator/ } @lines;
}

1;
