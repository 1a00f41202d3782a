# SPDX-License-Identifier: GPL-2.0-or-later
"""A provider on the bus, that does what the test wants of it. It is served while the test waits on it."""

import time

from .dbus_wire import Client
from .wait import DEADLINE, Expired

INTERFACE = "org.cpupolicy1.Provider"
NO_QUOTA = 2**32 - 1
_TYPES = {"uid": "u", "label": "s", "class": "s", "tenant": "s", "desired": "u", "quota": "b",
          "pid": "u"}


class Provider:
    """Registered as `name`. `holds` is {uuid: millis} as it was asked for, with what was lifted gone;
    `seen` every call in its order. While `hung` it answers nothing, while `error` (name, message) all
    by that."""

    def __init__(self, bus, name="lab", register=True):
        self.client = Client(bus)
        self.name = name
        self.holds = {}
        self.seen = []
        self.hung = False
        self.error = None
        self._waiting = []
        if register:
            self.register()

    def register(self, path="/lab"):
        self.client.call("RegisterProvider", "so", self.name, path)

    def announce(self, uuid, vm, **more):
        self.announce_all([(uuid, vm, more)])

    def announce_all(self, vms):
        self.client.call("Announce", "a(ssa{sv})", [
            (str(uuid), name, {k: (_TYPES[k], v) for k, v in more.items()})
            for uuid, name, more in vms])

    def withdraw(self, *uuids):
        self.client.call("Withdraw", "as", [str(u) for u in uuids])

    def _take(self, call):
        uuid, millis = call.arguments
        self.seen.append((uuid, millis))
        if self.error:
            self.client.reply(call, self.error)
            return
        if millis == NO_QUOTA:
            self.holds.pop(uuid, None)
        else:
            self.holds[uuid] = millis
        self.client.reply(call)

    def serve(self, timeout=0.0):
        """Answers what is there, or comes within that time."""
        self.client.receive(timeout)
        for call in self.client.calls:
            assert (call.path, call.interface, call.member) == ("/lab", INTERFACE, "SetCpuQuota")
            self._waiting.append(call)
        self.client.calls.clear()
        while self._waiting and not self.hung:
            self._take(self._waiting.pop(0))

    def pending(self):
        """Calls that are not answered."""
        return len(self._waiting)

    def until(self, predicate, what, deadline=DEADLINE):
        """Serves until that is true, and returns it."""
        end = time.monotonic() + deadline
        while True:
            self.serve(0.02)
            value = predicate()
            if value:
                return value
            if time.monotonic() > end:
                raise Expired(f"not within {deadline:g} s: {what}; seen: {self.seen[-8:]}")

    def close(self):
        """As the death of its process."""
        self.client.close()
