# SPDX-License-Identifier: GPL-2.0-or-later
"""Classes, tenants and capacity as clients see them: by the bus, and by cpuctl."""

import csv
import json
import signal
import sqlite3
import time

import pytest

from cpupolicy_test import paths, wire
from cpupolicy_test.bus import MANAGER, ROOT, VM
from cpupolicy_test.process import Process
from cpupolicy_test.wait import wait_for

NOBODY = 65534
ERROR = "org.cpupolicy1.Error."
SECOND = 10 ** 9
REFUSED, ACCESS_DENIED, NO_SUCH_NAME, INVALID_POLICY = 10, 11, 14, 15

POLICY = {
    "host": {"capacity": {"cpus": 16}},
    "default_class": "bronze",
    "classes": {
        "gold": {"guaranteed": 4, "limit": 8, "priority": 50,
                 "price": {"guaranteed": "36", "burst": "72"}},
        "bronze": {"guaranteed": 2, "limit": 6},
        "metered": {"guaranteed": 2, "limit": 6, "retry_seconds": 1,
                    "burst": {"cap_seconds": 100, "initial_seconds": 2, "resume_seconds": 1}},
        "huge": {"guaranteed": 16, "limit": 16},
    },
    "tenants": {"acme": {"quota": 10}, "free": {}},
    "rules": [
        {"match": {"name": "acme-*"}, "tenant": "acme"},
        {"match": {"name": "acme-db*"}, "class": "gold"},
        {"match": {"name": "metered*"}, "class": "metered"},
    ],
}


@pytest.fixture
def host(make_host):
    return make_host(policy=POLICY)


def manager(host, prop):
    return host.bus.get(ROOT, MANAGER, prop)


def call(host, member, signature="", *args):
    return host.bus.call_json(ROOT, MANAGER, member, signature, *args)


def error(host, member, *args, **more):
    return host.bus.error_of(ROOT, MANAGER, member, *args, **more)


def explain(host, vm, count=0):
    """(count, target, bound, refused, {rule: row})"""
    count, target, bound, refused, rows = call(host, "Explain", "su", vm, count)
    return count, target, bound, refused, {row[0]: row for row in rows}


def choice(host, vm, what):
    """Name, source, rule and assignment of a VM's class or tenant."""
    seen = host.show(vm)
    return (seen[what], seen[f"{what}Source"], seen[f"{what}Rule"], seen[f"Assigned{what}"])


def cpuctl_json(host, *args):
    return json.loads(host.cpuctl(*args, "--json"))


# ---- classes and tenants ----

def test_rules_and_the_default(host):
    host.vmm("web")
    host.vmm("acme-web")
    host.vmm("acme-db1")
    assert choice(host, "web", "Class") == ("bronze", "default", 0, "")
    assert choice(host, "web", "Tenant") == ("", "default", 0, "")
    assert choice(host, "acme-web", "Tenant") == ("acme", "rule", 1, "")
    assert choice(host, "acme-db1", "Class") == ("gold", "rule", 2, "")
    seen = host.show("acme-db1")
    assert [seen[p] for p in ("Guaranteed", "Limit", "Priority", "AssignedUid")] == \
        [4, 6, 50, 4294967295], "the limit is within the possible vCPUs"


def test_assignment_goes_before_rules(host):
    host.vmm("acme-db1", possible=8, boot=2)
    path, monitor = host.path("acme-db1"), host.bus.monitor()
    call(host, "AssignClass", "ss", "acme-db1", "bronze")
    assert choice(host, "acme-db1", "Class") == ("bronze", "assignment", 0, "bronze")
    changed = monitor.wait("PropertiesChanged", lambda a: "Class" in a[1], path=path)[1]
    assert {k: changed[k]["data"] for k in ("Class", "ClassSource", "Guaranteed", "Limit", "Priority")} \
        == {"Class": "bronze", "ClassSource": "assignment", "Guaranteed": 2, "Limit": 6, "Priority": 0}
    call(host, "AssignTenant", "ss", "acme-db1", "free")
    assert choice(host, "acme-db1", "Tenant") == ("free", "assignment", 0, "free")
    monitor.wait("PropertiesChanged",
                 lambda a: a[1].get("Tenant", {}).get("data") == "free", path=path)
    assert host.get("acme-db1", "AssignedUid") == 0
    host.daemon.restart_killed()
    assert choice(host, "acme-db1", "Class")[:2] == ("bronze", "assignment"), "it is durable"
    assert choice(host, "acme-db1", "Tenant")[:2] == ("free", "assignment")
    for member in ("AssignClass", "AssignTenant"):
        call(host, member, "ss", "acme-db1", "")
    assert choice(host, "acme-db1", "Class") == ("gold", "rule", 2, "")
    assert choice(host, "acme-db1", "Tenant") == ("acme", "rule", 1, "")


def test_assignments_that_are_refused(host):
    host.vmm("web", possible=16, boot=1)
    host.vmm("other")
    assert error(host, "AssignClass", "string:web", "string:nix").name == ERROR + "NoSuchClass"
    assert error(host, "AssignTenant", "string:web", "string:nix").name == ERROR + "NoSuchTenant"
    assert error(host, "AssignClass", "string:nix", "string:gold").name == ERROR + "NoSuchVm"
    e = error(host, "AssignClass", "string:web", "string:huge")
    assert e.name == ERROR + "HostCapacity"
    assert "16" in e.message and "14 are free" in e.message
    assert choice(host, "web", "Class") == ("bronze", "default", 0, "")
    assert host.cpuctl("assign", "web", "nix", check=False).returncode == NO_SUCH_NAME
    assert host.cpuctl("assign", "web", "huge", check=False).returncode == REFUSED
    assert host.cpuctl("assign", "web", check=False).returncode == 1
    assert host.cpuctl("assign", "web", "gold", "--tenant", "free", check=False).returncode == 1
    host.cpuctl("assign", "web", "gold")
    host.cpuctl("assign", "web", "--tenant", "free")
    assert (host.get("web", "Class"), host.get("web", "Tenant")) == ("gold", "free")


def test_changes_are_for_the_privileged(host):
    host.vmm("web")
    for member, args in {
            "AssignClass": ("string:web", "string:gold"), "AssignTenant": ("string:web", "string:free"),
            "Freeze": ("boolean:true",), "Drain": ("boolean:true",), "Reload": (),
            "Backup": (f"string:{host.directory}/backup",),
            "ImportVirtualMachine": ("string:web", 'string:{"format":1}')}.items():
        e = error(host, member, *args, user=NOBODY)
        assert e.name == "org.freedesktop.DBus.Error.AccessDenied", member
    assert host.get("web", "Class") == "bronze" and not manager(host, "Frozen")
    for member, args in {"Explain": ("su", "web", 3), "GetUsage": ("tts", 0, 0, ""),
                         "ExportVirtualMachine": ("s", "web")}.items():
        host.bus.busctl("call", "org.cpupolicy1", ROOT, MANAGER, member, *args, user=NOBODY)


# ---- bounds ----

def test_the_limit_is_explained_as_it_is_refused(host):
    host.vmm("web", possible=8, boot=2)
    count, target, bound, refused, rules = explain(host, "web", 7)
    assert (count, target, bound, refused) == (7, 2, "none", "sla-limit")
    _, outcome, who, asked, permitted, _, sentence = rules["sla-limit"]
    assert (outcome, who, asked, permitted) == ("refuses", "bronze", 7, 6)
    e = error(host, "SetVcpuCount", "string:web", "uint32:7")
    assert (e.name, e.message) == (ERROR + "SlaLimit", sentence)
    told = host.cpuctl("explain", "web", "7", check=False)
    assert told.returncode == REFUSED and sentence in told.stdout
    assert host.get("web", "Desired") == 2


def test_explain_what_is_desired(host):
    host.vmm("web", possible=8, boot=3)
    count, target, bound, refused, rules = explain(host, "web")
    assert (count, target, bound, refused) == (3, 3, "none", "none")
    assert len(rules) == 12 and {row[1] for row in rules.values()} == {"passes"}
    assert rules["host-capacity"][3:6] == [3, 16, 0]
    assert rules["plug-rate"][4] == 2 ** 64 - 1, "no bound"
    told = cpuctl_json(host, "explain", "web")
    assert told["count"] == 3 and told["refused"] == "none"
    assert [r["rule"] for r in told["rules"]] == list(rules)
    assert error(host, "Explain", "string:nix", "uint32:1").name == ERROR + "NoSuchVm"


def test_the_guarantee_is_reserved(host):
    host.vmm("acme-db1", possible=8, boot=4)
    host.vmm("acme-db2", possible=8, boot=4)
    with pytest.raises(wire.Refused) as refusal:
        host.vmm("acme-db3", possible=8, boot=4)
    assert refusal.value.code == wire.ERR_LIMIT
    assert "acme" in refusal.value.text and "2 are free" in refusal.value.text
    for name in ("x1", "x2", "x3", "x4"):
        host.vmm(name, boot=1)
    assert manager(host, "Reserved") == 16
    with pytest.raises(wire.Refused) as refusal:
        host.vmm("x5", boot=1)
    assert "of the host's 16 vCPUs 16 are reserved" in refusal.value.text
    assert not host.known("x5")


def test_a_vm_that_reconnects_is_never_refused(host):
    vmm = host.vmm("acme-db1", possible=8, boot=4)
    host.daemon.write_policy({**POLICY, "host": {"capacity": {"cpus": 1}}})
    host.cpuctl("reload")
    assert manager(host, "Capacity") == 1
    host.daemon.restart_killed()
    again = host.connect()
    again.hello()
    again.register("acme-db1", uuid=vmm.uuid, token=vmm.token, possible=8, boot=4,
                   vcpus={i: wire.ONLINE | wire.ACKED for i in range(4)})
    assert host.get("acme-db1", "Enabled") == 4


def test_burst_waits_for_room(host):
    """And who asks is told what for, until it is there."""
    db = host.vmm("acme-db1", possible=8, boot=4)
    webs = [host.vmm(f"web{i}", possible=8, boot=2) for i in range(3)]
    host.resize("acme-db1", 8)
    for i in range(4, 8):
        db.plug(i)
    setting = Process([paths.cpuctl(), *host.cpuctl_bus(), "set", "web0", "6"],
                      host.directory / "set.log", env=host.bus.env())
    for i in (2, 3):
        webs[0].plug(i)
    host.wait_prop("web0", "TargetReason", "host-capacity")
    seen = host.show("web0")
    assert [seen[p] for p in ("Desired", "Target", "Allowance", "Waiting")] == [6, 4, 4, True]
    setting.wait_log("waiting for room: of the host's 16 vCPUs other VMs hold 12: VM web0 waits")
    assert explain(host, "web0")[2:4] == ("host-capacity", "none")
    assert manager(host, "Occupied") == 16
    job = host.get("web0", "Job")
    host.resize("acme-db1", 4)
    for i in range(7, 3, -1):
        db.unplug(i)
    for i in (4, 5):
        webs[0].plug(i)
    assert setting.wait(60) == 0, setting.log()
    assert host.job_result("web0", job)["result"] == "done"
    seen = host.show("web0")
    assert [seen[p] for p in ("Target", "TargetReason", "Waiting")] == [6, "none", False]


def test_who_has_priority_takes_burst_back(host):
    """What the borrower still holds meanwhile is overdue, and seen."""
    webs = [host.vmm(f"web{i}", possible=8, boot=2) for i in range(2)]
    db = host.vmm("acme-db1", possible=8, boot=4)
    for vm in webs:
        host.resize(f"web{webs.index(vm)}", 6)
        for i in range(2, 6):
            vm.plug(i)
    assert manager(host, "Occupied") == 16
    host.resize("acme-db1", 6)
    host.wait_prop("acme-db1", "TargetReason", "host-capacity")
    for name in ("web0", "web1"):
        host.wait_prop(name, "Target", 5)
        assert host.get(name, "TargetReason") == "host-capacity"
        assert host.get(name, "Overdue") == 1 and host.get(name, "OverdueSet") == "5"
    assert (manager(host, "Overdue"), manager(host, "Held")) == (2, 16)
    assert {r["name"]: r["overdue"] for r in cpuctl_json(host, "list")} == \
        {"web0": 1, "web1": 1, "acme-db1": 0}
    webs[0].unplug(5)
    db.wait_enabled(set(range(5)))
    webs[1].unplug(5)
    db.wait_enabled(set(range(6)))
    host.wait_prop("acme-db1", "TargetReason", "none")
    assert manager(host, "Overdue") == 0


def test_the_quota_of_a_tenant(host):
    host.vmm("acme-db1", possible=8, boot=4)
    host.vmm("acme-web", possible=8, boot=2)
    host.resize("acme-db1", 8)
    host.resize("acme-web", 3)
    host.wait_prop("acme-web", "TargetReason", "tenant-quota")
    tenants = {t["name"]: t for t in cpuctl_json(host, "tenants")}
    assert tenants["acme"] == {"name": "acme", "quota": 10, "reserved": 6, "guaranteed": 6,
                               "allowed": 10, "held": 10, "occupied": 10, "overdue": 0}
    assert tenants["free"]["quota"] is None
    assert manager(host, "Tenants")[0][:3] == ["acme", 10, 6]
    call(host, "AssignTenant", "ss", "acme-web", "free")
    host.wait_prop("acme-web", "TargetReason", "none")
    host.wait_prop("acme-web", "Enabled", 3)


# ---- credit ----

def is_initial(balance):
    """Before what it has at start is durable, a VM has nothing, and earns."""
    return 2 * SECOND <= balance < 3 * SECOND


def test_credit_is_spent_and_owed(host):
    vmm = host.vmm("metered", possible=8, boot=2)
    path, monitor = host.path("metered"), host.bus.monitor()
    seen = host.show("metered")
    assert is_initial(seen["Credit"])
    assert [seen[p] for p in ("CreditState", "CreditRate", "CreditCap")] == \
        ["available", 0, 100 * SECOND]
    host.resize("metered", 6)
    for i in range(2, 6):
        vmm.plug(i)
    assert host.get("metered", "CreditRate") == -4
    host.wait_prop("metered", "TargetReason", "burst-credit")
    # the guest keeps what it cannot pay for
    wait_for(lambda: host.get("metered", "Credit") < -SECOND, "it owes")
    seen = host.show("metered")
    assert [seen[p] for p in ("Target", "CreditState", "Overdue")] == [2, "owed", 4]
    changed = monitor.wait("PropertiesChanged", lambda a: a[1].get("CreditState", {}).get("data") in
                           ("spent", "owed"), path=path)[1]
    assert "Credit" in changed
    sentence = explain(host, "metered")[4]["burst-credit"][6]
    assert "out of burst credit" in sentence and "until it has earned 1" in sentence
    assert "owed" in host.cpuctl("show", "metered")
    for i in range(5, 1, -1):
        vmm.unplug(i)
    host.wait_prop("metered", "Enabled", 2)
    assert host.get("metered", "CreditRate") == 0, "at its guarantee it neither earns nor spends"
    host.resize("metered", 1)
    vmm.unplug(1)
    host.wait_prop("metered", "CreditRate", 1)
    host.wait_prop("metered", "CreditState", "spent")
    host.wait_prop("metered", "CreditState", "available")
    assert host.get("metered", "Credit") >= SECOND


def test_unmetered_classes_have_no_credit(host):
    host.vmm("web", boot=4)
    seen = host.show("web")
    assert [seen[p] for p in ("CreditState", "CreditRate", "CreditCap")] == ["unmetered", 0, 0]
    assert "not metered" in host.cpuctl("show", "web")


def test_credit_moves_with_a_vm(host, make_host):
    there = make_host(policy=POLICY)
    vmm = host.vmm("metered", possible=8, boot=2)
    call(host, "AssignTenant", "ss", "metered", "free")
    host.resize("metered", 6)
    for i in range(2, 6):
        vmm.plug(i)
    wait_for(lambda: host.get("metered", "Credit") < 0, "it owes")
    vmm.unregister()
    host.wait_prop("metered", "State", "stopped")
    left = host.get("metered", "Credit")
    state = host.cpuctl("export", "metered")
    assert json.loads(state) == {"format": 1, "name": "metered", "uuid": str(vmm.uuid), "tenant": "free",
                                 "credit": {"balance_ns": left, "spent": True}}
    there.vmm("metered", possible=8, boot=2, uuid=vmm.uuid)
    assert is_initial(there.get("metered", "Credit"))
    (there.directory / "state.json").write_text(state, encoding="ascii")
    there.cpuctl("import", "metered", there.directory / "state.json")
    seen = there.show("metered")
    assert [seen[p] for p in ("Credit", "CreditState", "Tenant")] == [left, "owed", "free"]
    there.daemon.restart_killed()
    assert there.get("metered", "Credit") <= left, "it is durable"


def test_a_vm_that_migrates_is_exported_before_its_vmm_ends(host):
    vmm = host.vmm("metered", possible=8, boot=2)
    vmm.run_state(wire.INACTIVE)
    host.wait_prop("metered", "State", "incoming")
    assert json.loads(host.cpuctl("export", "metered"))["credit"]["balance_ns"] > 0
    vmm.unregister(wire.MIGRATED)
    wait_for(lambda: not host.known("metered"), "it is forgotten")
    assert "there is no VM" in host.cpuctl("export", "metered", check=False).stderr


@pytest.mark.parametrize("state,says", [
    ("", "state:1:"), ("{}", "format"), ('{"format": 2}', "state:1:12: format: expected an integer"),
    ('{"format": 1, "more": 1}', "more: unknown key"), ("[1]", "an object"),
    ('{"format": 1, "credit": {"balance_ns": 1}}', "credit: expected spent"),
    ('{"format": 1, "credit": {"balance_ns": 1.5, "spent": false}}', "an integer from -115"),
    ('{"format": 1, "class": 7}', "class"),
])
def test_states_that_are_wrong(host, state, says):
    host.vmm("metered", possible=8, boot=2)
    e = error(host, "ImportVirtualMachine", "string:metered", f"string:{state}")
    assert e.name == "org.freedesktop.DBus.Error.InvalidArgs" and says in e.message
    assert is_initial(host.get("metered", "Credit"))


def test_imports_are_whole_or_nothing(host):
    host.vmm("metered", possible=8, boot=2)
    state = {"format": 1, "class": "nix", "credit": {"balance_ns": 5, "spent": False}}
    e = error(host, "ImportVirtualMachine", "string:metered", f"string:{json.dumps(state)}")
    assert e.name == ERROR + "NoSuchClass"
    assert is_initial(host.get("metered", "Credit"))


# ---- operators ----

def test_freeze(host):
    vmm = host.vmm("web", possible=8, boot=2)
    monitor = host.bus.monitor()
    host.cpuctl("freeze")
    assert manager(host, "Frozen") is True and manager(host, "FrozenUid") == 0
    monitor.wait("PropertiesChanged", lambda a: a[1].get("Frozen", {}).get("data") is True, path=ROOT)
    e = error(host, "SetVcpuCount", "string:web", "uint32:4")
    assert e.name == ERROR + "Frozen"
    assert explain(host, "web", 4)[3] == "frozen"
    assert host.cpuctl("set", "web", "4", check=False).returncode == REFUSED
    with pytest.raises(wire.Refused):
        host.vmm("new")
    host.daemon.restart_killed()
    assert manager(host, "Frozen") is True, "it is durable"
    again = host.connect()
    again.hello()
    again.register("web", uuid=vmm.uuid, token=vmm.token, possible=8, boot=2,
                   vcpus={i: wire.ONLINE | wire.ACKED for i in range(2)})
    assert "Frozen" in host.cpuctl("host")
    host.cpuctl("thaw")
    assert manager(host, "Frozen") is False
    host.cpuctl("set", "web", "4", "--no-wait")
    again.wait_enabled({0, 1, 2, 3})


def test_drain(host):
    vmm = host.vmm("web", possible=8, boot=2)
    host.resize("web", 5)
    for i in range(2, 5):
        vmm.plug(i)
    host.cpuctl("drain")
    assert manager(host, "Drained") is True
    vmm.wait_wanted({0, 1})
    assert [host.get("web", p) for p in ("Target", "TargetReason")] == [2, "drained"]
    with pytest.raises(wire.Refused) as refusal:
        host.vmm("new")
    assert "drain" in refusal.value.text
    for i in range(4, 1, -1):
        vmm.unplug(i)
    host.wait_prop("web", "Enabled", 2)
    host.cpuctl("undrain")
    vmm.wait_enabled(set(range(5)))
    host.vmm("new")


def test_a_bad_reload_changes_nothing_and_says_why(host):
    host.vmm("web", possible=8, boot=2)
    text = json.dumps(POLICY, indent=1).replace('"limit": 6', '"limit": 7').replace(
        '"priority": 50', '"priority": 500')
    line = next(i for i, t in enumerate(text.split("\n"), 1) if "priority" in t)
    host.daemon.write_policy(text)
    e = error(host, "Reload")
    assert e.name == ERROR + "InvalidPolicy"
    assert f"policy.json:{line}:" in e.message and "classes.gold.priority" in e.message
    assert host.get("web", "Limit") == 6
    told = host.cpuctl("reload", check=False)
    assert told.returncode == INVALID_POLICY and f"policy.json:{line}:" in told.stderr


@pytest.mark.parametrize("how", ["cpuctl", "signal"])
def test_reload(host, how):
    host.vmm("web", possible=8, boot=2)
    path, monitor = host.path("web"), host.bus.monitor()
    policy = json.loads(json.dumps(POLICY))
    policy["classes"]["bronze"].update(limit=7, priority=3)
    policy["host"]["capacity"]["cpus"] = 20
    policy["tenants"]["new"] = {"quota": 3}
    host.daemon.write_policy(policy)
    if how == "cpuctl":
        host.cpuctl("reload")
    else:
        host.daemon.process.signal(signal.SIGHUP)
    changed = monitor.wait("PropertiesChanged", lambda a: "Limit" in a[1], path=path)[1]
    assert (changed["Limit"]["data"], changed["Priority"]["data"]) == (7, 3)
    changed = monitor.wait("PropertiesChanged", lambda a: "Classes" in a[2], path=ROOT)
    assert changed[1]["Capacity"]["data"] == 20 and "Tenants" in changed[2]
    assert {c["name"]: c["limit"] for c in cpuctl_json(host, "classes")}["bronze"] == 7
    assert "new" in [t["name"] for t in cpuctl_json(host, "tenants")]


def test_a_class_that_is_gone_is_assigned_still(host):
    host.vmm("web")
    host.cpuctl("assign", "web", "metered")
    policy = json.loads(json.dumps(POLICY))
    del policy["classes"]["metered"], policy["rules"][2]
    host.daemon.write_policy(policy)
    host.cpuctl("reload")
    assert choice(host, "web", "Class") == ("bronze", "default", 0, "metered")
    assert "does not have" in host.cpuctl("show", "web")
    host.daemon.write_policy(POLICY)
    host.cpuctl("reload")
    assert choice(host, "web", "Class")[:2] == ("metered", "assignment")


def test_observed_classes_deny_nothing(make_host):
    policy = json.loads(json.dumps(POLICY))
    policy["classes"]["bronze"]["observe"] = True
    host = make_host(policy=policy)
    vmm = host.vmm("web", possible=8, boot=2)
    assert host.get("web", "Observe") is True and manager(host, "Observe") is False
    monitor = host.bus.monitor()
    assert vmm.ask(5)[0] == wire.SUCCESS
    assert monitor.wait("Denied")[:4] == [5, "not-enabled", 1, False]
    assert next(c for c in cpuctl_json(host, "classes") if c["name"] == "bronze")["observe"] is True


def test_denials_name_the_rule(host):
    vmm = host.vmm("web", possible=8, boot=2)
    host.vmm("acme-db1", possible=8, boot=4)
    host.vmm("acme-db2", possible=8, boot=4)
    host.vmm("other", possible=8, boot=2)
    host.vmm("more", possible=8, boot=2)
    host.resize("web", 5)
    host.wait_prop("web", "TargetReason", "host-capacity")
    monitor = host.bus.monitor()
    assert vmm.ask(4)[0] == wire.DENIED
    assert monitor.wait("Denied") == [4, "not-enabled", 1, True, "host-capacity"]


def test_watch_tells_of_it(host):
    vmm = host.vmm("web", possible=8, boot=2)
    for name in ("acme-db1", "acme-db2"):
        host.vmm(name, possible=8, boot=4)
    for name in ("x1", "x2"):
        host.vmm(name, boot=2)
    watching = Process([paths.cpuctl(), *host.cpuctl_bus(), "watch", "web", "--json"],
                       host.directory / "watch.log", env=host.bus.env())
    watching.wait_log('"present"')

    def wait_event(event, **members):
        def told():
            lines = [json.loads(t) for t in watching.log().split("\n")[:-1]]
            return [e for e in lines if e["event"] == event and members.items() <= e.items()]
        wait_for(told, f"watch tells {event} {members}")
    host.resize("web", 5)
    wait_event("target", count=4, desired=5, reason="host-capacity")
    vmm.denied(4)
    wait_event("denied", vcpu=4, reason="not-enabled", rule="host-capacity")
    host.cpuctl("assign", "web", "--tenant", "free")
    wait_event("tenant", **{"from": None, "to": "free"})
    host.cpuctl("assign", "web", "metered")
    host.resize("web", 4)
    wait_event("class", **{"from": "bronze", "to": "metered"})
    watching.kill()


def test_the_host_as_a_whole(host):
    assert cpuctl_json(host, "host") == {
        "version": manager(host, "Version"), "virtual_machines": 0, "connected": 0, "capacity": 16,
        "cpus": manager(host, "Cpus"), "reserved": 0, "guaranteed": 0, "allowed": 0, "held": 0,
        "occupied": 0, "overdue": 0, "observe": False, "frozen": False, "frozen_uid": None,
        "drained": False, "drained_uid": None}
    monitor = host.bus.monitor()
    host.vmm("acme-db1", possible=8, boot=6)
    changed = monitor.wait("PropertiesChanged", lambda a: "Reserved" in a[1], path=ROOT)[1]
    assert {k: v["data"] for k, v in changed.items() if k in ("Reserved", "Guaranteed", "Allowed")} \
        == {"Reserved": 4, "Guaranteed": 4, "Allowed": 6}
    assert [manager(host, p) for p in ("Held", "Occupied", "Overdue")] == [6, 6, 0]
    text = host.cpuctl("host")
    assert "16 vCPUs, 10 free" in text and "6: 4 guaranteed, 2 burst" in text


# ---- usage ----

def usage(host, *args):
    told = cpuctl_json(host, "usage", *args)
    return {(r["tenant"], r["vm"], r["class"]): (r["guaranteed_ns"], r["burst_ns"])
            for r in told["rows"]}, told


def test_usage_is_the_integral_of_what_was_enabled(host):
    begin = time.monotonic_ns()
    host.vmm("acme-db1", possible=8, boot=6)
    registered = time.monotonic_ns()

    def used():
        """The query that first finds more is the one that had it written; others may be a second behind."""
        asked = time.monotonic_ns()
        rows, told = usage(host)
        return (asked, rows, told) if rows[("acme", "acme-db1", "gold")][0] > 2 * SECOND else None
    before, rows, told = wait_for(used, "it is used")
    after = time.monotonic_ns()
    guaranteed, burst = rows[("acme", "acme-db1", "gold")]
    assert 4 * (before - registered) - SECOND // 10 <= guaranteed <= 4 * (after - begin)
    # two of six are above it, from when all six were durable
    assert 0 <= guaranteed - burst * 2 < SECOND // 2
    assert host.get("acme-db1", "UsedGuaranteed") >= guaranteed
    # 36 and 72 an hour are 0.01 and 0.02 a second
    cost = (guaranteed * 36 + burst * 72) * 10 ** 6 // (3600 * SECOND)
    shown = f"{cost // 10 ** 6}.{cost % 10 ** 6:06}"
    assert float(told["rows"][0]["cost"]) == float(shown)
    assert told["total"] == {"guaranteed_ns": guaranteed, "burst_ns": burst,
                             "cost": told["rows"][0]["cost"]}


def test_usage_by_class_and_tenant(host):
    host.vmm("acme-web", boot=2)
    host.vmm("web", boot=2)
    wait_for(lambda: usage(host)[0][("acme", "acme-web", "bronze")][0] > 0, "it is used")
    host.cpuctl("assign", "acme-web", "gold")
    host.cpuctl("assign", "acme-web", "--tenant", "free")
    wait_for(lambda: ("free", "acme-web", "gold") in usage(host)[0], "its rows are cut")
    rows, told = usage(host)
    assert ("acme", "acme-web", "gold") in rows and (None, "web", "bronze") in rows
    assert next(r for r in told["rows"] if r["vm"] == "web")["cost"] is None, "no price"
    assert {k[0] for k in usage(host, "--tenant", "acme")[0]} == {"acme"}
    assert {k[1] for k in usage(host, "--tenant", "")[0]} == {"web"}
    assert usage(host, "--tenant", "nix")[0] == {}
    assert usage(host, "--since", "2100-01")[0] == {}
    assert usage(host, "--until", "2000-01")[0] == {}
    assert usage(host, "--since", "-1h", "--until", "2100-01")[0].keys() == rows.keys()
    lines = list(csv.DictReader(host.cpuctl("usage", "--hours", "--csv").splitlines()))
    assert {(r["tenant"], r["vm"], r["class"]) for r in lines} == \
        {(k[0] or "", k[1], k[2]) for k in rows}
    assert all(r["begin"].endswith("Z") and len(r["guaranteed_seconds"].split(".")[1]) == 9
               for r in lines)
    text = host.cpuctl("usage").splitlines()
    assert text[0].split() == ["TENANT", "VM", "CLASS", "GUARANTEED", "BURST", "COST"]
    assert text[-1].startswith("TOTAL")


def test_usage_survives_what_ends_it(host):
    vmm = host.vmm("web", boot=2)
    host.resize("web", 2)  # so that it is remembered when it has ended
    key = (None, "web", "bronze")
    wait_for(lambda: usage(host)[0][key][0] > SECOND // 2, "it is used")
    told = usage(host)[0][key]
    host.daemon.restart_killed()
    assert usage(host)[0][key] >= told, "what was told is not taken back"
    vmm.close()
    again = host.connect()
    again.hello()
    again.register("web", uuid=vmm.uuid, token=vmm.token, boot=2,
                   vcpus={i: wire.ONLINE | wire.ACKED for i in range(2)})
    again.unregister()
    host.wait_prop("web", "State", "stopped")
    ended = usage(host)[0][key]
    host.cpuctl("forget", "web")
    assert usage(host)[0][key] == ended, "the bill is not forgotten"
    host.daemon.restart_killed()
    assert usage(host)[0][key] == ended, "and nothing is billed twice"


def test_questions_about_usage_that_are_wrong(host):
    e = error(host, "GetUsage", "uint64:2", "uint64:1", "string:")
    assert e.name == "org.freedesktop.DBus.Error.InvalidArgs"
    assert host.cpuctl("usage", "--since", "whenever", check=False).returncode == 1


def test_much_usage(host):
    """It is added up in the daemon; what is too much for one answer is not tried."""
    host.vmm("web", boot=2)
    host.daemon.stop()
    (path,) = (p for p in host.daemon.state.iterdir() if p.suffix in (".db", ".sqlite"))
    hours, uuid, name = 50000, bytes(range(16)), "x" * 255
    with sqlite3.connect(path) as db:
        db.executemany(
            "INSERT INTO usage (uuid, number, began, ended, name, class, guaranteed_ns, burst_ns) "
            "VALUES (?, ?, ?, ?, ?, 'gold', 7, 1)",
            ((uuid, n + 1, n * 3600 * SECOND, (n + 1) * 3600 * SECOND, name) for n in range(hours)))
    db.close()
    host.daemon.start()
    rows = [r for r in call(host, "GetUsage", "tts", 0, 0, "")[0] if r[1] == name]
    assert [r[6:] for r in rows] == [[7 * hours, hours, hours]]
    e = error(host, "GetUsageHours", "uint64:0", "uint64:0", "string:")
    assert e.name == "org.freedesktop.DBus.Error.LimitsExceeded"
    rows = call(host, "GetUsageHours", "tts", 7200 * 10 ** 6, 3600 * 1000 * 10 ** 6, "/")[0]
    assert len(rows) == 998 and rows[0][4:] == [7200 * 10 ** 6, 10800 * 10 ** 6, 7, 1, 3]


def test_odd_names_in_csv(host):
    name = 'a,"b" =c'
    host.vmm(name, boot=1)
    rows = csv.DictReader(host.cpuctl("usage", "--csv").splitlines(), strict=True)
    assert [r["vm"] for r in rows] == [name]


# ---- backup ----

def test_backup(host):
    host.vmm("web", possible=8, boot=2)
    host.resize("web", 5)
    path = host.directory / "backup.db"
    host.cpuctl("backup", "backup.db", cwd=host.directory)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert "usage" in tables, tables
    assert path.stat().st_mode & 0o777 == 0o600
    e = error(host, "Backup", f"string:{path}")
    assert e.name == ERROR + "FileExists"
    assert host.cpuctl("backup", path, check=False).returncode == REFUSED
    e = error(host, "Backup", "string:relative")
    assert e.name == "org.freedesktop.DBus.Error.InvalidArgs"
    assert error(host, "Backup", "string:/nonexistent/x").name == ERROR + "Storage"


# ---- every VM's own copy of it ----

def test_managed_objects_have_it_all(host):
    host.vmm("acme-db1", possible=8, boot=4)
    seen = host.bus.managed_objects()[host.path("acme-db1")][VM]
    listed = cpuctl_json(host, "list")[0]
    assert listed["class"] == seen["Class"] == "gold"
    assert listed["tenant"] == "acme" and listed["assigned_class"] is None
    assert (listed["guaranteed"], listed["limit"], listed["priority"]) == (4, 8, 50)
    line = host.cpuctl("list").splitlines()[1].split()
    assert line == ["acme-db1", "running", "acme", "gold", "psci", "8", "4", "4", "4", "1", "0", "0"]
