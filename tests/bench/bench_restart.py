# SPDX-License-Identifier: GPL-2.0-or-later
"""What a restart of the installed daemon is to VMMs that ask all the while, beside the restart of a unit with the same
sandbox that does nothing; both under a real systemd."""

import json
import pathlib
import statistics
import subprocess

from cpupolicy_test import paths
from cpupolicy_test.daemon import default_class
from cpupolicy_test.lab import temporary_directory
from cpupolicy_test.machine import PACKAGES, SHARE, SOCKET, UNIT, Machine
from cpupolicy_test.process import Process
from cpupolicy_test.wait import wait_for

EMPTY = "cpupolicy-empty.service"
# of the daemon alone, not of its sandbox
OWN = ("Type=", "Exec", "WatchdogSec=", "NotifyAccess=", "FileDescriptorStoreMax=", "RuntimeDirectory",
       "StateDirectory", "Restart", "Wants=", "After=", "Before=", "Also=", "WantedBy=")


def make_empty(machine):
    lines = machine.run("systemctl", "cat", UNIT).stdout.splitlines()
    kept = "\n".join(line for line in lines if not line.startswith(OWN))
    machine.write(f"/run/systemd/system/{EMPTY}", kept.replace(
        "[Service]", "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n"
        "RuntimeDirectory=cpupolicy-empty\nStateDirectory=cpupolicy-empty"))
    machine.systemctl("daemon-reload")
    machine.systemctl("start", EMPTY)


def restart(machine, unit):
    """Milliseconds in which it was not active, by the service manager's own clock."""
    machine.systemctl("reset-failed", unit)  # else the limit on starts would end it
    machine.systemctl("restart", unit)
    left, entered = (int(machine.unit(unit, f"{what}TimestampMonotonic")) for what in ("ActiveExit", "ActiveEnter"))
    assert entered > left
    return (entered - left) / 1e3


class Askers:
    """VMs that ask, in the machine."""

    def __init__(self, machine, count):
        self.process = Process(machine.command(f"{SHARE}/build/tests/bench/gap", SOCKET, count),
                               machine.directory / "gap.log", env=machine.env(), stdin=subprocess.PIPE)
        self.process.wait_log("ready", 120)

    def seen(self):
        """Since the last time."""
        def answers():
            assert self.process.alive(), self.process.log()
            return self.process.log().splitlines()[1:]
        before = len(answers())
        self.process.popen.stdin.write(b"\n")
        self.process.popen.stdin.flush()
        return json.loads(wait_for(lambda: answers()[before:], "every VM has its verdict")[0])


def measure(vms, restarts):
    """(figure, unit, product, yardstick, against, aim)"""
    gaps, inactive, empty, calm, wrong = [], [], [], [], 0
    with temporary_directory() as directory:
        machine = Machine(pathlib.Path(directory), binds={"build": paths.build()})
        try:
            # else no VMM would ask: its page would tell
            machine.write("/etc/cpupolicy/policy.d/bench.json", json.dumps(default_class(verdicts="ask")))
            machine.install(*PACKAGES)
            machine.wait_unit(UNIT)
            make_empty(machine)
            askers = Askers(machine, vms)
            for _ in range(restarts):
                askers.seen()
                empty.append(restart(machine, EMPTY))
                calm.append(askers.seen()["longest"] / 1e6)
                inactive.append(restart(machine, UNIT))
                seen = askers.seen()
                gaps.append(seen["longest"] / 1e6)
                wrong += seen["wrong"]
            askers.process.kill()
        finally:
            machine.close()
    against = "an empty unit with the same sandbox"
    yield (f"restart, longest wait for a verdict, {vms} VMs that ask", "ms", statistics.median(gaps),
           statistics.median(empty), against, None)
    yield ("restart, unit not active, likewise", "ms", statistics.median(inactive), statistics.median(empty), against,
           None)
    yield (f"without a restart, longest wait of {vms} VMs that ask at once", "ms", statistics.median(calm), None, "",
           None)
    yield ("restart, verdicts refused wrongly or lost", "", wrong, None, "", ("product", "<=", 0))
