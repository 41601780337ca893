# The real day of test/replay, by several clients, a step a transaction, while the worker cancels
# what is never paid; the server is killed with SIGKILL again and again. After each restart all that
# was acknowledged is there and audit() is empty; the clients look what is there and go on. In the
# end the day is what it would have been, by every figure of test/replay/verify.sql.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use Timers;

use constant KILLS => $ENV{KILLS} // 10;
use constant CLIENTS => 4;

# The function of replay for each step, and where the step is still to be done, as the tables tell.
my %step = (
	submit => [ 'submit', 'i.order_id IS NULL' ],
	again => [ 'submit_again', 'i.second_id IS NULL' ],
	pay => [ 'pay', "o.state = 'pending_payment'" ],
	cancel => [ 'call_off', "o.state = 'pending_shipment'" ],
	ship => [ 'ship', "o.state = 'pending_shipment'" ],
	confirm => [ 'confirm', "o.state = 'pending_receipt'" ],
	refund => [ 'refund', '(SELECT refund_id IS NULL FROM replay.refund r WHERE r.seq = %d)' ]);

my $replay = "$FindBin::Bin/../replay";
my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = server('main', "shared_buffers = '32MB'", 'max_connections = 20');
my ($file, $lines) = read_day();
my $steps = answer($node, 'SELECT count(*) FROM todo', 'shop');
note "$file: $lines lines, $steps steps";

# each kill when its share of the steps has been acknowledged, the last one before the end
for my $kill (1 .. KILLS)
{
	my @clients = map { client("$kill.$_", $_) } 0 .. CLIENTS - 1;
	my $wanted = $steps * $kill / (KILLS + 1);
	my $until = time + 60;
	while (acknowledged() < $wanted)
	{
		die 'the clients do nothing' if time > $until;
		usleep(500);
	}
	crash($node, @clients);
	note 'acknowledged: ', acknowledged();
	$node->start;
	compare("kill $kill");
}
finish();
verify();

sub psql
{
	my ($name, @arguments) = @_;
	$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'shop', @arguments ], $name);
	return;
}

# The day as test/replay reads it, with its plan, and a list of its steps.
sub read_day
{
	my $functions = ". '$replay/../common'; . '$replay/functions'";
	my $path = run_bash("$functions; replay_input '$dir/generated.csv'");
	my $encoding = run_bash("$functions; replay_encoding '$path'");
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	answer($node, q(CREATE EXTENSION ordflow;
		ALTER DATABASE shop SET ordflow.currency = 'GBP';
		ALTER DATABASE shop SET ordflow.actor = 'replay'), 'shop');
	$node->command_ok(
		[ 'bash', '-c', 'psql -Xq -d shop -v encoding="$1" -f "$2/load.sql" <"$3"', 'load',
			$encoding, $replay, $path ], 'the day is read');
	psql('and planned', '-f', "$replay/plan.sql", '-f', "$replay/steps.sql");
	prepare();
	return ($path, run_bash("$functions; replay_lines '$path'"));
}

sub run_bash
{
	my ($script) = @_;
	IPC::Run::run([ 'bash', '-euc', $script ], '>', \my $out) or die "failed: $script";
	return $out =~ s/\n\z//r;
}

# Who never pays has moments for it here, so that the workers are at work all the time. todo has
# each step with the event that it leaves in the order's history.
sub prepare
{
	answer($node, <<'SQL', 'shop');
		SELECT ordflow.create_coupon('WINTER10', 'percent', 10, '{"max_discount": 50}');
		SELECT ordflow.create_coupon('FIVEOFF', 'fixed', 5, '{"min_total": 30}');
		SELECT replay.receive(1, 1);
		UPDATE replay.invoice SET request = request || '{"pay_within": "100 ms"}'
		WHERE fate = 'never paid';

		CREATE TABLE todo AS
		SELECT row_number() OVER (ORDER BY seq, place, number) AS step, * FROM (
			SELECT seq, place, verb, seq AS number FROM replay.invoice,
				(VALUES (1, 'submit'), (3, 'pay'), (4, 'cancel'), (5, 'ship'), (6, 'confirm'))
					AS v (place, verb)
			WHERE CASE verb WHEN 'submit' THEN true
				WHEN 'pay' THEN fate NOT IN ('never paid', 'open')
				WHEN 'cancel' THEN fate = 'called off'
				WHEN 'ship' THEN fate IN ('confirmed', 'on its way')
				WHEN 'confirm' THEN fate = 'confirmed' END
			UNION ALL
			SELECT seq, 2, 'again', seq FROM replay.invoice WHERE twice
			UNION ALL
			SELECT i.seq, 7, 'refund', r.seq FROM replay.refund r JOIN replay.invoice i
				ON i.invoice = r.sale) AS s;
		CREATE TABLE acknowledged (kill text, client text, seq bigint, verb text, number bigint);
SQL
	return;
}

# A step, of an invoice; it is printed when it is through. It takes its time, so that every kill
# meets with open transactions.
sub step
{
	my ($seq, $verb, $number) = @_;
	my ($function, $condition) = @{ $step{$verb} };
	$condition = sprintf $condition, $number;
	return "SELECT $seq, '$verb', $number, replay.$function($number, $number),
			pg_sleep(0.02)
		FROM replay.invoice AS i LEFT JOIN ordflow.orders AS o USING (order_id)
		WHERE i.seq = $seq AND $condition;\n";
}

# A client goes through its share of the invoices, always from the beginning.
sub client
{
	my ($name, $number) = @_;
	my $todo = answer($node, "SELECT seq, verb, number FROM todo
		WHERE seq % @{[CLIENTS]} = $number ORDER BY step", 'shop');
	my $script = join '', map { step(split /\|/) } split /\n/, $todo;
	PostgreSQL::Test::Utils::append_to_file("$dir/$name.sql", $script);
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr('shop'), '-f', "$dir/$name.sql" ],
		'>', "$dir/$name.out", '2>', "$dir/$name.err");
}

# How many steps, of all rounds.
sub acknowledged
{
	my $n = 0;
	for my $file (glob "$dir/*.out")
	{
		open my $handle, '<', $file or next;
		$n += () = <$handle>;
	}
	return $n;
}

# What was acknowledged is there: an order with its number, or the event in its history, as often as
# it was acknowledged.
sub compare
{
	my ($name) = @_;
	my $notes = '';
	for my $out (glob "$dir/*.out")
	{
		my ($kill, $client) = $out =~ /(\d+)\.(\d+)\.out$/;
		$notes .= join '', map { "$kill|$client|$_" } grep { s/^(\d+\|\w+\|\d+)\|.*/$1/ }
		  split /^/, PostgreSQL::Test::Utils::slurp_file($out);
	}
	answer($node, 'TRUNCATE acknowledged', 'shop');
	answer($node, "COPY acknowledged FROM STDIN (DELIMITER '|');\n$notes\\.\n", 'shop');
	is(answer($node, 'SELECT count(*) FROM acknowledged', 'shop'), acknowledged(),
		"$name: what was acknowledged is known");
	is( answer(
			$node, <<'SQL', 'shop'), '', "$name: every acknowledged step is there, once");
		SELECT a.*, i.invoice, i.order_id FROM acknowledged AS a
		JOIN replay.invoice AS i USING (seq) LEFT JOIN ordflow.orders AS o USING (order_id)
		WHERE o.order_no IS DISTINCT FROM i.invoice
			OR verb = 'again' AND i.second_id IS DISTINCT FROM i.order_id
			OR verb <> 'again' AND NOT EXISTS (SELECT FROM ordflow.order_history AS h
				WHERE h.order_id = i.order_id AND h.event = verb)
		UNION ALL
		SELECT max(kill), max(client), seq, verb, number, 'twice', NULL
		FROM acknowledged GROUP BY seq, verb, number HAVING count(*) > 1
SQL
	audits_clean($node, $name, 'shop');
	return;
}

# No more kills: what is left of the day.
sub finish
{
	my @clients = map { client('0.' . $_, $_) } 0 .. CLIENTS - 1;
	$_->finish for @clients;
	compare('the rest of the day');
	answer($node, 'SELECT replay.receive_returns(1, 1), replay.adjust(1, 1)', 'shop');
	becomes($node, q(SELECT count(*) FROM replay.invoice JOIN ordflow.orders USING (order_id)
		WHERE fate = 'never paid' AND state = 'pending_payment'), 0,
		'what was never paid is cancelled', 'shop');
	is( answer(
			$node, q(SELECT DISTINCT count(*), h.actor, h.reason, min(h.at) >= min(o.expires_at)
				FROM ordflow.order_history h JOIN ordflow.orders o USING (order_id)
				WHERE h.event = 'expire' GROUP BY o.order_id, h.actor, h.reason), 'shop'),
		'1|ordflow coordinator|timeout|t', 'by the workers, once, not early');

	my @errors = grep { /ERROR/ }
	  map { split /\n/, PostgreSQL::Test::Utils::slurp_file($_) } glob "$dir/*.err";
	is("@errors", '', 'no client has seen an error but the loss of its connection');
	return;
}

sub verify
{
	IPC::Run::run([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-v', "lines=$lines",
			'-d', $node->connstr('shop'), '-f', "$replay/verify.sql" ], '>', \my $tap)
	  or die 'verify.sql failed';
	my @wrong = $tap =~ /^(not ok .*(?:\n#.*)*)/mg;
	my $right = () = $tap =~ /^ok /mg;
	cmp_ok($right, '>', 1000, "the day is as it should be: $right comparisons");
	is(join("\n", @wrong), '', 'none of them fails');
	return;
}

done_testing();
