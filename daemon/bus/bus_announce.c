/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_announce.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/peer.h"
#include "daemon/base/util.h"
#include "daemon/core/uuid.h"
#include "proto/text.h"

#define WHY_SIZE  320
#define LABEL_MAX 4095

struct list {
	struct host_announcement *items;
	size_t n;
	char why[WHY_SIZE]; /* what is wrong with it */
};

static int __attribute__((format(printf, 2, 3))) wrong(struct list *list, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(list->why, sizeof(list->why), format, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- one value ---- */

static int set_text(char **ret, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

static bool is_clean(const char *text, size_t max)
{
	size_t length = strlen(text);

	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return length > 0 && length <= max;
}

static int read_text(struct list *list, sd_bus_message *m, const char *key, char **ret)
{
	const char *text, *why;
	int r = sd_bus_message_read_basic(m, 's', &text);

	if (r < 0)
		return r;
	if (strcmp(key, "label") == 0 ? !is_clean(text, LABEL_MAX) : cpupolicy_text_check_name(text, &why) < 0)
		return wrong(list, "\"%.100s\" is no %s that a VM can have", text, key);
	return set_text(ret, text);
}

static int read_value(struct list *list, sd_bus_message *m, const char *key, struct host_announcement *a)
{
	struct store_announcement *said = &a->said;
	uint32_t pid;
	int quota, r;

	if (strcmp(key, "label") == 0)
		return read_text(list, m, key, &said->label);
	if (strcmp(key, "class") == 0)
		return read_text(list, m, key, &said->class);
	if (strcmp(key, "tenant") == 0)
		return read_text(list, m, key, &said->tenant);
	if (strcmp(key, "uid") == 0)
		return sd_bus_message_read_basic(m, 'u', &said->uid);
	if (strcmp(key, "desired") == 0) {
		r = sd_bus_message_read_basic(m, 'u', &said->desired);
		if (r >= 0 && (said->desired < 1 || said->desired > CPUPOLICY_MAX_VCPUS))
			return wrong(list, "desired is 1 to %u, not %u", CPUPOLICY_MAX_VCPUS, said->desired);
		return r;
	}
	if (strcmp(key, "pid") == 0) {
		r = sd_bus_message_read_basic(m, 'u', &pid);
		if (r >= 0 && (pid < 1 || pid > INT32_MAX))
			return wrong(list, "%u is no process", pid);
		a->pid = r >= 0 ? (pid_t)pid : 0;
		return r;
	}
	r = sd_bus_message_read_basic(m, 'b', &quota);
	said->quota = r >= 0 && quota;
	return r;
}

static const char *type_of(const char *key)
{
	static const char *const keys[][2] = {
		{"uid", "u"},     {"label", "s"}, {"class", "s"}, {"tenant", "s"},
		{"desired", "u"}, {"quota", "b"}, {"pid", "u"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i][0], key) == 0)
			return keys[i][1];
	return NULL;
}

static int read_entry(struct list *list, sd_bus_message *m, struct host_announcement *a)
{
	const char *key, *type, *signature;
	int r = sd_bus_message_read_basic(m, 's', &key);

	if (r < 0)
		return r;
	type = type_of(key);
	if (!type)
		return wrong(list, "an announcement has no \"%.100s\"", key);
	r = sd_bus_message_peek_type(m, NULL, &signature);
	if (r < 0)
		return r;
	if (strcmp(signature, type) != 0)
		return wrong(list, "%s is of type %s, not %.20s", key, type, signature);
	r = sd_bus_message_enter_container(m, 'v', type);
	if (r >= 0)
		r = read_value(list, m, key, a);
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* ---- lists ---- */

static int read_uuid(struct list *list, const char *text, struct host_announcement *a)
{
	if (uuid_parse(a->said.uuid, text) < 0 || uuid_is_nil(a->said.uuid))
		return wrong(list, "\"%.100s\" is not the UUID of a VM", text);
	return 0;
}

/* A new one at the end; NULL: out of memory, or too many. */
static struct host_announcement *append(struct list *list)
{
	struct host_announcement *larger;

	if (list->n == HOST_ANNOUNCE_MAX) {
		wrong(list, "at most %u VMs in one call", HOST_ANNOUNCE_MAX);
		return NULL;
	}
	if ((list->n & (list->n - 1)) == 0) {
		larger = reallocarray(list->items, list->n > 0 ? 2 * list->n : 1, sizeof(*larger));
		if (!larger)
			return NULL;
		list->items = larger;
	}
	list->items[list->n] = (struct host_announcement){.said.uid = STORE_ANNOUNCEMENT_ANY_UID};
	return &list->items[list->n++];
}

static int read_announcement(struct list *list, sd_bus_message *m)
{
	struct host_announcement *a = append(list);
	const char *uuid, *name, *why;
	int r;

	if (!a)
		return -ENOMEM;
	r = sd_bus_message_read(m, "ss", &uuid, &name);
	if (r < 0)
		return r;
	r = read_uuid(list, uuid, a);
	if (r < 0)
		return r;
	if (cpupolicy_text_check_name(name, &why) < 0)
		return wrong(list, "\"%.100s\" is no name that a VM can have", name);
	r = set_text(&a->said.name, name);
	if (r >= 0)
		r = sd_bus_message_enter_container(m, 'a', "{sv}");
	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = read_entry(list, m, a);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	if (r >= 0 && a->pid > 0)
		a->start_time = peer_start_time_of(a->pid);
	return r;
}

static int read_all(struct list *list, sd_bus_message *m)
{
	int r = sd_bus_message_enter_container(m, 'a', "(ssa{sv})");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'r', "ssa{sv}")) > 0) {
		r = read_announcement(list, m);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_uuids(struct list *list, sd_bus_message *m)
{
	const char *text;
	int r = sd_bus_message_enter_container(m, 'a', "s");

	while (r >= 0 && (r = sd_bus_message_read_basic(m, 's', &text)) > 0) {
		struct host_announcement *a = append(list);

		r = a ? read_uuid(list, text, a) : -ENOMEM;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int compare_uuids(const void *a, const void *b)
{
	const struct host_announcement *x = a, *y = b;

	return memcmp(x->said.uuid, y->said.uuid, sizeof(x->said.uuid));
}

/* Two words on one VM would be one too many, whichever counts. */
static int check_once(struct list *list)
{
	char uuid[UUID_TEXT_SIZE];

	if (list->n > 1)
		qsort(list->items, list->n, sizeof(*list->items), compare_uuids);
	for (size_t i = 1; i < list->n; i++)
		if (compare_uuids(&list->items[i - 1], &list->items[i]) == 0) {
			uuid_format(uuid, list->items[i].said.uuid);
			return wrong(list, "VM %s is there twice", uuid);
		}
	return 0;
}

/* ---- calls ---- */

static void perform(const struct bus_request *request, bool withdraw, uid_t uid, host_done_fn done, void *userdata)
{
	struct host_provider *provider = bus_provider_of(request->context, request->message);
	struct list list = {0};
	int r;

	if (!provider) {
		done(HOST_NOT_PROVIDER, "the caller is no provider: RegisterProvider comes first", 0, userdata);
		return;
	}
	sd_bus_message_rewind(request->message, true);
	r = withdraw ? read_uuids(&list, request->message) : read_all(&list, request->message);
	if (r >= 0)
		r = check_once(&list);
	if (r >= 0) {
		host_announce(provider, list.items, list.n, withdraw, uid, done, userdata);
		return;
	}
	host_announcements_free(list.items, list.n);
	if (r == -ENOMEM && !*list.why)
		done(HOST_NO_MEMORY, "out of memory", 0, userdata);
	else
		done(list.n == HOST_ANNOUNCE_MAX && r == -ENOMEM ? HOST_LIMITS : HOST_INVALID,
		     *list.why ? list.why : "the arguments cannot be read", 0, userdata);
}

static void perform_announce(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			     void *userdata)
{
	perform(request, false, uid, done, userdata);
}

static void perform_withdraw(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			     void *userdata)
{
	perform(request, true, uid, done, userdata);
}

int bus_announce(struct bus_providers *providers, struct bus_calls *calls, sd_bus_message *m, sd_bus_error *ret_error)
{
	const struct bus_request request = {.action = BUS_ACTION_PROVIDE, .context = providers};

	return bus_call(calls, m, &request, perform_announce, ret_error);
}

int bus_withdraw(struct bus_providers *providers, struct bus_calls *calls, sd_bus_message *m, sd_bus_error *ret_error)
{
	const struct bus_request request = {.action = BUS_ACTION_PROVIDE, .context = providers};

	return bus_call(calls, m, &request, perform_withdraw, ret_error);
}

int bus_announce_append(sd_bus_message *reply, struct host *host)
{
	const struct host_announcement *a;
	int r = sd_bus_message_open_container(reply, 'a', "(sss)");

	for (size_t i = 0; r >= 0 && (a = host_announcement_at(host, i)); i++) {
		char uuid[UUID_TEXT_SIZE];

		uuid_format(uuid, a->said.uuid);
		r = sd_bus_message_append(reply, "(sss)", uuid, a->said.name ? a->said.name : "", a->said.provider);
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}
