/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_RECORDING_PRIVATE_H
#define CPUPOLICYD_RECORDING_PRIVATE_H

/* What writing and reading share: which arguments an event has. */

#include "daemon/recording/recording.h"

enum recording_argument {
	RECORDING_VCPU = 1 << 0,
	RECORDING_COUNT = 1 << 1,
	RECORDING_REASON = 1 << 2,
	RECORDING_OST = 1 << 3,
	RECORDING_CAUSE = 1 << 4,
	RECORDING_RUN_STATE = 1 << 5,
	RECORDING_VCPUS = 1 << 6,
	RECORDING_REGISTRATION = 1 << 7, /* flags and boot; the run state and the vCPUs are arguments of their own */
	RECORDING_GONE = 1 << 8,
	RECORDING_CONFIRM = 1 << 9,
	RECORDING_STORED = 1 << 10,
	RECORDING_JOB = 1 << 11,
	RECORDING_ASSIGNMENT = 1 << 12,
	RECORDING_BALANCE = 1 << 13,
	RECORDING_ON = 1 << 14,
	RECORDING_CLOCK = 1 << 15,
	RECORDING_OF_VM = 1 << 16,
};

unsigned recording_arguments(enum fleet_event_kind kind);

#endif
