# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed daemon under a real systemd."""

import json
import re

import pytest

from cpupolicy_test.machine import UNIT
from cpupolicy_test.wait import wait_for


def test_is_enabled_and_active_once_installed(make_machine):
    machine = make_machine()
    assert machine.systemctl("is-enabled", UNIT).strip() == "enabled"
    machine.wait_unit(UNIT)
    assert machine.unit(UNIT, "NRestarts") == "0"  # the bus knew its user in time
    assert machine.systemctl("is-system-running").strip() == "running"


def test_runs_as_its_own_user_with_no_capability(machine, host):
    status = machine.path(f"/proc/{machine.main_pid()}/status").read_text("ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = str(machine.uid("cpupolicy"))
    assert uid != "0"
    assert fields["Uid"].split() == [uid] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


def test_a_vm_is_registered_and_resized_under_the_sandbox(host):
    vmm = host.vmm("web1", possible=4, boot=2)
    host.cpuctl("set", "web1", "3", "--no-wait")
    shown = host.show("web1")
    assert (shown["Desired"], shown["Enabled"]) == (3, 3)
    assert vmm.process.alive()


def test_exposure_of_the_sandbox(machine):
    out = machine.run("systemd-analyze", "security", "--no-pager", UNIT, check=False).stdout
    # What is left: the unix and netlink sockets it is for, chown and setrlimit; and that it sees who its peers are.
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", out)[1]) <= 1.2, out
    # threshold in tenths: the status is that of a check
    machine.run("systemd-analyze", "security", "--no-pager", "--threshold=13", UNIT)


def test_denials_are_in_the_journal_with_their_fields(machine, host):
    vmm = host.vmm("denied1", possible=4, boot=1, user="root")
    vmm.call("denied", 3)
    (entry,) = machine.wait_journal("VERDICT=deny", "VM_NAME=denied1")
    assert entry["_SYSTEMD_UNIT"] == UNIT
    assert entry["SYSLOG_IDENTIFIER"] == "cpupolicyd"
    assert entry["VCPU"] == "3"
    assert entry["REASON"] == "not-enabled"
    assert entry["VM_UUID"] == host.show("denied1")["Uuid"]
    assert "denied1" in entry["MESSAGE"]


@pytest.fixture
def policy_file(machine, host):
    """The host's policy is that file; afterwards it is gone, and the default one in force again."""
    path = "/etc/cpupolicy/policy.d/50-test.json"
    yield path
    machine.path(path).unlink(missing_ok=True)
    host.cpuctl("reload")


def class_names(host):
    return host.cpuctl("classes", "--names").split()


def test_reload_takes_a_good_policy(machine, host, policy_file):
    machine.write(policy_file, json.dumps({"classes": {"default": {}, "gold": {"guaranteed": 2}}}))
    pid = machine.main_pid()
    machine.systemctl("reload", UNIT)
    wait_for(lambda: "gold" in class_names(host), "the class is there")
    assert machine.main_pid() == pid


def test_reload_refuses_a_bad_policy_and_says_why(machine, host, policy_file):
    machine.write(policy_file, json.dumps({"classes": {"default": {}, "silver": {}}}))
    machine.systemctl("reload", UNIT)
    wait_for(lambda: "silver" in class_names(host), "the good policy is in force")
    machine.write(policy_file, '{"classes": {"default": {"guaranteed": "many"}}}')
    machine.systemctl("reload", UNIT)
    entries = wait_for(lambda: [e for e in machine.journal("_SYSTEMD_UNIT=" + UNIT)
                                if "50-test.json" in e["MESSAGE"] and "guaranteed" in e["MESSAGE"]],
                       "the journal says what is wrong")
    assert int(entries[0]["PRIORITY"]) <= 4
    assert "silver" in class_names(host)
    machine.wait_unit(UNIT)
