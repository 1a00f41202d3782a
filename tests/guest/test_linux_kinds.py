# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux guests of other kinds: one that takes all it can get, one without ACPI, an old one."""

import gzip
import re

from cpupolicy_test import paths
from cpupolicy_test.bus import MANAGER, ROOT
from cpupolicy_test.daemon import classes, default_class
from cpupolicy_test.guest import SYS
from cpupolicy_test.qemu import CMDLINE, append_files
from cpupolicy_test.wait import wait_for


def test_greedy_guest(lab, make_host, directory):
    """No maxcpus=, onlines what appears, asks before each CPU_ON, and comes in libvirt's form of
    -smp; in the end it boots itself anew by kexec."""
    host = make_host(policy=classes(greedy={"cpu_on": {"per_second": 1, "burst": 12},
                                            "ask_timeout_ms": 20000}))
    images = paths.guest_images()
    append_files(images / "initrd", directory / "initrd", {
        "Image.gz": gzip.compress((images / "Image").read_bytes(), 1),
        "initrd": (images / "initrd").read_bytes()})
    # The kernel's kexec fails where it uses 52-bit addresses.
    machine = lab.linux(host, name="greedy", smp="6", policy={"path": host.socket, "boot": 4},
                        cpu="max,pauth-impdef=on,lpa2=off", append="guest.online=auto",
                        initrd=directory / "initrd")
    machine.wait_boot()
    guest = machine.guest

    # The kernel tried all six: four came up, two were denied.
    assert guest.tables() == {"possible": "0-5", "present": "0-5", "enabled": "0-3",
                              "online": "0-3", "offline": "4-5"}
    host.wait_prop("greedy", "Denied", 2)
    assert [r[6] for r in host.get("greedy", "Vcpus")[4:]] == ["not-enabled"] * 2
    assert len(re.findall("VCPU=[45] VERDICT=deny REASON=not-enabled", host.daemon.log())) == 2
    assert "SMP: Total of 4 processors activated" in guest.dmesg()

    # What it is given it onlines by itself, as with udev.
    assert host.cpuctl("set", "greedy", "6", "--online", check=False).returncode == 0
    assert guest.tables()["online"] == "0-5"
    assert host.cpuctl("set", "greedy", "5", check=False).returncode == 0
    assert guest.tables()["online"] == "0-4"

    # More CPU_ON calls than the service level permits: its kernel is told, and tells its user.
    def refused():
        guest.offline(3)
        status, output = guest.try_online(3)
        return status != 0 and output
    assert "Operation not permitted" in wait_for(refused, "the rate is used up", interval=0)
    assert "3" not in guest.tables()["online"].replace("0-3", "")
    assert "REASON=rate" in host.daemon.log()
    wait_for(lambda: guest.try_online(3)[0] == 0, "tokens come back", interval=0.5)
    wait_for(lambda: guest.tables()["online"] == "0-4", "it is up again")

    boots, denied = machine.channel.boots, host.get("greedy", "Denied")
    guest.run("gunzip /Image.gz")
    guest.start(f"kexec-jump /Image /initrd '{CMDLINE} acpi=force'")
    machine.wait_boot(boots + 1)
    assert "5" not in guest.tables()["online"] and guest.tables()["enabled"] == "0-4"
    wait_for(lambda: host.get("greedy", "Denied") > denied, "it tried vCPU 5 again")
    online = guest.tables()["online"]
    host.wait_prop("greedy", "OnlineSet", online)


def test_device_tree_guest(lab, host):
    """Nobody there to notify: no resize, and a policy that holds all the same."""
    machine = lab.linux(host, name="tree", smp="cpus=2,maxcpus=4", firmware=False, memory=512,
                        append="quiet")
    machine.wait_boot()
    guest = machine.guest
    assert guest.run("[ -e /sys/firmware/acpi ]", check=False)[0] != 0
    assert guest.tables()["online"] == "0-1"
    host.wait_prop("tree", "Denied", 2)
    # A device tree has no enabled bit: Linux offers all, its user tries, its kernel is denied.
    status, output = guest.try_online(3)
    assert status != 0 and "Operation not permitted" in output
    host.wait_prop("tree", "Denied", 3)
    guest.offline(1)
    guest.online(1)
    e = host.bus.error_of(ROOT, MANAGER, "SetVcpuCount", "string:tree", "uint32:3")
    assert e.name == "org.cpupolicy1.Error.NotNotifiable" and "ACPI" in e.message
    result = host.cpuctl("set", "tree", "3", check=False)
    assert result.returncode == 10 and "ACPI" in result.stderr
    guest.reboot()
    assert guest.tables()["online"] == "0-1"


def test_old_guest(lab, make_host):
    """Linux 6.1 answers an insertion without acting on it: what the job says stays true."""
    host = make_host(policy=default_class(job_timeout_seconds=20))
    machine = lab.linux(host, name="old", smp="cpus=2,maxcpus=4", kernel="Image-6.1", memory=512,
                        append="quiet")
    machine.wait_boot()
    guest = machine.guest
    assert guest.run("uname -r").startswith("6.1.")
    assert guest.tables()["online"] == "0-1"
    host.wait_prop("old", "OnlineSet", "0-1")

    job = host.resize("old", 3)
    result = host.job_result("old", job)
    assert (result["result"], result["online"]) in (("done", False), ("timeout", False))
    assert guest.tables()["online"] == "0-1", "it cannot grow"
    assert host.get("old", "OnlineSet") == "0-1"
    assert host.cpuctl("set", "old", "3", "--online", "--timeout", "2",
                       check=False).returncode in (0, 13)

    # It shrinks: the vCPU is off and stays off, though its directory remains.
    result = host.job_result("old", host.resize("old", 1))
    assert result["result"] == "done"
    host.wait_prop("old", "OnlineSet", "0")
    status, output = guest.run(f"echo 1 >{SYS}/cpu1/online", check=False)
    assert status != 0 and "Operation not permitted" in output
    assert host.get("old", "EnabledSet") == "0"
    assert host.get("old", "Vcpus")[1][6] == "ejected"

    # A reset gives the guest what is granted by then.
    host.resize("old", 2)
    machine.system_reset()
    assert guest.tables()["online"] == "0-1"
