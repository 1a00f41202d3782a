# SPDX-License-Identifier: GPL-2.0-or-later
"""Restart, stop, crash and activation of the installed daemon, with VMMs connected."""

import pytest

from cpupolicy_test.machine import UNIT
from cpupolicy_test.wait import wait_for

SOCKET_UNIT = "cpupolicyd.socket"
DROP_IN = "/run/systemd/system/cpupolicyd.service.d/test.conf"


def went_on(machine):
    return [entry["MESSAGE"] for entry in machine.journal(f"_SYSTEMD_UNIT={UNIT}", f"_PID={machine.main_pid()}")
            if "went on with the sessions" in entry["MESSAGE"]]


def test_a_restart_interrupts_nobody(machine, host):
    vmms = [host.vmm(f"web{i}", possible=4, boot=2) for i in range(8)]
    host.cpuctl("set", "web0", "3", "--no-wait")
    before = host.show("web0")
    old = machine.main_pid()
    for _ in range(3):
        machine.systemctl("restart", UNIT)
        assert machine.main_pid() != old
        assert went_on(machine) == ["went on with the sessions of 8 VMs"]
        for vmm in vmms:
            assert vmm.call("quiet")
            assert vmm.call("ask", 1) == [0, "granted"]
            assert vmm.call("ask", 3) == [-3, "not-enabled"]
    after = host.show("web0")
    for key in ("Desired", "Enabled", "EnabledSet", "Generation", "State", "VmmPid"):
        assert before[key] == after[key], key


def test_the_status_says_what_there_is(machine, host):
    host.vmm("web", possible=4, boot=2)
    wait_for(lambda: ", 2 of 4 vCPUs enabled, capacity " in machine.unit(UNIT, "StatusText"), "the status is right")
    assert int(machine.unit(UNIT, "NFileDescriptorStore")) == 3


def test_after_a_kill_vmms_are_told(machine, host):
    vmm = host.vmm("web", possible=4, boot=2)
    old = machine.main_pid()
    machine.run("kill", "-9", str(old))
    assert vmm.call("hung_up") == []
    machine.wait_unit(UNIT)
    vmm.call("reconnect", "/run/cpupolicy/vmm.sock", boot=2)
    assert vmm.call("ask", 1) == [0, "granted"]


def test_after_a_stop_the_socket_starts_it(machine, host):
    vmm = host.vmm("web", possible=4, boot=2)
    machine.systemctl("stop", UNIT)
    assert vmm.call("hung_up") == []
    assert machine.unit(SOCKET_UNIT, "ActiveState") == "active"
    assert machine.unit(UNIT, "ActiveState") == "inactive"
    vmm.call("reconnect", "/run/cpupolicy/vmm.sock", boot=2)
    machine.wait_unit(UNIT)
    assert vmm.call("ask", 1) == [0, "granted"]


def test_a_call_starts_it(machine, host):
    machine.systemctl("stop", UNIT)
    assert machine.unit(UNIT, "ActiveState") == "inactive"
    host.cpuctl("list")
    machine.wait_unit(UNIT)


def test_without_its_socket_unit_it_binds_itself(machine, host):
    machine.systemctl("stop", SOCKET_UNIT, UNIT)
    machine.systemctl("mask", "--runtime", SOCKET_UNIT)
    try:
        machine.systemctl("start", UNIT)
        vmm = host.vmm("web", possible=4, boot=2)
        machine.systemctl("restart", UNIT)
        assert vmm.call("quiet") and vmm.call("ask", 1) == [0, "granted"]
        machine.systemctl("stop", UNIT)
    finally:
        machine.systemctl("unmask", "--runtime", SOCKET_UNIT)
        machine.systemctl("start", SOCKET_UNIT, UNIT)


@pytest.fixture
def drop_in(machine):
    def write(text):
        machine.write(DROP_IN, text)
        machine.systemctl("daemon-reload")
        machine.systemctl("restart", UNIT)
    yield write
    machine.run("rm", "-f", DROP_IN)
    machine.systemctl("daemon-reload")
    machine.systemctl("reset-failed", UNIT)
    machine.systemctl("restart", UNIT)


def test_the_watchdog_ends_one_that_hangs(machine, host, drop_in):
    drop_in("[Service]\nWatchdogSec=2\nWatchdogSignal=KILL\n")
    vmm = host.vmm("web", possible=4, boot=2)
    old = machine.main_pid()
    machine.run("kill", "-STOP", str(old))
    wait_for(lambda: machine.main_pid() not in (0, old), "it was killed and started again")
    assert vmm.call("hung_up") == []
    machine.wait_unit(UNIT)
    vmm.call("reconnect", "/run/cpupolicy/vmm.sock", boot=2)
    assert vmm.call("ask", 1) == [0, "granted"]
    assert [entry for entry in machine.journal(f"UNIT={UNIT}") if "Watchdog timeout" in entry["MESSAGE"]]
