/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What providers say of VMs. It is there before the VM is, and after: a table by UUID of its own, durable, bounded. A
 * list is written as one; then it is in force, for VMs that run as well; then it is answered.
 */

#include <stdio.h>
#include <string.h>

#include "daemon/host/host_private.h"

struct host_announce {
	LIST_ENTRY(host_announce) entry; /* of those that are being written */
	struct host *host;
	char *provider; /* its name: it may have left when this is durable */
	struct host_announcement *list;
	size_t n;
	bool withdraw;
	uid_t uid;
	host_done_fn fn;
	void *userdata;
};

/* As many VMs as may be, and as many again that are to come or have gone. */
static size_t most(const struct host *host)
{
	return 2 * (size_t)host->config->max_vms;
}

/* ---- the table ---- */

static size_t position(const struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	size_t low = 0, high = host->n_announcements;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(host->announcements[middle]->said.uuid, uuid, CPUPOLICY_UUID_SIZE) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct host_announcement *find(const struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	size_t at = position(host, uuid);

	if (at == host->n_announcements || memcmp(host->announcements[at]->said.uuid, uuid, CPUPOLICY_UUID_SIZE) != 0)
		return NULL;
	return host->announcements[at];
}

const struct host_announcement *host_announcement_find(const struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	return find(host, uuid);
}

bool host_announcement_name_is_taken(const struct host *host, const char *name, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	bool taken = false;

	for (size_t i = 0; i < host->n_announcements; i++) {
		const struct store_announcement *said = &host->announcements[i]->said;

		if (!said->name || strcmp(said->name, name) != 0)
			continue;
		if (memcmp(said->uuid, uuid, sizeof(said->uuid)) == 0)
			return false;
		taken = true;
	}
	return taken;
}

const struct host_announcement *host_announcement_at(const struct host *host, size_t n)
{
	return n < host->n_announcements ? host->announcements[n] : NULL;
}

static void announcement_free(struct host_announcement *a)
{
	if (!a)
		return;
	store_announcement_clear(&a->said);
	free(a);
}

static int reserve(struct host *host, size_t n)
{
	struct host_announcement **larger;

	if (n <= host->announcements_room)
		return 0;
	larger = reallocarray(host->announcements, n, sizeof(struct host_announcement *));
	if (!larger)
		return -ENOMEM;
	host->announcements = larger;
	host->announcements_room = n;
	return 0;
}

/* Takes it over. Its room is there. */
static void put(struct host *host, struct host_announcement *a)
{
	size_t at = position(host, a->said.uuid);
	struct host_announcement **slot = host->announcements + at;

	if (at < host->n_announcements && memcmp((*slot)->said.uuid, a->said.uuid, CPUPOLICY_UUID_SIZE) == 0) {
		announcement_free(*slot);
	} else {
		memmove(slot + 1, slot, (host->n_announcements - at) * sizeof(*slot));
		host->n_announcements++;
	}
	*slot = a;
}

static void drop(struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	size_t at = position(host, uuid);
	struct host_announcement **slot = host->announcements + at;

	if (!find(host, uuid))
		return;
	announcement_free(*slot);
	host->n_announcements--;
	memmove(slot, slot + 1, (host->n_announcements - at) * sizeof(*slot));
}

/* ---- in force ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool decides_the_same(const struct host_announcement *a, const struct host_announcement *b)
{
	return same_text(a ? a->said.class : NULL, b ? b->said.class : NULL) &&
	       same_text(a ? a->said.tenant : NULL, b ? b->said.tenant : NULL);
}

/* `now` NULL: it is withdrawn. Taken over. */
static void take_effect(struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE], struct host_announcement *now)
{
	bool same = decides_the_same(find(host, uuid), now);
	struct host_vm *vm = host_index_uuid(&host->index, uuid);

	if (now)
		put(host, now);
	else
		drop(host, uuid);
	if (!vm)
		return;
	if (!same)
		host_policy_announced(vm);
	host_cpu_begin(vm);
	host_quota_follow(vm);
	host_notice_changed(vm);
}

static void announce_free(struct host_announce *a)
{
	host_announcements_free(a->list, a->n);
	free(a->provider);
	free(a);
}

static void carry_out(struct host_announce *a)
{
	for (size_t i = 0; i < a->n; i++) {
		struct host_announcement *now = NULL;

		if (!a->withdraw) {
			now = malloc(sizeof(*now));
			if (!now)
				continue; /* it is on disk: the next start of the daemon has it */
			*now = a->list[i];
			a->list[i].said = (struct store_announcement){0};
			memcpy(a->list[i].said.uuid, now->said.uuid, sizeof(now->said.uuid));
		}
		take_effect(a->host, a->list[i].said.uuid, now);
	}
	host_fleet_settle(a->host);
}

static void on_written(int error, const char *why, void *userdata)
{
	struct host_announce *a = userdata;
	struct host *host = a->host;

	LIST_REMOVE(a, entry);
	host->announcing -= a->n;
	if (error < 0) {
		host->counters.write_failures++;
		a->fn(HOST_STORAGE, why ? why : strerror(-error), 0, a->userdata);
	} else {
		host->counters.writes++;
		log_info("uid %u: provider %s %s %zu VM%s", (unsigned)a->uid, a->provider,
			 a->withdraw ? "withdraws" : "announces", a->n, a->n == 1 ? "" : "s");
		carry_out(a);
		a->fn(HOST_OK, NULL, 0, a->userdata);
	}
	announce_free(a);
}

/* ---- asking ---- */

static int copy(char **ret, const char *text)
{
	if (!text)
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int copy_one(struct store_announcement *ret, const struct store_announcement *from, const char *provider)
{
	memcpy(ret->uuid, from->uuid, sizeof(ret->uuid));
	if (!provider)
		return 0;
	ret->uid = from->uid;
	ret->desired = from->desired;
	ret->quota = from->quota;
	if (copy(&ret->provider, provider) < 0 || copy(&ret->name, from->name) < 0 ||
	    copy(&ret->label, from->label) < 0 || copy(&ret->class, from->class) < 0 ||
	    copy(&ret->tenant, from->tenant) < 0)
		return -ENOMEM;
	return 0;
}

static int name_provider(struct host_announce *a)
{
	for (size_t i = 0; i < a->n && !a->withdraw; i++)
		if (copy(&a->list[i].said.provider, a->provider) < 0)
			return -ENOMEM;
	return 0;
}

static int queue(struct host_announce *a)
{
	struct host *host = a->host;
	struct store_announcement *rows = calloc(a->n, sizeof(*rows));
	int r = rows ? name_provider(a) : -ENOMEM;

	for (size_t i = 0; r >= 0 && i < a->n; i++)
		r = copy_one(&rows[i], &a->list[i].said, a->withdraw ? NULL : a->provider);
	/* What is durable must find its place. */
	if (r >= 0)
		r = reserve(host, host->n_announcements + host->announcing + a->n);
	if (r >= 0)
		r = store_put_announcements(host->store, rows, a->n, on_written, a);
	if (r < 0) {
		if (rows)
			store_announcements_free(rows, a->n);
		return r;
	}
	LIST_INSERT_HEAD(&host->announces, a, entry);
	host->announcing += a->n;
	return 0;
}

static size_t count_new(const struct host_announce *a)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n && !a->withdraw; i++)
		n += find(a->host, a->list[i].said.uuid) == NULL;
	return n;
}

/* Somebody else's, who is here to speak for it. */
static const struct host_announcement *taken(const struct host_announce *a)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct host_announcement *had = find(a->host, a->list[i].said.uuid);

		if (had && strcmp(had->said.provider, a->provider) != 0 &&
		    host_provider_named(a->host, had->said.provider))
			return had;
	}
	return NULL;
}

static bool is_refused(struct host_announce *a)
{
	const struct host_announcement *other = taken(a);
	size_t new = count_new(a);
	char uuid[UUID_TEXT_SIZE];

	if (other) {
		uuid_format(uuid, other->said.uuid);
		host_client_refuse(a->fn, a->userdata, HOST_NOT_OWNER, "provider \"%s\" announced VM %s, and is here",
				   other->said.provider, uuid);
		return true;
	}
	if (new > 0 && a->host->n_announcements + a->host->announcing + new > most(a->host)) {
		host_client_refuse(
			a->fn, a->userdata, HOST_LIMITS,
			"%zu VMs are announced, and %zu may be: withdraw those that are gone, or raise limits.vms in "
			"the configuration",
			a->host->n_announcements, most(a->host));
		return true;
	}
	return false;
}

/* Takes the list over if it succeeds. */
static struct host_announce *announce_new(struct host_provider *provider, struct host_announcement *list, size_t n)
{
	struct host_announce *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->provider = strdup(provider->name);
	if (!a->provider) {
		free(a);
		return NULL;
	}
	a->host = provider->host;
	a->list = list;
	a->n = n;
	return a;
}

void host_announce(struct host_provider *provider, struct host_announcement *list, size_t n, bool withdraw, uid_t uid,
		   host_done_fn fn, void *userdata)
{
	struct host_announce *a = n > 0 ? announce_new(provider, list, n) : NULL;

	if (!a) {
		host_announcements_free(list, n);
		if (n == 0)
			fn(HOST_OK, NULL, 0, userdata);
		else
			host_client_refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
		return;
	}
	a->withdraw = withdraw;
	a->uid = uid;
	a->fn = fn;
	a->userdata = userdata;
	if (is_refused(a)) {
		announce_free(a);
	} else if (queue(a) < 0) {
		announce_free(a);
		host_client_refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
	}
}

void host_announcements_free(struct host_announcement *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		store_announcement_clear(&list[i].said);
	free(list);
}

/* ---- life ---- */

static int load_one(struct store_announcement *said, void *userdata)
{
	struct host_announcement *a = calloc(1, sizeof(*a));
	struct host *host = userdata;
	int r;

	if (!a)
		return -ENOMEM;
	r = reserve(host, host->n_announcements + 1);
	if (r < 0) {
		free(a);
		return r;
	}
	a->said = *said;
	*said = (struct store_announcement){0};
	put(host, a);
	return 0;
}

int host_announce_load(struct host *host, char **ret_error)
{
	return store_load_announcements(host->store, load_one, host, ret_error);
}

void host_announce_close(struct host *host)
{
	struct host_announce *a;

	/* The store drops their callbacks. */
	while ((a = LIST_FIRST(&host->announces))) {
		LIST_REMOVE(a, entry);
		announce_free(a);
	}
	for (size_t i = 0; i < host->n_announcements; i++)
		announcement_free(host->announcements[i]);
	free(host->announcements);
	host->announcements = NULL;
	host->n_announcements = 0;
}
