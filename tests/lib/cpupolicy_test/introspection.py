# SPDX-License-Identifier: GPL-2.0-or-later
"""Interfaces of D-Bus as files: what a running service says of itself, in one form."""

import xml.etree.ElementTree as ElementTree

HEAD = """<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
"""


def interfaces(text, prefix="org.cpupolicy1."):
    """{name: file} of the interfaces of an object, by the reply to its Introspect()."""
    found = {}
    for interface in ElementTree.fromstring(text).iter("interface"):
        name = interface.get("name")
        if not name.startswith(prefix):
            continue
        node = ElementTree.Element("node")
        node.append(interface)
        for element in node.iter():
            element.text = element.tail = None
        ElementTree.indent(node, "  ")
        found[name] = HEAD + ElementTree.tostring(node, encoding="unicode").rstrip() + "\n"
    return found
