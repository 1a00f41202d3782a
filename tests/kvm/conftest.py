# SPDX-License-Identifier: GPL-2.0-or-later
"""One arm64 KVM host for all tests; in it a bus, a daemon and guests for each.

What the guest tests say of a machine under TCG they say here of one under KVM: they are the same
functions, with these fixtures.
"""

import pathlib
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "guest")]
pytest.register_assert_rewrite("test_linux", "test_psci", "test_state")

# pylint: disable=wrong-import-position,unused-import,redefined-outer-name
from cpupolicy_test.fixtures import (host, make_host, pytest_configure,  # noqa: E402,F401
                                     pytest_runtest_makereport)
from cpupolicy_test.kvm import KvmHost, KvmLab  # noqa: E402
from cpupolicy_test.lab import temporary_directory  # noqa: E402


@pytest.fixture(scope="session")
def kvm_host():
    with temporary_directory() as path:
        made = KvmHost(path)
        try:
            yield made.wait_boot()
        finally:
            made.close()


@pytest.fixture
def directory(kvm_host):
    """It is there in the host as well, under the same name."""
    with temporary_directory() as path:
        kvm_host.agent.run("mkdir", "-p", path)
        yield path
        kvm_host.agent.run("rm", "-rf", path)


@pytest.fixture
def lab(kvm_host, directory, request):
    made = KvmLab(kvm_host, directory)
    request.node.labs = [made]
    try:
        yield made
    finally:
        made.close()
