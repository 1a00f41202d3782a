# SPDX-License-Identifier: GPL-2.0-or-later
"""A real libvirtd that leaves the machine's own alone: in a mount namespace of its own, with every
directory of libvirt's replaced. What it has started is ended when the tests are, however they end."""

import os
import pathlib
import re
import shutil
import signal
import subprocess

from . import paths
from .process import Process
from .wait import wait_for

QEMU_UID = 64055

_LIBVIRTD_CONF = """
unix_sock_dir = "{directory}/sock"
unix_sock_rw_perms = "0777"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:{directory}/libvirtd.log"
"""

_QEMU_CONF = """
user = "+{uid}"
group = "+{uid}"
namespaces = []
security_driver = "none"
stdio_handler = "file"
remember_owner = 0
"""

# libvirt wants its user in the user database
_SETUP = r"""
set -e
cp /etc/passwd {directory}/passwd
cp /etc/group {directory}/group
grep -q ^libvirt-qemu: {directory}/passwd ||
	echo 'libvirt-qemu:x:{uid}:{uid}::/var/lib/libvirt:/usr/sbin/nologin' >>{directory}/passwd
grep -q ^libvirt-qemu: {directory}/group || echo 'libvirt-qemu:x:{uid}:' >>{directory}/group
mount --bind {directory}/passwd /etc/passwd
mount --bind {directory}/group /etc/group
# in memory: libvirt syncs each change of a domain to the disk
for d in etc var/lib var/cache run; do
	mkdir -p /$d/libvirt
	mount -t tmpfs -o mode=0755 tmpfs /$d/libvirt
done
# What is probed of QEMU is probed again for each call if root may use KVM and QEMU's user may not: here nobody may.
if [ -e /dev/kvm ]; then
	touch {directory}/no-kvm
	chmod 0 {directory}/no-kvm
	mount --bind {directory}/no-kvm /dev/kvm
fi
mkdir -p /var/log/libvirt /etc/libvirt/qemu
mount --bind {directory}/log /var/log/libvirt
cp {directory}/qemu.conf /etc/libvirt/
cp -r {directory}/domains/. /etc/libvirt/qemu/
echo ready
# until the tests are over, or gone
cat >/dev/null
for file in /run/libvirt/qemu/*.pid; do
	[ "$file" = /run/libvirt/qemu/driver.pid ] || [ ! -e "$file" ] || kill -KILL "$(cat "$file")" || true
done
"""


class Libvirtd:
    """libvirtd, and virsh on it. `domains`: {name: XML} that are defined when it starts."""

    def __init__(self, directory, domains=None):
        self.directory = pathlib.Path(directory)
        self.socket = self.directory / "sock/libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self.process = None
        self.names = set()  # of the domains
        for name in ("log", "sock", "images", "domains"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "images").chmod(0o777)
        (self.directory / "libvirtd.conf").write_text(
            _LIBVIRTD_CONF.format(directory=self.directory), encoding="ascii")
        (self.directory / "qemu.conf").write_text(_QEMU_CONF.format(uid=QEMU_UID), encoding="ascii")
        setup = _SETUP.format(directory=self.directory, uid=QEMU_UID)
        for name, xml in (domains or {}).items():
            (self.directory / f"domains/{name}.xml").write_text(xml, encoding="utf-8")
        # not a Process: it has to outlive the tests by a moment
        self.space = subprocess.Popen(["unshare", "--mount", "bash", "-c", setup],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.space.stdout.readline() == b"ready\n"
        self.start()

    # ---- the daemon ----

    def start(self):
        self.process = Process(
            ["nsenter", "-t", str(self.space.pid), "-m", "libvirtd",
             "--config", self.directory / "libvirtd.conf",
             "--pid-file", self.directory / "libvirtd.pid"], self.directory / "libvirtd.out")
        wait_for(self._answers, "libvirtd answers", 60)

    def _answers(self):
        assert self.process.alive(), self.log()
        return self.virsh("version", check=False).returncode == 0

    def signal(self, number):
        self.process.signal(number)

    def stop(self):
        """The daemon alone: domains go on."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self.process.wait(30)

    def restart(self):
        self.stop()
        self.start()

    def log(self):
        return "\n".join(p.read_text("utf-8", "replace")[-2000:] for p in (
            self.directory / "libvirtd.out", self.directory / "libvirtd.log") if p.exists())

    def close(self):
        """And all domains with it."""
        self.process.kill()
        self.space.communicate(timeout=30)
        for path in pathlib.Path("/sys/fs/cgroup").glob("*/machine/qemu-*"):
            if any(name in path.name for name in self.names):
                for leaf in sorted(path.rglob("*/"), reverse=True):
                    _rmdir(leaf)
                _rmdir(path)

    # ---- clients ----

    def env(self):
        return dict(os.environ, LIBVIRT_DEFAULT_URI=self.uri,
                    CPUPOLICY_CPUCTL_DOMAIN=str(paths.build() / "cpuctl-domain"))

    def virsh(self, *args, check=True, text=None, timeout=90):
        """Its output; with check=False the finished process."""
        result = subprocess.run(["virsh", "-q", *[str(a) for a in args]], input=text or "",
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.env(), timeout=timeout, check=False)
        if not check:
            return result
        assert result.returncode == 0, f"virsh {args}: {result.stderr}"
        return result.stdout

    def cpuctl(self, *args, check=True, text=""):
        """cpuctl domain."""
        result = subprocess.run([str(paths.cpuctl()), "domain", *[str(a) for a in args]], input=text,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.env(), timeout=90, check=False)
        if not check:
            return result
        assert result.returncode == 0, f"cpuctl domain {args}: {result.stderr}"
        return result.stdout

    def define(self, xml):
        self.names.add(re.search("<name>(.*?)</name>", xml)[1])
        path = self.directory / "define.xml"
        path.write_text(xml, encoding="utf-8")
        return self.virsh("define", path)

    def xml(self, domain, *options):
        return self.virsh("dumpxml", domain, *options)

    def state(self, domain):
        return self.virsh("domstate", domain).strip()

    def schedule(self, domain):
        """{parameter: value} of its scheduler."""
        return dict(re.findall(r"^(\w+)\s*: (\S+)$", self.virsh("schedinfo", domain), re.M))

    # ---- files of domains ----

    def image(self, source, name, size=None):
        """A copy that QEMU's user can read."""
        path = self.directory / "images" / name
        shutil.copyfile(source, path)
        path.chmod(0o755)
        if size:
            os.truncate(path, size)
        return path

    def blank(self, name, size):
        """A file of zeroes that QEMU can write."""
        path = self.directory / "images" / name
        path.touch()
        os.truncate(path, size)
        os.chown(path, QEMU_UID, QEMU_UID)
        return path


def _rmdir(path):
    try:
        path.rmdir()
    except OSError:
        pass


# ---- the bridge ----

class Bridge:
    """cpupolicy-libvirt between a Libvirtd and a Host."""

    def __init__(self, directory, libvirtd, host):
        self.directory = pathlib.Path(directory)
        self.argv = [paths.build() / "cpupolicy-libvirt", "--connect", libvirtd.uri,
                     "--bus", host.bus.address, "--socket", host.socket, "--log-level", "debug"]
        self.process = None
        self.start()

    def start(self):
        self.process = Process(self.argv, self.directory / "bridge.log")
        self.process.wait_log("registered with the daemon")
        self.process.wait_log("libvirt has ")

    def stop(self):
        return self.process.stop()

    def restart(self):
        self.stop()
        self.start()

    def log(self):
        return self.process.log()

    def wait_log(self, text):
        self.process.wait_log(text)


# ---- domains ----

def arm_xml(libvirtd, name, uuid, images, emulator, channel, memory=512, vcpus="<vcpu current='2'>4</vcpu>"):
    """A Linux guest on virt; its commands come by the socket `channel`."""
    code = libvirtd.image(pathlib.Path(images) / "QEMU_EFI.fd", "code.fd", 64 << 20)
    variables = libvirtd.blank(f"{name}-vars.fd", 64 << 20)
    kernel = libvirtd.image(pathlib.Path(images) / "Image", "Image")
    initrd = libvirtd.image(pathlib.Path(images) / "initrd", "initrd")
    return f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  {vcpus}
  <os>
    <type arch='aarch64' machine='virt'>hvm</type>
    <loader readonly='yes' type='pflash'>{code}</loader>
    <nvram>{variables}</nvram>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyAMA0 rdinit=/init acpi=force quiet panic=-1 guest.online=auto</cmdline>
  </os>
  <features><acpi/><gic version='3'/></features>
  <cpu mode='custom'><model>max</model></cpu>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{libvirtd.directory}/images/{name}.console'/></serial>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-chardev'/>
    <qemu:arg value='socket,id=commands,path={channel},server=on,wait=off'/>
    <qemu:arg value='-serial'/>
    <qemu:arg value='chardev:commands'/>
  </qemu:commandline>
</domain>
"""


def x86_xml(libvirtd, name, uuid, images, most=4, boot=1):
    kernel = libvirtd.image(pathlib.Path(images) / "vmlinuz", "vmlinuz")
    initrd = libvirtd.image(pathlib.Path(images) / "initrd", "initrd-x86")
    return f"""<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>256</memory>
  <vcpu current='{boot}'>{most}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{libvirtd.directory}/images/{name}.console'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""
