# SPDX-License-Identifier: GPL-2.0-or-later
"""A private message bus, and busctl on it."""

import json
import os
import pathlib
import re
import subprocess

from .process import Process
from .wait import wait_for

NAME = "org.cpupolicy1"
ROOT = "/org/cpupolicy1"
MANAGER = "org.cpupolicy1.Manager"
VM = "org.cpupolicy1.VirtualMachine"
JOB = "org.cpupolicy1.Job"

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""


class BusError(Exception):
    """An error reply; `name` where busctl tells it, `message` always."""

    def __init__(self, message, name=None):
        super().__init__(f"{name}: {message}" if name else message)
        self.message = message
        self.name = name


class Bus:
    """A dbus-daemon of our own that can be stopped and started again at the same address."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.path = self.directory / "bus"
        self.address = f"unix:path={self.path}"
        self.process = None
        self._config = self.directory / "bus.conf"
        self._config.write_text(_CONFIG.format(path=self.path), encoding="ascii")
        self.start()

    def start(self):
        if self.path.exists():
            self.path.unlink()
        self.process = Process(
            ["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={self._config}"],
            self.directory / "bus.log")
        wait_for(self.path.exists, "dbus-daemon listens")
        # The peers' uids are the test's subject in places: any user may connect.
        os.chmod(self.path, 0o777)

    def stop(self):
        self.process.stop()

    def env(self):
        """For clients that take the bus from their environment."""
        env = dict(os.environ)
        for name in ("DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS",
                     "DBUS_STARTER_ADDRESS"):
            env[name] = self.address
        return env

    def command(self, argv, text=True, user=None):
        """Runs a client; `argv` but for its options that say which bus. Its finished process."""
        which = "--address" if argv[0] == "busctl" else "--bus"
        return subprocess.run([argv[0], f"{which}={self.address}", *argv[1:]],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text,
                              stdin=subprocess.DEVNULL, timeout=90, check=False, user=user,
                              extra_groups=[] if user is not None else None)

    def busctl(self, *args, check=True, text=True, user=None):
        """Runs busctl; its result where `check` is false, else its standard output."""
        result = self.command(["busctl", *[str(a) for a in args]], text, user)
        if not check:
            return result
        if result.returncode:
            message = result.stderr.strip()
            raise BusError(re.sub(r"^Call failed: ", "", message))
        return result.stdout

    def call_json(self, path, interface, member, signature="", *args):
        """A method call; its reply's arguments as a list."""
        out = self.busctl("--json=short", "call", NAME, path, interface, member,
                          *([signature, *args] if signature else []))
        return json.loads(out)["data"] if out.strip() else []

    def error_of(self, path, interface, member, *args, user=None):
        """The error of a call that must fail, with its name, which busctl does not print. Arguments
        are dbus-send's ("string:x", "uint32:5")."""
        result = self.command(["dbus-send", "--print-reply", f"--dest={NAME}", path,
                               f"{interface}.{member}", *args], user=user)
        assert result.returncode != 0, f"{member}{args} succeeded: {result.stdout}"
        match = re.match(r"Error ([\w.]+): (.*)", result.stderr.strip(), re.DOTALL)
        assert match, result.stderr
        return BusError(match[2], match[1])

    def set_vcpu_count(self, vm, count):
        """The job's object path."""
        return self.call_json(ROOT, MANAGER, "SetVcpuCount", "su", vm, count)[0]

    def get(self, path, interface, prop):
        out = self.busctl("--json=short", "get-property", NAME, path, interface, prop)
        return json.loads(out)["data"]

    def get_all(self, path, interface):
        """All properties, without the types that busctl adds."""
        out = self.busctl("--json=short", "call", NAME, path, "org.freedesktop.DBus.Properties",
                          "GetAll", "s", interface)
        return {k: v["data"] for k, v in json.loads(out)["data"][0].items()}

    def managed_objects(self):
        out = self.busctl("--json=short", "call", NAME, ROOT, "org.freedesktop.DBus.ObjectManager",
                          "GetManagedObjects")
        objects = json.loads(out)["data"][0]
        return {path: {i: {k: v["data"] for k, v in props.items()} for i, props in ifs.items()}
                for path, ifs in objects.items()}

    def has_owner(self, name=NAME):
        out = self.busctl("call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                          "org.freedesktop.DBus", "NameHasOwner", "s", name)
        return out.split()[-1] == "true"

    def monitor(self, directory=None):
        return Monitor(self, directory or self.directory)


class Monitor:
    """busctl monitor, with the signals of our service as they arrive."""

    _serial = 0

    def __init__(self, bus, directory):
        Monitor._serial += 1
        self.process = Process(
            ["busctl", f"--address={bus.address}", "--json=short", "monitor",
             "--match=type='signal'"],
            pathlib.Path(directory) / f"monitor-{Monitor._serial}.log")
        # busctl says so on its standard error once it is a monitor
        self.process.wait_log("Monitoring bus message stream.")

    def signals(self, member=None, path=None):
        """[(path, interface, member, arguments)] so far."""
        found = []
        for line in self.process.log().splitlines():
            if not line.startswith("{"):
                continue
            try:
                m = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line is still being written
            if m.get("type") != "signal" or (member and m.get("member") != member):
                continue
            if path and m.get("path") != path:
                continue
            found.append((m.get("path"), m.get("interface"), m.get("member"),
                          m.get("payload", {}).get("data", [])))
        return found

    def wait(self, member, predicate=lambda arguments: True, path=None, deadline=60.0):
        """The arguments of the first such signal."""
        def find():
            for _, _, _, arguments in self.signals(member, path):
                if predicate(arguments):
                    return (arguments,)
            return None
        return wait_for(find, f"signal {member}", deadline)[0]

    def stop(self):
        self.process.stop()
