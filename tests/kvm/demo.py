# SPDX-License-Identifier: GPL-2.0-or-later
"""The published scenario on an arm64 KVM host. The host is emulated; what runs in it, from the
kernel's KVM to the daemon and QEMU, is what would run on hardware."""

import pathlib
import shlex
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "guest")]

# pylint: disable=wrong-import-position
from demo import FIRST, SECOND, Demo, Progress, main, show, title  # noqa: E402
from cpupolicy_test.bus import NAME  # noqa: E402
from cpupolicy_test.daemon import classes  # noqa: E402
from cpupolicy_test.guest import SYS  # noqa: E402
from cpupolicy_test.kvm import KvmHost, KvmLab  # noqa: E402


class KvmDemo(Demo):
    """The same, a machine further in: "host$" is the KVM host's shell, "$" that of this machine, from
    which the host's bus is reached as well."""

    def run(self, *argv):
        if argv[0] != "cpuctl":
            super().run(*argv)
            return
        print(f"host$ {shlex.join(str(a) for a in argv)}", flush=True)
        show(self.host.cpuctl(*argv[1:]))

    policy = classes(demo={"refusal": "revoke"})

    def in_host(self, command):
        print(f"host$ {command}", flush=True)
        show(self.lab.agent.sh(command))

    def deny(self):
        title("A CPU_ON that policy forbids: of a vCPU that was asked back, and that the guest keeps")
        self.in_guest(f"echo 0 >{SYS}/cpu4/online; echo 0 >/sys/firmware/acpi/hotplug/processor/enabled")
        print("host$ cpuctl set demo 4", flush=True)
        show(self.host.cpuctl("set", "demo", "4", check=False).stdout)
        command = f"echo 1 >{SYS}/cpu4/online"
        print(f"guest# {command}", flush=True)
        status, output = self.machine.guest.run(command, check=False)
        show(output)
        assert status and "Operation not permitted" in output, output
        self.record("demo", "not-enabled")
        self.in_guest("echo 1 >/sys/firmware/acpi/hotplug/processor/enabled")
        self.run("cpuctl", "set", "--no-wait", "demo", "5")
        self.host.wait_prop("demo", "EnabledSet", "0-4")
        self.in_guest(command)
        self.tables(SECOND)

    def start(self):
        host = self.host
        title("An arm64 host with KVM")
        self.in_host("uname -srm; dmesg | grep 'VHE mode'; ls -l /dev/kvm")
        title("On it a bus, the daemon, and a guest of 6 possible vCPUs that boots with 4")
        print(f"host$ export CPUPOLICY_BUS={host.bus.address_there}")
        self.in_host(f"cat {host.daemon.config_path}")
        print(f"host$ {shlex.join(str(a) for a in host.daemon.argv())} &")
        host.daemon.start()
        self.machine = self.lab.linux(host, name="demo", append="quiet maxcpus=2")
        print(f"host$ {shlex.join(self.machine.process.argv)} &")
        with Progress("the guest boots (UEFI, Linux, KVM on an emulated host)"):
            self.machine.wait_boot()
        self.in_guest("uname -srm; cat /proc/cmdline")
        self.tables(FIRST)
        self.run("cpuctl", "list")
        self.run("busctl", f"--address={host.bus.address}", "tree", NAME)


def make(directory):
    """The laboratory of the demonstration: its host has booted."""
    host = KvmHost(directory)
    print(f"$ {shlex.join(host.process.argv)} &")
    start = time.monotonic()
    host.wait_boot()
    print(f"    (the host has booted: {time.monotonic() - start:.1f} s)")
    return KvmLab(host, directory), host.close


if __name__ == "__main__":
    main(KvmDemo, make)
