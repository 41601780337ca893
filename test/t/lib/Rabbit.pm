# test/t/lib/Rabbit.pm: a real RabbitMQ broker of a test's own, as an unprivileged user on the
# loopback interface, with a name, ports, files and a cookie of its own; ended by its pid, and the
# Erlang port mapper that it needs by that one's.
package Rabbit;

use strict;
use warnings;
use File::Path ();
use IPC::Run;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

use constant PATIENCE => 120;	# seconds, to start, to end and to answer rabbitmqctl

my @started;

# The directory of RabbitMQ's own scripts: those in the PATH may insist on a certain user. '' where
# there is no broker to start.
sub installed
{
	my @path = split /:/, $ENV{PATH};
	my ($dir) = grep { -x "$_/rabbitmq-server" }
	  glob('/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin'), @path;
	my ($epmd) = grep { -x "$_/epmd" } @path;
	return $dir && $epmd ? $dir : '';
}

# A broker that runs. It takes some 15 s.
sub new
{
	my ($class) = @_;
	my ($port, $dist, $epmd) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $self = bless { port => $port, dir => $dir }, $class;
	$self->{environment} = {
		HOME => $dir, RABBITMQ_NODENAME => "ordflow$port\@localhost",
		RABBITMQ_NODE_IP_ADDRESS => '127.0.0.1', RABBITMQ_NODE_PORT => $port,
		RABBITMQ_DIST_PORT => $dist, ERL_EPMD_PORT => $epmd, ERL_EPMD_ADDRESS => '127.0.0.1',
		RABBITMQ_MNESIA_BASE => "$dir/mnesia", RABBITMQ_LOG_BASE => "$dir/log",
		RABBITMQ_PID_FILE => "$dir/pid", RABBITMQ_CONF_ENV_FILE => '/dev/null',
		RABBITMQ_CONFIG_FILE => "$dir/rabbitmq", RABBITMQ_ENABLED_PLUGINS_FILE => "$dir/plugins",
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS => '+S 1:1 +sbwt none -start_epmd false' };
	PostgreSQL::Test::Utils::append_to_file("$dir/plugins", "[].\n");
	PostgreSQL::Test::Utils::append_to_file("$dir/.erlang.cookie", "ordflow$$" . time);
	chmod 0400, "$dir/.erlang.cookie";
	push @started, $self;
	$self->{epmd} = IPC::Run::start([ 'epmd', '-port', $epmd, '-address', '127.0.0.1' ],
		'<', '/dev/null', '>', "$dir/epmd.log", '2>&1');
	$self->start;
	return $self;
}

sub port { return $_[0]->{port}; }

# Starts it, with what it has kept on disk.
sub start
{
	my ($self) = @_;
	local @ENV{ keys %{ $self->{environment} } } = values %{ $self->{environment} };
	my $log = "$self->{dir}/out";
	unlink "$self->{dir}/pid";
	$self->{run} = IPC::Run::start([ installed() . '/rabbitmq-server' ],
		'<', '/dev/null', '>', $log, '2>&1');
	my $until = time + PATIENCE;
	until (IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}))
	{
		die 'rabbitmq-server does not start: ' . PostgreSQL::Test::Utils::slurp_file($log)
		  if time > $until;
		usleep(100_000);
	}
	return;
}

# What is kept on disk goes: started again it knows nothing, and none of our users.
sub forget
{
	my ($self) = @_;
	File::Path::remove_tree("$self->{dir}/mnesia");
	return;
}

# Runs rabbitmqctl with these words; what it prints.
sub control
{
	my ($self, @words) = @_;
	local @ENV{ keys %{ $self->{environment} } } = values %{ $self->{environment} };
	my $out = '';
	IPC::Run::run([ installed() . '/rabbitmqctl', '-q', @words ],
		'<', '/dev/null', '>', \$out, '2>&1', IPC::Run::timeout(PATIENCE));
	chomp $out;
	return $out;
}

# A user with a password and the permissions: to configure, to write, to read.
sub user
{
	my ($self, $name, $password, @permissions) = @_;
	$self->control('add_user', $name, $password);
	return $self->control('set_permissions', '-p', '/', $name, @permissions);
}

sub queues
{
	my ($self) = @_;
	return sort split /\n/, $self->control('list_queues', '--no-table-headers', 'name');
}

# The pid of the broker itself: what has been started is a script.
sub pid
{
	my ($self) = @_;
	return PostgreSQL::Test::Utils::slurp_file("$self->{dir}/pid") =~ /(\d+)/ ? $1 : die 'no pid';
}

sub stop { return $_[0]->end('TERM'); }
sub crash { return $_[0]->end('KILL'); }

sub end
{
	my ($self, $signal) = @_;
	my $run = delete $self->{run} or return;
	if (-s "$self->{dir}/pid") { kill $signal => $self->pid; }
	else { $run->signal($signal); }
	eval { $run->finish };
	return;
}

END
{
	my $status = $?;
	for my $broker (@started)
	{
		$broker->crash;
		next unless $broker->{epmd};
		$broker->{epmd}->signal('KILL');
		eval { $broker->{epmd}->finish };
	}
	$? = $status;
}

1;
