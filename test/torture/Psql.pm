# test/torture/Psql.pm: a session that may die at any moment: psql, asked one statement at a time.
package Psql;

use strict;
use warnings;
use IO::Select;
use POSIX ();
use Time::HiRes qw(time usleep);

use constant PATIENCE => 60;	# seconds, for one answer

# The session, or undef where the server lets nobody in.
sub new
{
	my ($class, $connstr, $name, $options) = @_;
	pipe my $from_us, my $to_psql or die "pipe: $!";
	pipe my $to_us, my $out or die "pipe: $!";
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<&', $from_us;
		open STDOUT, '>&', $out;
		open STDERR, '>&', $out;
		close $_ for $from_us, $to_psql, $to_us, $out;
		@ENV{qw(PGAPPNAME PGOPTIONS)} = ($name, $options);
		exec 'psql', '-XAt', '-v', 'VERBOSITY=verbose', '-d', $connstr or POSIX::_exit(1);
	}
	close $from_us;
	close $out;
	my $self = bless { pid => $pid, in => $to_psql, out => $to_us, buffer => '' }, $class;
	my $answer = $self->ask('SELECT pg_backend_pid()');
	return $self if !$answer->{lost} && !$answer->{state};
	$self->kill;
	return;
}

# Sends a statement; answered() waits for what becomes of it.
sub send
{
	my ($self, $sql) = @_;
	my $script = "$sql;\n\\echo \001" . ++$self->{asked} . "\n";
	syswrite $self->{in}, $script;
	return;
}

# A hash: lines (the rows, or the command's tag), state (the SQLSTATE of an error), message; lost
# when nobody knows what became of the statement.
sub answered
{
	my ($self) = @_;
	my $end = "\001$self->{asked}\n";
	my $select = IO::Select->new($self->{out});
	my $until = time + PATIENCE;
	my $lost = '';
	while ($self->{buffer} !~ /^\Q$end\E/m)
	{
		my $got = $select->can_read($until - time) ?
		  sysread($self->{out}, $self->{buffer}, 65536, length $self->{buffer}) : undef;
		$lost = 'no answer' unless defined $got;
		$lost = 'lost' if defined $got && $got == 0;
		last if $lost;
	}
	my ($text) = split /^\001/m, $self->{buffer};
	$self->{buffer} = '';
	my ($kind, $state, $message) = ($text // '') =~ /^(ERROR|FATAL|PANIC):  (\w{5}): (.*)/m;
	$lost ||= 'lost' if ($kind // '') =~ /FATAL|PANIC/;
	$self->kill if $lost;
	return {
		lost => $lost, state => $state, message => $message,
		lines => [ $lost || $state ? () : split /\n/, $text // '' ]
	};
}

sub ask
{
	my ($self, $sql) = @_;
	$self->send($sql);
	return $self->answered;
}

# The end of a client that has no time to say so.
sub kill
{
	my ($self) = @_;
	return unless $self->{pid};
	CORE::kill KILL => $self->{pid};
	$self->quit;
	return;
}

sub quit
{
	my ($self) = @_;
	close $self->{in};
	close $self->{out};
	waitpid $self->{pid}, 0 if $self->{pid};
	$self->{pid} = 0;
	return;
}

1;
