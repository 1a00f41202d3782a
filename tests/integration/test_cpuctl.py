# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: outputs, exit statuses, watching, completion."""

import json
import os
import shlex
import signal
import subprocess

import pytest

from cpupolicy_test import paths, wire
from cpupolicy_test.daemon import default_class
from cpupolicy_test.process import Process
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import wait_for

NOBODY = 65534
DONE, FAILED, NO_SUCH_VM, PARTIAL, GUEST_REFUSED, GUEST_FORBIDDEN, TIMEOUT, SUPERSEDED, \
    DISCONNECTED, STORAGE, REFUSED, ACCESS_DENIED, NO_DAEMON, GAVE_UP = range(14)


class Cpuctl:
    """cpuctl running beside the test."""

    def __init__(self, host, *args):
        self.out = host.directory / f"cpuctl-{'-'.join(a.strip('-') for a in args)}.log"
        self.process = Process([paths.cpuctl(), *host.cpuctl_bus(), *args], self.out,
                               env=host.bus.env())

    def end(self):
        return self.process.wait(60), self.process.log()


def test_list(host):
    assert host.cpuctl("list").count("\n") <= 1
    assert json.loads(host.cpuctl("list", "--json")) == []
    a = host.vmm("web", possible=6, boot=4)
    host.vmm("db", possible=2, boot=1)
    a.denied(5, count=3)
    rows = {r["name"]: r for r in json.loads(host.cpuctl("list", "--json"))}
    assert set(rows) == {"web", "db"}
    web = rows["web"]
    assert (web["possible"], web["enabled"], web["online"], web["overdue"], web["denied"]) == \
        (6, 4, 1, 0, 3)
    assert web["uuid"] == str(a.uuid) and web["state"] == "running"
    text = host.cpuctl("list").splitlines()
    assert len(text) == 3
    line = next(t for t in text if "web" in t).split()
    assert "running" in line and "6" in line and "3" in line


def test_show(host):
    vmm = host.vmm("web", possible=6, boot=4)
    vmm.online(2)
    vmm.denied(5)
    by_name = json.loads(host.cpuctl("show", "web", "--json"))
    by_uuid = json.loads(host.cpuctl("show", str(vmm.uuid), "--json"))
    for used in ("used_guaranteed", "used_burst", "cpu_granted"):  # time goes on in between
        assert 0 < by_name.pop(used) < by_uuid.pop(used)
    assert by_name.pop("cpu_time") <= by_uuid.pop("cpu_time")
    assert by_name == by_uuid
    assert by_name["enabled_set"] == "0-3" and by_name["online_set"] == "0,2"
    assert by_name["desired_uid"] is None and by_name["last_job"] is None
    assert len(by_name["vcpus"]) == 6
    text = host.cpuctl("show", "web")
    assert str(vmm.uuid) in text and "not-enabled" in text and "0-3" in text


def test_set_waits_and_tells(host):
    vmm = host.vmm("web", possible=6, boot=4)
    setting = Cpuctl(host, "set", "web", "5")
    vmm.wait_enabled({0, 1, 2, 3, 4})
    wait_for(lambda: "4" in setting.process.log(), "progress is shown")
    assert setting.process.alive(), "it waits for the guest"
    vmm.plug(4, online=False)
    status, text = setting.end()
    assert status == DONE, text


def test_set_json(host):
    vmm = host.vmm("web", possible=6, boot=4)
    setting = Cpuctl(host, "set", "web", "5", "--json")
    vmm.plug(4)
    status, text = setting.end()
    assert status == DONE
    told = json.loads(text)
    assert told["result"] == "done" and told["enabled"] == 5


def test_set_online_waits_for_cpu_on(host):
    vmm = host.vmm("web", possible=6, boot=4)
    setting = Cpuctl(host, "set", "web", "5", "--online")
    vmm.plug(4, online=False)
    wait_for(lambda: host.last_job("web")["result"] == "done", "the job is done")
    wait_for(lambda: host.get("web", "Enabled") == 5, "enabled")
    assert setting.process.alive(), "acknowledged is not online"
    vmm.online(4)
    assert setting.end()[0] == DONE


def test_set_no_wait(host):
    host.vmm("web", possible=6, boot=4)
    assert host.cpuctl("set", "web", "5", "--no-wait", check=False).returncode == DONE
    assert host.get("web", "Desired") == 5 and host.get("web", "Job") != "/"


def test_set_timeout_option(host):
    host.vmm("web", possible=6, boot=4)
    result = host.cpuctl("set", "web", "5", "--timeout", "0.2", check=False)
    assert result.returncode == GAVE_UP
    assert host.get("web", "Job") != "/", "the job goes on"


@pytest.mark.parametrize("ost,status", [(0x82, GUEST_REFUSED), (0x80, GUEST_FORBIDDEN)])
def test_set_guest_says_no(host, ost, status):
    vmm = host.vmm("web", possible=6, boot=4)
    setting = Cpuctl(host, "set", "web", "3")
    vmm.wait_wanted({0, 1, 2})
    vmm.ost(3, 3, ost)
    got, text = setting.end()
    assert got == status and text


def test_set_partial(host):
    vmm = host.vmm("web", possible=6, boot=4)
    setting = Cpuctl(host, "set", "web", "2")
    vmm.wait_wanted({0, 1})
    vmm.eject(3)
    vmm.ost(2, 3, 0x82)
    assert setting.end()[0] == PARTIAL


def test_set_job_timeout(make_host):
    host = make_host(policy=default_class(job_timeout_seconds=1))
    host.vmm("web", possible=6, boot=4)
    assert host.cpuctl("set", "web", "5", check=False).returncode == TIMEOUT


def test_set_superseded(host):
    vmm = host.vmm("web", possible=6, boot=4)
    first = Cpuctl(host, "set", "web", "5")
    vmm.wait_enabled({0, 1, 2, 3, 4})
    wait_for(lambda: host.get("web", "Job") != "/", "the job runs")
    host.resize("web", 6)
    assert first.end()[0] == SUPERSEDED


def test_set_disconnected(host, directory):
    vmm = VmmProcess(directory, host.socket, "web", possible=6, boot=4)
    setting = Cpuctl(host, "set", "web", "5", "--json")
    wait_for(lambda: host.get("web", "Job") != "/", "the job runs")
    vmm.kill()
    status, text = setting.end()
    assert status == DISCONNECTED
    assert '"added_online": false' in text, "nothing was added"
    vmm.close()


def test_set_survives_the_daemons_restart(host):
    vmm = host.vmm("web", possible=6, boot=4)
    setting = Cpuctl(host, "set", "web", "5")
    vmm.wait_enabled({0, 1, 2, 3, 4})
    wait_for(lambda: host.get("web", "Job") != "/", "the job runs")
    host.daemon.restart_killed()
    again = host.connect()
    again.hello()
    again.register("web", uuid=vmm.uuid, token=vmm.token,
                   vcpus={i: wire.ONLINE | wire.ACKED for i in range(5)})
    status, text = setting.end()
    assert status == DONE, text


@pytest.mark.parametrize("count", ["0", "7"])
def test_set_out_of_range(host, count):
    host.vmm("web", possible=6, boot=4)
    result = host.cpuctl("set", "web", count, check=False)
    assert result.returncode == REFUSED
    assert "6" in result.stderr and not result.stdout


@pytest.mark.parametrize("args", [["show", "nobody"], ["set", "nobody", "3"], ["forget", "nobody"]])
def test_no_such_vm(host, args):
    result = host.cpuctl(*args, check=False)
    assert result.returncode == NO_SUCH_VM
    assert "nobody" in result.stderr and not result.stdout


def test_access_denied(host, directory):
    host.vmm("web", possible=6, boot=4)
    program = directory / "cpuctl"  # a build directory below /root is closed to others
    program.write_bytes(paths.cpuctl().read_bytes())
    program.chmod(0o755)
    result = subprocess.run([program, *host.cpuctl_bus(), "set", "web", "5"], user=NOBODY,
                            extra_groups=[], stderr=subprocess.PIPE, timeout=30, check=False,
                            cwd="/")
    assert result.returncode == ACCESS_DENIED
    assert host.get("web", "Desired") == 4


def test_no_daemon(host):
    host.daemon.stop()
    for args in (["list"], ["set", "web", "3"]):
        result = host.cpuctl(*args, check=False)
        assert result.returncode == NO_DAEMON and result.stderr
    host.bus.stop()
    assert host.cpuctl("list", check=False).returncode == NO_DAEMON


def test_forget(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.resize("web", 4)
    assert host.cpuctl("forget", "web", check=False).returncode == REFUSED
    vmm.unregister()
    host.wait_prop("web", "State", "stopped")
    host.cpuctl("forget", "web")
    assert not host.known("web")


def events(process):
    return [json.loads(line) for line in process.log().splitlines() if line.endswith("}")]


def test_watch_json(host):
    vmm = host.vmm("web", possible=6, boot=4)
    watching = Cpuctl(host, "watch", "--json").process

    def wait_event(event, **members):
        return wait_for(lambda: [e for e in events(watching) if e["event"] == event and
                                 all(e.get(k) == v for k, v in members.items())],
                        f"watch shows {event} {members}")[0]
    assert wait_event("present", name="web")["enabled"] == 4
    job = host.resize("web", 5)
    wait_event("desired", count=5, uid=0)
    wait_event("enabled", set="0-4", added="4")
    wait_event("job", name="web")
    vmm.plug(4)
    wait_event("online", set="0,4", added="4")
    assert wait_event("job-ended", result="done")["job"] == int(job.rsplit("/", 1)[1])
    vmm.denied(5, count=7)
    wait_event("denied", vcpu=5, reason="not-enabled", count=7, enforced=True)
    vmm.run_state(wire.PAUSED)
    wait_event("state", **{"from": "running", "to": "paused"})
    host.vmm("db")
    wait_event("new", name="db")
    host.daemon.restart_killed()
    wait_event("daemon-gone")
    wait_event("daemon-returned")
    watching.signal(signal.SIGINT)
    assert watching.wait() in (0, 130, -signal.SIGINT)


def test_watch_one_vm_as_text(host):
    web, db = host.vmm("web", possible=6, boot=4), host.vmm("db")
    watching = Cpuctl(host, "watch", "web").process
    wait_for(lambda: "web" in watching.log(), "it shows what is")
    db.denied(5)
    web.denied(5)
    wait_for(lambda: "not-enabled" in watching.log(), "it shows the denial")
    assert "db" not in watching.log()
    watching.kill()


def test_watch_ends_when_nobody_reads(host):
    vmm = host.vmm("web")
    read, write = os.pipe()
    watching = subprocess.Popen(  # pylint: disable=consider-using-with
        [paths.cpuctl(), *host.cpuctl_bus(), "watch"], stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    assert os.read(read, 10)
    os.close(read)

    def ended():
        vmm.denied(5)
        return watching.poll() is not None
    try:
        wait_for(ended, "watch ends with its reader", 30)
    finally:
        watching.kill()
        watching.wait()


def test_odd_names_do_no_harm(host):
    name = "a b;$(touch x)`'\"\u00e9"
    host.vmm(name)
    assert json.loads(host.cpuctl("show", name, "--json"))["name"] == name
    assert name in host.cpuctl("list")


def test_help():
    told = subprocess.run([paths.cpuctl(), "--help"], stdout=subprocess.PIPE, text=True, check=True)
    commands = [line.split()[0] for line in told.stdout.split("Commands:\n")[1].split("\n\n")[0]
                .splitlines()]
    assert {"set", "list", "assign", "explain", "usage", "top", "reload"} <= set(commands)
    for args in ([], *([c] for c in commands)):
        result = subprocess.run([paths.cpuctl(), *args, "--help"], stdout=subprocess.PIPE,
                                text=True, check=True)
        assert "Usage: cpuctl" in result.stdout
    assert subprocess.run([paths.cpuctl(), "--version"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.startswith("cpuctl ")


@pytest.mark.parametrize("args", [["frobnicate"], ["set", "web"], ["set", "web", "five"],
                                  ["set", "web", "5", "6"], ["list", "--online"],
                                  ["--frobnicate"], []])
def test_wrong_usage(args):
    result = subprocess.run([paths.cpuctl(), *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == FAILED
    assert "help" in result.stderr


def complete(host, line):
    """What bash offers for this line with the cursor at its end."""
    words = line.split(" ")
    script = f"""
        . {shlex.quote(str(paths.SOURCE / 'client/cpuctl.bash-completion'))}
        COMP_WORDS=({' '.join(shlex.quote(w) for w in words)}) COMP_CWORD={len(words) - 1}
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
        _cpuctl_complete
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = host.bus.env()
    env.update(PATH=f"{paths.cpuctl().parent}:{env['PATH']}", CPUPOLICY_BUS=host.bus.address)
    out = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, check=True, env=env)
    assert out.stderr == ""
    return set(out.stdout.split("\n")) - {""}


def test_completion(host):
    for name in ("web1", "web2", "db", "with blank"):
        host.vmm(name)
    assert complete(host, "cpuctl ") >= {"list", "show", "set", "watch"}
    assert complete(host, "cpuctl s") >= {"set", "show"}
    everything = host.cpuctl("--help").split("Commands:\n")[1].split("\n\n")[0]
    assert complete(host, "cpuctl ") == {line.split()[0] for line in everything.splitlines()}
    assert complete(host, "cpuctl set ") == {"web1", "web2", "db", "with\\ blank"}
    assert complete(host, "cpuctl show we") == {"web1", "web2"}
    assert complete(host, "cpuctl set web1 --o") == {"--online"}
    assert "--json" in complete(host, "cpuctl list --")


def test_completion_of_the_policys_names(make_host):
    host = make_host(policy={"classes": {"gold": {"guaranteed": 2, "limit": 4}, "grey": {}},
                             "tenants": {"acme": {}}})
    host.vmm("web1")
    assert complete(host, "cpuctl assign we") == {"web1"}
    assert complete(host, "cpuctl assign web1 g") == {"gold", "grey"}
    assert complete(host, "cpuctl assign web1 --tenant ") == {"acme"}
    assert complete(host, "cpuctl usage --tenant a") == {"acme"}
    assert complete(host, "cpuctl usage --s") == {"--since", "--system", "--session"}
    assert complete(host, "cpuctl usage ") == set()
    assert complete(host, "cpuctl explain ") == {"web1"}
    assert complete(host, "cpuctl explain web1 ") == set()


def test_completion_without_a_daemon_is_silent(host):
    host.daemon.stop()
    assert complete(host, "cpuctl show ") == set()
