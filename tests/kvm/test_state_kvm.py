# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots, migration and restarts of the daemon, under KVM."""

# pylint: disable=unused-import
from test_state import (test_eject_of_a_running_vcpu_powers_it_off,  # noqa: F401
                        test_kill_9_at_any_moment_while_the_guest_plugs, test_migration_on_one_host,
                        test_request_the_guest_never_saw_is_resolved_by_its_reset,
                        test_snapshot_while_a_call_waits, test_snapshot_with_less_than_granted_now,
                        test_snapshot_with_more_online_than_granted_now)
