# SPDX-License-Identifier: GPL-2.0-or-later
"""The service manager's side of sd_notify(3): what a service says, and the descriptors that it keeps."""

import os
import pathlib
import select
import signal
import socket
import stat
import sys
import threading

from .daemon import Daemon
from .process import Process
from .wait import wait_for

LISTEN_EXEC = pathlib.Path(__file__).with_name("listen_exec.py")


class ServiceManager:
    """Listens at NOTIFY_SOCKET. As systemd does, it forgets a socket whose other end hung up."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / "notify.sock"
        self.lock = threading.Lock()
        self.kept = []  # [name, descriptor], in order of their arrival
        self.said = []  # lines, in order
        self.at_most = 1 << 20
        self.lose = lambda name: False  # a push that gets lost
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(str(self.path))
        self._poll = select.epoll()
        self._poll.register(self._socket, select.EPOLLIN)
        self._wake, self._stop = os.pipe()
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wake:
                    return
                with self.lock:
                    if fd == self._socket.fileno():
                        self._receive()
                    else:
                        self._forget(lambda entry, fd=fd: entry[1] == fd)

    def _receive(self):
        data, fds, _, _ = socket.recv_fds(self._socket, 65536, 253)
        lines = data.decode().splitlines()
        self.said += lines
        values = dict(line.split("=", 1) for line in lines)
        name = values.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in values:
            self._forget(lambda entry: entry[0] == name)
        if "FDSTORE" in values and not self.lose(name):
            for fd in fds[:max(0, self.at_most - len(self.kept))]:
                self._keep(name, fd)
                fds = [other for other in fds if other != fd]
        for fd in fds:  # BARRIER's too
            os.close(fd)

    def _keep(self, name, fd):
        self.kept.append([name, fd])
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            self._poll.register(fd, 0)

    def _forget(self, which):
        for entry in [entry for entry in self.kept if which(entry)]:
            self.kept.remove(entry)
            try:
                self._poll.unregister(entry[1])
            except (FileNotFoundError, PermissionError):
                pass
            os.close(entry[1])

    def names(self):
        with self.lock:
            return sorted(name for name, _ in self.kept)

    def put(self, name, fd):
        """As if the service had."""
        with self.lock:
            self._keep(name, os.dup(fd))

    def replace(self, name, which, fd):
        """`fd` in the place of one that is kept under this name and for which `which` is true."""
        with self.lock:
            for entry in self.kept:
                if entry[0] == name and which(entry[1]):
                    try:
                        self._poll.unregister(entry[1])
                    except (FileNotFoundError, PermissionError):
                        pass
                    os.close(entry[1])
                    entry[1] = os.dup(fd)
                    return
        raise AssertionError(f"nothing of this kind is kept under {name}")

    def read(self, name):
        with self.lock:
            fd = next(fd for kept, fd in self.kept if kept == name)
            return os.pread(fd, 1 << 26, 0)

    def forget(self, name):
        with self.lock:
            self._forget(lambda entry: entry[0] == name)

    def forget_all(self):
        """As systemd 252 does when a service is stopped, and not to be started again."""
        with self.lock:
            self._forget(lambda entry: True)

    def last(self, key):
        with self.lock:
            return next((line.split("=", 1)[1] for line in reversed(self.said)
                         if line.startswith(key + "=")), None)

    def count(self, line):
        with self.lock:
            return self.said.count(line)

    def run(self, argv, log, sockets=(), environment=None):
        """Starts the service with what is kept. `sockets`: (name, descriptor), before that."""
        with self.lock:
            passed = [(name, os.dup(fd)) for name, fd in list(sockets) + self.kept]
        env = dict(os.environ, NOTIFY_SOCKET=str(self.path),
                   LISTEN_FDNAMES=":".join(name for name, _ in passed), **(environment or {}))
        try:
            return Process([sys.executable, LISTEN_EXEC, ",".join(str(fd) for _, fd in passed), *argv],
                           log, pass_fds=[fd for _, fd in passed], env=env)
        finally:
            for _, fd in passed:
                os.close(fd)

    def close(self):
        os.close(self._stop)
        self._thread.join()
        self.forget_all()
        self._poll.close()
        self._socket.close()
        os.close(self._wake)


class ManagedDaemon(Daemon):
    """A daemon that a service manager runs, with or without socket activation."""

    def __init__(self, directory, manager, bus=None, activated=True, **more):
        super().__init__(directory, bus, **more)
        self.manager = manager
        self.environment = {}
        self.listening = None
        if activated:
            self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self.listening.bind(str(self.socket))
            self.listening.listen(512)

    def launch(self):
        sockets = [("vmm", self.listening.fileno())] if self.listening else []
        with self.manager.lock:
            self.manager.said.clear()
        self.process = self.manager.run(self.argv(), self.log_path, sockets, self.environment)
        return self.process

    def ready(self):
        if not self.process.alive():
            return super().ready()  # which says why
        return self.manager.count("READY=1") > 0

    def restart(self):
        """As `systemctl restart`: with SIGTERM, and what is kept is kept."""
        assert self.stop() == 0, self.process.log()[-4000:]
        return self.start()

    def crash(self):
        """As a crash, or the watchdog, which starts it again."""
        self.process.signal(signal.SIGKILL)
        self.process.wait()
        return self.start()

    def wait_status(self, text):
        wait_for(lambda: self.manager.last("STATUS") == text,
                 lambda: f"the status is {text}, not {self.manager.last('STATUS')}")

    def close(self):
        self.stop()
        if self.listening:
            self.listening.close()
