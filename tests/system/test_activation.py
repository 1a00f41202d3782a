# SPDX-License-Identifier: GPL-2.0-or-later
"""How the installed daemon is started, ended and started again by systemd, and who may connect to it."""

import re
import signal
import uuid as uuidlib
import uuid as uuidlib

import pytest

from cpupolicy_test import machine as machines
from cpupolicy_test.machine import UNIT
from cpupolicy_test.wait import wait_for

SOCKET_UNIT = "cpupolicyd.socket"


@pytest.fixture
def stopped(machine):
    """The socket listens, the daemon does not run."""
    machine.systemctl("reset-failed", UNIT)
    machine.systemctl("start", SOCKET_UNIT)
    machine.systemctl("stop", UNIT)
    assert machine.unit(UNIT, "ActiveState") == "inactive"
    assert machine.unit(SOCKET_UNIT, "ActiveState") == "active"
    yield machine
    machine.systemctl("start", UNIT)


@pytest.fixture
def clients(stopped):
    """The installed daemon's clients, of one that does not run yet."""
    made = machines.InstalledHost(stopped)
    yield made
    made.close()


def test_a_vmm_that_connects_starts_the_daemon(machine, clients):
    clients.vmm("activating", possible=4, boot=2)
    machine.wait_unit(UNIT)
    assert clients.show("activating")["State"] == "running"


def test_a_call_on_the_bus_starts_the_daemon(machine, clients):
    assert "NAME" in clients.cpuctl("list")
    machine.wait_unit(UNIT)


def test_members_of_the_group_may_connect_and_others_not(machine, host):
    for name, groups in (("member", ["cpupolicy-vmm"]), ("stranger", [])):
        if machine.run("id", name, check=False).returncode:
            machine.add_user(name, *groups)
    host.vmm("of-member", user="member", possible=2, boot=1)
    assert host.get("of-member", "State") == "running"
    with pytest.raises(AssertionError, match="PermissionError"):
        host.vmm("of-stranger", user="stranger", possible=2, boot=1)
    assert not host.known("of-stranger")
    # reading is open
    assert "of-member" in host.cpuctl("list", user="stranger")


def test_status_says_what_the_host_has(machine, host):
    host.vmm("shown", possible=4, boot=2)
    status = wait_for(lambda: re.search(r"Status: \"(.*)\"", machine.systemctl("status", UNIT)), "there is a status")
    wait_for(lambda: re.search(r"\b1 VM\b", machine.unit(UNIT, "StatusText")), f"it counts the VM: {status[1]}")
    assert re.search(r"\b2\b.*\b4\b", machine.unit(UNIT, "StatusText"))


def test_a_daemon_that_hangs_is_killed_and_its_vmm_reconnects(make_machine):
    machine = make_machine(packages=())
    # 30 s in the unit; the test does not want to wait for that
    machine.write(f"/etc/systemd/system/{UNIT}.d/test.conf", "[Service]\nWatchdogSec=2\n")
    machine.install("cpupolicyd", "cpuctl")
    machine.wait_unit(UNIT)
    host = machines.InstalledHost(machine)
    try:
        uuid = uuidlib.uuid4()
        vmm = host.vmm("watched", possible=4, boot=2, uuid=uuid)
        before = machine.main_pid()
        machine.run("kill", f"-{signal.SIGSTOP.name[3:]}", before)
        wait_for(lambda: machine.main_pid() not in (0, before), "systemd has started another daemon", 60)
        machine.wait_unit(UNIT)
        assert machine.unit(UNIT, "NRestarts") == "1"
        assert machine.journal("UNIT=" + UNIT, "UNIT_RESULT=watchdog")
        wait_for(lambda: host.get("watched", "State") == "disconnected", "the VM waits for its VMM")
        assert host.get("watched", "Enabled") == 2
        host.vmm("watched", possible=4, boot=2, uuid=uuid, token=vmm.token)
        assert host.get("watched", "State") == "running"
    finally:
        host.close()


def test_an_upgrade_keeps_connections(make_machine):
    machine = make_machine()
    host = machines.InstalledHost(machine)
    try:
        vmm = host.vmm("upgraded", possible=4, boot=2)
        before = machine.main_pid()
        machine.install("cpupolicyd")
        machine.wait_unit(UNIT)
        assert machine.main_pid() not in (0, before)
        assert host.get("upgraded", "State") == "running"
        vmm.call("online", 1)  # over the connection that it had
        assert host.get("upgraded", "Online") == 2
    finally:
        host.close()
