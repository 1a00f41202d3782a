# SPDX-License-Identifier: GPL-2.0-or-later
"""The VMM protocol (docs/protocol.md) a second time, independent of the C code.

Vmm plays a well-behaved VMM, or by its lower half any other: what it sends is bytes, and nothing
is checked before it is sent.
"""

import mmap
import os
import select
import socket
import struct
import time
import uuid as uuidlib

from .wait import DEADLINE, Expired

VERSION = 1
HELLO, REGISTER, ASK, POWER, OST, EJECT, RUN_STATE, RESET, STATE, CONFIRM, UNREGISTER = range(1, 12)

REPLY, NEED_REPLY, ERROR = 0x4, 0x8, 0x10

F_ASK, F_INCOMING = 0x1, 0x2
REG_INCOMING, REG_NOTIFY, REG_BOOT_REMOVABLE = 0x1, 0x2, 0x4
ONLINE, ACKED, EJECTED, ENABLED, EJECT_OWN = 0x1, 0x2, 0x4, 0x8, 0x10
RUNNING, PAUSED, INACTIVE = 1, 2, 3
ON, OFF, DENIED_EVENT = 1, 2, 3
EJECT_REQUESTED, EJECT_GUEST, EJECT_RESET = 1, 2, 3
RESET_GUEST, RESET_HOST = 1, 2
SHUTDOWN, MIGRATED = 1, 2
CPU_ON_64 = 0xC4000003
SUCCESS, DENIED = 0, -3

ERR_PROTOCOL, ERR_UNSUPPORTED, ERR_IDENTITY, ERR_LIMIT, ERR_STORAGE, ERR_BUSY = range(1, 7)
REASONS = ["none", "granted", "not-enabled", "ejected", "rate", "observed", "inactive",
           "no-policy", "timeout", "overload", "page"]

NAME_SIZE = 256
MAX_PAYLOAD = 16384
PAGE_MAGIC = 0x4C4F5043
PAGE_HEAD = struct.Struct("<IIIIQ5Q")
VCPU = struct.Struct("<QII")
REGISTER_HEAD = struct.Struct("<16s16s256sIIII")
VERDICT_DENY, VERDICT_ALLOW, VERDICT_ASK = 0, 1, 2


def header(request, size, seq=1, flags=VERSION):
    return struct.pack("<IIII", request, flags, size, seq)


def message(request, payload=b"", seq=1, flags=VERSION):
    return header(request, len(payload), seq, flags) + payload


class HungUp(Exception):
    """The daemon closed the connection."""


class Refused(Exception):
    """An error reply."""

    def __init__(self, code, text):
        super().__init__(f"error {code}: {text}")
        self.code = code
        self.text = text


class Word:
    """One word of the policy page."""

    def __init__(self, value):
        self.value = value
        self.enabled = bool(value & 0x1)
        self.wanted = bool(value & 0x2)
        self.verdict = (value >> 2) & 0x3
        self.timeout_allow = bool(value & 0x10)
        self.observe = bool(value & 0x20)
        self.serial = (value >> 8) & 0xFF
        self.grant = value >> 32

    def __repr__(self):
        return f"Word(enabled={self.enabled}, wanted={self.wanted}, verdict={self.verdict})"


class Page:
    """The policy page as a VMM maps it."""

    def __init__(self, fd, size):
        self.fd = fd
        self.map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
        fields = PAGE_HEAD.unpack_from(self.map, 0)
        self.magic, self.version, self.vcpus, self.ask_timeout_ms = fields[:4]

    @property
    def head(self):
        return struct.unpack_from("<Q", self.map, 16)[0]

    @property
    def epoch(self):
        return self.head >> 32

    @property
    def generation(self):
        return self.head & 0xFFFFFFFF

    def word(self, vcpu):
        return Word(struct.unpack_from("<Q", self.map, PAGE_HEAD.size + 8 * vcpu)[0])

    def words(self):
        return [self.word(i) for i in range(self.vcpus)]

    def enabled(self):
        return {i for i, w in enumerate(self.words()) if w.enabled}

    def wanted(self):
        return {i for i, w in enumerate(self.words()) if w.enabled and w.wanted}

    def close(self):
        self.map.close()
        os.close(self.fd)


class Connection:
    """Bytes and descriptors on the daemon's socket; `path` may be a connected descriptor, taken over."""

    def __init__(self, path, deadline=DEADLINE):
        self.deadline = deadline
        if isinstance(path, int):
            self.sock = socket.socket(fileno=path)
        else:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self.sock.connect(str(path))  # blocks while the daemon's backlog is full
        self.sock.settimeout(deadline)
        self.fds = []
        self._buffer = b""

    def fileno(self):
        return self.sock.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send_raw(self, data, fds=()):
        """All bytes, with the descriptors on the first of them."""
        try:
            if fds:
                n = socket.send_fds(self.sock, [data], list(fds))
                data = data[n:]
            if data:
                self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise HungUp(str(e)) from None

    def _fill(self, end):
        left = end - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            raise Expired("the daemon sends nothing")
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
        except ConnectionResetError as e:
            raise HungUp(str(e)) from None
        self.fds += fds
        if not data:
            raise HungUp("end of file")
        self._buffer += data

    def _take(self, n, end):
        while len(self._buffer) < n:
            self._fill(end)
        data, self._buffer = self._buffer[:n], self._buffer[n:]
        return data

    def receive(self, deadline=None):
        """(request, flags, seq, payload) of the next message."""
        end = time.monotonic() + (deadline or self.deadline)
        request, flags, size, seq = struct.unpack("<IIII", self._take(16, end))
        return request, flags, seq, self._take(size, end)

    def quiet(self):
        """Whether nothing has arrived."""
        return not self._buffer and not select.select([self.sock], [], [], 0)[0]

    def hung_up(self, deadline=DEADLINE):
        """Waits for the daemon's hang-up; returns the error replies that came before it."""
        errors = []
        try:
            while True:
                _, flags, _, payload = self.receive(deadline)
                if flags & ERROR:
                    errors.append(parse_error(payload))
        except HungUp:
            return errors

    def close(self):
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def parse_error(payload):
    code, reserved = struct.unpack_from("<II", payload)
    assert reserved == 0 and len(payload) == 248
    return Refused(code, payload[8:].split(b"\0", 1)[0].decode("utf-8"))


class Vmm(Connection):
    """A VMM. Events are sent without waiting unless `reply` is set."""

    def __init__(self, path, deadline=DEADLINE):
        super().__init__(path, deadline)
        self.seq = 0
        self.page = None
        self.doorbell = None
        self.token = bytes(16)
        self.possible = 0
        self.replies = {}

    def request(self, request, payload=b"", reply=True, flags=0, fds=()):
        """Sends one; the reply's payload, or Refused, or HungUp."""
        self.seq += 1
        seq = self.seq
        self.send_raw(message(request, payload, seq, VERSION | flags |
                              (NEED_REPLY if reply and request >= POWER else 0)), fds)
        if not reply:
            return seq
        return self.wait_reply(seq, request)

    def wait_reply(self, seq, request=None):
        while seq not in self.replies:
            got, flags, got_seq, payload = self.receive()
            assert flags & REPLY and flags & 3 == VERSION, hex(flags)
            self.replies[got_seq] = (got, flags, payload)
        got, flags, payload = self.replies.pop(seq)
        if flags & ERROR:
            raise parse_error(payload)
        assert request is None or got == request
        return payload

    def hello(self, features=F_ASK | F_INCOMING):
        agreed, max_vcpus, _ = struct.unpack("<QII", self.request(HELLO, struct.pack("<Q", features)))
        return agreed, max_vcpus

    @staticmethod
    def register_payload(name, possible, boot, uuid, token=bytes(16), flags=REG_NOTIFY |
                         REG_BOOT_REMOVABLE, run_state=RUNNING, vcpus=None, mpidrs=None):
        if isinstance(name, str):
            name = name.encode()
        mpidrs = mpidrs or list(range(possible))
        vcpus = vcpus or {}
        head = REGISTER_HEAD.pack(uuid.bytes, token, name.ljust(NAME_SIZE, b"\0"), flags, possible,
                                  boot, run_state)
        return head + b"".join(VCPU.pack(m, vcpus.get(i, ONLINE if i == 0 else 0), 0)
                               for i, m in enumerate(mpidrs))

    def register(self, name, possible=6, boot=4, uuid=None, token=None, **more):
        self.name = name
        self.uuid = uuid or uuidlib.uuid4()
        payload = self.register_payload(name, possible, boot, self.uuid, token or bytes(16), **more)
        reply = self.request(REGISTER, payload)
        self.token, self.epoch, self.possible, enabled, size = struct.unpack("<16sIIII", reply)
        assert len(self.fds) == 2, "a registration's reply carries the page and the doorbell"
        page, bell = self.fds
        self.fds = []
        self.page = Page(page, size)
        self.doorbell = socket.socket(fileno=bell)
        assert self.page.magic == PAGE_MAGIC and self.page.vcpus == possible
        assert len(self.page.enabled()) == enabled
        return self

    @classmethod
    def start(cls, path, name, **more):
        """Connected, registered, and the first page confirmed."""
        features = more.pop("features", F_ASK | F_INCOMING)
        vmm = cls(path)
        vmm.hello(features)
        vmm.register(name, **more)
        vmm.confirm()
        return vmm

    # events

    def power(self, vcpu, event=ON, reason=1, count=1, reply=True):
        return self.request(POWER, struct.pack("<IIII", vcpu, event, reason, count), reply)

    def online(self, vcpu, reply=True):
        return self.power(vcpu, ON, 1, 1, reply)

    def offline(self, vcpu, reply=True):
        return self.power(vcpu, OFF, 0, 1, reply)

    def denied(self, vcpu, reason=2, count=1, reply=True):
        return self.power(vcpu, DENIED_EVENT, reason, count, reply)

    def ost(self, vcpu, event, status, reply=True):
        return self.request(OST, struct.pack("<IIII", vcpu, event, status, 0), reply)

    def acknowledge(self, vcpu):
        return self.ost(vcpu, 1, 0)

    def eject(self, vcpu, cause=EJECT_REQUESTED, reply=True):
        return self.request(EJECT, struct.pack("<II", vcpu, cause), reply)

    def run_state(self, state, reply=True):
        return self.request(RUN_STATE, struct.pack("<II", state, 0), reply)

    def reset(self, kind=RESET_GUEST, reply=True):
        return self.request(RESET, struct.pack("<II", kind, 0), reply)

    def state(self, vcpus, run_state=RUNNING, mpidrs=None, reply=True):
        mpidrs = mpidrs or list(range(self.possible))
        payload = struct.pack("<II", self.possible, run_state) + b"".join(
            VCPU.pack(m, vcpus.get(i, ONLINE if i == 0 else 0), 0) for i, m in enumerate(mpidrs))
        return self.request(STATE, payload, reply)

    def confirm(self, generation=None, reply=True):
        generation = self.page.generation if generation is None else generation
        return self.request(CONFIRM, struct.pack("<II", generation, self.page.epoch), reply)

    def unregister(self, cause=SHUTDOWN):
        self.request(UNREGISTER, struct.pack("<II", cause, 0), reply=False)

    def ask(self, vcpu, caller=0, function=CPU_ON_64):
        """(PSCI code, name of the reason)"""
        psci, reason = struct.unpack(
            "<iI", self.request(ASK, struct.pack("<IIII", vcpu, caller, function, 0)))
        return psci, REASONS[reason]

    # push

    def wait_page(self, predicate, what="the page changes", deadline=None):
        """Sleeps on the doorbell, as a VMM does, until the page is as wanted."""
        end = time.monotonic() + (deadline or self.deadline)
        while not predicate(self.page):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.doorbell], [], [], left)[0]:
                raise Expired(f"{what}: {self.page.words()}")
            if not self.doorbell.recv(4096):
                raise HungUp("doorbell closed")
        return self.page

    def wait_enabled(self, vcpus):
        return self.wait_page(lambda p: p.enabled() == set(vcpus), f"enabled is {set(vcpus)}")

    def wait_wanted(self, vcpus):
        return self.wait_page(lambda p: p.wanted() == set(vcpus), f"wanted is {set(vcpus)}")

    # what a willing guest does

    def plug(self, vcpu, online=True):
        self.wait_page(lambda p: p.word(vcpu).enabled, f"vCPU {vcpu} enabled")
        self.confirm()
        self.acknowledge(vcpu)
        if online:
            self.online(vcpu)

    def unplug(self, vcpu):
        self.wait_page(lambda p: not p.word(vcpu).wanted, f"vCPU {vcpu} asked back")
        self.confirm()
        self.ost(vcpu, 3, 0x84)
        self.offline(vcpu)
        self.eject(vcpu)
        self.ost(vcpu, 3, 0)

    def close(self):
        super().close()
        if self.page:
            self.page.close()
            self.page = None
        if self.doorbell:
            self.doorbell.close()
            self.doorbell = None
