# SPDX-License-Identifier: GPL-2.0-or-later
"""The real daemon, with a state directory, socket and bus of its own."""

import json
import os
import pathlib
import signal
import socket
import subprocess

from . import paths
from .bus import NAME, ROOT, MANAGER, VM, Bus
from .process import Process
from .wait import wait_for
from .wire import Vmm


def merge(base, extra):
    """`extra` over `base`, objects member by member."""
    out = dict(base)
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out


def default_class(**members):
    """A policy whose class for everybody has these members."""
    return {"classes": {"default": members}}


def classes(**members_by_name):
    """A policy with a class of its own for each of these VMs, by name or UUID."""
    return {
        "classes": {f"of-{name}": members for name, members in members_by_name.items()},
        "rules": [{"match": {"uuid" if name.count("-") == 4 else "name": name},
                   "class": f"of-{name}"} for name in members_by_name],
    }


class Daemon:
    """cpupolicyd; `config` is laid over what makes it private to this directory, `policy` is the
    one file of its policy directory; without it there is none."""

    def __init__(self, directory, bus=None, config=None, program=None, policy=None):
        self.directory = pathlib.Path(directory)
        self.bus = bus
        self.program = program or paths.daemon()
        self.state = self.directory / "state"
        self.socket = self.directory / "vmm.sock"
        self.config_path = self.directory / "cpupolicyd.conf"
        self.policy_directory = self.directory / "policy"
        self.policy_path = self.policy_directory / "policy.json"
        self.log_path = self.directory / "daemon.log"
        self.process = None
        self.expected_status = 0
        self.config = merge({
            "socket": str(self.socket),
            "state_directory": str(self.state),
            "policy_directory": str(self.policy_directory),
            "bus": bus.address if bus else "none",
            "metrics": f"unix:{self.directory / 'metrics.sock'}",
        }, config or {})
        self.write_config()
        if policy is not None:
            self.write_policy(policy)

    def write_config(self, **changes):
        self.config = merge(self.config, changes)
        self._write(self.config_path, json.dumps(self.config, indent=2))

    def write_policy(self, policy):
        """An object, or the text as it is. It takes effect at the next start or reload."""
        text = policy if isinstance(policy, str) else json.dumps(policy, indent=2)
        self._write(self.policy_path, text)

    def _write(self, path, text):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def argv(self):
        return [self.program, "--config", self.config_path]

    def launch(self):
        """Starts without waiting for anything."""
        self.process = Process(self.argv(), self.log_path)
        return self.process

    def start(self):
        """Starts; returns when VMMs and clients can come."""
        self.launch()
        wait_for(self.ready, "the daemon serves", 30)
        return self

    def ready(self):
        if not self.process.alive():
            raise AssertionError(f"the daemon ended with {self.process.popen.returncode}:\n"
                                 + self.process.log()[-4000:])
        # A socket file may be left over from a daemon that was killed: only one that is answered counts.
        if not self._listening():
            return False
        return self.bus is None or self.bus_pid() == self.process.pid

    def _listening(self):
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(str(self.socket))
            except OSError:
                return False
        return True

    def bus_pid(self):
        """The process that owns the bus name; None if nobody does."""
        out = self.bus.busctl("call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                              "org.freedesktop.DBus", "GetConnectionUnixProcessID", "s", NAME,
                              check=False)
        return int(out.stdout.split()[-1]) if out.returncode == 0 else None

    def run_to_end(self, deadline=30):
        """For a daemon that should not come up: (exit status, what it wrote)."""
        process = self.launch()
        status = process.wait(deadline)
        self.expected_status = status
        return status, process.log()

    def ended_well(self):
        """After stop(): not by a crash of its own."""
        return self.process is None or self.process.popen.returncode in (
            0, -signal.SIGKILL, self.expected_status)

    def kill(self):
        """kill -9"""
        if self.process:
            self.process.kill()

    def stop(self):
        if self.process:
            self.process.signal(signal.SIGCONT)
            return self.process.stop()
        return 0

    def restart_killed(self):
        self.kill()
        return self.start()

    def freeze(self):
        """Alive and silent."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        self.process.signal(signal.SIGCONT)

    def log(self):
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""


class Host:
    """A bus, a daemon, and VMMs that are closed at the end."""

    def __init__(self, directory, config=None, start=True, policy=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        # Another user's processes are part of some tests.
        os.chmod(self.directory, 0o755)
        self.bus = Bus(self.directory)
        self.daemon = Daemon(self.directory, self.bus, config, policy=policy)
        self._vmms = []
        if start:
            try:
                self.daemon.start()
            except BaseException:
                self.close()
                raise

    @property
    def socket(self):
        return self.daemon.socket

    def keep(self, connection):
        self._vmms.append(connection)
        return connection

    def vmm(self, name="vm", **more):
        """A registered VMM."""
        return self.keep(Vmm.start(self.socket, name, **more))

    def connect(self):
        """A connection that has said nothing yet."""
        return self.keep(Vmm(self.socket))

    def path(self, vm):
        return self.bus.call_json(ROOT, MANAGER, "GetVirtualMachine", "s", vm)[0]

    def known(self, vm):
        """Whether there is a VM of that name or UUID."""
        listed = self.bus.call_json(ROOT, MANAGER, "ListVirtualMachines")[0]
        return any(vm in row[:2] for row in listed)

    def get(self, vm, prop):
        return self.bus.get(self.path(vm), VM, prop)

    def show(self, vm):
        return self.bus.get_all(self.path(vm), VM)

    def resize(self, vm, count):
        return self.bus.set_vcpu_count(vm, count)

    def wait_prop(self, vm, prop, value, deadline=60.0):
        path = self.path(vm)
        seen = []

        def match():
            seen[:] = [self.bus.get(path, VM, prop)]
            return seen[0] == value
        try:
            wait_for(match, f"{vm}'s {prop} is {value!r}", deadline)
        except AssertionError as e:
            raise AssertionError(f"{e}; it is {seen[0]!r}") from None

    def last_job(self, vm):
        number, start, to, result, online, uid = self.get(vm, "LastJob")
        return {"id": number, "from": start, "to": to, "result": result, "online": online,
                "uid": uid}

    def job_result(self, vm, job, deadline=90.0):
        """Waits until that job (its path) has ended; how."""
        number = int(job.rsplit("/", 1)[1])

        def ended():
            last = self.last_job(vm)
            return last if last["id"] >= number else None
        return wait_for(ended, f"job {job} of {vm} ends", deadline)

    def cpuctl(self, *args, check=True, **more):
        """Runs cpuctl on the private bus; with check its output, else the finished process."""
        result = subprocess.run(
            [str(paths.cpuctl()), *self.cpuctl_bus(), *[str(a) for a in args]],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            env=self.bus.env(), timeout=120, check=False, **more)
        if not check:
            return result
        assert result.returncode == 0, f"cpuctl {args}: {result.returncode}\n{result.stderr}"
        return result.stdout

    def cpuctl_bus(self):
        return ["--bus", self.bus.address]

    def close(self):
        for vmm in self._vmms:
            vmm.close()
        self.daemon.stop()
        self.bus.stop()
