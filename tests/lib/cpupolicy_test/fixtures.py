# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest fixtures of the integration and the guest tests; their conftest.py import all of it."""

import pytest

from .lab import Lab, temporary_directory


@pytest.fixture
def directory():
    with temporary_directory() as path:
        yield path


@pytest.fixture
def lab(directory, request):  # pylint: disable=redefined-outer-name
    made = Lab(directory)
    request.node.labs = [made]
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def make_host(lab):  # pylint: disable=redefined-outer-name
    return lab.host


@pytest.fixture
def host(make_host):  # pylint: disable=redefined-outer-name
    return make_host()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):  # pylint: disable=unused-argument
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for made in getattr(item, "labs", []):
            report.sections.extend(made.report())


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "every_series: runs with each series of QEMU that there is a patch for")
