# ALTER EXTENSION ordflow UPDATE makes of a database of an older version what CREATE EXTENSION makes
# of a new one. A shop in it keeps its rows and what was granted, and its deadlines fire.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Basename;
use File::Copy;
use File::Glob ':bsd_glob';
use File::Path;
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

# The oldest version; the scripts from there on follow one another.
use constant OLD => '0.1';

my $lib = "$FindBin::Bin/lib";
my $dir = PostgreSQL::Test::Utils::tempdir;
my $create_old = "CREATE EXTENSION ordflow VERSION '" . OLD . "'";
my $node = PostgreSQL::Test::Cluster->new('main', install_path => installation());
$node->init;
configure($node, 'fsync = on');
$node->start;
answer($node, "CREATE DATABASE $_") for qw(fresh updated shop old);

# What the extension consists of.
answer($node, 'CREATE EXTENSION ordflow', 'fresh');
answer($node, "$create_old; ALTER EXTENSION ordflow UPDATE", 'updated');
same_facts('updated', 'fresh', 'an updated database has what a fresh one has');

# A shop of the older version: this version's library answers its functions OF011, so its rows come
# as pg_restore brings them.
shop($node, 'shop');
answer($node, $create_old, 'old');
restore('shop', 'old');
my $rows = rows('old');
is($rows, rows('shop'), 'the older database has the rows of the shop');
answer($node, <<'SQL', 'old');
	CREATE ROLE clerk;
	CREATE ROLE guest;
	GRANT EXECUTE ON FUNCTION ordflow.audit(timestamptz) TO guest;
	GRANT USAGE ON SCHEMA ordflow TO guest;
	-- what grant_access() of that version did
	DO $$
	DECLARE
		p ordflow.parts;
	BEGIN
		FOR p IN SELECT * FROM ordflow.parts WHERE part IN ('read', 'admin') LOOP
			EXECUTE format('GRANT %s ON %s TO clerk', p.privilege, p.object);
		END LOOP;
	END $$;
	-- and attach()
	DROP TRIGGER "~ordflow_status_insert" ON shop.repairs;
	DROP TRIGGER "~ordflow_status_update" ON shop.repairs;
	DROP TRIGGER "~ordflow_due_status" ON shop.repairs;
	CREATE TRIGGER "~ordflow_status_insert" AFTER INSERT ON shop.repairs FOR EACH ROW
		EXECUTE FUNCTION ordflow.machine_changed('repair', 'status', 'id', 'due');
	CREATE TRIGGER "~ordflow_status_update" AFTER UPDATE ON shop.repairs FOR EACH ROW
		WHEN (OLD.status IS DISTINCT FROM NEW.status)
		EXECUTE FUNCTION ordflow.machine_changed('repair', 'status', 'id', 'due');
	CREATE TRIGGER "~ordflow_due_status" BEFORE INSERT OR UPDATE ON shop.repairs FOR EACH ROW
		EXECUTE FUNCTION ordflow.machine_due('repair', 'status', 'id', 'due');
SQL
answer($node, 'ALTER TABLE shop.repairs ENABLE ALWAYS TRIGGER "~ordflow_status_update"', $_)
  for qw(shop old);

# By itself, with no worker, the update changes no row of the shop.
answer($node, 'CREATE DATABASE calm TEMPLATE old');
answer($node, 'BEGIN; ALTER EXTENSION ordflow UPDATE; SELECT ordflow.deactivate(); COMMIT', 'calm');
is(rows('calm'), $rows, 'the update keeps the rows');
my $triggers = "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger
	WHERE tgrelid = 'shop.repairs'::regclass ORDER BY tgname";
is(answer($node, $triggers, 'calm'), answer($node, $triggers, 'shop'),
	'an attached table has the triggers that attach() makes now');

# The workers, which look into every database at the start, leave it alone before that.
$node->restart;
my $session = $node->background_psql('old', on_error_stop => 0);
$session->query('\set VERBOSITY sqlstate');
$session->query('SELECT ordflow.run_due()');
like($session->{stderr}, qr/OF011/, 'before the update its functions raise OF011');
$session->{stderr} = '';
answer($node, 'BEGIN; ALTER EXTENSION ordflow UPDATE; ROLLBACK', 'old');
comes_true("SELECT state = 'running' FROM ordflow.workers WHERE worker = 'launcher'", 'fresh');
sleep 1;
is(rows('old'), $rows, 'until then the worker leaves the rows alone');
raises($node, 'SELECT ordflow.run_due()', 'OF011', 'an update rolled back was none', 'old');

# Nothing but the update wakes the worker.
answer($node, 'ALTER EXTENSION ordflow UPDATE', 'old');
comes_true('SELECT count(*) = 0 FROM ordflow.orders WHERE due_at < now()');
comes_true("SELECT state = 'expired' FROM ordflow.holds WHERE reference = 'cart:overdue'");
comes_true('SELECT count(*) = 1 FROM ordflow.parked');
my $is = sub { is(answer($node, "SELECT $_[0]", 'old'), $_[1], $_[2]) };
$is->(q(string_agg(concat_ws(' ', order_id, event, to_state), ', ' ORDER BY order_id)
	FROM ordflow.order_history WHERE actor = 'ordflow coordinator'),
	'5 expire cancelled, 6 expire cancelled, 15 confirm completed, 27 expire cancelled',
	'the worker does what was overdue');
$is->(q(target, key, sqlstate FROM ordflow.parked), 'shop.repairs|4|42704',
	'and tries what cannot be done, for a role that is gone');
$is->(q(next_deadline = (SELECT min(at) FROM (SELECT min(due_at) AS at FROM ordflow.orders
	UNION ALL SELECT min(expires_at) FROM ordflow.holds WHERE state = 'held'
	UNION ALL SELECT min(due) FROM shop.repairs WHERE due > now()) AS d) FROM ordflow.timer_status),
	't', 'it knows the next deadline');
is($session->query('SELECT ordflow.run_due()'), 0, 'a session from before the update works');
$session->quit;
$is->(q(count(*) FROM ordflow.doctor() WHERE object IN ('ordflow', 'ordflow.orders')), 0,
	'doctor() is content with the version and the deadlines');

# Business goes on.
my $lines = q('[{"sku": "lamp", "quantity": 2, "unit_price": 5}]');
$is->("ordflow.submit_order('new', $lines)", 31, 'a new order gets the next id');
$is->(q(ordflow.pay_order(31, 'bank', 'new', 10), ordflow.ship_order(31, 'post', 'p 31')),
	'applied|applied', 'it is paid and shipped');
$is->(q(ordflow.pay_order(order_id, 'bank', 'tx 8', payable, currency),
	ordflow.ship_order(order_id, 'post', 'p 8'), ordflow.confirm_order(order_id)
	FROM ordflow.orders WHERE order_id = 8),
	'applied|applied|applied', 'an order from before is paid, shipped and confirmed');
$is->(q(ordflow.refund_done(ordflow.refund_order(8, amount => 1), 'r 8')), 'applied', 'refunded');
$is->("ordflow.submit_order('late', $lines, pay_within => '100 ms')", 32, 'a short deadline');
comes_true("SELECT state = 'cancelled' FROM ordflow.orders WHERE order_id = 32");
audits_clean($node, 'updated', 'old');

# What was granted is kept, also by pg_dump, which leaves out what a script of an extension granted.
privileges('old', 'updated');
answer($node, 'CREATE DATABASE again');
restore('old', 'again');
privileges('again', 'restored');

answer($node, 'DROP EXTENSION ordflow CASCADE', 'old');
is(answer($node, q(SELECT count(*) FROM pg_namespace WHERE nspname = 'ordflow'), 'old'),
	0, 'DROP EXTENSION drops all of it');
done_testing();

# A copy of the server's installation, of links but for what looks for files beside itself, with the
# older version's install script, which is installed nowhere. Returns its path.
sub installation
{
	my %path;
	chomp($path{$_} = `pg_config --$_`) for qw(bindir sharedir pkglibdir);
	my $extensions = "$path{sharedir}/extension";
	my $script = 'ordflow--' . OLD . '.sql';
	mkpath([ map { "$dir/$_" } $path{bindir}, $extensions, dirname($path{pkglibdir}) ]);
	link_all($path{bindir}, qw(postgres pg_ctl));
	for my $program (map { "$path{bindir}/$_" } qw(postgres pg_ctl))
	{
		copy($program, "$dir/$program") or die "$program: $!";
		chmod 0755, "$dir/$program";
	}
	symlink $path{pkglibdir}, "$dir/$path{pkglibdir}";
	link_all($path{sharedir}, 'extension');
	link_all($extensions, $script);
	symlink "$lib/$script", "$dir/$extensions/$script";
	return dirname("$dir/$path{bindir}");
}

sub link_all
{
	my ($from, @but) = @_;
	for my $file (glob "$from/*")
	{
		my $name = basename($file);
		symlink $file, "$dir/$from/$name" unless grep { $_ eq $name } @but;
	}
	return;
}

sub comes_true
{
	my ($sql, $db) = @_;
	$node->poll_query_until($db // 'old', $sql) or die "never true: $sql";
	return;
}

# All that the extension has made in a database, the rows of its tables too, a line a fact.
sub facts
{
	my ($db) = @_;
	my $catalog = PostgreSQL::Test::Utils::slurp_file("$lib/catalog.sql");
	my $rows = answer($node, <<'SQL', $db);
		SELECT format('SELECT %L, fact FROM (SELECT %s AS fact FROM %s AS t) AS f '
			'ORDER BY fact COLLATE "C";', 'row of ' || oid::regclass,
			CASE relkind WHEN 'S' THEN 'concat_ws($$ $$, last_value, is_called)' ELSE 't::text' END,
			oid::regclass)
		FROM pg_class WHERE relnamespace = 'ordflow'::regnamespace AND relkind IN ('r', 'S')
		ORDER BY oid::regclass::text COLLATE "C"
SQL
	return join "\n", answer($node, $catalog, $db), answer($node, $rows, $db), '';
}

sub same_facts
{
	my ($got, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @labels = map { ('--label', $_) } $got, $expected;
	my @files = map { "$dir/$_.facts" } $got, $expected;
	my $differences;
	PostgreSQL::Test::Utils::append_to_file("$dir/$_.facts", facts($_)) for $got, $expected;
	IPC::Run::run([ 'diff', '-U0', @labels, @files ], '>', \$differences);
	return is($differences, '', $name);
}

# The rows but those that come with the version.
sub rows
{
	my ($db) = @_;
	my @lines = split /\n/, checksums($node, $db);
	return join "\n", grep { !/^ordflow\.(?:parts|activation)/ } @lines;
}

sub restore
{
	my ($from, $to) = @_;
	my $file = "$dir/$from.sql";
	# what is parked has a column more in the newer version, and comes again by itself
	$node->command_ok([ 'pg_dump', '--exclude-table-data=ordflow.parked', '-f', $file, $from ],
		"$from is dumped");
	$node->psql($to, PostgreSQL::Test::Utils::slurp_file($file), on_error_die => 1);
	return;
}

# Of those who were granted something under the older version.
sub privileges
{
	my ($db, $name) = @_;
	is(answer($node, <<'SQL', $db), "admin|t\nread|t", "$name: a role has all of its parts");
		SELECT part, bool_and(CASE split_part(object, ' ', 1)
			WHEN 'SCHEMA' THEN has_schema_privilege('clerk', split_part(object, ' ', 2), privilege)
			WHEN 'FUNCTION' THEN has_function_privilege('clerk', substr(object, 10), privilege)
			ELSE has_table_privilege('clerk', split_part(object, ' ', 2), privilege) END)
		FROM ordflow.parts WHERE part IN ('read', 'admin') GROUP BY part ORDER BY part
SQL
	is(answer($node, <<'SQL', $db), 'audit', "$name: a role that had a piece has no other");
		SELECT proname FROM pg_proc WHERE pronamespace = 'ordflow'::regnamespace
			AND has_function_privilege('guest', oid, 'EXECUTE')
SQL
	return;
}
