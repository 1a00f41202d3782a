# SPDX-License-Identifier: GPL-2.0-or-later
"""The real polkitd on a private bus, with actions, rules, users and groups of its own."""

import os
import pathlib
import pwd

from . import paths
from .process import Process
from .wait import wait_for

NAME = "org.freedesktop.PolicyKit1"
PROGRAMS = ("/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd")
ACTIONS = paths.SOURCE / "systemd" / "org.cpupolicy1.policy"
EXAMPLE = paths.SOURCE / "docs" / "polkit-rules.example"

# Users that every Debian has, so that the message bus knows them as well; for this polkitd, ALICE is in acme-ops.
ALICE_NAME, BOB_NAME = "games", "nobody"
ALICE, BOB = pwd.getpwnam(ALICE_NAME).pw_uid, pwd.getpwnam(BOB_NAME).pw_uid
_GROUP = f"acme-ops:x:61003:{ALICE_NAME}\n"

_START = """set -e
mount --bind "$1/actions" /usr/share/polkit-1/actions
mount --bind "$1/rules" /etc/polkit-1/rules.d
mount --bind "$1/none" /usr/share/polkit-1/rules.d
mount --bind "$1/group" /etc/group
exec "$2" --no-debug
"""


class Polkit:
    """`rules`: the text of the one rules file; `owner`: the user that the daemon runs as."""

    def __init__(self, bus, directory, rules="", owner="root"):
        self.bus = bus
        self.directory = pathlib.Path(directory) / "polkit"
        for name in ("actions", "rules", "none"):
            (self.directory / name).mkdir(parents=True)
        text = ACTIONS.read_text("utf-8").replace("unix-user:cpupolicy", f"unix-user:{owner}")
        (self.directory / "actions" / ACTIONS.name).write_text(text, "utf-8")
        (self.directory / "rules" / "50-test.rules").write_text(rules, "utf-8")
        groups = pathlib.Path("/etc/group").read_text("utf-8")
        (self.directory / "group").write_text(groups + _GROUP, "utf-8")
        self.process = None
        self.start()

    def start(self):
        program = next(p for p in PROGRAMS if os.path.exists(p))
        self.process = Process(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", _START, "sh",
             str(self.directory), program],
            self.directory / "polkitd.log", env=self.bus.env())
        wait_for(lambda: self.bus.has_owner(NAME), "polkitd serves")

    def stop(self):
        self.process.stop()

