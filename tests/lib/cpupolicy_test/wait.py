# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for the thing itself, with a deadline."""

import time

# Generous, because it only costs time when a test fails: a loaded two-core machine runs several
# emulated CPUs in some of these tests.
DEADLINE = 60.0


class Expired(AssertionError):
    """The deadline passed before the condition came true."""


def wait_for(predicate, what, deadline=DEADLINE, interval=0.02):
    """Calls `predicate` until it returns something true, and returns that."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise Expired(f"not within {deadline:g} s: {what}")
        time.sleep(interval)


def never(predicate, what, during):
    """For what must not happen, where nothing marks the moment after which it cannot any more."""
    end = time.monotonic() + during
    while time.monotonic() < end:
        assert not predicate(), what
        time.sleep(0.02)
