# SPDX-License-Identifier: GPL-2.0-or-later
"""A VMM in a process of its own: one that can die, and that can be another user's.

Run as a program it takes one JSON list [method, arguments, keywords] per line, calls that method
of wire.Vmm, and answers each with one JSON line {"result": ...} or {"error": ..., "code": ...}.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    from cpupolicy_test import wire
else:
    from . import wire
    from .process import Process


class VmmProcess:
    """Like wire.Vmm.start() and calls by name; kill() ends it as a crash would. `groups`: supplementary ones
    of another user; `inherited`: a descriptor that `command` passes on, instead of a path; `cgroup`: the Cgroup
    it is in."""

    def __init__(self, directory, socket, name, uid=None, groups=(), cgroup=None, inherited=None,
                 command=(sys.executable, __file__), **register):
        read, self._stdin = os.pipe()
        self._stdout, write = os.pipe()
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        self.process = Process(
            [*command, str(read), str(write), str(-1 if uid is None else uid),
             *[str(g) for g in groups]],
            pathlib.Path(directory) / f"vmm-{name}.log",
            pass_fds=(read, write), env=env,
            stdin=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        self._lines = os.fdopen(self._stdout, "r", encoding="utf-8")
        if "uuid" in register:
            register["uuid"] = str(register["uuid"])
        if cgroup:
            cgroup.add(self.process.pid)
        try:
            self.token = self.call("start", str(socket) if inherited is None else inherited, name, **register)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self):
        return self.process.pid

    def call(self, method, *args, **kwargs):
        os.write(self._stdin, json.dumps([method, args, kwargs]).encode() + b"\n")
        line = self._lines.readline()
        if not line:
            raise AssertionError(f"the VMM process ended:\n{self.process.log()}")
        answer = json.loads(line)
        if "error" in answer:
            if answer["code"] is None:
                raise AssertionError(answer["error"])
            raise wire.Refused(answer["code"], answer["error"])
        return answer["result"]

    def burn(self, seconds, threads=1):
        """Has it use so much CPU time."""
        self.call("burn", seconds, threads)

    def kill(self):
        self.process.kill()

    def close(self):
        self.process.kill()
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
            self._lines.close()


def _burn(seconds, threads):
    end, data = time.process_time() + seconds, bytes(1 << 20)

    def work():
        while time.process_time() < end:
            hashlib.sha256(data)  # without Python's lock
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _printable(value):
    return value.hex() if isinstance(value, bytes) else value


def _main(read, write, uid, *groups):
    if uid >= 0:
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    vmm = None
    with os.fdopen(read, encoding="utf-8") as commands, \
            os.fdopen(write, "w", encoding="utf-8") as answers:
        for line in commands:
            method, args, kwargs = json.loads(line)
            try:
                if method == "start":
                    if "uuid" in kwargs:
                        kwargs["uuid"] = wire.uuidlib.UUID(kwargs["uuid"])
                    if "token" in kwargs:
                        kwargs["token"] = bytes.fromhex(kwargs["token"])
                    vmm = wire.Vmm.start(*args, **kwargs)
                    result = vmm.token
                elif method == "reconnect":
                    vmm.close()
                    again = wire.Vmm(*args)
                    again.hello()
                    vmm = again.register(vmm.name, possible=vmm.possible, uuid=vmm.uuid,
                                         token=vmm.token, **kwargs)
                    result = vmm.confirm()
                elif method == "burn":
                    result = _burn(*args)
                elif method == "reopen_page_for_writing":
                    result = os.close(os.open(f"/proc/self/fd/{vmm.page.fd}", os.O_RDWR))
                else:
                    result = getattr(vmm, method)(*args, **kwargs)
                answer = {"result": _printable(result)}
            except wire.Refused as e:
                answer = {"error": e.text, "code": e.code}
            except Exception as e:  # pylint: disable=broad-except
                answer = {"error": f"{type(e).__name__}: {e}", "code": None}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    _main(*(int(a) for a in sys.argv[1:]))
