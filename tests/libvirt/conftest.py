# SPDX-License-Identifier: GPL-2.0-or-later
"""One libvirtd, bus, daemon and bridge for all tests of this folder."""

import os
import pathlib
import sys
import types
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

# pylint: disable=wrong-import-position,unused-import
from cpupolicy_test import paths  # noqa: E402
from cpupolicy_test.fixtures import pytest_runtest_makereport  # noqa: E402,F401
from cpupolicy_test.lab import Lab, temporary_directory  # noqa: E402
from cpupolicy_test.libvirtd import Bridge, Libvirtd  # noqa: E402

POLICY = {
    "classes": {
        "default": {},
        "gold": {"guaranteed": 4},
        "small": {"guaranteed": 1, "limit": 3},
    },
    "tenants": {"acme": {"quota": 64}},
}


class Site(Lab):
    """A host with libvirt; what failed is shown with all of their logs."""

    def __init__(self, directory):
        super().__init__(directory)
        self.libvirtd = Libvirtd(directory / "libvirt")
        # QEMU runs as another user than the daemon
        self.main = self.host({"socket_mode": "0666"}, policy=POLICY)
        self.bridge = Bridge(directory, self.libvirtd, self.main)
        self.emulator = self.libvirtd.image(paths.qemu(), "qemu-glue")

    def domain(self, stem):
        """Names are those of cgroups as well: no two runs of the tests share one."""
        return types.SimpleNamespace(name=f"{stem}-{os.getpid()}", uuid=str(uuid.uuid4()))

    def report(self):
        yield from super().report()
        yield "bridge", self.bridge.log()[-6000:]
        yield "libvirtd", self.libvirtd.log()[-3000:]

    def close(self):
        self.bridge.stop()
        self.libvirtd.close()
        super().close()


@pytest.fixture(scope="session")
def shared_site():
    with temporary_directory() as directory:
        made = Site(directory)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def site(shared_site, request):  # pylint: disable=redefined-outer-name
    request.node.labs = [shared_site]
    return shared_site
