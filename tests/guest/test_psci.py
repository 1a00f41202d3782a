# SPDX-License-Identifier: GPL-2.0-or-later
"""Firmware calls one by one, by a guest that has no kernel in the way."""

import re
import time

import pytest

from cpupolicy_test.daemon import default_class
from cpupolicy_test.guest import (ALREADY_ON, CPU_ON, CPU_ON_32, DENIED, INVALID_PARAMETERS,
                                  SUCCESS, SYSTEM_OFF, SYSTEM_RESET)
from cpupolicy_test.qemu import policy_options
from cpupolicy_test.qmp import QmpError
from cpupolicy_test.wait import never, wait_for

ASK = default_class(verdicts="ask", ask_timeout_ms=60000)
SANDBOX = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]


def policy(machine):
    return machine.qmp.execute("query-cpu-policy")


def vcpu(machine, index):
    return policy(machine)["vcpus"][index]


@pytest.mark.every_series
def test_granted_comes_up_and_denied_does_not(lab, host):
    machine = lab.psci(host, smp="cpus=2,maxcpus=4")
    guest = machine.guest
    assert guest.cpu_on(1, 0x1234) == SUCCESS
    assert guest.wait_entered(1)["context"] == 0x1234
    for cpu in (2, 3):
        assert guest.cpu_on(cpu) == DENIED
        assert guest.affinity_info(cpu) == 1
        assert guest.secondary(cpu)["entered"] == 0
    host.wait_prop("psci", "Denied", 2)
    rows = host.get("psci", "Vcpus")
    assert [r[6] for r in rows[1:]] == ["granted", "not-enabled", "not-enabled"]
    log = [line for line in host.daemon.log().splitlines() if "VERDICT=deny" in line]
    assert any("VCPU=2" in line and "REASON=not-enabled" in line for line in log)
    assert vcpu(machine, 2)["denied"] == 1 and vcpu(machine, 2)["verdict"] == DENIED


@pytest.mark.every_series
def test_order_of_checks(lab, host):
    """Bad parameters first, then already on, then policy."""
    guest = lab.psci(host, smp="cpus=2,maxcpus=4").guest
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    assert guest.cpu_on(1) == ALREADY_ON
    assert guest.cpu_on(0) == ALREADY_ON
    assert guest.cpu_on(4) == INVALID_PARAMETERS, "no such vCPU, granted or not"
    assert guest.call(CPU_ON, 0x8000_0000_0000_0002, guest.entry(), 0) == INVALID_PARAMETERS
    assert guest.cpu_on(2) == DENIED
    assert guest.cpu_on(2, function=CPU_ON_32) == DENIED
    host.wait_prop("psci", "Denied", 2)


def test_off_and_on_again(lab, host):
    guest = lab.psci(host, smp="cpus=2,maxcpus=4").guest
    for count in range(1, 4):
        assert guest.cpu_on(1) == SUCCESS
        guest.wait_entered(1, count)
        host.wait_prop("psci", "OnlineSet", "0-1")
        guest.cpu_off(1)
        host.wait_prop("psci", "OnlineSet", "0")


def test_one_vcpu_asks_for_another(lab, host):
    guest = lab.psci(host, smp="cpus=3,maxcpus=4").guest
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    guest.secondary_call(1, CPU_ON, 3, guest.entry(), 0)
    assert wait_for(lambda: guest.secondary(1)["calls"] == 1 and guest.secondary(1),
                    "the call returns")["result"] == DENIED
    guest.secondary_call(1, CPU_ON, 2, guest.entry(), 7)
    assert guest.wait_entered(2)["context"] == 7


@pytest.mark.parametrize("reset", ["guest", "host"])
def test_reset_keeps_the_policy(lab, host, reset):
    machine = lab.psci(host, smp="cpus=2,maxcpus=4")
    guest = machine.guest
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    host.wait_prop("psci", "OnlineSet", "0-1")
    boots = machine.channel.boots
    if reset == "guest":
        guest.start_call(SYSTEM_RESET)
    else:
        machine.qmp.execute("system_reset")
    machine.wait_boot(boots + 1)
    host.wait_prop("psci", "OnlineSet", "0")
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    assert guest.cpu_on(2) == DENIED
    assert host.get("psci", "EnabledSet") == "0-1"


def test_power_off_ends_the_vm(lab, host):
    machine = lab.psci(host)
    machine.guest.start_call(SYSTEM_OFF)
    assert machine.process.wait() == 0
    wait_for(lambda: not host.known("psci"), "the daemon knows that it ended")


def test_killed_qemu_is_noticed(lab, host):
    machine = lab.psci(host)
    machine.kill()
    wait_for(lambda: not host.known("psci"), "the daemon knows that it ended")


def test_flood_of_denied_calls(lab, host):
    flooder = lab.psci(host, name="flooder")
    other = lab.psci(host, name="other")
    assert flooder.guest.flood(20000, CPU_ON, 3, 0, 0) == (20000, DENIED)
    assert other.guest.cpu_on(1) == SUCCESS
    host.wait_prop("flooder", "Denied", 20000)
    assert len(host.daemon.log()) < 50_000
    assert flooder.guest.cpu_on(1) == SUCCESS


def test_flood_of_on_and_off(lab, host):
    """Events as fast as the guest can make them; the picture is right in the end."""
    guest = lab.psci(host).guest
    for i in range(200):
        assert guest.cpu_on(1) == SUCCESS
        guest.wait_entered(1, i + 1)
        guest.cpu_off(1)
    host.wait_prop("psci", "OnlineSet", "0")
    assert guest.cpu_on(1) == SUCCESS
    host.wait_prop("psci", "OnlineSet", "0-1")


# ---- asking ----

@pytest.mark.every_series
def test_ask(lab, make_host):
    host = make_host(policy=ASK)
    guest = lab.psci(host, smp="cpus=3,maxcpus=4").guest
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    assert guest.cpu_on(2) == SUCCESS
    guest.wait_entered(2)
    assert guest.cpu_on(3) == DENIED
    host.wait_prop("psci", "OnlineSet", "0-2")


def test_rate_limit(lab, make_host):
    host = make_host(policy=default_class(cpu_on={"per_second": 1, "burst": 2}))
    guest = lab.psci(host).guest
    results = []
    for _ in range(4):
        results.append(guest.cpu_on(1))
        if results[-1] == SUCCESS:
            guest.cpu_off(1)
    assert results[:2] == [SUCCESS, SUCCESS] and DENIED in results
    assert any("REASON=rate" in line for line in host.daemon.log().splitlines())
    wait_for(lambda: guest.cpu_on(1) in (SUCCESS, ALREADY_ON), "tokens come back", 10, 0.3)


def parked(lab, host):
    """A machine whose boot vCPU waits for the verdict of a daemon that is alive and silent."""
    machine = lab.psci(host, smp="cpus=2,maxcpus=4")
    entry = machine.guest.entry()
    policy(machine)
    host.daemon.freeze()
    call = machine.guest.start_call(CPU_ON, 1, entry, 0)
    # a reset must not overtake it: the guest would read the command after that
    wait_for(lambda: f"X00={CPU_ON:016x}" in machine.qmp.execute("human-monitor-command", command_line="info registers"),
             "the call is made")
    return machine, call


def quick(seconds):
    assert seconds < 5, f"a slow daemon delayed QEMU by {seconds:.1f} s"


@pytest.mark.every_series
def test_slow_daemon_delays_nothing_else(lab, make_host):
    host = make_host(policy=ASK)
    machine, call = parked(lab, host)
    never(lambda: machine.channel.answered(call), "a verdict without the daemon", 0.5)
    quick(machine.timed("stop"))
    assert machine.qmp.status() == "paused"
    quick(machine.timed("cont"))
    quick(machine.timed("query-cpus-fast"))
    never(lambda: machine.channel.answered(call), "a verdict without the daemon", 0.3)
    host.daemon.thaw()
    assert machine.guest.finish_call(call) == SUCCESS, "asked again after the stop"
    machine.guest.wait_entered(1)


@pytest.mark.every_series
def test_reset_abandons_the_wait(lab, make_host):
    host = make_host(policy=ASK)
    machine, _ = parked(lab, host)
    boots = machine.channel.boots
    quick(machine.timed("system_reset"))
    machine.wait_boot(boots + 1, 10)
    host.daemon.thaw()
    host.wait_prop("psci", "OnlineSet", "0")
    assert machine.guest.affinity_info(1) == 1, "nothing powers on afterwards"
    assert machine.guest.cpu_on(1) == SUCCESS


def test_quit_does_not_wait_for_the_daemon(lab, make_host):
    machine, _ = parked(lab, make_host(policy=ASK))
    start = time.monotonic()
    assert machine.quit() == 0
    quick(time.monotonic() - start)


@pytest.mark.parametrize("on_timeout,result", [("deny", DENIED), ("allow", SUCCESS)])
def test_verdict_on_timeout(lab, make_host, on_timeout, result):
    host = make_host(policy=default_class(verdicts="ask", ask_timeout_ms=300, on_timeout=on_timeout))
    machine, call = parked(lab, host)
    assert machine.guest.finish_call(call, 20) == result
    assert vcpu(machine, 1)["reason"] == "timeout"
    host.daemon.thaw()
    if result == DENIED:
        host.wait_prop("psci", "Denied", 1)
        assert machine.guest.secondary(1)["entered"] == 0
    else:
        host.wait_prop("psci", "OnlineSet", "0-1")
    assert machine.guest.cpu_on(3) == DENIED


def test_death_of_the_daemon_while_a_call_waits(lab, make_host):
    host = make_host(policy=ASK)
    machine, call = parked(lab, host)
    host.daemon.kill()
    assert machine.guest.finish_call(call, 20) == DENIED, "the verdict on timeout, and no longer wait"
    assert vcpu(machine, 1)["reason"] == "timeout"
    host.daemon.start()
    wait_for(lambda: policy(machine)["link"] == "registered", "reconnected")
    host.wait_prop("psci", "Denied", 1)
    assert machine.guest.cpu_on(1) == SUCCESS
    assert machine.guest.cpu_on(3) == DENIED


def test_observe(lab, make_host):
    host = make_host(policy=default_class(observe=True))
    guest = lab.psci(host, smp="cpus=2,maxcpus=4").guest
    assert guest.cpu_on(3) == SUCCESS
    guest.wait_entered(3)
    host.wait_prop("psci", "OverdueSet", "3")
    wait_for(lambda: "REASON=not-enabled" in host.daemon.log(), "what would have been is recorded")


# ---- without the daemon ----

def test_fail_static(lab, host):
    """The last policy holds: granted is granted, denied is denied; then the picture is right again."""
    machine = lab.psci(host, smp="cpus=3,maxcpus=4")
    guest = machine.guest
    host.daemon.kill()
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    assert guest.cpu_on(3) == DENIED
    wait_for(lambda: policy(machine)["link"] == "connecting", "QEMU noticed")
    assert guest.cpu_on(2) == SUCCESS
    assert guest.cpu_on(3) == DENIED
    host.daemon.start()
    wait_for(lambda: policy(machine)["link"] == "registered", "QEMU is back by itself")
    host.wait_prop("psci", "OnlineSet", "0-2")
    assert host.get("psci", "EnabledSet") == "0-2"
    host.wait_prop("psci", "Denied", 2)


def test_qemu_before_its_daemon_waits(lab, make_host):
    host = make_host(start=False)
    machine = lab.psci(host, boot=False)
    machine.process.wait_log(str(host.socket))
    never(lambda: machine.channel.boots, "the guest started without a policy", 0.5)
    host.daemon.start()
    machine.wait_boot()
    assert machine.guest.cpu_on(1) == SUCCESS
    assert machine.guest.cpu_on(2) == DENIED


def test_waiting_qemu_ends_by_a_signal(lab, make_host):
    host = make_host(start=False)
    machine = lab.psci(host, boot=False)
    machine.process.wait_log(str(host.socket))
    start = time.monotonic()
    machine.process.stop()
    quick(time.monotonic() - start)


def test_qemu_before_its_daemon_boots_alone(lab, make_host):
    host = make_host(start=False)
    machine = lab.psci(host, policy={"path": host.socket, "on_missing": "boot-alone"},
                       firmware=True)
    assert machine.guest.cpu_on(1) == DENIED, "never open"
    assert vcpu(machine, 1)["reason"] == "no-policy"
    host.daemon.start()
    wait_for(lambda: policy(machine)["link"] == "registered", "QEMU finds its daemon")
    wait_for(lambda: machine.guest.cpu_on(1) == SUCCESS, "the others are given to it")
    assert machine.guest.cpu_on(2) == DENIED


def test_refused_vm_does_not_start(lab, host):
    first = lab.psci(host, name="web")
    impostor = lab.psci(host, name="other", uuid=first.uuid, boot=False)
    assert impostor.process.wait(20) != 0
    assert "token" in impostor.process.log()
    twin = lab.psci(host, name="web", boot=False)
    assert twin.process.wait(20) != 0
    assert "name" in twin.process.log()
    assert first.guest.cpu_on(1) == SUCCESS
    assert host.get("web", "State") == "running"


def test_object_that_no_machine_uses(lab):
    """Its user believes that it enforces something."""
    forgotten = lab.psci(extra=policy_options(standalone="on"), boot=False)
    assert forgotten.process.wait(20) != 0
    assert "cpu-policy=policy0" in forgotten.process.log()
    late = lab.psci()
    with pytest.raises(QmpError):
        late.qmp.execute("object-add", **{"qom-type": "cpupolicy", "id": "late", "standalone": True})


def test_seccomp_sandbox(lab, host):
    """Reconnection, pages and doorbells under QEMU's own system call filter."""
    machine = lab.psci(host, extra=SANDBOX)
    assert machine.guest.cpu_on(1) == SUCCESS
    assert machine.guest.cpu_on(2) == DENIED
    host.daemon.restart_killed()
    wait_for(lambda: policy(machine)["link"] == "registered", "reconnected")
    assert machine.guest.cpu_on(2) == DENIED
    machine.system_reset()
    assert machine.guest.cpu_on(1) == SUCCESS
    assert machine.quit() == 0


def test_standalone(lab):
    machine = lab.psci(policy={"standalone": "on"}, firmware=True, smp="cpus=2,maxcpus=4")
    guest = machine.guest
    assert policy(machine)["link"] == "local"
    assert guest.cpu_on(2) == DENIED
    since = len(machine.qmp.events)
    machine.qmp.execute("cpu-policy-set", count=3)
    assert machine.qmp.event("CPU_POLICY_CHANGED", lambda d: d["visible"] == 3, since)
    assert guest.cpu_on(2) == SUCCESS
    machine.qmp.execute("cpu-policy-set", vcpus=[0, 3])
    assert not vcpu(machine, 1)["wanted"] and vcpu(machine, 3)["enabled"]
    for bad in ({"count": 0}, {"count": 5}, {"vcpus": [1]}, {"vcpus": [0, 9]}, {}):
        with pytest.raises(QmpError):
            machine.qmp.execute("cpu-policy-set", **bad)


def test_break_glass(lab, host):
    machine = lab.psci(host, policy={"path": host.socket, "break_glass": "on"}, firmware=True)
    with pytest.raises(QmpError):
        machine.qmp.execute("cpu-policy-set", count=3)
    host.daemon.kill()
    wait_for(lambda: policy(machine)["link"] == "connecting", "QEMU noticed")
    machine.qmp.execute("cpu-policy-set", count=3)
    assert machine.guest.cpu_on(2) == SUCCESS
    host.daemon.start()
    wait_for(lambda: policy(machine)["link"] == "registered", "the daemon's policy holds again")
    host.wait_prop("psci", "OverdueSet", "2")


def test_no_permission_no_break_glass(lab, host):
    machine = lab.psci(host, firmware=True)
    host.daemon.kill()
    wait_for(lambda: policy(machine)["link"] == "connecting", "QEMU noticed")
    with pytest.raises(QmpError):
        machine.qmp.execute("cpu-policy-set", count=4)
    assert machine.guest.cpu_on(3) == DENIED


def test_smp_with_boot_count_is_the_same(lab, host):
    machine = lab.psci(host, smp="4", policy={"path": host.socket, "boot": 2})
    guest = machine.guest
    assert guest.cpu_on(1) == SUCCESS
    assert guest.cpu_on(2) == DENIED
    shown = host.show("psci")
    assert (shown["Possible"], shown["Boot"], shown["EnabledSet"]) == (4, 2, "0-1")
    assert len(machine.qmp.execute("query-cpus-fast")) == 4


def test_events_and_query(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4")
    info = policy(machine)
    assert info["link"] == "registered" and info["epoch"] == host.get("psci", "Generation") == 1
    assert [v["enabled"] for v in info["vcpus"]] == [True, True, False, False]
    since = len(machine.qmp.events)
    host.resize("psci", 3)
    machine.qmp.event("CPU_POLICY_CHANGED", lambda d: d["visible"] == 3, since)
    assert vcpu(machine, 2)["visible"]
    wait_for(lambda: host.get("psci", "Confirmed") == host.get("psci", "Generation"), "confirmed")


@pytest.mark.every_series
def test_without_the_object_there_is_no_policy(lab):
    machine = lab.psci(smp="2")
    assert machine.guest.cpu_on(1) == SUCCESS
    with pytest.raises(QmpError):
        policy(machine)


def test_boot_vcpus_that_are_not_removable(lab, host):
    fixed = {"path": host.socket, "removable_boot_vcpus": "off"}
    machine = lab.psci(host, firmware=True, policy=fixed)
    e = host.bus.error_of("/org/cpupolicy1", "org.cpupolicy1.Manager", "SetVcpuCount",
                          "string:psci", "uint32:1")
    assert e.name == "org.cpupolicy1.Error.BootVcpu"
    machine.quit()
    # The way out that the sentence names is one.
    name, value = re.search(r"start it with ([a-z-]+)=(\w+)", e.message).groups()
    lab.psci(host, firmware=True, uuid=machine.uuid, policy={**fixed, name.replace("-", "_"): value})
    assert host.cpuctl("set", "psci", "1", "--no-wait", check=False).returncode == 0


def test_device_tree_guest_cannot_be_resized_and_is_held(lab, host):
    machine = lab.psci(host, firmware=False)
    e = host.bus.error_of("/org/cpupolicy1", "org.cpupolicy1.Manager", "SetVcpuCount",
                          "string:psci", "uint32:3")
    assert e.name == "org.cpupolicy1.Error.NotNotifiable" and "ACPI" in e.message
    assert machine.guest.cpu_on(2) == DENIED
