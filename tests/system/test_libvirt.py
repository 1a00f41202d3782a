# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed libvirt bridge: its sandbox, its rights on the bus, and that it goes on without a libvirtd."""

import json
import re

import pytest

from cpupolicy_test.machine import UNIT
from cpupolicy_test.wait import wait_for

BRIDGE = "cpupolicy-libvirt.service"
USER = "cpupolicy-libvirt"
DENIAL = "/etc/polkit-1/rules.d/00-test.rules"

# In the place of libvirtd's socket, with the rights that libvirtd gives it: says who has connected, and ends.
LISTENER = """
import grp, os, socket, struct
os.makedirs("/run/libvirt", exist_ok=True)
path = "/run/libvirt/libvirt-sock"
with socket.socket(socket.AF_UNIX) as s:
    s.bind(path)
    os.chown(path, 0, grp.getgrnam("libvirt").gr_gid)
    os.chmod(path, 0o770)
    s.listen()
    peer = s.accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
os.unlink(path)
print(*struct.unpack("3i", peer))
"""


def providers(machine):
    return json.loads(machine.run("cpuctl", "providers", "--json").stdout)


def said(machine, text):
    """What this bridge has said with that text in it."""
    return [entry["MESSAGE"] for entry in machine.journal(f"_SYSTEMD_UNIT={BRIDGE}", f"_PID={machine.main_pid(BRIDGE)}")
            if text in entry["MESSAGE"]]


@pytest.fixture
def machine(bridge_machine):
    """The bridge has just been started, and is registered."""
    bridge_machine.systemctl("reset-failed", BRIDGE)  # the limit of starts
    bridge_machine.systemctl("restart", BRIDGE)
    wait_for(lambda: providers(bridge_machine) == ["libvirt"], "the bridge is registered", 30)
    return bridge_machine


def test_it_goes_on_without_libvirt(machine):
    pid = machine.main_pid(BRIDGE)
    wait_for(lambda: said(machine, "trying again"), "the journal says that there is no libvirt", 30)
    assert "no connection to libvirt (qemu:///system)" in said(machine, "trying again")[0]
    wait_for(lambda: machine.unit(BRIDGE, "StatusText").endswith("libvirt: not there; cpupolicyd: registered"),
             "the status says so")
    # it tries again, and its sandbox and groups let it reach the socket
    peer = machine.run("python3", "-c", LISTENER).stdout.split()
    assert [int(n) for n in peer[:2]] == [pid, machine.uid(USER)]
    assert machine.unit(BRIDGE, "ActiveState") == "active"
    assert machine.main_pid(BRIDGE) == pid
    assert machine.unit(BRIDGE, "NRestarts") == "0"


def test_exposure_of_the_sandbox(machine):
    out = machine.run("systemd-analyze", "security", "--no-pager", BRIDGE, check=False).stdout
    # What is left: unix sockets, groups, and that the daemon sees who it is.
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", out)[1]) <= 0.5, out


def test_it_is_a_provider_as_its_own_user_by_polkit(machine):
    pid = machine.main_pid(BRIDGE)
    connections = json.loads(machine.run("busctl", "--system", "--json=short", "list").stdout)
    assert [c["user"] for c in connections if c["pid"] == pid] == [USER]

    machine.write(DENIAL, f"""polkit.addRule(function (action, subject) {{
        if (subject.user == "{USER}" && action.id == "org.cpupolicy1.provide")
            return polkit.Result.NO;
    }});""")
    try:
        machine.systemctl("restart", "polkit.service")
        machine.systemctl("restart", BRIDGE)
        wait_for(lambda: said(machine, "does not take us for a provider"), "polkit's word against it is heard", 30)
        assert providers(machine) == []
        assert machine.unit(BRIDGE, "ActiveState") == "active"
    finally:
        machine.path(DENIAL).unlink()
        machine.systemctl("restart", "polkit.service")
    # by itself
    wait_for(lambda: providers(machine) == ["libvirt"], "it is registered after all", 60)


def test_another_user_is_no_provider(machine):
    machine.add_user("mallory")
    result = machine.run("busctl", "--system", "call", "org.cpupolicy1", "/org/cpupolicy1", "org.cpupolicy1.Manager",
                         "RegisterProvider", "so", "rogue", "/rogue", user="mallory", check=False)
    assert result.returncode != 0
    assert "org.cpupolicy1.provide is needed" in result.stderr
    assert providers(machine) == ["libvirt"]


def test_a_restarted_daemon_is_told_again(machine):
    pid = machine.main_pid(BRIDGE)
    n = len(said(machine, "registered with the daemon"))
    machine.systemctl("restart", UNIT)
    wait_for(lambda: len(said(machine, "registered with the daemon")) == n + 1, "it has registered again", 30)
    wait_for(lambda: providers(machine) == ["libvirt"], "the daemon has it", 30)
    assert machine.main_pid(BRIDGE) == pid


def test_cpuctl_finds_its_helper(bridge_machine):
    assert "enable" in bridge_machine.run("cpuctl", "domain", "--help").stdout
    result = bridge_machine.run("cpuctl", "domain", "show", "web", check=False)
    assert result.returncode != 0
    assert "cannot connect to libvirt" in result.stderr
