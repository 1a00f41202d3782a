/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A handover: whatever it says, it is taken or refused; what is taken is written back as it was; and what fits a VM leaves
 * that one in a state that its events can go on from. It is of the state directory "1:2".
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/fleet.h"
#include "daemon/handover/handover.h"
#include "tests/fuzz/fuzz.h"

#define STATE "1:2"
#define NOW   UINT64_C(4000000000000000000)

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz_handover: %s\n", what);
	abort();
}

static struct handover *parse(const char *data, size_t size)
{
	struct handover *handover = NULL;
	char *error = NULL, *text = malloc(size + 1);

	must(text != NULL, "memory");
	memcpy(text, data, size);
	text[size] = '\0';
	must((handover_parse(&handover, text, size, STATE, &error) < 0) == (handover == NULL), "an answer");
	free(error);
	free(text);
	return handover;
}

static char *write_all(struct handover *handover, size_t *ret_size)
{
	struct handover_writer *writer;
	off_t size;
	char *text;
	int fd;

	must(handover_writer_new(&writer, STATE) == 0, "a writer");
	for (size_t i = 0; i < handover_count(handover); i++)
		must(handover_writer_add(writer, handover_at(handover, i)) == 0, "a session is written");
	must(handover_writer_finish(writer, &fd) == 0, "it is written");
	handover_writer_free(writer);
	size = lseek(fd, 0, SEEK_END);
	text = malloc((size_t)size);
	must(text && pread(fd, text, (size_t)size, 0) == size, "it is read");
	close(fd);
	*ret_size = (size_t)size;
	return text;
}

static void check_same(struct handover *handover)
{
	struct handover *again;
	size_t size, size_again;
	char *text = write_all(handover, &size), *text_again;

	again = parse(text, size);
	must(again != NULL, "what is written is read");
	text_again = write_all(again, &size_again);
	must(size == size_again && memcmp(text, text_again, size) == 0, "it is the same");
	free(text);
	free(text_again);
	handover_free(again);
}

/* The VM that its record would make. */
static void go_on(const struct vm_handover *h)
{
	static const struct service_class class = {
		.name = "c", .limit = UINT32_MAX, .job_timeout = 1, .retry_interval = 1};
	uint8_t enabled[CPUPOLICY_MAX_VCPUS / 8] = {0}, wanted[CPUPOLICY_MAX_VCPUS / 8] = {0};
	struct vm *vm;

	must(vm_new(&vm, h->possible, &class) == 0, "a VM");
	for (uint32_t i = 0; i < h->possible; i++) {
		uint8_t flags = h->vcpus[i].flags;

		enabled[i / 8] |= (uint8_t)((flags & VCPU_ENABLED ? 1u : 0) << i % 8);
		wanted[i / 8] |= (uint8_t)((flags & VCPU_ENABLED && flags & VCPU_WANTED ? 1u : 0) << i % 8);
	}
	vm->boot = vm->desired = 1;
	vm->epoch = h->epoch;
	if (h->job.id != 0)
		job_start(&vm->job, h->job.id, h->job.from, h->job.to, 1, false, NOW);
	vm_restore_grants(vm, enabled, wanted);
	if (vm_handover_fits(vm, h, NOW)) {
		vm_handover_set(vm, h);
		must(vm->vcpus[0].flags & VCPU_ENABLED, "vCPU 0 is enabled");
		for (uint32_t i = 0; i < h->possible; i++) {
			bool granted = vm_word(vm, i) & CPUPOLICY_WORD_ENABLED;

			must(granted == !!(enabled[i / 8] >> i % 8 & 1) || i == 0, "what is on record is granted");
			if (vm_ask(vm, i, NOW).psci == CPUPOLICY_PSCI_SUCCESS)
				must(granted, "an ungranted vCPU is denied");
			vm_eject(vm, i, CPUPOLICY_EJECT_REQUESTED, NOW);
		}
		vm_tick(vm, NOW);
		vm_lost(vm, true, NOW);
	}
	vm_free(vm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct handover *handover = parse((const char *)data, size);

	if (!handover)
		return 0;
	check_same(handover);
	for (size_t i = 0; i < handover_count(handover); i++)
		go_on(&handover_at(handover, i)->core);
	handover_free(handover);
	return 0;
}
