# test/t/lib/Redis.pm: a real Redis server of a test's own on the loopback interface, ended by its
# pid. Nothing of it is kept on disk: started again it is empty.
package Redis;

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

use constant PATIENCE => 30;	# seconds, to start and to end

my @started;

# Is there a server to start?
sub installed
{
	return grep { -x "$_/redis-server" } split /:/, $ENV{PATH};
}

# A server that runs, with options of its command line, as '--requirepass', 'secret'.
sub new
{
	my ($class, @options) = @_;
	my $self = bless { port => PostgreSQL::Test::Cluster::get_free_port(),
		dir => PostgreSQL::Test::Utils::tempdir(), options => [@options] }, $class;
	push @started, $self;
	$self->start;
	return $self;
}

sub port { return $_[0]->{port}; }

# Starts it with the options of before, or with others.
sub start
{
	my ($self, @options) = @_;
	$self->{options} = [@options] if @options;
	$self->{log} = "$self->{dir}/log";
	my @command = ('redis-server', '--port', $self->{port}, '--bind', '127.0.0.1',
		'--save', '', '--appendonly', 'no', '--dir', $self->{dir}, @{ $self->{options} });
	$self->{run} = IPC::Run::start(\@command, '<', '/dev/null', '>', $self->{log}, '2>&1');
	my $until = time + PATIENCE;
	while ($self->ask('INFO', 'server') !~ /^process_id:$self->{run}{KIDS}[0]{PID}\r?$/m)
	{
		last if $self->ask('PING') =~ /^(?:NOAUTH|NOPERM)/;
		die 'redis-server does not start: ' . PostgreSQL::Test::Utils::slurp_file($self->{log})
		  if time > $until || !$self->{run}->pumpable;
		usleep(20_000);
	}
	return;
}

# What redis-cli prints.
sub ask
{
	my ($self, @words) = @_;
	my $out = '';
	IPC::Run::run([ 'redis-cli', '-h', '127.0.0.1', '-p', $self->{port}, @words ],
		'<', '/dev/null', '>', \$out, '2>&1', IPC::Run::timeout(PATIENCE));
	chomp $out;
	return $out;
}

# The keys of a database that match a pattern.
sub keys_like
{
	my ($self, $pattern, $database) = @_;
	return sort split /\n/, $self->ask('-n', $database // 0, '--scan', '--pattern', $pattern);
}

sub stop { return $_[0]->end('TERM'); }
sub crash { return $_[0]->end('KILL'); }

sub end
{
	my ($self, $signal) = @_;
	my $run = delete $self->{run} or return;
	$run->signal($signal);
	eval { $run->finish };
	return;
}

END
{
	my $status = $?;
	$_->crash for @started;
	$? = $status;
}

1;
