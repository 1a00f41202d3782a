# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenVmm: connections that launchers are given for the VMMs that they start."""

import os
import subprocess
import sys
import uuid as uuidlib

import pytest

import cpupolicy_test.vmm_process
from cpupolicy_test import paths, wire
from cpupolicy_test.bus import MANAGER, NAME, ROOT
from cpupolicy_test.dbus_wire import CallError, Client
from cpupolicy_test.polkit import ALICE, ALICE_NAME, BOB, Polkit
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import wait_for
from cpupolicy_test.wire import Refused

OWNER, OTHER = 64055, 64056
PROD = uuidlib.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
INVALID = "org.freedesktop.DBus.Error.InvalidArgs"
FD = 3


def launch(host, *options, uuid=PROD):
    """The beginning of a command that runs the rest with the descriptor."""
    return [str(paths.cpuctl()), *host.cpuctl_bus(), "open-vmm", str(uuid),
            *[str(o) for o in options], "--"]


@pytest.fixture
def vmm(directory):
    """A VMM that cpuctl started; it becomes `uid` as QEMU does by its own option."""
    made = []

    def start(host, name, *options, opened=PROD, uid=None, **more):
        options = [*options, *([] if uid is None else ["--uid", uid])]
        command = [*launch(host, *options, uuid=opened), sys.executable,
                   cpupolicy_test.vmm_process.__file__]
        more.setdefault("uuid", opened)
        made.append(VmmProcess(directory, None, name, uid=uid, inherited=FD, command=command, **more))
        return made[-1]
    yield start
    for v in made:
        v.close()


def refused(call, *args, because="opened for another", **more):
    with pytest.raises(Refused) as e:
        call(*args, **more)
    assert e.value.code == wire.ERR_IDENTITY and because in e.value.text, e.value.text


def test_vmm_is_the_vm_it_was_opened_for(host, vmm):
    v = vmm(host, "web", uid=OWNER)
    shown = host.show("web")
    assert (shown["Uuid"], shown["VmmUid"], shown["VmmPid"]) == (str(PROD), OWNER, v.pid), \
        "the peer is who sends, not who opened"
    log = host.daemon.log()
    assert f"OPENED_BY_UID={os.getuid()}" in log and "OPENED_BY_PID=" in log
    assert v.call("ask", 1) == [wire.SUCCESS, "granted"]
    job = host.resize("web", 5)
    v.call("plug", 4)
    assert host.job_result("web", job)["result"] == "done"
    v.kill()
    host.wait_prop("web", "State", "stopped")


def test_another_vm_is_not_to_be_had(host, vmm):
    refused(vmm, host, "web", uuid=uuidlib.uuid4())
    assert not host.known("web")
    assert "refused to register VM web" in host.daemon.log()
    vmm(host, "web")


def test_name_is_bound(host, vmm):
    refused(vmm, host, "other", "--name", "web")
    vmm(host, "web", "--name", "web")


def test_without_a_name_the_one_on_record_is_bound(host, vmm):
    host.vmm("web", uuid=PROD).unregister()
    host.wait_prop("web", "State", "stopped") if host.known("web") else None
    first = vmm(host, "web")
    host.resize("web", 3)
    first.close()
    host.wait_prop("web", "State", "stopped")
    refused(vmm, host, "other")
    vmm(host, "other", "--name", "other")


def test_user_is_bound(host, vmm, directory):
    command = [*launch(host, "--uid", OWNER), sys.executable, cpupolicy_test.vmm_process.__file__]
    refused(VmmProcess, directory, None, "web", uid=OTHER, inherited=FD, command=command, uuid=PROD)
    assert f"UID={OTHER}" in host.daemon.log()
    vmm(host, "web", uid=OWNER)


def test_vouched_for_against_the_rules_of_registration(make_host, vmm):
    host = make_host(policy={"registration": [{"verdict": "deny"}]})
    connection = host.connect()
    connection.hello()
    with pytest.raises(Refused):
        connection.register("web", uuid=PROD)
    vmm(host, "web", uid=OWNER)


def test_voucher_is_no_token(host, vmm):
    first = vmm(host, "web")
    refused(vmm, host, "web", because="token")
    assert first.call("ask", 1)[0] == wire.SUCCESS


def test_voucher_gives_a_stopped_vm_to_another_user(host, vmm):
    first = vmm(host, "web", uid=OTHER)
    host.resize("web", 3)
    first.close()
    host.wait_prop("web", "State", "stopped")
    vmm(host, "web", uid=OWNER)
    assert host.show("web")["VmmUid"] == OWNER


def dbus_send(host, uuid, *expected, user=None):
    return host.bus.busctl("call", NAME, ROOT, MANAGER, "OpenVmm", "sa{sv}", uuid,
                           len(expected) // 3, *expected, check=False, user=user)


@pytest.mark.parametrize("uuid, expected, because", [
    ("web", [], "UUID"),
    ("", [], "UUID"),
    ("00000000-0000-0000-0000-000000000000", [], "UUID"),
    (PROD, ["pid", "u", 1], "pid"),
    (PROD, ["name", "u", 1], "name"),
    (PROD, ["name", "s", ""], "name"),
    (PROD, ["name", "s", "x" * 256], "name"),
    (PROD, ["name", "s", "a\nb"], "name"),
    (PROD, ["name", "s", str(PROD)], "name"),
    (PROD, ["uid", "s", "root"], "uid"),
    (PROD, ["uid", "u", 4294967295], "uid"),
])
def test_what_cannot_be_expected(host, uuid, expected, because):
    result = dbus_send(host, uuid, *expected)
    assert result.returncode != 0 and because in result.stderr, result.stderr
    assert host.daemon.process.alive()


def test_thousands_of_calls_are_bounded(make_host, vmm):
    host = make_host({"limits": {"connections_per_uid": 20, "handshake_seconds": 1}})
    before = host.daemon.process.open_fds()
    client = Client(host.bus, descriptors=True)
    serials = [client.send("OpenVmm", "sa{sv}", str(PROD), {}) for _ in range(2000)]
    refusals = 0
    for serial in serials:
        try:
            client.wait(serial)
        except CallError as e:
            assert "LimitsExceeded" in e.name, e
            refusals += 1
    assert refusals >= 1000, "the others were closed by then, and made room"
    client.close()
    # what was opened, and closed at once, is gone; so is what would never be registered
    wait_for(lambda: host.daemon.process.open_fds() <= before, "no descriptor is left")
    vmm(host, "web")


def test_descriptor_that_nobody_registers_is_closed(make_host, directory):
    host = make_host({"limits": {"handshake_seconds": 1}})
    program = "import socket; s = socket.socket(fileno=3); s.settimeout(30); assert s.recv(1) == b''"
    subprocess.run([*launch(host), sys.executable, "-c", program], check=True, timeout=60)
    wait_for(lambda: "did not register a VM in time" in host.daemon.log(), "it is in the log")


def test_descriptors_are_not_taken(host):
    program = ("import array, socket; s = socket.socket(fileno=3)\n"
               "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])\n"
               "s.settimeout(30)\n"
               "while s.recv(4096): pass")
    subprocess.run([*launch(host), sys.executable, "-c", program], check=True, timeout=60)
    assert "descriptors where none belong" in host.daemon.log()


def test_garbage_ends_that_connection_alone(host, vmm):
    good = vmm(host, "web")
    for data in ("b'\\0' * 4096", "b'\\xff' * 100", "b'x'"):
        subprocess.run([*launch(host, uuid=uuidlib.uuid4()), sys.executable, "-c",
                        f"import os; os.write(3, {data})"], check=True, timeout=60)
    assert good.call("ask", 1)[0] == wire.SUCCESS


def test_polkit_decides_who_may_open_what(make_host, directory):
    host = make_host(policy={"tenants": {"acme": {}},
                             "rules": [{"match": {"name": "acme-*"}, "tenant": "acme"}]})
    polkit = Polkit(host.bus, host.directory,
                    "polkit.addRule(function(action, subject) {"
                    "if (action.id == 'org.cpupolicy1.open-vmm' && action.lookup('tenant') == 'acme' &&"
                    f"subject.user == '{ALICE_NAME}') return polkit.Result.YES; }});")
    try:
        assert dbus_send(host, PROD, "name", "s", "acme-web", user=ALICE).returncode == 0
        # the tenant goes by the name, which is not known, or another one; and by no other user's rule
        for denied in (dbus_send(host, PROD, user=ALICE),
                       dbus_send(host, PROD, "name", "s", "beta-web", user=ALICE),
                       dbus_send(host, PROD, "name", "s", "acme-web", user=BOB)):
            assert denied.returncode != 0 and "org.cpupolicy1.open-vmm" in denied.stderr
    finally:
        polkit.stop()


def test_cpuctl_says_what_is_wrong(host, directory):
    result = host.cpuctl("open-vmm", "no-uuid", "--", "true", check=False)
    assert result.returncode != 0 and "UUID" in result.stderr
    result = host.cpuctl("open-vmm", str(PROD), "--", "/nonexistent/program", check=False)
    assert result.returncode != 0 and "/nonexistent/program" in result.stderr
    result = host.cpuctl("open-vmm", str(PROD), check=False)
    assert result.returncode != 0 and "COMMAND" in result.stderr
    out = host.cpuctl("open-vmm", str(PROD), "--", "sh", "-c", "echo $CPUPOLICY_FD; readlink /proc/self/fd/3")
    assert out.startswith("3\nsocket:")
