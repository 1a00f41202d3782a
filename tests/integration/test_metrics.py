# SPDX-License-Identifier: GPL-2.0-or-later
"""What /metrics says, who may ask, and what cannot disturb the daemon."""

import contextlib
import json
import os
import pathlib
import re
import socket
import stat

import pytest

from cpupolicy_test import metrics, paths, wire
from cpupolicy_test.bus import MANAGER, ROOT, BusError
from cpupolicy_test.wait import wait_for

DOCS = paths.SOURCE / "docs"


def path_of(host):
    return host.directory / "metrics.sock"


def scrape(host):
    return metrics.scrape(path_of(host))


def wait_metric(host, name, value, **labels):
    wait_for(lambda: scrape(host).find(name, **labels) == [value], f"{name}{labels} is {value}")


@pytest.fixture
def leveled(make_host, directory):
    """A host of 8 vCPUs with two classes and a tenant."""
    policy = directory / "policy"
    policy.mkdir()
    (policy / "all.json").write_text(json.dumps({
        "host": {"capacity": 8},
        "classes": {
            "gold": {"guaranteed": 4, "limit": 6, "priority": 9},
            "spot": {"guaranteed": 1, "limit": 6, "burst": {"cap_seconds": 3600, "initial_seconds": 60}},
            "watched": {"guaranteed": 1, "limit": 6, "observe": True},
        },
        "tenants": {"acme": {"quota": 7}},
        "rules": [
            {"match": {"name": "gold*"}, "class": "gold", "tenant": "acme"},
            {"match": {"name": "spot*"}, "class": "spot"},
            {"match": {"name": "watched*"}, "class": "watched"},
        ],
    }), encoding="utf-8")
    return make_host({"policy_directory": str(policy)})


def test_an_empty_host(host):
    got = scrape(host)
    assert got.get("cpupolicy_build_info") == 1
    assert {labels["state"]: n for labels, n in got.all("cpupolicy_vms")} == {
        "running": 0, "paused": 0, "inactive": 0, "disconnected": 0, "stopped": 0}
    assert got.get("cpupolicy_capacity_vcpus") == float("inf")
    assert got.get("cpupolicy_verdict_latency_seconds_count") == 0


def test_a_vm(leveled):
    vmm = leveled.vmm("gold1", possible=6, boot=4)
    vmm.online(1)
    got = scrape(leveled)
    assert got.get("cpupolicy_vm_info", vm="gold1", uuid=str(vmm.uuid), **{"class": "gold"},
                   tenant="acme") == 1
    for name, value in (("possible", 6), ("guaranteed", 4), ("limit", 6), ("desired", 4),
                        ("target", 4), ("enabled", 4), ("online", 2), ("overdue", 0)):
        assert got.get(f"cpupolicy_vm_{name}_vcpus", vm="gold1") == value, name
    assert got.get("cpupolicy_vms", state="running") == 1
    assert got.get("cpupolicy_capacity_vcpus") == 8
    assert got.get("cpupolicy_reserved_vcpus") == 4
    assert got.get("cpupolicy_tenant_quota_vcpus", tenant="acme") == 7
    assert got.get("cpupolicy_tenant_held_vcpus", tenant="acme") == 4
    assert got.get("cpupolicy_registrations_total", outcome="started") == 1
    assert not got.find("cpupolicy_vm_held_back")
    assert not got.find("cpupolicy_vm_credit_vcpu_seconds"), "its class is not metered"
    vmm.run_state(wire.PAUSED)
    got = scrape(leveled)
    assert got.get("cpupolicy_vms", state="paused") == 1
    assert got.get("cpupolicy_vm_running", vm="gold1") == 0


def test_what_an_alert_watches(leveled):
    vmm = leveled.vmm("spot1", possible=6, boot=2)
    assert scrape(leveled).get("cpupolicy_vm_page_unconfirmed", vm="spot1") == 0
    leveled.resize("spot1", 4)
    wait_metric(leveled, "cpupolicy_vm_page_unconfirmed", 1, vm="spot1")
    assert scrape(leveled).get("cpupolicy_vm_resizing", vm="spot1") == 1
    for vcpu in (2, 3):
        vmm.plug(vcpu)
    wait_metric(leveled, "cpupolicy_jobs_total", 1, result="done")
    wait_metric(leveled, "cpupolicy_vm_page_unconfirmed", 0, vm="spot1")
    # what the guest does not give back, and others wait for
    leveled.vmm("gold1", possible=6, boot=6)
    wait_metric(leveled, "cpupolicy_overdue_vcpus", 2)
    got = scrape(leveled)
    assert got.get("cpupolicy_vm_held_back", vm="spot1", rule="host-capacity") == 1
    leveled.vmm("watched1", possible=4, boot=1)
    assert scrape(leveled).get("cpupolicy_vm_observed", vm="watched1") == 1
    assert scrape(leveled).get("cpupolicy_vm_observed", vm="spot1") == 0
    vmm.close()
    wait_metric(leveled, "cpupolicy_vm_disconnected", 1, vm="spot1")


def test_verdicts_by_result_and_reason(leveled):
    vmm = leveled.vmm("gold1", possible=6, boot=4)
    assert vmm.ask(1)[0] == wire.SUCCESS
    assert vmm.ask(5)[0] == wire.DENIED
    assert vmm.ask(5)[0] == wire.DENIED
    vmm.denied(5, reason=2, count=7)
    watched = leveled.vmm("watched1", possible=4, boot=1)
    assert watched.ask(2) == (wire.SUCCESS, "observed")
    got = scrape(leveled)
    assert got.get("cpupolicy_verdicts_total", result="allow", reason="granted") == 1
    assert got.get("cpupolicy_verdicts_total", result="deny", reason="not-enabled") == 9
    assert got.get("cpupolicy_verdicts_total", result="observe", reason="not-enabled") == 1
    assert got.get("cpupolicy_vm_denied_total", vm="gold1") == 9
    assert got.get("cpupolicy_verdict_latency_seconds_count") == 4, "asks alone"
    assert 0 < got.get("cpupolicy_verdict_latency_seconds_sum") < 60


def test_credit_and_usage(leveled):
    leveled.vmm("spot1", possible=6, boot=3)
    before = scrape(leveled)
    wait_for(lambda: scrape(leveled).get("cpupolicy_vm_usage_vcpu_seconds_total", vm="spot1",
                                         kind="burst") > 0.2, "usage grows")
    got = scrape(leveled)
    burst = got.get("cpupolicy_vm_usage_vcpu_seconds_total", vm="spot1", kind="burst")
    guaranteed = got.get("cpupolicy_vm_usage_vcpu_seconds_total", vm="spot1", kind="guaranteed")
    # three vCPUs, one of them guaranteed, the others from when they are on disk
    assert burst == pytest.approx(2 * guaranteed, abs=0.1)
    credit = got.get("cpupolicy_vm_credit_vcpu_seconds", vm="spot1")
    assert credit < before.get("cpupolicy_vm_credit_vcpu_seconds", vm="spot1") <= 60
    assert credit == pytest.approx(60 - burst, abs=0.01), "what is spent is what is burst"
    assert got.get("cpupolicy_vm_credit_spent", vm="spot1") == 0


def test_refusals(leveled):
    leveled.vmm("gold1", possible=6, boot=4)
    with pytest.raises(BusError):
        leveled.resize("gold1", 7)
    with pytest.raises(wire.Refused):
        leveled.vmm("gold2", possible=6, boot=4)
    got = scrape(leveled)
    assert got.get("cpupolicy_refusals_total", rule="out-of-range") == 1
    assert got.get("cpupolicy_refusals_total", rule="tenant-quota") == 1
    assert got.get("cpupolicy_registrations_total", outcome="refused-admission") == 1


def test_names_are_escaped(host):
    name = 'a"b\\c'
    host.vmm(name)
    assert scrape(host).get("cpupolicy_vm_enabled_vcpus", vm=name) == 4


def test_many_vms_and_some_that_go(host):
    vmms = [host.vmm(f"vm{i}", possible=4, boot=2) for i in range(200)]
    got = scrape(host)
    assert len(got.all("cpupolicy_vm_enabled_vcpus")) == 200
    assert sum(value for _, value in got.all("cpupolicy_vm_enabled_vcpus")) == 400
    for vmm in vmms[:100]:
        vmm.unregister()
    wait_metric(host, "cpupolicy_vms", 100, state="running")
    assert not scrape(host).find("cpupolicy_vm_running", vm="vm0") == [1]


def test_only_metrics_is_there(host):
    assert metrics.get(path_of(host), "/")[0] == 404
    assert metrics.get(path_of(host), "/metrics", "POST")[0] == 501
    assert scrape(host)


def test_the_socket_is_not_for_everybody(host):
    assert stat.S_IMODE(os.stat(path_of(host)).st_mode) == 0o660
    host.daemon.stop()
    assert not path_of(host).exists()


def test_socket_of_a_dead_daemon_is_replaced(host):
    host.daemon.restart_killed()
    wait_for(lambda: not scrape(host).find("cpupolicy_vm_info"), "it serves again")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_loopback_port(make_host):
    port = free_port()
    make_host({"metrics": f"127.0.0.1:{port}"})
    connection = metrics.http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        for _ in range(3):  # on one connection, as Prometheus does
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert response.getheader("Content-Type") == metrics.CONTENT_TYPE
            metrics.Metrics(response.read().decode("utf-8"))


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "9464",
                                     "localhost:9464", "127.0.0.1", "127.0.0.1:0", "unix:relative",
                                     "exposed:9464"])
def test_addresses_that_are_refused(make_host, address):
    host = make_host({"metrics": address}, start=False)
    status, text = host.daemon.run_to_end()
    assert status == 3
    assert '"exposed:"' in text and address in text


def test_one_that_others_can_reach_must_be_asked_for(make_host):
    port = free_port()
    make_host({"metrics": f"exposed:0.0.0.0:{port}"})
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        assert s


def test_none(make_host):
    host = make_host({"metrics": "none"})
    assert not path_of(host).exists()


def test_vms_do_not_go_without_their_daemon(make_host, directory):
    (directory / "taken").mkdir()
    host = make_host({"metrics": f"unix:{directory / 'taken'}"})
    host.vmm("web")
    assert "for metrics" in host.daemon.log()


def test_connections_that_say_nothing_are_bounded(host):
    """Who holds many connections gets no more descriptors of the daemon than 16, and they come back."""
    before = host.daemon.process.open_fds()
    idle = []
    for _ in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            s.connect(str(path_of(host)))
        idle.append(s)
    wait_for(lambda: host.daemon.process.open_fds() == before + 16, "16 are accepted")
    vmm = host.vmm("web")
    assert vmm.ask(1) == (wire.SUCCESS, "granted")
    assert host.bus.get(ROOT, MANAGER, "VirtualMachines") == 1
    for s in idle:
        s.close()
    assert scrape(host).get("cpupolicy_vms", state="running") == 1


def test_scrapers_that_hang_up(host):
    for i in range(100):
        host.vmm(f"vm{i}", possible=4, boot=2)
    before = host.daemon.process.open_fds()
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path_of(host)))
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for(lambda: host.daemon.process.open_fds() <= before, "nothing is left of them")
    assert len(scrape(host).all("cpupolicy_vm_info")) == 100


def names_in(text):
    return set(re.findall(r"\bcpupolicy_[a-z_]+", text))


def test_all_that_is_served_is_documented_and_used_rightly(leveled):
    leveled.vmm("spot1", possible=6, boot=2)
    got = scrape(leveled)
    suffix = {"counter": "_total", "info": "_info"}
    served = {family + suffix.get(kind, "") for family, kind in got.types.items()}
    documented = names_in(pathlib.Path(DOCS / "metrics.md").read_text("utf-8"))
    assert served <= documented, served - documented
    parts = {f"{f}{s}" for f, kind in got.types.items() if kind == "histogram"
             for s in ("_bucket", "_count", "_sum")}
    for name in ("grafana-dashboard.json", "alerts.yml"):
        used = names_in(pathlib.Path(DOCS / name).read_text("utf-8"))
        assert used and used <= served | parts, f"{name}: {used - served - parts}"
    json.loads(pathlib.Path(DOCS / "grafana-dashboard.json").read_text("utf-8"))
