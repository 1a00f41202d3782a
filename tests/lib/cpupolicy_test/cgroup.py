# SPDX-License-Identifier: GPL-2.0-or-later
"""Control groups as a service manager would make them, by their names."""

import os
import pathlib

# Where the service manager's names are: its own hierarchy, or the unified one.
_ROOTS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup")


class Cgroup:
    """`path`, as in "machine.slice/machine-web.scope"; removed at the end."""

    def __init__(self, path):
        root = next(pathlib.Path(r) for r in _ROOTS if os.path.exists(f"{r}/cgroup.procs"))
        self.made = []
        self.path = root
        for part in path.split("/"):
            self.path = self.path / part
            if not self.path.exists():
                self.path.mkdir()
                self.made.append(self.path)

    def add(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid), "ascii")

    def close(self):
        for path in reversed(self.made):
            path.rmdir()


def available():
    """Whether this process may make any, and they are shown to others."""
    try:
        Cgroup("cpupolicy-test.slice").close()
        return True
    except (OSError, StopIteration):
        return False
