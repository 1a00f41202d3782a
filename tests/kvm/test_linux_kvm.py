# SPDX-License-Identifier: GPL-2.0-or-later
"""An unmodified Linux 6.12 guest under KVM: the published scenario, and what may happen to it. One
guest serves all tests of this file; each leaves it as it found it."""

import random

import pytest

# pylint: disable=unused-import,redefined-outer-name
from test_linux import (ARGUMENTS, FIRST, add_cpu4, guest, resize,  # noqa: F401
                        test_fail_static, test_guest_reboot_keeps_the_policy,
                        test_published_tables, test_qmp_reset_keeps_the_policy)
from cpupolicy_test.daemon import default_class
from cpupolicy_test.guest import SYS
from cpupolicy_test.kvm import GUEST, KvmLab
from cpupolicy_test.lab import temporary_directory
from cpupolicy_test.qemu import CMDLINE
from cpupolicy_test.wait import wait_for

# A vCPU that the guest does not give back is not its own any more once it is off.
REVOKE = default_class(refusal="revoke")


@pytest.fixture(scope="module")
def machine(kvm_host):
    with temporary_directory() as directory:
        lab = KvmLab(kvm_host, directory)
        try:
            host = lab.host(policy=REVOKE)
            # what kexec boots lies in the guest's own memory
            initrd = kvm_host.make_directory() / "initrd"
            kvm_host.agent.sh(f"cd {GUEST} && (cat initrd; printf 'Image\\ninitrd\\n' | cpio -o -H newc) >{initrd}")
            made = lab.linux(host, append=ARGUMENTS, initrd=initrd, memory=768)
            made.host, made.lab = host, lab
            made.wait_boot()
            yield made
        finally:
            lab.close()


PLUGGER = f"""
cd {SYS}
while [ -e /tmp/plug ]; do
	for cpu in 1 2 3 4 5; do
		[ $(( ($RANDOM + $cpu) % 2 )) = 0 ] && value=0 || value=1
		echo $value >cpu$cpu/online
	done 2>/dev/null
done
"""


def test_random_resizes_while_the_guest_plugs(machine, guest):
    """200 of them, and the daemon dies in the middle; in the end all agree."""
    host = machine.host
    chosen = random.Random(5)
    guest.run(f"touch /tmp/plug; cat >/tmp/plugger <<'END'\n{PLUGGER}\nEND\n"
              "sh /tmp/plugger >/dev/null 2>&1 &")
    for number in range(200):
        count = chosen.randint(1, 6)
        host.resize("linux", count)
        if number == 100:
            host.daemon.restart_killed()
        if number % 20 == 0:
            wait_for(lambda: host.get("linux", "Job") == "/", "the job ends", 120)
            assert host.get("linux", "Enabled") <= 6
    guest.run("rm /tmp/plug")
    wait_for(lambda: guest.run("ps | grep -c '[p]lugger'", check=False)[0] != 0, "it has stopped plugging")
    result = resize(machine, 4)
    assert result["result"] == "done"
    guest.wait_tables(enabled="0-3")
    host.wait_prop("linux", "EnabledSet", "0-3")
    host.wait_prop("linux", "OnlineSet", guest.tables()["online"])
    assert host.get("linux", "Overdue") == 0
    assert guest.run("dmesg | grep -E 'WARNING|Call trace'", check=False)[0] == 1


def test_boot_vcpu_goes_off_and_on(machine, request):
    """The one that ran first; another one starts it."""
    request.node.labs = [machine.lab]
    host, guest = machine.host, machine.guest
    for _ in range(2):
        guest.offline(0)
        assert guest.tables()["online"] == "1"
        host.wait_prop("linux", "OnlineSet", "1")
        guest.online(0)
        assert guest.tables()["online"] == "0-1"
        host.wait_prop("linux", "OnlineSet", "0-1")


def test_guest_that_keeps_a_vcpu_is_denied_it(machine, request):
    """Its kernel keeps vCPU 4, off, although it is asked back: CPU_ON is denied, and the kernel says so."""
    request.node.labs = [machine.lab]
    host, guest = machine.host, machine.guest
    add_cpu4(machine)
    guest.offline(4)
    guest.allow_eject(False)
    host.resize("linux", 4)
    host.wait_prop("linux", "EnabledSet", "0-3")
    denied = host.get("linux", "Denied")
    status, output = guest.try_online(4)
    assert status != 0 and "Operation not permitted" in output
    host.wait_prop("linux", "Denied", denied + 1)
    assert guest.tables()["online"] == "0-1"


def test_kexec_finds_the_same_policy(machine, request):
    """The last test: that kernel boots another one, which tries all vCPUs and is denied two."""
    request.node.labs = [machine.lab]
    host, guest = machine.host, machine.guest
    boots, denied = machine.channel.boots, host.get("linux", "Denied")
    guest.start(f"kexec-jump /Image /initrd '{CMDLINE} acpi=force'")
    machine.wait_boot(boots + 1, 240)
    assert guest.tables()["online"] == "0-3"
    host.wait_prop("linux", "OnlineSet", "0-3")
    host.wait_prop("linux", "Denied", denied + 2)
    assert host.get("linux", "EnabledSet") == "0-3"
