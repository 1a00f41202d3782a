# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a peer sends or leaves unsent: a clear error or a hang-up, and no other VM notices."""

import os
import random
import resource
import socket
import struct
import time

import pytest

from cpupolicy_test import wire
from cpupolicy_test.bus import MANAGER, ROOT
from cpupolicy_test.wait import wait_for
from cpupolicy_test.wire import Connection, HungUp, Vmm, header, message

HELLO = message(wire.HELLO, struct.pack("<Q", 3))


@pytest.fixture
def witness(host):
    """Another VM, which must not notice."""
    vmm = host.vmm("witness")
    yield vmm
    assert vmm.ask(1) == (wire.SUCCESS, "granted")
    assert host.show("witness")["State"] == "running"


def hung_up_with_error(connection):
    errors = connection.hung_up(30)
    assert errors, "the daemon says why before it hangs up"
    assert errors[-1].code == wire.ERR_PROTOCOL and errors[-1].text
    return errors[-1].text


def greeted(host):
    c = host.keep(Vmm(host.socket))
    c.hello()
    return c


def registered(host, name="bad"):
    return host.vmm(name)


REGISTER = Vmm.register_payload("x", 2, 1, wire.uuidlib.UUID(int=77))

BEFORE_HELLO = {
    "unknown request": header(99, 0),
    "request zero": header(0, 0),
    "largest request": header(0xFFFFFFFF, 0),
    "hello too long": message(wire.HELLO, bytes(16)),
    "hello too short": message(wire.HELLO, bytes(4)),
    "endless payload": header(wire.HELLO, 0xFFFFFFFF),
    "wrong version": message(wire.HELLO, bytes(8), flags=2),
    "version zero": message(wire.HELLO, bytes(8), flags=0),
    "a reply": message(wire.HELLO, bytes(8), flags=wire.VERSION | wire.REPLY),
    "an error": message(wire.HELLO, bytes(8), flags=wire.VERSION | wire.REPLY | wire.ERROR),
    "unknown flags": message(wire.HELLO, bytes(8), flags=wire.VERSION | 0x80000000),
    "register first": message(wire.REGISTER, REGISTER),
    "ask first": message(wire.ASK, bytes(16)),
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "big endian": struct.pack(">IIII", wire.HELLO, 1, 8, 1) + bytes(8),
}


@pytest.mark.parametrize("name", BEFORE_HELLO)
def test_before_hello(host, witness, name):
    c = host.connect()
    c.send_raw(BEFORE_HELLO[name])
    hung_up_with_error(c)


def changed(payload, offset, data):
    return payload[:offset] + data + payload[offset + len(data):]


HEAD = wire.REGISTER_HEAD.size
AFTER_HELLO = {
    "hello again": HELLO,
    "ask": message(wire.ASK, bytes(16)),
    "power": message(wire.POWER, bytes(16)),
    "unregister": message(wire.UNREGISTER, struct.pack("<II", 1, 0)),
    "register without vcpus": message(wire.REGISTER, REGISTER[:HEAD]),
    "register with half a vcpu": message(wire.REGISTER, REGISTER[:-8]),
    "count and size differ": message(wire.REGISTER, changed(REGISTER, 292, struct.pack("<I", 3))),
    "no vcpus": message(wire.REGISTER, changed(REGISTER[:HEAD], 292, struct.pack("<I", 0))),
    "boot zero": message(wire.REGISTER, changed(REGISTER, 296, struct.pack("<I", 0))),
    "boot beyond possible": message(wire.REGISTER, changed(REGISTER, 296, struct.pack("<I", 3))),
    "unknown flags": message(wire.REGISTER, changed(REGISTER, 288, struct.pack("<I", 0x80))),
    "unknown run state": message(wire.REGISTER, changed(REGISTER, 300, struct.pack("<I", 4))),
    "name not terminated": message(wire.REGISTER, changed(REGISTER, 32, b"x" * 256)),
    "bytes behind the name": message(wire.REGISTER, changed(REGISTER, 40, b"y")),
    "name not UTF-8": message(wire.REGISTER, changed(REGISTER, 32, b"\xc3\x28\0")),
    "same MPIDR twice": message(wire.REGISTER, changed(REGISTER, HEAD + 16, struct.pack("<Q", 0))),
    "MPIDR with other bits": message(wire.REGISTER,
                                     changed(REGISTER, HEAD, struct.pack("<Q", 1 << 31))),
    "unknown vcpu flags": message(wire.REGISTER,
                                  changed(REGISTER, HEAD + 8, struct.pack("<I", 0x8000))),
    "reserved not zero": message(wire.REGISTER,
                                 changed(REGISTER, HEAD + 12, struct.pack("<I", 1))),
    "513 vcpus": message(wire.REGISTER, Vmm.register_payload("x", 513, 1,
                                                             wire.uuidlib.UUID(int=77))),
    "larger than any message": header(wire.REGISTER, wire.MAX_PAYLOAD + 16),
    "incoming without token": message(wire.REGISTER,
                                      changed(REGISTER, 288, struct.pack("<I", 0x3))),
}


@pytest.mark.parametrize("name", AFTER_HELLO)
def test_after_hello(host, witness, name):
    c = greeted(host)
    c.send_raw(AFTER_HELLO[name])
    hung_up_with_error(c)
    assert not host.known("x")


REGISTERED = {
    "hello": HELLO,
    "register": message(wire.REGISTER, REGISTER),
    "vcpu out of range": message(wire.ASK, struct.pack("<IIII", 6, 0, wire.CPU_ON_64, 0)),
    "vcpu far out of range": message(wire.POWER, struct.pack("<IIII", 0xFFFFFFFF, 1, 1, 1)),
    "caller out of range": message(wire.ASK, struct.pack("<IIII", 1, 6, wire.CPU_ON_64, 0)),
    "reserved not zero": message(wire.ASK, struct.pack("<IIII", 1, 0, wire.CPU_ON_64, 1)),
    "unknown power event": message(wire.POWER, struct.pack("<IIII", 1, 9, 1, 1)),
    "power-on of two": message(wire.POWER, struct.pack("<IIII", 1, 1, 1, 2)),
    "denied no calls": message(wire.POWER, struct.pack("<IIII", 1, 3, 2, 0)),
    "unknown reason": message(wire.POWER, struct.pack("<IIII", 1, 3, 200, 1)),
    "ost of a vcpu that is not": message(wire.OST, struct.pack("<IIII", 6, 1, 0, 0)),
    "eject of vcpu 0": message(wire.EJECT, struct.pack("<II", 0, 1)),
    "eject without cause": message(wire.EJECT, struct.pack("<II", 1, 0)),
    "unknown run state": message(wire.RUN_STATE, struct.pack("<II", 0, 0)),
    "unknown reset": message(wire.RESET, struct.pack("<II", 3, 0)),
    "state of another size": message(wire.STATE, struct.pack("<II", 1, 1) + wire.VCPU.pack(0, 1, 0)),
    "state without vcpus": message(wire.STATE, struct.pack("<II", 0, 1)),
    "confirm too short": message(wire.CONFIRM, bytes(4)),
    "unknown unregister": message(wire.UNREGISTER, struct.pack("<II", 0, 0)),
    "unknown request": header(12, 0),
}


@pytest.mark.parametrize("name", REGISTERED)
def test_registered(host, witness, name):
    c = registered(host)
    c.send_raw(REGISTERED[name])
    hung_up_with_error(c)
    host.wait_prop("bad", "State", "disconnected")
    assert host.get("bad", "EnabledSet") == "0-3", "its policy stays as it was"


@pytest.mark.parametrize("part", [1, 15, 16, 17, 23])
def test_truncated_then_closed(host, witness, part):
    c = host.connect()
    c.send_raw(HELLO[:part])
    c.sock.shutdown(socket.SHUT_WR)
    c.hung_up(30)


def test_one_byte_at_a_time(host, witness):
    c = host.connect()
    for byte in HELLO + message(wire.REGISTER, REGISTER, seq=2):
        c.send_raw(bytes([byte]))
    assert c.receive()[:1] == (wire.HELLO,)
    request, flags, seq, _ = c.receive()
    assert (request, seq) == (wire.REGISTER, 2) and not flags & wire.ERROR
    assert host.known("x")


def test_many_messages_in_one_piece(host, witness):
    c = host.connect()
    power = struct.pack("<IIII", 1, 1, 1, 1)
    c.send_raw(HELLO + message(wire.REGISTER, REGISTER, 2) +
               b"".join(message(wire.POWER, power, 3 + i, wire.VERSION | wire.NEED_REPLY)
                        for i in range(500)))
    assert [c.receive()[2] for _ in range(502)] == [1, *range(2, 502 + 1)]


def test_descriptors_where_none_belong(host, witness):
    before = host.daemon.process.open_fds()
    read, write = os.pipe()
    c = host.connect()
    c.send_raw(HELLO, [read, write])
    c.hung_up()
    c = greeted(host)
    c.send_raw(message(wire.REGISTER, REGISTER, 2), [read] * 4)
    c.hung_up()
    assert not host.known("x")
    wait_for(lambda: host.daemon.process.open_fds() <= before, "the daemon keeps none of them", 30)
    os.close(write)
    # ... nor a copy that would hold the pipe open
    assert os.read(read, 1) == b""
    os.close(read)


def test_flood_of_descriptors(host, witness):
    before = host.daemon.process.open_fds()
    with open("/dev/null", "rb") as null:
        for _ in range(20):
            c = host.keep(Connection(host.socket))
            try:
                for _ in range(50):
                    c.send_raw(b"\0", [null.fileno()] * 200)
            except (HungUp, OSError):
                pass
    # The witness and 20 hung-up or waiting strangers at most.
    wait_for(lambda: host.daemon.process.open_fds() <= before + 21, "none of them stays", 30)


def test_thousand_silent_connections(host, witness):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rss = host.daemon.process.rss_kib()
    silent = [host.keep(Connection(host.socket)) for _ in range(1000)]
    try:
        assert witness.ask(1) == (wire.SUCCESS, "granted")
        host.vmm("newcomer", boot=2)
        job = host.resize("witness", 5)
        witness.plug(4)
        assert host.job_result("witness", job)["result"] == "done"
        assert host.daemon.process.grown_kib(rss) < 8192
    finally:
        for c in silent:
            c.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_of_one_user_are_bounded(make_host):
    host = make_host({"limits": {"connections_per_uid": 5}})
    vmm = host.vmm("web")
    # Those beyond the bound are hung up on; the first ones, and registered VMs, are not.
    strangers = [host.keep(Connection(host.socket)) for _ in range(20)]
    closed = wait_for(lambda: (n := sum(not c.quiet() for c in strangers)) >= 15 and n,
                      "those beyond the bound are hung up on", 30)
    assert closed == 15
    assert vmm.ask(1) == (wire.SUCCESS, "granted")
    for c in strangers:
        c.close()
    wait_for(lambda: try_register(host), "room comes back", 30)


def try_register(host):
    try:
        host.vmm(f"later{time.monotonic_ns()}")
        return True
    except HungUp:
        return False


def test_silent_connection_is_hung_up_on(make_host):
    host = make_host({"limits": {"handshake_seconds": 1}})
    vmm = host.vmm("web")
    silent, half = host.connect(), host.connect()
    half.send_raw(HELLO[:10])
    greeted_only = greeted(host)
    for c in (silent, half, greeted_only):
        c.hung_up(20)
    assert vmm.ask(1) == (wire.SUCCESS, "granted"), "who registered may be silent for ever"


def test_peer_that_stops_reading(host, witness):
    rss = host.daemon.process.rss_kib()
    c = registered(host, "deaf")
    c.sock.settimeout(30)
    ask = message(wire.ASK, struct.pack("<IIII", 1, 0, wire.CPU_ON_64, 0))
    with pytest.raises(HungUp):
        for _ in range(100_000):
            c.send_raw(ask * 100)
    assert witness.ask(1) == (wire.SUCCESS, "granted")
    assert host.daemon.process.grown_kib(rss) < 4096
    host.wait_prop("deaf", "State", "disconnected")


def test_flooding_peer(make_host):
    host = make_host({"limits": {"messages_per_second": 5000, "messages_burst": 5000}})
    witness = host.vmm("witness")
    flooder = host.vmm("flooder")
    flooder.sock.setblocking(False)
    power = message(wire.POWER, struct.pack("<IIII", 1, 1, 1, 1)) * 200
    rss = host.daemon.process.rss_kib()
    slowest, end = 0, time.monotonic() + 2
    while time.monotonic() < end:
        try:
            while True:
                flooder.sock.send(power)
        except BlockingIOError:
            pass
        start = time.monotonic()
        assert witness.ask(1) == (wire.SUCCESS, "granted")
        slowest = max(slowest, time.monotonic() - start)
        time.sleep(0.005)  # the witness keeps within its own rate
    assert slowest < 0.5, f"a flood of another VM delayed a verdict by {slowest:.3f} s"
    assert host.daemon.process.grown_kib(rss) < 4096


def test_asks_over_the_rate_are_denied_at_once(make_host):
    host = make_host({"limits": {"messages_per_second": 10, "messages_burst": 10}})
    vmm = host.vmm("web")
    start = time.monotonic()
    answers = [vmm.ask(1) for _ in range(100)]
    assert time.monotonic() - start < 5, "never by silence"
    assert (wire.DENIED, "overload") in answers


def test_random_bytes(host, witness):
    seed = int(os.environ.get("SEED", time.time_ns()))
    print("SEED", seed)
    rng = random.Random(seed)
    for i in range(200):
        c = Connection(host.socket)
        try:
            if i % 2:
                c.send_raw(HELLO + message(wire.REGISTER, REGISTER, 2))
            data = bytearray(b"".join(
                message(rng.randrange(1, 12), rng.randbytes(rng.choice((4, 8, 16, 24))),
                        flags=wire.VERSION | rng.choice((0, wire.NEED_REPLY)))
                for _ in range(20)))
            for _ in range(rng.randrange(4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            c.send_raw(bytes(data))
        except HungUp:
            pass
        finally:
            c.close()
    assert host.bus.get(ROOT, MANAGER, "Connected") >= 1


def test_log_of_bad_peers_is_bounded(host, witness):
    for _ in range(500):
        with Connection(host.socket) as c:
            c.send_raw(header(99, 0))
            c.hung_up(30)
    assert len(host.daemon.log()) < 60_000


def test_nothing_leaks_over_many_sessions(host, witness):
    def session():
        c = Vmm.start(host.socket, "passing")
        c.ask(1)
        c.unregister()
        c.hung_up()
        c.close()
        wait_for(lambda: not host.known("passing"), "gone")
    for _ in range(20):
        session()
    fds, rss = host.daemon.process.open_fds(), host.daemon.process.rss_kib()
    for _ in range(100):
        session()
    assert host.daemon.process.open_fds() <= fds
    assert host.daemon.process.grown_kib(rss) <= 1024
