# Another PostgreSQL as target: first the sink by itself, then syncs of tables of every kind, while
# the target is down, refuses, is restarted in the middle of a batch, and while deliveries are
# killed. In the end it holds just what the source does.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use SinkCheck;
use Test::More;
use Time::HiRes qw(time usleep);

my $sink = SinkCheck->new('postgres');
plan skip_all => 'the module was not built, or there is no C compiler' unless $sink;

my $target = PostgreSQL::Test::Cluster->new('target');
$target->init;
$target->append_conf('postgresql.conf', q(listen_addresses = '127.0.0.1'));
passwords_for('shop');
$target->start;
answer($target, q(CREATE ROLE shop LOGIN PASSWORD 'swordfish'; CREATE ROLE guest LOGIN));
my @server = ('host=' . $target->host, 'port=' . $target->port, 'dbname=postgres',
	'schema=public', 'timeout=3', 'password_required=on', 'user=shop', 'password=swordfish');

refused();
conforms();
faults();
turned_away();
killed();

my $node = server('main', 'max_worker_processes = 30', 'max_replication_slots = 6',
	'restart_after_crash = on');
answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA shop');
answer($target, 'CREATE SCHEMA copy AUTHORIZATION shop');
server_at('far', 'shop', 'swordfish');

kinds();
keys_of_several();
unchanged();
own_columns();
large_transaction();
copied();
altered();
poisoned();
misconfigured();
passwords();
messages();
target_down();
under_load();
dropped();
unlike(slurp_file($node->logfile), qr/swordfish|marlin/, 'no password stands in the log');
done_testing();

# ---- what the tests are made of ----

# That role alone gives a password.
sub passwords_for
{
	my ($role) = @_;
	my $file = $target->data_dir . '/pg_hba.conf';
	my $rest = slurp_file($file);
	unlink $file;
	PostgreSQL::Test::Utils::append_to_file($file, "local all $role scram-sha-256\n"
		  . "host all $role 127.0.0.1/32 scram-sha-256\n$rest");
	return;
}

sub checks
{
	my ($name, $table, @cases) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $sink->run(\@server, $name, [$table], @cases);
}

sub far { return answer($target, $_[0]); }

sub server_at
{
	my ($name, $user, $password) = @_;
	return answer($node, "CREATE SERVER $name FOREIGN DATA WRAPPER ordflow_postgres OPTIONS
			(host '@{[$target->host]}', port '@{[$target->port]}', timeout '3');
		CREATE USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (user '$user',
			password '$password')");
}

# A table here, its copy there, and the sync between them; the columns as CREATE TABLE has them.
sub mirror
{
	my ($name, $columns, $there, $options, $server) = @_;
	answer($node, "CREATE TABLE shop.$name ($columns)");
	far("SET ROLE shop; CREATE TABLE copy.$name (@{[$there || $columns]})");
	return sync($name, $options, $server);
}

sub sync
{
	my ($name, $options, $server) = @_;
	$server //= 'far';
	$options = join ', ', '"copy": false', $options // ();
	answer($node, "SELECT ordflow.create_sync('$name', 'shop.$name', '$server', 'copy.$name',
		options => '{$options}')");
	$node->poll_query_until('postgres',
		"SELECT state <> 'creating' FROM ordflow.sync_status WHERE name = '$name'");
	return;
}

sub settled
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(answer($node, "SELECT ordflow.wait_for_sync('$name', timeout => '60 s')"), 't',
		"$name: $what: arrives")
	  || diag answer($node, 'SELECT * FROM ordflow.sync_status');
}

# Both tables hold the same rows, once what was committed has arrived.
sub same
{
	my ($name, $what, $columns) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	settled($name, $what);
	$columns //= "t::text";
	my $settings = q(SET datestyle = 'ISO'; SET timezone = 'UTC'; SET extra_float_digits = 1;);
	my ($here, $there) = map {
		answer($_->[0], "$settings SELECT $columns FROM $_->[1].$name AS t ORDER BY 1")
	} [ $node, 'shop' ], [ $target, 'copy' ];
	return ok($here eq $there, "$name: $what: the same rows")
	  || diag length($here) < 2000 ? "$here\n--\n$there" : 'they are not';
}

sub status
{
	my ($name, $columns) = @_;
	return "SELECT $columns FROM ordflow.sync_status WHERE name = '$name'";
}

# ---- the sink by itself ----

sub refused
{
	checks("target $_", $_, 'refused') for '-', 'copy.rows:{id}';
	checks_denied('no right to make the table of positions', qr/CREATE TABLE .*GRANT SELECT/);
	far('GRANT CREATE ON SCHEMA public TO shop');
	return;
}

sub checks_denied
{
	my ($name, $hint, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %given = map { split /=/, $_, 2 } @server, @options;
	my @given = map { $given{$_} eq '' ? () : "$_=$given{$_}" } sort keys %given;
	my $out = '';
	IPC::Run::run([ $sink->{check}, $sink->{module}, @given, '--', 'public.rows', '--',
			'fresh' ], '<', '/dev/null', '>', \$out, '2>&1');
	like($out, qr/^not ok \d+ - connect/m, "$name: no connection");
	return like($out, $hint, "$name: it says what to do");
}

sub rows_like
{
	my ($name) = @_;
	far("DROP TABLE IF EXISTS public.$name; CREATE TABLE public.$name (id int PRIMARY KEY,
		name text NOT NULL, amount numeric, note varchar(20), own text DEFAULT 'own',
		twice int GENERATED ALWAYS AS (id * 2) STORED);
		GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public.$name TO shop");
	return "public.$name";
}

sub conforms
{
	my $rows = rows_like('rows');
	checks('rows', $rows, qw(fresh write));
	is(far(q(SELECT string_agg(id::text, ' ' ORDER BY id) FROM public.rows)),
		'1 2 3 4 5 8 9 10 11 12 13', 'rows that were deleted are gone');
	is(far('SELECT amount, note, own, twice FROM public.rows WHERE id = 2'), '200|noted|own|4',
		'a column that was not told is kept, as are those of the target itself');
	checks('rows', 'rows', qw(large cancel replay whole copy partial compare scan truncate));
	is(far(q(SELECT string_agg(id::text, ' ') FROM public.rows)), '21', 'emptied in between');
	is(far('SELECT name_space FROM public.ordflow_sync_positions'), 'ordflow:check:',
		'one row is ours');
	checks('rows', $rows, 'clear');
	is(far('SELECT count(*) FROM public.ordflow_sync_positions'), 0, 'clear() leaves none');
	checks('rows', $rows, qw(fresh));
	far('ALTER TABLE public.rows ADD CHECK (id <> 102 OR note IS NULL);
		INSERT INTO public.rows VALUES (102, $$x$$)');
	my $out = checks('rows', $rows, 'poison', 102);
	like($out, qr/check constraint/, 'a row that a constraint refuses');
	is(far('SELECT count(*) FROM public.rows WHERE id BETWEEN 100 AND 103'), 1,
		'none of a batch is there');

	# as a whole such a batch cannot be had, as rows it can
	far('CREATE TABLE public.blunt (id numeric(5, -1) PRIMARY KEY, name text, amount int,
		note text); GRANT ALL ON public.blunt TO shop');
	checks('keys that are the same there', 'public.blunt', qw(fresh clear));
	is(far(q(SELECT string_agg(id || name, ' ' ORDER BY id) ~ '^0name 4 .* 10name 10 [^\n]*\n é r1$'
		FROM public.blunt)), 't', 'the last one counts');
	return;
}

# Nothing is lost, and no row is to blame.
sub faults
{
	my $rows = rows_like('faulty');
	my $psql = 'psql -XAtq -d "' . $target->connstr('postgres') . '" -c';
	my $others = q(FROM pg_stat_activity WHERE application_name = 'ordflow');
	my @cut = (qq($psql "SELECT pg_terminate_backend(pid) $others" >/dev/null), 'true');
	my @revoked = map { qq($psql "$_") } 'REVOKE INSERT ON public.faulty FROM shop',
	  'GRANT INSERT ON public.faulty TO shop';
	my @renamed = map { qq($psql "ALTER TABLE public.$_") } 'faulty RENAME TO other',
	  'other RENAME TO faulty';
	my @column = map { qq($psql "ALTER TABLE public.faulty RENAME $_") } 'note TO remark',
	  'remark TO note';
	my @locked = (
		qq($psql "BEGIN; LOCK TABLE public.faulty; SELECT pg_sleep(30)" >/dev/null 2>&1 & )
		  . 'sleep 1', qq($psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()" >/dev/null));
	my @immediate = ("pg_ctl -D @{[$target->data_dir]} -m immediate -w -s stop",
		"pg_ctl -D @{[$target->data_dir]} -l @{[$target->logfile]} -w -s start");
	checks('faults', $rows, 'fresh', map { ('fault', @$_) } [ 'RETRY', @cut ],
		[ 'MISCONFIGURED', @revoked ], [ 'MISCONFIGURED', @renamed ],
		[ 'MISCONFIGURED', @column ], [ 'RETRY', @locked ], [ 'RETRY', @immediate ]);
	$target->restart;
	is(far('SELECT count(*) FROM public.faulty'), 22, 'each row is there');
	far('ALTER TABLE public.faulty ALTER note TYPE text, ALTER amount TYPE int');
	checks('a table that was altered', $rows, qw(write));
	return;
}

sub turned_away
{
	my $nobody = PostgreSQL::Test::Cluster::get_free_port();
	checks('nobody', 'public.rows', 'down', "port=$nobody", 'down', 'host=no.such.host.invalid',
		'denied', 'password=wrong', 'denied', 'user=nobody', 'denied', 'dbname=nothing',
		'denied', 'schema=nothing', 'denied', 'user=guest');
	checks_denied('a server that does not ask', qr/password_required/, 'user=guest');
	checks_denied('no password', qr/password_required/, 'password=');
	checks_denied('no TLS', qr/server does not support SSL/, 'host=127.0.0.1', 'sslmode=require');
	return encrypted();
}

sub encrypted
{
	my ($dir, $other) = ($target->data_dir, PostgreSQL::Test::Utils::tempdir());
  SKIP:
	{
		for my $to ($dir, $other)
		{
			skip 'no openssl', 2 unless eval { IPC::Run::run([ qw(openssl req -x509 -newkey rsa:2048
				-nodes -days 2 -subj /CN=localhost -keyout), "$to/server.key", '-out',
				"$to/server.crt" ], '>&', \my $output) };
			chmod 0600, "$to/server.key";
		}
		$target->append_conf('postgresql.conf', 'ssl = on');
		$target->restart;
		my @encrypted = (@server, 'host=localhost', 'sslmode=verify-full');
		my %options = map { split /=/, $_, 2 } @encrypted, "sslrootcert=$dir/server.crt";
		$sink->run([ map { "$_=$options{$_}" } keys %options ], 'TLS', ['public.rows'], 'clear');
		checks_denied('TLS with another', qr/certificate verify failed/, 'host=localhost',
			'sslmode=verify-full', "sslrootcert=$other/server.crt");
	}
	return;
}

sub killed
{
	my $rows = rows_like('killed');
	checks('killed', $rows, qw(fresh kill 20));
	is(far(q(SELECT count(*), bool_and(name ~ ' r20x*$' AND amount = id * 100)
		FROM public.killed WHERE id >= 5000)), '400|t', 'each row is as it was last');
	return;
}

# ---- syncs ----

sub kinds
{
	my $types = q(CREATE TYPE %s.mood AS ENUM ('sad', 'it''s "fine"');
		CREATE DOMAIN %s.amount AS numeric(30,10) CHECK (VALUE >= 0);
		CREATE TYPE %s.pair AS (a numeric, b text));
	my $columns = q(a int, b uuid, j jsonb, js json, t text[], m %s.mood, n %s.amount,
		at timestamptz, d date, i interval, b2 bytea, f float8, big text, r int4range, o bool,
		c char(5), v varchar(10), mo money, x xml, ip inet, p point, k %s.pair, nn numeric[],
		bits bit(3), tm time, ts timestamp, twice int GENERATED ALWAYS AS (a * 2) STORED,
		PRIMARY KEY (b, a));
	answer($node, $types =~ s/%s/shop/gr);
	far('SET ROLE shop;' . $types =~ s/%s/copy/gr);
	mirror('kind', $columns =~ s/%s/shop/gr, $columns =~ s/%s/copy/gr);
	answer($node, <<'SQL');
		INSERT INTO shop.kind VALUES
		(1, gen_random_uuid(), '{"a": [1, null, "\u00e9\\"]}', '{"b":  1}',
		 ARRAY['x', NULL, '{"y"}'], 'sad', 12345678901234567890.0123456789,
		 '2024-02-29 12:00:00.000001+05:30', '0044-03-15 BC', '1 mon -2 days 00:00:00.5',
		 '\x00ff5c27', 'NaN', NULL, '[1,5)', true, 'ab', 'é"\', 12.34, '<a>&lt;</a>',
		 '10.0.0.0/8', '(1,2)', '(1.50,"a,b")', '{1.0,NULL,NaN}', '101', '12:00', 'infinity'),
		(2, gen_random_uuid(), 'null', NULL, '{}', NULL, 0, 'infinity', '-infinity', '-1 year', '',
		 '-0', E'tab\tnewline\nquote''\r', 'empty', false, NULL, '', NULL, NULL, '::1', NULL,
		 NULL, '{}', NULL, NULL, NULL)
SQL
	same('kind', 'values');
	answer($node, q(UPDATE shop.kind SET big = repeat('0123456789abcdef', 65536) || b, n = 'NaN'
		WHERE a = 1));
	same('kind', 'a value out of line');
	answer($node, q(UPDATE shop.kind SET a = a + 10; UPDATE shop.kind SET m = 'it''s "fine"'));
	same('kind', 'keys that change beside TOAST that does not');
	answer($node, q(BEGIN; SAVEPOINT s; DELETE FROM shop.kind; ROLLBACK TO s;
		INSERT INTO shop.kind (a, b) VALUES (5, gen_random_uuid()); COMMIT;
		DELETE FROM shop.kind WHERE a = 11));
	same('kind', 'deleted, rolled back');
	answer($node, q(TRUNCATE shop.kind;
		INSERT INTO shop.kind (a, b) VALUES (6, gen_random_uuid())));
	same('kind', 'emptied');
	return;
}

sub keys_of_several
{
	mirror('two', '"A b" text, at date, v int, PRIMARY KEY ("A b", at)',
		'at date, "A b" text COLLATE "C", v bigint, PRIMARY KEY (at, "A b")');
	answer($node, q(INSERT INTO shop.two SELECT 'x"' || i, date '2024-01-01' + i, i
			FROM generate_series(1, 30) AS i;
		UPDATE shop.two SET v = -v WHERE v > 20; UPDATE shop.two SET "A b" = 'y' WHERE v = 5;
		DELETE FROM shop.two WHERE v = 6));
	same('two', 'a key of several columns', '"A b", at, v');
	mirror('mapped', 'id int PRIMARY KEY, v text', 'number int PRIMARY KEY, len int',
		'"columns": {"number": "id", "len": "length(v)"}, "filter": "v <> $$no$$"');
	answer($node, q(INSERT INTO shop.mapped VALUES (1, 'no'), (2, 'yes'), (3, 'yes');
		UPDATE shop.mapped SET v = 'no' WHERE id = 3; UPDATE shop.mapped SET v = 'well'
		WHERE id = 1));
	settled('mapped', 'columns and a filter');
	is(far(q(SELECT string_agg(number || ' ' || len, ', ' ORDER BY number) FROM copy.mapped)),
		'1 4, 2 3', 'mapped: columns and a filter');
	return;
}

# What an update left in TOAST is not sent; a row that is missing is made whole all the same.
sub unchanged
{
	my $big = q((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) AS i));
	answer($node, 'CREATE TABLE shop.toast (id int PRIMARY KEY, v int, big text)');
	answer($node, "ALTER TABLE shop.toast ALTER big SET STORAGE EXTERNAL;
		INSERT INTO shop.toast VALUES (1, 0, $big), (2, 0, $big)");
	far('SET ROLE shop; CREATE TABLE copy.toast (id int PRIMARY KEY, v int, big text NOT NULL)');
	sync('toast');
	answer($node, "INSERT INTO shop.toast VALUES (3, 0, $big)");
	settled('toast', 'inserted');
	far(q(UPDATE copy.toast SET big = 'mine' WHERE id = 3));
	answer($node, 'UPDATE shop.toast SET v = 1 WHERE id = 3');
	settled('toast', 'updated');
	is(far('SELECT v, big FROM copy.toast'), '1|mine', 'toast: what did not change is not sent');
	answer($node, 'BEGIN; UPDATE shop.toast SET v = 2 WHERE id = 3;
		UPDATE shop.toast SET v = v + 2; COMMIT');
	same('toast', 'rows that were not there are whole');
	is(answer($node, 'SELECT count(*) FROM ordflow.sync_dead_letters'), 0, 'toast: no letter');
	return;
}

sub own_columns
{
	mirror('own', 'id int PRIMARY KEY, v text', q(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		v varchar(3), w text DEFAULT 'mine'));
	answer($node, q(INSERT INTO shop.own VALUES (1, 'abc'), (2, 'abcd'), (3, 'c');
		UPDATE shop.own SET v = 'd' WHERE id = 3));
	settled('own', 'columns of the target');
	is(far('SELECT id, v, w FROM copy.own ORDER BY id'), "1|abc|mine\n3|d|mine",
		'own: kept, and what is too long is not cut');
	is(answer($node, q(SELECT key, message ~ 'too long' FROM ordflow.sync_dead_letters)), '2|t',
		'own: but a dead letter');
	answer($node, q(SELECT ordflow.drop_sync('own')));
	return;
}

# One transaction there, however many batches it takes.
sub large_transaction
{
	mirror('whole', 'id int PRIMARY KEY, v int', undef, '"batch_rows": 100');
	far('CREATE TABLE copy.seen (xid bigint, n int); GRANT ALL ON copy.seen TO shop;
		CREATE FUNCTION copy.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO copy.seen VALUES (pg_current_xact_id()::text::bigint, 1); RETURN NULL; END $$;
		CREATE TRIGGER see AFTER INSERT ON copy.whole EXECUTE FUNCTION copy.see()');
	answer($node, 'INSERT INTO shop.whole SELECT i, i FROM generate_series(1, 2500) AS i');
	same('whole', 'a transaction of 25 batches');
	is(far('SELECT count(*), count(DISTINCT xid) FROM copy.seen'), '25|1', 'whole: is one there');
	far('ALTER TABLE copy.whole ADD CHECK (v <> -1700)');
	answer($node, 'UPDATE shop.whole SET v = -id');
	settled('whole', 'one row is refused');
	is(far('SELECT count(*), sum(v), max(v) FROM copy.whole'),
		(join '|', 2500, -2500 * 2501 / 2 + 3400, 1700), 'whole: all the others are there');
	far('ALTER TABLE copy.whole DROP CONSTRAINT whole_v_check');
	answer($node, q(SELECT ordflow.replay_dead_letters('whole')));
	becomes($node, q(SELECT count(*) FROM ordflow.sync_dead_letters), 0, 'whole: sent again');
	same('whole', 'replayed');
	return;
}

# What is there before, by COPY; again over what is there by then.
sub copied
{
	answer($node, q(CREATE TABLE shop.old (id int PRIMARY KEY, v text, w numeric[]);
		INSERT INTO shop.old SELECT i, E'a\\tb\\\\' || i, ARRAY[i, NULL]
			FROM generate_series(1, 25000) AS i;
		DELETE FROM shop.old WHERE id % 5 = 0));
	far('SET ROLE shop; CREATE TABLE copy.old (id int PRIMARY KEY, v text, w numeric[])');
	answer($node, q(SELECT ordflow.create_sync('old', 'shop.old', 'far', 'copy.old')));
	answer($node, 'UPDATE shop.old SET v = $$changed$$ WHERE id BETWEEN 4000 AND 4999;
		DELETE FROM shop.old WHERE id BETWEEN 8000 AND 8999');
	becomes($node, status('old', 'state'), 'streaming', 'old: the copy ends');
	same('old', 'copied');
	like(slurp_file($target->logfile), qr/statement: COPY copy\.old/, 'old: by COPY');
	far('UPDATE copy.old SET v = NULL WHERE id % 3 = 0; DELETE FROM copy.old WHERE id % 7 = 0');
	answer($node, q(SELECT ordflow.resync('old')));
	becomes($node, status('old', 'state'), 'streaming', 'old: once more');
	same('old', 'copied again');
	return;
}

# What the target looks like is read anew when it does not fit any more.
sub altered
{
	mirror('item', 'id int PRIMARY KEY, a text, b int');
	answer($node, q(INSERT INTO shop.item VALUES (1, 'a', 1)));
	same('item', 'before');
	far('ALTER TABLE copy.item ALTER b TYPE numeric; ALTER TABLE copy.item ADD c text');
	answer($node, q(ALTER TABLE shop.item ALTER b TYPE numeric; ALTER TABLE shop.item ADD c text;
		INSERT INTO shop.item VALUES (2, 'b', 1.5, 'c')));
	same('item', 'a type, a column');
	far('ALTER TABLE copy.item RENAME TO item_old; CREATE TABLE copy.item (LIKE copy.item_old
		INCLUDING ALL); INSERT INTO copy.item TABLE copy.item_old; GRANT ALL ON copy.item TO shop');
	answer($node, q(INSERT INTO shop.item VALUES (3)));
	same('item', 'another table of its name');
	return;
}

sub poisoned
{
	mirror('poison', 'id int PRIMARY KEY, v int', 'id int PRIMARY KEY, v int CHECK (v < 100)');
	answer($node, 'INSERT INTO shop.poison SELECT i, i + 60 FROM generate_series(1, 40) AS i');
	settled('poison', 'a row is refused');
	is(far('SELECT count(*), max(v) FROM copy.poison'), '39|99', 'poison: the others are there');
	is(answer($node, q(SELECT state, key, message ~ 'check constraint'
		FROM ordflow.sync_dead_letters)), 'dead|40|t', 'poison: the one is a dead letter');
	answer($node, 'UPDATE shop.poison SET v = v + 1 WHERE id = 40; DELETE FROM shop.poison
		WHERE id = 1');
	settled('poison', 'later');
	far('ALTER TABLE copy.poison DROP CONSTRAINT poison_v_check');
	is(answer($node, q(SELECT ordflow.replay_dead_letters('poison'))), 2, 'poison: sent again');
	becomes($node, q(SELECT count(*) FROM ordflow.sync_dead_letters), 0, 'poison: and gone');
	same('poison', 'replayed');
	return;
}

sub misconfigured
{
	far('REVOKE UPDATE ON copy.poison FROM shop; ALTER TABLE copy.poison OWNER TO postgres;
		GRANT SELECT, INSERT, DELETE ON copy.poison TO shop');
	answer($node, 'UPDATE shop.poison SET v = 0 WHERE id = 2');
	becomes($node, status('poison', "state, problem ~ 'permission denied'"), 'misconfigured|t',
		'a privilege that is missing');
	far('GRANT UPDATE ON copy.poison TO shop');
	same('poison', 'granted');
	far('ALTER TABLE copy.poison RENAME TO elsewhere');
	answer($node, 'UPDATE shop.poison SET v = 1 WHERE id = 2');
	becomes($node, status('poison', "state, problem ~ 'no table'"), 'misconfigured|t',
		'a table that is missing');
	far('ALTER TABLE copy.elsewhere RENAME TO poison');
	same('poison', 'it is back');
	far('ALTER TABLE copy.poison DROP CONSTRAINT poison_pkey');
	answer($node, 'UPDATE shop.poison SET v = 2 WHERE id = 2');
	becomes($node, status('poison', "state, problem ~ 'key'"), 'misconfigured|t',
		'a key that is missing');
	far('ALTER TABLE copy.poison ADD PRIMARY KEY (id)');
	same('poison', 'it has a key');
	return;
}

sub passwords
{
	answer($node, q(ALTER USER MAPPING FOR CURRENT_USER SERVER far
		OPTIONS (SET password 'marlin')));
	answer($node, 'UPDATE shop.poison SET v = 3 WHERE id = 2');
	becomes($node, status('poison', "state, problem ~ 'password'"), 'misconfigured|t',
		'a wrong password');
	like(answer($node, q(SELECT problem FROM ordflow.check_sync('poison'))), qr/password/,
		'check_sync() finds it');
	answer($node, q(ALTER USER MAPPING FOR CURRENT_USER SERVER far
		OPTIONS (SET password 'swordfish')));
	same('poison', 'the right one');
	is(answer($node, q(SELECT problem FROM ordflow.check_sync('poison'))), '', 'check_sync()');
	answer($node, q(CREATE ROLE clerk; SELECT ordflow.grant_access('clerk', 'sync')));
	raises($node, "SET ROLE clerk; CREATE SERVER mine FOREIGN DATA WRAPPER ordflow_postgres
		OPTIONS (password_required 'off')", '42501', 'superusers alone lend what the server is');
	answer($node, q(SET ROLE clerk; CREATE SERVER mine FOREIGN DATA WRAPPER ordflow_postgres));
	raises($node, q(SET ROLE clerk; ALTER SERVER mine OPTIONS (ADD password_required 'false')),
		'42501', 'nor may they do so later');
	answer($node, q(ALTER SERVER mine OPTIONS (ADD password_required 'off')));
	raises($node, q(SET ROLE clerk; SELECT ordflow.server_options('mine')), '42501',
		'the owner is asked again');
	raises($node, q(ALTER SERVER far OPTIONS (ADD sslmode 'maybe')), '22023', 'sslmode');
	answer($node, q(ALTER SERVER far OPTIONS (ADD sslmode 'disable')));
	return;
}

# Of emit(): a topic is a table with the columns key and payload.
sub messages
{
	far('SET ROLE shop; CREATE TABLE copy.paid (n serial, key text, payload jsonb)');
	answer($node, "BEGIN; SELECT ordflow.emit('far', 'copy.paid', '42', '{\"id\": 42}');
		SELECT ordflow.emit('far', 'copy.paid', NULL, '[]'); COMMIT;
		BEGIN; SELECT ordflow.emit('far', 'copy.paid', '43', '{}'); ROLLBACK;
		SELECT ordflow.emit('far', 'copy.paid', '42', 'null')");
	becomes($target, 'SELECT n, key, payload FROM copy.paid ORDER BY n',
		qq(1|42|{"id": 42}\n2||[]\n3|42|null), 'messages are rows of the table of their topic');
	return;
}

sub target_down
{
	mirror('down', 'id int PRIMARY KEY, v int');
	answer($node, 'INSERT INTO shop.down SELECT i, i FROM generate_series(1, 100) AS i');
	settled('down', 'before');
	$target->stop('immediate');
	my $begun = time;
	answer($node, 'UPDATE shop.down SET v = v + 1; DELETE FROM shop.down WHERE id = 7');
	cmp_ok(time - $begun, '<', 5, 'nobody waits for a target that is down');
	becomes($node, status('down', 'state'), 'retrying', 'down: the status says so');
	$target->start;
	same('down', 'it is back');
	becomes($node, status('down', 'state, problem'), 'streaming|', 'down: and is well');
	return;
}

# Deliveries are killed, and the target is, while clients write.
sub under_load
{
	mirror('busy', 'id int PRIMARY KEY, v int, w text');
	mirror('log', 'id bigserial PRIMARY KEY, v int', 'id bigint PRIMARY KEY, v int');
	far('CREATE TABLE copy.count (n bigint); INSERT INTO copy.count VALUES (0);
		CREATE FUNCTION copy.count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
		UPDATE copy.count SET n = n + (SELECT count(*) FROM new); RETURN NULL; END $$;
		CREATE TRIGGER count AFTER INSERT ON copy.log REFERENCING NEW TABLE AS new
			FOR EACH STATEMENT EXECUTE FUNCTION copy.count()');
	my $script = PostgreSQL::Test::Utils::tempdir() . '/load.sql';
	PostgreSQL::Test::Utils::append_to_file($script, <<'SQL');
\set id random(1, 300)
\set other random(1, 300)
BEGIN;
INSERT INTO shop.log (v) SELECT :id FROM generate_series(1, :other % 20);
INSERT INTO shop.busy VALUES (:id, 0, 'x') ON CONFLICT (id) DO UPDATE SET v = busy.v + 1;
UPDATE shop.busy SET id = :id + 1000, v = v + 1 WHERE id = :other AND NOT EXISTS
	(SELECT FROM shop.busy WHERE id = :id + 1000);
DELETE FROM shop.busy WHERE id = 1000 + :other;
UPDATE shop.busy SET w = md5(w), v = v + 1 WHERE id BETWEEN :other AND :other + 20;
COMMIT;
SQL
	my ($load, $kills, $until) = (undef, 0, time + 25);
	while (time < $until)
	{
		my $next = time + 0.3 + rand 1.5;
		while (time < $next)
		{
			$load = feed($load, $script);
			usleep(50_000);
		}
		$kills += kill_something();
	}
	$load->kill_kill;
	cmp_ok($kills, '>', 3, 'deliveries and the target are killed');
	cmp_ok(answer($node, 'SELECT count(*) FROM shop.log'), '>', 5000, 'while there is a load');
	answer($node, 'UPDATE shop.busy SET v = v + 1');
	same('busy', 'killed under load');
	same('log', 'killed under load');
	is(far('SELECT n FROM copy.count'), answer($node, 'SELECT count(*) FROM shop.log'),
		'each row was inserted once');
	is(answer($node, 'SELECT count(*) FROM ordflow.sync_dead_letters'), 0, 'no dead letter');
	return;
}

# A client that has ended, or lost the server, begins again.
sub feed
{
	my ($load, $script) = @_;
	eval { $load->pump_nb } if $load && $load->pumpable;
	return $load if $load && $load->pumpable;
	eval { $load->finish } if $load;
	return IPC::Run::start([ qw(pgbench -n -c 1 -T 60 -f), $script, '-d',
			$node->connstr('postgres') ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

sub kill_something
{
	if (rand() < 0.3)
	{
		$target->stop('immediate');
		usleep(rand 500_000);
		$target->start;
		return 1;
	}
	my $pids = answer($node, q(SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'ordflow delivery'));
	my $killed = kill rand() < 0.6 ? 'KILL' : 'TERM', split /\n/, $pids;
	for (1 .. 200)
	{
		my ($status) = eval { $node->psql('postgres', 'SELECT 1', timeout => 20) };
		last if defined $status && $status == 0;
		usleep(100_000);
	}
	return $killed > 0;
}

sub dropped
{
	my $ours = q(SELECT count(*) FROM public.ordflow_sync_positions);
	server_at('last', 'shop', 'swordfish');
	mirror('last', 'id int PRIMARY KEY', undef, undef, 'last');
	my $before = far($ours);
	answer($node, 'INSERT INTO shop.last VALUES (1)');
	same('last', 'before it is dropped');
	is(far($ours), $before + 1, 'a row there is that of the delivery');
	answer($node, q(SELECT ordflow.drop_sync('last')));
	becomes($target, $ours, $before, 'drop_sync leaves none');
	return is(far('SELECT count(*) FROM copy.last'), 1, 'what was delivered stays');
}
