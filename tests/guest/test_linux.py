# SPDX-License-Identifier: GPL-2.0-or-later
"""An unmodified Linux 6.12 guest, with its own kernel as witness. One guest serves all tests of
this file, under QEMU's own system call filter, and each test leaves it as it found it."""

import threading

import pytest

from cpupolicy_test.lab import Lab, temporary_directory
from cpupolicy_test.guest import SYS
from cpupolicy_test.wait import wait_for

SANDBOX = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
FIRST = {"possible": "0-5", "present": "0-5", "enabled": "0-3", "online": "0-1", "offline": "2-5"}
SECOND = {"possible": "0-5", "present": "0-5", "enabled": "0-4", "online": "0-1,4",
          "offline": "2-3,5"}
ARGUMENTS = "quiet maxcpus=2"


@pytest.fixture(scope="module")
def machine():
    with temporary_directory() as directory:
        lab = Lab(directory)
        try:
            host = lab.host()
            made = lab.linux(host, append=ARGUMENTS,
                             extra=[*SANDBOX, *lab.disk()])
            made.host, made.lab = host, lab
            made.wait_boot()
            yield made
        finally:
            lab.close()


@pytest.fixture
def guest(machine, request):
    """The guest in the first table, before and after."""
    request.node.labs = [machine.lab]
    assert machine.guest.tables() == FIRST
    yield machine.guest
    back_to_the_first_table(machine)


def back_to_the_first_table(machine):
    guest, host = machine.guest, machine.host
    guest.run("killall guesttool 2>/dev/null; true")
    guest.allow_eject(True)
    if host.get("linux", "EnabledSet") != "0-3" or host.get("linux", "Job") != "/":
        host.resize("linux", 4)
    guest.wait_tables(enabled="0-3")
    for cpu, want in ((1, 1), (2, 0), (3, 0)):
        guest.run(f"cd {SYS}/cpu{cpu} && [ $(cat online) = {want} ] || echo {want} >online")
    guest.wait_tables(**FIRST)
    host.wait_prop("linux", "EnabledSet", "0-3")
    host.wait_prop("linux", "OnlineSet", "0-1")
    assert host.get("linux", "Overdue") == 0


def resize(machine, count):
    host = machine.host
    return host.job_result("linux", host.resize("linux", count))


def add_cpu4(machine):
    machine.host.resize("linux", 5)
    machine.guest.wait_registered(4)
    machine.guest.online(4)


@pytest.mark.every_series
def test_published_tables(machine, guest):
    job = machine.host.resize("linux", 5)
    guest.wait_tables(enabled="0-4")
    result = machine.host.job_result("linux", job)
    assert result["result"] == "done"
    guest.run("dmesg | grep 'CPU4 has been hot-added'")
    assert guest.tables()["online"] == "0-1", "user space has the last word"
    guest.online(4)
    assert guest.tables() == SECOND
    machine.host.wait_prop("linux", "OnlineSet", "0-1,4")
    assert resize(machine, 4)["result"] == "done"
    assert guest.tables() == FIRST
    machine.host.wait_prop("linux", "OnlineSet", "0-1")


def test_cpuctl_waits_for_online(machine, guest):
    host = machine.host
    done = []
    thread = threading.Thread(target=lambda: done.append(
        host.cpuctl("set", "linux", "5", "--online", check=False)))
    thread.start()
    guest.wait_registered(4)
    host.wait_prop("linux", "Job", "/")
    assert not done, "the guest has it, and has not onlined it"
    guest.online(4)
    thread.join(60)
    assert done[0].returncode == 0, done[0].stderr
    assert host.cpuctl("set", "linux", "4", check=False).returncode == 0
    assert guest.tables() == FIRST


def test_all_and_one(machine, guest):
    assert resize(machine, 6)["result"] == "done"
    guest.wait_tables(enabled="0-5")
    for cpu in (2, 3, 4, 5):
        guest.online(cpu)
    assert guest.tables()["online"] == "0-5"
    assert resize(machine, 1)["result"] == "done"
    guest.wait_tables(enabled="0", online="0", offline="1-5")
    assert resize(machine, 4)["result"] == "done"
    guest.wait_registered(3)


@pytest.mark.every_series
def test_guest_reboot_keeps_the_policy(machine, guest):
    add_cpu4(machine)
    guest.reboot()
    # maxcpus=2 again, and vCPU 4 is found enabled
    assert guest.tables() == {**FIRST, "enabled": "0-4"}
    machine.host.wait_prop("linux", "OnlineSet", "0-1")
    assert machine.host.get("linux", "EnabledSet") == "0-4"
    guest.online(4)
    assert guest.tables() == SECOND


def test_qmp_reset_keeps_the_policy(machine, guest):
    machine.system_reset()
    assert guest.tables() == FIRST
    machine.host.wait_prop("linux", "OnlineSet", "0-1")
    assert machine.host.get("linux", "EnabledSet") == "0-3"


def test_guest_refuses(machine, guest):
    """Two deadline tasks of 85 % do not fit on one CPU: the kernel keeps the second."""
    assert resize(machine, 2)["result"] == "done"
    guest.run("guesttool deadline 2")
    result = resize(machine, 1)
    assert result["result"] == "guest-refused"
    assert guest.tables()["online"] == "0-1"
    shown = machine.host.show("linux")
    assert (shown["Desired"], shown["OverdueSet"]) == (1, "1")
    status = machine.host.cpuctl("set", "linux", "1", check=False)
    assert status.returncode == 4, status
    guest.run("killall guesttool")
    assert resize(machine, 1)["result"] == "done"
    guest.wait_tables(enabled="0", online="0")


def test_guest_forbids(machine, guest):
    guest.allow_eject(False)
    result = resize(machine, 3)
    assert result["result"] == "guest-forbidden"
    assert guest.tables()["enabled"] == "0-3"
    assert machine.host.get("linux", "OverdueSet") == "3"
    guest.allow_eject(True)
    assert resize(machine, 3)["result"] == "done"
    guest.wait_tables(enabled="0-2")


def test_guest_started_eject_lowers_desired(machine, guest):
    device = guest.run("grep -l '^ACPI0007$' /sys/bus/acpi/devices/*/hid | sort | tail -n +4 | head -n 1")
    eject = device.strip().replace("/hid", "/eject")
    guest.run(f"echo 1 >{eject}")
    guest.wait_tables(enabled="0-2")
    machine.host.wait_prop("linux", "Desired", 3)
    machine.host.wait_prop("linux", "EnabledSet", "0-2")


def test_sve_and_pmu_on_a_standby_vcpu(machine, guest):
    add_cpu4(machine)
    length = guest.run("guesttool sve 0")
    assert int(length) >= 16
    assert guest.run("guesttool sve 4") == length
    assert int(guest.run("guesttool pmu 0")) > 0
    assert int(guest.run("guesttool pmu 4")) > 0


def test_kill_9_while_the_guest_plugs(machine, guest):
    """The daemon dies at many moments of resizes; every job ends, and as the guest says."""
    host = machine.host
    for round_ in range(6):
        count = (5, 4)[round_ % 2]
        host.resize("linux", count)
        host.daemon.kill()
        assert guest.tables()["present"] == "0-5", "the guest runs on"
        host.daemon.start()
        wait_for(lambda: host.get("linux", "Job") == "/" and host.get("linux", "State") == "running",
                 "the job ends")
        assert host.last_job("linux")["result"] == "done"
        enabled = "0-4" if count == 5 else "0-3"
        guest.wait_tables(enabled=enabled)
        assert host.get("linux", "EnabledSet") == enabled
        assert host.get("linux", "Overdue") == 0
        if count == 5:
            guest.online(4)
            host.wait_prop("linux", "OnlineSet", "0-1,4")


def test_fail_static(machine, guest):
    host = machine.host
    host.daemon.kill()
    guest.online(2)
    guest.offline(2)
    guest.online(3)
    assert guest.tables()["enabled"] == "0-3"
    host.daemon.start()
    host.wait_prop("linux", "OnlineSet", "0-1,3")


def test_snapshot_is_reconciled_with_what_is_granted_now(machine, guest):
    host = machine.host
    add_cpu4(machine)
    assert guest.tables() == SECOND
    guest.run("echo snapshot >/tmp/mark")
    machine.save("online")
    assert resize(machine, 4)["result"] == "done"
    assert guest.tables() == FIRST

    guest.run("rm /tmp/mark")
    machine.load("online", run=False)
    # The VM is stopped still: nothing has been given back.
    host.wait_prop("linux", "OverdueSet", "4")
    assert host.get("linux", "EnabledSet") == "0-3"
    machine.qmp.execute("cont")
    guest.wait_tables(**FIRST)  # it is asked back, and this guest gives it
    guest.run("cat /tmp/mark")
    host.wait_prop("linux", "OverdueSet", "")
    host.wait_prop("linux", "OnlineSet", "0-1")


def test_snapshot_of_a_guest_that_keeps_what_is_not_its(machine, guest):
    """The kernel of the snapshot has vCPU 4 registered, off, and will not give it back: its CPU_ON
    is denied, and it says so."""
    host = machine.host
    add_cpu4(machine)
    guest.offline(4)
    guest.allow_eject(False)
    machine.save("registered")
    guest.allow_eject(True)
    assert resize(machine, 4)["result"] == "done"
    machine.load("registered")
    denied = host.get("linux", "Denied")
    status, output = guest.try_online(4)
    assert status != 0 and "Operation not permitted" in output
    assert guest.tables()["online"] == "0-1"
    host.wait_prop("linux", "Denied", denied + 1)
    assert host.get("linux", "Vcpus")[4][6] in ("ejected", "not-enabled")
    machine.system_reset()


def test_pause_and_resize(machine, guest):
    machine.qmp.execute("stop")
    machine.host.wait_prop("linux", "State", "paused")
    job = machine.host.resize("linux", 5)
    machine.qmp.execute("cont")
    assert machine.host.job_result("linux", job)["result"] == "done"
    guest.wait_tables(enabled="0-4")


def test_many_cycles(machine, guest):
    for _ in range(8):
        assert resize(machine, 5)["result"] == "done"
        guest.wait_registered(4)
        guest.online(4)
        assert resize(machine, 4)["result"] == "done"
    log = guest.dmesg()
    assert "WARNING" not in log and "Call trace" not in log


@pytest.mark.every_series
def test_live_migration(machine, request):
    """The last test: the guest goes on in another QEMU, under the same policy."""
    request.node.labs = [machine.lab]
    host, lab = machine.host, machine.lab
    add_cpu4(machine)
    machine.guest.run("echo here >/tmp/mark")
    path = lab.directory / "migration"
    target = lab.linux(host, name="linux", uuid=machine.uuid, append=ARGUMENTS,
                       extra=[*SANDBOX, "-incoming", f"unix:{path}"])
    assert target.qmp.status() == "inmigrate"
    machine.qmp.execute("migrate", uri=f"unix:{path}")
    target.qmp.event("RESUME")
    host.wait_prop("linux", "VmmPid", target.pid)
    machine.quit()
    guest = target.guest
    assert guest.run("cat /tmp/mark") == "here\n"
    assert guest.tables() == SECOND
    host.wait_prop("linux", "OnlineSet", "0-1,4")
    assert host.get("linux", "State") == "running"
    assert host.job_result("linux", host.resize("linux", 4))["result"] == "done"
    guest.wait_tables(**FIRST)
    assert host.job_result("linux", host.resize("linux", 5))["result"] == "done"
    guest.wait_registered(4)
    guest.online(4)
    assert guest.tables() == SECOND
    target.system_reset()
    assert guest.tables() == {**FIRST, "enabled": "0-4"}
