# pg_cron as the driver of timeouts: schedule_run_due() and unschedule_run_due() with a real one. No
# worker of ours runs here. Where pg_cron lives in another database, the error has the statement to
# run there; DROP EXTENSION leaves nothing of ours in it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
my $dir = $node->config_data('--sharedir');
plan skip_all => 'the extension pg_cron is not installed for this server'
  unless -e "$dir/extension/pg_cron.control";
$node->init;
configure($node, "shared_preload_libraries = 'ordflow, pg_cron'", 'ordflow.workers = off',
	"cron.database_name = 'postgres'", sprintf("cron.host = '%s'", $node->host),
	'cron.log_run = on');
$node->start;

my $jobs = 'SELECT jobname, schedule, username, database, active FROM cron.job ORDER BY 1, 3';

answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 5000)));
not_here();
answer($node, 'CREATE EXTENSION pg_cron');
jobs_of_the_caller();
cancels();
drops();
elsewhere();
done_testing();

# What the error offers works: it is run as it stands.
sub hint
{
	my ($sql, $db) = @_;
	my ($status, $out, $err) = $node->psql($db, $sql);
	return $err =~ /^HINT:  (.*)$/m ? $1 : '';
}

sub not_here
{
	raises($node, 'SELECT ordflow.schedule_run_due()', 'OF007', 'without pg_cron');
	raises($node, 'SELECT ordflow.unschedule_run_due()', 'OF007', 'without pg_cron, the way back');
	is(hint('SELECT ordflow.schedule_run_due()', 'postgres'), 'CREATE EXTENSION pg_cron;',
		'in its own database it only needs to be created');
	return;
}

sub jobs_of_the_caller
{
	my $line = 'ordflow run_due postgres|%s|%s|postgres|t';
	my $id = answer($node, 'SELECT ordflow.schedule_run_due()');
	like($id, qr/^\d+$/, 'the job has an id');
	is(answer($node, $jobs), sprintf($line, '* * * * *', 'postgres'), 'every minute');
	is(answer($node, q(SELECT ordflow.schedule_run_due('*/5 * * * *'))), $id, 'the same job');
	is(answer($node, $jobs), sprintf($line, '*/5 * * * *', 'postgres'), 'with the other schedule');
	raises($node, q(SELECT ordflow.schedule_run_due('whenever')), sqlstate($node,
			q(SELECT cron.schedule('x', 'whenever', 'SELECT 1'))), 'a bad schedule');
	raises($node, 'SELECT ordflow.schedule_run_due(NULL)', '22004', 'no schedule');
	is(answer($node, $jobs), sprintf($line, '*/5 * * * *', 'postgres'), 'and changes nothing');

	# another role has a job of its own, and needs the part admin and pg_cron's schema for it
	answer($node, 'CREATE ROLE clerk LOGIN');
	raises($node, 'SET ROLE clerk; SELECT ordflow.schedule_run_due()', '42501', 'without rights');
	answer($node, q(SELECT ordflow.grant_access('clerk', 'admin')));
	raises($node, 'SET ROLE clerk; SELECT ordflow.schedule_run_due()', '42501',
		'without the schema cron');
	answer($node, 'GRANT USAGE ON SCHEMA cron TO clerk');
	is(answer($node, 'SET ROLE clerk; SELECT ordflow.unschedule_run_due()'), 'f',
		'that of another is none of the role');
	answer($node, 'SET ROLE clerk; SELECT ordflow.schedule_run_due()');
	is(answer($node, $jobs), join("\n", sprintf($line, '* * * * *', 'clerk'),
			sprintf($line, '*/5 * * * *', 'postgres')), 'each has one');

	is(answer($node, 'SELECT ordflow.unschedule_run_due()'), 't', 'taken out');
	is(answer($node, $jobs), sprintf($line, '* * * * *', 'clerk'), 'and the other left');
	is(answer($node, 'SELECT ordflow.unschedule_run_due()'), 'f', 'there is none any more');
	return;
}

# The clerk's job cancels what is due at the next full minute, more than one turn of run_due().
sub cancels
{
	answer($node, q(SELECT count(*) FROM ordflow.submit_orders((SELECT jsonb_agg('{"customer": "c",
		"pay_within": "1 s", "lines": [{"sku": "lamp", "quantity": 1, "unit_price": 5}]}'::jsonb)
		FROM generate_series(1, 2500)))));
	my $until = time + 130;
	my $open = q(SELECT count(*) FROM ordflow.orders WHERE state = 'pending_payment');
	usleep(200_000) while answer($node, $open) ne '0' && time < $until;
	is(answer($node, $open), 0, 'every order is cancelled by pg_cron');
	becomes($node, q(SELECT DISTINCT status, return_message ~ 'DO' FROM cron.job_run_details
		WHERE status <> 'running' AND command ~ 'run_due'), 'succeeded|t', 'the job succeeded');
	is(answer($node, q(SELECT DISTINCT actor FROM ordflow.order_history
		WHERE to_state = 'cancelled')), 'clerk', 'as who scheduled it');
	is(answer($node, q(SELECT count(DISTINCT h.xmin::text) > 2 FROM ordflow.order_history h
		WHERE to_state = 'cancelled')), 't', 'in more than two transactions');
	is(answer($node, q(SELECT available FROM ordflow.stock_levels WHERE sku = 'lamp')), 5000,
		'and all is back in stock');
	audits_clean($node, 'cancelled by pg_cron');
	return;
}

# All jobs of ours in this database go with the extension, and nobody else's.
sub drops
{
	answer($node, q(SELECT ordflow.schedule_run_due()));
	answer($node, q(SELECT cron.schedule('mine', '* * * * *', 'SELECT 1')));
	answer($node, 'CREATE DATABASE other');
	answer($node, q(SELECT cron.schedule_in_database('ordflow run_due other', '* * * * *',
		'SELECT 1', 'other')));
	answer($node, 'BEGIN; DROP EXTENSION ordflow; ROLLBACK');
	is(answer($node, 'SELECT count(*) FROM cron.job'), 4, 'a DROP rolled back takes nothing');
	answer($node, 'DROP EXTENSION ordflow');
	is(answer($node, 'SELECT jobname FROM cron.job ORDER BY 1'), "mine\nordflow run_due other",
		'DROP EXTENSION takes the jobs of all roles, and no other');
	answer($node, 'CREATE EXTENSION ordflow; SELECT ordflow.schedule_run_due()');
	answer($node, 'DROP EXTENSION ordflow, pg_cron');
	is(answer($node, q(SELECT count(*) FROM pg_namespace WHERE nspname IN ('cron', 'ordflow'))), 0,
		'both at once');
	answer($node, 'CREATE EXTENSION pg_cron; CREATE EXTENSION ordflow');
	answer($node, 'SELECT ordflow.schedule_run_due(); DROP EXTENSION pg_cron, ordflow');
	answer($node, 'CREATE EXTENSION pg_cron');
	return;
}

# Databases without pg_cron: the hint is a statement to run in the one that has it.
sub elsewhere
{
	my $shop = q(it's "shop");
	answer($node, q(CREATE DATABASE "it's ""shop"""));
	answer($node, 'CREATE EXTENSION ordflow', $shop);
	raises($node, 'SELECT ordflow.schedule_run_due()', 'OF007', 'in another database', $shop);
	my $hint = hint(q(SELECT ordflow.schedule_run_due('5 * * * *')), $shop);
	ok($hint =~ s/^Where pg_cron lives, in database postgres: //, 'it says where');
	answer($node, $hint);
	is(answer($node, $jobs), "ordflow run_due $shop|5 * * * *|postgres|$shop|t", 'and what to do');
	my $command = answer($node, 'SELECT command FROM cron.job');
	is(answer($node, $command, $shop), '', 'the job itself is a statement that runs');
	return;
}
