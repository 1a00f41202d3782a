/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/host_info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/money.h"
#include "client/vm_info.h"
#include "daemon/base/util.h"

/* What is read and what is written, by one table: a property's D-Bus type and its member here. */
static const struct row {
	const char *property;
	const char *key;
	char type;
	size_t offset;
} rows[] = {
#define ROW(property, key, member, type)                                                                               \
	{                                                                                                              \
		property, key, type, offsetof(struct host_info, member)                                                \
	}
	ROW("Version", "version", version, 's'),
	ROW("VirtualMachines", "virtual_machines", vms, 'u'),
	ROW("Connected", "connected", connected, 'u'),
	ROW("Capacity", "capacity", capacity, 'u'),
	ROW("Cpus", "cpus", cpus, 'u'),
	ROW("Reserved", "reserved", sums.reserved, 't'),
	ROW("Guaranteed", "guaranteed", sums.guaranteed, 't'),
	ROW("Allowed", "allowed", sums.allowed, 't'),
	ROW("Held", "held", sums.held, 't'),
	ROW("Occupied", "occupied", sums.occupied, 't'),
	ROW("Overdue", "overdue", sums.overdue, 't'),
	ROW("Observe", "observe", observe, 'b'),
	ROW("Frozen", "frozen", frozen, 'b'),
	ROW("FrozenUid", "frozen_uid", frozen_uid, 'u'),
	ROW("Drained", "drained", drained, 'b'),
	ROW("DrainedUid", "drained_uid", drained_uid, 'u'),
#undef ROW
};

static void *member(const struct host_info *info, const struct row *row)
{
	return (char *)(uintptr_t)info + row->offset;
}

static int replace(char **text, const char *by)
{
	char *copy = strdup(by);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

static void clear_classes(struct host_info *info)
{
	for (size_t i = 0; i < info->n_classes; i++)
		free(info->classes[i].name);
	free(info->classes);
	info->classes = NULL;
	info->n_classes = 0;
}

static void clear_tenants(struct host_info *info)
{
	for (size_t i = 0; i < info->n_tenants; i++)
		free(info->tenants[i].name);
	free(info->tenants);
	info->tenants = NULL;
	info->n_tenants = 0;
}

void host_info_clear(struct host_info *info)
{
	free(info->version);
	clear_classes(info);
	clear_tenants(info);
	*info = (struct host_info){0};
}

/* ---- reading ---- */

#define CLASS  "(suuubxxxbbtt)"
#define TENANT "(sutttttt)"

static int read_class(struct host_info *info, sd_bus_message *m)
{
	struct host_class *classes, c = {0};
	int metered, observe, priced, r;
	const char *name;

	r = sd_bus_message_read(m, CLASS, &name, &c.guaranteed, &c.limit, &c.priority, &metered, &c.cap, &c.initial,
				&c.resume, &observe, &priced, &c.price_guaranteed, &c.price_burst);
	if (r <= 0)
		return r;
	c.metered = metered;
	c.observe = observe;
	c.priced = priced;
	classes = reallocarray(info->classes, info->n_classes + 1, sizeof(*classes));
	if (!classes)
		return -ENOMEM;
	info->classes = classes;
	r = replace(&c.name, name);
	if (r < 0)
		return r;
	classes[info->n_classes++] = c;
	return 1;
}

static int read_tenant(struct host_info *info, sd_bus_message *m)
{
	struct host_tenant *tenants, t = {0};
	struct host_sums *s = &t.sums;
	const char *name;
	int r;

	r = sd_bus_message_read(m, TENANT, &name, &t.quota, &s->reserved, &s->guaranteed, &s->allowed, &s->held,
				&s->occupied, &s->overdue);
	if (r <= 0)
		return r;
	tenants = reallocarray(info->tenants, info->n_tenants + 1, sizeof(*tenants));
	if (!tenants)
		return -ENOMEM;
	info->tenants = tenants;
	r = replace(&t.name, name);
	if (r < 0)
		return r;
	tenants[info->n_tenants++] = t;
	return 1;
}

static int read_array(struct host_info *info, sd_bus_message *m, const char *element,
		      int (*read)(struct host_info *info, sd_bus_message *m))
{
	int r;

	r = sd_bus_message_enter_container(m, 'a', element);
	while (r >= 0) {
		r = read(info, m);
		if (r == 0)
			return sd_bus_message_exit_container(m);
	}
	return r;
}

static int read_member(struct host_info *info, const struct row *row, sd_bus_message *m)
{
	const char *text;
	int truth, r;

	if (row->type == 's') {
		r = sd_bus_message_read_basic(m, 's', &text);
		return r < 0 ? r : replace(member(info, row), text);
	}
	if (row->type == 'b') {
		r = sd_bus_message_read_basic(m, 'b', &truth);
		if (r >= 0)
			*(bool *)member(info, row) = truth;
		return r;
	}
	return sd_bus_message_read_basic(m, row->type, member(info, row));
}

static const struct row *find_row(const char *property)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].property, property) == 0)
			return &rows[i];
	return NULL;
}

/* A variant; one that is new to us, or of another type than we know, is passed over. */
static int read_property(struct host_info *info, const char *property, sd_bus_message *m)
{
	const struct row *row = find_row(property);
	bool classes = strcmp(property, "Classes") == 0, tenants = strcmp(property, "Tenants") == 0;
	const char *signature, *wanted;
	int r;

	wanted = classes ? "a" CLASS : tenants ? "a" TENANT : row ? (const char[]){row->type, '\0'} : "";
	r = sd_bus_message_peek_type(m, NULL, &signature);
	if (r < 0)
		return r;
	if (strcmp(signature, wanted) != 0)
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_enter_container(m, 'v', wanted);
	if (r < 0)
		return r;
	if (classes) {
		clear_classes(info);
		r = read_array(info, m, CLASS, read_class);
	} else if (tenants) {
		clear_tenants(info);
		r = read_array(info, m, TENANT, read_tenant);
	} else {
		r = read_member(info, row, m);
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

int host_info_read(struct host_info *info, sd_bus_message *m)
{
	int r;

	r = sd_bus_message_enter_container(m, 'a', "{sv}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		const char *property;

		r = sd_bus_message_read_basic(m, 's', &property);
		if (r >= 0)
			r = read_property(info, property, m);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

int host_info_get(struct connection *c, struct host_info *ret, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct host_info info = {.frozen_uid = VM_INFO_NOBODY, .drained_uid = VM_INFO_NOBODY};
	int r;

	r = sd_bus_call_method(connection_bus(c), CONNECTION_SERVICE, CONNECTION_MANAGER_PATH,
			       "org.freedesktop.DBus.Properties", "GetAll", ret_error, &reply, "s", CONNECTION_MANAGER);
	if (r >= 0)
		r = replace(&info.version, "");
	if (r >= 0)
		r = host_info_read(&info, reply);
	if (r < 0) {
		host_info_clear(&info);
		return r;
	}
	*ret = info;
	return 0;
}

const struct host_class *host_info_class(const struct host_info *info, const char *name)
{
	for (size_t i = 0; i < info->n_classes; i++)
		if (strcmp(info->classes[i].name, name) == 0)
			return &info->classes[i];
	return NULL;
}

/* ---- JSON ---- */

static json_t *limit_json(uint32_t limit)
{
	return limit == HOST_INFO_UNLIMITED ? json_null() : json_integer(limit);
}

static bool is_uid(const struct row *row)
{
	return row->type == 'u' && strstr(row->key, "_uid");
}

static json_t *member_json(const struct host_info *info, const struct row *row)
{
	const void *at = member(info, row);

	switch (row->type) {
	case 's':
		return json_string(*(char *const *)at);
	case 'b':
		return json_boolean(*(const bool *)at);
	case 't':
		return json_integer((json_int_t) * (const uint64_t *)at);
	case 'u':
		/* nobody, and no limit, are one number */
		return is_uid(row) || at == &info->capacity ? limit_json(*(const uint32_t *)at)
							    : json_integer(*(const uint32_t *)at);
	default:
		return NULL;
	}
}

json_t *host_info_json(const struct host_info *info)
{
	json_t *object = json_object();
	int r = object ? 0 : -1;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++)
		r = json_object_set_new(object, rows[i].key, member_json(info, &rows[i]));
	if (r < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *price_json(const struct host_class *c)
{
	char guaranteed[MONEY_TEXT_SIZE], burst[MONEY_TEXT_SIZE];

	if (!c->priced)
		return json_null();
	return json_pack("{s:s, s:s}", "guaranteed", money_format(c->price_guaranteed, guaranteed), "burst",
			 money_format(c->price_burst, burst));
}

static json_t *credit_json(const struct host_class *c)
{
	if (!c->metered)
		return json_null();
	return json_pack("{s:I, s:I, s:I}", "cap_ns", (json_int_t)c->cap, "initial_ns", (json_int_t)c->initial,
			 "resume_ns", (json_int_t)c->resume);
}

static json_t *append(json_t *array, json_t *element)
{
	if (json_array_append_new(array, element) >= 0)
		return array;
	json_decref(array);
	return NULL;
}

json_t *host_info_classes_json(const struct host_info *info)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < info->n_classes; i++) {
		const struct host_class *c = &info->classes[i];

		array = append(array, json_pack("{s:s, s:I, s:I, s:I, s:o, s:b, s:o}", "name", c->name, "guaranteed",
						(json_int_t)c->guaranteed, "limit", (json_int_t)c->limit, "priority",
						(json_int_t)c->priority, "burst", credit_json(c), "observe",
						(int)c->observe, "price", price_json(c)));
	}
	return array;
}

json_t *host_info_tenants_json(const struct host_info *info)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < info->n_tenants; i++) {
		const struct host_tenant *t = &info->tenants[i];
		const struct host_sums *s = &t->sums;

		array = append(array, json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "name", t->name, "quota",
						limit_json(t->quota), "reserved", (json_int_t)s->reserved, "guaranteed",
						(json_int_t)s->guaranteed, "allowed", (json_int_t)s->allowed, "held",
						(json_int_t)s->held, "occupied", (json_int_t)s->occupied, "overdue",
						(json_int_t)s->overdue));
	}
	return array;
}
