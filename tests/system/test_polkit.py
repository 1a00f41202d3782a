# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed polkit actions, and the units of peers, with a real polkit and a real service manager."""

import json

import pytest

from cpupolicy_test import paths
from cpupolicy_test.daemon import Host
from cpupolicy_test.machine import SHARE
from cpupolicy_test.wait import wait_for

RULES = "/etc/polkit-1/rules.d/50-cpupolicy.rules"
POLICY = "/etc/cpupolicy/policy.d/60-trust.json"
ACCESS_DENIED = 11  # of cpuctl


@pytest.fixture(scope="module")
def users(machine):
    """alice operates acme's VMs; mallory is anybody."""
    machine.run("groupadd", "acme-ops")
    machine.add_user("alice", "acme-ops")
    machine.add_user("mallory")
    yield
    for user in ("alice", "mallory"):
        machine.run("userdel", "--remove", user, check=False)
    machine.run("groupdel", "acme-ops", check=False)


@pytest.fixture
def policy(machine, host):
    def write(value):
        machine.write(POLICY, json.dumps(value))
        host.cpuctl("reload")
    yield write
    machine.path(POLICY).unlink(missing_ok=True)
    host.cpuctl("reload")


@pytest.fixture
def rules(machine):
    """polkit notices by itself, some time."""
    def write(text):
        machine.write(RULES, text)
        machine.systemctl("restart", "polkit.service")
    yield write
    machine.path(RULES).unlink(missing_ok=True)
    machine.systemctl("restart", "polkit.service")


TENANTS = {"tenants": {"acme": {}, "beta": {}},
           "rules": [{"match": {"name": "acme-*"}, "tenant": "acme"}, {"match": {"name": "beta-*"}, "tenant": "beta"}]}


def denied(host, *args, user):
    result = host.cpuctl(*args, check=False, user=user)
    assert result.returncode == ACCESS_DENIED, (result.returncode, result.stderr)
    return result.stderr


def test_nobody_but_root_without_a_password(machine, host, users):
    host.vmm("web1", possible=4, boot=2)
    for args in (("set", "web1", "3", "--no-wait"), ("assign", "web1", "default"), ("reload",), ("freeze",)):
        message = denied(host, *args, user="alice")
        assert "org.cpupolicy1." in message and "pkttyagent" in message
    host.cpuctl("list", user="alice")
    assert host.show("web1")["Desired"] == 2
    host.cpuctl("set", "web1", "3", "--no-wait")
    assert host.show("web1")["Desired"] == 3
    (entry, *_) = machine.wait_journal("ACTION=org.cpupolicy1.administer")
    assert entry["UID"] == str(machine.uid("alice"))


def test_the_example_lets_a_group_resize_its_tenants_vms(machine, host, users, policy, rules):
    policy(TENANTS)
    rules((paths.SOURCE / "docs/polkit-rules.example").read_text("utf-8"))
    host.vmm("acme-1", possible=4, boot=2)
    host.vmm("beta-1", possible=4, boot=2)
    host.cpuctl("set", "acme-1", "3", "--no-wait", user="alice")
    shown = host.show("acme-1")
    assert (shown["Desired"], shown["DesiredUid"]) == (3, machine.uid("alice"))
    denied(host, "set", "beta-1", "3", "--no-wait", user="alice")
    denied(host, "set", "acme-1", "4", "--no-wait", user="mallory")
    denied(host, "assign", "beta-1", "--tenant", "acme", user="alice")
    assert host.show("beta-1")["Desired"] == 2


def test_rules_of_registration_see_the_unit_and_slice_of_a_vmm(machine, host, policy):
    """As the service manager made them, through the sandbox of the daemon."""
    policy({"registration": [{"match": {"name": "prod-*"}, "peer": {"slice": "prod.slice", "unit": "vmm-*.service"},
                              "verdict": "allow"},
                             {"match": {"name": "prod-*"}, "verdict": "deny"}]})
    program = ("import sys, time; sys.path.insert(0, '%s/tree/tests/lib')\n"
               "from cpupolicy_test import wire\n"
               "v = wire.Vmm.start('/run/cpupolicy/vmm.sock', 'prod-1')\n"
               "open('/run/vmm-registered', 'w').close()\n"
               "time.sleep(600)\n" % SHARE)
    start = ["systemd-run", "--collect", "--unit=vmm-1", "--property=SuccessExitStatus=1"]
    run = ["/usr/bin/python3", "-c", program]
    machine.run(*start, "--slice=other.slice", *run)
    (entry, *_) = machine.wait_journal("VM_NAME=prod-1", "PEER_SLICE=other.slice")
    assert entry["PEER_UNIT"] == "vmm-1.service" and entry["RULE"] == "registration-2"
    assert not Host.known(host, "prod-1")
    machine.systemctl("stop", "vmm-1.service", check=False)
    wait_for(lambda: machine.unit("vmm-1.service", "LoadState") == "not-found", "the unit has gone")
    machine.run(*start, "--slice=prod.slice", *run)
    try:
        wait_for(machine.path("/run/vmm-registered").exists, "it is registered")
        assert host.show("prod-1")["State"] == "running"
    finally:
        machine.systemctl("stop", "vmm-1.service")
        machine.path("/run/vmm-registered").unlink(missing_ok=True)


def test_rules_of_registration_see_the_machine_of_a_vmm(machine, host, policy):
    """One that machined knows: its scope is made around a process that registers only then."""
    policy({"registration": [{"match": {"name": "boxed"}, "peer": {"machine": "box1"}, "verdict": "allow"},
                             {"match": {"name": "boxed"}, "verdict": "deny"}]})
    program = ("import os, sys, time; sys.path.insert(0, '%s/tree/tests/lib')\n"
               "from cpupolicy_test import wire\n"
               "while not os.path.exists('/run/vmm-go'): time.sleep(0.05)\n"
               "v = wire.Vmm.start('/run/cpupolicy/vmm.sock', 'boxed')\n"
               "print('registered', flush=True)\n"
               "time.sleep(600)\n" % SHARE)
    go = machine.path("/run/vmm-go")
    try:
        go.touch()
        outside = machine.start("/usr/bin/python3", "-c", program, name="outside")
        wait_for(lambda: not outside.alive(), "who is in no machine is refused")
        assert not Host.known(host, "boxed")
        go.unlink()
        machine.run("systemd-run", "--unit=boxed", "--collect", "/usr/bin/python3", "-c", program)
        pid = machine.unit("boxed.service", "MainPID")
        machine.run("busctl", "call", "org.freedesktop.machine1", "/org/freedesktop/machine1",
                    "org.freedesktop.machine1.Manager", "CreateMachine", "sayssusa(sv)", "box1",
                    "16", *map(str, range(1, 17)), "test", "vm", pid, "", "0")
        go.touch()
        (entry, *_) = machine.wait_journal("VM_NAME=boxed", "PEER_MACHINE=box1")
        assert entry["PEER_UNIT"] == "machine-box1.scope" and entry["PEER_PID"] == pid
        assert host.show("boxed")["State"] == "running"
    finally:
        go.unlink(missing_ok=True)
        machine.run("machinectl", "terminate", "box1", check=False)
        machine.systemctl("stop", "boxed.service", check=False)


def test_a_launcher_opens_a_connection_under_the_sandbox(machine, host, users, policy):
    """The VMM's own uid and pid are what the daemon sees."""
    policy({"registration": [{"verdict": "deny"}]})
    uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    program = ("import sys; sys.path.insert(0, '%s/tree/tests/lib')\n"
               "from cpupolicy_test import wire\n"
               "v = wire.Vmm.start(3, 'web', uuid=wire.uuidlib.UUID('%s'))\n"
               "print('registered', flush=True)\n"
               "sys.stdin.read() or __import__('time').sleep(600)\n" % (SHARE, uuid))
    uid = machine.uid("mallory")
    process = machine.start("cpuctl", "open-vmm", uuid, "--uid", uid, "--", "setpriv", f"--reuid={uid}",
                            f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", program, name="opened")
    try:
        process.wait_log("registered")
        assert host.show("web")["VmmUid"] == uid
    finally:
        process.kill()
