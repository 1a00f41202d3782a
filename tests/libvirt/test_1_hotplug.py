# SPDX-License-Identifier: GPL-2.0-or-later
"""Domains without the glue: libvirt's hotplug by the same API, or nothing, and it says which."""


import pytest

from cpupolicy_test import paths
from cpupolicy_test.libvirtd import arm_xml, x86_xml
from cpupolicy_test.wait import wait_for


def active(site, name):
    return int(site.libvirtd.virsh("vcpucount", name, "--live", "--active"))


@pytest.fixture(scope="module")
def x86(shared_site):
    site, domain = shared_site, shared_site.domain("x86")
    site.libvirtd.define(x86_xml(site.libvirtd, domain.name, domain.uuid, paths.x86_images()))
    site.libvirtd.virsh("start", domain.name)
    console = site.libvirtd.directory / f"images/{domain.name}.console"
    wait_for(lambda: console.exists() and "booted" in console.read_text("utf-8", "replace"),
             "the x86 guest is up", 120)
    wait_for(lambda: site.main.known(domain.uuid), "the bridge registers it")
    yield domain
    site.libvirtd.virsh("destroy", domain.name, check=False)
    site.libvirtd.virsh("undefine", domain.name, check=False)


def test_it_is_shown_as_it_is(site, x86):
    shown = site.main.show(x86.name)
    assert shown["Uuid"] == x86.uuid
    assert shown["Enforcement"] == "hotplug"
    assert shown["Provider"] == "libvirt"
    assert (shown["Possible"], shown["Boot"], shown["Enabled"]) == (4, 1, 1)
    assert shown["VmmPid"] == site.bridge.process.pid


def test_grow(site, x86):
    job = site.main.resize(x86.name, 3)
    assert site.main.job_result(x86.name, job)["result"] == "done"
    assert active(site, x86.name) == 3
    assert site.main.get(x86.name, "EnabledSet") == "0-2"


def test_a_bridge_that_comes_back_takes_it_up(site, x86):
    before = site.main.get(x86.name, "Enabled")
    site.bridge.restart()
    wait_for(lambda: site.main.get(x86.name, "VmmPid") == site.bridge.process.pid,
             "the new bridge registers it")
    assert site.main.get(x86.name, "Enabled") == before
    site.main.wait_prop(x86.name, "State", "running")


# QEMU's TCG never tells libvirt of an unplugged vCPU, so what unplugs comes last.

def test_what_others_plug_is_taken_back(site, x86):
    site.libvirtd.virsh("setvcpu", x86.name, "3", "--enable", "--live")
    site.bridge.wait_log("vCPU 3 was plugged by somebody else")
    # the guest gives it back when it is asked
    wait_for(lambda: site.main.get(x86.name, "OnlineSet") == "0-2", "vCPU 3 is unplugged again")
    assert site.main.get(x86.name, "Overdue") == 0
    assert site.main.get(x86.name, "Desired") == 3


def test_pause(site, x86):
    site.libvirtd.virsh("suspend", x86.name)
    site.main.wait_prop(x86.name, "State", "paused")
    site.libvirtd.virsh("resume", x86.name)
    site.main.wait_prop(x86.name, "State", "running")


def test_shrink(site, x86):
    job = site.main.resize(x86.name, 2)
    assert site.main.job_result(x86.name, job)["result"] == "done"
    assert site.main.get(x86.name, "EnabledSet") == "0-1"


def test_stop(site, x86):
    site.libvirtd.virsh("destroy", x86.name)
    site.main.wait_prop(x86.name, "State", "stopped")


def test_a_stock_arm_domain_has_no_means(site):
    domain = site.domain("stock")
    stock = site.libvirtd.image(paths.stock_qemu(), "qemu-stock")
    channel = site.libvirtd.directory / f"images/{domain.name}.sock"
    xml = arm_xml(site.libvirtd, domain.name, domain.uuid, paths.guest_images(), stock, channel,
                  memory=256, vcpus="<vcpu>2</vcpu>")
    site.libvirtd.define(xml)
    try:
        # before its firmware runs: what it boots does not matter
        site.libvirtd.virsh("start", domain.name, "--paused")
        wait_for(lambda: site.main.known(domain.uuid), "the bridge registers it")
        assert site.main.get(domain.name, "Enforcement") == "none"
        assert site.main.get(domain.name, "State") == "paused"
        result = site.main.cpuctl("set", domain.name, 1, "--no-wait", check=False)
        assert result.returncode == 10, result.stderr
    finally:
        site.libvirtd.virsh("destroy", domain.name, check=False)
        site.libvirtd.virsh("undefine", "--keep-nvram", domain.name, check=False)
