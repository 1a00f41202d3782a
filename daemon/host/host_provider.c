/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Providers that are here. Calls to one are asynchronous and bounded: what is to be asked waits in its queue, one entry
 * for each VM, and the value is taken when the call is made. A provider that hangs delays nobody but its own VMs.
 */

#include <stdio.h>
#include <string.h>

#include "daemon/host/host_private.h"

#define CALLS_MAX 16u /* of one provider, not answered */

/* ---- looking ---- */

struct host_provider *host_provider_named(const struct host *host, const char *name)
{
	for (struct host_provider *p = host->providers; p; p = p->next)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

struct host_provider *host_provider_of(const struct host_vm *vm)
{
	const struct host_announcement *a = host_announcement_find(vm->host, vm->uuid);

	return a && a->said.quota ? host_provider_named(vm->host, a->said.provider) : NULL;
}

void host_provider_set_process(struct host_provider *provider, pid_t pid)
{
	provider->pid = pid;
}

const char *host_provider_name(const struct host_provider *provider)
{
	return provider->name;
}

const struct host_provider *host_provider_next(const struct host *host, const struct host_provider *after)
{
	return after ? after->next : host->providers;
}

/* ---- calls ---- */

static struct host_vm *take(struct host_provider *provider)
{
	struct host_vm *vm = provider->queue;

	if (vm)
		host_provider_dequeue(vm);
	return vm;
}

static void finish(struct host_vm *vm, const char *why)
{
	struct host_provider *provider = vm->quota.provider;

	provider->in_flight--;
	provider->host->counters.provider_calls[why ? COUNTERS_CALL_FAILED : COUNTERS_CALL_DONE]++;
	vm->quota.in_flight = false;
	vm->quota.provider = NULL;
	host_quota_answered(vm, why);
	host_vm_release(vm);
}

static void dispatch(struct host_provider *provider)
{
	while (provider->in_flight < CALLS_MAX) {
		struct host_vm *vm = take(provider);
		int r;

		if (!vm)
			return;
		vm->quota.provider = provider;
		vm->quota.in_flight = true;
		vm->quota.asking = vm->core->quota;
		provider->in_flight++;
		host_vm_hold(vm);
		r = provider->ops->hold(vm, vm->uuid_text, vm->quota.asking, provider->link);
		if (r < 0)
			finish(vm, strerror(-r));
	}
}

void host_provider_enqueue(struct host_provider *provider, struct host_vm *vm)
{
	struct host_quota *q = &vm->quota;

	if (!q->queued) {
		q->queued = true;
		q->provider = provider;
		q->next = NULL;
		*provider->queue_end = vm;
		provider->queue_end = &q->next;
	}
	dispatch(provider);
}

void host_provider_dequeue(struct host_vm *vm)
{
	struct host_quota *q = &vm->quota;
	struct host_vm **at;

	if (!q->queued)
		return;
	at = &q->provider->queue;
	while (*at != vm)
		at = &(*at)->quota.next;
	*at = q->next;
	if (!*at)
		q->provider->queue_end = at;
	q->queued = false;
	q->provider = NULL;
}

void host_provider_answer(struct host_vm *vm, const char *why)
{
	struct host_provider *provider = vm->quota.provider;

	finish(vm, why);
	dispatch(provider);
}

/* ---- coming and going ---- */

static void changed(struct host *host)
{
	host->provider_changes++;
	host_notice_host(host);
}

static const char *check_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t length = strspn(name, allowed);

	return length > 0 && length <= HOST_PROVIDER_NAME_MAX && !name[length]
		       ? NULL
		       : "a provider's name is up to 63 letters, digits, '.', '_' and '-'";
}

static enum host_error may_come(const struct host *host, const char *name, char why[static 256])
{
	const char *wrong = check_name(name);
	unsigned n = 0;

	if (wrong) {
		snprintf(why, 256, "%s", wrong);
		return HOST_INVALID;
	}
	if (host_provider_named(host, name)) {
		snprintf(why, 256, "a provider \"%s\" is here already: it must leave the bus first", name);
		return HOST_PROVIDER_EXISTS;
	}
	for (const struct host_provider *p = host->providers; p; p = p->next)
		n++;
	if (n >= HOST_PROVIDERS_MAX) {
		snprintf(why, 256, "there are %u providers already", HOST_PROVIDERS_MAX);
		return HOST_LIMITS;
	}
	return HOST_OK;
}

/* It may hold what another daemon asked for, or have forgotten what this one did: it is told anew. */
static void greet(struct host *host, const struct host_provider *provider)
{
	for (struct host_vm *vm = host_index_after(&host->index, NULL); vm; vm = host_index_after(&host->index, vm)) {
		if (host_provider_of(vm) != provider || vm->core->link == VM_STOPPED)
			continue;
		host_quota_doubt(vm);
		host_quota_follow(vm);
	}
}

enum host_error host_provider_add(struct host_provider **ret, struct host *host, const char *name, uid_t uid,
				  const struct host_provider_ops *ops, void *link, char why[static 256])
{
	struct host_provider *provider, **end = &host->providers;
	enum host_error error = may_come(host, name, why);

	if (error != HOST_OK)
		return error;
	provider = calloc(1, sizeof(*provider));
	if (provider)
		provider->name = strdup(name);
	if (!provider || !provider->name) {
		free(provider);
		snprintf(why, 256, "out of memory");
		return HOST_NO_MEMORY;
	}
	provider->host = host;
	provider->ops = ops;
	provider->link = link;
	provider->queue_end = &provider->queue;
	while (*end)
		end = &(*end)->next;
	*end = provider;
	log_info("provider %s is here, of uid %u", name, (unsigned)uid);
	changed(host);
	*ret = provider;
	greet(host, provider);
	return HOST_OK;
}

/* Whatever it was asked for this VM is never answered. Whether there was something. */
static bool abandon(struct host_vm *vm, const struct host_provider *provider)
{
	if (vm->quota.provider != provider)
		return false;
	host_provider_dequeue(vm);
	if (vm->quota.in_flight) {
		vm->quota.in_flight = false;
		vm->quota.provider = NULL;
		vm->quota.stale = false;
		host_vm_release(vm);
	}
	return true;
}

static bool is_owner(const struct host_provider *provider, const struct host_vm *vm)
{
	const struct host_announcement *a = host_announcement_find(vm->host, vm->uuid);

	return a && strcmp(a->said.provider, provider->name) == 0;
}

void host_provider_remove(struct host_provider *provider)
{
	struct host_provider **at;
	struct host *host;
	struct host_vm *vm, *next;

	if (!provider)
		return;
	host = provider->host;
	for (at = &host->providers; *at != provider; at = &(*at)->next)
		;
	*at = provider->next;
	for (vm = host->removed; vm; vm = next) {
		next = vm->removed_next;
		abandon(vm, provider);
	}
	for (vm = host_index_after(&host->index, NULL); vm; vm = host_index_after(&host->index, vm)) {
		if (!abandon(vm, provider) && !is_owner(provider, vm))
			continue;
		host_quota_doubt(vm);
		host_quota_follow(vm);
	}
	log_info("provider %s has left", provider->name);
	changed(host);
	free(provider->name);
	free(provider);
}
