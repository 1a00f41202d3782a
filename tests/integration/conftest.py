# SPDX-License-Identifier: GPL-2.0-or-later
"""A fresh bus and daemon for each test, shown when the test fails."""

import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from cpupolicy_test.daemon import Host  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture
def directory():
    """Short, since socket paths are, and open to other users' processes."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cpupolicy-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_host(directory, request):
    """make_host(config) starts a bus and a daemon with that configuration over the default one."""
    hosts = []

    def make(config=None, start=True, name="host"):
        host = Host(directory / name, config, start)
        hosts.append(host)
        return host
    request.node.hosts = hosts
    yield make
    for host in hosts:
        host.close()
        assert host.daemon.ended_well(), "the daemon ended badly:\n" + host.daemon.log()[-4000:]


@pytest.fixture
def host(make_host):
    return make_host()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for host in getattr(item, "hosts", []):
            report.sections.append(("daemon", host.daemon.log()[-6000:]))
