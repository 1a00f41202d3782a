# SPDX-License-Identifier: GPL-2.0-or-later
"""One aarch64 domain with the glue, from its XML to its end. Each test leaves it for the next one."""

import re
import signal
import socket
import types

import pytest

from cpupolicy_test import paths, wire
from cpupolicy_test.bus import MANAGER, ROOT, BusError
from cpupolicy_test.guest import Channel, LinuxGuest
from cpupolicy_test.libvirtd import QEMU_UID, arm_xml
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import wait_for

NONE = 4294967295


class Arm(types.SimpleNamespace):
    """The domain, and what its guest says."""

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        wait_for(lambda: sock.connect_ex(str(self.channel_path)) == 0, "QEMU listens for commands")
        self.channel = Channel(sock)
        self.guest = LinuxGuest(self.channel)

    def enabled(self, cpus, deadline=60):
        self.guest.wait_tables(deadline, enabled=cpus)


@pytest.fixture(scope="module")
def arm(shared_site):
    site, domain = shared_site, shared_site.domain("arm")
    made = Arm(name=domain.name, uuid=domain.uuid, channel=None,
               channel_path=site.libvirtd.directory / f"images/{domain.name}.sock")
    stock = site.libvirtd.image(paths.stock_qemu(), "qemu-stock")
    site.libvirtd.define(arm_xml(site.libvirtd, made.name, made.uuid, paths.guest_images(), stock,
                                 made.channel_path))
    made.options = ["--emulator", site.emulator, "--socket", site.main.socket]
    yield made
    site.libvirtd.virsh("destroy", made.name, check=False)
    site.libvirtd.virsh("undefine", "--keep-nvram", "--managed-save", made.name, check=False)


def resize(site, arm, count):
    return site.main.job_result(arm.name, site.main.resize(arm.name, count))["result"]


def quota(site, arm):
    schedule = site.libvirtd.schedule(arm.name)
    return schedule["global_period"], schedule["global_quota"]



def announced(site):
    rows = site.main.bus.call_json(ROOT, MANAGER, "ListAnnouncements")[0]
    return {uuid for uuid, _, provider in rows if provider == "libvirt"}


def ended(site, arm):
    """Stopped, or forgotten with that where nobody has asked for a count."""
    return not site.main.known(arm.uuid) or site.main.get(arm.uuid, "State") == "stopped"


# ---- before it runs ----

def test_enable_shows_and_asks(site, arm):
    before = site.libvirtd.xml(arm.name)
    shown = site.libvirtd.cpuctl("enable", arm.name, *arm.options, "--dry-run")
    assert f"+    <emulator>{site.emulator}</emulator>" in shown
    assert '-  <vcpu placement="static" current="2">4</vcpu>' in shown
    assert f"path={site.main.socket},boot=2" in shown
    declined = site.libvirtd.cpuctl("enable", arm.name, *arm.options, check=False)
    assert declined.returncode == 1 and "--yes" in declined.stderr
    printed = site.libvirtd.cpuctl("enable", arm.name, *arm.options, "--print")
    assert "cpu-policy=cpupol0" in printed and "<name>" in printed
    assert site.libvirtd.xml(arm.name) == before


def test_disable_restores(site, arm):
    before = site.libvirtd.xml(arm.name)
    site.libvirtd.cpuctl("enable", arm.name, *arm.options, "--yes")
    again = site.libvirtd.cpuctl("enable", arm.name, *arm.options, "--yes")
    assert "nothing to change" in again
    assert site.libvirtd.xml(arm.name) != before
    site.libvirtd.cpuctl("disable", arm.name, "--yes")
    assert site.libvirtd.xml(arm.name) == before
    assert "changed nothing" in site.libvirtd.cpuctl("disable", arm.name, "--yes")


def test_enable_is_refused_where_it_cannot_be(site, arm):
    missing = site.libvirtd.cpuctl("enable", arm.name, "--emulator", "/nowhere/qemu", check=False)
    assert missing.returncode == 1 and "/nowhere/qemu" in missing.stderr
    nobody = site.libvirtd.cpuctl("show", "nobody", check=False)
    assert nobody.returncode == 2 and "no domain" in nobody.stderr
    wrong = site.libvirtd.cpuctl("set", arm.name, "--class", "no spaces", check=False)
    assert wrong.returncode == 1 and "no spaces" in wrong.stderr


def test_enable(site, arm):
    site.libvirtd.cpuctl("enable", arm.name, *arm.options, "--class", "gold", "--desired", "3", "--yes")
    shown = site.libvirtd.cpuctl("show", arm.name)
    assert "enabled by cpuctl" in shown and "gold" in shown


def test_no_other_user_can_register_it(site, arm):
    """Before its first start as well: it is announced from its definition on."""
    wait_for(lambda: site.main.daemon.log().count("announces"), "the domain is announced")
    for uid in (65533, 65534):
        with pytest.raises(wire.Refused) as refused:
            VmmProcess(site.directory, site.main.socket, f"rogue-{uid}", uid=uid, uuid=arm.uuid)
        assert "another user" in str(refused.value)
    assert not site.main.known(arm.uuid)


# ---- its life ----

def test_start(site, arm):
    site.libvirtd.virsh("start", arm.name)
    arm.connect()
    arm.channel.wait_boot(1, 180)
    shown = site.main.show(arm.name)
    assert shown["Uuid"] == arm.uuid
    assert (shown["Enforcement"], shown["Provider"]) == ("psci", "libvirt")
    assert shown["VmmUid"] == QEMU_UID
    assert (shown["Class"], shown["ClassSource"]) == ("gold", "announcement")
    assert (shown["Possible"], shown["Enabled"]) == (4, 3), "the metadata's desired count"
    arm.enabled("0-2")


def test_resize(site, arm):
    assert resize(site, arm, 4) == "done"
    arm.enabled("0-3")
    assert resize(site, arm, 2) == "done"
    arm.enabled("0-1")


def test_metadata_while_it_runs(site, arm):
    site.libvirtd.cpuctl("set", arm.name, "--desired", "4", "--tenant", "acme")
    arm.enabled("0-3")
    site.main.wait_prop(arm.name, "Tenant", "acme")
    site.libvirtd.cpuctl("set", arm.name, "--class", "small")
    site.main.wait_prop(arm.name, "Class", "small")
    arm.enabled("0-2")
    site.libvirtd.cpuctl("set", arm.name, "--class", "")
    site.main.wait_prop(arm.name, "Class", "default")
    site.libvirtd.cpuctl("set", arm.name, "--class", "gold")
    site.main.wait_prop(arm.name, "Class", "gold")


def test_wrong_metadata_changes_nothing(site, arm):
    site.libvirtd.virsh("metadata", arm.name, "https://cpupolicy.org/xmlns/domain/1", "--live",
                        "--key", "cpupolicy", "--set", "<policy class='small' size='9'/>")
    site.bridge.wait_log('has size="9"')
    assert "size" in site.libvirtd.cpuctl("show", arm.name)
    assert site.main.get(arm.name, "Class") == "gold"
    site.libvirtd.cpuctl("set", arm.name, "--class", "gold", "--tenant", "acme", "--desired", "4")
    site.main.wait_prop(arm.name, "Class", "gold")


def test_quota(site, arm):
    site.libvirtd.virsh("schedinfo", arm.name, "--live", "global_period=50000", "global_quota=400000")
    site.main.bus.call_json(ROOT, MANAGER, "SetCpuMillis", "su", arm.name, 2500)
    site.main.wait_prop(arm.name, "QuotaState", "held")
    assert quota(site, arm) == ("100000", "250000")
    site.main.wait_prop(arm.name, "Enabled", 3)
    # what the administrator had is tighter than this
    site.main.bus.call_json(ROOT, MANAGER, "SetCpuMillis", "su", arm.name, 3000)
    site.main.wait_prop(arm.name, "QuotaState", "none")
    assert quota(site, arm) == ("50000", "400000"), "what the administrator had set"
    site.libvirtd.virsh("schedinfo", arm.name, "--live", "global_quota=-1")


def test_a_held_domain_is_lifted_by_the_next_bridge(site, arm):
    site.main.bus.call_json(ROOT, MANAGER, "SetCpuMillis", "su", arm.name, 1500)
    site.main.wait_prop(arm.name, "QuotaState", "held")
    site.bridge.restart()
    site.main.wait_prop(arm.name, "QuotaState", "held")
    assert quota(site, arm)[1] == "150000"
    site.main.bus.call_json(ROOT, MANAGER, "SetCpuMillis", "su", arm.name, 2000)
    site.main.wait_prop(arm.name, "QuotaState", "none")
    assert int(quota(site, arm)[1]) < 0 or quota(site, arm)[1] == "17592186044415"


def test_only_the_daemon_asks_for_a_quota(site, arm):
    names = [line.split() for line in site.main.bus.busctl("list").splitlines()]
    bridge = next(n[0] for n in names if n[0][0] == ":" and n[1] == str(site.bridge.process.pid))
    with pytest.raises(BusError, match="Access denied"):
        site.main.bus.busctl("call", bridge, "/org/cpupolicy1/provider/libvirt",
                             "org.cpupolicy1.Provider", "SetCpuQuota", "su", arm.uuid, 100)


# ---- everybody else comes and goes ----

def test_libvirtd_restart(site, arm):
    site.libvirtd.stop()
    site.bridge.wait_log("VMs go on under their policy")
    assert resize(site, arm, 4) == "done", "libvirtd is not needed for that"
    site.libvirtd.start()
    wait_for(lambda: site.bridge.log().count("connected to libvirt") == 2, "the bridge is back")
    site.libvirtd.cpuctl("set", arm.name, "--desired", "2")
    arm.enabled("0-1")


def test_a_libvirtd_that_hangs_holds_up_nobody(site, arm):
    site.libvirtd.signal(signal.SIGSTOP)
    try:
        # a call that nobody answers
        site.main.bus.call_json(ROOT, MANAGER, "SetCpuMillis", "su", arm.name, 2500)
        arm.enabled("0-2")
        assert resize(site, arm, 4) == "done"
    finally:
        site.libvirtd.signal(signal.SIGCONT)
    # by the same connection, or by another one
    site.libvirtd.cpuctl("set", arm.name, "--desired", "3")
    arm.enabled("0-2")


def test_daemon_restart(site, arm):
    site.main.daemon.restart_killed()
    wait_for(lambda: site.bridge.log().count("registered with the daemon") == 2, "it registers again")
    site.main.wait_prop(arm.name, "State", "running")
    assert site.main.get(arm.name, "Provider") == "libvirt"
    assert resize(site, arm, 2) == "done"
    arm.enabled("0-1")


def test_bridge_restart(site, arm):
    site.bridge.stop()
    site.main.wait_prop(arm.name, "State", "running")
    assert resize(site, arm, 3) == "done"
    # announcements are durable: an impostor meets them without a bridge, and after a start of the daemon
    site.main.daemon.restart_killed()
    site.main.wait_prop(arm.name, "State", "running")
    with pytest.raises(wire.Refused):
        VmmProcess(site.directory, site.main.socket, "rogue-late", uid=65534, uuid=arm.uuid)
    site.bridge.start()
    assert site.main.get(arm.name, "Class") == "gold"


def test_what_went_unseen_is_withdrawn(site, arm):
    gone = site.domain("gone")
    xml = site.libvirtd.xml(arm.name, "--inactive")
    xml = re.sub("<nvram.*", "", xml.replace(arm.name, gone.name).replace(arm.uuid, gone.uuid))
    site.libvirtd.define(xml)
    wait_for(lambda: gone.uuid in announced(site), "it is announced")
    site.bridge.stop()
    site.libvirtd.virsh("undefine", "--nvram", gone.name)
    assert gone.uuid in announced(site)
    site.bridge.start()
    wait_for(lambda: gone.uuid not in announced(site), "it is withdrawn")
    assert arm.uuid in announced(site)


def test_managed_save(site, arm):
    site.libvirtd.cpuctl("set", arm.name, "--desired", "3")
    arm.enabled("0-2")
    arm.guest.run("echo kept >/tmp/kept")
    site.libvirtd.virsh("managedsave", arm.name)
    wait_for(lambda: ended(site, arm), "its VMM has ended")
    arm.channel.close()
    site.libvirtd.virsh("start", arm.name)
    wait_for(lambda: site.main.known(arm.uuid), "it is registered again")
    site.main.wait_prop(arm.name, "State", "running")
    arm.connect()
    assert arm.guest.run("cat /tmp/kept").strip() == "kept"
    site.main.wait_prop(arm.name, "Enabled", 3)
    assert resize(site, arm, 4) == "done"
    arm.enabled("0-3")


def test_shutdown_rename_undefine(site, arm):
    site.libvirtd.virsh("destroy", arm.name)
    wait_for(lambda: ended(site, arm), "its VMM has ended")
    before, arm.name = arm.name, arm.name + "-renamed"
    announced_before = site.main.daemon.log().count("announces")
    site.libvirtd.virsh("domrename", before, arm.name)
    wait_for(lambda: site.main.daemon.log().count("announces") > announced_before, "the new name is told")
    site.libvirtd.virsh("undefine", "--keep-nvram", arm.name)
    wait_for(lambda: arm.uuid not in announced(site), "what is gone is withdrawn")
    # from here on its UUID is anybody's, but for the record of its owner
    if site.main.known(arm.uuid):
        site.main.cpuctl("forget", arm.uuid)
    rogue = VmmProcess(site.directory, site.main.socket, arm.name, uid=65534, uuid=arm.uuid)
    rogue.close()
