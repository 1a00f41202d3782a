# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots, migration, jobs over pauses, and what a guest can do to the hotplug registers."""

import random
import time

import pytest

from cpupolicy_test.daemon import default_class
from cpupolicy_test.guest import CPU_ON, DENIED, SUCCESS
from cpupolicy_test.wait import never, wait_for

# The register block that the ACPI methods use (qemu-glue/hw/regs.c).
BLOCK = 0x090D0000
SELECT, STATUS, EJECT, OST_EVENT, OST_STATUS, NOTIFY = range(BLOCK, BLOCK + 0x18, 4)
INSERT, EJECT_REQUEST = 1, 3


class Firmware:
    """What an operating system's ACPI driver does, by hand."""

    def __init__(self, guest):
        self.guest = guest

    def notification(self):
        """(kind, vCPU) of the next one, or None."""
        value = self.guest.read(4, NOTIFY)
        return (value >> 16, value & 0xFFFF) if value else None

    def wait_notification(self):
        return wait_for(self.notification, "a notification")

    def status(self, cpu):
        self.guest.write(4, SELECT, cpu)
        return self.guest.read(4, STATUS)

    def eject(self, cpu):
        self.guest.write(4, SELECT, cpu)
        self.guest.write(4, EJECT, 1)

    def ost(self, cpu, event, status):
        self.guest.write(4, SELECT, cpu)
        self.guest.write(4, OST_EVENT, event)
        self.guest.write(4, OST_STATUS, status)


def grow(host, machine, count):
    """SetVcpuCount, and the guest powers the new ones on."""
    before = host.get(machine.name, "Enabled")
    job = host.resize(machine.name, count)
    firmware = Firmware(machine.guest)
    for cpu in range(before, count):
        assert firmware.wait_notification() == (INSERT, cpu)
        firmware.ost(cpu, INSERT, 0)
        assert machine.guest.cpu_on(cpu) == SUCCESS
        machine.guest.wait_entered(cpu)
    assert host.job_result(machine.name, job)["result"] == "done"


def shrink(host, machine, count):
    before = host.get(machine.name, "Enabled")
    job = host.resize(machine.name, count)
    firmware = Firmware(machine.guest)
    for _ in range(count, before):
        kind, cpu = firmware.wait_notification()
        assert kind == EJECT_REQUEST and cpu >= count
        machine.guest.cpu_off(cpu)
        firmware.eject(cpu)
    assert host.job_result(machine.name, job)["result"] == "done"


# ---- snapshots ----

def test_snapshot_with_more_online_than_granted_now(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4", extra=lab.disk())
    guest, firmware = machine.guest, Firmware(machine.guest)
    grow(host, machine, 3)
    machine.save("s")
    shrink(host, machine, 2)
    assert guest.cpu_on(2) == DENIED

    machine.load("s")
    host.wait_prop("psci", "OverdueSet", "2")
    assert host.get("psci", "EnabledSet") == "0-1" and host.get("psci", "Desired") == 2
    assert guest.affinity_info(2) == 0, "the snapshot's vCPU runs; it is not broken by force"
    guest.cpu_off(2)
    host.wait_prop("psci", "OverdueSet", "")
    assert guest.cpu_on(2) == DENIED, "once off it stays off"
    # the guest of the snapshot is told that it has one less
    assert firmware.wait_notification() == (EJECT_REQUEST, 2)
    assert guest.cpu_on(3) == DENIED


def test_snapshot_with_less_than_granted_now(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4", extra=lab.disk())
    guest = machine.guest
    machine.save("s")
    grow(host, machine, 3)
    machine.load("s")
    assert host.get("psci", "EnabledSet") == "0-2"
    host.wait_prop("psci", "OnlineSet", "0")
    assert Firmware(guest).wait_notification() == (INSERT, 2), "told again of what it has forgotten"
    assert guest.cpu_on(2) == SUCCESS


@pytest.mark.every_series
def test_snapshot_while_a_call_waits(lab, make_host):
    host = make_host(policy=default_class(verdicts="ask", ask_timeout_ms=60000))
    machine = lab.psci(host, extra=lab.disk())
    guest = machine.guest
    entry = guest.entry()
    machine.qmp.execute("query-cpu-policy")
    host.daemon.freeze()
    call = guest.start_call(CPU_ON, 1, entry, 0)
    never(lambda: machine.channel.answered(call), "a verdict without the daemon", 0.3)
    start = time.monotonic()
    machine.save("s")
    assert time.monotonic() - start < 10
    host.daemon.thaw()
    assert guest.finish_call(call) == SUCCESS
    guest.wait_entered(1)
    machine.load("s")
    guest.wait_entered(1)  # the snapshot's guest makes its call again, and is answered


# ---- migration ----

def migrate(host, source, target_of, directory):
    path = directory / "migration"
    target = target_of(["-incoming", "defer"])
    target.qmp.execute("migrate-incoming", uri=f"unix:{path}")
    source.qmp.execute("migrate", uri=f"unix:{path}")
    wait_for(lambda: source.qmp.execute("query-migrate").get("status") in ("completed", "failed"),
             "migration ends")
    assert source.qmp.execute("query-migrate")["status"] == "completed"
    wait_for(lambda: target.qmp.status() == "running", "the guest runs on the other side")
    return target


@pytest.mark.every_series
def test_migration_on_one_host(lab, host, directory):
    source = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4")
    grow(host, source, 3)

    def target_of(options):
        return lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4", uuid=source.uuid,
                        extra=options, boot=False)
    target = migrate(host, source, target_of, directory)
    guest = target.guest
    host.wait_prop("psci", "VmmPid", target.pid)
    assert host.get("psci", "State") == "running"
    assert host.get("psci", "EnabledSet") == "0-2"
    host.wait_prop("psci", "OnlineSet", "0,2")
    assert guest.affinity_info(2) == 0
    assert guest.cpu_on(1) == SUCCESS
    assert guest.cpu_on(3) == DENIED
    source.quit()
    assert host.get("psci", "State") == "running", "the source's end is not the VM's"
    grow(host, target, 4)
    shrink(host, target, 2)
    assert guest.cpu_on(3) == DENIED


def test_migration_while_the_daemon_restarts(lab, host, directory):
    source = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4")
    grow(host, source, 3)

    def target_of(options):
        return lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4", uuid=source.uuid,
                        extra=options, boot=False)
    target = migrate(host, source, target_of, directory)
    host.daemon.restart_killed()
    wait_for(lambda: target.qmp.execute("query-cpu-policy")["link"] == "registered", "reconnected")
    source.quit()
    host.wait_prop("psci", "VmmPid", target.pid)
    assert host.get("psci", "EnabledSet") == "0-2"
    assert target.guest.cpu_on(3) == DENIED
    assert target.guest.cpu_on(1) == SUCCESS


# ---- jobs ----

def test_pause_stops_the_deadline(lab, make_host):
    host = make_host(policy=default_class(job_timeout_seconds=2))
    machine = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4")
    machine.qmp.execute("stop")
    host.wait_prop("psci", "State", "paused")
    job = host.resize("psci", 3)
    never(lambda: host.get("psci", "Job") != job, "the deadline ran while the VM was paused", 3)
    machine.qmp.execute("cont")
    firmware = Firmware(machine.guest)
    assert firmware.wait_notification() == (INSERT, 2)
    firmware.ost(2, INSERT, 0)
    assert host.job_result("psci", job)["result"] == "done"


def test_guest_that_does_not_answer(lab, make_host):
    host = make_host(policy=default_class(job_timeout_seconds=1))
    machine = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4")
    job = host.resize("psci", 3)
    assert host.job_result("psci", job)["result"] == "timeout"
    job = host.resize("psci", 3)
    assert Firmware(machine.guest).wait_notification() == (INSERT, 2), "asked again"
    assert machine.guest.cpu_on(2) == SUCCESS
    assert host.job_result("psci", job)["online"] is True


def test_request_the_guest_never_saw_is_resolved_by_its_reset(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=3,maxcpus=4")
    job = host.resize("psci", 2)
    wait_for(lambda: host.get("psci", "Confirmed") == host.get("psci", "Generation"), "applied")
    machine.system_reset()
    assert host.job_result("psci", job)["result"] == "done"
    assert Firmware(machine.guest).status(2) == 0
    assert machine.guest.cpu_on(2) == DENIED
    assert Firmware(machine.guest).notification() is None, "nothing of it is left over"


def test_guest_gives_up_a_vcpu_by_itself(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=3,maxcpus=4")
    firmware = Firmware(machine.guest)
    firmware.eject(2)
    firmware.ost(2, 0x103, 0)
    host.wait_prop("psci", "Desired", 2)
    assert host.get("psci", "EnabledSet") == "0-1"
    assert machine.guest.cpu_on(2) == DENIED
    assert firmware.status(2) == 0


def test_eject_of_a_running_vcpu_powers_it_off(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=3,maxcpus=4")
    guest, firmware = machine.guest, Firmware(machine.guest)
    assert guest.cpu_on(2) == SUCCESS
    guest.wait_entered(2)
    firmware.eject(2)
    wait_for(lambda: guest.affinity_info(2) == 1, "it is off")
    host.wait_prop("psci", "OnlineSet", "0")
    assert host.get("psci", "Overdue") == 0
    assert guest.cpu_on(2) == DENIED


def test_vcpu_0_is_never_taken(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=3,maxcpus=4")
    Firmware(machine.guest).eject(0)
    assert machine.guest.affinity_info(0) == 0
    assert host.get("psci", "EnabledSet") == "0-2"
    job = host.resize("psci", 1)
    firmware = Firmware(machine.guest)
    assert {firmware.wait_notification()[1] for _ in range(2)} == {1, 2}
    for cpu in (1, 2):
        firmware.eject(cpu)
    assert host.job_result("psci", job)["result"] == "done"
    assert host.get("psci", "EnabledSet") == "0"


def test_nonsense_in_the_registers(lab, host):
    """A guest can write anything: it harms nobody else, and gets nothing by it."""
    machine = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4")
    other = lab.psci(host, name="other")
    seed = time.time_ns()
    print("SEED", seed)
    rng = random.Random(seed)
    for _ in range(1500):
        register = BLOCK + 4 * rng.randrange(8)
        value = rng.choice((0, 1, 2, 3, 4, 0x80, 0x82, 0x103, 0xFFFFFFFF, rng.getrandbits(32)))
        if rng.randrange(3):
            machine.guest.write(4, register, value)
        else:
            machine.guest.read(4, register)
    assert machine.guest.cpu_on(3) == DENIED
    assert machine.guest.cpu_on(2) == DENIED
    assert host.get("psci", "Enabled") <= 2
    assert other.guest.cpu_on(1) == SUCCESS
    assert host.get("other", "EnabledSet") == "0-1"
    machine.system_reset()


def test_kill_9_at_any_moment_while_the_guest_plugs(lab, host):
    machine = lab.psci(host, firmware=True, smp="cpus=2,maxcpus=4")
    guest, firmware = machine.guest, Firmware(machine.guest)
    seed = time.time_ns()
    print("SEED", seed)
    rng = random.Random(seed)
    for round_ in range(12):
        count = 2 + round_ % 3
        job = host.resize("psci", count)

        def step():
            """The guest does one thing; whether the job has ended."""
            note = firmware.notification()
            if note is None:
                return host.last_job("psci")["id"] >= int(job.rsplit("/", 1)[1])
            kind, cpu = note
            if kind == INSERT:
                firmware.ost(cpu, INSERT, 0)
                guest.cpu_on(cpu)
            else:
                if guest.affinity_info(cpu) == 0:
                    guest.cpu_off(cpu)
                firmware.eject(cpu)
            return False

        # some of the guest's steps come before the daemon's death, some after
        for _ in range(rng.randrange(6)):
            step()
        host.daemon.restart_killed()
        wait_for(step, f"job {job} ends", interval=0.01)
        result = host.last_job("psci")
        assert result["result"] == "done", result
        shown = host.show("psci")
        assert (shown["Desired"], shown["Enabled"], shown["Overdue"]) == (count, count, 0)
        for cpu in range(count, 4):
            assert guest.cpu_on(cpu) == DENIED
