# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon records what happens to its VMs, and goes on without where it cannot."""

import json
import os
import shutil
import stat

from cpupolicy_test import paths
from cpupolicy_test.wait import wait_for


def lines(directory):
    """Of the newest recording: what the others know."""
    path = max(directory.glob("cpupolicyd-*.jsonl"), key=os.path.getmtime)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def made(lines_of, what, vm):
    return [line for line in lines_of if line.get("do") == what and line.get("vm") == str(vm.uuid)]


def test_what_happens_is_recorded(make_host, directory):
    record = directory / "recordings"
    record.mkdir()
    policy = {"classes": {"default": {"guaranteed": 2, "limit": 6}},
              "host": {"capacity": {"cpus": 4, "overcommit": "2.5"}}}
    host = make_host({"record_directory": str(record)}, policy=policy)
    vmm = host.vmm("web", possible=8, boot=2)
    host.resize("web", 5)
    # While it runs, not only at its end.
    wait_for(lambda: made(lines(record), "resize", vmm), "the resize is recorded", 10)
    host.daemon.stop()
    recorded = lines(record)
    head = recorded[0]
    assert head["recording"] == 2 and head["capacity"] == 10
    assert json.loads(head["policy"][0]["text"]) == policy
    assert [line["at"] for line in recorded[1:]] == sorted(line["at"] for line in recorded[1:])
    assert made(recorded, "add", vmm)[0]["possible"] == 8
    assert made(recorded, "start", vmm)[0]["answer"] == {"rule": "none"}
    resize = made(recorded, "resize", vmm)[0]
    assert resize["count"] == 5 and resize["state"]["desired"] == resize["state"]["target"] == 5
    assert made(recorded, "published", vmm)
    assert any(line["ok"] for line in made(recorded, "stored", vmm))


def test_each_start_has_its_file(make_host, directory):
    record = directory / "recordings"
    record.mkdir()
    host = make_host({"record_directory": str(record)})
    vmm = host.vmm("web", possible=4, boot=2)
    host.daemon.restart_killed()
    host.daemon.stop()
    files = list(record.iterdir())
    assert len(files) == 2
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in files)
    again = made(lines(record), "add", vmm)[0]
    # What the first one stored is where the second begins; the token is nobody's business.
    assert again["record"]["enabled"] == "03" and not again["record"]["stopped"]
    assert not any("token" in json.dumps(line) for line in lines(record))


def test_daemon_does_not_start_where_it_cannot_record(make_host, directory):
    host = make_host({"record_directory": str(directory / "missing")}, start=False)
    status, log = host.daemon.run_to_end()
    assert status != 0
    assert str(directory / "missing") in log and "No such file" in log


def test_database_of_the_first_version(make_host):
    host = make_host(start=False)
    host.daemon.state.mkdir(mode=0o700)
    shutil.copy(paths.SOURCE / "tests" / "data" / "store" / "version-1.db",
                host.daemon.state / "state.db")
    host.daemon.start()
    shown = host.show("web1")
    assert (shown["Desired"], shown["Possible"]) == (4, 9)
