# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU with a connection that its launcher opened for it."""

import uuid as uuidlib

import pytest

from cpupolicy_test import paths
from cpupolicy_test.process import Process
from cpupolicy_test.qemu import machine_options, policy_options
from cpupolicy_test.wait import wait_for

FD = 3


@pytest.fixture
def launch(host, directory):
    """Stopped before its first instruction; that is after it has registered."""
    started = []

    def start(opened, name, uuid):
        argv = [paths.cpuctl(), *host.cpuctl_bus(), "open-vmm", opened, "--name", "web", "--", paths.qemu(),
                *machine_options(smp="cpus=2,maxcpus=4", policy=policy_options(fd=FD),
                                 memory=64, cpu="max"),
                "-S", "-display", "none", "-uuid", uuid, "-name", name]
        started.append(Process(argv, directory / f"qemu{len(started)}.log"))
        return started[-1]
    yield start
    for process in started:
        process.stop()


def test_qemu_registers_by_the_descriptor_of_its_launcher(host, launch):
    uuid = uuidlib.uuid4()
    qemu = launch(uuid, "web", uuid)
    wait_for(lambda: host.known("web") or not qemu.alive(), "QEMU registers")
    assert qemu.alive(), qemu.log()
    shown = host.show("web")
    assert (shown["VmmPid"], shown["Uuid"], shown["Enabled"]) == (qemu.pid, str(uuid), 2)


def test_qemu_that_is_another_vm_is_refused(host, launch):
    qemu = launch(uuidlib.uuid4(), "web", uuidlib.uuid4())
    wait_for(lambda: "opened for another VM" in host.daemon.log(), "it is refused")
    qemu.stop()
    assert not host.known("web")
