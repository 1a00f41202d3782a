# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may change what: root, the daemon's own user, and whom polkit permits it; with the real polkitd."""

import os
import pwd
import subprocess

import pytest

from cpupolicy_test.bus import MANAGER, NAME, ROOT
from cpupolicy_test.polkit import ALICE, ALICE_NAME, BOB, BOB_NAME, EXAMPLE, Polkit
from cpupolicy_test.process import Process
from cpupolicy_test.wait import wait_for

DENIED = "org.freedesktop.DBus.Error.AccessDenied"
PASSWORD = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
TENANTS = {
    "classes": {"gold": {"limit": 8}},
    "tenants": {"acme": {}, "beta": {}},
    "rules": [{"match": {"name": "acme-*"}, "tenant": "acme", "class": "gold"},
              {"match": {"name": "beta-*"}, "tenant": "beta"}],
}


def permit(condition):
    return "polkit.addRule(function(action, subject) { if (%s) return polkit.Result.YES; });" % condition


@pytest.fixture
def polkit(request):
    started = []

    def start(host, rules="", **more):
        started.append(Polkit(host.bus, host.directory, rules, **more))
        return started[-1]
    yield start
    for p in started:
        p.stop()


def resize(host, vm, count, user):
    return host.bus.busctl("call", NAME, ROOT, MANAGER, "SetVcpuCount", "su", vm, count,
                           check=False, user=user)


def resize_error(host, vm, count, user):
    return host.bus.error_of(ROOT, MANAGER, "SetVcpuCount", f"string:{vm}", f"uint32:{count}",
                             user=user)


def test_without_polkit_root_alone(host):
    vmm = host.vmm("web", boot=2)
    error = resize_error(host, "web", 3, ALICE)
    assert error.name == DENIED
    assert "no polkit on this bus" in error.message
    assert "org.cpupolicy1.resize" in error.message and "root" in error.message
    assert vmm.page.enabled() == {0, 1} and host.get("web", "Desired") == 2
    assert f"UID={ALICE}" in host.daemon.log() and "refused SetVcpuCount" in host.daemon.log()
    assert host.bus.busctl("call", NAME, ROOT, MANAGER, "ListVirtualMachines", user=ALICE), \
        "reading is open"
    host.resize("web", 3)
    vmm.wait_enabled({0, 1, 2})


def test_by_default_it_takes_an_administrators_password(host, polkit):
    vmm = host.vmm("web", boot=2)
    polkit(host)
    error = resize_error(host, "web", 3, ALICE)
    assert error.name == PASSWORD
    assert "org.cpupolicy1.resize" in error.message and "web" in error.message
    host.resize("web", 3)
    vmm.wait_enabled({0, 1, 2})


def test_example_lets_a_group_resize_its_tenants_vms_only(make_host, polkit):
    host = make_host(policy=TENANTS)
    ours, theirs = host.vmm("acme-web", boot=2), host.vmm("beta-web", boot=2)
    polkit(host, EXAMPLE.read_text("utf-8"))
    result = resize(host, "acme-web", 3, ALICE)
    assert result.returncode == 0, result.stderr
    ours.wait_enabled({0, 1, 2})
    assert host.get("acme-web", "DesiredUid") == ALICE
    # the same by the object's own method
    result = host.bus.busctl("call", NAME, host.path("acme-web"), "org.cpupolicy1.VirtualMachine",
                             "SetVcpuCount", "u", 4, check=False, user=ALICE)
    assert result.returncode == 0, result.stderr
    ours.wait_enabled({0, 1, 2, 3})

    assert resize_error(host, "beta-web", 3, ALICE).name == PASSWORD
    assert resize_error(host, "acme-web", 3, BOB).name == PASSWORD
    assert host.bus.error_of(ROOT, MANAGER, "AssignTenant", "string:beta-web", "string:acme",
                             user=ALICE).name == PASSWORD
    assert host.bus.error_of(ROOT, MANAGER, "Freeze", "boolean:true", user=ALICE).name == PASSWORD
    assert theirs.page.enabled() == {0, 1}
    assert ours.page.enabled() == {0, 1, 2, 3}

    # what counts is the tenant that it has now
    host.bus.call_json(ROOT, MANAGER, "AssignTenant", "ss", "acme-web", "beta")
    assert resize_error(host, "acme-web", 2, ALICE).name == PASSWORD


CALLS = [
    ("resize", "SetVcpuCount", ["string:acme-web", "uint32:2"]),
    ("assign", "AssignClass", ["string:acme-web", "string:gold"]),
    ("assign", "AssignTenant", ["string:acme-web", "string:acme"]),
    ("reload", "Reload", []),
    ("administer", "Freeze", ["boolean:false"]),
    ("administer", "Drain", ["boolean:false"]),
    ("administer", "Backup", ["string:/nonexistent/file"]),
    ("administer", "ImportVirtualMachine", ["string:acme-web", 'string:{"format":1}']),
    ("administer", "Forget", ["string:acme-web"]),
]


def test_each_call_needs_its_action_and_no_other(make_host, polkit):
    host = make_host(policy=TENANTS)
    host.vmm("acme-web")
    # alice may one action, bob all the others: of each call exactly one of them gets through
    running = polkit(host)
    rules = running.directory / "rules" / "50-test.rules"
    for action in ("resize", "assign", "reload", "administer"):
        running.stop()
        rules.write_text(
            permit(f"subject.user == '{ALICE_NAME}' && action.id == 'org.cpupolicy1.{action}'")
            + permit(f"subject.user == '{BOB_NAME}' && action.id != 'org.cpupolicy1.{action}'"), "utf-8")
        running.start()
        for needed, member, arguments in CALLS:
            if needed != action:
                continue
            assert host.bus.error_of(ROOT, MANAGER, member, *arguments, user=BOB).name == PASSWORD
            result = subprocess.run(
                ["dbus-send", f"--bus={host.bus.address}", "--print-reply", f"--dest={NAME}", ROOT,
                 f"{MANAGER}.{member}", *arguments], stdout=subprocess.PIPE, timeout=60,
                stderr=subprocess.STDOUT, text=True, check=False, user=ALICE, extra_groups=[])
            assert "Authorization" not in result.stdout and DENIED not in result.stdout, \
                f"{member}: {result.stdout}"


def test_polkit_is_told_which_vm_it_is(make_host, polkit):
    host = make_host(policy=TENANTS)
    vmm = host.vmm("acme-web", boot=2)
    polkit(host, permit(
        "action.id == 'org.cpupolicy1.resize' && action.lookup('vm') == 'acme-web' && "
        f"action.lookup('uuid') == '{vmm.uuid}' && action.lookup('tenant') == 'acme' && "
        "action.lookup('class') == 'gold'"))
    result = resize(host, vmm.uuid, 3, BOB)
    assert result.returncode == 0, result.stderr
    vmm.wait_enabled({0, 1, 2})
    # a name that no VM has brings no tenant with it
    assert resize_error(host, "acme-none", 3, BOB).name == PASSWORD


class Thinking:
    """A polkit that does not answer before it is told to: a rule waits for a file."""

    def __init__(self, host, polkit, condition):
        self.asked = host.directory / "asked"
        self.answer = host.directory / "answer"
        self.directory = host.directory
        host.directory.chmod(0o777)
        polkit(host, "polkit.addRule(function(action, subject) {"
               f"if (!({condition})) return polkit.Result.NO;"
               f"polkit.spawn(['sh', '-c', 'touch {self.asked}; "
               f"until [ -e {self.answer} ]; do sleep 0.02; done']);"
               "return polkit.Result.YES; });")

    def wait(self):
        wait_for(self.asked.exists, "polkit is asked")

    def say(self):
        self.answer.touch()


def call_as(host, user, log, *args):
    argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "busctl",
            f"--address={host.bus.address}", "call", NAME, ROOT, MANAGER, *[str(a) for a in args]]
    return Process(argv, host.directory / log)


def test_vm_that_changes_hands_while_polkit_thinks(make_host, polkit):
    host = make_host(policy=TENANTS)
    vmm = host.vmm("acme-web", boot=2)
    thinking = Thinking(host, polkit, "action.lookup('tenant') == 'acme'")
    call = call_as(host, ALICE, "call.log", "SetVcpuCount", "su", "acme-web", 3)
    thinking.wait()
    host.bus.call_json(ROOT, MANAGER, "AssignTenant", "ss", "acme-web", "beta")
    assert vmm.ask(1)[0] == 0, "verdicts do not wait for polkit"
    thinking.say()
    assert call.wait(60) != 0, "what was permitted for acme's VM is not done to beta's"
    assert vmm.page.enabled() == {0, 1} and host.get("acme-web", "Desired") == 2


def test_caller_that_leaves_gets_nothing(host, polkit):
    vmm = host.vmm("web", boot=2)
    thinking = Thinking(host, polkit, "true")
    call = call_as(host, ALICE, "call.log", "SetVcpuCount", "su", "web", 3)
    thinking.wait()
    call.kill()
    wait_for(lambda: "has left the bus" in host.daemon.log(), "the daemon notices")
    thinking.say()
    # whoever comes later is served after what was before
    assert resize(host, "web", 4, ALICE).returncode == 0
    vmm.wait_enabled({0, 1, 2, 3})
    assert host.get("web", "Job") == "/" or host.last_job("web")["to"] != 3


def test_one_users_waiting_calls_are_bounded(host, polkit):
    host.vmm("web", boot=2)
    thinking = Thinking(host, polkit, f"subject.user == '{ALICE_NAME}'")
    script = ("for i in $(seq 40); do busctl --address=%s call %s %s %s SetVcpuCount su web 3 & done; wait"
              % (host.bus.address, NAME, ROOT, MANAGER))
    calls = Process(["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", "sh",
                     "-c", script], host.directory / "calls.log")
    thinking.wait()
    wait_for(lambda: calls.log().count("too many wait for polkit") >= 8, "the others are refused")
    host.resize("web", 4)
    thinking.say()
    calls.wait(60)
    assert calls.log().count("too many wait for polkit") == 8


def test_polkit_that_dies_permits_nothing(host, polkit):
    vmm = host.vmm("web", boot=2)
    running = polkit(host, permit("true"))
    assert resize(host, "web", 3, ALICE).returncode == 0
    vmm.wait_enabled({0, 1, 2})
    running.process.kill()
    wait_for(lambda: not host.bus.has_owner("org.freedesktop.PolicyKit1"), "polkit has gone")
    assert resize_error(host, "web", 4, ALICE).name == DENIED
    assert vmm.page.enabled() == {0, 1, 2}


def test_refusals_are_logged_within_bounds(host):
    host.vmm("web")
    subprocess.run(["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", "sh", "-c",
                    "for i in $(seq 60); do busctl --address=%s call %s %s %s Freeze b true & done; wait"
                    % (host.bus.address, NAME, ROOT, MANAGER)], check=True, timeout=120,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert 1 <= host.daemon.log().count("refused Freeze") <= 40


def test_daemon_of_another_user_may_ask_by_its_annotation(make_host, polkit):
    """polkit tells nobody about others but root and the owner of the action."""
    host = make_host(start=False, policy=TENANTS)
    own = pwd.getpwnam("daemon").pw_uid
    for path in (host.directory, host.daemon.policy_directory):
        os.chown(path, own, own)
    host.daemon.argv = lambda: ["setpriv", f"--reuid={own}", f"--regid={own}", "--clear-groups",
                                host.daemon.program, "--config", host.daemon.config_path]
    host.daemon.start()
    host.vmm("acme-web", boot=2)
    polkit(host, EXAMPLE.read_text("utf-8"), owner="daemon")
    result = resize(host, "acme-web", 3, ALICE)
    assert result.returncode == 0, result.stderr
    assert resize_error(host, "acme-web", 3, BOB).name == PASSWORD
    assert resize(host, "acme-web", 4, own).returncode == 0, "the daemon's own user needs none"
