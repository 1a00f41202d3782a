# SPDX-License-Identifier: GPL-2.0-or-later
"""cpuctl top in a real terminal: what is on its screen, and what it costs to keep it there."""

import os
import pty
import re
import select
import shlex
import subprocess
import termios
import time

import pytest

from cpupolicy_test import paths
from cpupolicy_test.wait import never, wait_for

POLICY = {
    "host": {"capacity": {"cpus": 24}},
    "default_class": "bronze",
    "classes": {
        "gold": {"guaranteed": 4, "limit": 8, "priority": 50},
        "bronze": {"guaranteed": 2, "limit": 6,
                   "burst": {"cap_seconds": 3600, "initial_seconds": 300, "resume_seconds": 2}},
    },
    "tenants": {"acme": {"quota": 6}},
    "rules": [{"match": {"name": "acme-*"}, "tenant": "acme"},
              {"match": {"name": "db"}, "class": "gold"}],
}
FAILED = 1


class Tmux:
    """A terminal of our own with one program in it."""

    def __init__(self, directory, command, columns=80, rows=24, env=None):
        self.socket = str(directory / "tmux")
        self.env = dict(env or os.environ, LC_ALL="C.UTF-8", TERM="xterm-256color")
        self.env.pop("TMUX", None)
        # What the program leaves behind is to be seen as well.
        script = f"trap : INT; echo before; {shlex.join(str(c) for c in command)}; echo \"status $?\"; exec cat"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows, "sh", "-c", script)

    def tmux(self, *args):
        return subprocess.run(["tmux", "-S", self.socket, *[str(a) for a in args]], check=True,
                              stdout=subprocess.PIPE, text=True, env=self.env, timeout=60).stdout

    def screen(self):
        return self.tmux("capture-pane", "-p").split("\n")

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def type(self, text):
        self.tmux("send-keys", "-l", "--", text)

    def resize(self, columns, rows):
        self.tmux("resize-window", "-x", columns, "-y", rows)

    def wait(self, predicate, what):
        last = []

        def look():
            last[:] = self.screen()
            return predicate(last)
        try:
            wait_for(look, what, 30)
        except AssertionError as e:
            raise AssertionError(f"{e}; the screen:\n" + "\n".join(last)) from None
        return last

    def wait_text(self, text):
        return self.wait(lambda lines: any(text in line for line in lines), repr(text))

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], check=False,
                       stderr=subprocess.DEVNULL, env=self.env)


@pytest.fixture
def host(make_host):
    return make_host(policy=POLICY)


@pytest.fixture
def top(host, directory):
    terminals = []

    def start(*args, **more):
        terminal = Tmux(directory, [paths.cpuctl(), *host.cpuctl_bus(), "top", *args], **more)
        terminals.append(terminal)
        return terminal
    yield start
    for terminal in terminals:
        terminal.close()


def names(lines):
    """Of the VMs on the screen, from the top."""
    head = next((i for i, line in enumerate(lines) if line.startswith("NAME ")), len(lines))
    found = []
    for line in lines[head + 1:]:
        if not line.strip() or line.startswith("q quit") or line.startswith("enter:"):
            break
        found.append(line.split()[0])
    return found


def row(lines, vm):
    return next((line.split() for line in lines if line.startswith(vm + " ")), None)


def test_the_whole_screen(host, top):
    host.vmm("acme-web", possible=8, boot=2)
    host.vmm("db", possible=8, boot=4).online(1)
    host.vmm("caf\u00e9", possible=2, boot=2)
    lines = top().wait_text("caf\u00e9")
    version = host.bus.get("/org/cpupolicy1", "org.cpupolicy1.Manager", "Version")
    assert lines[:7] == [
        f"cpupolicyd {version}  3 VMs, 3 connected",
        "[############.........................] 24 vCPUs: 8 guaranteed, 0 burst, 16 free",
        "by name  1-3 of 3",
        "NAME             CLASS    STATE    DES TGT ENA ONL  CREDIT DENY/S WHY",
        "acme-web         bronze   running    2   2   2   1    300s      -",
        "caf\u00e9             bronze   running    2   2   2   1    300s      -",
        "db               gold     running    4   4   4   2       -      -",
    ]
    assert lines[7:23] == [""] * 16
    assert lines[23].startswith("q quit  h help")


def test_it_follows_what_happens(host, top):
    vmm = host.vmm("db", possible=8, boot=4)
    terminal = top("--interval", "0.1")
    terminal.wait_text("db ")
    host.resize("db", 8)
    terminal.wait(lambda lines: row(lines, "db")[3:6] == ["8", "8", "8"], "eight vCPUs")
    terminal.wait_text("4 burst, 16 free")
    vmm.online(3)
    terminal.wait(lambda lines: row(lines, "db")[6] == "2", "two online")
    host.cpuctl("drain")
    terminal.wait_text("DRAINED")
    lines = terminal.wait_text("4 overdue, 16 free")
    assert "!" in lines[1]
    terminal.wait(lambda lines: row(lines, "db")[-2:] == ["4", "overdue"], "who owes is shown")
    host.cpuctl("undrain")
    host.vmm("new", possible=4, boot=1)
    terminal.wait_text("new ")
    vmm.unregister()
    terminal.wait(lambda lines: row(lines, "db")[2] == "stopped", "the VM has ended")
    host.cpuctl("forget", "db")
    terminal.wait(lambda lines: names(lines) == ["new"], "it is forgotten")


def test_why_and_credit(host, top):
    host.vmm("acme-web", possible=8, boot=2)
    host.vmm("acme-db", possible=8, boot=2)
    host.resize("acme-web", 5)
    terminal = top("--interval", "0.1")
    terminal.wait(lambda lines: row(lines, "acme-web") and row(lines, "acme-web")[3:5] == ["5", "4"]
                  and row(lines, "acme-web")[-1] == "tenant-quota", "the quota is why")
    # two above the guarantee: it goes down without anything being told
    terminal.wait(lambda lines: int(row(lines, "acme-web")[7].rstrip("s")) < 298, "credit is spent")


def test_denied_calls_a_second(host, top):
    vmm = host.vmm("web", possible=8, boot=2)
    terminal = top("--interval", "0.2")
    terminal.wait_text("web ")

    def denies(lines):
        vmm.denied(5, count=10)
        return row(lines, "web")[8] not in ("-", "0.0")
    terminal.wait(denies, "a rate")
    terminal.wait(lambda lines: row(lines, "web")[8] == "-", "it has ended")


def test_sorting_and_filtering(host, top):
    for name, boot in (("acme-1", 1), ("acme-2", 2), ("db", 4)):
        host.vmm(name, possible=8, boot=boot)
    terminal = top()
    terminal.wait(lambda lines: names(lines) == ["acme-1", "acme-2", "db"], "by name")
    terminal.keys("r")
    terminal.wait(lambda lines: names(lines) == ["db", "acme-2", "acme-1"], "reversed")
    terminal.keys("r")
    terminal.keys("e")
    terminal.wait(lambda lines: names(lines) == ["db", "acme-2", "acme-1"], "by enabled")
    terminal.keys("Left")
    terminal.wait_text("by target")
    terminal.keys("/")
    terminal.type("acmeq")
    terminal.wait_text("filter: acmeq_")
    terminal.keys("BSpace", "Enter")
    terminal.wait(lambda lines: names(lines) == ["acme-2", "acme-1"], "filtered")
    terminal.keys("/")
    terminal.type("-1")
    terminal.wait(lambda lines: names(lines) == ["acme-1"], "filtered more")
    terminal.keys("Enter", "Escape", "n")
    terminal.wait(lambda lines: names(lines) == ["acme-1", "acme-2", "db"], "all again")
    terminal.keys("h")
    terminal.wait_text("sort by the column before or after")
    terminal.keys("h")
    terminal.wait(lambda lines: names(lines) == ["acme-1", "acme-2", "db"], "the VMs again")


def test_pages(host, top):
    everybody = [f"vm{i:02}" for i in range(12)]
    for name in everybody:
        host.vmm(name, possible=2, boot=1)
    terminal = top(rows=10)
    terminal.wait(lambda lines: names(lines) == everybody[:5], "the first page")
    terminal.keys("PPage", "NPage")
    terminal.wait(lambda lines: names(lines) == everybody[5:10], "the second page")
    terminal.keys("End")
    terminal.wait(lambda lines: names(lines) == everybody[7:], "the end")
    terminal.keys("Up")
    terminal.wait(lambda lines: names(lines) == everybody[6:11], "one up")
    terminal.keys("Home")
    terminal.wait(lambda lines: names(lines) == everybody[:5], "the beginning")


def test_other_sizes(host, top):
    host.vmm("acme-web", possible=8, boot=2)
    host.resize("acme-web", 6)
    terminal = top()
    terminal.wait_text("WHY")
    for columns, head in ((60, "NAME         DES TGT ENA ONL  CREDIT WHY"), (120, None)):
        terminal.resize(columns, 12)
        lines = terminal.wait(lambda lines, n=columns: len(lines) == 13 and
                              lines[11].startswith("q quit") and row(lines, "acme-web"),
                              f"{columns} columns")
        assert max(len(line) for line in lines) <= columns
        if head:
            terminal.wait_text("CREDIT WHY")
        else:
            terminal.wait_text("DENY/S")


def test_the_daemon_goes_and_returns(host, top):
    host.vmm("db", possible=8, boot=4)
    terminal = top("--interval", "0.1")
    terminal.wait_text("db ")
    host.daemon.kill()
    terminal.wait_text("is gone; VMs go on")
    host.daemon.start()
    terminal.wait(lambda lines: row(lines, "db") and row(lines, "db")[2] == "disconn.", "it is back")
    host.bus.stop()
    terminal.wait_text("is gone; VMs go on")
    host.bus.start()
    terminal.wait_text("1 VMs, 0 connected")


@pytest.mark.parametrize("end", ["q", "C-c"])
def test_the_terminal_is_left_as_it_was(top, end):
    terminal = top()
    terminal.wait_text("q quit")
    assert not any("before" in line for line in terminal.screen())
    terminal.keys(end)
    lines = terminal.wait_text("status 0")
    assert lines[:2] == ["before", "status 0"]
    assert terminal.tmux("display", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}") == "0 1 1\n"
    terminal.type("typed")  # and echoed
    terminal.wait_text("typed")


class Pty:
    """A terminal that keeps what is sent to it."""

    def __init__(self, argv, env):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(self.master, (24, 80))
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=dict(env, LC_ALL="C.UTF-8", TERM="xterm", NO_COLOR="1"))
        os.close(slave)
        self.sent = b""

    def read(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                self.sent += os.read(self.master, 65536)
        return self.sent

    def take_until(self, pattern):
        """What was sent up to there, and is then forgotten."""
        def found():
            self.read(0.05)
            return re.search(pattern, self.sent, re.DOTALL)
        match = wait_for(found, f"{pattern!r} is sent", 30)
        before, self.sent = self.sent[:match.end()], self.sent[match.end():]
        return before

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_only_changes_are_sent(host):
    """A slow line carries what differs, and nothing while nothing does."""
    for i in range(10):
        host.vmm(f"db{i}", possible=2, boot=1)
        host.cpuctl("assign", f"db{i}", "gold")  # without credit, which changes all the time
    terminal = Pty([paths.cpuctl(), *host.cpuctl_bus(), "top", "--interval", "0.1"], host.bus.env())
    try:
        first = terminal.take_until(rb"reverse(\x1b\[m)?")
        assert len(first) > 500
        terminal.read(0.3)
        terminal.sent = b""
        never(lambda: terminal.read(0), "nothing changes, and something is sent", 1)
        host.resize("db3", 2)
        host.wait_prop("db3", "Enabled", 2)
        wait_for(lambda: b"2" in terminal.read(0.05), "the change is sent", 30)
        assert len(terminal.read(0.5)) < 120, terminal.sent
    finally:
        terminal.close()


def test_it_ends_with_its_terminal(host):
    terminal = Pty([paths.cpuctl(), *host.cpuctl_bus(), "top"], host.bus.env())
    terminal.take_until(rb"q quit")
    os.close(terminal.master)
    assert terminal.process.wait(30) is not None


@pytest.mark.parametrize("more", [{}, {"env": {"TERM": "dumb"}}])
def test_it_needs_a_terminal(host, more):
    env = dict(host.bus.env(), **more.get("env", {}))
    result = subprocess.run([paths.cpuctl(), *host.cpuctl_bus(), "top"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
                            check=False)
    assert result.returncode == FAILED and not result.stdout
    assert "list --json" in result.stderr
    result = host.cpuctl("top", "--json", check=False)
    assert result.returncode == FAILED and not result.stdout
