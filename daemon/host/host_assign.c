/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What operators assign to a VM, and what moves with it to another host: class, tenant, credit. */

#include <string.h>

#include "daemon/host/host_private.h"

/* ---- what is assigned ---- */

void host_assigned_clear(struct host_assigned *assigned)
{
	free(assigned->class);
	free(assigned->tenant);
	*assigned = (struct host_assigned){.uid = (uid_t)-1};
}

static int copy_name(char **ret, const char *name)
{
	if (!name || *name == '\0')
		return 0;
	*ret = strdup(name);
	return *ret ? 0 : -ENOMEM;
}

int host_assigned_copy(struct host_assigned *ret, const char *class, const char *tenant, uid_t uid)
{
	struct host_assigned copy = {.uid = uid};

	if (copy_name(&copy.class, class) < 0 || copy_name(&copy.tenant, tenant) < 0) {
		host_assigned_clear(&copy);
		return -ENOMEM;
	}
	*ret = copy;
	return 0;
}

static void swap(struct host_assigned *a, struct host_assigned *b)
{
	struct host_assigned kept = *a;

	*a = *b;
	*b = kept;
}

/* ---- a request ---- */

static void assign_accepted(struct host_vm *vm, struct host_request *request)
{
	host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &request->uid),
			"uid %u has VM %s in class %s, tenant %s%s", (unsigned)request->uid, vm->name,
			vm->assigned.class ? vm->assigned.class : "of the policy",
			vm->assigned.tenant ? vm->assigned.tenant : "of the policy",
			request->imported ? ", with the credit of another host" : "");
	request->fn(HOST_OK, NULL, 0, request->userdata);
}

static struct fleet_answer import(struct host_vm *vm, int64_t balance, bool spent)
{
	return host_fleet_apply(
		vm->host, HOST_EVENT(.kind = FLEET_IMPORT, .vm = &vm->member, .balance = balance, .spent = spent));
}

static void assign_undo(struct host_vm *vm, struct host_request *request, struct host_request *later)
{
	if (later) {
		swap(&later->assigned, &request->assigned);
		if (request->imported) {
			later->imported = true;
			later->balance = request->balance;
			later->spent = request->spent;
		}
		return;
	}
	swap(&vm->assigned, &request->assigned);
	/* What refuses that has come since: then the next reload, or the thaw, sees to it. */
	host_policy_apply(vm, vm->peer.uid);
	if (request->imported)
		import(vm, request->balance, request->spent);
}

static const struct host_request_ops assign_ops = {.accepted = assign_accepted, .undo = assign_undo};

/* The refusal of a name that the policy does not have. */
static bool are_known(struct host *host, const char *class, const char *tenant, host_done_fn fn, void *userdata)
{
	if (class && *class != '\0' && !policy_class(host->policy, class)) {
		host_client_refuse(fn, userdata, HOST_NO_SUCH_CLASS, "the policy has no class \"%.300s\"", class);
		return false;
	}
	if (tenant && *tenant != '\0' && policy_tenant(host->policy, tenant) == FLEET_NO_TENANT) {
		host_client_refuse(fn, userdata, HOST_NO_SUCH_TENANT, "the policy has no tenant \"%.300s\"", tenant);
		return false;
	}
	return true;
}

/* In memory. RULE_NONE, or what refuses it; then nothing has changed. */
static struct fleet_answer carry_out(struct host_vm *vm, struct host_request *request,
				     const struct host_transfer *transfer)
{
	struct fleet_answer answer;

	request->balance = vm->member.credit.balance;
	request->spent = vm->member.credit.spent;
	request->imported = transfer->credit;
	/* From here on the request has what was before. */
	swap(&vm->assigned, &request->assigned);
	answer = host_policy_apply(vm, vm->peer.uid);
	if (answer.rule == RULE_NONE && transfer->credit)
		answer = import(vm, transfer->balance, transfer->spent);
	if (answer.rule == RULE_NONE)
		return answer;
	swap(&vm->assigned, &request->assigned);
	host_policy_apply(vm, vm->peer.uid);
	return answer;
}

static void ask(struct host *host, const char *vm_name, const struct host_transfer *transfer, uid_t uid,
		host_done_fn fn, void *userdata)
{
	const char *class = transfer->assigned_class, *tenant = transfer->assigned_tenant;
	struct host_vm *vm = host_client_find(host, vm_name, fn, userdata);
	struct host_request *request;
	struct fleet_answer answer;

	if (!vm || !are_known(host, class, tenant, fn, userdata))
		return;
	request = host_request_new(&assign_ops, uid, fn, userdata);
	if (!request)
		return;
	if (host_assigned_copy(&request->assigned, class ? class : vm->assigned.class,
			       tenant ? tenant : vm->assigned.tenant, class || tenant ? uid : vm->assigned.uid) < 0) {
		host_request_free(request);
		host_client_refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
		return;
	}
	answer = carry_out(vm, request, transfer);
	if (answer.rule == RULE_NONE) {
		host_request_wait(vm, request, host_fleet_take(vm));
	} else {
		host_request_free(request);
		host_client_refuse_rule(host, vm->name, &answer, fn, userdata);
	}
	host_fleet_settle(host);
}

void host_assign(struct host *host, const char *vm, const char *class, const char *tenant, uid_t uid, host_done_fn fn,
		 void *userdata)
{
	ask(host, vm, &(struct host_transfer){.assigned_class = class, .assigned_tenant = tenant}, uid, fn, userdata);
}

void host_import(struct host *host, const char *vm, const struct host_transfer *transfer, uid_t uid, host_done_fn fn,
		 void *userdata)
{
	ask(host, vm, transfer, uid, fn, userdata);
}

enum host_error host_export(struct host *host, const char *vm_name, struct host_transfer *ret)
{
	struct host_vm *vm = host_find(host, vm_name);
	struct fleet_view view;

	if (!vm)
		return HOST_NO_SUCH_VM;
	fleet_view(&host->fleet, &vm->member, host_now(host), &view);
	*ret = (struct host_transfer){
		.credit = view.metered,
		.spent = view.spent,
		.balance = view.balance,
		.assigned_class = vm->assigned.class,
		.assigned_tenant = vm->assigned.tenant,
	};
	return HOST_OK;
}
