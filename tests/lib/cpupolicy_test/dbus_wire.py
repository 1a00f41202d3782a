# SPDX-License-Identifier: GPL-2.0-or-later
"""A D-Bus client in a few lines: many calls on their way at once, and no process for each."""

import collections
import os
import select
import socket
import struct
import time

from .bus import MANAGER, NAME, ROOT
from .wait import DEADLINE, Expired

_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(
    1, 9)
_FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d",
          "h": "I"}
_ALIGN = {"h": 4, "y": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "s": 4, "o": 4, "a": 4, "g": 1, "v": 1}


class CallError(Exception):
    """An error reply."""

    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name


def _align_of(signature):
    return _ALIGN.get(signature[0], 8)


def _one(signature):
    """The first complete type."""
    if signature[0] == "a":
        return "a" + _one(signature[1:])
    if signature[0] not in "({":
        return signature[0]
    depth = 0
    for i, c in enumerate(signature):
        depth += (c in "({") - (c in ")}")
        if depth == 0:
            return signature[:i + 1]
    raise ValueError(signature)


def _types(signature):
    while signature:
        one = _one(signature)
        yield one
        signature = signature[len(one):]


class _Writer:
    def __init__(self):
        self.data = bytearray()

    def align(self, n):
        self.data += bytes(-len(self.data) % n)

    def put(self, kind, value):
        self.align(_align_of(kind))
        if kind in _FIXED:
            self.data += struct.pack("<" + _FIXED[kind], value)
        elif kind in "so":
            raw = value.encode()
            self.data += struct.pack("<I", len(raw)) + raw + b"\0"
        elif kind == "g":
            self.data += bytes([len(value)]) + value.encode() + b"\0"
        elif kind == "v":  # (signature, value)
            self.put("g", value[0])
            self.put(*value)
        elif kind[0] == "a":
            self._array(kind[1:], value)
        else:
            for part, one in zip(_types(kind[1:-1]), value):
                self.put(part, one)

    def _array(self, kind, values):
        at = len(self.data)
        self.data += bytes(4)
        self.align(_align_of(kind))
        start = len(self.data)
        for value in values.items() if kind[0] == "{" else values:
            self.put(kind, value)
        struct.pack_into("<I", self.data, at, len(self.data) - start)


class _Reader:
    def __init__(self, data, at=0):
        self.data = data
        self.at = at

    def align(self, n):
        self.at += -self.at % n

    def get(self, kind):
        self.align(_align_of(kind))
        if kind in _FIXED:
            fmt = "<" + _FIXED[kind]
            value, = struct.unpack_from(fmt, self.data, self.at)
            self.at += struct.calcsize(fmt)
            return bool(value) if kind == "b" else value
        if kind in "sog":
            size = self.data[self.at] if kind == "g" else self.get("u")
            self.at += kind == "g"
            text = self.data[self.at:self.at + size].decode()
            self.at += size + 1
            return text
        if kind == "v":
            return self.get(self.get("g"))
        if kind[0] == "a":
            return self._array(kind[1:])
        return tuple(self.get(t) for t in _types(kind[1:-1]))

    def _array(self, kind):
        size = self.get("u")
        self.align(_align_of(kind))
        end, values = self.at + size, []
        while self.at < end:
            values.append(self.get(kind))
        return dict(values) if kind[0] == "{" else values


IncomingCall = collections.namedtuple(
    "IncomingCall", "serial sender path interface member arguments")


class Client:
    """Connected to a Bus. call() waits, send() does not. With `descriptors` those may come; they are closed
    at once."""

    def __init__(self, bus, deadline=DEADLINE, descriptors=False):
        self.deadline = deadline
        self._serial = 0
        self._buffer = b""
        self.replies = {}  # serial: values, or CallError
        self.calls = []  # IncomingCall
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(bus.path))
        self.sock.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode()
                          + b"\r\n")
        assert self.sock.recv(4096).startswith(b"OK")
        if descriptors:
            self.sock.sendall(b"NEGOTIATE_UNIX_FD\r\n")
            assert self.sock.recv(4096).startswith(b"AGREE_UNIX_FD")
        self.sock.sendall(b"BEGIN\r\n")
        self.name, = self.call("Hello", destination="org.freedesktop.DBus", path="/org/freedesktop/DBus",
                  interface="org.freedesktop.DBus")

    def send(self, member, signature="", *args, destination=NAME, path=ROOT, interface=MANAGER):
        """The call's serial."""
        self._serial += 1
        self._send(_CALL, self._serial, [
            (_PATH, "o", path), (_INTERFACE, "s", interface), (_MEMBER, "s", member),
            (_DESTINATION, "s", destination)], signature, args)
        return self._serial

    def reply(self, call, error=None):
        """Answers one of `calls`, with nothing or an error (name, message)."""
        self._serial += 1
        fields = [(_REPLY_SERIAL, "u", call.serial), (_DESTINATION, "s", call.sender)]
        if error:
            fields.append((_ERROR_NAME, "s", error[0]))
        self._send(_ERROR if error else _RETURN, self._serial, fields, "s" if error else "",
                   error[1:] if error else ())

    def _send(self, what, serial, fields, signature, args):
        body = _Writer()
        for kind, value in zip(_types(signature), args):
            body.put(kind, value)
        if signature:
            fields.append((_SIGNATURE, "g", signature))
        head = _Writer()
        for code, kind, value in fields:
            head.align(8)
            head.put("y", code)
            head.put("g", kind)
            head.put(kind, value)
        size = len(head.data)
        head.align(8)
        self.sock.sendall(struct.pack("<cBBBIII", b"l", what, 0, 1, len(body.data), serial, size)
                          + head.data + body.data)

    def _message(self):
        """Takes one whole message out of the buffer."""
        if len(self._buffer) < 16:
            return False
        _, kind, _, _, body, serial, fields = struct.unpack_from("<cBBBIII", self._buffer)
        start = 16 + fields + -fields % 8
        if len(self._buffer) < start + body:
            return False
        message, self._buffer = self._buffer[:start + body], self._buffer[start + body:]
        reader, header = _Reader(message, 16), {}
        while reader.at < 16 + fields:
            reader.align(8)
            code = reader.get("y")
            header[code] = reader.get("v")
        if kind in (_RETURN, _ERROR):
            reader = _Reader(message[start:])
            values = [reader.get(t) for t in _types(header.get(_SIGNATURE, ""))]
            if kind == _ERROR:
                values = CallError(header[_ERROR_NAME], values[0] if values else "")
            self.replies[header[_REPLY_SERIAL]] = values
        elif kind == _CALL:
            reader = _Reader(message[start:])
            values = [reader.get(t) for t in _types(header.get(_SIGNATURE, ""))]
            self.calls.append(IncomingCall(serial, header.get(_SENDER), header[_PATH],
                                           header.get(_INTERFACE), header[_MEMBER], values))
        return True

    def receive(self, timeout=0.0):
        """Takes in what is there, or comes within that time."""
        if select.select([self.sock], [], [], timeout)[0]:
            data = self.sock.recv(65536)
            assert data, "the bus hung up"
            self._buffer += data
        while self._message():
            pass

    def wait(self, serial):
        """The values of its reply, or CallError."""
        end = time.monotonic() + self.deadline
        while serial not in self.replies:
            left = end - time.monotonic()
            if left <= 0:
                raise Expired("no reply on the bus")
            self.receive(left)
        reply = self.replies.pop(serial)
        if isinstance(reply, CallError):
            raise reply
        return reply

    def call(self, member, signature="", *args, **more):
        return self.wait(self.send(member, signature, *args, **more))

    def objects(self):
        """{path: {interface: {property: value}}}"""
        return self.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")[0]

    def close(self):
        self.sock.close()
