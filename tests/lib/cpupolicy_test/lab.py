# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts and machines that end with the test or the demonstration that made them."""

import contextlib
import pathlib
import shutil
import tempfile
import uuid as uuidlib

from .daemon import Host
from .qemu import Linux, Psci, disk_options, linux_options, machine_options, policy_options, psci_options


@contextlib.contextmanager
def temporary_directory():
    """Short, since socket paths are, and open to other users' processes."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cpupolicy-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Lab:
    """Hosts and machines that are ended, and looked at, when the test is over."""

    def __init__(self, directory):
        self.directory = directory
        self.hosts = []
        self.machines = []

    def host(self, config=None, start=True, policy=None):
        """A bus and a daemon with that configuration over the default one, and that policy."""
        host = Host(self.directory / f"host{len(self.hosts)}", config, start, policy)
        self.hosts.append(host)
        return host

    def _make(self, kind, *args, **more):
        return kind(*args, **more)

    def _machine(self, kind, host, options, name, uuid, policy, machine, **more):
        link = None
        if policy is not None:
            link = policy_options(**policy)
        elif host is not None:
            link = policy_options(host.socket)
        uuid = uuid or uuidlib.uuid4()
        made = self._make(kind, self.directory, [*machine_options(policy=link, **machine),
                                     "-uuid", str(uuid), *options], name=name, **more)
        made.uuid = uuid
        self.machines.append(made)
        return made

    def linux(self, host=None, name="linux", uuid=None, policy=None, smp="cpus=4,maxcpus=6",
              memory=768, gic=3, cpu="max,pauth-impdef=on", machine="", accel="tcg,thread=multi",
              extra=(), qemu=None, **linux):
        """A machine with the Linux guest; `policy` are properties of the object instead of the
        host's socket, `extra` options as they are."""
        return self._machine(
            Linux, host, [*linux_options(**linux), *extra], name, uuid, policy,
            {"smp": smp, "memory": memory, "gic": gic, "cpu": cpu, "machine": machine,
             "accel": accel}, qemu=qemu)

    def psci(self, host=None, name="psci", uuid=None, policy=None, smp="cpus=2,maxcpus=4",
             firmware=False, machine="", extra=(), qemu=None, boot=True, images=None, gic=2,
             cpu="max", accel="tcg,thread=multi"):
        """A machine with the guest that makes single firmware calls, booted unless told not to."""
        made = self._machine(
            Psci, host, [*psci_options(images, firmware, gic), *extra], name, uuid, policy,
            {"smp": smp, "memory": 64, "gic": gic, "cpu": cpu, "machine": machine, "accel": accel},
            qemu=qemu)
        if boot:
            made.wait_boot()
        return made

    def disk(self):
        """Options for a disk that the guest does not see, where snapshots can go."""
        return disk_options(self.directory / f"disk{len(self.machines)}")

    def close(self):
        for machine in reversed(self.machines):
            machine.close()
        for host in self.hosts:
            host.close()
        for host in self.hosts:
            assert host.daemon.ended_well(), \
                "the daemon ended badly:\n" + host.daemon.log()[-4000:]

    def report(self):
        """What a failure needs to be understood."""
        for host in self.hosts:
            yield "daemon", host.daemon.log()[-6000:]
        for machine in self.machines:
            yield f"QEMU {machine.name}", machine.process.log()[-3000:]
            if machine.console():
                yield f"console {machine.name}", machine.console()[-1500:]
