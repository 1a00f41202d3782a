/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/top.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/terminal.h"
#include "daemon/base/util.h"

/* ---- the VMs ---- */

static void vm_free(struct top_vm *vm)
{
	vm_info_clear(&vm->info);
	free(vm);
}

void top_clear(struct top *t)
{
	for (size_t i = 0; i < t->n; i++)
		vm_free(t->vms[i]);
	free(t->vms);
	free(t->order);
	host_info_clear(&t->host);
	*t = (struct top){0};
}

struct top_vm *top_find(const struct top *t, const char *path)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->vms[i]->info.path, path) == 0)
			return t->vms[i];
	return NULL;
}

static int grow(struct top *t)
{
	struct top_vm **vms = reallocarray(t->vms, t->n + 1, sizeof(struct top_vm *)), **order;

	if (!vms)
		return -ENOMEM;
	t->vms = vms;
	order = reallocarray(t->order, t->n + 1, sizeof(struct top_vm *));
	if (!order)
		return -ENOMEM;
	t->order = order;
	return 0;
}

int top_put(struct top *t, struct vm_info *info, uint64_t now)
{
	struct top_vm *vm = top_find(t, info->path);

	if (vm) {
		vm_info_clear(&vm->info);
		/* the daemon may have started again, and counts from nothing */
		if (info->denied < vm->denied)
			vm->denied = info->denied;
	} else {
		vm = grow(t) < 0 ? NULL : calloc(1, sizeof(*vm));
		if (!vm) {
			vm_info_clear(info);
			return -ENOMEM;
		}
		vm->denied = info->denied;
		vm->denied_at = now;
		t->vms[t->n++] = vm;
	}
	vm->info = *info;
	vm->credit_at = now;
	vm->seen = true;
	*info = (struct vm_info){0};
	return 0;
}

static void remove_at(struct top *t, size_t i)
{
	for (size_t k = 0; k < t->n_order; k++)
		if (t->order[k] == t->vms[i]) {
			memmove(&t->order[k], &t->order[k + 1], (t->n_order - k - 1) * sizeof(struct top_vm *));
			t->n_order--;
			break;
		}
	vm_free(t->vms[i]);
	t->vms[i] = t->vms[--t->n];
}

void top_remove(struct top *t, const char *path)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->vms[i]->info.path, path) == 0) {
			remove_at(t, i);
			return;
		}
}

int top_replace(struct top *t, struct vm_info *vms, size_t n, uint64_t now)
{
	int r = 0;

	for (size_t i = 0; i < t->n; i++)
		t->vms[i]->seen = false;
	for (size_t i = 0; i < n && r >= 0; i++)
		r = top_put(t, &vms[i], now);
	for (size_t i = t->n; r >= 0 && i-- > 0;)
		if (!t->vms[i]->seen)
			remove_at(t, i);
	return r;
}

int64_t top_credit(const struct top_vm *vm, uint64_t now)
{
	uint64_t ns = (now > vm->credit_at ? now - vm->credit_at : 0) * 1000;
	int64_t credit;

	if (__builtin_mul_overflow((int64_t)ns, vm->info.credit_rate, &credit) ||
	    __builtin_add_overflow(credit, vm->info.credit, &credit))
		return vm->info.credit;
	return credit > vm->info.credit_cap ? vm->info.credit_cap : credit;
}

void top_count_denied(struct top_vm *vm, uint64_t now)
{
	uint64_t more = vm->info.denied > vm->denied ? vm->info.denied - vm->denied : 0;

	if (now <= vm->denied_at)
		return;
	vm->denied_rate = (double)more * 1e6 / (double)(now - vm->denied_at);
	vm->denied = vm->info.denied;
	vm->denied_at = now;
}

/* ---- which, and in what order ---- */

const char *top_column_name(enum top_column column)
{
	static const char *const names[] = {
		[TOP_NAME] = "name",     [TOP_CLASS] = "class",     [TOP_STATE] = "state",   [TOP_DESIRED] = "desired",
		[TOP_TARGET] = "target", [TOP_ENABLED] = "enabled", [TOP_ONLINE] = "online", [TOP_CREDIT] = "credit",
		[TOP_DENIED] = "denied", [TOP_REASON] = "why",
	};

	_Static_assert(ARRAY_SIZE(names) == TOP_COLUMNS, "a name for each column");
	return (unsigned)column < TOP_COLUMNS ? names[column] : "?";
}

static bool is_lacking(const struct vm_info *vm)
{
	return strcmp(vm->target_reason, "none") != 0 || vm->overdue > 0 || vm->enabled != vm->target;
}

static bool is_shown(const struct top *t, const struct vm_info *vm)
{
	const char *const texts[] = {vm->name, vm->uuid, vm->class, vm->tenant, vm->state};

	if (t->lacking && (!is_lacking(vm) || strcmp(vm->state, "stopped") == 0))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (strstr(texts[i], t->filter))
			return true;
	return false;
}

static bool is_metered(const struct vm_info *vm)
{
	return strcmp(vm->credit_state, "unmetered") != 0;
}

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

struct ordering {
	const struct top *t;
	uint64_t now;
};

/* Texts ascending, numbers descending: what one looks for is on top. */
static int compare_by(enum top_column column, const struct top_vm *a, const struct top_vm *b, uint64_t now)
{
	switch (column) {
	case TOP_CLASS:
		return strcmp(a->info.class, b->info.class);
	case TOP_STATE:
		return strcmp(a->info.state, b->info.state);
	case TOP_DESIRED:
		return COMPARE(b->info.desired, a->info.desired);
	case TOP_TARGET:
		return COMPARE(b->info.target, a->info.target);
	case TOP_ENABLED:
		return COMPARE(b->info.enabled, a->info.enabled);
	case TOP_ONLINE:
		return COMPARE(b->info.online, a->info.online);
	case TOP_CREDIT: /* who has least is about to shrink; who is not metered never does */
		if (is_metered(&a->info) != is_metered(&b->info))
			return is_metered(&a->info) ? -1 : 1;
		return COMPARE(top_credit(a, now), top_credit(b, now));
	case TOP_DENIED:
		return COMPARE(b->denied_rate, a->denied_rate);
	case TOP_REASON: /* "none" last */
		if (is_lacking(&a->info) != is_lacking(&b->info))
			return is_lacking(&a->info) ? -1 : 1;
		return strcmp(a->info.target_reason, b->info.target_reason);
	case TOP_NAME:
	case TOP_COLUMNS:
		break;
	}
	return 0;
}

static int compare(const void *left, const void *right, void *userdata)
{
	const struct top_vm *a = *(struct top_vm *const *)left, *b = *(struct top_vm *const *)right;
	const struct ordering *o = userdata;
	int r = compare_by(o->t->sort, a, b, o->now);

	if (r == 0)
		r = strcmp(a->info.name, b->info.name);
	if (r == 0)
		r = strcmp(a->info.uuid, b->info.uuid);
	return o->t->reverse ? -r : r;
}

static void limit_first(struct top *t, size_t lines)
{
	size_t last = t->n_order > lines ? t->n_order - lines : 0;

	if (t->first > last)
		t->first = last;
}

void top_arrange(struct top *t, uint64_t now, size_t lines)
{
	struct ordering ordering = {t, now};

	t->n_order = 0;
	for (size_t i = 0; i < t->n; i++)
		if (is_shown(t, &t->vms[i]->info))
			t->order[t->n_order++] = t->vms[i];
	if (t->n_order > 1)
		qsort_r(t->order, t->n_order, sizeof(struct top_vm *), compare, &ordering);
	limit_first(t, lines);
}

/* ---- keys ---- */

static void type(struct top *t, int key)
{
	size_t n = strlen(t->filter);

	if (key == TERMINAL_ENTER || key == TERMINAL_ESCAPE) {
		t->typing = false;
		if (key == TERMINAL_ESCAPE)
			*t->filter = '\0';
	} else if (key == TERMINAL_BACKSPACE && n > 0) {
		do
			t->filter[--n] = '\0';
		while (n > 0 && ((unsigned char)t->filter[n - 1] & 0xc0) == 0x80);
		/* the first byte of a character of several is left over when its rest is gone */
		if (n > 0 && ((unsigned char)t->filter[n - 1] & 0xc0) == 0xc0)
			t->filter[--n] = '\0';
	} else if (key >= ' ' && key <= 0xff && n + 1 < sizeof(t->filter)) {
		t->filter[n] = (char)key;
		t->filter[n + 1] = '\0';
	}
	t->first = 0;
}

static void sort_by(struct top *t, enum top_column column)
{
	t->sort = column;
	t->first = 0;
}

static bool scroll(struct top *t, int key, size_t lines)
{
	switch (key) {
	case TERMINAL_UP:
		t->first -= t->first > 0;
		return true;
	case TERMINAL_DOWN:
		t->first++;
		break;
	case TERMINAL_PAGE_UP:
		t->first -= t->first > lines ? lines : t->first;
		return true;
	case TERMINAL_PAGE_DOWN:
	case ' ':
		t->first += lines;
		break;
	case TERMINAL_HOME:
		t->first = 0;
		return true;
	case TERMINAL_END:
		t->first = t->n_order;
		break;
	default:
		return false;
	}
	limit_first(t, lines);
	return true;
}

static bool sort(struct top *t, int key)
{
	static const char letters[TOP_COLUMNS + 1] = "ncsdteoxvw";
	const char *letter = key > 0 && key < 0x80 ? strchr(letters, key) : NULL;

	if (letter)
		sort_by(t, (enum top_column)(letter - letters));
	else if (key == TERMINAL_RIGHT || key == '>')
		sort_by(t, (t->sort + 1) % TOP_COLUMNS);
	else if (key == TERMINAL_LEFT || key == '<')
		sort_by(t, (t->sort + TOP_COLUMNS - 1) % TOP_COLUMNS);
	else
		return false;
	return true;
}

bool top_key(struct top *t, int key, size_t lines)
{
	if (t->typing) {
		type(t, key);
		return true;
	}
	if (key == 'q')
		return false;
	if (t->help || key == 'h' || key == '?') {
		t->help = !t->help;
		return true;
	}
	if (scroll(t, key, lines) || sort(t, key))
		return true;
	if (key == '/') {
		t->typing = true;
	} else if (key == 'r') {
		t->reverse = !t->reverse;
	} else if (key == 'l') {
		t->lacking = !t->lacking;
		t->first = 0;
	} else if (key == TERMINAL_ESCAPE) {
		*t->filter = '\0';
		t->lacking = false;
	}
	return true;
}
