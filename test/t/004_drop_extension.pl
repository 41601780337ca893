# DROP EXTENSION leaves nothing behind, and CREATE EXTENSION works again without a restart: in the
# session that dropped it and in another that was open all the time, both with kept plans, compiled
# machines and remembered limits of the extension that is gone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Test::More;

my $node = server('main');
answer($node, <<'SQL');
	CREATE TABLE jobs (id int PRIMARY KEY, state text, due timestamptz);
	CREATE FUNCTION catalogs() RETURNS TABLE (name text, n bigint) LANGUAGE plpgsql AS $$
	BEGIN
		FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
			AND relkind = 'r' AND relname !~ 'statistic' ORDER BY relname
		LOOP
			EXECUTE format('SELECT count(*) FROM pg_catalog.%I', name) INTO n;
			RETURN NEXT;
		END LOOP;
	END $$;
SQL
my $before = answer($node, 'SELECT * FROM catalogs()');

my @sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
my ($first, $other) = @sessions;
$_->query('SET client_min_messages = warning; \set VERBOSITY sqlstate') for @sessions;

$first->query('CREATE EXTENSION ordflow');
$first->query(q(SELECT ordflow.receive_stock('rug', 100), ordflow.set_purchase_limit('rug', 1)));
attach($first, '{"new": "initial", "done": "final"}', 'new', 'done');
is(submit($first, 'ann'), 1, 'the first order');
is(submit($other, 'bob'), 2, 'the next one, of another session');
is(submit($_, 'ann'), 'OF006', 'the limit is known') for @sessions;
is(act($first, "SELECT ordflow.pay_order(1, 'bank', 't', 5)"), 'applied', 'paid');
is(act($other, "SELECT ordflow.pay_order(1, 'bank', 't', 5)"), 'duplicate', 'and paid again');
works($_, 'done', 'before') for @sessions;

is(act($first, 'DROP EXTENSION ordflow'), '2BP01', 'attached tables hold it: DROP needs CASCADE');
like(submit($other, 'cid'), qr/^\d+$/, 'nothing was dropped');
is(act($first, 'DROP EXTENSION ordflow CASCADE'), '', 'with CASCADE it goes');
is(act($_, 'SELECT * FROM ordflow.orders'), '42P01', 'no table is left') for @sessions;
is(submit($_, 'ann'), '3F000', 'no function is left') for @sessions;
is(act($_, "UPDATE jobs SET state = 'nonsense'"), '', 'the attached table is an ordinary one again')
  for @sessions;
is(answer($node, 'SELECT * FROM catalogs()'), $before, 'no catalog has a row more than before');

# again: the limit is gone, the machine of that name is another
is(act($first, 'CREATE EXTENSION ordflow'), '', 'it is created again, in that session');
$first->query(q(DELETE FROM jobs; SELECT ordflow.receive_stock('rug', 100)));
attach($first, '{"new": "initial", "gone": "final"}', 'new', 'gone');
is(submit($_, 'ann'), $_ == $first ? 1 : 2, 'ids start anew, and no limit is remembered')
  for @sessions;
works($_, 'gone', 'again') for @sessions;
is(act($_, "UPDATE jobs SET state = 'done' WHERE state = 'new'"), 'OF001',
	'again: the old machine is forgotten')
  for @sessions;
audits_clean($node, 'again');

# once more inside one transaction, in the sessions that know it
is(act($first, 'BEGIN; DROP EXTENSION ordflow CASCADE; CREATE EXTENSION ordflow; ROLLBACK'), '',
	'dropped and created in a transaction that is rolled back');
is(submit($other, 'dan'), 3, 'as if nothing had happened');
is(act($first, 'BEGIN; DROP EXTENSION ordflow CASCADE; CREATE EXTENSION ordflow; COMMIT'), '',
	'dropped and created in one transaction');
$first->query(q(SELECT ordflow.receive_stock('rug', 100)));
is(submit($_, 'ann'), $_ == $first ? 1 : 2, 'sold by both') for @sessions;
my $third = $node->background_psql('postgres', on_error_stop => 0);
$third->query('\set VERBOSITY sqlstate');
is(submit($third, 'eve'), 3, 'and by one who has never known a limit');
$first->query(q(SELECT ordflow.set_purchase_limit('rug', 1)));
is(submit($third, 'bob'), 4, 'a limit that another session sets allows one');
is(submit($third, 'bob'), 'OF006', 'and no more');
is(act($first, 'DROP EXTENSION ordflow'), '', 'with no table attached it goes without CASCADE');
is(answer($node, 'SELECT * FROM catalogs()'), $before, 'and again leaves nothing');
$_->quit for @sessions, $third;

# What the statement answers, or the SQLSTATE that it raises.
sub act
{
	my ($session, $sql) = @_;
	my $out = $session->query("$sql;");
	my ($state) = $session->{stderr} =~ /ERROR:  (\w{5})/;
	$session->{stderr} = '';
	return $state // $out;
}

sub submit
{
	my ($session, $customer) = @_;
	return act($session, "SELECT ordflow.submit_order('$customer',
		'[{\"sku\": \"rug\", \"quantity\": 1, \"unit_price\": 5}]')");
}

# Puts a machine of two states on the table.
sub attach
{
	my ($session, $states, $from, $to) = @_;
	$session->query(qq(SELECT ordflow.define_machine('job', '{"states": $states, "transitions":
		[{"from": "$from", "event": "finish", "to": "$to", "after": "1 hour"}]}');
		SELECT ordflow.attach('jobs', 'job', 'state', due_column => 'due');
		INSERT INTO jobs SELECT i, '$from' FROM generate_series(1, 9) AS i;));
	return;
}

sub works
{
	my ($session, $to, $when) = @_;
	is(act($session, "SELECT ordflow.fire('jobs', min(id)::text, 'finish') FROM jobs
		WHERE state = 'new'"), $to, "$when: fire() knows the machine");
	is(act($session, "UPDATE jobs SET state = '$to' WHERE id = (SELECT min(id) FROM jobs
		WHERE state = 'new')"), '', "$when: so does UPDATE");
	is(act($session, "UPDATE jobs SET state = 'nonsense' WHERE state = 'new'"), 'OF001',
		"$when: and refuses what is not legal");
	return;
}

done_testing();
