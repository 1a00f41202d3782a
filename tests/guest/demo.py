# SPDX-License-Identifier: GPL-2.0-or-later
"""The published scenario, played: each command that is run, and what the guest itself reports."""

import os
import pathlib
import shlex
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

# pylint: disable=wrong-import-position
from cpupolicy_test import paths  # noqa: E402
from cpupolicy_test.bus import MANAGER, NAME, ROOT  # noqa: E402
from cpupolicy_test.daemon import classes  # noqa: E402
from cpupolicy_test.lab import Lab, temporary_directory  # noqa: E402
from cpupolicy_test.guest import CPU_ON, DENIED, SUCCESS, SYS, TABLES  # noqa: E402
from cpupolicy_test.wait import wait_for  # noqa: E402

FIRST = {"possible": "0-5", "present": "0-5", "enabled": "0-3", "online": "0-1", "offline": "2-5"}
SECOND = {"possible": "0-5", "present": "0-5", "enabled": "0-4", "online": "0-1,4",
          "offline": "2-3,5"}
POLICY = classes(demo={"cpu_on": {"per_second": 1, "burst": 6}, "ask_timeout_ms": 5000})


def title(text):
    print(f"\n=== {text}", flush=True)


def show(text, indent="    "):
    for line in text.rstrip("\n").splitlines():
        print(indent + line, flush=True)


class Progress:
    """Says every few seconds that something still goes on."""

    def __init__(self, what):
        self.what = what
        self.ended = threading.Event()
        self.start = time.monotonic()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.ended.wait(3):
            print(f"    ... {self.what}: {time.monotonic() - self.start:.0f} s", flush=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        print(f"    ({time.monotonic() - self.start:.1f} s)", flush=True)


class Demo:
    """A host, a guest, and a user at a terminal."""

    policy = POLICY

    def __init__(self, lab):
        self.lab = lab
        self.host = lab.host(start=False, policy=self.policy)
        self.env = dict(os.environ, CPUPOLICY_BUS=self.host.bus.address,
                        PATH=f"{paths.build()}:{os.environ['PATH']}")
        self.machine = None

    def run(self, *argv):
        """A command on the host, shown with what it prints."""
        print(f"$ {shlex.join(str(a) for a in argv)}", flush=True)
        result = subprocess.run([str(a) for a in argv], env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        show(result.stdout)
        assert result.returncode == 0, f"exit status {result.returncode}"

    def in_guest(self, command):
        """A command in the guest, likewise."""
        print(f"guest# {command}", flush=True)
        show(self.machine.guest.run(command))

    def tables(self, want):
        self.in_guest(f"cd {SYS}; grep -H . {' '.join(TABLES)} | sed 's/:/\\t/'")
        got = self.machine.guest.tables()
        assert got == want, f"expected {want}, not {got}"

    def start(self):
        title("A private bus, the daemon, and a guest of 6 possible vCPUs that boots with 4")
        host = self.host
        print(f"$ export CPUPOLICY_BUS={host.bus.address}")
        print(f"$ cat {host.daemon.config_path}")
        show(host.daemon.config_path.read_text())
        print(f"$ {shlex.join(str(a) for a in host.daemon.argv())} &")
        host.daemon.start()
        self.machine = self.lab.linux(host, name="demo", append="quiet maxcpus=2")
        print(f"$ {shlex.join(self.machine.process.argv)} &")
        with Progress("the guest boots (UEFI, Linux, emulated)"):
            self.machine.wait_boot()
        self.in_guest("uname -srm; cat /proc/cmdline")
        self.tables(FIRST)
        self.run("cpuctl", "list")
        self.run("busctl", f"--address={host.bus.address}", "tree", NAME)

    def grow(self):
        title("SetVcpuCount 5: the guest registers CPU 4, its user brings it online")
        guest = self.machine.guest
        self.run("busctl", f"--address={self.host.bus.address}", "call", NAME, ROOT, MANAGER,
                 "SetVcpuCount", "su", "demo", "5")
        guest.wait_registered(4)
        self.in_guest("dmesg | grep hot-added | tail -n 1")
        self.in_guest(f"echo 1 >{SYS}/cpu4/online")
        self.tables(SECOND)
        self.host.wait_prop("demo", "OnlineSet", "0-1,4")
        self.run("cpuctl", "show", "demo")

    def deny(self):
        title("A CPU_ON that policy forbids: more of them than the service level permits")
        guest = self.machine.guest

        def refused():
            guest.offline(4)
            status, output = guest.try_online(4)
            return output if status else None
        print(f"guest# while echo 0 >{SYS}/cpu4/online && echo 1 >{SYS}/cpu4/online; do :; done",
              flush=True)
        output = wait_for(refused, "the guest's kernel is denied", interval=0)
        show(output)
        assert "Operation not permitted" in output, output
        self.in_guest(f"cat {SYS}/online")
        self.record("demo", "rate")
        self.in_guest(f"sleep 2; until echo 1 >{SYS}/cpu4/online; do sleep 1; done 2>/dev/null")
        self.tables(SECOND)

    def deny_bare(self):
        title("... and of a vCPU that is not granted, by a guest that is nothing but firmware calls")
        bare = self.lab.psci(self.host, name="bare", smp="cpus=2,maxcpus=4")
        for cpu, want in ((1, SUCCESS), (3, DENIED)):
            result = bare.guest.cpu_on(cpu)
            print(f"bare# PSCI {CPU_ON:#x} (CPU_ON) of vCPU {cpu} returns {result} "
                  f"({'SUCCESS' if result == SUCCESS else 'DENIED'})", flush=True)
            assert result == want
        self.record("bare", "not-enabled")
        bare.quit()

    def record(self, vm, reason):
        """The daemon's record of a denial."""
        def lines():
            return [line for line in self.host.daemon.log().splitlines()
                    if f"VM_NAME={vm} " in line and f"REASON={reason}" in line]
        wait_for(lines, "the daemon's record")
        print(f"$ grep VERDICT=deny {self.host.daemon.log_path} | tail -n 1")
        show(lines()[-1])

    def shrink(self):
        title("SetVcpuCount 4: the guest is asked, powers CPU 4 off, and gives it back")
        self.run("cpuctl", "set", "demo", "4")
        self.tables(FIRST)

    def resets(self):
        title("A reboot by the guest keeps the policy")
        print("guest# reboot -f")
        with Progress("the guest reboots"):
            self.machine.guest.reboot()
        self.tables(FIRST)
        title("A reset by QMP as well")
        print('QMP> {"execute": "system_reset"}')
        with Progress("the guest boots"):
            self.machine.system_reset()
        self.tables(FIRST)
        self.run("cpuctl", "list")

    def play(self):
        self.start()
        self.grow()
        self.deny()
        self.deny_bare()
        self.shrink()
        self.resets()
        title("The end: QEMU, the daemon and the bus are stopped")
        print('QMP> {"execute": "quit"}')
        self.machine.quit()
        print(f"$ kill {self.host.daemon.process.pid}")


def make_lab(directory):
    """The laboratory, and what is to be done after it is closed."""
    return Lab(directory), lambda: None


def main(demo=Demo, make=make_lab):
    start = time.monotonic()
    with temporary_directory() as directory:
        lab, end = make(directory)
        try:
            demo(lab).play()
        except BaseException:
            for name, text in lab.report():
                print(f"--- {name}\n{text}", file=sys.stderr)
            raise
        finally:
            lab.close()
            end()
    print(f"\nAll as published, in {time.monotonic() - start:.0f} s.")


if __name__ == "__main__":
    main()
