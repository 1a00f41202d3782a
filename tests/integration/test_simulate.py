# SPDX-License-Identifier: GPL-2.0-or-later
"""`cpuctl simulate` of what a real daemon recorded: the same comes out, or what differs is said."""

import json
import pathlib
import random
import re
import subprocess

import pytest

from cpupolicy_test import paths, wire
from cpupolicy_test.bus import BusError
from cpupolicy_test.wait import wait_for

DIFFERS = 16

POLICY = {
    "host": {"capacity": 12},
    "classes": {
        "gold": {"guaranteed": 3, "limit": 6, "priority": 9},
        "spot": {"guaranteed": 1, "limit": 6,
                 "burst": {"cap_seconds": 10, "initial_seconds": 1, "resume_seconds": 1}},
        "rated": {"guaranteed": 1, "limit": 6, "cpu_on": {"per_second": 1, "burst": 2}},
    },
    "tenants": {"acme": {"quota": 8}},
    "rules": [
        {"match": {"name": "gold*"}, "class": "gold", "tenant": "acme"},
        {"match": {"name": "spot*"}, "class": "spot"},
        {"match": {"name": "rated*"}, "class": "rated"},
    ],
}


def simulate(log, *args):
    return subprocess.run([str(paths.cpuctl()), "simulate", str(log), *[str(a) for a in args]],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                          check=False)


@pytest.fixture
def recorded(make_host, directory):
    (directory / "log").mkdir()
    return make_host({"record_directory": str(directory / "log")}, policy=POLICY)


def logs(host):
    return sorted((host.directory.parent / "log").iterdir())


def replays(log):
    result = simulate(log)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    assert "nothing differs" in result.stdout
    assert int(re.search(r"(\d+) events", result.stdout)[1]) > 0
    return result.stdout


def test_recordings_of_an_older_version():
    kept = sorted((pathlib.Path(__file__).resolve().parents[1] / "data/recording").glob("*.jsonl"))
    assert len(kept) >= 2
    for log in kept:
        replays(log)


def follow(vmm):
    """Does what the page asks for."""
    for vcpu in range(1, vmm.possible):
        word = vmm.page.word(vcpu)
        if word.enabled and not word.wanted and vcpu in vmm.on:
            vmm.confirm()
            vmm.offline(vcpu)
            vmm.eject(vcpu)
            vmm.on.discard(vcpu)
        elif word.enabled and word.wanted and vcpu not in vmm.on:
            vmm.confirm()
            vmm.acknowledge(vcpu)
            vmm.online(vcpu)
            vmm.on.add(vcpu)


def start(host, name, **more):
    vmm = host.vmm(name, possible=6, **more)
    vmm.on = set()
    return vmm


def workload(host, seed):
    """A bit of everything, at random."""
    rng = random.Random(seed)
    vmms = [start(host, name, boot=2) for name in ("gold1", "gold2", "spot1", "spot2", "rated1")]
    for i in range(120):
        vmm = rng.choice(vmms)
        act = rng.randrange(11)
        if act < 4:
            try:
                host.resize(vmm.name, rng.randint(1, 7))
            except BusError:
                pass
        elif act < 7:
            follow(vmm)
        elif act == 7:
            vmm.ask(rng.randrange(6))
        elif act == 8:
            vmm.run_state(rng.choice((wire.PAUSED, wire.RUNNING)))
        elif act == 9 and i % 3 == 0:
            vmm.reset()
            vmm.on = set()
        elif act == 10:
            args = rng.choice((["assign", vmm.name, rng.choice(("gold", "spot", "rated", ""))],
                               ["freeze"], ["thaw"], ["drain"], ["undrain"], ["reload"]))
            host.cpuctl(*args, check=False)
    host.cpuctl("thaw")
    host.cpuctl("undrain")
    return vmms


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_recorded_run_replays_exactly(recorded, seed):
    vmms = workload(recorded, seed)
    vmms[0].unregister()
    recorded.wait_prop("gold1", "State", "stopped") if recorded.known("gold1") else None
    vmms[1].close()
    recorded.wait_prop("gold2", "State", "disconnected")
    recorded.daemon.stop()
    log, = logs(recorded)
    text = replays(log)
    assert "verdicts: 0 compared" not in text


def test_time_alone_is_replayed(recorded):
    """Credit that runs out, and comes back, without anybody saying anything."""
    start(recorded, "spot1", boot=3)
    recorded.wait_prop("spot1", "TargetReason", "burst-credit")
    log, = logs(recorded)
    # With the next event of the VM itself: what is asked back is durable.
    wait_for(lambda: '"burst-credit"' in log.read_text(), "the bound is recorded")
    recorded.daemon.stop()
    replays(log)


def test_a_restarted_daemon_begins_a_recording_of_its_own(recorded):
    vmms = workload(recorded, 4)
    first, = logs(recorded)
    recorded.daemon.restart_killed()
    old = vmms[2]
    again = recorded.connect()
    again.hello()
    again.register(old.name, possible=6, boot=2, uuid=old.uuid, token=old.token,
                   vcpus={0: wire.ONLINE})
    again.confirm()
    recorded.resize("spot1", 2)
    recorded.daemon.stop()
    result = simulate(first)
    assert result.returncode == 0, result.stdout + result.stderr
    second = next(log for log in logs(recorded) if log != first)
    replays(second)


@pytest.mark.parametrize("mode", ["freeze", "drain"])
def test_a_restart_in_maintenance_is_recorded(recorded, mode):
    start(recorded, "gold1", boot=3)
    start(recorded, "gold2", boot=3)
    first, = logs(recorded)
    recorded.cpuctl(mode)
    before = json.loads(recorded.cpuctl("host", "--json"))
    recorded.daemon.restart_killed()
    after = json.loads(recorded.cpuctl("host", "--json"))
    assert after == before | {"connected": 0}
    assert after["held"] == 6
    recorded.cpuctl({"freeze": "thaw", "drain": "undrain"}[mode])
    recorded.daemon.stop()
    replays(next(log for log in logs(recorded) if log != first))


def test_what_differs_is_said(recorded, directory):
    vmm = start(recorded, "gold1", boot=3)
    job = recorded.resize("gold1", 5)
    wait_for(lambda: (follow(vmm), recorded.last_job("gold1")["id"])[1], "it is resized")
    assert vmm.ask(4) == (wire.SUCCESS, "granted")
    with pytest.raises(BusError):
        recorded.resize("gold1", 7)
    assert job
    recorded.daemon.stop()
    log, = logs(recorded)
    replays(log)

    tight = json.loads(json.dumps(POLICY))
    tight["classes"]["gold"]["limit"] = 4
    (directory / "tight").mkdir()
    (directory / "tight" / "policy.json").write_text(json.dumps(tight))
    result = simulate(log, "--policy", directory / "tight")
    assert result.returncode == DIFFERS, result.stdout + result.stderr
    assert "gold1: resize is refused (sla-limit), was accepted (none)" in result.stdout
    assert "gold1: vCPU 4 is denied (not-enabled), was allowed (granted)" in result.stdout
    assert "verdicts: 1 compared, 1 differ" in result.stdout
    assert "vCPU-seconds:" in result.stdout
    assert simulate(log, "--policy", directory / "tight").stdout.splitlines()[:3] == \
        result.stdout.splitlines()[:3], "it comes out the same each time"

    (directory / "same").mkdir()
    (directory / "same" / "policy.json").write_text(json.dumps(POLICY))
    result = simulate(log, "--policy", directory / "same")
    assert result.returncode == 0, result.stdout


def test_a_smaller_host(recorded, directory):
    """Who would not have been admitted does nothing that counts."""
    start(recorded, "gold1", boot=3)
    start(recorded, "gold2", boot=3)
    recorded.daemon.stop()
    small = dict(POLICY, host={"capacity": 4})
    (directory / "small").mkdir()
    (directory / "small" / "policy.json").write_text(json.dumps(small))
    log, = logs(recorded)
    result = simulate(log, "--policy", directory / "small")
    assert result.returncode == DIFFERS, result.stdout + result.stderr
    assert "gold2: start is refused (host-capacity), was accepted (none)" in result.stdout


def test_a_changed_recording_is_found_out(recorded):
    vmm = start(recorded, "gold1", boot=3)
    vmm.ask(1)
    recorded.daemon.stop()
    log, = logs(recorded)
    text = log.read_text()
    changed = text.replace('"psci":0', '"psci":-3')
    assert changed != text
    log.write_text(changed)
    result = simulate(log)
    assert result.returncode == DIFFERS
    assert "vCPU 1 is allowed (granted), was denied" in result.stdout


def test_a_torn_last_line_is_left_out(recorded):
    start(recorded, "gold1", boot=3)
    recorded.daemon.stop()
    log, = logs(recorded)
    log.write_text(log.read_text()[:-20])
    result = simulate(log)
    assert result.returncode == 0 and "not whole" in result.stdout


@pytest.mark.parametrize("text", ["", "{}\n", "nonsense\n", '{"at":1,"do":"tick"}\n'])
def test_what_is_no_recording(directory, text):
    (directory / "log").write_text(text)
    result = simulate(directory / "log")
    assert result.returncode == 1
    assert "log" in result.stderr


def test_a_bad_policy(recorded, directory):
    recorded.daemon.stop()
    log, = logs(recorded)
    (directory / "bad").mkdir()
    (directory / "bad" / "policy.json").write_text('{"classes": {"x": {"nothing": 1}}}')
    result = simulate(log, "--policy", directory / "bad")
    assert result.returncode == 15
    assert "policy.json:1:" in result.stderr
    assert simulate(log, "--policy", directory / "missing").returncode == 1
