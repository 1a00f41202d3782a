# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed daemon under a real systemd."""

from cpupolicy_test.machine import UNIT


def test_is_enabled_and_active_once_installed(machine):
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
