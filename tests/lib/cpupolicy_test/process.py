# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes that cannot outlive the test run."""

import ctypes
import os
import signal
import subprocess

from .wait import Expired, wait_for

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Process:
    """A program whose output goes to a file, ended by pid, killed by the kernel if the tests die."""

    def __init__(self, argv, log, pass_fds=(), env=None, stdin=subprocess.DEVNULL, cwd=None):
        self.argv = [str(a) for a in argv]
        self.log_path = str(log)
        self.log_offset = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as out:
            # pylint: disable=subprocess-popen-preexec-fn
            self.popen = subprocess.Popen(
                self.argv, stdin=stdin, stdout=out, stderr=out, pass_fds=pass_fds, env=env,
                cwd=cwd, preexec_fn=_die_with_parent)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def log(self):
        """What this process has written so far."""
        with open(self.log_path, "rb") as f:
            f.seek(self.log_offset)
            return f.read().decode("utf-8", "replace")

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def wait(self, deadline=30.0):
        """The exit status; negative is a signal."""
        try:
            return self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise Expired(f"{self.argv[0]} (pid {self.pid}) did not end in {deadline:g} s\n"
                          + self.log()[-4000:]) from None

    def kill(self):
        """SIGKILL, and gone when this returns. Harmless on one that has ended."""
        if self.alive():
            self.popen.kill()
        return self.popen.wait(30)

    def stop(self, deadline=15.0):
        """SIGTERM and, if that is not heeded, SIGKILL."""
        if self.alive():
            self.popen.terminate()
            try:
                return self.popen.wait(deadline)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait(30)

    def wait_log(self, text, deadline=60.0):
        """Until the process has written `text`; the process ending first is a failure."""
        def seen():
            if text in self.log():
                return True
            if not self.alive():
                raise AssertionError(f"{self.argv[0]} ended with {self.popen.returncode} before "
                                     f"it wrote {text!r}:\n{self.log()[-4000:]}")
            return False
        wait_for(seen, f"{self.argv[0]} writes {text!r}", deadline)

    def open_fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def grown_kib(self, before):
        """Growth of resident memory since rss_kib() said `before`. Under AddressSanitizer, which holds
        back what is freed, memory says nothing: there its leak check at the end does."""
        return 0 if os.environ.get("CPUPOLICY_SANITIZED") else self.rss_kib() - before

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        raise AssertionError("no VmRSS")
