# SPDX-License-Identifier: GPL-2.0-or-later
"""A bus, a daemon and machines for each test, shown when the test fails."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

# pylint: disable=wrong-import-position,unused-import
from cpupolicy_test.fixtures import (directory, host, lab, make_host,  # noqa: E402,F401
                                     pytest_configure, pytest_runtest_makereport)
