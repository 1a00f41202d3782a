# SPDX-License-Identifier: GPL-2.0-or-later
"""A real guest whose QEMU, another user's process, is a client of the installed daemon in its sandbox."""

import os
import pathlib
import uuid as uuidlib

import pytest

from cpupolicy_test import paths, qemu
from cpupolicy_test.machine import SHARE, SOCKET, InstalledHost
from cpupolicy_test.process import Process

USER = "vmm"


class InnerLinux(qemu.Linux):
    """QEMU inside of the machine, as USER. Its console is one more of its descriptors: no path out here leads there."""

    def __init__(self, machine, *args, **kwargs):
        self.machine = machine
        super().__init__(*args, **kwargs)

    def _start(self, argv, log, pass_fds):
        with open(self.console_path, "wb") as console:
            os.fchmod(console.fileno(), 0o666)  # QEMU opens it anew
            argv = [str(a).replace(str(self.console_path), f"/dev/fd/{console.fileno()}") for a in argv]
            return Process(self.machine.command(*argv, user=USER), log, pass_fds=[*pass_fds, console.fileno()])


@pytest.fixture
def machine(make_machine):
    made = make_machine(binds={"qemu": paths.qemu().parent, "guest": paths.guest_images()})
    made.add_user(USER, "cpupolicy-vmm")
    return made


def test_a_guest_is_resized_by_the_installed_daemon(machine, directory):
    host = InstalledHost(machine)
    images = pathlib.Path(SHARE, "guest")
    vm = InnerLinux(
        machine, directory,
        [*qemu.machine_options("cpus=2,maxcpus=4", 768, qemu.policy_options(SOCKET)), "-uuid", str(uuidlib.uuid4()),
         *qemu.linux_options(images, "quiet maxcpus=2")],
        qemu=f"{SHARE}/qemu/{paths.qemu().name}", name="inner")
    try:
        vm.wait_boot()
        assert host.get("inner", "State") == "running"
        vm.guest.wait_tables(enabled="0-1", online="0-1")

        assert host.cpuctl("set", "inner", "4", check=False).returncode == 0
        vm.guest.wait_tables(enabled="0-3")
        vm.guest.run("echo 1 >/sys/devices/system/cpu/cpu3/online")
        host.wait_prop("inner", "OnlineSet", "0-1,3")

        # the daemon is another one, the guest's connection the same
        machine.systemctl("restart", "cpupolicyd.service")
        assert host.get("inner", "State") == "running"
        assert host.cpuctl("set", "inner", "2", check=False).returncode == 0
        vm.guest.wait_tables(enabled="0-1", online="0-1")
        status, _ = vm.guest.run("echo 1 >/sys/devices/system/cpu/cpu3/online", check=False)
        assert status != 0
    finally:
        vm.close()
