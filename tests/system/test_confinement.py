# SPDX-License-Identifier: GPL-2.0-or-later
"""What the packages bring for AppArmor and SELinux, as far as it can be seen without a kernel that has them."""

import re
import subprocess

import pytest

from cpupolicy_test import paths


@pytest.fixture
def unpack(directory):
    def run(package):
        (deb,) = paths.debs().glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", deb, directory / package], check=True)
        return directory / package
    return run


def compile_profile(text, base):
    return subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--debug", f"--Include={base}/etc/apparmor.d"],
        input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def test_the_apparmor_abstraction_compiles_and_has_the_socket(unpack):
    base = unpack("cpupolicyd")
    profile = """abi <abi/3.0>,
        include <tunables/global>
        profile vmm /usr/bin/vmm {{ include <abstractions/base>
        {} }}"""
    without = compile_profile(profile.format(""), base)
    assert without.returncode == 0, without.stdout
    assert "cpupolicy" not in without.stdout
    result = compile_profile(profile.format("include <abstractions/cpupolicy>"), base)
    assert result.returncode == 0, result.stdout
    assert re.search(r"^Mode:\srw\S*\s+Name:\s\(\{/run,/var/run\}/cpupolicy/vmm\.sock\)$", result.stdout, re.MULTILINE), \
        result.stdout


def test_the_selinux_module_is_built_with_its_file_contexts(unpack):
    module = unpack("cpupolicy-selinux") / "usr/share/selinux/cpupolicy/cpupolicy.pp"
    data = module.read_bytes()
    assert data.startswith(bytes.fromhex("8fff7cf9"))  # a policy package
    for line in (b"/run/cpupolicy(/.*)?\tsystem_u:object_r:cpupolicyd_runtime_t:s0",
                 b"/usr/s?bin/cpupolicyd\t--\tsystem_u:object_r:cpupolicyd_exec_t:s0"):
        assert line in data
    assert b"virt_domain" in data
