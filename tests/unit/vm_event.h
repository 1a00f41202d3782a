/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_VM_EVENT_H
#define TESTS_VM_EVENT_H

/*
 * What is true of every event of daemon/core/vm.h, whatever it is: the effects say what changed and nothing else, and the
 * VM is consistent afterwards. Around each call: vm_event_begin(), the event, vm_event_verify().
 */

#include "daemon/core/vm.h"

#define VM_EVENT_VCPUS 16 /* of the largest VM that can be watched */

struct vm_event {
	_Alignas(struct vm) unsigned char vm[sizeof(struct vm) + VM_EVENT_VCPUS * sizeof(struct vcpu)];
	uint64_t words[VM_EVENT_VCPUS];
	uint64_t deadline;
};

void vm_event_begin(struct vm_event *e, const struct vm *vm);
/* NULL, or what is wrong. */
const char *vm_event_verify(const struct vm_event *e, const struct vm *vm, unsigned effects);
/* Whether a VM may be so between two events. NULL, or what is wrong. */
const char *vm_consistent(const struct vm *vm);

#endif
