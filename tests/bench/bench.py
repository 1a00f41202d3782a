#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures of docs/performance.md, measured and printed: each beside the bare thing that it is
made of, from the same run.

What is measured is the built daemon on a private bus with a state directory of its own. The
programs beside this file do the measuring; this one starts what they talk to, gathers what they
print and makes the table. Everything that it starts ends with it.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
# pylint: disable=wrong-import-position
from cpupolicy_test import paths  # noqa: E402
from cpupolicy_test.daemon import Host, default_class  # noqa: E402
from cpupolicy_test.process import Process  # noqa: E402
from cpupolicy_test.qemu import (Linux, linux_options, machine_options,  # noqa: E402
                                 policy_options)

# Descriptors: three for each of 1000 VMs in the daemon, as many connections again in a client.
OPEN_FILES = 8192
# No figure here is about the bounds on what one peer may send.
CONFIG = {"limits": {"messages_per_second": 10_000_000, "messages_burst": 10_000_000}}
VCPUS = 64
ASK = default_class(verdicts="ask")


class Scale:
    """How much is measured."""

    roundtrips = 40_000
    resizes = 150
    loads = (1, 10, 100, 1000)
    load_slices, load_milliseconds = 10, 200
    vms = 1000
    guest_runs = 3
    fleet = 4096
    callers, caller_slices, caller_milliseconds = 64, 7, 700
    starts = 7
    kvm_slices, kvm_starts, kvm_idle_seconds = 5, 20, 10
    restarts = 5
    domains, bridge_starts, stops = 500, 7, 10


class Quick(Scale):
    """Whether it can be measured: its figures mean little."""

    roundtrips = 1000
    resizes = 6
    loads = (1, 10)
    load_slices, load_milliseconds = 2, 50
    vms = 20
    guest_runs = 1
    fleet = 64
    callers, caller_slices, caller_milliseconds = 8, 1, 50
    starts = 2
    kvm_slices, kvm_starts, kvm_idle_seconds = 1, 5, 1
    restarts = 1
    domains, bridge_starts, stops = 20, 2, 1


def note(text):
    """Progress, apart from the results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Row:
    """One line of the table. `aim`: (what the figure is compared by, "<=" or ">=", bound)."""

    def __init__(self, part, figure, unit, product, yardstick=None, against="", aim=None):
        self.part = part
        self.figure = figure
        self.unit = unit
        self.product = product
        self.yardstick = yardstick
        self.against = against
        self.ratio = product / yardstick if yardstick else None
        self.aim = aim

    def met(self):
        if self.aim is None:
            return None
        by, sign, bound = self.aim
        value = self.ratio if by == "ratio" else self.product
        return value <= bound if sign == "<=" else value >= bound

    def aim_text(self):
        if self.aim is None:
            return ""
        by, sign, bound = self.aim
        return (f"{by} {sign} {bound:g}{'' if by == 'ratio' else ' ' + self.unit}: "
                + ("met" if self.met() else "MISSED"))

    def as_json(self):
        out = {"part": self.part, "figure": self.figure, "unit": self.unit,
               "product": self.product}
        if self.yardstick is not None:
            out.update(yardstick=self.yardstick, against=self.against, ratio=self.ratio)
        if self.aim is not None:
            out.update(aim=" ".join(str(x) for x in self.aim), met=self.met())
        return out


def number(value):
    if value is None:
        return ""
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def table(rows):
    head = ("figure", "unit", "product", "yardstick", "ratio", "against", "aim")
    lines = [(r.figure, r.unit, number(r.product), number(r.yardstick),
              f"{r.ratio:.2f}" if r.ratio is not None else "", r.against, r.aim_text())
             for r in rows]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    right = (2, 3, 4)
    for line in [head, tuple("-" * w for w in widths), *lines]:
        print("  ".join(cell.rjust(w) if i in right else cell.ljust(w)
                        for i, (cell, w) in enumerate(zip(line, widths))).rstrip())


class Bench:
    """What the parts share: where things are, and how programs are run."""

    def __init__(self, options, sockets, disk):
        self.programs = paths.build() / "tests/bench"
        self.sockets = sockets
        self.disk = disk
        self.idle_seconds = options.idle_seconds
        self.scale = Quick if options.quick else Scale
        self._count = 0
        self._open = []

    def _fresh(self, parent, name):
        self._count += 1
        directory = parent / f"{self._count}-{name}"
        directory.mkdir(mode=0o755)
        return directory

    def host(self, name, policy=None):
        """A bus and a daemon that nothing has touched, its state on the disk."""
        merged = {**CONFIG, "state_directory": str(self._fresh(self.disk, name))}
        return self.keep(Host(self._fresh(self.sockets, name), merged, policy=policy))

    def keep(self, thing):
        self._open.append(thing)
        return thing

    def close_all(self):
        while self._open:
            thing = self._open.pop()
            thing.close() if hasattr(thing, "close") else thing.kill()

    def serve(self, name, argument):
        """One of the bare servers, once it serves."""
        process = self.keep(Process([self.programs / "yardstick", name, argument],
                                    self.sockets / f"{name}.log"))
        process.wait_log("ready")
        return process

    def hold(self, host, vms, vcpus):
        """A process that keeps that many VMs connected."""
        process = self.keep(Process([self.programs / "hold", host.socket, vms, vcpus],
                                    host.directory / "hold.log", stdin=subprocess.PIPE))
        process.wait_log("ready", 120)
        return process

    def run(self, name, *arguments):
        """{name: object} of what the program prints."""
        out = subprocess.run([str(self.programs / name), *[str(a) for a in arguments]],
                             check=True, stdout=subprocess.PIPE, text=True, timeout=240).stdout
        return {o["name"]: o for o in map(json.loads, out.splitlines())}


# ---- the parts ----

def part_ask(bench):
    """Round trip of an asked verdict."""
    host = bench.host("ask", ASK)
    bare = bench.sockets / "ping-pong"
    bench.serve("ping-pong", bare)
    got = bench.run("roundtrip", host.socket, bare, bench.scale.roundtrips)
    against = "bare ping-pong of as many bytes"
    for key, name in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
        yield Row("ask", f"asked verdict, {name}", "us", got["asked"][key] / 1e3,
                  got["bare"][key] / 1e3, against, ("ratio", "<=", 1.25) if key == "p50" else None)
    for key, name in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
        yield Row("ask", f"asked through libcpupolicy, {name}", "us", got["library"][key] / 1e3,
                  got["bare"][key] / 1e3, against)


def part_page(bench):
    """A verdict that the page gives."""
    host = bench.host("page")
    got = bench.run("page", host.socket)  # in picoseconds
    for key, figure in (("allow", "verdict from the page, allow"),
                        ("deny", "verdict from the page, deny"),
                        ("power-on", "verdict, second look, event sent"),
                        ("load", "one load from the page, for scale")):
        yield Row("page", figure, "ns", got[key]["p50"] / 1e3,
                  aim=("product", "<=", 200) if key in ("allow", "deny") else None)


def part_throughput(bench):
    """Asked verdicts per second."""
    host = bench.host("throughput", ASK)
    bare = bench.sockets / "echo"
    bench.serve("echo", bare)
    rows = []
    for vms in bench.scale.loads:
        note(f"throughput: {vms} connected")
        got = bench.run("throughput", host.socket, bare, vms, bench.scale.load_slices,
                        bench.scale.load_milliseconds)
        yield Row("throughput", f"asked verdicts, {vms} VMs", "1/s", got["asked"]["per_second"],
                  got["bare"]["per_second"], "bare libevent echo", ("ratio", ">=", 0.6))
        rows.append(Row("throughput", f"server's CPU per verdict, {vms} VMs", "us",
                        got["asked"]["cpu_ns"] / 1e3, got["bare"]["cpu_ns"] / 1e3,
                        "bare libevent echo"))
    yield from rows


def part_resize(bench):
    """SetVcpuCount as a client of the bus sees it."""
    host = bench.host("resize")
    bench.serve("method", host.bus.address)
    got = bench.run("resize", host.socket, host.bus.address, bench.disk, bench.scale.resizes)
    against = "bare sd-bus method plus bare SQLite commit"
    for key, name in (("p50", "p50"), ("p99", "p99")):
        yield Row("resize", f"SetVcpuCount, {name}", "us", got["resize"][key] / 1e3,
                  got["bare"][key] / 1e3, against)
    yield Row("resize", "of the yardstick: method, p50", "us", got["method"]["p50"] / 1e3)
    yield Row("resize", "of the yardstick: commit, p50", "us", got["commit"]["p50"] / 1e3)


def memory_kib(pid):
    """(private pages and pages of files, pages of memory files that it has mapped or open)"""
    own = 0
    files = {}
    inode = None
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text("utf-8", "replace").splitlines():
        words = line.split()
        if not words[0].endswith(":"):  # a mapping: from-to access offset device inode path
            inode = words[4] if len(words) > 5 and words[5].startswith("/memfd:") else None
        elif words[0] == "Rss:" and inode:
            files[inode] = int(words[1])
        elif words[0] == "Rss:":
            own += int(words[1])
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(entry.path).startswith("/memfd:"):
                status = os.stat(entry.path)
                files[str(status.st_ino)] = status.st_blocks / 2
        except FileNotFoundError:
            continue  # closed meanwhile
    return own, sum(files.values())


def part_memory(bench):
    """Resident memory for each VM."""
    host = bench.host("memory")
    own0, pages0 = memory_kib(host.daemon.process.pid)
    note(f"memory: registering {bench.scale.vms} VMs")
    bench.hold(host, bench.scale.vms, VCPUS)
    own, pages = memory_kib(host.daemon.process.pid)
    yield Row("memory", f"memory per VM, {bench.scale.vms} VMs of {VCPUS} vCPUs", "KiB",
              (own + pages - own0 - pages0) / bench.scale.vms, aim=("product", "<=", 12))
    yield Row("memory", "of it the policy page", "KiB", (pages - pages0) / bench.scale.vms)
    yield Row("memory", "the daemon without VMs", "KiB", own0 + pages0)


def wakeups(pid):
    """How often threads of the process have gone to sleep of themselves, and so woken up."""
    total = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text("ascii").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def part_idle(bench):
    """Wake-ups of a daemon that nobody wants anything of."""
    pids = {}
    many = bench.scale.vms
    for vms in (1, many):
        host = bench.host(f"idle-{vms}")
        note(f"idle: registering {vms}")
        bench.hold(host, vms, VCPUS)
        pids[vms] = host.daemon.process.pid

    def quiet():
        before = {vms: wakeups(pid) for vms, pid in pids.items()}
        time.sleep(1)
        return before == {vms: wakeups(pid) for vms, pid in pids.items()}
    # A daemon that never comes to rest is what this part is there to show: it is measured as it is.
    end = time.monotonic() + 5
    while not quiet() and time.monotonic() < end:
        pass
    note(f"idle: watching for {bench.idle_seconds} s")
    before = {vms: wakeups(pid) for vms, pid in pids.items()}
    start = time.monotonic()
    time.sleep(bench.idle_seconds)
    minute = 60 / (time.monotonic() - start)
    after = {vms: (wakeups(pid) - before[vms]) * minute for vms, pid in pids.items()}
    one = after[1]
    yield Row("idle", "wake-ups of an idle minute, 1 VM", "1/min", one)
    # "do not grow": no more than with one VM, give or take one wake-up in the window
    yield Row("idle", f"wake-ups of an idle minute, {many} VMs", "1/min", after[many],
              aim=("product", "<=", round(one + minute, 1)))


MEMORY = 1024
# A machine that is busy with other things may never get 16 emulated vCPUs through their boot.
BOOT_DEADLINE = 90
# name, vCPUs at boot, possible vCPUs with the glue or None for stock
GUESTS = (("4 of 4", 4, 4), ("4 of 8", 4, 8), ("4 of 16", 4, 16), ("stock 4", 4, None),
          ("stock 16", 16, None))


def boot(bench, host, qemu, images, boot_vcpus, possible):
    """(seconds to init, of them seconds of the kernel, resident MiB when init runs)"""
    policy = policy_options(host.socket) if possible else None
    smp = f"cpus={boot_vcpus},maxcpus={possible}" if possible else boot_vcpus
    options = [*machine_options(smp, MEMORY, policy),
               *linux_options(images, "quiet"), "-uuid", uuid.uuid4()]
    start = time.monotonic()
    machine = Linux(bench.sockets, options, qemu)
    try:
        machine.wait_boot(deadline=BOOT_DEADLINE)
        seconds = time.monotonic() - start
        resident = machine.process.rss_kib() / 1024
        # The kernel's own clock, when it handed over to init.
        line = machine.guest.run("dmesg | grep 'Run /init'").splitlines()[0]
        kernel = float(line[line.index("[") + 1:line.index("]")])
        online = machine.guest.tables()["online"]
        assert online == f"0-{boot_vcpus - 1}", f"the guest runs on {online}"
    finally:
        machine.close()
    return seconds, kernel, resident


def part_guest(bench):
    """What standby vCPUs cost the guest and QEMU."""
    images = paths.guest_images()
    note("guest: building QEMU and its stock counterpart where they are missing")
    qemu, stock = paths.qemu(), paths.stock_qemu()
    host = bench.host("guest")
    got = {name: [] for name, _, _ in GUESTS}
    failures = []
    for run in range(bench.scale.guest_runs):
        for name, boot_vcpus, possible in GUESTS:
            try:
                figures = boot(bench, host, qemu if possible else stock, images, boot_vcpus,
                               possible)
            except AssertionError as e:
                failures.append(f"{name} in round {run + 1}")
                # with what the guest wrote, without what firmware tells terminals to do
                note(f"guest: round {run + 1}, {name}: " + re.sub(r"[^\n -~]", "", str(e)))
                continue
            got[name].append(figures)
            note(f"guest: round {run + 1}, {name}: {figures[0]:.1f} s")
    yield from guest_rows({name: [statistics.median(column) for column in zip(*runs)]
                           for name, runs in got.items() if runs})
    if failures:
        raise AssertionError("the guest did not boot: " + ", ".join(failures))


def guest_rows(median):
    """Of what has booted."""
    for i, figure, unit in ((0, "time to init", "s"), (1, "of it the kernel's boot", "s"),
                            (2, "QEMU's resident memory", "MiB")):
        for name, bare in (("4 of 4", "stock 4"), ("4 of 8", "stock 4"), ("4 of 16", "stock 4"),
                           ("4 of 16", "stock 16")):
            if name in median and bare in median:
                yield Row("guest", f"{figure}, {name} vCPUs", unit, median[name][i],
                          median[bare][i], f"stock QEMU -smp {bare.split()[1]}")


def part_fleet(bench):
    """The pure machine: verdicts, and a change of the host's capacity."""
    vms = bench.scale.fleet
    got = bench.run("fleet", vms)  # verdicts in picoseconds
    alone = got["alone"]["p50"] / 1e3
    yield Row("fleet", f"verdict of one VM among {vms}", "ns", got["among"]["p50"] / 1e3, alone,
              "the same with that VM alone", ("ratio", "<=", 1.1))
    yield Row("fleet", f"verdicts of {vms} VMs in turn", "ns", got["in-turn"]["p50"] / 1e3, alone,
              "the same with one VM alone")
    yield Row("fleet", f"capacity change, {vms} VMs", "us", got["capacity"]["p50"] / 1e3,
              got["sort"]["p50"] / 1e3, "qsort of as many records", ("ratio", "<=", 3))


def part_callers(bench):
    """Durable SetVcpuCount of many callers."""
    callers = bench.scale.callers
    host = bench.host("callers")
    got = bench.run("callers", host.socket, host.bus.address, bench.disk, callers,
                    bench.scale.caller_slices, bench.scale.caller_milliseconds)
    yield Row("callers", f"durable SetVcpuCount, {callers} callers", "1/s",
              got["callers"]["per_second"], got["bare"]["per_second"],
              "bare SQLite WAL commit loop, synchronous=FULL", ("ratio", ">=", 1))


def start_to_ready(bench, host):
    """Seconds from exec to READY=1."""
    path = bench.sockets / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(path))
        ready.settimeout(120)
        begin = time.monotonic()
        process = Process(host.daemon.argv(), host.daemon.log_path,
                          env={**os.environ, "NOTIFY_SOCKET": str(path)})
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            return time.monotonic() - begin
        finally:
            process.kill()
            path.unlink()


def part_start(bench):
    """Start to ready, with VMs on record whose VMMs live."""
    vms = bench.scale.fleet
    raise_open_files(max(OPEN_FILES, 4 * vms + 616))
    seconds = {}
    for count in (0, vms):
        host = bench.host(f"start-{count}")
        if count:
            host.daemon.stop()
            host.daemon.write_config(limits={"vms": max(count, 4096)})
            host.daemon.start()
            note(f"start: registering {count} VMs")
            bench.hold(host, count, VCPUS)
        host.daemon.kill()
        seconds[count] = statistics.median(start_to_ready(bench, host)
                                           for _ in range(bench.scale.starts))
    yield Row("start", f"start to ready, {vms} VMs on record", "ms", seconds[vms] * 1e3,
              seconds[0] * 1e3, "start without VMs")


def part_kvm(bench):
    """Guests under KVM, on an emulated arm64 host"""
    # what it needs is built and imported where it is asked for
    import bench_kvm  # pylint: disable=import-outside-toplevel
    for figure, unit, product, yardstick, against in bench_kvm.measure(bench.scale):
        yield Row("kvm", figure, unit, product, yardstick, against)


def part_restart(bench):
    """Restarts of the installed daemon, under a real systemd"""
    import bench_restart  # pylint: disable=import-outside-toplevel
    for figure, unit, product, yardstick, against, aim in bench_restart.measure(bench.scale.vms, bench.scale.restarts):
        yield Row("restart", figure, unit, product, yardstick, against, aim)


def part_libvirt(bench):
    """The bridge, and verdicts while libvirtd is stopped"""
    import bench_libvirt  # pylint: disable=import-outside-toplevel
    for figure, unit, product, yardstick, against in bench_libvirt.measure(bench, bench.scale):
        yield Row("libvirt", figure, unit, product, yardstick, against)


PARTS = {"ask": part_ask, "page": part_page, "throughput": part_throughput, "resize": part_resize,
         "memory": part_memory, "idle": part_idle, "fleet": part_fleet, "callers": part_callers,
         "start": part_start, "restart": part_restart, "libvirt": part_libvirt, "guest": part_guest,
         "kvm": part_kvm}
# Those that need QEMU and guests, or packages and a machine for them, or a libvirtd.
BUILT = ("guest", "kvm", "restart", "libvirt")


# ---- the whole ----

def filesystem(path):
    out = subprocess.run(["stat", "--file-system", "--format=%T", str(path)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return out.strip()


def describe(disk, quick):
    model = next((line.partition(":")[2].strip() for line
                  in pathlib.Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
                  if line.startswith("model name")), os.uname().machine)
    return (f"{len(os.sched_getaffinity(0))} CPUs ({model}), Linux {os.uname().release}, "
            f"state on {filesystem(disk)}, load {os.getloadavg()[0]:.2f}"
            + (", quick: the figures mean little" if quick else ""))


def raise_open_files(files=OPEN_FILES):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise RuntimeError(f"{files} open files are needed, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Measures the parts named, or all: " + ", ".join(PARTS))
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--quick", action="store_true",
                        help="try whether it can be measured; without restart, libvirt, guest and kvm unless named")
    parser.add_argument("--idle-seconds", type=float,
                        help="how long idle watches (default: BENCH_IDLE_SECONDS, 20)")
    options = parser.parse_args()
    if options.idle_seconds is None:
        options.idle_seconds = float(os.environ.get("BENCH_IDLE_SECONDS",
                                                    "1" if options.quick else "20"))
    options.parts = options.parts or [p for p in PARTS if not (options.quick and p in BUILT)]
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"{part!r} is none of {', '.join(PARTS)}")
    return options


def main():
    options = parse_arguments()
    try:
        raise_open_files()
    except RuntimeError as e:
        sys.exit(f"bench: {e}")
    if not shutil.which("dbus-daemon"):
        sys.exit("bench: dbus-daemon is missing")
    rows = []
    failed = False
    # Sockets need short paths; what is written to disk belongs on one, and /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix="cpupolicy-bench-") as sockets, \
            tempfile.TemporaryDirectory(prefix="bench-", dir=paths.build()) as disk:
        os.chmod(sockets, 0o755)
        bench = Bench(options, pathlib.Path(sockets), pathlib.Path(disk))
        header = describe(disk, options.quick)
        for part in options.parts:
            note(f"{part}: {PARTS[part].__doc__.rstrip('.').lower()}")
            try:
                rows.extend(PARTS[part](bench))
            except (AssertionError, RuntimeError, subprocess.SubprocessError) as e:
                note(f"{part} could not be measured, or not all of it: {e}")
                failed = True
            finally:
                bench.close_all()
    if options.json:
        json.dump({"machine": header, "rows": [row.as_json() for row in rows]}, sys.stdout,
                  indent=2)
        print()
    else:
        print(header)
        table(rows)
    sys.exit(failed)


if __name__ == "__main__":
    main()
