# SPDX-License-Identifier: GPL-2.0-or-later
"""What the packages put on a host, and that they take it away again."""

import os
import re
import subprocess

from cpupolicy_test import paths
from cpupolicy_test.machine import UNIT

BRIDGE = "cpupolicy-libvirt.service"
ALL = ("cpupolicyd", "cpuctl", "libcpupolicy0", "libcpupolicy-dev", "cpupolicyd-doc", "cpupolicy-guest", "cpupolicy-libvirt")
# What a purge leaves: the user, whose number must not become somebody else's; and what others wrote about it.
LEFT = re.compile(r"^/(etc/(passwd|shadow|group|gshadow)-?|var/(lib/dpkg|log|cache)/.*|run/.*|tmp/.*|proc/.*|sys/.*|dev/.*)$")


def files(machine):
    """All files of the machine, and of its units those that are known."""
    out = machine.sh("find / -xdev -path /opt -prune -o -print; find /run/systemd /run/cpupolicy* 2>/dev/null || :")
    return {name for name in out.splitlines() if not LEFT.match(name) or "cpupolicy" in name.rsplit("/", 1)[1]}


def test_removal_ends_the_daemon_and_purge_leaves_nothing(make_machine):
    machine = make_machine(packages=())
    before = files(machine)
    machine.install(*ALL)
    machine.wait_unit(UNIT)
    machine.wait_unit(BRIDGE)
    machine.run("cpuctl", "list")
    assert files(machine) - before
    assert machine.path("/var/lib/cpupolicy/state.db").exists()

    machine.remove(*ALL)
    for unit in (UNIT, BRIDGE):
        assert machine.unit(unit, "ActiveState") == "inactive"
    assert not machine.path("/run/cpupolicy").exists()
    assert machine.run("pgrep", "cpupolicy", check=False).stdout == ""
    # the record stays until a purge
    assert machine.path("/var/lib/cpupolicy/state.db").exists()

    machine.purge(*ALL)
    assert files(machine) - before == set()
    for unit in (UNIT, BRIDGE):
        assert machine.unit(unit, "LoadState") == "not-found"
    assert machine.run("busctl", "--system", "list", "--activatable").stdout.count("cpupolicy") == 0


def test_reinstalling_keeps_what_was_configured_and_recorded(make_machine):
    machine = make_machine()
    machine.write("/etc/cpupolicy/policy.d/10-host.json", '{"classes": {"default": {}, "gold": {}}}')
    machine.run("cpuctl", "reload")
    machine.run("cpuctl", "drain")
    machine.remove("cpupolicyd")
    machine.install("cpupolicyd")
    machine.wait_unit(UNIT)
    assert "gold" in machine.run("cpuctl", "classes", "--names").stdout.split()
    assert "Drained" in machine.run("cpuctl", "host").stdout


def test_a_program_is_built_with_the_library(directory):
    for package in ("libcpupolicy0", "libcpupolicy-dev"):
        (deb,) = paths.debs().glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", deb, directory], check=True)
    (library,) = directory.glob("usr/lib/*/libcpupolicy.so")
    program = directory / "program.c"
    program.write_text("""#include <libcpupolicy.h>
        int main(void) { return cpupolicy_reason_name(CPUPOLICY_REASON_NOT_ENABLED) ? 0 : 1; }
        """, encoding="ascii")
    env = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(directory), "PKG_CONFIG_PATH": str(library.parent / "pkgconfig")}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libcpupolicy"], check=True, env=env,
                           stdout=subprocess.PIPE, text=True).stdout.split()
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", directory / "program", program, *flags], check=True)
    subprocess.run([directory / "program"], check=True, env={"LD_LIBRARY_PATH": str(library.parent)})


def udev_add(machine, action, online):
    """The file that udev takes for that of a vCPU in its state `online`, after that action; a mount namespace of its
    own has it in the place of the kernel's."""
    device = "/sys/devices/system/cpu/cpu1"
    return machine.run("unshare", "--mount", "sh", "-ec", f"""
        echo {online} >/tmp/online
        mount --bind /tmp/online {device}/online
        udevadm test --action={action} {device} >/dev/null 2>&1
        cat /tmp/online""").stdout.strip()


def test_the_guests_rule_brings_an_added_vcpu_online(make_machine):
    machine = make_machine(packages=())
    assert udev_add(machine, "add", 0) == "0"
    machine.install("cpupolicy-guest")
    assert udev_add(machine, "add", 0) == "1"
    # one that was taken offline stays so
    assert udev_add(machine, "offline", 0) == "0"
    assert udev_add(machine, "change", 0) == "0"
