# SPDX-License-Identifier: GPL-2.0-or-later
"""vCPUs that are off or wait, as others than the guest see them; and a host that cannot enforce."""

import re

import pytest

from test_state import Firmware
from cpupolicy_test.daemon import default_class
from cpupolicy_test.guest import CPU_ON, DENIED, SUCCESS
from cpupolicy_test.kvm import KvmHost, KvmLab
from cpupolicy_test.lab import temporary_directory
from cpupolicy_test.wait import wait_for

ASK = default_class(verdicts="ask", ask_timeout_ms=60000)
PACKET = re.compile(rb"\$([^#]*)#[0-9a-f]{2}")


def ask_debugger(sock, text):
    """One packet of gdb's remote protocol, and the answer."""
    body = text.encode()
    sock.sendall(b"$%b#%02x" % (body, sum(body) % 256))
    received = b""
    while not PACKET.search(received):
        data = sock.recv(4096)
        assert data, received
        received += data
    sock.sendall(b"+")
    return PACKET.search(received).group(1).decode()


def test_debugger_sees_which_vcpus_are_off(lab, host):
    machine = lab.psci(host, smp="cpus=2,maxcpus=4")
    guest = machine.guest
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    assert guest.cpu_on(2) == DENIED
    path = machine.there / "gdb"
    machine.qmp.execute("human-monitor-command", command_line=f"gdbserver unix:{path},server=on,wait=off")
    with lab.agent.connected(path, machine.process) as sock:
        ask_debugger(sock, "?")
        states = [bytes.fromhex(ask_debugger(sock, f"qThreadExtraInfo,p1.{thread}")).decode()
                  for thread in range(1, 5)]
    assert ["halted" in state for state in states] == [False, False, True, True], states


def test_answer_for_a_caller_that_was_ejected(lab, make_host):
    """It waits, is ejected, and the answer comes: it stays off, and comes up again like any other."""
    host = make_host(policy=ASK)
    machine = lab.psci(host, firmware=True, smp="4")
    guest, firmware = machine.guest, Firmware(machine.guest)
    assert guest.cpu_on(2) == SUCCESS
    guest.wait_entered(2)
    entry = guest.entry()
    host.daemon.freeze()
    guest.secondary_call(2, CPU_ON, 3, entry, 0)
    firmware.eject(2)
    wait_for(lambda: guest.affinity_info(2) == 1, "it is off")
    host.daemon.thaw()
    host.wait_prop("psci", "OnlineSet", "0")
    assert guest.cpu_on(2) == DENIED
    host.resize("psci", 3)
    host.resize("psci", 4)
    wait_for(lambda: guest.cpu_on(2) == SUCCESS, "it is given to it again")
    guest.wait_entered(2, 2)
    assert guest.secondary(2)["calls"] == 0 and guest.affinity_info(3) == 1


def test_vcpu_that_was_ejected_while_it_ran_comes_up_again(lab, host):
    """It sleeps in QEMU and not in the kernel, where nobody could write its registers."""
    machine = lab.psci(host, firmware=True, smp="cpus=3,maxcpus=4")
    guest, firmware = machine.guest, Firmware(machine.guest)
    assert guest.cpu_on(2) == SUCCESS
    guest.wait_entered(2)
    firmware.eject(2)
    host.wait_prop("psci", "OnlineSet", "0")
    host.resize("psci", 2)
    host.resize("psci", 3)
    wait_for(lambda: guest.cpu_on(2) == SUCCESS, "it is given to it again")
    guest.wait_entered(2, 2)


@pytest.fixture(name="old")
def old_lab():
    """A host whose kernel has no filter for PSCI calls."""
    with temporary_directory() as directory:
        kvm_host = KvmHost(directory, kernel="Image-6.1")
        lab = KvmLab(kvm_host.wait_boot(), directory)
        try:
            yield lab
        finally:
            lab.close()
            kvm_host.close()


def test_host_that_cannot_enforce(old):
    host = old.host()
    refused = old.psci(host, name="refused", boot=False)
    assert refused.process.wait() == 1
    assert "Linux 6.4" in refused.process.log() and "allow-unenforced=on" in refused.process.log()

    machine = old.psci(host, name="loose", policy={"path": host.socket, "allow_unenforced": "on"})
    guest = machine.guest
    assert "not enforced" in machine.process.log()
    assert machine.qmp.execute("query-cpu-policy")["means"] == "none"
    assert host.get("loose", "Enforcement") == "none"
    for cpu in (1, 2, 3):
        assert guest.cpu_on(cpu) == SUCCESS
        guest.wait_entered(cpu)
    host.wait_prop("loose", "OnlineSet", "0-3")
    guest.cpu_off(3)
    host.wait_prop("loose", "OnlineSet", "0-2")
