# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of guests under KVM, on an arm64 host that is itself emulated: its times say little, the
ratios of one run more, and what it counts is what any host would count."""

import pathlib
import statistics
import time

from cpupolicy_test.daemon import default_class
from cpupolicy_test.kvm import STOCK_QEMU, KvmHost, KvmLab
from cpupolicy_test.lab import temporary_directory

STOCK = STOCK_QEMU / "qemu-system-aarch64"
TRACING = "/sys/kernel/tracing"
COUNTS = {"ioctls": "syscalls:sys_enter_ioctl", "exits to user space": "kvm:kvm_userspace_exit"}
BOOTS = (1, 4, 8)


class Counter:
    """What QEMU and its vCPUs do, counted by the host's kernel."""

    def __init__(self, agent):
        self.agent = agent

    def exits(self, machine):
        """All exits of a guest so far, those that the kernel handles by itself included."""
        out = self.agent.sh(f"cat /sys/kernel/debug/kvm/{machine.pid}-*/exits")
        return sum(int(line) for line in out.split())

    def during(self, machine, act):
        """{what: how many} while `act` runs."""
        self.agent.sh(f"cd {TRACING}; echo 0 >tracing_on; echo >trace; echo 16384 >buffer_size_kb; "
                      f"ls /proc/{machine.pid}/task >set_event_pid; "
                      f"echo {' '.join(COUNTS.values())} | tr ' ' '\\n' >set_event; echo 1 >tracing_on")
        act()
        counted = self.agent.sh(f"cd {TRACING}; echo 0 >tracing_on; "
                                "grep -c 'sys_ioctl(' trace; grep -c 'kvm_userspace_exit:' trace; "
                                "echo >set_event; echo >set_event_pid; echo >trace").split()
        return {"ioctls": int(counted[0]), "exits to user space": int(counted[1])}


def starts(machine, rounds, quiet=False):
    """Microseconds from CPU_ON to the first instruction of the other vCPU, each time; quiet, the last:
    what a guest writes are exits as well."""
    guest = machine.guest
    frequency, = guest.command("q")
    return [ticks * 1e6 / frequency for ticks in guest.command("t", 1, rounds, int(quiet), deadline=300)]


def measure_starts(lab, scale):
    ask = lab.host(policy=default_class(verdicts="ask"))
    page = lab.host()
    machines = {"stock": lab.psci(name="stock", smp="4", qemu=STOCK), "page": lab.psci(page, smp="4"),
                "asked": lab.psci(ask, smp="4")}
    times = {name: [] for name in machines}
    for _ in range(scale.kvm_slices):
        for name, machine in machines.items():
            times[name] += starts(machine, scale.kvm_starts)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, how in (("page", "from the page"), ("asked", "asked")):
        yield (f"CPU_ON to the first instruction, {how}", "us", median[name], median["stock"],
               "the kernel's own PSCI")

    counter = Counter(lab.agent)
    counts = {}
    for name, machine in machines.items():
        few, many = (counter.during(machine, lambda m=machine, n=n: starts(m, n, True))
                     for n in (1, 1 + scale.kvm_starts))
        counts[name] = {what: (many[what] - few[what]) / scale.kvm_starts for what in COUNTS}
    for what in COUNTS:
        for name, how in (("page", "from the page"), ("asked", "asked")):
            yield (f"{what}, CPU_ON and CPU_OFF of one vCPU, {how}", "", counts[name][what],
                   counts["stock"][what], "the kernel's own PSCI")
    for machine in machines.values():
        machine.quit()


def boot(lab, host, vcpus):
    """(seconds until init, the machine)"""
    start = time.monotonic()
    smp = str(vcpus)
    machine = lab.linux(host, name=f"{'ours' if host else 'stock'}-{vcpus}", smp=smp, firmware=False,
                        append="quiet", qemu=None if host else STOCK)
    machine.wait_boot(deadline=300)
    return time.monotonic() - start, machine


def measure_boots(lab, scale):
    host = lab.host()
    counter = Counter(lab.agent)
    for vcpus in BOOTS:
        seconds, idle = {}, {}
        for name, policy in (("stock", None), ("ours", host)):
            seconds[name], machine = boot(lab, policy, vcpus)
            if vcpus == 4:
                # what a boot leaves behind has come to rest
                time.sleep(2)
                before, start = counter.exits(machine), time.monotonic()
                time.sleep(scale.kvm_idle_seconds)
                idle[name] = (counter.exits(machine) - before) / (time.monotonic() - start)
            machine.quit()
        yield f"boot until init, {vcpus} vCPUs", "s", seconds["ours"], seconds["stock"], "stock QEMU"
        if idle:
            yield ("exits of an idle guest of 4 vCPUs", "/s", idle["ours"], idle["stock"], "stock QEMU")


def measure(scale):
    """(figure, unit, product, yardstick, against)"""
    with temporary_directory() as directory:
        host = KvmHost(directory)
        try:
            host.wait_boot()
            for part in (measure_starts, measure_boots):
                lab = KvmLab(host, pathlib.Path(directory) / part.__name__)
                lab.directory.mkdir()
                try:
                    yield from part(lab, scale)
                finally:
                    lab.close()
        finally:
            host.close()
