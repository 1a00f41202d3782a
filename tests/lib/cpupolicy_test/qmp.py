# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's monitor protocol."""

import json
import socket
import threading
import time

from .wait import DEADLINE, Expired


class QmpError(Exception):
    """An error reply."""

    def __init__(self, error):
        super().__init__(f"{error.get('class')}: {error.get('desc')}")
        self.error = error


class Qmp:
    """One connection. A thread reads all the time, so that QEMU is never held up."""

    def __init__(self, sock):
        self._sock = sock
        self._changed = threading.Condition()
        self._replies = {}
        self._greeted = False
        self._closed = False
        self._id = 0
        self.events = []
        threading.Thread(target=self._read, daemon=True).start()
        self._until(lambda: self._greeted, "QEMU's greeting", DEADLINE)
        self.execute("qmp_capabilities")

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
                    self._take(json.loads(line))
                self._changed.notify_all()

    def _take(self, m):
        if "QMP" in m:
            self._greeted = True
        elif "event" in m:
            self.events.append(m)
        else:
            self._replies[m.get("id")] = m

    def _until(self, predicate, what, deadline):
        end = time.monotonic() + deadline
        with self._changed:
            while True:
                value = predicate()
                if value:
                    return value
                if self._closed:
                    raise AssertionError(f"QEMU closed its monitor; waited for {what}")
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise Expired(f"not within {deadline:g} s: {what}")

    def send(self, command, **arguments):
        """Sends without waiting; returns what reply() takes."""
        self._id += 1
        m = {"execute": command, "id": self._id}
        if arguments:
            m["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        try:
            self._sock.sendall(json.dumps(m).encode() + b"\n")
        except OSError as e:
            raise AssertionError(f"QEMU closed its monitor: {e}") from None
        return self._id

    def reply(self, number, deadline=DEADLINE, what="a reply"):
        m = self._until(lambda: self._replies.pop(number, None), what, deadline)
        if "error" in m:
            raise QmpError(m["error"])
        return m["return"]

    def execute(self, command, deadline=DEADLINE, **arguments):
        return self.reply(self.send(command, **arguments), deadline, f"the reply to {command}")

    def event(self, name, predicate=lambda data: True, since=0, deadline=DEADLINE):
        """The data of the first such event from number `since` on (len(events) before the cause)."""
        def find():
            for m in self.events[since:]:
                if m["event"] == name and predicate(m.get("data", {})):
                    return (m.get("data", {}),)
            return None
        return self._until(find, f"event {name}", deadline)[0]

    def job(self, command, job_id, deadline=DEADLINE, **arguments):
        """A job from start to dismissal; its error is raised."""
        since = len(self.events)
        self.execute(command, job_id=job_id, **arguments)
        self.event("JOB_STATUS_CHANGE", lambda d: d["id"] == job_id and d["status"] == "concluded",
                   since, deadline)
        info = [j for j in self.execute("query-jobs") if j["id"] == job_id][0]
        self.execute("job-dismiss", id=job_id)
        if "error" in info:
            raise QmpError({"class": "job", "desc": info["error"]})

    def status(self):
        return self.execute("query-status")["status"]

    def close(self):
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()
