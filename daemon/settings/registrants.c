/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/settings/registrants.h"

#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/fleet.h"
#include "daemon/core/uuid.h"
#include "daemon/base/util.h"

#define PATTERN_MAX 1024u

/* ---- reading ---- */

static const char *check_pattern(const char *text)
{
	return text[0] && strlen(text) < PATTERN_MAX ? NULL : "a pattern of 1 to 1023 bytes";
}

static const char *check_name(const char *text)
{
	return text[0] && !strpbrk(text, ":\n") ? NULL : "a name";
}

static int read_uid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct registrants_rule *rule = to;

	rule->has_uid = true;
	return json_read_u32(reader, row, value, &rule->uid);
}

static int read_gid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct registrants_rule *rule = to;

	rule->has_gid = true;
	return json_read_u32(reader, row, value, &rule->gid);
}

static int read_announced(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct registrants_rule *rule = to;

	rule->has_announced = true;
	return json_read_bool(reader, row, value, &rule->announced);
}

static int read_uuid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct registrants_rule *rule = to;
	const char *text = json_string_value(value);

	if (!text || uuid_parse(rule->uuid, text) < 0 || uuid_is_nil(rule->uuid))
		return json_table_expected(reader, value, "a UUID");
	rule->has_uuid = true;
	return 0;
}

#define RULE(member)    JSON_MEMBER(struct registrants_rule, member)
#define PATTERN(member) .read = json_read_text, RULE(member), .check = check_pattern

static const struct json_row peer_rows[] = {
	{.key = "uid", .read = read_uid, .max = UINT32_MAX - 1},
	{.key = "user", .read = json_read_text, RULE(user), .check = check_name},
	{.key = "gid", .read = read_gid, .max = UINT32_MAX - 1},
	{.key = "group", .read = json_read_text, RULE(group), .check = check_name},
	{.key = "label", PATTERN(label)},
	{.key = "unit", PATTERN(unit)},
	{.key = "slice", PATTERN(slice)},
	{.key = "machine", PATTERN(machine)},
	{.key = "announced", .read = read_announced},
	{0},
};

int registrants_read_rule(struct json_reader *reader, json_t *value, struct registrants_rule *rule,
			  int (*read_tenant)(struct json_reader *reader, const struct json_row *row, json_t *value,
					     void *to))
{
	const struct json_row match_rows[] = {
		{.key = "name", PATTERN(name)},
		{.key = "uuid", .read = read_uuid},
		{.key = "tenant", .read = read_tenant, RULE(tenant)},
		{0},
	};
	const struct json_row rows[] = {
		{.key = "match", .read = json_read_object, .rows = match_rows},
		{.key = "peer", .read = json_read_object, .rows = peer_rows},
		{.key = "verdict", .read = json_read_word, RULE(allow), .words = {"deny", "allow"}, .required = true},
		{0},
	};
	int r = json_table_read(reader, rows, value, rule);

	if (r < 0)
		return r;
	if ((rule->user && rule->has_uid) || (rule->group && rule->has_gid))
		return json_table_fail(reader, false, "expected a name or a number of a user or group, not both");
	return 0;
}

/* ---- names of users and groups ---- */

/* 1: found. */
static int find_user(FILE *file, const char *name, uint32_t *ret)
{
	struct passwd *entry;

	rewind(file);
	while ((entry = fgetpwent(file)))
		if (strcmp(entry->pw_name, name) == 0) {
			*ret = entry->pw_uid;
			return 1;
		}
	return 0;
}

static int find_group(FILE *file, const char *name, uint32_t *ret)
{
	struct group *entry;

	rewind(file);
	while ((entry = fgetgrent(file)))
		if (strcmp(entry->gr_name, name) == 0) {
			*ret = entry->gr_gid;
			return 1;
		}
	return 0;
}

static int resolve(const char *name, const char *path, const char *what, size_t rule,
		   int (*find)(FILE *file, const char *name, uint32_t *ret), uint32_t *ret, bool *ret_found,
		   char **ret_error)
{
	FILE *file;
	int r;

	if (!name)
		return 0;
	file = fopen(path, "re");
	r = file ? find(file, name, ret) : -errno;
	if (file)
		fclose(file);
	if (r > 0) {
		*ret_found = true;
		return 0;
	}
	r = r < 0 ? r : -ENOENT;
	if (asprintf(ret_error, "registration rule %zu: there is no %s \"%s\" in %s", rule, what, name, path) < 0)
		*ret_error = NULL;
	return r;
}

int registrants_resolve(struct registrants *registrants, const char *passwd, const char *group, char **ret_error)
{
	for (size_t i = 0; i < registrants->n; i++) {
		struct registrants_rule *rule = &registrants->rules[i];
		int r;

		r = resolve(rule->user, passwd, "user", i + 1, find_user, &rule->uid, &rule->has_uid, ret_error);
		if (r >= 0)
			r = resolve(rule->group, group, "group", i + 1, find_group, &rule->gid, &rule->has_gid,
				    ret_error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- deciding ---- */

static bool matches_text(const char *pattern, const char *text)
{
	return !pattern || (text && fnmatch(pattern, text, 0) == 0);
}

/* With or without the mode that the label carries. */
static bool matches_label(const char *pattern, const char *label)
{
	_cleanup_free_ char *bare = NULL;

	if (!pattern || matches_text(pattern, label))
		return true;
	bare = label ? strndup(label, peer_label_length(label)) : NULL;
	return bare && matches_text(pattern, bare);
}

static bool matches_vm(const struct registrants_rule *rule, const struct registrants_subject *subject)
{
	if (rule->has_uuid && memcmp(rule->uuid, subject->uuid, sizeof(rule->uuid)) != 0)
		return false;
	if (rule->tenant != FLEET_NO_TENANT && rule->tenant != subject->tenant)
		return false;
	return matches_text(rule->name, subject->name);
}

static bool matches_peer(const struct registrants_rule *rule, const struct registrants_subject *subject)
{
	const struct peer *peer = subject->peer;

	if ((rule->user && !rule->has_uid) || (rule->group && !rule->has_gid))
		return false;
	if (rule->has_uid && rule->uid != peer->uid)
		return false;
	if (rule->has_gid && !peer_in_group(peer, rule->gid))
		return false;
	if (rule->has_announced && rule->announced != subject->announced)
		return false;
	return matches_label(rule->label, peer->label) && matches_text(rule->unit, peer->unit) &&
	       matches_text(rule->slice, peer->slice) && matches_text(rule->machine, peer->machine);
}

bool registrants_allow(const struct registrants *registrants, const struct registrants_subject *subject,
		       uint32_t *ret_rule)
{
	for (size_t i = 0; i < registrants->n; i++) {
		const struct registrants_rule *rule = &registrants->rules[i];

		if (!matches_vm(rule, subject) || !matches_peer(rule, subject))
			continue;
		*ret_rule = (uint32_t)i + 1;
		return rule->allow;
	}
	*ret_rule = 0;
	return true;
}

/* ---- life ---- */

void registrants_clear(struct registrants *registrants)
{
	for (size_t i = 0; i < registrants->n; i++) {
		struct registrants_rule *rule = &registrants->rules[i];

		free(rule->name);
		free(rule->user);
		free(rule->group);
		free(rule->label);
		free(rule->unit);
		free(rule->slice);
		free(rule->machine);
	}
	free(registrants->rules);
	*registrants = (struct registrants){0};
}
