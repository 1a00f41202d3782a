# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the tested programs are. ./check and ./demo set the variables."""

import os
import pathlib
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[3]


def build():
    """The build directory of the daemon and cpuctl."""
    value = os.environ.get("CPUPOLICY_BUILD")
    if not value:
        raise RuntimeError("CPUPOLICY_BUILD does not name a build directory (./check sets it)")
    return pathlib.Path(value)


def daemon():
    return build() / "cpupolicyd"


def cpuctl():
    # "cpuctl domain" is a program of its own, and not installed here
    os.environ.setdefault("CPUPOLICY_CPUCTL_DOMAIN", str(build() / "cpuctl-domain"))
    return build() / "cpuctl"


def _last_line(*argv):
    out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
    return pathlib.Path(out.strip().splitlines()[-1])


def qemu():
    """QEMU with the glue."""
    value = os.environ.get("CPUPOLICY_QEMU")
    return pathlib.Path(value) if value else _last_line(SOURCE / "qemu-glue/build.sh")


def qemu_img():
    """qemu-img of the same build."""
    return qemu().parent / "qemu-img"


def stock_qemu():
    """The same QEMU without the patch."""
    value = os.environ.get("CPUPOLICY_STOCK_QEMU")
    return pathlib.Path(value) if value else _last_line(SOURCE / "qemu-glue/build.sh", "--stock")


def guest_images():
    value = os.environ.get("CPUPOLICY_GUEST")
    return pathlib.Path(value) if value else _last_line(SOURCE / "tests/guest/build-images.sh")


def system_root():
    """The root file system that system tests boot copies of."""
    value = os.environ.get("CPUPOLICY_ROOT")
    return pathlib.Path(value) if value else _last_line(SOURCE / "tests/system/build-root.sh")


def debs():
    """The directory of our Debian packages."""
    value = os.environ.get("CPUPOLICY_DEBS")
    return pathlib.Path(value) if value else _last_line(SOURCE / "tests/system/build-debs.sh")


def _named(variable, *argv):
    value = os.environ.get(variable)
    return pathlib.Path(value) if value else _last_line(*argv)


def kvm_images():
    """What the KVM host is made of."""
    return _named("CPUPOLICY_KVM_HOST", SOURCE / "tests/kvm/build-host.sh")


def kvm_build():
    """The build directory of the daemon and cpuctl for arm64."""
    return _named("CPUPOLICY_KVM_BUILD", SOURCE / "tests/kvm/build-daemon.sh")


def kvm_qemu():
    """QEMU for arm64 hosts, with the glue."""
    return _named("CPUPOLICY_KVM_QEMU", SOURCE / "qemu-glue/build.sh", "--kvm")


def kvm_stock_qemu():
    """The same without the patch."""
    return _named("CPUPOLICY_KVM_STOCK_QEMU", SOURCE / "qemu-glue/build.sh", "--kvm", "--stock")


def x86_images():
    """What the x86 domain of the libvirt tests boots."""
    value = os.environ.get("CPUPOLICY_X86_GUEST")
    return pathlib.Path(value) if value else _last_line(SOURCE / "tests/libvirt/build-images.sh")
