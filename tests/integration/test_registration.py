# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may be which VM, and what it gets."""

import fcntl
import mmap
import os
import stat
import struct
import uuid as uuidlib

import pytest

from cpupolicy_test import wire
from cpupolicy_test.bus import MANAGER, NAME, ROOT
from cpupolicy_test.daemon import classes
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import wait_for
from cpupolicy_test.wire import HungUp, Refused, Vmm

F_GET_SEALS = 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 1, 2, 4, 8
NOBODY = 65534


def test_boot_set_is_what_the_vmm_proposes(host):
    vmm = host.vmm("web", possible=6, boot=4)
    assert vmm.page.enabled() == {0, 1, 2, 3}
    assert vmm.page.wanted() == {0, 1, 2, 3}
    assert all(w.verdict == wire.VERDICT_ALLOW for w in vmm.page.words()[:4])
    assert all(w.verdict == wire.VERDICT_DENY for w in vmm.page.words()[4:])
    assert vmm.page.epoch == vmm.epoch
    shown = host.show("web")
    assert (shown["Possible"], shown["Boot"], shown["Enabled"], shown["Desired"]) == (6, 4, 4, 4)
    assert shown["Uuid"] == str(vmm.uuid)
    assert shown["EnabledSet"] == "0-3" and shown["OnlineSet"] == "0"
    assert (shown["VmmUid"], shown["VmmPid"]) == (os.getuid(), os.getpid())


def test_service_level_bounds_the_boot_set(make_host):
    host = make_host(policy=classes(small={"limit": 2}))
    assert host.vmm("small", boot=4).page.enabled() == {0, 1}
    assert host.vmm("other", boot=4).page.enabled() == {0, 1, 2, 3}


def test_service_level_by_the_first_rule(make_host):
    uuid = uuidlib.uuid4()
    host = make_host(policy=classes(**{str(uuid): {"limit": 2}, "web": {"limit": 3}}))
    assert host.vmm("web", uuid=uuid, boot=4).page.enabled() == {0, 1}


def test_page_is_sealed_and_read_only(host):
    vmm = host.vmm("web")
    fd = vmm.page.fd
    status = os.fstat(fd)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert fcntl.fcntl(fd, F_GET_SEALS) & 15 == F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    with pytest.raises(PermissionError):
        mmap.mmap(fd, status.st_size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(OSError):
        os.ftruncate(fd, 0)


def test_page_cannot_be_reopened_for_writing_by_another_user(host, directory):
    os.chmod(host.socket, 0o666)
    vmm = VmmProcess(directory, host.socket, "web", uid=NOBODY)
    try:
        # /proc's way around a read-only descriptor ends at the file's own mode and owner.
        with pytest.raises(AssertionError, match="PermissionError"):
            vmm.call("reopen_page_for_writing")
    finally:
        vmm.close()


def test_two_vms_at_once(host):
    a, b = host.vmm("a", boot=2), host.vmm("b", boot=3)
    host.resize("a", 4)
    a.wait_enabled({0, 1, 2, 3})
    assert b.page.enabled() == {0, 1, 2}
    assert b.page.generation == 1, "another VM's change is nothing to this one"


def refused(host, code, name="impostor", **register):
    connection = host.connect()
    connection.hello()
    with pytest.raises(Refused) as e:
        connection.register(name, **register)
    assert e.value.code == code, e.value
    assert e.value.text, "a refusal says why"
    return connection, e.value.text


def test_live_uuid_without_token_is_refused(host):
    vmm = host.vmm("web")
    _, text = refused(host, wire.ERR_IDENTITY, "other", uuid=vmm.uuid)
    assert "token" in text
    _, text = refused(host, wire.ERR_IDENTITY, "web", uuid=vmm.uuid, token=os.urandom(16))
    assert vmm.ask(1) == (wire.SUCCESS, "granted"), "the VM whose name was claimed notices nothing"
    assert host.show("web")["State"] == "running"


def test_name_of_another_vm_is_refused(host):
    vmm = host.vmm("web")
    refused(host, wire.ERR_IDENTITY, "web")
    assert vmm.ask(1) == (wire.SUCCESS, "granted")
    assert len(host.bus.call_json(ROOT, MANAGER, "ListVirtualMachines")[0]) == 1


@pytest.mark.parametrize("name", [
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
])
def test_name_that_looks_like_a_uuid_is_refused(host, name):
    refused(host, wire.ERR_IDENTITY, name)


def test_null_uuid_is_refused(host):
    connection, text = refused(host, wire.ERR_IDENTITY, uuid=uuidlib.UUID(int=0))
    assert "UUID" in text
    connection.register("honest")


@pytest.mark.parametrize("name", [b"", b"a\nb", b"\xff\xfe", b"a\0b"])
def test_impossible_name_is_refused(host, name):
    connection = host.connect()
    connection.hello()
    with pytest.raises(Refused):
        connection.register(name)


def test_refused_peer_may_try_again_on_the_same_connection(host):
    host.vmm("web")
    connection, _ = refused(host, wire.ERR_IDENTITY, "web")
    connection.register("web2")
    assert host.show("web2")["State"] == "running"


def test_attempts_are_bounded(host):
    host.vmm("web")
    connection = host.connect()
    connection.hello()
    for _ in range(1000):
        try:
            with pytest.raises(Refused):
                connection.register("web")
        except HungUp:
            return
    pytest.fail("a peer may guess without end")


def test_token_replaces_the_session(host):
    first = host.vmm("web")
    first.online(1)
    second = host.keep(Vmm(host.socket))
    second.hello()
    second.register("web", uuid=first.uuid, token=first.token,
                    vcpus={0: wire.ONLINE, 1: wire.ONLINE, 2: wire.ONLINE})
    first.hung_up()
    assert second.page.epoch > 1 and second.epoch == second.page.epoch
    host.wait_prop("web", "OnlineSet", "0-2")
    assert host.show("web")["State"] == "running"
    assert second.ask(1) == (wire.SUCCESS, "granted")


def test_another_users_vm_is_not_to_be_had_even_with_its_token(host, directory):
    os.chmod(host.socket, 0o666)
    vmm = host.vmm("web")
    with pytest.raises(Refused) as e:
        VmmProcess(directory, host.socket, "web", uid=NOBODY, uuid=vmm.uuid,
                   token=vmm.token.hex())
    assert e.value.code == wire.ERR_IDENTITY


def test_uid_comes_from_the_kernel(host, directory):
    os.chmod(host.socket, 0o666)
    vmm = VmmProcess(directory, host.socket, "web", uid=NOBODY)
    try:
        shown = host.show("web")
        assert (shown["VmmUid"], shown["VmmPid"]) == (NOBODY, vmm.pid)
        assert f"UID={NOBODY}" in host.daemon.log()
    finally:
        vmm.close()


def test_socket_mode_keeps_strangers_out(host, directory):
    assert stat.S_IMODE(os.stat(host.socket).st_mode) == 0o660
    with pytest.raises(AssertionError, match="PermissionError"):
        VmmProcess(directory, host.socket, "web", uid=NOBODY)


def test_end_of_the_vmm_process_ends_the_vm(host, directory):
    vmm = VmmProcess(directory, host.socket, "web")
    assert host.show("web")["State"] == "running"
    vmm.kill()
    wait_for(lambda: not host.known("web"), "nothing is left of a VM that nobody resized")
    vmm.close()


def test_stopped_vm_keeps_what_was_asked_for(host, directory):
    vmm = VmmProcess(directory, host.socket, "web", possible=6, boot=4)
    uuid = host.show("web")["Uuid"]
    job = host.resize("web", 5)
    vmm.call("plug", 4)
    host.job_result("web", job)
    vmm.kill()
    host.wait_prop("web", "State", "stopped")
    shown = host.show("web")
    assert (shown["Enabled"], shown["Online"], shown["Desired"]) == (0, 0, 5)
    vmm.close()
    again = host.vmm("web", possible=6, boot=4, uuid=uuidlib.UUID(uuid))
    assert again.page.enabled() == {0, 1, 2, 3, 4}


def test_unregister_stops_the_vm_and_forget_frees_its_name(host):
    vmm = host.vmm("web")
    job = host.resize("web", 5)
    vmm.plug(4)
    host.job_result("web", job)
    assert host.bus.error_of(ROOT, MANAGER, "Forget", "string:web").name == \
        "org.cpupolicy1.Error.VmRunning"
    vmm.unregister()
    vmm.hung_up()
    host.wait_prop("web", "State", "stopped")
    refused(host, wire.ERR_IDENTITY, "web")
    host.bus.call_json(ROOT, MANAGER, "Forget", "s", "web")
    assert not host.known("web")
    assert host.vmm("web", boot=2).page.enabled() == {0, 1}


def test_lost_connection_of_a_living_vmm_keeps_the_grants(host):
    vmm = host.vmm("web", boot=4)
    words = [w.value for w in vmm.page.words()]
    vmm.sock.close()
    host.wait_prop("web", "State", "disconnected")
    assert [w.value for w in vmm.page.words()] == words, "the page stays as it was"
    assert host.show("web")["EnabledSet"] == "0-3"


def test_incoming_joins_and_is_activated(host):
    source = host.vmm("web", boot=4)
    source.online(1)
    target = host.keep(Vmm(host.socket))
    target.hello()
    target.register("web", uuid=source.uuid, token=source.token,
                    flags=wire.REG_NOTIFY | wire.REG_BOOT_REMOVABLE | wire.REG_INCOMING,
                    run_state=wire.INACTIVE, vcpus={0: 0})
    assert target.page.enabled() == set(), "until it runs the VM, it may power on nothing"
    assert target.ask(1) == (wire.DENIED, "inactive")
    assert source.ask(2) == (wire.SUCCESS, "granted")
    assert host.show("web")["Enabled"] == 4, "counted once"

    source.run_state(wire.INACTIVE)
    target.state({0: wire.ONLINE | wire.ACKED, 1: wire.ONLINE | wire.ACKED},
                 run_state=wire.RUNNING)
    target.wait_enabled({0, 1, 2, 3})
    assert target.ask(2) == (wire.SUCCESS, "granted")
    host.wait_prop("web", "OnlineSet", "0-1")
    source.unregister(wire.MIGRATED)
    host.wait_prop("web", "State", "running")
    assert host.show("web")["VmmPid"] == os.getpid()


def test_incoming_needs_the_token(host):
    source = host.vmm("web")
    refused(host, wire.ERR_IDENTITY, "web", uuid=source.uuid, token=os.urandom(16),
            flags=wire.REG_NOTIFY | wire.REG_INCOMING, run_state=wire.INACTIVE)


def test_second_incoming_is_refused(host):
    source = host.vmm("web")
    incoming = dict(uuid=source.uuid, token=source.token,
                    flags=wire.REG_NOTIFY | wire.REG_INCOMING, run_state=wire.INACTIVE)
    target = host.keep(Vmm(host.socket))
    target.hello()
    target.register("web", **incoming)
    refused(host, wire.ERR_BUSY, "web", **incoming)


def test_room_for_vms_is_bounded(make_host):
    host = make_host({"limits": {"vms": 2}})
    a = host.vmm("a")
    host.vmm("b")
    _, text = refused(host, wire.ERR_LIMIT, "c")
    assert text
    assert a.ask(1) == (wire.SUCCESS, "granted")


def test_hello_agrees_on_what_both_have(host):
    connection = host.connect()
    agreed, max_vcpus = connection.hello(0xFFFF_FFFF_FFFF_FFFF)
    assert agreed == wire.F_ASK | wire.F_INCOMING
    assert max_vcpus == 512


def test_vmm_that_cannot_ask_is_refused_where_asking_is_needed(make_host):
    host = make_host(policy=classes(strict={"verdicts": "ask"}))
    connection = host.connect()
    connection.hello(0)
    with pytest.raises(Refused) as e:
        connection.register("strict")
    assert e.value.code == wire.ERR_UNSUPPORTED
    connection.register("lax")


def test_largest_vm(host):
    vmm = host.vmm("big", possible=512, boot=1)
    job = host.resize("big", 512)
    vmm.wait_enabled(set(range(512)))
    for i in range(1, 512):
        vmm.ost(i, 1, 0, reply=False)
    assert host.job_result("big", job)["result"] == "done"


def test_doorbell_is_not_rung_for_nothing(host):
    vmm = host.vmm("web")
    vmm.online(1)
    vmm.doorbell.setblocking(False)
    try:
        vmm.doorbell.recv(64)  # the first page rings as well
    except BlockingIOError:
        pass
    vmm.offline(1)
    vmm.acknowledge(2)
    vmm.confirm()
    with pytest.raises(BlockingIOError):
        vmm.doorbell.recv(1)


def test_full_doorbell_does_not_block_the_daemon(host):
    vmm = host.vmm("web", possible=3, boot=1)
    other = host.vmm("other")
    # Nobody ever reads this doorbell.
    for i in range(400):
        host.bus.busctl("call", NAME, ROOT, MANAGER, "SetVcpuCount", "su", "web", 2 + i % 2)
        if i % 100 == 0:
            assert other.ask(1) == (wire.SUCCESS, "granted")
    wait_for(lambda: vmm.page.wanted() == {0, 1, 2}, "the last request is in the page")


def test_reply_repeats_the_sequence_number(host):
    connection = host.connect()
    for seq in (0, 7, 0xFFFFFFFF):
        with host.keep(Vmm(host.socket)) as c:
            c.send_raw(wire.message(wire.HELLO, struct.pack("<Q", 0), seq))
            request, flags, got, _ = c.receive()
            assert (request, got) == (wire.HELLO, seq)
            assert flags == wire.VERSION | wire.REPLY
    assert connection.quiet()
