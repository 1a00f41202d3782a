# SPDX-License-Identifier: GPL-2.0-or-later
"""Firmware calls one by one, as the kernel's PSCI has them and as ours does."""

import pytest

# pylint: disable=unused-import
from test_psci import (test_ask, test_boot_vcpus_that_are_not_removable,  # noqa: F401
                       test_death_of_the_daemon_while_a_call_waits, test_fail_static,
                       test_flood_of_denied_calls, test_granted_comes_up_and_denied_does_not,
                       test_off_and_on_again, test_one_vcpu_asks_for_another, test_order_of_checks,
                       test_power_off_ends_the_vm, test_quit_does_not_wait_for_the_daemon,
                       test_reset_abandons_the_wait, test_reset_keeps_the_policy,
                       test_slow_daemon_delays_nothing_else, test_smp_with_boot_count_is_the_same,
                       test_standalone, test_verdict_on_timeout)
from cpupolicy_test.guest import (AFFINITY_INFO, ALREADY_ON, CPU_OFF, CPU_ON, CPU_ON_32, DENIED,
                                  INVALID_PARAMETERS, NOT_SUPPORTED, PSCI_VERSION, SUCCESS)
from cpupolicy_test.kvm import STOCK_QEMU
from cpupolicy_test.wait import wait_for

STOCK = STOCK_QEMU / "qemu-system-aarch64"
AFFINITY_INFO_32 = 0x84000004
CPU_OFF_64 = 0xC4000002
PSCI_FEATURES = 0x8400000A
MIGRATE_INFO_TYPE = 0x84000006
SYSTEM_SUSPEND = 0xC400000E
UNKNOWN = 0x8400FFFF
GARBAGE = 0xDEADBEEF_00000000
FUNCTIONS = (PSCI_VERSION, 0x84000001, 0xC4000001, CPU_OFF, CPU_OFF_64, CPU_ON_32, CPU_ON,
             AFFINITY_INFO_32, AFFINITY_INFO, MIGRATE_INFO_TYPE, 0x84000008, 0x84000009,
             PSCI_FEATURES, 0x8400000E, SYSTEM_SUSPEND, 0x84000012, 0xC4000012, UNKNOWN)
# Of four vCPUs; what is beyond them in each field of an MPIDR, and in the bits that are none.
NO_TARGETS = (4, 15, 16, 0x100, 0x10001, 0x1_0000_0001, 0xFF_0000_0001, 0x80000001, 0x4100_0001,
              GARBAGE | 1, 0x8000_0000_0000_0001, 0xFFFF_FFFF_FFFF_FFFF)


class Calls:
    """Calls in one order, and what came back."""

    def __init__(self, guest):
        self.guest = guest
        self.results = {}

    def call(self, what, function, a=0, b=0, c=0, smc=False):
        result = self.guest.command("m" if smc else "c", function, a, b, c)[0]
        self.results[what] = result
        return result

    def start(self, what, target, function=CPU_ON, context=0, smc=False):
        """CPU_ON that should succeed, with which context, what again, and off."""
        results = self.guest.command("u", function, target, context, int(smc))
        for name, result in zip(("", ": context", ": again", ": off"), results):
            self.results[what + name] = result

    def all(self):
        call, start = self.call, self.start
        for smc in (False, True):
            how = "smc" if smc else "hvc"
            call(f"{how} version", PSCI_VERSION, smc=smc)
            for function in () if smc else FUNCTIONS:
                call(f"features {function:#x}", PSCI_FEATURES, function)
            for function in (CPU_ON, CPU_ON_32):
                for target in NO_TARGETS:
                    if function == CPU_ON_32 and target & 0xFFFFFFFF == 1:
                        start(f"{how} {function:#x} of {target:#x}", target, function, 0, smc)
                    else:
                        call(f"{how} {function:#x} of {target:#x}", function, target, 0, 0, smc)
                call(f"{how} {function:#x} of itself", function, 0, 0, 0, smc)
                start(f"{how} {function:#x}", 1, function, 0x1234567, smc)
                start(f"{how} {function:#x}, much in its arguments", 1, function, GARBAGE | 7, smc)
                start(f"{how} {function:#x}, much in its number", 1, function | GARBAGE, 5, smc)
            call(f"{how} off in 64 bits", CPU_OFF_64, smc=smc)
            call(f"{how} unknown", UNKNOWN, smc=smc)
            call(f"{how} migrate info", MIGRATE_INFO_TYPE, smc=smc)
        for function in (AFFINITY_INFO, AFFINITY_INFO_32):
            for level in (0, 1, 3, 4):
                for target in (0, 2, 4, GARBAGE):
                    call(f"{function:#x} of {target:#x}, {level}", function, target, level)
        # One that PSCI need not check: KVM starts it there.
        call("entry that is not aligned", CPU_ON, 3, 3, 0)
        call("... and again", CPU_ON, 3, 3, 0)
        return self.results


def unequal(ours, stock):
    return {what: (ours.get(what), stock.get(what)) for what in {*ours, *stock}
            if ours.get(what) != stock.get(what)}


def test_codes_are_those_of_the_kernel(lab, host):
    """The same guest program, on the same kernel, without the filter and with it."""
    stock = Calls(lab.psci(name="stock", smp="4", qemu=STOCK).guest).all()
    assert {0, INVALID_PARAMETERS & 0xFFFFFFFF_FFFFFFFF} <= set(stock.values())
    ours = Calls(lab.psci(host, name="all", smp="4").guest).all()
    assert not unequal(ours, stock)

    # Where policy says no, and nowhere else, the answer is another one.
    held = Calls(lab.psci(host, name="held", smp="cpus=1,maxcpus=4").guest).all()
    different = unequal(held, stock)
    denied = {what for what in different if held.get(what) == DENIED & 0xFFFFFFFF_FFFFFFFF}
    assert len(denied) >= 13
    assert all(stock[what] in (0, ALREADY_ON & 0xFFFFFFFF_FFFFFFFF) for what in denied)
    # what follows from not having been started
    assert all(any(what.startswith(d + ":") for d in denied) for what in different.keys() - denied), different


@pytest.mark.parametrize("verdicts", ["page", "ask"])
def test_races(lab, make_host, verdicts):
    host = make_host(policy={"classes": {"default": {"verdicts": "ask", "ask_timeout_ms": 60000}}}
                     if verdicts == "ask" else None)
    machine = lab.psci(host, smp="4")
    guest = machine.guest
    for cpu in (1, 3):
        assert guest.cpu_on(cpu) == SUCCESS
        guest.wait_entered(cpu)
    assert guest.command("p", 1, 3, 2, 60, deadline=120) == [60, 0, 0], "of two callers one succeeds"
    started, early, others = guest.command("o", 1, 2, 60, deadline=120)
    assert started + early == 60 and others == 0
    host.wait_prop("psci", "OnlineSet", "0-1,3")


def test_truth_about_vcpus_that_are_off(lab, host):
    """Each vCPU has its thread, and the monitor says which of them run."""
    machine = lab.psci(host, smp="cpus=2,maxcpus=4")
    guest = machine.guest
    assert guest.cpu_on(1) == SUCCESS
    guest.wait_entered(1)
    assert guest.cpu_on(2) == DENIED
    threads = [v["thread-id"] for v in machine.qmp.execute("query-cpus-fast")]
    assert len(set(threads)) == 4
    machine.qmp.execute("stop")
    text = machine.qmp.execute("human-monitor-command", command_line="info registers -a")
    states = [block.split("PSTATE")[0] for block in text.split("CPU#")[1:]]
    assert len(states) == 4
    assert [v["online"] for v in machine.qmp.execute("query-cpu-policy")["vcpus"]] == [True, True, False, False]
    machine.qmp.execute("cont")
    assert guest.affinity_info(1) == 0 and guest.affinity_info(2) == 1


def test_interrupt_to_a_standby_vcpu(lab, host):
    """Its redistributor is there from the start; what is sent to it harms nothing."""
    machine = lab.psci(host, smp="cpus=1,maxcpus=4", firmware=True)
    guest = machine.guest
    for cpu in (1, 2, 3):
        redistributor = 0x080A0000 + 0x20000 * cpu
        assert guest.read(8, redistributor + 8) >> 32 == cpu, "GICR_TYPER's affinity"
        guest.command("s", cpu, PSCI_VERSION, 0, 0, 0)
        assert guest.cpu_on(cpu) == DENIED
    host.resize("psci", 2)
    wait_for(lambda: guest.cpu_on(1) == SUCCESS, "it is given to it")
    # the call that was posted while it was off is found as it comes up
    wait_for(lambda: guest.secondary(1)["calls"] == 1, "the call")
    assert guest.cpu_on(2) == DENIED


def test_guest_cannot_take_what_it_has_by_many_calls(lab, make_host):
    """Unanswered calls of all its vCPUs at once, and none of the others is held up."""
    host = make_host(policy={"classes": {"default": {"verdicts": "ask", "ask_timeout_ms": 60000}}})
    machine = lab.psci(host, smp="4")
    guest = machine.guest
    for cpu in (1, 2):
        assert guest.cpu_on(cpu) == SUCCESS
        guest.wait_entered(cpu)
    entry = guest.entry()
    host.daemon.freeze()
    for cpu in (1, 2):
        guest.secondary_call(cpu, CPU_ON, 3, entry, cpu)
    assert guest.call(PSCI_VERSION) >= 0x10000, "the boot vCPU runs on"
    assert guest.affinity_info(3) == 1
    assert [guest.secondary(cpu)["calls"] for cpu in (1, 2)] == [0, 0]
    host.daemon.thaw()
    results = wait_for(lambda: all(guest.secondary(cpu)["calls"] for cpu in (1, 2)) and
                       sorted(guest.secondary(cpu)["result"] for cpu in (1, 2)), "both are answered")
    assert results == [ALREADY_ON, SUCCESS]
    assert guest.wait_entered(3)["context"] in (1, 2)
    assert guest.secondary(3)["entered"] == 1


def test_not_supported_without_a_policy(lab):
    """The calls that are not forwarded are the kernel's own."""
    guest = lab.psci(smp="2").guest
    assert guest.call(CPU_OFF_64) == NOT_SUPPORTED and guest.cpu_on(1) == SUCCESS
