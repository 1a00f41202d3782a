# SPDX-License-Identifier: GPL-2.0-or-later
"""One daemon goes on with the sessions of another: what a service manager keeps in between."""

import fcntl
import json
import os
import random
import socket
import struct

import pytest

from cpupolicy_test import wire
from cpupolicy_test.daemon import Host, default_class
from cpupolicy_test.service_manager import ManagedDaemon, ServiceManager
from cpupolicy_test.wait import never, wait_for

RESTARTS = int(os.environ.get("CPUPOLICY_RESTARTS", "200"))
SEED = int(os.environ.get("CPUPOLICY_SEED", str(random.randrange(1 << 32))))


class ManagedHost(Host):
    """A host whose daemon a service manager runs."""

    def __init__(self, directory, activated=True, **more):
        super().__init__(directory, start=False, **more)
        self.manager = ServiceManager(self.directory)
        self.daemon = ManagedDaemon(self.directory, self.manager, self.bus, activated, **more)
        self.daemon.start()

    def restart(self):
        self.daemon.restart()

    def kept(self):
        """Waits until what was pushed has arrived; the names."""
        return self.manager.names()

    def wait_kept(self, n):
        wait_for(lambda: len(self.manager.names()) == n, f"{n} descriptors are kept")

    def close(self):
        for vmm in self._vmms:
            vmm.close()
        self.daemon.close()
        self.bus.stop()
        self.manager.close()


@pytest.fixture
def make(directory):
    hosts = []

    def make_host(**more):
        hosts.append(ManagedHost(directory / f"host{len(hosts)}", **more))
        return hosts[-1]
    yield make_host
    for host in hosts:
        host.close()
        assert host.daemon.ended_well(), host.daemon.log()[-4000:]


@pytest.fixture
def managed(make):
    return make()


def same_session(vmm, head):
    """Nothing was said to it: the same page, epoch and connection."""
    return vmm.page.head == head and vmm.quiet()


# ---- what goes on ----

def test_a_session_goes_on(managed):
    vmm = managed.vmm("web", possible=6, boot=4)
    managed.wait_kept(3)
    head = vmm.page.head
    managed.restart()
    assert same_session(vmm, head)
    assert "went on with the sessions of 1 VMs" in managed.daemon.log()
    assert vmm.ask(3) == (wire.SUCCESS, "granted")
    assert vmm.ask(4) == (wire.DENIED, "not-enabled")
    managed.resize("web", 6)
    vmm.wait_enabled(range(6))
    assert vmm.page.epoch == head >> 32 and vmm.page.generation == (head & 0xffffffff) + 1


def test_an_ask_of_the_meantime_is_answered(managed):
    vmm = managed.vmm("web", possible=6, boot=4)
    managed.wait_kept(3)
    assert managed.daemon.stop() == 0
    seq = [vmm.request(wire.ASK, struct.pack("<IIII", vcpu, 0, wire.CPU_ON_64, 0), reply=False)
           for vcpu in (3, 5)]
    managed.daemon.start()
    assert struct.unpack("<iI", vmm.wait_reply(seq[0]))[0] == wire.SUCCESS
    assert struct.unpack("<iI", vmm.wait_reply(seq[1]))[0] == wire.DENIED


def test_a_message_in_two_halves(managed):
    vmm = managed.vmm("web", possible=6, boot=4)
    managed.wait_kept(3)
    vmm.seq += 1
    message = wire.message(wire.ASK, struct.pack("<IIII", 2, 0, wire.CPU_ON_64, 0), vmm.seq)
    vmm.send_raw(message[:21])
    # It has been read: what came with it before is answered.
    vmm2 = managed.vmm("other")
    vmm2.ask(0)
    managed.restart()
    vmm.send_raw(message[21:])
    assert struct.unpack("<iI", vmm.wait_reply(vmm.seq))[0] == wire.SUCCESS


def test_answers_that_were_not_fetched(managed):
    # Some more than a socket holds, which nobody knows, and some within the daemon's patience.
    asks = {}
    for n in range(3000, 13000, 2000):
        vmm = managed.vmm(f"asks{n}", possible=6, boot=4)
        try:
            asks[vmm] = [vmm.request(wire.ASK, struct.pack("<IIII", vcpu % 6, 0, wire.CPU_ON_64, 0),
                                     reply=False) for vcpu in range(n)]
        except wire.HungUp:
            break
    managed.vmm("other").ask(0)
    managed.daemon.stop()
    lines = [json.loads(line) for line in managed.manager.read("handover").splitlines()[1:-1]]
    assert any(line["output"] for line in lines)
    alive = {line["vm"] for line in lines}
    managed.daemon.start()
    for vmm, numbers in asks.items():
        for vcpu, number in enumerate(numbers if str(vmm.uuid) in alive else ()):
            psci = struct.unpack("<iI", vmm.wait_reply(number))[0]
            assert psci == (wire.SUCCESS if vcpu % 6 < 4 else wire.DENIED)


def test_a_job_in_flight_completes(managed):
    vmm = managed.vmm("web", possible=6, boot=2)
    job = managed.resize("web", 4)
    vmm.wait_enabled(range(4))
    vmm.plug(2)
    managed.restart()
    assert managed.get("web", "LastJob")[0] == 0
    vmm.plug(3)
    result = managed.job_result("web", job)
    assert result["result"] == "done"
    assert managed.get("web", "Online") == 3


def test_what_only_the_daemon_knew(managed):
    vmm = managed.vmm("web", possible=6, boot=4)
    vmm.denied(5, count=41)
    vmm.online(2)
    vmm.run_state(wire.PAUSED)
    before = managed.show("web")
    managed.restart()
    after = managed.show("web")
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"UsedGuaranteed", "UsedBurst", "CpuTime", "CpuGranted"}
    assert after["Denied"] == 41 and after["Online"] == 2


def test_a_rate_goes_on(make):
    host = make(policy=default_class(cpu_on={"per_second": 1, "burst": 50}))
    vmm = host.vmm("web", possible=4, boot=4)
    allowed = 0
    for _ in range(60):
        allowed += vmm.ask(1)[1] == "granted"
    assert 50 <= allowed < 60
    host.restart()
    assert sum(vmm.ask(1)[1] == "granted" for _ in range(40)) < 30


def test_another_policy_after_the_restart(make):
    host = make(policy=default_class(limit=6))
    vmm = host.vmm("web", possible=6, boot=6)
    host.daemon.write_policy(default_class(limit=4))
    host.restart()
    vmm.wait_wanted(range(4))
    vmm.unplug(5)
    vmm.unplug(4)
    assert vmm.ask(5)[0] == wire.DENIED


def test_self_bound(make):
    host = make(activated=False)
    vmm = host.vmm("web")
    host.wait_kept(3)
    head = vmm.page.head
    host.restart()
    assert same_session(vmm, head) and vmm.ask(1)[0] == wire.SUCCESS
    assert host.vmm("other").ask(1)[0] == wire.SUCCESS


def test_connections_of_the_meantime_wait(managed):
    """In the backlog of the socket that the service manager holds."""
    managed.daemon.stop()
    connection = managed.connect()
    connection.send_raw(wire.message(wire.HELLO, struct.pack("<Q", 0)))
    managed.daemon.start()
    assert connection.receive()[0] == wire.HELLO


def test_calls_under_way_are_answered(managed):
    vmm = managed.vmm("web", possible=6, boot=2)
    for i in range(20):
        count = 2 + i % 4
        managed.resize("web", count)
        managed.restart()
        assert managed.get("web", "Desired") == count
        vmm.wait_wanted(range(count))
        for vcpu in sorted(vmm.page.enabled() - vmm.page.wanted(), reverse=True):
            vmm.unplug(vcpu)
        vmm.confirm()
    assert vmm.page.epoch == 1


def test_many(managed):
    vmms = [managed.vmm(f"vm{i}", possible=4, boot=2) for i in range(100)]
    managed.wait_kept(300)
    heads = [vmm.page.head for vmm in vmms]
    managed.restart()
    assert "went on with the sessions of 100 VMs" in managed.daemon.log()
    for vmm, head in zip(vmms, heads):
        assert same_session(vmm, head) and vmm.ask(1)[0] == wire.SUCCESS
    fds = managed.daemon.process.open_fds()
    managed.restart()
    assert managed.daemon.process.open_fds() == fds


# ---- what the service manager is told ----

def test_names_are_given_up_and_used_again(managed):
    first, second = managed.vmm("first"), managed.vmm("second")
    managed.wait_kept(6)
    assert managed.kept() == ["0"] * 3 + ["1"] * 3
    first.unregister()
    managed.wait_kept(3)
    managed.vmm("third")
    managed.wait_kept(6)
    assert managed.kept() == ["0"] * 3 + ["1"] * 3
    managed.restart()
    assert managed.kept() == ["0"] * 3 + ["1"] * 3
    second.close()
    managed.wait_kept(3)
    managed.vmm("fourth")
    managed.wait_kept(6)
    assert managed.kept() == ["0"] * 3 + ["1"] * 3


def test_ready_reload_stop_and_status(managed):
    managed.daemon.wait_status("0 VMs, 0 of 0 vCPUs enabled, capacity unlimited")
    managed.vmm("web", possible=6, boot=4)
    managed.daemon.wait_status("1 VM, 4 of 6 vCPUs enabled, capacity unlimited")
    managed.daemon.write_policy({"host": {"capacity": {"cpus": 64}}})
    managed.daemon.process.signal(1)
    wait_for(lambda: managed.manager.count("READY=1") == 2, "it has reloaded")
    assert managed.manager.count("RELOADING=1") == 1
    assert int(managed.manager.last("MONOTONIC_USEC")) > 0
    managed.daemon.wait_status("1 VM, 4 of 6 vCPUs enabled, capacity 64")
    # While nothing changes, nothing is said.
    said = len(managed.manager.said)
    managed.vmm("other", possible=2, boot=1)
    managed.daemon.wait_status("2 VMs, 5 of 8 vCPUs enabled, capacity 64")
    assert len(managed.manager.said) <= said + 2 + 2
    managed.daemon.stop()
    assert managed.manager.count("STOPPING=1") == 1


def test_signs_of_life(make):
    host = make()
    host.daemon.environment = {"WATCHDOG_USEC": "400000"}
    host.restart()
    wait_for(lambda: host.manager.count("WATCHDOG=1") >= 3, "it says that it lives")
    # A loop that hangs says nothing.
    host.daemon.freeze()
    n = host.manager.count("WATCHDOG=1")
    never(lambda: host.manager.count("WATCHDOG=1") > n + 1, "a frozen daemon says that it lives", 1)
    host.daemon.thaw()
    wait_for(lambda: host.manager.count("WATCHDOG=1") > n + 1, "it says so again")


# ---- what does not go on ----

def reconnects(host, vmm):
    """The daemon has hung up; its VMM comes back, as one that lost it."""
    vmm.hung_up()
    return again(host, vmm)


def again(host, vmm):
    new = wire.Vmm(host.socket)
    new.hello()
    new.register(vmm.name, possible=vmm.possible, boot=1, uuid=vmm.uuid, token=vmm.token,
                 vcpus={i: wire.ONLINE | wire.ACKED for i in vmm.page.enabled()})
    new.confirm()
    host.keep(new)
    assert new.page.enabled() == vmm.page.enabled() and new.page.epoch == vmm.page.epoch + 1
    return new


def test_killed(managed):
    vmm = managed.vmm("web", possible=6, boot=4)
    managed.wait_kept(3)
    managed.daemon.crash()
    reconnects(managed, vmm)
    managed.wait_kept(3)


def test_killed_after_it_went_on(managed):
    """The handover of an earlier stop is not found again."""
    vmm = managed.vmm("web", possible=6, boot=4)
    managed.wait_kept(3)
    managed.restart()
    assert "handover" not in managed.kept()
    managed.daemon.crash()
    reconnects(managed, vmm)


def test_stopped_and_started(managed):
    vmm = managed.vmm("web", possible=6, boot=4)
    managed.wait_kept(3)
    managed.daemon.stop()
    managed.manager.forget_all()
    vmm.hung_up()
    assert vmm.page.enabled() == {0, 1, 2, 3}  # it goes on by its page
    managed.daemon.start()
    again(managed, vmm)


def test_a_push_is_lost(managed):
    kept = managed.vmm("kept")
    managed.wait_kept(3)
    managed.manager.lose = lambda name: name == "1"
    lost = managed.vmm("lost")
    heads = kept.page.head
    managed.restart()
    lost.hung_up()
    again(managed, lost)
    assert same_session(kept, heads)


def test_no_room_in_the_store(managed):
    managed.manager.at_most = 4
    first = managed.vmm("first")
    managed.wait_kept(3)
    second = managed.vmm("second")
    managed.wait_kept(4)
    managed.manager.at_most = 5  # room for the handover
    managed.restart()
    reconnects(managed, second)
    assert first.ask(1)[0] == wire.SUCCESS


def memfd(size, mode=0o600, seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL):
    fd = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(fd, mode)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def is_file(fd):
    return not os.path.islink(f"/proc/self/fd/{fd}") or "socket" not in os.readlink(f"/proc/self/fd/{fd}")


def connected():
    ours, other = socket.socketpair()
    connected.others.append(other)  # one that hangs up is forgotten
    return ours.detach()


connected.others = []


def listening():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind("")  # a name of the kernel's choice
    s.listen()
    return s.detach()


GARBAGE = {
    "a pipe": lambda: os.pipe()[0],
    "another memfd": lambda: memfd(4096),
    "a short memfd": lambda: memfd(16),
    "a datagram socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
    "a socket that listens": listening,
    "another connection": connected,
    "/dev/null": lambda: os.open("/dev/null", os.O_RDWR),
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("place", ["page", "socket", "added"])
def test_garbage_in_the_store(managed, what, place):
    vmm, other = managed.vmm("web"), managed.vmm("other")
    managed.wait_kept(6)
    head = other.page.head
    managed.daemon.stop()
    fd = GARBAGE[what]()
    if place == "added":
        managed.manager.put("0", fd)
    else:
        managed.manager.replace("0", lambda kept: is_file(kept) == (place == "page"), fd)
    os.close(fd)
    managed.daemon.start()
    reconnects(managed, vmm)
    assert same_session(other, head)
    managed.wait_kept(6)


def rewrite(manager, change):
    """The handover, with its text changed."""
    text = change(manager.read("handover").decode())
    manager.forget("handover")
    fd = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, text.encode())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    manager.put("handover", fd)
    os.close(fd)


def with_session(**changes):
    def change(text):
        lines = text.splitlines(keepends=True)
        session = json.loads(lines[1])
        for key, value in changes.items():
            if key in session:
                session[key] = value
            else:
                session["core"][key] = value
        lines[1] = json.dumps(session) + "\n"
        return "".join(lines)
    return change


def double(text):
    lines = text.splitlines(keepends=True)
    return lines[0] + lines[1] + lines[1] + '{"end":2}\n'


HANDOVERS = {
    "empty": lambda text: "",
    "truncated": lambda text: text[:len(text) // 2],
    "without its end": lambda text: text[:text.rindex("{")],
    "more after its end": lambda text: text + text,
    "another count": lambda text: text.replace('"end":1', '"end":2'),
    "another format": lambda text: text.replace('"handover":1', '"handover":2'),
    "another state directory": lambda text: text.replace('"state":"', '"state":"9'),
    "no JSON": lambda text: "handover\n",
    "an unknown key": lambda text: text.replace('"slot"', '"slots"'),
    "twice the same": double,
    "another token": with_session(token="00" * 16),
    "another user": with_session(uid=12345),
    "another process": with_session(pid=1),
    "another epoch": with_session(epoch=7),
    "a generation of the future confirmed": with_session(confirmed=99),
    "another VM": with_session(vm="12345678-1234-1234-1234-123456789abc"),
    "a slot too high": with_session(slot=8000),
    "no vCPUs": with_session(vcpus=[]),
    "too many vCPUs": with_session(vcpus=[[i, 1, 0, 23, 0, 0, 0, 1] for i in range(8)]),
    "a vCPU more granted": with_session(vcpus=[[i, 1, 0, 23, 0, 0, 0, 1] for i in range(6)]),
    "an input too long": with_session(input="00" * 16385),
}


@pytest.mark.parametrize("what", HANDOVERS)
def test_a_handover_that_is_none(managed, what):
    vmm = managed.vmm("web", possible=6, boot=4)
    managed.wait_kept(3)
    managed.daemon.stop()
    rewrite(managed.manager, HANDOVERS[what])
    managed.daemon.start()
    new = reconnects(managed, vmm)
    assert new.ask(4)[0] == wire.DENIED
    managed.wait_kept(3)


def test_who_has_not_registered(managed):
    """Is hung up on; who connects in the meantime is served after it."""
    vmm = managed.vmm("web")
    greeted = wire.Vmm(managed.socket)
    greeted.hello()
    managed.daemon.stop()
    greeted.hung_up()
    half = wire.Vmm(managed.socket)
    managed.daemon.start()
    half.hello()
    half.register("late", possible=4, boot=2)
    managed.keep(half)
    assert half.page.enabled() == {0, 1} and vmm.ask(1)[0] == wire.SUCCESS


def test_a_migration_target_reconnects(managed):
    source = managed.vmm("web", possible=6, boot=4)
    target = wire.Vmm(managed.socket)
    managed.keep(target)
    target.hello()
    target.register("web", possible=6, boot=4, uuid=source.uuid, token=source.token,
                    flags=wire.REG_INCOMING | wire.REG_NOTIFY | wire.REG_BOOT_REMOVABLE,
                    run_state=wire.INACTIVE)
    head = source.page.head
    managed.restart()
    target.hung_up()
    assert same_session(source, head)
    assert source.ask(1)[0] == wire.SUCCESS


# ---- all of it, again and again ----

class Guest:
    """A VM that does as it is asked, and counts what it has by its page alone."""

    def __init__(self, host, name):
        self.vmm = host.vmm(name, possible=8, boot=2)
        self.name = name
        self.head = self.vmm.page.head
        self.online = {0}
        self.registered = 1

    def follow(self, rng):
        """Some of what a guest does, whether the daemon is there or not; nothing is waited for."""
        page = self.vmm.page
        self.vmm.confirm(reply=False)
        for vcpu in range(1, 8):
            word = page.word(vcpu)
            if word.enabled and word.wanted and vcpu not in self.online and rng.random() < 0.5:
                self.vmm.ost(vcpu, 1, 0, reply=False)
                self.vmm.online(vcpu, reply=False)
                self.online.add(vcpu)
            elif word.enabled and not word.wanted and rng.random() < 0.7:
                if vcpu in self.online:
                    self.vmm.offline(vcpu, reply=False)
                    self.online.discard(vcpu)
                self.vmm.eject(vcpu, reply=False)


def test_restarts_under_load(make):
    """Nothing that policy has not granted is ever on a page or allowed, and no session is interrupted."""
    rng = random.Random(SEED)
    print("seed", SEED)
    host = make(policy={"host": {"capacity": {"cpus": 30}}})
    guests = [Guest(host, f"vm{i}") for i in range(8)]
    asked = 0
    for _ in range(RESTARTS):
        for _ in range(rng.randrange(4)):
            guest = rng.choice(guests)
            host.bus.busctl("call", "org.cpupolicy1", "/org/cpupolicy1", "org.cpupolicy1.Manager",
                            "SetVcpuCount", "su", guest.name, str(rng.randrange(1, 9)), check=False)
        for guest in guests:
            guest.follow(rng)
        assert host.daemon.stop() == 0, host.daemon.process.log()[-4000:]
        pages = {guest.name: guest.vmm.page.enabled() for guest in guests}
        asks = []
        for guest in guests:
            vcpu = rng.randrange(8)
            asks.append((guest, vcpu, guest.vmm.request(
                wire.ASK, struct.pack("<IIII", vcpu, 0, wire.CPU_ON_64, 0), reply=False)))
        host.daemon.start()
        for guest, vcpu, seq in asks:
            psci = struct.unpack("<iI", guest.vmm.wait_reply(seq))[0]
            asked += 1
            # The answer is of the time of the ask or later: what the page did not have then, it has now.
            if psci == wire.SUCCESS:
                assert vcpu in pages[guest.name] | guest.vmm.page.enabled(), (guest.name, vcpu)
        held = sum(len(guest.vmm.page.enabled()) for guest in guests)
        assert held <= 30 + 8 * 8 and all(guest.vmm.page.epoch == 1 for guest in guests)
    assert asked == RESTARTS * len(guests)
    for guest in guests:
        host.wait_prop(guest.name, "Enabled", len(guest.vmm.page.enabled()))
