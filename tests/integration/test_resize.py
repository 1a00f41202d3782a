# SPDX-License-Identifier: GPL-2.0-or-later
"""Resize jobs against a VMM that answers as guests do, or does not."""

import pytest

from cpupolicy_test import wire
from cpupolicy_test.bus import JOB, MANAGER, ROOT, VM, BusError
from cpupolicy_test.daemon import classes, default_class
from cpupolicy_test.vmm_process import VmmProcess
from cpupolicy_test.wait import never, wait_for

REFUSED, FORBIDDEN, IN_PROGRESS = 0x82, 0x80, 0x84
QUICK = default_class(job_timeout_seconds=1)


def shrink_job(host, vmm, start=6, count=4):
    """A VM with all vCPUs online that is asked for some of them."""
    host.resize("web", start)
    vmm.wait_enabled(set(range(start)))
    for i in range(1, start):
        vmm.acknowledge(i)
        vmm.online(i)
    job = host.resize("web", count)
    vmm.wait_wanted(set(range(count)))
    vmm.confirm()
    return job


def test_grow_acknowledged(host):
    vmm = host.vmm("web", possible=6, boot=4)
    monitor = host.bus.monitor()
    job = host.resize("web", 6)
    vmm.wait_enabled(set(range(6)))
    vmm.confirm()
    vmm.acknowledge(4)
    assert host.get("web", "Job") == job
    assert host.bus.get(job, JOB, "Pending") == 1
    vmm.acknowledge(5)
    result = host.job_result("web", job)
    assert (result["result"], result["online"]) == ("done", False)
    assert (result["from"], result["to"]) == (4, 6)
    number, path, name, how = monitor.wait("JobRemoved")
    assert (number, path, name, how) == (result["id"], job, "web", "done")
    assert monitor.wait("JobNew") == [result["id"], job, "web"]
    assert host.get("web", "Job") == "/"


def test_grow_online(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.wait_enabled({0, 1, 2, 3, 4})
    vmm.online(4)
    result = host.job_result("web", job)
    assert (result["result"], result["online"]) == ("done", True)


def test_growth_takes_the_lowest_and_shrinking_the_highest(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.wait_enabled({0, 1, 2, 3, 4})
    vmm.plug(4)
    host.job_result("web", job)
    host.resize("web", 3)
    vmm.wait_wanted({0, 1, 2})
    assert vmm.page.enabled() == {0, 1, 2, 3, 4}, "the guest has them until it gives them back"


def test_shrink_is_done_at_eject(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = shrink_job(host, vmm, 6, 4)
    vmm.ost(5, 3, IN_PROGRESS)
    vmm.offline(5)
    vmm.ost(5, 3, 0)
    assert host.get("web", "Job") == job, "neither power-off nor _OST proves it"
    vmm.eject(5)
    assert host.get("web", "EnabledSet") == "0-4"
    vmm.offline(4)
    vmm.eject(4)
    assert host.job_result("web", job)["result"] == "done"
    assert host.show("web")["EnabledSet"] == "0-3"
    assert vmm.page.enabled() == {0, 1, 2, 3}


def test_nothing_to_do_is_done_at_once(host):
    host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 4)
    assert host.job_result("web", job)["result"] == "done"


@pytest.mark.parametrize("status,result", [(REFUSED, "guest-refused"),
                                           (FORBIDDEN, "guest-forbidden")])
def test_guest_says_no(host, status, result):
    vmm = host.vmm("web", possible=6, boot=4)
    job = shrink_job(host, vmm, 5, 4)
    if status == REFUSED:
        vmm.ost(4, 3, IN_PROGRESS)
    vmm.ost(4, 3, status)
    assert host.job_result("web", job)["result"] == result
    shown = host.show("web")
    assert (shown["Desired"], shown["EnabledSet"], shown["OverdueSet"]) == (4, "0-4", "4")
    # a late change of mind is taken
    vmm.offline(4)
    vmm.eject(4)
    host.wait_prop("web", "EnabledSet", "0-3")
    assert host.get("web", "OverdueSet") == ""


def test_guest_refuses_one_of_two(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = shrink_job(host, vmm, 6, 4)
    vmm.offline(5)
    vmm.eject(5)
    vmm.ost(4, 3, REFUSED)
    assert host.job_result("web", job)["result"] == "partial"


def test_insertion_fails_in_the_guest(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.wait_enabled({0, 1, 2, 3, 4})
    vmm.ost(4, 1, 1)
    assert host.job_result("web", job)["result"] == "guest-refused"


def test_no_answer_ends_as_timeout(make_host):
    host = make_host(policy=QUICK)
    host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    assert host.job_result("web", job, 20)["result"] == "timeout"
    assert host.show("web")["Desired"] == 5, "a late answer is welcome"


def test_some_answers_end_as_partial(make_host):
    host = make_host(policy=QUICK)
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 6)
    vmm.plug(4)
    assert host.job_result("web", job, 20)["result"] == "partial"


def test_later_request_supersedes(host):
    vmm = host.vmm("web", possible=6, boot=4)
    monitor = host.bus.monitor()
    first = host.resize("web", 6)
    second = host.resize("web", 5)
    number = int(first.rsplit("/", 1)[1])
    assert monitor.wait("JobRemoved", lambda a: a[0] == number)[3] == "superseded"
    # vCPU 5 was granted by the first: the guest may have it already, so it is asked back
    vmm.wait_wanted({0, 1, 2, 3, 4})
    vmm.confirm()
    vmm.acknowledge(4)
    vmm.eject(5)
    assert host.job_result("web", second)["result"] == "done"
    assert host.show("web")["EnabledSet"] == "0-4"


def test_end_of_the_vmm_ends_the_job(host, directory):
    vmm = VmmProcess(directory, host.socket, "web", possible=6, boot=4)
    monitor = host.bus.monitor()
    host.resize("web", 5)
    vmm.kill()
    assert monitor.wait("JobRemoved")[3] == "disconnected"
    vmm.close()


def test_reconnection_in_the_middle_of_a_job(host):
    first = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    first.wait_enabled({0, 1, 2, 3, 4})
    first.sock.close()
    host.wait_prop("web", "State", "disconnected")
    second = host.connect()
    second.hello()
    second.register("web", possible=6, boot=4, uuid=first.uuid, token=first.token)
    assert second.page.enabled() == {0, 1, 2, 3, 4}
    second.confirm()
    second.acknowledge(4)
    assert host.job_result("web", job)["result"] == "done"


def test_pause_stops_the_deadline(make_host):
    host = make_host(policy=QUICK)
    vmm = host.vmm("web", possible=6, boot=4)
    vmm.run_state(wire.PAUSED)
    assert host.get("web", "State") == "paused"
    job = host.resize("web", 5)
    never(lambda: host.get("web", "Job") != job, "the deadline ran while the VM was paused", 2.5)
    vmm.run_state(wire.RUNNING)
    vmm.plug(4)
    assert host.job_result("web", job)["result"] == "done"


def test_deadline_goes_on_after_a_pause(make_host):
    host = make_host(policy=QUICK)
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 5)
    vmm.run_state(wire.PAUSED)
    vmm.run_state(wire.RUNNING)
    assert host.job_result("web", job, 20)["result"] == "timeout"


def test_reset_resolves_what_is_pending(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = shrink_job(host, vmm, 6, 4)
    vmm.eject(4, wire.EJECT_RESET)
    vmm.eject(5, wire.EJECT_RESET)
    vmm.reset(wire.RESET_GUEST)
    assert host.job_result("web", job)["result"] == "done"
    shown = host.show("web")
    assert (shown["EnabledSet"], shown["OnlineSet"]) == ("0-3", "0")


def test_reset_finds_what_was_added(host):
    vmm = host.vmm("web", possible=6, boot=4)
    job = host.resize("web", 6)
    vmm.wait_enabled(set(range(6)))
    vmm.confirm()
    vmm.reset(wire.RESET_HOST)
    assert host.job_result("web", job)["result"] == "done"
    assert host.get("web", "EnabledSet") == "0-5"


def test_guests_own_eject_lowers_desired(host):
    vmm = host.vmm("web", possible=6, boot=4)
    vmm.offline(3)
    vmm.eject(3, wire.EJECT_GUEST)
    vmm.ost(3, 0x103, 0)
    host.wait_prop("web", "Desired", 3)
    assert host.get("web", "EnabledSet") == "0-2"
    assert vmm.ask(3) == (wire.DENIED, "ejected")


def test_pending_request_is_notified_again_on_request(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.resize("web", 5)
    vmm.wait_enabled({0, 1, 2, 3, 4})
    serial = vmm.page.word(4).serial
    vmm.confirm()
    host.resize("web", 5)
    vmm.wait_page(lambda p: p.word(4).serial != serial, "the guest is to be told again")


def error(host, count, vm="web"):
    return host.bus.error_of(ROOT, MANAGER, "SetVcpuCount", f"string:{vm}", f"uint32:{count}")


@pytest.mark.parametrize("count", [0, 7, 4294967295])
def test_out_of_range(host, count):
    host.vmm("web", possible=6, boot=4)
    e = error(host, count)
    assert e.name == "org.cpupolicy1.Error.OutOfRange"
    assert "6" in e.message, "the sentence says what the bound is"
    assert host.get("web", "Desired") == 4


def test_beyond_the_service_level(make_host):
    host = make_host(policy=classes(web={"limit": 5}))
    host.vmm("web", possible=6, boot=4)
    e = error(host, 6)
    assert e.name == "org.cpupolicy1.Error.SlaLimit"
    assert "5" in e.message and "of-web" in e.message
    assert host.get("web", "Guaranteed") == 1 and host.get("web", "Limit") == 5


def test_boot_vcpus_that_may_not_be_taken_back(host):
    vmm = host.vmm("web", possible=6, boot=4, flags=wire.REG_NOTIFY)
    e = error(host, 3)
    assert e.name == "org.cpupolicy1.Error.BootVcpu"
    assert "4" in e.message
    job = host.resize("web", 5)
    vmm.plug(4)
    assert host.job_result("web", job)["result"] == "done"
    host.resize("web", 4)
    vmm.unplug(4)
    host.wait_prop("web", "EnabledSet", "0-3")


def test_device_tree_guest(host):
    vmm = host.vmm("web", possible=6, boot=4, flags=0)
    e = error(host, 5)
    assert e.name == "org.cpupolicy1.Error.NotNotifiable"
    assert "ACPI" in e.message
    assert vmm.page.enabled() == {0, 1, 2, 3}


def test_migrating(host):
    vmm = host.vmm("web", possible=6, boot=4)
    vmm.run_state(wire.INACTIVE)
    assert error(host, 5).name == "org.cpupolicy1.Error.Migrating"


def test_no_such_vm(host):
    e = error(host, 5, "nobody")
    assert e.name == "org.cpupolicy1.Error.NoSuchVm"
    assert "nobody" in e.message


def test_by_uuid_and_by_the_vms_own_method(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.resize(str(vmm.uuid), 5)
    vmm.plug(4)
    host.wait_prop("web", "Enabled", 5)
    host.bus.call_json(host.path("web"), VM, "SetVcpuCount", "u", 6)
    vmm.plug(5)
    host.wait_prop("web", "Enabled", 6)
    with pytest.raises(BusError):
        host.bus.call_json(host.path("web"), VM, "SetVcpuCount", "u", 9)


def test_asking_uid_is_recorded(host):
    vmm = host.vmm("web", possible=6, boot=4)
    assert host.get("web", "DesiredUid") == 4294967295
    job = host.resize("web", 5)
    assert host.bus.get(job, JOB, "Uid") == 0
    vmm.plug(4)
    assert host.job_result("web", job)["uid"] == 0
    assert host.get("web", "DesiredUid") == 0


def test_stopped_vm_takes_the_count_for_its_next_start(host):
    vmm = host.vmm("web", possible=6, boot=4)
    uuid = vmm.uuid
    job = host.resize("web", 5)
    vmm.plug(4)
    host.job_result("web", job)
    vmm.unregister()
    host.wait_prop("web", "State", "stopped")
    job = host.resize("web", 3)
    assert host.job_result("web", job)["result"] == "disconnected"
    assert host.vmm("web", possible=6, boot=4, uuid=uuid).page.enabled() == {0, 1, 2}


def test_ost_floods_and_nonsense_change_nothing(host):
    vmm = host.vmm("web", possible=6, boot=4)
    for vcpu in range(6):
        for event, status in ((1, 0), (3, 0), (3, 0x82), (0x103, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
            vmm.ost(vcpu, event, status, reply=False)
    vmm.eject(5)
    assert vmm.ask(3) == (wire.SUCCESS, "granted")
    shown = host.show("web")
    assert (shown["EnabledSet"], shown["Desired"], shown["Job"]) == ("0-3", 4, "/")


def test_confirmed_generation_is_shown(host):
    vmm = host.vmm("web", possible=6, boot=4)
    host.resize("web", 5)
    vmm.wait_enabled({0, 1, 2, 3, 4})
    generation = vmm.page.generation
    assert host.get("web", "Generation") == generation
    assert host.get("web", "Confirmed") < generation
    vmm.confirm()
    wait_for(lambda: host.get("web", "Confirmed") == generation, "confirmed")
    vmm.confirm(generation + 1000)
    assert host.get("web", "Confirmed") == generation, "what was never published cannot be confirmed"
