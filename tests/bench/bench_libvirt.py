# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether libvirt is to be noticed by a verdict, and what the bridge takes to start beside what virsh takes to list."""

import re
import signal
import statistics
import time
import uuid

from cpupolicy_test.daemon import default_class
from cpupolicy_test.libvirtd import Bridge, Libvirtd
from cpupolicy_test.process import Process
from cpupolicy_test.wait import wait_for

DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata><c:policy xmlns:c='https://cpupolicy.org/xmlns/domain/1' class='default' desired='2'/></metadata>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
"""


def announced(host):
    return sum(int(n) for n in re.findall(r"announces (\d+) VM", host.daemon.log()))


def seconds(act):
    begin = time.monotonic()
    act()
    return time.monotonic() - begin


class BareBridge(Bridge):
    """As its unit starts it, without debugging, and not waited for."""

    def start(self):
        self.process = Process(self.argv[:-2], self.directory / "bridge.log")


def measure_start(libvirtd, bridge, host, scale):
    names = libvirtd.virsh("list", "--all", "--name").split()
    assert len(names) == scale.domains, f"{len(names)} of {scale.domains} domains are defined"
    dump = "; ".join(f"dumpxml {name}" for name in names)
    starts, lists, dumps = [], [], []

    def start():
        before = announced(host)
        bridge.start()
        wait_for(lambda: announced(host) - before >= len(names), "all domains are announced", 120, 0.001)

    for _ in range(scale.bridge_starts):
        starts.append(seconds(start) * 1e3)
        bridge.stop()
        lists.append(seconds(lambda: libvirtd.virsh("list", "--all")) * 1e3)
        dumps.append(seconds(lambda: libvirtd.virsh(dump)) * 1e3)
    for yardstick, against in ((lists, "virsh list --all"), (dumps, "virsh dumpxml of each, in one virsh")):
        yield (f"bridge's start until {len(names)} domains are announced", "ms", statistics.median(starts),
               statistics.median(yardstick), against)


def midcall(libvirtd, bridge):
    """The bridge reads its domains, and libvirtd stops over it."""
    for _ in range(10):
        bridge.start()
        wait_for(lambda: "connected to libvirt" in bridge.log(), "the bridge calls libvirt", 60, 0.001)
        libvirtd.signal(signal.SIGSTOP)
        if "libvirt has " not in bridge.log():
            return
        # it was done before
        libvirtd.signal(signal.SIGCONT)
        bridge.stop()
    raise AssertionError("the bridge was never caught in a call")


def measure_verdicts(bench, libvirtd, bridge, host, scale):
    without = bench.host("no-libvirt", default_class(verdicts="ask"))
    bare = bench.sockets / "ping-pong"
    bench.serve("ping-pong", bare)
    got = {"without": [], "stopped": []}
    for _ in range(scale.stops):
        got["without"].append(bench.run("roundtrip", without.socket, bare, scale.roundtrips // scale.stops)["asked"])
        midcall(libvirtd, bridge)
        try:
            got["stopped"].append(bench.run("roundtrip", host.socket, bare, scale.roundtrips // scale.stops)["asked"])
            assert bridge.process.alive() and "libvirt has " not in bridge.log(), "libvirtd was not stopped in a call"
        finally:
            libvirtd.signal(signal.SIGCONT)
            bridge.stop()
    for key in ("p50", "p99"):
        product, yardstick = (statistics.median(run[key] for run in got[name]) / 1e3 for name in ("stopped", "without"))
        yield f"asked verdict, libvirtd stopped in a call, {key}", "us", product, yardstick, "without libvirt"


def measure(bench, scale):
    """(figure, unit, product, yardstick, against)"""
    domains = {name: DOMAIN.format(name=name, uuid=uuid.uuid4())
               for name in (f"bench-{i}" for i in range(scale.domains))}
    libvirtd = bench.keep(Libvirtd(bench.sockets / "libvirt", domains))
    host = bench.host("libvirt", default_class(verdicts="ask"))
    bridge = BareBridge(bench.sockets, libvirtd, host)
    bridge.stop()
    try:
        yield from measure_start(libvirtd, bridge, host, scale)
        yield from measure_verdicts(bench, libvirtd, bridge, host, scale)
    finally:
        bridge.stop()
