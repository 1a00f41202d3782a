/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/store/store_vm.h"

#include <string.h>

#include "daemon/base/util.h"

static void usage_clear(struct store_usage *usage)
{
	free(usage->class);
	free(usage->tenant);
}

void store_vm_clear(struct store_vm *vm)
{
	free(vm->name);
	free(vm->enabled);
	free(vm->wanted);
	free(vm->assigned_class);
	free(vm->assigned_tenant);
	free(vm->class);
	free(vm->tenant);
	for (size_t i = 0; i < vm->n_usage; i++)
		usage_clear(&vm->usage[i]);
	free(vm->usage);
	*vm = (struct store_vm){0};
}

int store_vm_add_usage(struct store_vm *vm, const struct usage_row *row, const char *class, const char *tenant)
{
	struct store_usage added = {.row = *row, .class = strdup(class), .tenant = tenant ? strdup(tenant) : NULL};
	struct store_usage *larger = NULL;

	if (added.class && (added.tenant || !tenant))
		larger = reallocarray(vm->usage, vm->n_usage + 1, sizeof(*vm->usage));
	if (!larger) {
		usage_clear(&added);
		return -ENOMEM;
	}
	vm->usage = larger;
	vm->usage[vm->n_usage++] = added;
	return 0;
}
