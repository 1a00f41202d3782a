# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine in QEMU: monitor, guest channel and console, none of which can hold QEMU up."""

import itertools
import pathlib
import socket
import subprocess
import time

from . import paths
from .guest import Channel, LinuxGuest, PsciGuest
from .process import Process
from .qmp import Qmp
from .wait import Expired, wait_for

_serial = itertools.count(1)

CMDLINE = "console=ttyAMA0 rdinit=/init panic=-1"


class Machine:
    """One QEMU process. `options` is appended to its command line as it is."""

    def __init__(self, directory, options, qemu=None, name="guest"):
        self.name = name
        self._sockets = self._launch(pathlib.Path(directory) / f"{name}-{next(_serial)}", qemu, options)
        self.channel = Channel(self._sockets[1])
        self._qmp = None

    def _launch(self, stem, qemu, options):
        """Sets the process and where its console is; the sockets of its monitor and its channel."""
        self.console_path = pathlib.Path(f"{stem}.console")
        ours, theirs = zip(socket.socketpair(), socket.socketpair())
        argv = [qemu or paths.qemu(), "-name", self.name, "-nodefaults", "-no-user-config",
                "-display", "none",
                # The console is a file: QEMU never waits for a reader of it.
                "-chardev", f"file,id=console,path={self.console_path}",
                "-chardev", f"socket,id=qmp,fd={theirs[0].fileno()}",
                "-chardev", f"socket,id=channel,fd={theirs[1].fileno()}",
                "-mon", "chardev=qmp,mode=control", *options]
        self.process = self._start(argv, f"{stem}.log", [s.fileno() for s in theirs])
        for s in theirs:
            s.close()
        return ours

    def _start(self, argv, log, pass_fds):
        return Process(argv, log, pass_fds=pass_fds)

    @property
    def pid(self):
        return self.process.pid

    @property
    def qmp(self):
        """Connected on first use: a QEMU that waits for its daemon does not answer yet."""
        if self._qmp is None:
            try:
                self._qmp = Qmp(self._sockets[0])
            except AssertionError as e:
                raise AssertionError(f"{e}\n{self.process.log()}") from None
        return self._qmp

    def console(self):
        if not self.console_path.exists():
            return ""
        return self.console_path.read_text("utf-8", "replace")

    def wait_console(self, text, deadline=60.0):
        try:
            wait_for(lambda: text in self.console(), f"console shows {text!r}", deadline)
        except Expired as e:
            raise Expired(f"{e}; it ends\n{self.console()[-2000:]}") from None

    def wait_boot(self, count=1, deadline=120.0):
        try:
            self.channel.wait_boot(count, deadline)
        except AssertionError as e:
            raise AssertionError(f"{e}\nconsole:\n{self.console()[-2000:]}\nQEMU:\n"
                                 f"{self.process.log()[-2000:]}") from None
        return self

    def system_reset(self):
        """Returns when the guest is back."""
        boots = self.channel.boots
        self.qmp.execute("system_reset")
        self.wait_boot(boots + 1)

    def save(self, tag):
        """A snapshot, into the block device that disk_options() names."""
        self.qmp.job("snapshot-save", f"save-{tag}", tag=tag, vmstate="disk", devices=["disk"])

    def load(self, tag, run=True):
        """Back to the snapshot, where the VM stays stopped unless `run`."""
        self.qmp.execute("stop")
        self.qmp.job("snapshot-load", f"load-{tag}", tag=tag, vmstate="disk", devices=["disk"])
        if run:
            self.qmp.execute("cont")

    def quit(self, deadline=30.0):
        """An orderly end; its exit status."""
        if self.process.alive():
            self.qmp.send("quit")
        return self.process.wait(deadline)

    def kill(self):
        self.process.kill()
        self.close()

    def close(self):
        """Ends the machine, however it is."""
        self.process.kill()
        self.channel.close()
        if self._qmp:
            self._qmp.close()
        for s in self._sockets:
            s.close()

    def timed(self, command, **arguments):
        """Seconds until QMP has answered."""
        start = time.monotonic()
        self.qmp.execute(command, **arguments)
        return time.monotonic() - start


def policy_options(path=None, **properties):
    """The glue on QEMU's command line; `path` is the daemon's socket."""
    if path:
        properties["path"] = path
    return ["-object", "cpupolicy,id=policy0" +
            "".join(f",{k.replace('_', '-')}={v}" for k, v in properties.items())]


def machine_options(smp, memory, policy=None, gic=3, cpu="max,pauth-impdef=on", machine="",
                    accel="tcg,thread=multi"):
    """virt. `policy`: the result of policy_options(), or None for none."""
    link = ",cpu-policy=policy0" if policy else ""
    return [*(policy or []), "-M", f"virt,gic-version={gic}{link}{machine}", "-cpu", cpu,
            "-accel", accel, "-smp", str(smp), "-m", str(memory), "-nic", "none"]


def linux_options(images=None, append="", kernel="Image", initrd=None, firmware=True):
    """Firmware, kernel and initramfs; kernel messages on the first UART, commands on the second."""
    images = pathlib.Path(images or paths.guest_images())
    return [*(["-bios", images / "QEMU_EFI.fd"] if firmware else []),
            "-kernel", images / kernel, "-initrd", initrd or images / "initrd",
            "-append", f"{CMDLINE}{' acpi=force' if firmware else ''} {append}".strip(),
            "-serial", "chardev:console", "-serial", "chardev:channel"]


def append_files(initrd, path, files):
    """Writes `path`: the initramfs `initrd` with these files besides, each its data or (data, mode)."""
    data = initrd.read_bytes()
    with open(path, "wb") as out:
        out.write(data + b"\0" * (-len(data) % 512))

        def member(name, mode, data):
            name = name.encode() + b"\0"
            out.write(b"070701" + b"".join(b"%08x" % n for n in (
                0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)))
            for part in (name, data):
                out.write(part)
                out.write(b"\0" * (-out.tell() % 4))
        made = {"."}
        for name, data in files.items():
            data, mode = data if isinstance(data, tuple) else (data, 0o644)
            for parent in reversed(pathlib.PurePath(name).parents):
                if str(parent) not in made:
                    made.add(str(parent))
                    member(str(parent), 0o040755, b"")
            member(name, 0o100000 | mode, data)
        member("TRAILER!!!", 0, b"")


def disk_options(path):
    """Makes a disk that the guest does not see, where snapshots can go."""
    subprocess.run([paths.qemu_img(), "create", "-q", "-f", "qcow2", path, "2G"], check=True)
    return ["-blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={path}"]


def psci_options(images=None, firmware=False, gic=2):
    """The guest without a kernel; `firmware` runs it as firmware, which gives the machine ACPI."""
    name = "psci" if gic == 2 else f"psci-gic{gic}"
    images = pathlib.Path(images or paths.guest_images())
    start = ["-bios", images / f"{name}.bin"] if firmware else ["-kernel", images / f"{name}.elf"]
    return [*start, "-serial", "chardev:channel"]


class Linux(Machine):
    """A machine with our Linux guest."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.guest = LinuxGuest(self.channel)


class Psci(Machine):
    """A machine with the guest that makes single PSCI calls."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.guest = PsciGuest(self.channel)
