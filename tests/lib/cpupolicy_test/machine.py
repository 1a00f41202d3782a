# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that a real systemd has booted (tests/system/boot.sh), with our packages installed, and what happens inside of it.

Its file system is a copy that ends with it. Commands enter its namespaces, so pids and users are what its daemon sees.
What the tests need lies below /opt/cpupolicy: "tree" (this checkout), "debs", and what was given as `binds`.
"""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess

from . import paths
from .bus import Bus, Monitor
from .daemon import Host
from .process import Process
from .vmm_process import VmmProcess
from .wait import wait_for

SHARE = "/opt/cpupolicy"
SOCKET = "/run/cpupolicy/vmm.sock"
UNIT = "cpupolicyd.service"
# what is installed unless a test says otherwise
PACKAGES = ("cpupolicyd", "cpuctl", "libcpupolicy0")

_serial = itertools.count(1)


class CommandFailed(AssertionError):
    """A command inside ended with another status than 0."""

    def __init__(self, argv, result):
        super().__init__(f"{' '.join(argv)} ended with {result.returncode}\n{result.stdout}{result.stderr}")
        self.result = result


def _descendants(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            children = [int(child) for child in f.read().split()]
    except OSError:
        return []
    return children + [pid for child in children for pid in _descendants(child)]


class InnerProcess(Process):
    """nsenter and what it started. That would outlive it where it became another user."""

    def kill(self):
        for pid in _descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return super().kill()

    def stop(self, deadline=15.0):
        return self.kill()


class Machine:
    """A booted systemd. Everything in it ends with close(), or with the tests."""

    def __init__(self, directory, binds=None):
        self.directory = pathlib.Path(directory)
        self.name = f"cpupolicy-test-{os.getpid()}-{next(_serial)}"
        binds = {"tree": paths.SOURCE, "debs": paths.debs(), **(binds or {})}
        self.process = Process(
            [paths.SOURCE / "tests/system/boot.sh", self.name, paths.system_root(),
             *[f"--bind-ro={source}:{SHARE}/{name}" for name, source in binds.items()]],
            self.directory / f"{self.name}.log")
        self.leader = None
        try:
            self.leader = wait_for(self._find_leader, "systemd-nspawn starts its init", 30)
            wait_for(self._booted, "systemd has started", 60)
        except BaseException:
            self.close()
            raise

    def _find_leader(self):
        """The init of the machine, by our number: first in a pid namespace, in the one of boot.sh."""
        assert self.process.alive(), f"systemd-nspawn ended:\n{self.process.log()}"
        for pid in _descendants(self.process.pid):
            try:
                with open(f"/proc/{pid}/status", encoding="ascii") as f:
                    numbers = [line.split()[1:] for line in f if line.startswith("NSpid:")][0]
                program = os.readlink(f"/proc/{pid}/exe")
            except OSError:
                continue  # it has ended
            if len(numbers) == 3 and numbers[-1] == "1" and program.endswith("/systemd"):
                return pid
        return None

    def _booted(self):
        assert self.process.alive(), f"systemd-nspawn ended:\n{self.process.log()}"
        if not self.path("/run/systemd/private").exists():
            return False
        state = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        assert state != "degraded", f"units failed:\n{self.run('systemctl', '--failed').stdout}"
        return state == "running"

    # ---- commands and files ----

    def command(self, *argv, user=None):
        """The command line, out here, of a command in there."""
        who = ["--reuid", user, "--regid", user, "--init-groups"] if user else []
        return ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
                "--root", "--wd=/", "setpriv", *who, "--pdeathsig", "KILL", *[str(a) for a in argv]]

    def run(self, *argv, user=None, check=True, text=True, stdin=None, timeout=90):
        """Runs a command to its end, as that user (a name); what has ended. Failing is an error unless `check` is false."""
        result = subprocess.run(
            self.command(*argv, user=user), check=False, text=text, timeout=timeout, env=self.env(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        if check and result.returncode:
            raise CommandFailed([str(a) for a in argv], result)
        return result

    def sh(self, script, **more):
        """The standard output of a shell script."""
        return self.run("sh", "-ec", script, **more).stdout

    @staticmethod
    def env():
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1", "DEBIAN_FRONTEND": "noninteractive"}

    def start(self, *argv, user=None, name="command"):
        """Starts a command that goes on; it is killed with what this returns."""
        return InnerProcess(self.command(*argv, user=user), self.directory / f"{self.name}-{name}.log", env=self.env())

    def path(self, path):
        """Where a file of the machine is, out here; for directories that no absolute link leads to."""
        return pathlib.Path(f"/proc/{self.leader}/root") / str(path).lstrip("/")

    def write(self, path, text, mode=0o644):
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def add_user(self, name, *groups):
        self.run("useradd", "--create-home", "--shell", "/bin/sh", *(["--groups", ",".join(groups)] if groups else []), name)

    def uid(self, name):
        return int(self.run("id", "-u", name).stdout)

    # ---- packages ----

    def install(self, *packages):
        """Installs these of our packages."""
        found = []
        for package in packages:
            debs = list(paths.debs().glob(f"{package}_*.deb"))
            assert len(debs) == 1, f"{package}: {debs}"
            found.append(f"{SHARE}/debs/{debs[0].name}")
        return self.run("dpkg", "--force-unsafe-io", "--install", *found)

    def remove(self, *packages):
        return self.run("dpkg", "--remove", *packages)

    def purge(self, *packages):
        return self.run("dpkg", "--purge", *packages)

    # ---- units and the journal ----

    def systemctl(self, *args, **more):
        return self.run("systemctl", *args, **more).stdout

    def unit(self, name, prop):
        """A property of a unit."""
        return self.systemctl("show", "--value", f"--property={prop}", name).strip()

    def main_pid(self, unit=UNIT):
        """The number that the machine knows it by; 0 if it does not run."""
        return int(self.unit(unit, "MainPID"))

    def wait_unit(self, name, state="active", deadline=60.0):
        wait_for(lambda: self.unit(name, "ActiveState") == state, f"{name} is {state}", deadline)

    def journal(self, *matches):
        """Entries of this boot with these fields ("FIELD=value"), oldest first, as dictionaries."""
        self.run("journalctl", "--sync")
        out = self.run("journalctl", "--boot", "--output=json", "--all", "--quiet", *matches).stdout
        return [json.loads(line) for line in out.splitlines()]

    def wait_journal(self, *matches, deadline=60.0):
        return wait_for(lambda: self.journal(*matches), f"the journal has {' '.join(matches)}", deadline)

    # ---- the end ----

    def log(self):
        """What a failure needs to be understood."""
        if self.leader is None or not self.process.alive():
            return self.process.log()
        return self.run("journalctl", "--boot", "--no-pager", "--lines=80", check=False).stdout

    def close(self):
        self.process.kill()
        wait_for(self._groups_are_gone, f"the control groups {self.name} are empty", 30)

    def _groups_are_gone(self):
        for top in pathlib.Path("/sys/fs/cgroup").rglob(self.name):
            for path, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    return False
        return True


class SystemBus(Bus):
    """The system bus of a machine, for clients inside of it. `user` is a name."""

    def __init__(self, machine):  # pylint: disable=super-init-not-called
        self.machine = machine
        self.directory = machine.directory

    def command(self, argv, text=True, user=None):
        return self.machine.run(argv[0], "--system", *argv[1:], text=text, user=user, check=False)

    def monitor(self, directory=None):
        return _SystemMonitor(self.machine)


class _SystemMonitor(Monitor):
    def __init__(self, machine):  # pylint: disable=super-init-not-called
        Monitor._serial += 1
        self.process = machine.start("busctl", "--system", "--json=short", "monitor", "--match=type='signal'",
                                     name=f"monitor-{Monitor._serial}")
        self.process.wait_log("Monitoring bus message stream.")


class InstalledHost(Host):
    """The installed daemon of a machine, in the way that tests talk to one of their own."""

    def __init__(self, machine):  # pylint: disable=super-init-not-called
        self.machine = machine
        self.directory = machine.directory
        self.bus = SystemBus(machine)
        self._vmms = []

    @property
    def socket(self):
        return SOCKET

    def vmm(self, name="vm", uid=None, user=None, **more):  # pylint: disable=arguments-differ
        """A registered VMM, a process inside the machine: of that user (a name) with its groups, or of that uid with none."""
        command = self.machine.command("/usr/bin/python3", f"{SHARE}/tree/tests/lib/cpupolicy_test/vmm_process.py",
                                       user=user)
        return self.keep(VmmProcess(self.directory, SOCKET, name, uid=uid, command=command, **more))

    def connect(self):
        raise NotImplementedError("a connection of a process out here has no pid in the machine; use vmm()")

    def cpuctl(self, *args, check=True, user=None, **more):  # pylint: disable=arguments-differ
        result = self.machine.run("cpuctl", *args, user=user, check=check, **more)
        return result.stdout if check else result

    def forget_all(self):
        """Drops VMs whose VMMs have ended, or are about to: others may use their names."""
        left = []

        def none_left():
            left[:] = json.loads(self.cpuctl("list", "--json"))
            for vm in left:
                self.cpuctl("forget", vm["uuid"], check=False)
            return not left
        try:
            wait_for(none_left, "no VM is on record", 20)
        except AssertionError as e:
            raise AssertionError(f"{e}; there are {left}") from None

    def close(self):
        while self._vmms:
            self._vmms.pop().close()
