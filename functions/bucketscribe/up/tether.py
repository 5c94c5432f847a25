"""Ties one child to its supervisor: when the supervisor is gone, however it died, so is the child.

    python -I -S tether.py GRACE_SECONDS COMMAND…

The supervisor starts this in a session of its own, with a pipe as standard input that is never written to:
the kernel closes it when the supervisor dies, on Linux and macOS alike. SIGTERM is passed on to the command.
A command still there after the grace, and whatever else lives in the process group, is killed. Ends with the
command's status, 128 + n if signal n ended it, 127 if it could not be started. Imports the standard library
only, and as little of it as will do: one of these runs for each child.
"""

import os
import select
import signal
import subprocess
import sys
import time

LIFELINE = 0
"""Standard input: it can be read only once the supervisor has gone."""


def main(arguments: list[str]) -> int:
    """Run the command and return its status. Does not return if it had to be killed."""
    grace, command = float(arguments[0]), arguments[1:]
    wake, signalled = os.pipe()
    for end in (wake, signalled):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(signalled)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the wake-up pipe tells

    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the supervisor's
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127

    watched = [LIFELINE, wake]
    deadline: float | None = None
    while child.poll() is None:
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        readable, _, _ = select.select(watched, [], [], patience)
        stop = False
        if LIFELINE in readable:
            watched.remove(LIFELINE)
            stop = True
        if wake in readable:
            stop = stop or any(number != signal.SIGCHLD for number in os.read(wake, 64))
        if stop and deadline is None:
            child.terminate()
            deadline = time.monotonic() + grace
        if deadline is not None and time.monotonic() >= deadline:
            _kill_group()

    if LIFELINE not in watched:
        _kill_group()  # nobody else is left to clear up what the command started
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _kill_group() -> None:
    if os.getpgrp() == os.getpid():  # else somebody started us by hand, and the group is theirs
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
