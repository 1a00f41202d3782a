/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * From texts to a policy, in two rounds over all files: first what has names, then what refers to them. Each key is one
 * row of a table; docs/man/cpupolicy.policy.5 has the same rows in prose.
 */

#include <string.h>

#include "daemon/core/uuid.h"
#include "daemon/settings/json_table.h"
#include "daemon/settings/policy_private.h"
#include "daemon/base/util.h"

#define MAX_CLASSES  1024
#define MAX_TENANTS  65536
#define MAX_RULES    65536
#define MAX_CPUS     65536
#define MAX_CAPACITY 1000000000
#define NAME_BYTES   63

struct builder {
	struct policy *policy;
	json_t *classes; /* name to the file that defines it */
	json_t *tenants;
	const char *host_file; /* that has "host"; NULL: none so far */
	const char *default_file;
};

static struct policy *policy_of(const struct json_reader *reader)
{
	return ((struct builder *)reader->userdata)->policy;
}

/* ---- names ---- */

static bool is_name(const char *text)
{
	size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return length > 0 && length <= NAME_BYTES && !text[length];
}

static const char *check_name(const char *text)
{
	return is_name(text) ? NULL : "a name of up to 63 letters, digits, '.', '_' and '-'";
}

static const char *check_pattern(const char *text)
{
	return text[0] && strlen(text) < CPUPOLICY_NAME_SIZE ? NULL : "a pattern of 1 to 255 bytes";
}

/* The key that is looked at is to be a new one. */
static int define(struct json_reader *reader, json_t *defined)
{
	const char *name = reader->key[reader->depth - 1], *file;

	if (!is_name(name))
		return json_table_fail(reader, true, "expected %s", check_name(name));
	file = json_string_value(json_object_get(defined, name));
	if (file)
		return json_table_fail(reader, true, "already defined in %s", file);
	return json_object_set_new(defined, name, json_string(reader->file)) < 0 ? -ENOMEM : 0;
}

/* Room for `more` items behind the `n` that are there. */
static int grow(struct json_reader *reader, void **items, size_t size, size_t n, size_t more, size_t most)
{
	void *larger;

	if (n + more > most)
		return json_table_fail(reader, false, "expected at most %zu in all files", most);
	larger = realloc(*items, (n + more + 1) * size);
	if (!larger)
		return -ENOMEM;
	*items = larger;
	return 0;
}

/* ---- classes ---- */

#define CREDIT_SECONDS ((uint64_t)CLASS_CREDIT_MAX / NSEC_PER_SEC)

static const struct json_row burst_rows[] = {
	{.key = "cap_seconds",
	 .read = json_read_u64,
	 JSON_MEMBER(struct class_burst, cap),
	 .max = CREDIT_SECONDS,
	 .unit = NSEC_PER_SEC,
	 .required = true},
	{.key = "initial_seconds",
	 .read = json_read_u64,
	 JSON_MEMBER(struct class_burst, initial),
	 .max = CREDIT_SECONDS,
	 .unit = NSEC_PER_SEC},
	{.key = "resume_seconds",
	 .read = json_read_u64,
	 JSON_MEMBER(struct class_burst, resume),
	 .max = CREDIT_SECONDS,
	 .unit = NSEC_PER_SEC},
	{0},
};

static int read_burst(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct class_burst *burst = to;
	int r = json_table_read(reader, burst_rows, value, burst);

	if (r < 0)
		return r;
	if (!json_object_get(value, "resume_seconds"))
		burst->resume = burst->cap / 10;
	burst->metered = true;
	return 0;
}

static const struct json_row plugs_rows[] = {
	{.key = "per_minute",
	 .read = json_read_u32,
	 JSON_MEMBER(struct class_plugs, per_minute),
	 .max = CLASS_PLUGS_MAX},
	{.key = "burst",
	 .read = json_read_u32,
	 JSON_MEMBER(struct class_plugs, burst),
	 .min = 1,
	 .max = CLASS_PLUGS_MAX},
	{0},
};

static int read_plugs(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct class_plugs *plugs = to;
	int r = json_table_read(reader, plugs_rows, value, plugs);

	if (r >= 0 && plugs->burst == 0)
		plugs->burst = plugs->per_minute;
	return r;
}

static const struct json_row cpu_on_rows[] = {
	{.key = "per_second", .read = json_read_u32, JSON_MEMBER(struct rate_limit, per_second), .max = 1000000},
	{.key = "burst", .read = json_read_u32, JSON_MEMBER(struct rate_limit, burst), .min = 1, .max = 1000000},
	{0},
};

static int read_cpu_on(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct rate_limit *limit = to;
	int r = json_table_read(reader, cpu_on_rows, value, limit);

	/* A guest that boots asks for all its vCPUs at once: a limit without a burst allows that. */
	if (r >= 0 && limit->burst == 0)
		limit->burst = CPUPOLICY_MAX_VCPUS;
	return r;
}

static int read_refusal(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	static const enum class_refusal refusals[] = {CLASS_RETRY, CLASS_REVOKE, CLASS_QUOTA};
	unsigned choice = 0;
	int r = json_read_choice(reader, row, value, &choice);

	if (r >= 0)
		*(enum class_refusal *)to = refusals[choice];
	return r;
}

static const struct json_row price_rows[] = {
	{.key = "guaranteed",
	 .read = json_read_decimal,
	 JSON_MEMBER(struct class_price, guaranteed),
	 .max = CLASS_PRICE_MAX,
	 .unit = 1000000},
	{.key = "burst",
	 .read = json_read_decimal,
	 JSON_MEMBER(struct class_price, burst),
	 .max = CLASS_PRICE_MAX,
	 .unit = 1000000},
	{0},
};

static int read_price(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct class_price *price = to;

	price->given = true;
	return json_table_read(reader, price_rows, value, price);
}

#define CLASS(member) JSON_MEMBER(struct service_class, member)

static const struct json_row class_rows[] = {
	{.key = "guaranteed", .read = json_read_u32, CLASS(guaranteed), .min = 1, .max = CPUPOLICY_MAX_VCPUS},
	{.key = "limit", .read = json_read_u32, CLASS(limit), .min = 1, .max = CPUPOLICY_MAX_VCPUS},
	{.key = "priority", .read = json_read_u32, CLASS(priority), .max = CLASS_PRIORITY_MAX},
	{.key = "burst", .read = read_burst, CLASS(burst)},
	{.key = "plugs", .read = read_plugs, CLASS(plugs)},
	{.key = "cpu_on", .read = read_cpu_on, CLASS(cpu_on)},
	{.key = "refusal", .read = read_refusal, CLASS(refusal), .words = {"retry", "revoke", "quota"}},
	{.key = "quota", .read = json_read_word, CLASS(standing_quota), .words = {"none", "standing"}},
	{.key = "retry_seconds",
	 .read = json_read_u64,
	 CLASS(retry_interval),
	 .min = 1,
	 .max = 86400,
	 .unit = NSEC_PER_SEC},
	{.key = "verdicts", .read = json_read_word, CLASS(ask), .words = {"page", "ask"}},
	{.key = "on_timeout", .read = json_read_word, CLASS(timeout_allow), .words = {"deny", "allow"}},
	{.key = "observe", .read = json_read_bool, CLASS(observe)},
	{.key = "bill_paused", .read = json_read_bool, CLASS(bill_paused)},
	{.key = "ask_timeout_ms", .read = json_read_u32, CLASS(ask_timeout_ms), .min = 1, .max = 60000},
	{.key = "job_timeout_seconds",
	 .read = json_read_u64,
	 CLASS(job_timeout),
	 .min = 1,
	 .max = 86400,
	 .unit = NSEC_PER_SEC},
	{.key = "price", .read = read_price, CLASS(price)},
	{0},
};

/* The class as class.h has it: each value is within its range, and may still contradict another one. */
static int check_class(struct json_reader *reader, json_t *value, const struct service_class *class)
{
	static const struct {
		const char *member, *object, *key;
	} places[] = {
		{"guaranteed", NULL, "guaranteed"},
		{"burst.initial", "burst", "initial_seconds"},
		{"burst.resume", "burst", "resume_seconds"},
	};
	const char *member, *why;
	size_t depth = reader->depth;
	int r;

	if (class_check(class, &member, &why) >= 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (strcmp(places[i].member, member) != 0)
			continue;
		if (places[i].object)
			value = json_table_enter(reader, value, places[i].object);
		json_table_enter(reader, value, places[i].key);
	}
	r = json_table_fail(reader, false, "%s", why);
	reader->depth = depth;
	return r;
}

static int read_class(struct json_reader *reader, json_t *value)
{
	struct builder *builder = reader->userdata;
	struct policy *policy = builder->policy;
	struct service_class *class = &policy->classes[policy->n_classes];
	int r = define(reader, builder->classes);

	if (r < 0)
		return r;
	class_default(class);
	class->name = strdup(reader->key[reader->depth - 1]);
	if (!class->name)
		return -ENOMEM;
	policy->n_classes++;
	r = json_table_read(reader, class_rows, value, class);
	return r < 0 ? r : check_class(reader, value, class);
}

/* ---- tenants ---- */

static const struct json_row tenant_rows[] = {
	{.key = "quota", .read = json_read_u32, JSON_MEMBER(struct fleet_tenant, quota), .min = 1, .max = MAX_CAPACITY},
	{0},
};

static int read_tenant(struct json_reader *reader, json_t *value)
{
	struct builder *builder = reader->userdata;
	struct policy *policy = builder->policy;
	struct fleet_tenant *tenant = &policy->tenants[policy->n_tenants];
	int r = define(reader, builder->tenants);

	if (r < 0)
		return r;
	*tenant = (struct fleet_tenant){.name = strdup(reader->key[reader->depth - 1]), .quota = FLEET_UNLIMITED};
	if (!tenant->name)
		return -ENOMEM;
	policy->n_tenants++;
	return json_table_read(reader, tenant_rows, value, tenant);
}

/* ---- objects by name ---- */

static int read_each(struct json_reader *reader, json_t *object, int (*fn)(struct json_reader *reader, json_t *value))
{
	const char *key;
	json_t *value;
	size_t member = 0;

	json_object_foreach(object, key, value) {
		int r;

		json_table_push(reader, key, member++);
		r = fn(reader, value);
		json_table_pop(reader);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_classes(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct policy *policy = policy_of(reader);
	int r;

	if (!json_is_object(value))
		return json_table_expected(reader, value, "an object");
	r = grow(reader, (void **)&policy->classes, sizeof(*policy->classes), policy->n_classes,
		 json_object_size(value), MAX_CLASSES);
	return r < 0 ? r : read_each(reader, value, read_class);
}

static int read_tenants(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct policy *policy = policy_of(reader);
	int r;

	if (!json_is_object(value))
		return json_table_expected(reader, value, "an object");
	r = grow(reader, (void **)&policy->tenants, sizeof(*policy->tenants), policy->n_tenants,
		 json_object_size(value), MAX_TENANTS);
	return r < 0 ? r : read_each(reader, value, read_tenant);
}

/* ---- the host ---- */

/* What may stand in one file only. */
static int only_once(struct json_reader *reader, const char **file)
{
	if (*file)
		return json_table_fail(reader, true, "already defined in %s", *file);
	*file = reader->file;
	return 0;
}

struct cpus {
	struct policy_capacity capacity;
	uint64_t overcommit;
};

static int read_cpus(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct policy_capacity *capacity = to;
	const char *word = json_string_value(value);

	if (word && strcmp(word, "auto") == 0) {
		capacity->kind = POLICY_CAPACITY_AUTO;
		return 0;
	}
	if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > MAX_CPUS)
		return json_table_expected(reader, value, "\"auto\" or an integer from 1 to %d", MAX_CPUS);
	capacity->kind = POLICY_CAPACITY_CPUS;
	capacity->count = (uint32_t)json_integer_value(value);
	return 0;
}

static const struct json_row capacity_rows[] = {
	{.key = "cpus", .read = read_cpus, JSON_MEMBER(struct cpus, capacity)},
	{.key = "overcommit",
	 .read = json_read_decimal,
	 JSON_MEMBER(struct cpus, overcommit),
	 .min = 1,
	 .max = 1000000,
	 .unit = 1000},
	{0},
};

static int read_capacity(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct policy_capacity *capacity = to;
	struct cpus cpus = {.capacity.kind = POLICY_CAPACITY_AUTO, .overcommit = 1000};
	int r;

	if (json_is_object(value)) {
		r = json_table_read(reader, capacity_rows, value, &cpus);
		if (r < 0)
			return r;
		*capacity = cpus.capacity;
		capacity->overcommit_milli = (uint32_t)cpus.overcommit;
		return 0;
	}
	if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > MAX_CAPACITY)
		return json_table_expected(reader, value, "an integer from 1 to %d, or an object", MAX_CAPACITY);
	*capacity = (struct policy_capacity){
		.kind = POLICY_CAPACITY_VCPUS,
		.count = (uint32_t)json_integer_value(value),
	};
	return 0;
}

static const struct json_row host_rows[] = {
	{.key = "capacity", .read = read_capacity, JSON_MEMBER(struct policy, capacity)},
	{.key = "observe", .read = json_read_bool, JSON_MEMBER(struct policy, observe)},
	{0},
};

static int read_host(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct builder *builder = reader->userdata;
	int r = only_once(reader, &builder->host_file);

	return r < 0 ? r : json_table_read(reader, host_rows, value, builder->policy);
}

/* ---- what refers to names ---- */

static int read_class_name(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *name = json_string_value(value);
	const struct service_class *class = name ? policy_class(policy_of(reader), name) : NULL;

	if (!class)
		return json_table_expected(reader, value, "the name of a class that is defined");
	*(const struct service_class **)to = class;
	return 0;
}

static int read_tenant_name(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *name = json_string_value(value);
	uint32_t tenant = name ? policy_tenant(policy_of(reader), name) : FLEET_NO_TENANT;

	if (tenant == FLEET_NO_TENANT)
		return json_table_expected(reader, value, "the name of a tenant that is defined");
	*(uint32_t *)to = tenant;
	return 0;
}

static int read_uid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct policy_rule *rule = to;
	int r = json_read_u32(reader, row, value, &rule->uid);

	rule->has_uid = true;
	return r;
}

_Static_assert(sizeof(uid_t) == sizeof(uint32_t), "read_uid()");

static int read_uuid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct policy_rule *rule = to;
	const char *text = json_string_value(value);

	if (!text || uuid_parse(rule->uuid, text) < 0 || uuid_is_nil(rule->uuid))
		return json_table_expected(reader, value, "a UUID");
	rule->has_uuid = true;
	return 0;
}

#define RULE(member) JSON_MEMBER(struct policy_rule, member)

static const struct json_row match_rows[] = {
	{.key = "name", .read = json_read_text, RULE(name), .check = check_pattern},
	{.key = "uuid", .read = read_uuid},
	{.key = "tenant", .read = read_tenant_name, RULE(match_tenant)},
	{.key = "uid", .read = read_uid, .max = UINT32_MAX - 1},
	{0},
};

static const struct json_row rule_rows[] = {
	{.key = "match", .read = json_read_object, .rows = match_rows},
	{.key = "class", .read = read_class_name, RULE(class)},
	{.key = "tenant", .read = read_tenant_name, RULE(tenant)},
	{0},
};

static int read_rule(struct json_reader *reader, json_t *value, struct policy_rule *rule)
{
	int r;

	*rule = (struct policy_rule){.match_tenant = FLEET_NO_TENANT, .tenant = FLEET_NO_TENANT};
	r = json_table_read(reader, rule_rows, value, rule);
	if (r < 0)
		return r;
	if (!rule->class && rule->tenant == FLEET_NO_TENANT)
		return json_table_fail(reader, false, "expected a class or a tenant in it");
	/* The tenant is looked for while it is not known. */
	if (rule->tenant != FLEET_NO_TENANT && rule->match_tenant != FLEET_NO_TENANT)
		return json_table_fail(reader, false, "expected not both a tenant to match and one to give");
	return 0;
}

static int read_rules(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct policy *policy = policy_of(reader);
	json_t *element;
	size_t i;
	int r;

	if (!json_is_array(value))
		return json_table_expected(reader, value, "an array");
	r = grow(reader, (void **)&policy->rules, sizeof(*policy->rules), policy->n_rules, json_array_size(value),
		 MAX_RULES);
	if (r < 0)
		return r;
	json_array_foreach(value, i, element) {
		json_table_push(reader, NULL, i);
		r = read_rule(reader, element, &policy->rules[policy->n_rules++]);
		json_table_pop(reader);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_registration(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct registrants *registrants = &policy_of(reader)->registrants;
	json_t *element;
	size_t i;
	int r;

	if (!json_is_array(value))
		return json_table_expected(reader, value, "an array");
	r = grow(reader, (void **)&registrants->rules, sizeof(*registrants->rules), registrants->n,
		 json_array_size(value), MAX_RULES);
	if (r < 0)
		return r;
	json_array_foreach(value, i, element) {
		struct registrants_rule *rule = &registrants->rules[registrants->n++];

		*rule = (struct registrants_rule){.tenant = FLEET_NO_TENANT};
		json_table_push(reader, NULL, i);
		r = registrants_read_rule(reader, element, rule, read_tenant_name);
		json_table_pop(reader);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_default(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct builder *builder = reader->userdata;
	int r = only_once(reader, &builder->default_file);

	return r < 0 ? r : read_class_name(reader, row, value, &builder->policy->default_class);
}

/* ---- the whole ---- */

/* Its turn is in the other round. */
static int leave(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	return 0;
}

static const struct json_row names[] = {
	{.key = "classes", .read = read_classes},
	{.key = "tenants", .read = read_tenants},
	{.key = "rules", .read = leave},
	{.key = "default_class", .read = leave},
	{.key = "host", .read = read_host},
	{.key = "registration", .read = leave},
	{0},
};

static const struct json_row references[] = {
	{.key = "classes", .read = leave},
	{.key = "tenants", .read = leave},
	{.key = "rules", .read = read_rules},
	{.key = "default_class", .read = read_default},
	{.key = "host", .read = leave},
	{.key = "registration", .read = read_registration},
	{0},
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The built-in class, unless there is another one of its name. */
static int complete_names(struct policy *policy, json_t *classes)
{
	struct service_class built_in;

	class_default(&built_in);
	if (!json_object_get(classes, built_in.name)) {
		struct service_class *larger =
			realloc(policy->classes, (policy->n_classes + 1) * sizeof(*policy->classes));

		if (!larger)
			return -ENOMEM;
		policy->classes = larger;
		built_in.name = strdup(built_in.name);
		if (!built_in.name)
			return -ENOMEM;
		policy->classes[policy->n_classes++] = built_in;
	}
	qsort(policy->classes, policy->n_classes, sizeof(*policy->classes), compare_names);
	if (policy->n_tenants > 0)
		qsort(policy->tenants, policy->n_tenants, sizeof(*policy->tenants), compare_names);
	class_default(&built_in);
	policy->default_class = policy_class(policy, built_in.name);
	return 0;
}

static int read_round(struct builder *builder, json_t *const *roots, const struct json_row *rows, char **ret_error)
{
	const struct policy *policy = builder->policy;

	for (size_t i = 0; i < policy->n_sources; i++) {
		struct json_reader reader = {
			.file = policy->sources[i].file,
			.text = policy->sources[i].text,
			.userdata = builder,
		};
		int r = json_table_read(&reader, rows, roots[i], NULL);

		if (r < 0) {
			*ret_error = reader.error;
			return r;
		}
	}
	return 0;
}

static int parse_sources(const struct policy *policy, json_t **roots, char **ret_error)
{
	for (size_t i = 0; i < policy->n_sources; i++) {
		struct json_reader reader = {.file = policy->sources[i].file, .text = policy->sources[i].text};
		int r = json_table_parse(&reader, strlen(reader.text), &roots[i]);

		if (r < 0) {
			*ret_error = reader.error;
			return r;
		}
	}
	return 0;
}

int policy_read(struct policy *policy, char **ret_error)
{
	_cleanup_(json_decrefp) json_t *classes = json_object(), *tenants = json_object();
	_cleanup_free_ json_t **roots = calloc(policy->n_sources + 1, sizeof(*roots));
	struct builder builder = {.policy = policy, .classes = classes, .tenants = tenants};
	int r = -ENOMEM;

	if (!classes || !tenants || !roots)
		return r;
	r = parse_sources(policy, roots, ret_error);
	if (r >= 0)
		r = read_round(&builder, roots, names, ret_error);
	if (r >= 0)
		r = complete_names(policy, classes);
	if (r >= 0)
		r = read_round(&builder, roots, references, ret_error);
	for (size_t i = 0; i < policy->n_sources; i++)
		json_decref(roots[i]);
	return r;
}
