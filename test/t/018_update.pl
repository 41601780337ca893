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
configure($node, 'fsync = on', 'ordflow.fold_interval = 200ms');
$node->start;
answer($node, "CREATE DATABASE $_") for qw(fresh updated shop old);

# What the extension consists of.
answer($node, 'CREATE EXTENSION ordflow', 'fresh');
answer($node, "$create_old; ALTER EXTENSION ordflow UPDATE", 'updated');
same_facts('updated', 'fresh', 'an updated database has what a fresh one has');

# A shop of the older version: this version's library answers its functions OF011, so its rows come
# as pg_restore brings them.
shop($node, 'shop');
answer($node, 'SELECT ordflow.drop_sync(name) FROM ordflow.syncs; TRUNCATE ordflow.outbox;
	DROP SERVER shop_cache', 'shop');	# which that version cannot have
answer($node, 'CREATE TABLE shop.shipped (stock_id bigint, quantity bigint)', 'shop');
answer($node, $create_old, 'old');
restore('shop', 'old', qw(stock_segments stock_movements_[2-8] task_* sync* outbox*));
answer($node, <<'SQL', 'old');
	-- what an older version kept in columns of their own
	UPDATE ordflow.stock s SET available = (SELECT sum(m.on_hand - m.reserved)
		FROM ordflow.stock_movements m WHERE m.stock_id = s.stock_id);
	UPDATE ordflow.coupons c SET used = (SELECT count(*) FROM ordflow.coupon_redemptions r
		WHERE r.coupon_id = c.coupon_id AND r.state IN ('locked', 'used'))
	WHERE usage_limit IS NOT NULL;
SQL
my $rows = rows('old');
answer($node, <<'SQL', 'old');
	CREATE ROLE clerk;
	CREATE ROLE guest;
	GRANT EXECUTE ON FUNCTION ordflow.audit(timestamptz) TO guest;
	GRANT USAGE ON SCHEMA ordflow TO guest;
	GRANT SELECT (kind) ON ordflow.stock_movements TO guest;
	CREATE ROLE auditor;
	GRANT SELECT, REFERENCES ON ordflow.stock_movements TO auditor;
	GRANT SELECT ON ordflow.reservations TO auditor;
	-- what is on the ledger
	CREATE FUNCTION shop.shipped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO shop.shipped VALUES (NEW.stock_id, -NEW.on_hand);
		RETURN NULL;
	END $$;
	CREATE TRIGGER shipped AFTER INSERT ON ordflow.stock_movements FOR EACH ROW
		WHEN (NEW.kind = 'shipped') EXECUTE FUNCTION shop.shipped();
	ALTER TABLE ordflow.stock_movements ENABLE ALWAYS TRIGGER shipped;
	SET client_min_messages = error;   -- wal_level
	CREATE PUBLICATION ledger FOR TABLE ordflow.stock_movements (stock_id, on_hand)
		WHERE (kind = 'shipped') WITH (publish = 'insert', publish_via_partition_root);
	CREATE PUBLICATION everything FOR TABLE ordflow.stock_movements, ordflow.stock;
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

# Step by step, where somebody keeps the workers away: no row of the shop is changed.
answer($node, 'CREATE DATABASE calm TEMPLATE old');
answer($node, "ALTER EXTENSION ordflow UPDATE TO '0.2'", 'calm');
answer($node, <<'SQL', 'calm');
	-- what deactivate() of that version did
	INSERT INTO ordflow.activation (part, database, active, automatic, at, actor)
	SELECT 'timer', oid, false, false, now(), 'clerk' FROM pg_database WHERE datname = 'calm';
SQL
my $levels = 'SELECT * FROM ordflow.stock_levels ORDER BY sku, location';
my $before = answer($node, $levels, 'calm');
raises($node, "SELECT $_", 'OF011', "before the update $_ raises OF011", 'calm')
  for "ordflow.receive_stock('lamp', 1)", "ordflow.available_stock('lamp')",
  "ordflow.submit_order('c', '[]')", "ordflow.release_stock('cart:live')",
  "ordflow.create_coupon('NEW', 'fixed', 1)", 'ordflow.activate()';
answer($node, 'ALTER EXTENSION ordflow UPDATE', 'calm');
is(rows('calm'), rows('shop'), 'the update keeps the rows');
is(answer($node, $levels, 'calm'), $before, 'the levels are those of before');
my $available = 'SELECT sku, location, ordflow.available_stock(sku, location)
	FROM ordflow.stock ORDER BY sku, location';
is(answer($node, $available, 'calm'), answer($node, $available, 'shop'), 'available is the same');
is(answer($node, "SELECT ordflow.is_active('timer'), ordflow.is_active('fold')", 'calm'),
	'f|f', 'a database that was deactivated stays so');
audits_clean($node, 'calm', 'calm');
my $movements = answer($node, 'SELECT count(*) FROM ordflow.stock_movements', 'calm');
is(answer($node, 'SELECT ordflow.fold_stock(); SELECT ordflow.fold_stock()', 'calm'),
	"0\n$movements", 'the movements of before are folded');
is(answer($node, $levels, 'calm'), $before, 'and the levels are the same');
audits_clean($node, 'folded', 'calm');
my $triggers = "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger
	WHERE tgrelid = 'shop.repairs'::regclass ORDER BY tgname";
is(answer($node, $triggers, 'calm'), answer($node, $triggers, 'shop'),
	'an attached table has the triggers that attach() makes now');

my $ledger = q(SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger
		WHERE tgrelid = 'ordflow.stock_movements'::regclass AND tgname !~ '^counter_gate'
		ORDER BY 1;
	SELECT p.pubname, r.prrelid::regclass, r.prattrs, pg_get_expr(r.prqual, r.prrelid)
		FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
		ORDER BY p.pubname, r.prrelid::regclass::text);
is(answer($node, $ledger, 'calm'), answer($node, $ledger, 'old'),
	'the ledger has the triggers and publications of before');
raises($node, 'BEGIN; CREATE VIEW shop.ledger AS SELECT kind FROM ordflow.stock_movements;
	ALTER EXTENSION ordflow UPDATE', '2BP01', 'a view on the ledger is in the way', 'old');

# What a shop has of its own on the ledger is on all of it.
answer($node, 'CREATE DATABASE own TEMPLATE old');
answer($node, q(ALTER TABLE ordflow.stock_movements ADD COLUMN note text DEFAULT 'own';
	CREATE INDEX note ON ordflow.stock_movements (note, kind)), 'own');
answer($node, 'ALTER EXTENSION ordflow UPDATE', 'own');
answer($node, q(SELECT ordflow.deactivate(), ordflow.receive_stock('lamp', 1)), 'own');
is(answer($node, q(SELECT note, count(*) = max(movement_id) FROM ordflow.stock_movements
	GROUP BY note), 'own'), 'own|t', 'a column');
is(answer($node, q(SELECT count(*) FROM pg_inherits WHERE inhparent = 'ordflow.note'::regclass),
	'own'), 8, 'an index');
audits_clean($node, 'a column and an index', 'own');

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
comes_true('SELECT count(*) > 0 FROM ordflow.stock_segments WHERE folded_at IS NOT NULL');
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
$is->('sum(quantity) FROM shop.shipped', 5, 'a trigger from before fires on the ledger');
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
	return join "\n", grep { !/^ordflow\.(?:parts|activation|task_|sync|outbox)/ } @lines;
}

# But for what is parked, which has a column more in the newer version and comes again by itself.
sub restore
{
	my ($from, $to, @not_there) = @_;
	my $file = "$dir/$from.sql";
	my @but = map { "--exclude-table-data=ordflow.$_" } 'parked', @not_there;
	$node->command_ok([ 'pg_dump', @but, '-f', $file, $from ], "$from is dumped");
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
	is(answer($node, <<'SQL', $db), 't', "$name: what was granted on the ledger");
		SELECT has_column_privilege('guest', t, 'kind', 'SELECT')
			AND NOT has_table_privilege('guest', t, 'SELECT')
			AND has_table_privilege('auditor', t, 'SELECT')
			AND has_table_privilege('auditor', t, 'REFERENCES')
			AND NOT has_table_privilege('auditor', t, 'INSERT')
			AND has_function_privilege('auditor', 'ordflow.open_reservations()', 'EXECUTE')
		FROM (SELECT 'ordflow.stock_movements'::regclass::oid AS t) AS m
SQL
	is(answer($node, "SELECT count(*) FROM ordflow.parts WHERE part ~ '^update'", $db),
		0, "$name: no part is left of the update");
	return;
}
