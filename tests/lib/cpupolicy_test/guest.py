# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's side: a channel, and what runs behind it."""

import base64
import re
import socket
import threading
import time

from .wait import DEADLINE, Expired, wait_for

TABLES = ("possible", "present", "enabled", "online", "offline")
SYS = "/sys/devices/system/cpu"


class Channel:
    """Lines to and from the guest. A thread drains it: an emulated port that nobody reads can
    stop all of QEMU."""

    def __init__(self, sock):
        self._sock = sock
        self._changed = threading.Condition()
        self._replies = {}
        self._closed = False
        self._id = 0
        self.boots = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        buffer = b""
        while True:
            try:
                data = self._sock.recv(65536)
            except OSError:
                data = b""
            with self._changed:
                if not data:
                    self._closed = True
                    self._changed.notify_all()
                    return
                buffer += data
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    self._take(line.decode("ascii", "replace").strip("\r\0 "))
                self._changed.notify_all()

    def _take(self, line):
        # Firmware may have left something on the line before the first mark.
        at = line.rfind("@")
        words = line[at:].split(" ") if at >= 0 else []
        if words and words[0] == "@boot":
            self.boots += 1
        elif len(words) > 1 and re.fullmatch("@[0-9a-f]+", words[0]):
            self._replies[int(words[0][1:], 16)] = words[1:]

    def _until(self, predicate, what, deadline):
        end = time.monotonic() + deadline
        with self._changed:
            while True:
                value = predicate()
                if value:
                    return value
                if self._closed:
                    raise AssertionError(f"QEMU ended; waited for {what}")
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise Expired(f"guest: not within {deadline:g} s: {what}")

    def wait_boot(self, count, deadline=DEADLINE):
        """Until the guest has announced itself `count` times since this channel was made."""
        self._until(lambda: self.boots >= count, f"boot {count}", deadline)

    def send(self, text):
        """Sends a command; its reply is awaited with reply()."""
        self._id += 1
        # What a snapshot or a reset cut in half ends with our newline and is ignored.
        self._sock.sendall(f"\n@{self._id:x} {text}\n".encode("ascii"))
        return self._id

    def reply(self, number, what, deadline=DEADLINE):
        return self._until(lambda: self._replies.pop(number, None), what, deadline)

    def answered(self, number):
        """Whether the reply is there; reply() still takes it."""
        with self._changed:
            return number in self._replies

    def close(self):
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()


class GuestError(Exception):
    """A command in the guest failed."""

    def __init__(self, command, status, output):
        super().__init__(f"guest: {command!r} ended with {status}: {output.strip()}")
        self.status = status
        self.output = output


def cpu_set(text):
    """{0, 1, 4} for "0-1,4"."""
    cpus = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus |= set(range(int(first), int(last or first) + 1))
    return cpus


class LinuxGuest:
    """Linux with tests/guest/image/init."""

    def __init__(self, channel):
        self.channel = channel

    def start(self, command):
        return self.channel.send(base64.b64encode(command.encode()).decode("ascii"))

    def finish(self, number, command, deadline=DEADLINE, check=True, binary=False):
        words = self.channel.reply(number, repr(command), deadline)
        status = int(words[0])
        output = base64.b64decode(words[1]) if len(words) > 1 else b""
        if not binary:
            output = output.decode("utf-8", "replace")
        if not check:
            return status, output
        if status:
            raise GuestError(command, status, str(output))
        return output

    def run(self, command, deadline=DEADLINE, check=True, binary=False):
        """The output; with check=False (status, output)."""
        return self.finish(self.start(command), command, deadline, check, binary)

    def tables(self):
        """{"possible": "0-5", ...}; those that this kernel does not have are missing."""
        out = self.run(f"cd {SYS}; for t in {' '.join(TABLES)}; do "
                       "[ -e $t ] && echo $t $(cat $t); done; true")
        return {w[0]: w[1] if len(w) > 1 else "" for w in
                (line.split() for line in out.splitlines())}

    def wait_tables(self, deadline=DEADLINE, **want):
        """Until the named tables read as given; all tables."""
        def match():
            tables = self.tables()
            return tables if all(tables.get(k) == v for k, v in want.items()) else None
        try:
            return wait_for(match, f"guest's tables {want}", deadline)
        except Expired as e:
            raise Expired(f"{e}; they are {self.tables()}") from None

    def online(self, cpu, deadline=DEADLINE):
        self.run(f"echo 1 >{SYS}/cpu{cpu}/online", deadline)

    def try_online(self, cpu):
        """(status, output) of an attempt."""
        return self.run(f"echo 1 >{SYS}/cpu{cpu}/online", check=False)

    def offline(self, cpu):
        self.run(f"echo 0 >{SYS}/cpu{cpu}/online")

    def wait_registered(self, cpu):
        wait_for(lambda: self.run(f"[ -e {SYS}/cpu{cpu}/online ]", check=False)[0] == 0,
                 f"guest registers CPU {cpu}")

    def dmesg(self):
        return self.run("dmesg")

    def allow_eject(self, allow):
        self.run(f"echo {int(allow)} >/sys/firmware/acpi/hotplug/processor/enabled")

    def reboot(self):
        """Returns when the guest is back."""
        boots = self.channel.boots
        self.start("reboot -f")
        self.channel.wait_boot(boots + 1)


PSCI_VERSION = 0x84000000
CPU_OFF = 0x84000002
CPU_ON = 0xC4000003
CPU_ON_32 = 0x84000003
AFFINITY_INFO = 0xC4000004
SYSTEM_OFF = 0x84000008
SYSTEM_RESET = 0x84000009
SUCCESS, NOT_SUPPORTED, INVALID_PARAMETERS, DENIED, ALREADY_ON = 0, -1, -2, -3, -4


def signed(value):
    """PSCI's 32-bit return codes."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


class PsciGuest:
    """tests/guest/image/psci.c: one firmware call or register access at a time."""

    def __init__(self, channel):
        self.channel = channel
        self._entry = None

    def command(self, letter, *words, deadline=DEADLINE):
        text = " ".join([letter, *[f"{w & 0xFFFFFFFFFFFFFFFF:x}" for w in words]])
        reply = self.channel.reply(self.channel.send(text), text, deadline)
        return [int(w, 16) for w in reply if w]

    def call(self, function, a=0, b=0, c=0, deadline=DEADLINE):
        return signed(self.command("c", function, a, b, c, deadline=deadline)[0])

    def start_call(self, function, a=0, b=0, c=0):
        """For a call that may not return, or not soon."""
        return self.channel.send(f"c {function:x} {a:x} {b:x} {c:x}")

    def finish_call(self, number, deadline=DEADLINE):
        return signed(int(self.channel.reply(number, "a firmware call", deadline)[0], 16))

    def entry(self):
        if self._entry is None:
            self._entry = self.command("e")[0]
        return self._entry

    def cpu_on(self, cpu, context=0, function=CPU_ON, deadline=DEADLINE):
        return self.call(function, cpu, self.entry(), context, deadline=deadline)

    def flood(self, count, function, a=0, b=0, c=0, deadline=DEADLINE):
        """(how many of the last calls gave the same result, that result)"""
        same, result = self.command("f", function, a, b, c, count, deadline=deadline)
        return same, signed(result)

    def secondary_call(self, cpu, function, a=0, b=0, c=0):
        self.command("s", cpu, function, a, b, c)

    def secondary(self, cpu):
        """What became of another vCPU."""
        entered, context, calls, result = self.command("n", cpu)
        return {"entered": entered, "context": context, "calls": calls, "result": signed(result)}

    def wait_entered(self, cpu, count=1):
        return wait_for(lambda: (s := self.secondary(cpu))["entered"] >= count and s,
                        f"vCPU {cpu} runs")

    def affinity_info(self, cpu):
        """0 on, 1 off"""
        return self.call(AFFINITY_INFO, cpu, 0)

    def cpu_off(self, cpu):
        self.secondary_call(cpu, CPU_OFF)
        wait_for(lambda: self.affinity_info(cpu) == 1, f"vCPU {cpu} is off")

    def read(self, size, address):
        return self.command("r", size, address)[0]

    def write(self, size, address, value):
        self.command("w", size, address, value)
