# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may register which VM: rules of the policy, and what they look at; impostors."""

import json
import os
import uuid as uuidlib

import pytest

from cpupolicy_test import cgroup, wire
from cpupolicy_test.daemon import merge
from cpupolicy_test.provider import Provider
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import wait_for
from cpupolicy_test.wire import Refused

OWNER, OTHER, GROUP = 64055, 64056, 64057
PROD = uuidlib.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def rules(*registration, **more):
    return merge({"registration": list(registration)}, more)


def allow(peer, **match):
    return {"match": match, "peer": peer, "verdict": "allow"}


def deny(peer=None, **match):
    return {"match": match, "peer": peer or {}, "verdict": "deny"}


@pytest.fixture
def vmm(directory):
    made = []

    def start(host, name, **more):
        os.chmod(host.socket, 0o666)
        made.append(VmmProcess(directory, host.socket, name, **more))
        return made[-1]
    yield start
    for v in made:
        v.close()


def refused(start, host, name, because, **more):
    with pytest.raises(Refused) as e:
        start(host, name, **more)
    assert e.value.code == wire.ERR_IDENTITY
    assert because in e.value.text, e.value.text
    return e.value.text


def test_rule_by_user(make_host, vmm):
    host = make_host(policy=rules(allow({"uid": OWNER}, name="prod-*"), deny(name="prod-*")))
    vmm(host, "prod-1", uid=OWNER)
    refused(vmm, host, "prod-2", "rules", uid=OTHER)
    vmm(host, "test-1", uid=OTHER)
    assert not host.known("prod-2")
    line = next(line for line in host.daemon.log().splitlines() if "refused to register" in line)
    for field in ("VM_NAME=prod-2", f"UID={OTHER}", "RULE=registration-2", "PEER_PID=", "VM_UUID="):
        assert field in line, line


def test_rule_by_group_of_the_process(make_host, vmm):
    host = make_host(policy=rules(allow({"gid": GROUP}), deny()))
    vmm(host, "in", uid=OWNER, groups=[GROUP])
    refused(vmm, host, "out", "rules", uid=OWNER)


def test_rule_by_names_that_this_host_has(make_host, vmm):
    host = make_host(policy=rules(allow({"user": "daemon"}), allow({"group": "games"}), deny()))
    vmm(host, "user", uid=1)
    vmm(host, "group", uid=OWNER, groups=[60])
    refused(vmm, host, "neither", "rules", uid=OWNER)
    host.daemon.write_policy(rules(allow({"user": "no-such-user"})))
    result = host.cpuctl("reload", check=False)
    assert result.returncode != 0 and "no-such-user" in result.stderr and "/etc/passwd" in result.stderr
    refused(vmm, host, "neither", "rules", uid=OWNER)


def test_rule_by_tenant(make_host, vmm):
    host = make_host(policy=rules(
        allow({"uid": OWNER}, tenant="acme"), deny(tenant="acme"), tenants={"acme": {}},
        rules=[{"match": {"name": "acme-*"}, "tenant": "acme"}]))
    vmm(host, "acme-1", uid=OWNER)
    refused(vmm, host, "acme-2", "rules", uid=OTHER)
    vmm(host, "web", uid=OTHER)


@pytest.mark.skipif(not cgroup.available(), reason="no control groups can be made here")
def test_rule_by_unit_and_slice(make_host, vmm):
    host = make_host(policy=rules(
        allow({"slice": "cpupolicytest.slice", "unit": "vm-*.scope"}), deny()))
    ours = cgroup.Cgroup("cpupolicytest.slice/vm-web.scope")
    theirs = cgroup.Cgroup("cpupolicytest.slice/thief.service")
    try:
        good = vmm(host, "web", uid=OWNER, cgroup=ours)
        refused(vmm, host, "thief", "rules", uid=OWNER, cgroup=theirs)
        refused(vmm, host, "nowhere", "rules", uid=OWNER)
        assert "PEER_UNIT=thief.service" in host.daemon.log()
        assert "PEER_SLICE=cpupolicytest.slice" in host.daemon.log()
        good.close()
        wait_for(lambda: not host.known("web"), "the VM has ended")
    finally:
        for group in (theirs, ours):
            wait_for(lambda g=group: not (g.path / "cgroup.procs").read_text(), "its processes end")
            group.close()


@pytest.mark.skipif(not cgroup.available(), reason="no control groups can be made here")
def test_one_unit_leaves_room_for_others_of_its_user(make_host, directory):
    """All VMs of a host may share one uid."""
    host = make_host({"limits": {"connections_per_unit": 3}})
    os.chmod(host.socket, 0o666)
    group = cgroup.Cgroup("cpupolicytest.slice/flood.scope")
    pid = os.fork()
    if pid == 0:
        try:
            group.add(os.getpid())
            held = [wire.Vmm(host.socket) for _ in range(4)]
            held[3].hung_up()
            os._exit(7 if not held[0].hello()[0] else 0)
        finally:
            os._exit(1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert "unit and label" in host.daemon.log() and "PEER_UNIT=flood.scope" in host.daemon.log()
        for i in range(5):
            host.vmm(f"vm{i}")
    finally:
        group.close()


def impostor_meets_refusal(host, vmm, uuid):
    refused(vmm, host, "other", "", uuid=uuid, uid=OTHER)
    refused(vmm, host, "web", "", uid=OTHER)
    refused(vmm, host, "web", "", uuid=uuid, uid=OTHER, token=os.urandom(16).hex())
    assert f"UID={OTHER}" in host.daemon.log()


def test_impostor_is_refused_over_the_socket_by_name_and_after_restarts(make_host, vmm):
    host = make_host()
    good = vmm(host, "web", uid=OWNER, uuid=PROD, boot=2)
    job = host.resize("web", 3)
    impostor_meets_refusal(host, vmm, PROD)
    assert good.call("ask", 1)[0] == wire.SUCCESS
    # the daemon is another one, and the VM lives on without it
    host.daemon.restart_killed()
    impostor_meets_refusal(host, vmm, PROD)
    assert host.show("web")["VmmUid"] == OWNER and host.show("web")["State"] == "disconnected"
    # the VM is stopped, and stays its owner's
    good.close()
    host.wait_prop("web", "State", "stopped")
    impostor_meets_refusal(host, vmm, PROD)
    host.daemon.restart_killed()
    impostor_meets_refusal(host, vmm, PROD)
    assert host.daemon.log().count("refused to register") >= 12
    again = vmm(host, "web", uid=OWNER, uuid=PROD)
    assert host.show("web")["VmmPid"] == again.pid and job


def test_rules_that_change_orphan_nobody(make_host, vmm):
    """Who runs a VM comes back to it, whatever the rules say by then; another process does not."""
    host = make_host()
    good = vmm(host, "web", uid=OWNER, uuid=PROD)
    host.daemon.write_policy(rules(deny()))
    host.cpuctl("reload")
    host.daemon.restart_killed()
    refused(vmm, host, "web", "rules", uid=OWNER, uuid=PROD, token=good.token)
    good.call("reconnect", str(host.socket))
    host.wait_prop("web", "State", "running")
    assert host.show("web")["VmmPid"] == good.pid


def test_registration_rules_are_shown_by_check(make_host):
    host = make_host(start=False)
    host.daemon.write_policy(json.dumps({"registration": [{"peer": {"uid": 1}}]}))
    status, log = host.daemon.run_to_end()
    assert status != 0 and "registration[0]" in log and "verdict" in log


# ---- announcements ----

@pytest.fixture
def provider(make_host):
    host = make_host()
    agent = Provider(host.bus)
    yield host, agent
    agent.close()


def test_announced_vm_is_its_users(provider, vmm):
    host, agent = provider
    agent.announce(PROD, "web", uid=OWNER)
    refused(vmm, host, "web", "announced with another user", uid=OTHER, uuid=PROD)
    refused(vmm, host, "other", "announced with another user", uid=OTHER, uuid=PROD)
    refused(vmm, host, "web", "Another VM", uid=OTHER)
    assert not host.known("web")
    good = vmm(host, "web", uid=OWNER, uuid=PROD)
    # the same after a restart, without the provider
    agent.close()
    good.close()
    wait_for(lambda: not host.known("web"), "the VM has ended")
    host.daemon.restart_killed()
    refused(vmm, host, "web", "announced with another user", uid=OTHER, uuid=PROD)
    refused(vmm, host, "web", "Another VM", uid=OTHER)
    vmm(host, "web", uid=OWNER, uuid=PROD)


def test_announced_label(provider, vmm):
    host, agent = provider
    agent.announce(PROD, "web", uid=OWNER, label="svirt-of-another-vm")
    refused(vmm, host, "web", "label", uid=OWNER, uuid=PROD)


def test_announcement_gives_a_stopped_vm_to_another_user(provider, vmm):
    host, agent = provider
    first = vmm(host, "web", uid=OTHER, uuid=PROD)
    host.resize("web", 3)
    first.close()
    host.wait_prop("web", "State", "stopped")
    refused(vmm, host, "web", "belongs to another user", uid=OWNER, uuid=PROD)
    agent.announce(PROD, "web", uid=OWNER)
    vmm(host, "web", uid=OWNER, uuid=PROD)
    assert host.show("web")["VmmUid"] == OWNER


def test_rule_by_announcement(make_host, vmm):
    host = make_host(policy=rules(allow({"announced": True}), deny()))
    agent = Provider(host.bus)
    try:
        refused(vmm, host, "web", "rules", uid=OWNER, uuid=PROD)
        agent.announce(PROD, "web", uid=OWNER)
        vmm(host, "web", uid=OWNER, uuid=PROD)
        refused(vmm, host, "other", "rules", uid=OWNER)
    finally:
        agent.close()
