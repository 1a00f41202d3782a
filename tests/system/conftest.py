# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with a real systemd as its PID 1, shared by the tests of a session; its journal is shown when a test fails."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

# pylint: disable=wrong-import-position,unused-import
from cpupolicy_test import machine as machines  # noqa: E402
from cpupolicy_test.fixtures import directory  # noqa: E402,F401
from cpupolicy_test.lab import temporary_directory  # noqa: E402

_live = []


class _Boots:
    def __init__(self, directory):
        self.directory = directory
        self.made = []

    def boot(self, packages=machines.PACKAGES, binds=None):
        made = machines.Machine(self.directory, binds)
        self.made.append(made)
        _live.append(made)
        if packages:
            made.install(*packages)
        return made

    def close(self):
        for made in self.made:
            _live.remove(made)
            made.close()


@pytest.fixture(scope="session")
def machine():
    """Our packages are installed in it, and the daemon runs or is started by whoever needs it. A test leaves it so."""
    with temporary_directory() as path:
        boots = _Boots(path)
        try:
            yield boots.boot()
        finally:
            boots.close()


@pytest.fixture(scope="module")
def bridge_machine():
    """One with the libvirt bridge as well, and without a libvirtd: what runs is started by whoever ends it."""
    with temporary_directory() as path:
        boots = _Boots(path)
        try:
            yield boots.boot(packages=machines.PACKAGES + ("cpupolicy-libvirt",))
        finally:
            boots.close()


@pytest.fixture
def make_machine():
    """Boots machines for this test alone: make_machine(packages=(...), binds={...})."""
    with temporary_directory() as path:
        boots = _Boots(path)
        try:
            yield boots.boot
        finally:
            boots.close()


@pytest.fixture
def host(machine):  # pylint: disable=redefined-outer-name
    """The installed daemon, running, without a VM; VMMs of the test end with it."""
    machine.systemctl("reset-failed", machines.UNIT)
    machine.systemctl("start", machines.UNIT)
    made = machines.InstalledHost(machine)
    made.forget_all()
    try:
        yield made
    finally:
        made.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):  # pylint: disable=unused-argument
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections.extend((f"machine {made.name}", made.log()[-8000:]) for made in _live)
