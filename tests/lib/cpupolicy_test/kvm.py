# SPDX-License-Identifier: GPL-2.0-or-later
"""An arm64 KVM host, emulated; and in it a bus, the daemon, and guests with -accel kvm.

The host is one QEMU process that lives as long as the tests do. Everything that runs in it has the
interface of its counterpart that runs here (daemon.py, qemu.py, lab.py). A bus is reached through a
socket of this machine as well, so clients of either machine can use it.
"""

import itertools
import pathlib
import socket
import subprocess

from . import paths
from .agent import Agent
from .bus import _CONFIG, Bus
from .daemon import Daemon, Host
from .lab import Lab
from .process import Process
from .qemu import Linux, Machine, Psci, append_files, linux_options, psci_options
from .wait import Expired, wait_for

# Where things are in the host.
GUEST = pathlib.Path("/guest")
QEMU = pathlib.Path("/qemu/ours")
STOCK_QEMU = pathlib.Path("/qemu/stock")
EMPTY_DISK = GUEST / "empty.qcow2"
# Emulation is the slower the more state a vCPU has; none of what is left out matters here.
CPU = "max,sve=off,sme=off,pauth=off,lpa2=off,pmu=off"

_directories = itertools.count(1)


class KvmHost:
    """The host: an arm64 kernel of Debian's at EL2, an agent, and what is tested."""

    def __init__(self, directory, cpus=4, memory=4096, kernel="Image"):
        self.directory = pathlib.Path(directory)
        self.console_path = self.directory / "host.console"
        ours, theirs = socket.socketpair()
        argv = [paths.qemu(), "-nodefaults", "-no-user-config", "-display", "none",
                "-M", "virt,gic-version=3,virtualization=on", "-cpu", CPU,
                "-accel", "tcg,thread=multi", "-smp", str(cpus), "-m", str(memory), "-nic", "none",
                "-kernel", paths.guest_images() / kernel, "-initrd", self._initrd(),
                "-append", "console=ttyAMA0 rdinit=/init panic=-1 quiet nokaslr mitigations=off",
                "-chardev", f"file,id=console,path={self.console_path}",
                "-chardev", f"socket,id=agent,fd={theirs.fileno()}",
                "-serial", "chardev:console", "-serial", "chardev:agent"]
        self.process = Process(argv, self.directory / "host.log", pass_fds=[theirs.fileno()])
        theirs.close()
        self._sock = ours
        self.agent = Agent(ours)

    def _initrd(self):
        """What does not change, and what is tested."""
        images = paths.guest_images()
        disk = self.directory / "empty.qcow2"
        subprocess.run([paths.qemu_img(), "create", "-q", "-f", "qcow2", disk, "2G"], check=True)
        build = paths.kvm_build()
        programs = {
            "usr/bin/cpupolicyd": build / "cpupolicyd",
            "usr/bin/cpuctl": build / "cpuctl",
            "qemu/ours/qemu-system-aarch64": paths.kvm_qemu(),
            "qemu/stock/qemu-system-aarch64": paths.kvm_stock_qemu(),
        }
        guest = ["Image", "QEMU_EFI.fd", "initrd", "psci-gic3.elf", "psci-gic3.bin"]
        files = {name: (path.read_bytes(), 0o755) for name, path in programs.items()}
        files.update({f"guest/{name}": ((images / name).read_bytes(), 0o644) for name in guest})
        files["guest/empty.qcow2"] = (disk.read_bytes(), 0o644)
        path = self.directory / "host.cpio"
        append_files(paths.kvm_images() / "host.cpio", path, files)
        return path

    def wait_boot(self, deadline=120.0):
        try:
            self.agent.wait_ready(deadline)
        except AssertionError as e:
            raise AssertionError(f"{e}; its console:\n{self.console()[-3000:]}\nQEMU:\n"
                                 f"{self.process.log()[-2000:]}") from None
        return self

    def console(self):
        return self.console_path.read_text("utf-8", "replace") if self.console_path.exists() else ""

    def make_directory(self):
        """One there of its own; short, since sockets' paths are."""
        path = pathlib.Path(f"/tmp/t{next(_directories)}")
        self.agent.run("mkdir", "-p", path)
        return path

    def close(self):
        self.process.kill()
        self._sock.close()


class KvmBus(Bus):
    """A dbus-daemon in the host; `path` and `address` are those here."""

    def __init__(self, kvm_host, directory, there):  # pylint: disable=super-init-not-called
        self.agent = kvm_host.agent
        self.directory = pathlib.Path(directory)
        self.there = there / "bus"
        self.address_there = f"unix:path={self.there}"
        self.path = self.directory / "bus"
        self.address = f"unix:path={self.path}"
        self.process = None
        self._config = there / "bus.conf"
        self.agent.put(self._config, _CONFIG.format(path=self.there))
        self._listener = self.agent.forward(self.path, self.there)
        self.start()

    def start(self):
        self.agent.run("rm", "-f", self.there)
        self.process = self.agent.process(
            ["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={self._config}"],
            self.directory / "bus.log")
        self.agent.connected(self.there, self.process).close()

    def close(self):
        self.stop()
        self._listener.close()


class KvmDaemon(Daemon):
    """cpupolicyd in the host. Its log is here."""

    def __init__(self, kvm_host, directory, there, bus, config=None, policy=None):
        self.agent = kvm_host.agent
        self.here = pathlib.Path(directory)
        super().__init__(there, bus, {"bus": bus.address_there, **(config or {})}, "cpupolicyd", policy)
        self.log_path = self.here / "daemon.log"

    def _write(self, path, text):
        self.agent.run("mkdir", "-p", path.parent)
        self.agent.put(path, text)

    def launch(self):
        self.process = self.agent.process(self.argv(), self.log_path)
        return self.process

    def _listening(self):
        try:
            self.agent.connect(self.socket).close()
        except OSError:
            return False
        return True


class KvmPolicyHost(Host):
    """A bus and a daemon in the host."""

    def __init__(self, kvm_host, directory, config=None, start=True, policy=None):
        # pylint: disable=super-init-not-called
        self.agent = kvm_host.agent
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        there = kvm_host.make_directory()
        self._vmms = []
        self.bus = KvmBus(kvm_host, self.directory, there)
        self.daemon = KvmDaemon(kvm_host, self.directory, there, self.bus, config, policy)
        if start:
            try:
                self.daemon.start()
            except BaseException:
                self.close()
                raise

    def cpuctl(self, *args, check=True, **more):
        return_value = self.agent.run("cpuctl", "--bus", self.bus.address_there, *args, check=check,
                                      deadline=120, **more)
        return return_value.stdout if check else return_value

    def close(self):
        self.daemon.stop()
        self.bus.close()


class KvmMachine(Machine):
    """A guest of the host."""

    def __init__(self, kvm_host, directory, *args, **kwargs):
        self.kvm_host = kvm_host
        self.agent = kvm_host.agent
        self.there = kvm_host.make_directory()
        super().__init__(directory, *args, **kwargs)

    def _launch(self, stem, qemu, options):
        self.console_path = self.there / "console"
        qmp, channel = self.there / "qmp", self.there / "channel"
        argv = [qemu or QEMU / "qemu-system-aarch64", "-name", self.name, "-nodefaults", "-no-user-config",
                "-display", "none", "-chardev", f"file,id=console,path={self.console_path}",
                "-chardev", f"socket,id=qmp,path={qmp},server=on,wait=off",
                # waits: what the guest says first is not lost
                "-chardev", f"socket,id=channel,path={channel},server=on,wait=on",
                "-mon", "chardev=qmp,mode=control", *options]
        self.process = self.agent.process(argv, f"{stem}.log")
        return [self.agent.connected(path, self.process) for path in (qmp, channel)]

    def console(self):
        return self.agent.run("cat", self.console_path, check=False).stdout


class KvmLinux(KvmMachine, Linux):
    """A guest of the host with our Linux in it."""


class KvmPsci(KvmMachine, Psci):
    """A guest of the host that makes single firmware calls."""


class KvmLab(Lab):
    """Hosts of policy and guests, within one KVM host."""

    def __init__(self, kvm_host, directory):
        super().__init__(directory)
        self.kvm_host = kvm_host
        self.agent = kvm_host.agent

    def host(self, config=None, start=True, policy=None):
        host = KvmPolicyHost(self.kvm_host, self.directory / f"host{len(self.hosts)}", config, start, policy)
        self.hosts.append(host)
        return host

    def _make(self, kind, *args, **more):
        kind = {Linux: KvmLinux, Psci: KvmPsci}[kind]
        return kind(self.kvm_host, *args, **more)

    def linux(self, host=None, *args, memory=512, **more):  # pylint: disable=keyword-arg-before-vararg
        more = {"images": GUEST, "cpu": "host", "accel": "kvm", **more}
        return super().linux(host, *args, memory=memory, **more)

    def psci(self, host=None, *args, **more):  # pylint: disable=keyword-arg-before-vararg
        more = {"images": GUEST, "cpu": "host", "accel": "kvm", "gic": 3, **more}
        return super().psci(host, *args, **more)

    def disk(self):
        """Options for a disk that the guest does not see, where snapshots can go."""
        path = self.kvm_host.make_directory() / "disk"
        self.agent.run("cp", EMPTY_DISK, path)
        return ["-blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={path}"]

    def report(self):
        yield from super().report()
        yield "KVM host", self.kvm_host.console()[-2500:]
