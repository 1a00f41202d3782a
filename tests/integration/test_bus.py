# SPDX-License-Identifier: GPL-2.0-or-later
"""The D-Bus API as busctl alone sees it."""

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree

from cpupolicy_test import wire
from cpupolicy_test.bus import JOB, MANAGER, NAME, ROOT, VM
from cpupolicy_test.wait import wait_for

NOBODY = 65534
MANAGER_MEMBERS = {
    "SetVcpuCount": ("su", "o"), "SetCpuMillis": ("su", "o"), "RegisterProvider": ("so", ""),
    "OpenVmm": ("sa{sv}", "h"), "Announce": ("a(ssa{sv})", ""), "Withdraw": ("as", ""), "Providers": "as",
    "ListVirtualMachines": ("", "a(ssso)"),
    "GetVirtualMachine": ("s", "o"), "ListJobs": ("", "a(tsuuo)"),
    "ListAnnouncements": ("", "a(sss)"), "Forget": ("s", ""),
    "AssignClass": ("ss", ""), "AssignTenant": ("ss", ""), "Explain": ("su", "uussa(sssttts)"),
    "Freeze": ("b", ""), "Drain": ("b", ""), "Reload": ("", ""), "Backup": ("s", ""),
    "GetUsage": ("tts", "a(ssssttttt)"), "GetUsageHours": ("tts", "a(ssssttttt)"),
    "ExportVirtualMachine": ("s", "s"), "ImportVirtualMachine": ("ss", ""),
    "VirtualMachineNew": "sso", "VirtualMachineRemoved": "sso", "JobNew": "tos",
    "JobRemoved": "toss", "Version": "s", "VirtualMachines": "u", "Connected": "u",
    "Capacity": "u", "Cpus": "u", "Reserved": "t", "Guaranteed": "t", "Allowed": "t", "Held": "t",
    "Occupied": "t", "Overdue": "t", "Observe": "b", "Frozen": "b", "FrozenUid": "u",
    "Drained": "b", "DrainedUid": "u", "Classes": "a(suuubxxxbbtt)", "Tenants": "a(sutttttt)",
}
VM_PROPERTIES = {
    "Name": "s", "Uuid": "s", "State": "s", "Possible": "u", "Boot": "u",
    "Class": "s", "ClassSource": "s", "ClassRule": "u", "Tenant": "s", "TenantSource": "s",
    "TenantRule": "u", "AssignedClass": "s", "AssignedTenant": "s", "AssignedUid": "u",
    "Guaranteed": "u", "Limit": "u", "Priority": "u", "TargetReason": "s", "Allowance": "u",
    "Entitled": "u", "Waiting": "b", "Credit": "x", "CreditState": "s", "CreditRate": "i",
    "CreditCap": "x", "UsedGuaranteed": "t", "UsedBurst": "t", "Desired": "u", "Target": "u", "Enabled": "u", "Online": "u", "Overdue": "u",
    "DesiredUid": "u", "EnabledSet": "s", "OnlineSet": "s", "PendingSet": "s", "OverdueSet": "s",
    "Generation": "u", "Confirmed": "u", "Observe": "b", "Notifiable": "b", "BootRemovable": "b",
    "AnnouncedClass": "s", "AnnouncedTenant": "s", "Provider": "s", "Enforcement": "s",
    "Realm": "b", "CpuMillis": "u", "Quota": "u", "QuotaState": "s", "CpuTime": "t", "CpuGranted": "t",
    "Denied": "t", "VmmUid": "u", "VmmPid": "u", "Vcpus": "a(ubbbbbsu)", "Job": "o",
    "LastJob": "(tuusbu)",
}


def interface(host, path, name):
    xml = json.loads(host.bus.busctl("--json=short", "call", NAME, path,
                                     "org.freedesktop.DBus.Introspectable", "Introspect"))["data"][0]
    return next(i for i in ElementTree.fromstring(xml).iter("interface") if i.get("name") == name)


def signature(member, direction=None):
    return "".join(a.get("type") for a in member.iter("arg")
                   if direction is None or a.get("direction", "in") == direction)


def test_introspection_of_the_manager(host):
    seen = {}
    for member in interface(host, ROOT, MANAGER):
        if member.tag == "method":
            seen[member.get("name")] = (signature(member, "in"), signature(member, "out"))
        elif member.tag == "signal":
            seen[member.get("name")] = signature(member)
        elif member.tag == "property":
            seen[member.get("name")] = member.get("type")
    assert seen == MANAGER_MEMBERS
    out = host.bus.busctl("introspect", NAME, ROOT)
    assert ".SetVcpuCount" in out and "org.freedesktop.DBus.ObjectManager" in out


def test_arguments_have_names(host):
    method = next(m for m in interface(host, ROOT, MANAGER) if m.get("name") == "SetVcpuCount")
    assert [a.get("name") for a in method.iter("arg")] == ["vm", "count", "job"]


def test_introspection_of_a_vm(host):
    host.vmm("web")
    face = interface(host, host.path("web"), VM)
    assert {p.get("name"): p.get("type") for p in face.iter("property")} == VM_PROPERTIES
    assert [m.get("name") for m in face.iter("method")] == ["SetVcpuCount", "SetCpuMillis"]
    denied = next(m for m in face.iter("signal"))
    assert (denied.get("name"), signature(denied)) == ("Denied", "usubs")
    for prop in VM_PROPERTIES:
        assert f".{prop} " in host.bus.busctl("introspect", NAME, host.path("web"))


def test_tree_shows_vms_and_jobs(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    tree = host.bus.busctl("tree", "--list", NAME).split()
    assert ROOT in tree and host.path("web") in tree and job in tree
    assert host.bus.get(job, JOB, "VirtualMachine") == host.path("web")
    assert [host.bus.get(job, JOB, p) for p in ("From", "To", "Uid", "Refused")] == [4, 5, 0, 0]
    vmm.plug(4)
    host.job_result("web", job)
    wait_for(lambda: job not in host.bus.busctl("tree", "--list", NAME).split(), "the job is gone")


def test_lists(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.vmm("db")
    job = host.resize("web", 5)
    rows = host.bus.call_json(ROOT, MANAGER, "ListVirtualMachines")[0]
    assert ["web", str(vmm.uuid), "running", host.path("web")] in rows and len(rows) == 2
    assert host.bus.call_json(ROOT, MANAGER, "ListJobs")[0] == \
        [[int(job.rsplit("/", 1)[1]), "web", 4, 5, job]]
    assert host.bus.get(ROOT, MANAGER, "VirtualMachines") == 2
    assert host.bus.get(ROOT, MANAGER, "Connected") == 2
    assert host.bus.get(ROOT, MANAGER, "Version")
    assert host.bus.call_json(ROOT, MANAGER, "GetVirtualMachine", "s", str(vmm.uuid))[0] == \
        host.path("web")


def test_object_manager(host):
    monitor = host.bus.monitor()
    vmm = host.vmm("web", possible=6, boot=4)
    path = host.path("web")
    added = monitor.wait("InterfacesAdded", lambda a: a[0] == path)
    assert VM in added[1] and added[1][VM]["Name"]["data"] == "web"
    job = host.resize("web", 5)
    assert JOB in monitor.wait("InterfacesAdded", lambda a: a[0] == job)[1]
    objects = host.bus.managed_objects()
    assert set(objects) == {path, job}
    assert objects[path][VM]["Possible"] == 6
    vmm.plug(4)
    assert JOB in monitor.wait("InterfacesRemoved", lambda a: a[0] == job)[1]
    vmm.unregister()
    host.wait_prop("web", "State", "stopped")
    host.bus.call_json(ROOT, MANAGER, "Forget", "s", "web")
    assert VM in monitor.wait("InterfacesRemoved", lambda a: a[0] == path)[1]
    assert host.bus.managed_objects() == {}


def test_signals_of_a_vms_life(host):
    monitor = host.bus.monitor()
    vmm = host.vmm("web", possible=6, boot=4)
    path, uuid = host.path("web"), str(vmm.uuid)
    assert monitor.wait("VirtualMachineNew") == ["web", uuid, path]
    vmm.unregister()
    assert monitor.wait("VirtualMachineRemoved") == ["web", uuid, path]


def test_properties_changed(host):
    vmm = host.vmm("web", possible=6, boot=4)
    path = host.path("web")
    monitor = host.bus.monitor()
    vmm.online(2)
    changed = monitor.wait("PropertiesChanged", lambda a: "OnlineSet" in a[1], path=path)
    assert changed[0] == VM
    assert changed[1]["OnlineSet"]["data"] == "0,2" and changed[1]["Online"]["data"] == 2
    assert "Vcpus" in changed[2], "told to be fetched again"
    host.resize("web", 5)
    monitor.wait("PropertiesChanged", lambda a: a[1].get("Enabled", {}).get("data") == 5, path=path)
    vmm.run_state(wire.PAUSED)
    monitor.wait("PropertiesChanged",
                 lambda a: a[1].get("State", {}).get("data") == "paused", path=path)


def test_changes_are_gathered(host):
    vmm = host.vmm("web", possible=6, boot=4)
    path = host.path("web")
    monitor = host.bus.monitor()
    for i in range(5000):
        vmm.power(1, wire.ON if i % 2 == 0 else wire.OFF, i % 2 == 0, reply=False)
    vmm.online(5)
    monitor.wait("PropertiesChanged",
                 lambda a: "5" in a[1].get("OnlineSet", {}).get("data", ""), path=path)
    assert len(monitor.signals("PropertiesChanged", path)) < 1000


def test_vcpus_property(host):
    vmm = host.vmm("web", possible=6, boot=4)
    vmm.online(1)
    vmm.denied(5)
    rows = host.get("web", "Vcpus")
    assert [r[0] for r in rows] == list(range(6))
    index, enabled, wanted, acknowledged, online, overdue, reason, denied = rows[1]
    assert (index, enabled, wanted, acknowledged, online, overdue, denied) == \
        (1, True, True, True, True, False, 0)
    assert reason == "granted"
    assert rows[5][1:6] == [False] * 5 and rows[5][6:] == ["not-enabled", 1]


def test_reading_is_for_all_and_changing_is_not(host):
    host.vmm("web", possible=6, boot=4)
    out = host.bus.busctl("--json=short", "get-property", NAME, host.path("web"), VM, "Enabled",
                          user=NOBODY)
    assert json.loads(out)["data"] == 4
    for member, args in (("SetVcpuCount", ("string:web", "uint32:5")), ("Forget", ("string:web",))):
        e = host.bus.error_of(ROOT, MANAGER, member, *args, user=NOBODY)
        assert e.name == "org.freedesktop.DBus.Error.AccessDenied"
        assert str(NOBODY) in e.message
    e = host.bus.error_of(host.path("web"), VM, "SetVcpuCount", "uint32:5", user=NOBODY)
    assert e.name == "org.freedesktop.DBus.Error.AccessDenied"
    assert host.get("web", "Desired") == 4


def test_unknown_objects_and_arguments(host):
    host.vmm("web")
    e = host.bus.error_of(ROOT, MANAGER, "GetVirtualMachine", "string:nobody")
    assert e.name == "org.cpupolicy1.Error.NoSuchVm"
    e = host.bus.error_of(ROOT + "/job/999", "org.freedesktop.DBus.Properties", "GetAll",
                          f"string:{JOB}")
    assert e.name.startswith("org.freedesktop.DBus.Error.Unknown")
    e = host.bus.error_of(ROOT, MANAGER, "SetVcpuCount", "string:web")
    assert e.name == "org.freedesktop.DBus.Error.InvalidArgs"


def test_bus_that_goes_away_and_returns(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.bus.stop()
    assert vmm.ask(1) == (wire.SUCCESS, "granted"), "verdicts need no bus"
    assert vmm.ask(5)[0] == wire.DENIED
    vmm.online(3)
    newcomer = host.vmm("newcomer", boot=2)
    assert newcomer.page.enabled() == {0, 1}
    host.bus.start()
    wait_for(host.bus.has_owner, "the daemon is on the bus again", 30)
    assert host.show("web")["OnlineSet"] == "0,3"
    assert host.show("newcomer")["Enabled"] == 2
    monitor = host.bus.monitor()
    job = host.resize("web", 5)
    vmm.plug(4)
    assert monitor.wait("JobRemoved")[3] == "done"
    assert host.job_result("web", job)["result"] == "done"


def test_daemon_starts_without_a_bus_and_joins_it_later(make_host):
    host = make_host(start=False)
    host.bus.stop()
    bus, host.daemon.bus = host.daemon.bus, None  # ready when VMMs can come
    host.daemon.start()
    vmm = host.vmm("web")
    host.daemon.bus = bus
    bus.start()
    wait_for(host.bus.has_owner, "the daemon joins the bus", 30)
    assert host.show("web")["State"] == "running"
    assert vmm.ask(1) == (wire.SUCCESS, "granted")


def test_name_taken_by_another_is_not_stolen(host):
    """A second owner waits; the first one's clients notice nothing."""
    other = host.bus.busctl("call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                            "org.freedesktop.DBus", "RequestName", "su", NAME, 3)
    assert other.split()[-1] in ("2", "3"), "neither queued in front nor replaced"
    assert host.daemon.bus_pid() == host.daemon.process.pid


def test_many_calls_at_once(host):
    host.vmm("web", possible=64, boot=2)
    clients = [subprocess.Popen(  # pylint: disable=consider-using-with
        ["busctl", f"--address={host.bus.address}", "call", NAME, ROOT, MANAGER, "SetVcpuCount",
         "su", "web", str(2 + i)], stdout=subprocess.PIPE, env=dict(os.environ))
        for i in range(30)]
    replies = {2 + i: c.communicate(timeout=60)[0] for i, c in enumerate(clients)}
    accepted = {count: reply for count, reply in replies.items() if reply}
    assert len(set(accepted.values())) == len(accepted) > 0, "each has a job of its own"
    assert host.get("web", "Desired") in accepted
    assert len(host.bus.call_json(ROOT, MANAGER, "ListJobs")[0]) == 1, "one job per VM"
