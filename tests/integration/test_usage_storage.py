# SPDX-License-Identifier: GPL-2.0-or-later
"""Usage and the disk: what cannot be written now is not lost, and nothing is counted twice."""

import ctypes
import os
import time

import pytest

from cpupolicy_test import metrics, wire
from cpupolicy_test.bus import MANAGER, ROOT
from cpupolicy_test.dbus_wire import Client
from cpupolicy_test.wait import wait_for

_libc = ctypes.CDLL(None, use_errno=True)
NANO = 10 ** 9


def boottime():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@pytest.fixture
def small_disk(directory):
    """A file system of 256 KiB for the state directory."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    path = directory / "disk"
    path.mkdir()
    if _libc.mount(b"none", bytes(path), b"tmpfs", 0, b"size=256k,mode=700") != 0:
        raise OSError(ctypes.get_errno(), "mount")
    yield path
    _libc.umount2(bytes(path), 2)


def fill(path):
    with open(path / "ballast", "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


def used(host):
    """(vCPU-ns on record, when it was asked for, when it was answered)"""
    client = Client(host.bus)
    before = boottime()
    rows = client.call("GetUsage", "tts", 0, (1 << 64) - 1, "")[0]
    after = boottime()
    client.close()
    return sum(row[6] + row[7] for row in rows), before, after


def check_exact(vcpus, first, second, since=0):
    """Between the two that many vCPUs were enabled. A query is up to a second late."""
    more = second[0] - first[0]
    low = vcpus * (second[1] - first[2] - since)
    high = vcpus * (second[2] - first[1] + since)
    assert low <= more <= high, f"{more} ns, not within {low} .. {high}"


def errors(host):
    return metrics.scrape(host.directory / "metrics.sock").get("cpupolicy_store_errors_total")


def test_a_full_disk_loses_no_usage(make_host, small_disk):
    host = make_host({"state_directory": str(small_disk / "state")})
    vmm = host.vmm("web", possible=6, boot=3)
    first = used(host)
    fill(small_disk)
    e = host.bus.error_of(ROOT, MANAGER, "SetVcpuCount", "string:web", "uint32:6")
    assert e.name == "org.cpupolicy1.Error.Storage"
    wait_for(lambda: errors(host) > 0, "the error is counted")
    assert vmm.ask(1) == (wire.SUCCESS, "granted"), "verdicts go on"
    (small_disk / "ballast").unlink()
    # Without a change of the VM nothing is written but by the query itself.
    wait_for(lambda: used(host)[0] > first[0] + 3 * NANO, "usage is on record again")
    check_exact(3, first, used(host), NANO)


def test_usage_goes_on_across_restarts(host):
    host.vmm("web", possible=6, boot=3)
    first = used(host)
    for how in ("kill", "stop", "kill", "stop"):
        getattr(host.daemon, how)()
        host.daemon.start()
        check_exact(3, first, used(host))


def test_what_a_vm_used_until_it_was_paused_is_told_at_once(make_host):
    host = make_host(policy={"classes": {"default": {"bill_paused": False}}})
    vmm = host.vmm("web", possible=6, boot=3)
    vmm.run_state(wire.PAUSED)
    first = used(host)
    assert first[0] > 0
    wait_for(lambda: boottime() > first[2] + NANO, "a second passes")
    assert used(host)[0] == first[0], "it stands still"


def test_a_damaged_database_is_left_alone(host):
    host.vmm("web", possible=6, boot=3)
    used(host)
    host.daemon.stop()
    database = next(p for p in host.daemon.state.iterdir() if p.read_bytes()[:6] == b"SQLite")
    whole = database.read_bytes()
    # not the head, which says what it is, but the pages with the records
    damaged = whole[:4096] + b"\xff" * (len(whole) - 4096)
    database.write_bytes(damaged)
    status, text = host.daemon.run_to_end()
    assert status == 4
    assert str(database) in text or str(host.daemon.state) in text
    assert database.read_bytes() == damaged
    database.write_bytes(whole)
    host.daemon.expected_status = 0
    host.daemon.start()
    assert host.bus.get(ROOT, MANAGER, "VirtualMachines") <= 1
