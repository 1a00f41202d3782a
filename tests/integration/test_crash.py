# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 at random moments, again and again: what clients were told holds in the store, and for the next daemon."""

import os
import random
import shutil
import sqlite3
import time

import pytest

from cpupolicy_test import wire
from cpupolicy_test.bus import VM
from cpupolicy_test.dbus_wire import CallError, Client
from cpupolicy_test.guest import cpu_set
from cpupolicy_test.wait import DEADLINE, Expired

KILLS = int(os.environ.get("CPUPOLICY_KILLS", "200"))
SEED = int(os.environ.get("CPUPOLICY_SEED", str(random.randrange(1 << 32))))
NANO = 10 ** 9
POSSIBLE = 12
# The daemon reads its clock once in each turn of its loop: what it tells may be as old as that.
TURN = NANO // 10

POLICY = {"classes": {"gold": {"guaranteed": 2, "limit": POSSIBLE},
                      "iron": {"guaranteed": 1, "limit": POSSIBLE, "bill_paused": True},
                      "spot": {"guaranteed": 1, "limit": POSSIBLE,
                               "burst": {"cap_seconds": 100000, "initial_seconds": 50000}}}}


def boottime():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Told:
    """One thing that clients change, and what they know of it."""

    def __init__(self, value):
        self.possible = {value}

    def resolve(self, requests):
        """`requests`: (value, reply or CallError) in the order in which they were sent."""
        for value, reply in requests:
            if not isinstance(reply, CallError):
                self.possible = {value}
            elif reply.name in ("org.freedesktop.DBus.Error.NoReply",
                                "org.freedesktop.DBus.Error.ServiceUnknown"):
                # It was on its way: taken, or not.
                self.possible = self.possible | {value}
            # Refused: as if it had not been sent.

    def check(self, value, what):
        assert value in self.possible, f"{what} is {value!r}; clients were told {self.possible!r}"
        self.possible = {value}


class Guest:
    """A VM whose process outlives all daemons."""

    def __init__(self, host, name, boot):
        self.host = host
        self.boot = boot
        self.begun = boottime()
        self.vmm = host.vmm(name, possible=POSSIBLE, boot=boot)
        self.registered = boottime()
        self.name = name
        self.desired = Told(boot)
        self.assigned = Told("")
        self.used = 0

    @property
    def key(self):
        return str(self.vmm.uuid)

    def reconnect(self):
        old = self.vmm
        new = wire.Vmm(self.host.socket)
        new.hello()
        new.register(self.name, possible=POSSIBLE, boot=self.boot, uuid=old.uuid, token=old.token,
                     vcpus={i: wire.ONLINE | wire.ACKED for i in old.page.enabled()})
        new.confirm()
        self.host.keep(new)
        old.close()
        self.vmm = new


class Crash:
    """The workload, what was told in it, and the comparison."""

    def __init__(self, host):
        self.host = host
        self.rng = random.Random(SEED)
        self.client = Client(host.bus)
        self.still = Guest(host, "still", 3)
        self.busy = [Guest(host, f"busy{i}", 2) for i in range(3)]
        self.jobs = [0]
        self.accepted = 0
        self.open = 0

    def guests(self):
        return [self.still, *self.busy]

    # ---- the workload ----

    def pour(self, seconds):
        """Requests without end, until the daemon is killed in the middle of them."""
        sent = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            guest = self.rng.choice(self.busy)
            if self.rng.random() < 0.8:
                value = self.rng.randint(1, POSSIBLE + 1)
                serial = self.client.send("SetVcpuCount", "su", guest.name, value)
                sent.append((guest.desired, value, serial))
            else:
                value = self.rng.choice(("gold", "iron", "spot", "nothing", ""))
                serial = self.client.send("AssignClass", "ss", guest.name, value)
                sent.append((guest.assigned, value, serial))
            if self.rng.random() < 0.3:
                self.client.receive(self.rng.random() * 0.004)
        self.host.daemon.kill()
        self.resolve(sent)

    def resolve(self, sent):
        replies = {}
        for told, value, serial in sent:
            try:
                reply = self.client.wait(serial)
                self.accepted += 1
                if reply:
                    self.jobs.append(int(reply[0].rsplit("/", 1)[1]))
            except CallError as e:
                reply = e
                self.open += e.name.startswith("org.freedesktop.DBus.Error.")
            replies.setdefault(told, []).append((value, reply))
        for told, requests in replies.items():
            told.resolve(requests)

    # ---- the comparison ----

    def check_store(self, directory):
        """Of a copy: whoever opens the database recovers it, and that is for the daemon to do."""
        copy = directory / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.host.daemon.state, copy)
        database = next(p for p in copy.iterdir() if p.read_bytes()[:6] == b"SQLite")
        db = sqlite3.connect(database)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = {name: desired for name, desired in db.execute("SELECT name, desired FROM vm")}
        db.close()
        for guest in self.guests():
            assert rows[guest.name] in guest.desired.possible, \
                f"{guest.name}: stored {rows[guest.name]}, told {guest.desired.possible}"
        return rows

    def wait_ready(self):
        end = time.monotonic() + DEADLINE
        while True:
            try:
                return self.client.objects()
            except CallError as e:
                assert e.name == "org.freedesktop.DBus.Error.ServiceUnknown", e
            assert self.host.daemon.process.alive(), self.host.daemon.log()[-3000:]
            if time.monotonic() > end:
                raise Expired("the daemon comes up")
            time.sleep(0.001)

    def check_daemon(self, stored):
        objects = self.wait_ready()
        shown = {o[VM]["Name"]: o[VM] for o in objects.values() if VM in o}
        for guest in self.guests():
            vm = shown[guest.name]
            assert vm["Desired"] == stored[guest.name]
            guest.desired.check(vm["Desired"], f"{guest.name}'s count")
            guest.assigned.check(vm["AssignedClass"], f"{guest.name}'s class")
            recorded = cpu_set(vm["EnabledSet"])
            assert guest.vmm.page.enabled() <= recorded, \
                f"{guest.name}: the page shows {guest.vmm.page.enabled()}, recorded is {recorded}"

    def check_usage(self):
        """Never less than was told before; all in all neither less than was used, nor more than can have been."""
        before = boottime()
        rows = self.client.call("GetUsage", "tts", 0, (1 << 64) - 1, "")[0]
        after = boottime()
        used = {}
        for row in rows:
            used[row[0]] = used.get(row[0], 0) + row[6] + row[7]
        for guest in self.guests():
            now = used.get(guest.key, 0)
            fewest, most = (3, 3) if guest is self.still else (1, POSSIBLE)
            low = fewest * (before - guest.registered - TURN)
            high = most * (after - guest.begun)
            assert max(low, guest.used) <= now <= high, \
                f"{guest.name} used {now} ns, not within {low} .. {high}, or less than {guest.used}"
            guest.used = now

    def check_jobs(self):
        """Of no two requests the same number."""
        assert self.jobs == sorted(set(self.jobs)), "numbers of jobs come twice"


def test_what_was_told_survives_every_kill(make_host, directory):
    print(f"CPUPOLICY_SEED={SEED}")
    host = make_host(policy=POLICY)
    crash = Crash(host)
    try:
        crash.check_usage()
        for _ in range(KILLS):
            crash.pour(crash.rng.random() * 0.05)
            if crash.rng.random() < 0.2:  # and while it comes up
                host.daemon.launch()
                time.sleep(crash.rng.random() * 0.03)
                host.daemon.kill()
            stored = crash.check_store(directory)
            host.daemon.launch()
            crash.check_daemon(stored)
            crash.check_usage()
            for guest in crash.guests():
                if crash.rng.random() < 0.7:
                    guest.reconnect()
            crash.check_jobs()
    finally:
        crash.client.close()
    print(f"{crash.accepted} accepted, {crash.open} on their way")
    assert crash.accepted > KILLS and crash.open > KILLS / 2, "the kills came into the middle of it"


def test_a_kill_in_the_middle_of_a_backup_leaves_no_half_of_one(host, directory):
    for i in range(30):
        host.vmm(f"vm{i}", possible=64, boot=2)
    client = Client(host.bus)
    rng = random.Random(SEED)
    for i in range(10):
        path = directory / f"backup{i}"
        client.send("Backup", "s", str(path))
        time.sleep(rng.random() * 0.02)
        host.daemon.restart_killed()
        if path.exists():
            db = sqlite3.connect(path)
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("SELECT count(*) FROM vm").fetchone() == (30,)
            db.close()
    client.close()


@pytest.mark.parametrize("mode", ["Freeze", "Drain"])
def test_modes_survive_a_kill(host, mode):
    client = Client(host.bus)
    client.call(mode, "b", True)
    host.daemon.restart_killed()
    prop = {"Freeze": "Frozen", "Drain": "Drained"}[mode]
    assert client.call("Get", "ss", "org.cpupolicy1.Manager", prop,
                       interface="org.freedesktop.DBus.Properties") == [True]
    client.close()
