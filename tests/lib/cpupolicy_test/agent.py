# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests' side of tests/kvm/image/agent.c: programs and sockets on another machine, over a line."""

import itertools
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time

from .process import Process
from .wait import DEADLINE, Expired, wait_for

HEADER = struct.Struct("<III")
PIECE = 16384


class _Stream:
    """What the agent says about one program or connection."""

    def __init__(self, on_data):
        self.on_data = on_data
        self.pid = None
        self.status = None  # of the program that has ended; negative: an errno
        self.ended = False  # no more output


class Agent:
    """The line to one agent. A thread reads it all the time."""

    def __init__(self, sock):
        self._sock = sock
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._streams = {}
        self._numbers = itertools.count(1)
        self._closed = False
        self._ready = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        buffer = b""
        while True:
            try:
                data = self._sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            buffer += data
            if not self._ready:
                # Whatever the line had before the agent opened it is not ours.
                at = buffer.find(HEADER.pack(0, ord("r"), 0))
                buffer = buffer[at:] if at >= 0 else buffer[-HEADER.size:]
                if at < 0:
                    continue
            at = 0
            while len(buffer) - at >= HEADER.size:
                number, kind, length = HEADER.unpack_from(buffer, at)
                if len(buffer) - at < HEADER.size + length:
                    break
                self._take(number, chr(kind), buffer[at + HEADER.size:at + HEADER.size + length])
                at += HEADER.size + length
            buffer = buffer[at:]
        with self._changed:
            self._closed = True
            streams = list(self._streams.values())
            self._changed.notify_all()
        for stream in streams:
            stream.on_data(b"")

    def _take(self, number, kind, data):
        stream = self._streams.get(number)
        if kind == "d" and stream:
            stream.on_data(data)
        with self._changed:
            if kind == "r":
                self._ready = True
            elif stream and kind == "p":
                stream.pid, = struct.unpack("<i", data)
            elif stream and kind == "e":
                stream.status, = struct.unpack("<i", data)
            elif stream and kind == "d" and not data:
                stream.ended = True
            self._changed.notify_all()

    def _send(self, number, kind, data=b""):
        with self._sending:
            try:
                self._sock.sendall(HEADER.pack(number, ord(kind), len(data)) + data)
            except OSError as e:
                raise AssertionError(f"the line to the host is closed: {e}") from None

    def until(self, predicate, what, deadline=DEADLINE):
        end = time.monotonic() + deadline
        with self._changed:
            while True:
                value = predicate()
                if value:
                    return value
                if self._closed:
                    raise AssertionError(f"the host ended; waited for {what}")
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise Expired(f"host: not within {deadline:g} s: {what}")

    def wait_ready(self, deadline=DEADLINE):
        self.until(lambda: self._ready, "its agent", deadline)

    def _open(self, kind, data, what, on_data):
        number, stream = next(self._numbers), _Stream(on_data)
        self._streams[number] = stream
        self._send(number, kind, data)
        self.until(lambda: stream.pid is not None or stream.status is not None, what)
        if stream.pid is None:
            del self._streams[number]
            raise OSError(-stream.status, os.strerror(-stream.status), what)
        return number, stream

    # ---- programs ----

    def process(self, argv, log, stdin=None):
        """A program there, as Process is one here: what it writes is in `log`, here."""
        return AgentProcess(self, argv, log, stdin)

    def run(self, *argv, stdin=b"", check=True, deadline=DEADLINE, text=True):
        """A program to its end: a finished process."""
        output = []
        popen = AgentPopen(self, argv, output.append)
        popen.feed(stdin)
        status = popen.wait(deadline)
        output = b"".join(output)
        if text:
            output = output.decode("utf-8", "replace")
        assert not check or status == 0, f"host: {argv} ended with {status}: {output}"
        return subprocess.CompletedProcess(argv, status, output, "")

    def sh(self, script, **more):
        """A shell script there; its output."""
        return self.run("sh", "-c", script, **more).stdout

    def put(self, path, data):
        """A small file."""
        self.run("sh", "-c", 'cat >"$0"', str(path), stdin=data.encode() if isinstance(data, str) else data)

    def read(self, path):
        return self.run("cat", str(path)).stdout

    # ---- connections ----

    def connect(self, path, sock=None):
        """A socket here that is connected to that path there; `sock` is one that becomes it."""
        ours = None
        if sock is None:
            ours, sock = socket.socketpair()

        def on_data(data):
            try:
                if data:
                    sock.sendall(data)
                else:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # whoever was there has left
        try:
            number, _ = self._open("c", str(path).encode(), f"connects to {path}", on_data)
        except BaseException:
            sock.close()
            raise

        def pump():
            with sock:
                while True:
                    try:
                        data = sock.recv(PIECE)
                    except OSError:
                        data = b""
                    try:
                        self._send(number, "d", data)
                    except AssertionError:
                        return
                    if not data:
                        break
                try:
                    self.until(lambda: self._streams[number].ended, "the other end closes", 3600)
                except AssertionError:
                    pass
                self._streams.pop(number, None)
        threading.Thread(target=pump, daemon=True).start()
        return ours

    def connected(self, path, process):
        """The same, once somebody listens there: `process`, that must not have ended."""
        def attempt():
            try:
                return self.connect(path)
            except OSError:
                assert process.alive(), f"ended with {process.popen.returncode}:\n{process.log()[-3000:]}"
                return None
        return wait_for(attempt, f"{path} is listened on")

    def forward(self, here, there):
        """Who connects to the path here is connected to the path there."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(here))
        listener.listen(64)

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    self.connect(there, connection)
                except (OSError, AssertionError):
                    connection.close()
        threading.Thread(target=serve, daemon=True).start()
        return listener


class AgentPopen:
    """What of subprocess.Popen Process uses."""

    def __init__(self, agent, argv, on_data):
        self.agent = agent
        self.argv = [str(a) for a in argv]
        self.number, self._stream = agent._open(  # pylint: disable=protected-access
            "x", b"".join(a.encode() + b"\0" for a in self.argv), self.argv[0], on_data)
        self.pid = self._stream.pid

    def feed(self, data):
        """All of the program's input."""
        for at in range(0, len(data), PIECE):
            self.agent._send(self.number, "d", data[at:at + PIECE])  # pylint: disable=protected-access
        self.agent._send(self.number, "d")  # pylint: disable=protected-access

    @property
    def returncode(self):
        return self.poll()

    def poll(self):
        status = self._stream.status
        return None if status is None or not self._stream.ended else os.waitstatus_to_exitcode(status)

    def wait(self, timeout=None):
        try:
            self.agent.until(lambda: self.poll() is not None, f"{self.argv[0]} ends", timeout or 3600)
        except Expired:
            raise subprocess.TimeoutExpired(self.argv, timeout) from None
        return self.poll()

    def send_signal(self, number):
        self.agent._send(self.number, "k", bytes([number]))  # pylint: disable=protected-access

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class AgentProcess(Process):
    """A program on the other machine."""

    def __init__(self, agent, argv, log, stdin=None):  # pylint: disable=super-init-not-called
        self.argv = [str(a) for a in argv]
        self.log_path = str(log)
        path = pathlib.Path(self.log_path)
        self.log_offset = path.stat().st_size if path.exists() else 0
        self._out = open(self.log_path, "ab", buffering=0)  # pylint: disable=consider-using-with
        self.popen = AgentPopen(agent, self.argv, self._out.write)
        if stdin is not None:
            self.popen.feed(stdin)
