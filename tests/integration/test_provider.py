# SPDX-License-Identifier: GPL-2.0-or-later
"""Providers: what they say of VMs, and the CPU time that they hold."""

import json
import uuid as uuidlib

import pytest

from cpupolicy_test import metrics, paths
from cpupolicy_test.bus import MANAGER, ROOT, VM
from cpupolicy_test.dbus_wire import CallError, Client
from cpupolicy_test.process import Process
from cpupolicy_test.provider import NO_QUOTA, Provider
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import wait_for

WEB = uuidlib.UUID("11111111-2222-4333-8444-555555555555")
POLICY = {
    "classes": {"gold": {"guaranteed": 4, "limit": 6}, "silver": {"limit": 5},
                "capped": {"refusal": "quota", "retry_seconds": 1, "job_timeout_seconds": 1},
                "standing": {"quota": "standing"}},
    "tenants": {"acme": {"quota": 50}, "other": {}},
    "rules": [{"match": {"name": "web*"}, "class": "silver", "tenant": "other"}],
}


@pytest.fixture
def host(make_host):
    return make_host(policy=POLICY)


@pytest.fixture
def provider(host):  # pylint: disable=redefined-outer-name
    made = Provider(host.bus)
    yield made
    made.close()


def state(host, vm="web"):  # pylint: disable=redefined-outer-name
    return host.get(vm, "Quota"), host.get(vm, "QuotaState")


def error_name(call, *args, **more):
    with pytest.raises(CallError) as caught:
        call(*args, **more)
    return caught.value.name.rsplit(".", 1)[1]


def providers(host):  # pylint: disable=redefined-outer-name
    return host.bus.get(ROOT, MANAGER, "Providers")


# ---- who is here ----


def test_providers_come_and_go(host, provider):
    monitor = host.bus.monitor()
    other = Provider(host.bus, "other")
    assert providers(host) == ["lab", "other"]
    monitor.wait("PropertiesChanged", lambda a: a[1].get("Providers", {}).get("data") == ["lab", "other"])
    provider.close()
    wait_for(lambda: providers(host) == ["other"], "the provider has left")
    again = Provider(host.bus)
    assert providers(host) == ["other", "lab"]
    again.close()
    other.close()
    wait_for(lambda: not providers(host), "nobody is left")


def test_bad_registrations(host, provider):
    assert error_name(provider.register) == "ProviderExists"
    second = Provider(host.bus, register=False)
    assert error_name(second.register) == "ProviderExists"
    for name in ("", "a b", "x" * 64, "ü"):
        second.name = name
        assert error_name(second.register) == "InvalidArgs", name
    assert error_name(second.announce, WEB, "web") == "NotProvider"
    assert error_name(second.withdraw, WEB) == "NotProvider"
    second.close()
    crowd = [Provider(host.bus, f"p{i}") for i in range(15)]
    extra = Provider(host.bus, "extra", register=False)
    assert error_name(extra.register) == "LimitsExceeded"
    for one in [*crowd, extra]:
        one.close()


# ---- what they say ----


def test_announced_class_and_tenant(host, provider):
    provider.announce(WEB, "web", **{"class": "gold", "tenant": "acme"})
    host.vmm("web", uuid=WEB)
    shown = host.show("web")
    assert (shown["Class"], shown["ClassSource"], shown["AnnouncedClass"]) == ("gold", "announcement", "gold")
    assert (shown["Tenant"], shown["TenantSource"], shown["AnnouncedTenant"]) == ("acme", "announcement", "acme")
    assert shown["Provider"] == "lab"
    # an operator is above it, the rules are below it
    host.bus.call_json(ROOT, MANAGER, "AssignClass", "ss", "web", "standing")
    assert (host.get("web", "Class"), host.get("web", "ClassSource")) == ("standing", "assignment")
    assert host.get("web", "TenantSource") == "announcement"
    host.bus.call_json(ROOT, MANAGER, "AssignClass", "ss", "web", "")
    assert host.get("web", "Class") == "gold"
    provider.withdraw(WEB)
    shown = host.show("web")
    assert (shown["Class"], shown["ClassSource"], shown["Tenant"]) == ("silver", "rule", "other")
    assert (shown["Provider"], shown["AnnouncedClass"]) == ("", "")


def test_an_announcement_of_a_running_vm(host, provider):
    host.vmm("web", uuid=WEB, possible=6, boot=4)
    monitor = host.bus.monitor()
    host.resize("web", 5)
    provider.announce(WEB, "web", **{"class": "gold"})
    assert (host.get("web", "Limit"), host.get("web", "Guaranteed")) == (6, 4)
    monitor.wait("PropertiesChanged", lambda a: a[1].get("ClassSource", {}).get("data") == "announcement")
    # the last word counts, all of it
    provider.announce(WEB, "web", tenant="acme")
    assert (host.get("web", "Class"), host.get("web", "Tenant")) == ("silver", "acme")


def test_a_class_that_is_not_there(host, provider):
    provider.announce(WEB, "web", **{"class": "platinum", "tenant": "nobody"})
    host.vmm("web", uuid=WEB)
    shown = host.show("web")
    assert (shown["Class"], shown["ClassSource"], shown["AnnouncedClass"]) == ("silver", "rule", "platinum")
    assert (shown["Tenant"], shown["AnnouncedTenant"]) == ("other", "nobody")
    host.daemon.write_policy(dict(POLICY, classes=dict(POLICY["classes"], platinum={})))
    host.bus.call_json(ROOT, MANAGER, "Reload")
    assert (host.get("web", "Class"), host.get("web", "ClassSource")) == ("platinum", "announcement")


def test_announced_count(host, provider):
    provider.announce(WEB, "web", desired=3)
    vmm = host.vmm("web", uuid=WEB, possible=6, boot=1)
    assert vmm.page.enabled() == {0, 1, 2}
    assert (host.get("web", "Desired"), host.get("web", "DesiredUid")) == (3, NO_QUOTA)
    # an operator's count outlives the VM and is above it
    host.resize("web", 4)
    vmm.unregister()
    host.wait_prop("web", "State", "stopped")
    assert host.vmm("web", uuid=WEB, possible=6, boot=1).page.enabled() == {0, 1, 2, 3}
    provider.announce("99999999-2222-4333-8444-555555555555", "big", desired=100)
    assert host.vmm("big", uuid=uuidlib.UUID("99999999-2222-4333-8444-555555555555"),
                    possible=2, boot=1).page.enabled() == {0, 1}


def test_announcements_are_durable(host, provider):
    provider.announce(WEB, "web", **{"class": "gold", "tenant": "acme", "uid": 0, "desired": 2})
    host.daemon.restart_killed()
    vmm = host.vmm("web", uuid=WEB, possible=6, boot=1)
    shown = host.show("web")
    assert (shown["Class"], shown["Tenant"], shown["Provider"], shown["Desired"]) == (
        "gold", "acme", "lab", 2)
    again = Provider(host.bus)
    again.withdraw(WEB)
    host.daemon.restart_killed()
    assert host.get("web", "ClassSource") == "rule"
    vmm.close()
    again.close()


def test_two_providers_and_one_vm(host, provider):
    other = Provider(host.bus, "other")
    provider.announce(WEB, "web", **{"class": "gold"})
    assert error_name(other.announce, WEB, "web") == "NotOwner"
    assert error_name(other.withdraw, WEB) == "NotOwner"
    host.vmm("web", uuid=WEB)
    provider.close()
    wait_for(lambda: providers(host) == ["other"], "the provider has left")
    assert host.get("web", "Provider") == "lab", "what it said stays"
    other.announce(WEB, "web", **{"class": "silver"})
    assert (host.get("web", "Provider"), host.get("web", "Class")) == ("other", "silver")
    other.close()


@pytest.mark.parametrize("keys", [
    {"Class": ("s", "gold")}, {"uid": ("i", 5)}, {"class": ("u", 1)}, {"class": ("s", "")},
    {"desired": ("u", 0)}, {"desired": ("u", 513)}, {"quota": ("s", "yes")}, {"label": ("s", "a\nb")},
    {"pid": ("u", 0)}, {"": ("s", "")}])
def test_bad_announcements(host, provider, keys):
    good = ("22222222-2222-4333-8444-555555555555", "fine", {"class": ("s", "gold")})
    def announce(*vms):
        return provider.client.call("Announce", "a(ssa{sv})", list(vms))
    assert error_name(announce, good, (str(WEB), "web", keys)) == "InvalidArgs"
    host.vmm("fine", uuid=uuidlib.UUID(good[0]))
    assert host.get("fine", "Provider") == "", "all of it or nothing"


def test_bad_names_of_vms(host, provider):
    for vm in [("no-uuid", "web"), ("0" * 8 + "-0000-0000-0000-" + "0" * 12, "web"), (str(WEB), ""),
               (str(WEB), "a\x01"), (str(WEB), str(WEB))]:
        assert error_name(provider.announce, *vm) == "InvalidArgs", vm
    assert error_name(provider.announce_all, [(WEB, "web", {}), (WEB, "web", {})]) == "InvalidArgs"
    assert error_name(provider.withdraw, "no-uuid") == "InvalidArgs"
    provider.withdraw(WEB)  # never announced: nothing to do
    provider.announce_all([])


def test_announcements_are_bounded(make_host):
    host = make_host({"limits": {"vms": 600}})
    provider = Provider(host.bus)

    def batch(first, n):
        return [(uuidlib.UUID(int=(first + i) << 64 | 1), f"vm{first + i}", {}) for i in range(n)]
    assert error_name(provider.announce_all, batch(1, 100000)) == "LimitsExceeded"
    assert error_name(provider.announce_all, batch(1, 1025)) == "LimitsExceeded"
    provider.announce_all(batch(1, 1024))
    assert error_name(provider.announce_all, batch(2000, 200)) == "LimitsExceeded"
    provider.announce_all(batch(2000, 176))
    provider.announce_all(batch(1, 1024))  # again, and no more of them
    provider.withdraw(*[uuid for uuid, _, _ in batch(1, 1024)])
    provider.announce_all(batch(3000, 1000))
    provider.close()


# ---- CPU time ----


def quota_vm(host, provider, klass=None, **more):
    provider.announce(WEB, "web", quota=True, **({"class": klass} if klass else {}))
    return host.vmm("web", uuid=WEB, possible=6, **more)


def set_millis(host, millis, vm="web"):
    return host.bus.call_json(ROOT, MANAGER, "SetCpuMillis", "su", vm, millis)[0]


def held(host, provider, millis):
    provider.until(lambda: state(host) == (millis, "held"), f"{millis} are held")
    assert provider.holds == {str(WEB): millis}


def free(host, provider):
    provider.until(lambda: state(host) == (NO_QUOTA, "none"), "nothing is held")
    assert not provider.holds


def test_fractional_cpus(host, provider):
    vmm = quota_vm(host, provider, boot=1)
    job = set_millis(host, 1500)
    held(host, provider, 1500)
    vmm.plug(1)
    assert host.job_result("web", job)["result"] == "done"
    shown = host.show("web")
    assert (shown["CpuMillis"], shown["Desired"], shown["EnabledSet"]) == (1500, 2, "0-1")
    # by its own method; less time on as many vCPUs
    host.bus.call_json(host.path("web"), VM, "SetCpuMillis", "u", 1200)
    held(host, provider, 1200)
    assert host.last_job("web")["to"] == 2
    # whole: no quota once the guest has no more than that
    set_millis(host, 2000)
    free(host, provider)
    assert (host.get("web", "CpuMillis"), host.get("web", "Desired")) == (0, 2)
    set_millis(host, 700)
    held(host, provider, 700)
    host.resize("web", 2)
    free(host, provider)


def test_capped_first_then_ejected(host, provider):
    vmm = quota_vm(host, provider, boot=4)
    set_millis(host, 2000)
    held(host, provider, 2000)
    assert host.get("web", "Enabled") == 4, "the guest has not given back"
    assert (host.get("web", "CpuMillis"), host.get("web", "Desired")) == (0, 2)
    vmm.unplug(3)
    vmm.unplug(2)
    free(host, provider)


def test_range_of_millis(host, provider):
    quota_vm(host, provider, boot=1)
    for millis in (0, 6001, 2**32 - 1):
        error = host.bus.error_of(ROOT, MANAGER, "SetCpuMillis", "string:web", f"uint32:{millis}")
        assert error.name.endswith(".OutOfRange"), millis
    assert host.get("web", "Desired") == 1
    set_millis(host, 1)
    held(host, provider, 1)
    set_millis(host, 4001)
    assert host.get("web", "Desired") == 5


def test_millis_need_a_provider(host, provider):
    host.vmm("web", uuid=WEB, possible=6, boot=1)

    def refused():
        error = host.bus.error_of(ROOT, MANAGER, "SetCpuMillis", "string:web", "uint32:1500")
        assert error.name.endswith(".NoProvider") and "web" in error.message
    refused()
    provider.announce(WEB, "web")
    refused()
    set_millis(host, 2000)
    provider.announce(WEB, "web", quota=True)
    set_millis(host, 1500)
    held(host, provider, 1500)
    provider.close()
    wait_for(lambda: state(host) == (1500, "unavailable"), "nobody holds it")
    refused()


def test_millis_survive_kill_and_are_held_again(host, provider):
    quota_vm(host, provider, boot=1)
    set_millis(host, 1500)
    held(host, provider, 1500)
    host.daemon.restart_killed()
    assert state(host) == (1500, "unavailable")
    assert host.get("web", "CpuMillis") == 1500
    again = Provider(host.bus)
    held(host, again, 1500)
    again.close()
    third = Provider(host.bus)
    held(host, third, 1500)
    third.close()


def test_what_another_daemon_had_held_is_lifted(host, provider):
    vmm = quota_vm(host, provider, boot=1)
    set_millis(host, 1500)
    held(host, provider, 1500)
    host.daemon.kill()
    host.daemon.start()
    host.resize("web", 2)
    again = Provider(host.bus)
    again.until(lambda: (str(WEB), NO_QUOTA) in again.seen, "it is told that there is none")
    free(host, again)
    again.close()
    vmm.close()


def test_a_provider_that_refuses(host, provider):
    quota_vm(host, provider, boot=1)
    provider.error = ("org.cpupolicy1.Error.NoSuchVm", "there is no domain of that UUID")
    set_millis(host, 1500)
    provider.until(lambda: len(provider.seen) >= 2, "it is asked again")
    assert state(host) == (1500, "asked")
    assert "there is no domain of that UUID" in host.daemon.log()
    provider.error = None
    held(host, provider, 1500)


def test_another_value_does_not_wait_for_the_next_attempt(host, provider):
    quota_vm(host, provider, boot=1)
    provider.error = ("org.example.No", "no")
    set_millis(host, 1500)
    provider.until(lambda: len(provider.seen) >= 3, "it is asked again, less often each time")
    provider.error = None
    set_millis(host, 1600)
    provider.until(lambda: provider.holds, "it is asked at once", 2)
    held(host, provider, 1600)


def test_a_call_that_failed_may_have_been_carried_out(host, provider):
    quota_vm(host, provider, boot=1)
    set_millis(host, 1500)
    held(host, provider, 1500)
    provider.error = ("org.example.No", "it was lifted, and something went wrong after that")
    host.resize("web", 2)
    provider.until(lambda: (str(WEB), NO_QUOTA) in provider.seen, "it is to be lifted")
    provider.error = None
    provider.holds.clear()
    set_millis(host, 1500)
    held(host, provider, 1500)


def test_a_provider_that_hangs_gets_the_latest_word(host, provider):
    quota_vm(host, provider, boot=1)
    provider.hung = True
    set_millis(host, 1100)
    provider.until(provider.pending, "it is asked")
    for millis in (1200, 1300, 1400):
        set_millis(host, millis)
    provider.serve(0.2)
    assert provider.pending() == 1, "one call for a VM at a time"
    assert state(host) == (1400, "asked")
    provider.hung = False
    held(host, provider, 1400)
    assert [m for _, m in provider.seen] == [1100, 1400]


def test_a_hung_provider_is_asked_a_bounded_number(host, provider):
    uuids = [uuidlib.UUID(int=i + 1) for i in range(40)]
    provider.announce_all([(u, f"vm{i}", {"quota": True, "class": "standing"}) for i, u in enumerate(uuids)])
    other = Provider(host.bus, "other")
    other.announce(WEB, "web", quota=True, **{"class": "standing"})
    provider.hung = True
    for i, u in enumerate(uuids):
        host.vmm(f"vm{i}", uuid=u, possible=2, boot=1)
    provider.until(lambda: provider.pending() == 16, "its calls")
    host.vmm("web", uuid=WEB, possible=2, boot=1)
    other.until(lambda: state(host) == (1000, "held"), "the other one is not delayed")
    provider.serve(0.2)
    assert provider.pending() == 16
    provider.hung = False
    provider.until(lambda: len(provider.holds) == 40, "all are held")
    other.close()


def test_a_provider_that_never_answers_delays_nobody(host, provider):
    vmm = quota_vm(host, provider, boot=1)
    provider.hung = True
    job = set_millis(host, 1500)
    vmm.plug(1)
    assert host.job_result("web", job)["result"] == "done"
    assert vmm.ask(1)[0] == 0
    # its call runs out, and another one comes
    provider.until(lambda: provider.pending() >= 2, "it is asked again")
    assert state(host) == (1500, "asked")


def test_killed_while_asked(host, provider):
    quota_vm(host, provider, boot=1)
    provider.hung = True
    set_millis(host, 1500)
    provider.until(provider.pending, "it is asked")
    provider.close()
    wait_for(lambda: state(host) == (1500, "unavailable"), "nobody holds it")
    again = Provider(host.bus)
    held(host, again, 1500)
    again.close()


def test_refusal_by_quota(host, provider):
    vmm = quota_vm(host, provider, "capped", boot=4)
    vmm.online(3)
    free(host, provider)
    host.resize("web", 2)
    # the guest ignores it: its time passes
    held(host, provider, 2000)
    assert host.get("web", "Overdue") == 2
    vmm.unplug(3)
    assert state(host)[0] == 2000
    vmm.unplug(2)
    free(host, provider)


def test_refusal_by_quota_at_once_when_refused(host, provider):
    vmm = quota_vm(host, provider, "capped", boot=3)
    host.resize("web", 2)
    vmm.wait_wanted({0, 1})
    vmm.confirm()
    vmm.ost(2, 3, 1)
    held(host, provider, 2000)
    host.resize("web", 3)
    free(host, provider)


def test_standing_quota(host, provider):
    vmm = quota_vm(host, provider, "standing", boot=2)
    held(host, provider, 2000)
    host.resize("web", 4)
    held(host, provider, 4000)
    host.resize("web", 1)
    provider.serve(0.2)
    assert state(host) == (4000, "held")
    for i in (3, 2, 1):
        vmm.unplug(i)
    held(host, provider, 1000)
    host.bus.call_json(ROOT, MANAGER, "AssignClass", "ss", "web", "gold")
    free(host, provider)


def test_a_vm_that_stops_has_no_quota(host, provider):
    vmm = quota_vm(host, provider, "standing", boot=2)
    held(host, provider, 2000)
    host.resize("web", 2)
    vmm.unregister()
    host.wait_prop("web", "State", "stopped")
    assert state(host) == (NO_QUOTA, "none")
    provider.holds.clear()  # as it does with what is gone
    host.vmm("web", uuid=WEB, possible=6, boot=1)
    held(host, provider, 2000)


def test_withdrawn_while_held(host, provider):
    quota_vm(host, provider, boot=1)
    set_millis(host, 1500)
    held(host, provider, 1500)
    provider.withdraw(WEB)
    assert state(host) == (1500, "unavailable")


# ---- what is said ----


def test_enforcement(host, provider):
    path = host.directory / "metrics.sock"
    means = {"psci": 0, "hotplug": 1, "none": 2}
    for i, (word, number) in enumerate(means.items()):
        vmm = host.vmm(word, uuid=uuidlib.UUID(int=i + 7), possible=2, boot=1, flags=2 | 4 | number << 4)
        assert (host.get(word, "Enforcement"), host.get(word, "Realm")) == (word, False)
        assert vmm
    host.vmm("secret", possible=2, boot=1, flags=2 | 8)
    assert (host.get("secret", "Enforcement"), host.get("secret", "Realm")) == ("psci", True)
    unenforced = {word: metrics.scrape(path).get("cpupolicy_vm_unenforced", vm=word) for word in means}
    assert unenforced == {"psci": 0, "hotplug": 0, "none": 1}
    provider.announce(uuidlib.UUID(int=9), "none", quota=True)
    set_millis(host, 500, "none")
    provider.until(lambda: host.get("none", "Enforcement") == "quota", "a quota holds it")
    assert metrics.scrape(path).get("cpupolicy_vm_unenforced", vm="none") == 0
    host.daemon.restart_killed()
    assert [host.get(word, "Enforcement") for word in means] == list(means)
    assert host.get("secret", "Realm") and not host.get("none", "Realm")


def test_providers_and_a_bus_that_went_away(host, provider):
    quota_vm(host, provider, boot=1)
    set_millis(host, 1500)
    held(host, provider, 1500)
    host.bus.stop()
    host.bus.start()
    wait_for(host.daemon.ready, "the daemon is back on the bus")
    assert providers(host) == []
    assert state(host) == (1500, "unavailable")
    again = Provider(host.bus)
    held(host, again, 1500)
    again.close()


def test_others_may_not(host, provider):
    client = Client(host.bus)
    assert error_name(client.call, "Announce", "a(ssa{sv})", []) == "NotProvider"
    client.close()
    error = host.bus.error_of(ROOT, MANAGER, "RegisterProvider", "string:x", "objpath:/x", user=65534)
    assert error.name.endswith("AccessDenied")


# ---- what is used ----


def test_cpu_time_against_what_was_granted(host, directory):
    vmm = VmmProcess(directory, host.socket, "web", uuid=WEB, possible=6, boot=1)
    vmm.burn(0.5)
    used, granted = host.get("web", "CpuTime"), host.get("web", "CpuGranted")
    assert 0.4e9 <= used <= granted + 0.1e9
    assert "CpuTime" not in host.show("web"), "it is got by name"
    # it uses two CPUs, and was granted one
    vmm.burn(1.5, 2)
    wait_for(lambda: host.get("web", "CpuTime") > used + 1.2e9, "it shows")
    seen = metrics.scrape(host.directory / "metrics.sock")
    assert seen.get("cpupolicy_vm_cpu_seconds_total", vm="web") >= (used + 1.2e9) / 1e9
    assert seen.get("cpupolicy_vm_cpu_granted_vcpu_seconds_total", vm="web") > granted / 1e9
    # from the daemon's start on, both
    host.daemon.restart_killed()
    assert host.get("web", "CpuTime") < used
    vmm.kill()
    wait_for(lambda: not host.known("web"), "the VM has ended")
    vmm.close()


def test_cpu_time_of_a_vm_that_a_provider_speaks_for(host, directory):
    provider = Provider(host.bus)  # of this process, as the VMM is
    host.vmm("web", uuid=WEB, possible=2, boot=1)
    provider.until(lambda: host.get("web", "CpuTime") == 0, "the provider's own time is not the VM's")
    other = VmmProcess(directory, host.socket, "other", possible=2, boot=1)
    provider.announce(WEB, "web", pid=other.pid)
    other.burn(0.5)
    assert host.get("web", "CpuTime") >= 0.4e9
    provider.announce(WEB, "web", pid=2**31 - 1)
    assert host.get("web", "CpuTime") == 0
    other.close()
    provider.close()


# ---- cpuctl ----


def test_cpuctl_set_and_show(host, provider):
    vmm = quota_vm(host, provider, "gold", boot=1)
    text = host.cpuctl("set", "web", "1.5", "--no-wait")
    assert "job" in text
    vmm.plug(1)
    held(host, provider, 1500)
    assert host.get("web", "CpuMillis") == 1500
    text = host.cpuctl("show", "web")
    for part in ("psci (", "gold (announced by lab)", "2 (1.5 CPUs, asked for by root)", "1.5 CPUs, held by lab"):
        assert part in text, text
    shown = json.loads(host.cpuctl("show", "web", "--json"))
    assert (shown["cpu_millis"], shown["quota"], shown["quota_state"]) == (1500, 1500, "held")
    assert (shown["provider"], shown["announced_class"], shown["enforcement"]) == ("lab", "gold", "psci")
    assert {"cpu_time", "cpu_granted", "realm"} <= set(shown)
    assert "CPU time: 1.25 CPUs" in host.cpuctl("set", "web", "--millis", "1250")
    held(host, provider, 1250)
    assert host.get("web", "CpuMillis") == 1250
    host.cpuctl("set", "web", "2")
    assert host.get("web", "CpuMillis") == 0
    free(host, provider)
    assert json.loads(host.cpuctl("show", "web", "--json"))["quota"] is None
    assert "no quota" in host.cpuctl("show", "web")
    assert "psci" in host.cpuctl("list")
    provider.announce(WEB, "web", **{"class": "platinum"})
    assert '(the class "platinum" is announced, which the policy does not have)' in host.cpuctl("show", "web")


def test_cpuctl_refusals(host, provider):
    host.vmm("web", uuid=WEB, possible=6, boot=1)
    result = host.cpuctl("set", "web", "1.5", check=False)
    assert result.returncode == 10 and "provider" in result.stderr
    for args in (["1.2345"], ["."], ["1."], [".5"], ["0.0"], ["-1.5"], ["2", "--millis", "5"], ["--millis", "0"],
                 ["--millis", "x"], []):
        result = host.cpuctl("set", "web", *args, check=False)
        assert result.returncode == 1, args
        assert host.get("web", "Desired") == 1
    assert host.cpuctl("set", "web", "2.0", "--no-wait")
    assert host.get("web", "Desired") == 2


def test_cpuctl_watch(host, provider):
    quota_vm(host, provider, boot=1)
    watch = Process([paths.cpuctl(), *host.cpuctl_bus(), "watch", "web", "--json"], host.directory / "watch.log",
                    env=host.bus.env())
    watch.wait_log('"event"')
    set_millis(host, 500)
    held(host, provider, 500)

    def told():
        lines = [json.loads(line) for line in watch.log().splitlines() if line.endswith("}")]
        return [(e["millis"], e["state"]) for e in lines if e["event"] == "quota"]
    wait_for(lambda: (500, "held") in told(), "it is told")
    host.resize("web", 1)
    free(host, provider)
    wait_for(lambda: told()[-1] == (None, "none"), "it is told")
    watch.stop()


def test_cpuctl_providers(host, provider):
    assert host.cpuctl("providers") == "lab\n"
    assert json.loads(host.cpuctl("providers", "--json")) == ["lab"]
    provider.close()
    wait_for(lambda: json.loads(host.cpuctl("providers", "--json")) == [], "nobody is left")


# ---- what is recorded ----


def test_a_recording_of_all_this(make_host, directory):
    (directory / "log").mkdir()
    host = make_host({"record_directory": str(directory / "log")}, policy=POLICY)
    provider = Provider(host.bus)
    vmm = quota_vm(host, provider, "capped", boot=4)
    set_millis(host, 1500)
    held(host, provider, 1500)
    provider.announce(WEB, "web", quota=True, **{"class": "standing", "tenant": "acme"})
    host.daemon.restart_killed()
    vmm.hung_up()
    set_millis(host, 3000)
    host.resize("web", 2)
    host.daemon.stop()
    logs = sorted((directory / "log").iterdir())
    assert len(logs) == 2
    text = "".join(log.read_text("utf-8") for log in logs)
    for found in ('"millis":1500', '"announced_class":"standing"', '"quota":1500', '"desired_millis":1500'):
        assert found in text, found
    for log in logs:
        result = host.cpuctl("simulate", str(log))
        assert "nothing differs" in result
    # another policy lifts it
    host.daemon.write_policy({"classes": {"capped": {}, "standing": {}}, "tenants": {"acme": {}, "other": {}}})
    result = host.cpuctl("simulate", "--policy", str(host.daemon.policy_directory), str(logs[1]), check=False)
    assert "CPU time" in result.stdout, result.stdout + result.stderr
    provider.close()
