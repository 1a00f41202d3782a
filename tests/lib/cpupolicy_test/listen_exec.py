# SPDX-License-Identifier: GPL-2.0-or-later
"""listen_exec.py FD,FD,... PROGRAM ARGUMENT...: runs it with these descriptors from 3 on, as a service
manager does. LISTEN_FDNAMES is the caller's."""

import fcntl
import os
import sys


def main():
    given = [int(fd) for fd in sys.argv[1].split(",") if fd]
    # Out of the way first: a target may be another one's source.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3 + len(given)) for fd in given]
    for place, fd in enumerate(moved):
        os.dup2(fd, 3 + place)
        os.close(fd)
    for fd in given:
        if fd >= 3 + len(given):
            os.close(fd)
    if given:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(given))
    os.execv(sys.argv[2], sys.argv[2:])


main()
