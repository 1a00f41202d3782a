# SPDX-License-Identifier: GPL-2.0-or-later
"""The interfaces that are installed are those that the daemon has. CPUPOLICY_UPDATE=1 writes them anew."""

import json
import os
import xml.etree.ElementTree as ElementTree

from cpupolicy_test import paths
from cpupolicy_test.bus import NAME, ROOT
from cpupolicy_test.introspection import interfaces

FILES = paths.SOURCE / "systemd/interfaces"
# what an agent implements, and the daemon calls
AGENTS = {"org.cpupolicy1.Provider"}


def introspect(host, path):
    out = host.bus.busctl("--json=short", "call", NAME, path, "org.freedesktop.DBus.Introspectable", "Introspect")
    return interfaces(json.loads(out)["data"][0])


def test_installed_interfaces_are_the_daemons(host):
    host.vmm("vm", possible=4, boot=2)
    job = host.resize("vm", 3)
    found = {}
    for path in (ROOT, host.path("vm"), job):
        found.update(introspect(host, path))
    if os.environ.get("CPUPOLICY_UPDATE"):
        FILES.mkdir(exist_ok=True)
        for name, text in found.items():
            (FILES / f"{name}.xml").write_text(text, encoding="utf-8")
    installed = {path.stem: path.read_text("utf-8") for path in FILES.glob("*.xml")}
    assert set(installed) == set(found) | AGENTS
    for name, text in found.items():
        assert installed[name] == text, f"{name}.xml is not what the daemon says; CPUPOLICY_UPDATE=1 writes it anew"


def test_interfaces_of_agents_are_whole(host):
    """No daemon says them: they are held to the form of the others."""
    for name in AGENTS:
        text = (FILES / f"{name}.xml").read_text("utf-8")
        assert interfaces(text) == {name: text}
        assert [m.get("name") for m in ElementTree.fromstring(text).iter("method")] == ["SetCpuQuota"]
