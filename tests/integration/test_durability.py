# SPDX-License-Identifier: GPL-2.0-or-later
"""What survives the daemon's death, and what happens when nothing can be written."""

import ctypes
import os
import signal
import sqlite3
import stat
import threading
import uuid as uuidlib

import pytest

from cpupolicy_test import wire
from cpupolicy_test.bus import MANAGER, ROOT, BusError
from cpupolicy_test.daemon import Daemon, default_class
from cpupolicy_test.guest import cpu_set
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import wait_for
from cpupolicy_test.wire import Refused, Vmm

EXIT_STATE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def reconnect(host, old, **more):
    """The same VMM again, by its token."""
    vmm = host.connect()
    vmm.hello()
    vmm.register(old.name, possible=old.possible, boot=4, uuid=old.uuid, token=old.token, **more)
    vmm.confirm()
    return vmm


def test_grants_desired_and_token_survive_kill(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.plug(4)
    host.job_result("web", job)
    host.daemon.restart_killed()

    assert vmm.page.enabled() == {0, 1, 2, 3, 4}, "the page outlives the daemon"
    shown = host.show("web")
    assert shown["State"] == "disconnected"
    assert (shown["Desired"], shown["EnabledSet"], shown["DesiredUid"]) == (5, "0-4", 0)
    assert host.last_job("web")["result"] == "done"

    vmm.hung_up()
    again = reconnect(host, vmm, vcpus={0: wire.ONLINE, 1: wire.ONLINE, 4: wire.ONLINE})
    assert again.page.enabled() == {0, 1, 2, 3, 4}
    assert again.epoch > vmm.epoch
    assert again.token == vmm.token
    assert host.show("web")["OnlineSet"] == "0-1,4"
    assert again.ask(5) == (wire.DENIED, "not-enabled")


def test_impostor_cannot_use_the_daemons_absence(host):
    vmm = host.vmm("web")
    host.daemon.restart_killed()
    impostor = host.connect()
    impostor.hello()
    with pytest.raises(Refused) as e:
        impostor.register("web", uuid=vmm.uuid)
    assert e.value.code == wire.ERR_IDENTITY
    reconnect(host, vmm)


def test_vm_that_ended_meanwhile_holds_nothing(host, directory):
    vmm = VmmProcess(directory, host.socket, "web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.call("plug", 4)
    host.job_result("web", job)
    host.daemon.kill()
    vmm.close()
    host.daemon.start()
    shown = host.show("web")
    assert (shown["State"], shown["Enabled"], shown["Desired"]) == ("stopped", 0, 5)


def test_job_in_flight_at_the_kill_ends_truthfully(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.wait_enabled({0, 1, 2, 3, 4})
    host.daemon.restart_killed()
    known = {i: wire.ACKED for i in range(1, 4)}
    again = reconnect(host, vmm, vcpus={0: wire.ONLINE, **known})
    assert host.get("web", "Job") == job
    again.online(4)
    result = host.job_result("web", job)
    assert (result["result"], result["to"]) == ("done", 5)
    assert again.page.enabled() == {0, 1, 2, 3, 4}


def test_job_in_flight_is_notified_again_and_times_out(make_host):
    host = make_host(policy=default_class(job_timeout_seconds=1))
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    host.daemon.restart_killed()
    reconnect(host, vmm)
    assert host.job_result("web", job, 20)["result"] == "timeout"


def test_shrink_acted_on_while_the_daemon_was_away(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 3)
    vmm.wait_wanted({0, 1, 2})
    host.daemon.restart_killed()
    again = reconnect(host, vmm, vcpus={0: wire.ONLINE, 3: wire.EJECTED})
    assert host.job_result("web", job)["result"] == "done"
    assert again.page.enabled() == {0, 1, 2}


def test_clean_restart_keeps_the_same(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.plug(4)
    host.job_result("web", job)
    assert host.daemon.stop() == 0
    host.daemon.start()
    shown = host.show("web")
    assert (shown["State"], shown["EnabledSet"]) == ("disconnected", "0-4")


def test_accepted_is_durable_at_every_kill(host):
    """kill -9 right after each reply: what was accepted is there again."""
    vmm = host.vmm("web", possible=6, boot=4)
    for count in (5, 6, 4, 6, 5):
        host.resize("web", count)
        host.daemon.restart_killed()
        assert host.get("web", "Desired") == count
        vmm = reconnect(host, vmm, vcpus={i: wire.ONLINE | wire.ACKED for i in vmm.page.enabled()})


def test_kill_in_the_middle_of_many_requests(host):
    """kill -9 while requests pour in: never less than what was accepted, never half of one."""
    vmm = host.vmm("web", possible=64, boot=2)
    accepted = [2]
    stop = threading.Event()

    def pour():
        count = 2
        while not stop.is_set():
            count = 2 + (count + 7) % 60
            try:
                host.resize("web", count)
            except BusError:
                return
            accepted.append(count)
    for _ in range(4):
        del accepted[:-1]
        stop.clear()
        thread = threading.Thread(target=pour)
        thread.start()
        wait_for(lambda: len(accepted) > 5, "requests are accepted")
        host.daemon.kill()
        stop.set()
        thread.join()
        host.daemon.start()
        desired = host.get("web", "Desired")
        # The one on its way at the kill may or may not have been taken.
        assert desired in (accepted[-1], 2 + (accepted[-1] + 7) % 60)
        # The page never shows a grant that the record does not have.
        recorded = cpu_set(host.get("web", "EnabledSet"))
        assert vmm.page.enabled() <= recorded
        vmm = reconnect(host, vmm, vcpus={i: wire.ONLINE | wire.ACKED
                                          for i in vmm.page.enabled()})


def test_second_daemon_is_refused_and_touches_nothing(host):
    vmm = host.vmm("web")
    second = Daemon(host.directory, host.bus, {})
    second.log_path = host.directory / "second.log"
    status, text = second.run_to_end()
    assert status == EXIT_STATE
    assert str(second.state) in text
    assert host.get("web", "State") == "running"
    assert vmm.ask(1) == (wire.SUCCESS, "granted")
    host.vmm("another")  # by the socket, which is still the first one's


def test_second_daemon_with_another_socket_is_refused(host, directory):
    second = Daemon(host.directory, None, {"socket": str(directory / "other.sock")})
    second.log_path = directory / "second.log"
    status, _ = second.run_to_end()
    assert status == EXIT_STATE
    assert not (directory / "other.sock").exists(), "the lock comes before the socket"


def test_stale_socket_is_replaced(host):
    host.daemon.kill()
    assert host.socket.exists()
    host.daemon.start()
    host.vmm("web")


def test_state_directory_is_private(host):
    assert stat.S_IMODE(os.stat(host.daemon.state).st_mode) & 0o077 == 0
    for path in host.daemon.state.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_damaged_record_is_refused_and_left_alone(host):
    host.vmm("web")
    host.daemon.stop()
    databases = [p for p in host.daemon.state.iterdir() if p.read_bytes()[:6] == b"SQLite"]
    assert len(databases) == 1
    databases[0].write_bytes(b"not a database" * 1000)
    status, text = host.daemon.run_to_end()
    assert status == EXIT_STATE
    assert str(databases[0]) in text or str(host.daemon.state) in text
    assert databases[0].read_bytes() == b"not a database" * 1000


def test_record_of_a_newer_version_is_refused_and_left_alone(host):
    host.vmm("web")
    host.daemon.stop()
    database = [p for p in host.daemon.state.iterdir() if p.read_bytes()[:6] == b"SQLite"][0]
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA user_version = 1000")
    db.close()
    status, text = host.daemon.run_to_end()
    assert status == EXIT_STATE
    assert "newer" in text or "version" in text


@pytest.fixture
def small_disk(directory):
    """A file system of 256 KiB for the state directory."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    path = directory / "disk"
    path.mkdir()
    if _libc.mount(b"none", bytes(path), b"tmpfs", 0, b"size=256k,mode=700") != 0:
        raise OSError(ctypes.get_errno(), "mount")
    yield path
    _libc.umount2(bytes(path), 2)


def fill(path):
    with open(path / "ballast", "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


def test_full_disk_refuses_and_recovers(make_host, small_disk):
    host = make_host({"state_directory": str(small_disk / "state")})
    vmm = host.vmm("web", possible=6, boot=4)
    fill(small_disk)

    e = host.bus.error_of(ROOT, MANAGER, "SetVcpuCount", "string:web", "uint32:6")
    assert e.name == "org.cpupolicy1.Error.Storage"
    assert vmm.page.enabled() == {0, 1, 2, 3}, "what is not durable is not granted"
    assert host.get("web", "Desired") == 4
    newcomer = host.connect()
    newcomer.hello()
    with pytest.raises(Refused) as refusal:
        for i in range(100):  # there may be room for a few in pages the file already has
            newcomer.register(f"newcomer{i}", possible=512)
            newcomer.close()
            newcomer = host.connect()
            newcomer.hello()
    assert refusal.value.code == wire.ERR_STORAGE
    assert vmm.ask(1) == (wire.SUCCESS, "granted"), "a VM that runs notices nothing"
    assert vmm.ask(5)[0] == wire.DENIED

    (small_disk / "ballast").unlink()
    job = host.resize("web", 6)
    vmm.plug(4)
    vmm.plug(5)
    assert host.job_result("web", job)["result"] == "done"


def test_shrinking_on_a_full_disk_takes_nothing_away_for_good(make_host, small_disk):
    host = make_host({"state_directory": str(small_disk / "state")})
    vmm = host.vmm("web", possible=6, boot=4)
    fill(small_disk)
    e = host.bus.error_of(ROOT, MANAGER, "SetVcpuCount", "string:web", "uint32:2")
    assert e.name == "org.cpupolicy1.Error.Storage"
    vmm.wait_wanted({0, 1, 2, 3})
    assert host.get("web", "Desired") == 4


def test_read_only_state_directory_is_an_error_at_start(make_host, small_disk):
    host = make_host({"state_directory": str(small_disk / "state")}, start=False)
    if _libc.mount(b"none", bytes(small_disk), b"tmpfs", 32 | 1, b"") != 0:  # REMOUNT, RDONLY
        raise OSError(ctypes.get_errno(), "remount")
    status, text = host.daemon.run_to_end()
    assert status == EXIT_STATE
    assert "Read-only file system" in text


def test_many_vms_come_back(host):
    vmms = [host.vmm(f"vm{i}", possible=4, boot=2) for i in range(50)]
    host.daemon.restart_killed()
    assert host.bus.get(ROOT, MANAGER, "VirtualMachines") == 50
    for vmm in vmms:
        reconnect(host, vmm)
    wait_for(lambda: host.bus.get(ROOT, MANAGER, "Connected") == 50, "all are back")


def test_frozen_daemon_delays_but_does_not_lose(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.daemon.freeze()
    vmm.online(1, reply=False)
    assert vmm.page.enabled() == {0, 1, 2, 3}, "the policy holds meanwhile"
    host.daemon.thaw()
    host.wait_prop("web", "OnlineSet", "0-1")


def test_sigterm_ends_cleanly(host):
    vmm = host.vmm("web")
    host.daemon.process.signal(signal.SIGTERM)
    assert host.daemon.process.wait() == 0
    vmm.hung_up()
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        Vmm(host.socket)


def test_uuid_with_another_shape_after_stop(host):
    uuid = uuidlib.uuid4()
    vmm = host.vmm("web", possible=6, boot=4, uuid=uuid)
    host.resize("web", 4)
    vmm.unregister()
    host.wait_prop("web", "State", "stopped")
    again = host.vmm("web2", possible=3, boot=2, uuid=uuid)
    assert again.page.enabled() <= {0, 1, 2}
    assert host.show("web2")["Possible"] == 3
    assert not host.known("web")
