# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts by the page and by asking, and the record of each that was a refusal."""

import struct

import pytest

from cpupolicy_test import wire
from cpupolicy_test.daemon import classes, default_class
from cpupolicy_test.wait import wait_for


def record(host, text):
    return [line for line in host.daemon.log().splitlines() if text in line]


def test_granted_and_not_granted(host):
    vmm = host.vmm("web", possible=6, boot=4)
    assert vmm.ask(3) == (wire.SUCCESS, "granted")
    assert vmm.ask(4) == (wire.DENIED, "not-enabled")
    assert vmm.ask(0) == (wire.SUCCESS, "granted")


def test_given_back_is_denied_until_granted_again(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.resize("web", 5)
    vmm.plug(4)
    job = host.resize("web", 4)
    vmm.unplug(4)
    assert host.job_result("web", job)["result"] == "done"
    assert vmm.ask(4) == (wire.DENIED, "ejected")
    host.resize("web", 5)
    vmm.wait_enabled({0, 1, 2, 3, 4})
    assert vmm.ask(4) == (wire.SUCCESS, "granted")


def test_denial_is_recorded_and_signalled(host):
    vmm = host.vmm("web", possible=6, boot=4)
    monitor = host.bus.monitor()
    vmm.ask(5)
    assert monitor.wait("Denied", path=host.path("web")) == [5, "not-enabled", 1, True, "none"]
    line = wait_for(lambda: record(host, "VERDICT=deny"), "the log has it")[0]
    for field in (f"VM_UUID={vmm.uuid}", "VM_NAME=web", "VCPU=5", "REASON=not-enabled"):
        assert field in line
    assert host.get("web", "Denied") == 1
    vcpu = host.get("web", "Vcpus")[5]
    assert vcpu[0] == 5 and vcpu[1] is False and vcpu[6] == "not-enabled" and vcpu[7] == 1


def test_denial_by_the_page_is_recorded_with_its_count(host):
    vmm = host.vmm("web", possible=6, boot=4)
    monitor = host.bus.monitor()
    vmm.denied(4, reason=wire.REASONS.index("not-enabled"), count=41)
    assert monitor.wait("Denied") == [4, "not-enabled", 41, True, "none"]
    vmm.denied(4)
    assert host.get("web", "Denied") == 42


def test_rate_limit_makes_the_page_ask_and_denies(make_host):
    host = make_host(policy=classes(web={"cpu_on": {"per_second": 1, "burst": 3}}))
    vmm, other = host.vmm("web"), host.vmm("other")
    assert {w.verdict for w in vmm.page.words()[:4]} == {wire.VERDICT_ASK}
    assert {w.verdict for w in other.page.words()[:4]} == {wire.VERDICT_ALLOW}
    answers = [vmm.ask(1) for _ in range(5)]
    assert answers[:3] == [(wire.SUCCESS, "granted")] * 3
    assert (wire.DENIED, "rate") in answers[3:]
    assert other.ask(1) == (wire.SUCCESS, "granted")
    wait_for(lambda: vmm.ask(1) == (wire.SUCCESS, "granted"), "tokens come back", 10, 0.2)
    assert record(host, "REASON=rate")



def test_always_ask(make_host):
    host = make_host(policy=default_class(verdicts="ask", ask_timeout_ms=321))
    vmm = host.vmm("web")
    assert {w.verdict for w in vmm.page.words()[:4]} == {wire.VERDICT_ASK}
    assert vmm.page.ask_timeout_ms == 321
    assert not any(w.timeout_allow for w in vmm.page.words())
    for _ in range(100):
        assert vmm.ask(1) == (wire.SUCCESS, "granted")


def test_verdict_on_timeout_is_the_service_levels(make_host):
    host = make_host(policy=default_class(verdicts="ask", on_timeout="allow"))
    vmm = host.vmm("web", possible=6, boot=4)
    assert all(w.timeout_allow for w in vmm.page.words()[:4])
    assert vmm.page.word(5).verdict == wire.VERDICT_DENY


def test_observe_denies_nothing_and_records(make_host):
    host = make_host(policy=default_class(observe=True, verdicts="ask"))
    vmm = host.vmm("web", possible=6, boot=4)
    monitor = host.bus.monitor()
    assert all(w.observe for w in vmm.page.words())
    assert vmm.ask(5) == (wire.SUCCESS, "observed")
    assert monitor.wait("Denied") == [5, "not-enabled", 1, False, "none"]
    assert wait_for(lambda: record(host, "REASON=not-enabled"), "the log has it")
    assert host.get("web", "Observe") is True
    vmm.power(5, wire.ON, wire.REASONS.index("observed"))
    shown = host.show("web")
    assert shown["OverdueSet"] == "5", "what runs without a grant is seen"


def test_online_without_grant_is_overdue(host):
    vmm = host.vmm("web", possible=6, boot=4)
    vmm.state({0: wire.ONLINE | wire.ACKED, 4: wire.ONLINE})
    host.wait_prop("web", "OverdueSet", "4")
    assert host.get("web", "Overdue") == 1
    vmm.offline(4)
    host.wait_prop("web", "OverdueSet", "")
    assert vmm.ask(4)[0] == wire.DENIED


def test_inactive_vmm_is_denied(host):
    vmm = host.vmm("web")
    vmm.run_state(wire.INACTIVE)
    assert vmm.ask(1) == (wire.DENIED, "inactive")
    vmm.run_state(wire.RUNNING)
    assert vmm.ask(1) == (wire.SUCCESS, "granted")


def test_many_asks_at_once_are_answered_in_order(host):
    vmm = host.vmm("web", possible=6, boot=4)
    seqs = []
    for i in range(2000):
        seqs.append(vmm.request(wire.ASK, struct.pack("<IIII", i % 6, 0, wire.CPU_ON_64, 0),
                                reply=False))
    for i, seq in enumerate(seqs):
        request, flags, got, payload = vmm.receive()
        assert (request, got) == (wire.ASK, seq) and not flags & wire.ERROR
        psci = struct.unpack("<iI", payload)[0]
        assert psci == (wire.SUCCESS if i % 6 < 4 else wire.DENIED)


def test_denials_do_not_fill_the_log(host):
    vmm = host.vmm("web", possible=6, boot=4)
    for _ in range(3000):
        vmm.denied(5, reply=False)
    assert vmm.ask(1) == (wire.SUCCESS, "granted")
    wait_for(lambda: host.get("web", "Denied") == 3000, "all are counted")
    assert len(record(host, "VERDICT=deny")) < 100
    assert len(host.daemon.log()) < 100_000


@pytest.mark.parametrize("function", [0x84000003, 0xC4000003])
def test_both_calling_conventions(host, function):
    vmm = host.vmm("web", possible=6, boot=4)
    assert vmm.ask(3, function=function) == (wire.SUCCESS, "granted")
    assert vmm.ask(5, function=function) == (wire.DENIED, "not-enabled")


def test_other_functions_cannot_be_asked(host):
    vmm = host.vmm("web")
    with pytest.raises(wire.Refused) as e:
        vmm.ask(1, function=0x84000008)
    assert e.value.code == wire.ERR_UNSUPPORTED
    assert vmm.ask(1) == (wire.SUCCESS, "granted"), "the session goes on"
