/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/top_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/util.h"

enum row {
	ROW_HOST,
	ROW_CAPACITY,
	ROW_STATUS,
	ROW_HEAD,
	ROWS_ABOVE,
	ROWS_BELOW = 1, /* the keys */
};

#define NAME_MIN  8
#define NAME_MAX  40
#define TEXT_SIZE 128

struct view {
	const struct top *t;
	struct screen *s;
	bool colours;
	uint64_t now;
};

static unsigned attr(const struct view *v, unsigned wanted)
{
	return v->colours ? wanted : wanted & ~(unsigned)SCREEN_COLOURS;
}

size_t top_view_lines(unsigned rows)
{
	return rows > ROWS_ABOVE + ROWS_BELOW ? rows - ROWS_ABOVE - ROWS_BELOW : 1;
}

/* ---- the host ---- */

/* Puts a text after what the row has, and a gap. */
static void put_next(const struct view *v, unsigned row, unsigned *column, unsigned a, const char *text)
{
	*column += screen_put(v->s, row, *column, v->s->columns, attr(v, a), text);
	*column += 2;
}

static void draw_host(const struct view *v)
{
	const struct host_info *h = &v->t->host;
	char text[TEXT_SIZE];
	unsigned column = 0;

	snprintf(text, sizeof(text), "cpupolicyd %s", h->version ? h->version : "");
	put_next(v, ROW_HOST, &column, SCREEN_BOLD, text);
	if (!v->t->there) {
		put_next(v, ROW_HOST, &column, SCREEN_BOLD | SCREEN_RED, "is gone; VMs go on under the last policy");
		return;
	}
	snprintf(text, sizeof(text), "%" PRIu32 " VMs, %" PRIu32 " connected", h->vms, h->connected);
	put_next(v, ROW_HOST, &column, 0, text);
	if (h->frozen)
		put_next(v, ROW_HOST, &column, SCREEN_REVERSE | SCREEN_CYAN, "FROZEN");
	if (h->drained)
		put_next(v, ROW_HOST, &column, SCREEN_REVERSE | SCREEN_YELLOW, "DRAINED");
	if (h->observe)
		put_next(v, ROW_HOST, &column, SCREEN_REVERSE, "OBSERVED");
}

struct part {
	uint64_t n;
	char c;
	unsigned attr;
};

/* Parts of `total` in as many columns, rounded so that each edge is where it belongs. */
static void draw_bar(const struct view *v, unsigned column, unsigned width, const struct part *parts, size_t n,
		     uint64_t total)
{
	uint64_t sum = 0;
	unsigned from = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned to;

		sum += parts[i].n;
		to = total > 0 ? (unsigned)((sum * width + total / 2) / total) : 0;
		/* what is there is seen */
		if (to == from && parts[i].n > 0 && to < width)
			to++;
		if (to > width)
			to = width;
		screen_fill(v->s, ROW_CAPACITY, column + from, to - from, attr(v, parts[i].attr), parts[i].c);
		from = to;
	}
	screen_fill(v->s, ROW_CAPACITY, column + from, width - from, attr(v, SCREEN_DIM), '.');
}

static void format_capacity(const struct host_info *h, char text[TEXT_SIZE])
{
	const struct host_sums *s = &h->sums;
	uint64_t burst = s->allowed - s->guaranteed, left = h->capacity > s->occupied ? h->capacity - s->occupied : 0;
	int n;

	if (h->capacity == HOST_INFO_UNLIMITED)
		n = snprintf(text, TEXT_SIZE, "no limit: ");
	else
		n = snprintf(text, TEXT_SIZE, "%" PRIu32 " vCPUs: ", h->capacity);
	n += snprintf(text + n, TEXT_SIZE - (size_t)n, "%" PRIu64 " guaranteed, %" PRIu64 " burst", s->guaranteed,
		      burst);
	if (s->overdue > 0)
		n += snprintf(text + n, TEXT_SIZE - (size_t)n, ", %" PRIu64 " overdue", s->overdue);
	if (h->capacity != HOST_INFO_UNLIMITED)
		snprintf(text + n, TEXT_SIZE - (size_t)n, ", %" PRIu64 " free", left);
}

/* Guaranteed #, burst +, overdue !, free . */
static void draw_capacity(const struct view *v)
{
	const struct host_info *h = &v->t->host;
	const struct host_sums *s = &h->sums;
	const struct part parts[] = {
		{s->guaranteed, '#', SCREEN_GREEN},
		{s->allowed - s->guaranteed, '+', SCREEN_YELLOW},
		{s->occupied - s->allowed, '!', SCREEN_RED | SCREEN_BOLD},
	};
	uint64_t total = h->capacity != HOST_INFO_UNLIMITED && h->capacity > s->occupied ? h->capacity : s->occupied;
	char text[TEXT_SIZE];
	unsigned width;

	format_capacity(h, text);
	width = (unsigned)strlen(text) + 3;
	width = v->s->columns > width ? v->s->columns - width : 0;
	if (width < NAME_MIN) {
		screen_put(v->s, ROW_CAPACITY, 0, v->s->columns, 0, text);
		return;
	}
	screen_put(v->s, ROW_CAPACITY, 0, 1, 0, "[");
	draw_bar(v, 1, width, parts, ARRAY_SIZE(parts), total);
	screen_put(v->s, ROW_CAPACITY, 1 + width, 2, 0, "] ");
	screen_put(v->s, ROW_CAPACITY, width + 3, v->s->columns, 0, text);
}

static void draw_status(const struct view *v)
{
	const struct top *t = v->t;
	char text[TEXT_SIZE];
	unsigned column = 0;

	if (t->typing || *t->filter) {
		snprintf(text, sizeof(text), "filter: %s%s", t->filter, t->typing ? "_" : "");
		put_next(v, ROW_STATUS, &column, t->typing ? SCREEN_BOLD : SCREEN_CYAN, text);
	}
	if (t->lacking)
		put_next(v, ROW_STATUS, &column, SCREEN_CYAN, "lacking only");
	snprintf(text, sizeof(text), "by %s%s", top_column_name(t->sort), t->reverse ? ", reversed" : "");
	put_next(v, ROW_STATUS, &column, 0, text);
	if (t->n_order == 0)
		snprintf(text, sizeof(text), "no VM of %zu", t->n);
	else
		snprintf(text, sizeof(text), "%zu-%zu of %zu", t->first + 1,
			 t->first + top_view_lines(v->s->rows) < t->n_order ? t->first + top_view_lines(v->s->rows)
									    : t->n_order,
			 t->n_order);
	put_next(v, ROW_STATUS, &column, 0, text);
}

/* ---- the VMs ---- */

static void format_count(char text[TEXT_SIZE], uint32_t n)
{
	snprintf(text, TEXT_SIZE, "%" PRIu32, n);
}

/* In at most 7 columns. */
static void format_credit(char text[TEXT_SIZE], const struct top_vm *vm, uint64_t now)
{
	double seconds = (double)top_credit(vm, now) / 1e9, size = seconds < 0 ? -seconds : seconds;

	if (strcmp(vm->info.credit_state, "unmetered") == 0)
		snprintf(text, TEXT_SIZE, "-");
	else if (size < 99999.5)
		snprintf(text, TEXT_SIZE, "%.0fs", seconds);
	else if (size < 3600 * 9999.5)
		snprintf(text, TEXT_SIZE, "%.0fh", seconds / 3600);
	else
		snprintf(text, TEXT_SIZE, "%.0fd", seconds / 86400);
}

static void format_rate(char text[TEXT_SIZE], double rate)
{
	if (rate == 0)
		snprintf(text, TEXT_SIZE, "-");
	else
		snprintf(text, TEXT_SIZE, rate < 9.95 ? "%.1f" : "%.0f", rate);
}

/* What is owed goes before what is wanted: somebody waits for it. */
static void format_reason(char text[TEXT_SIZE], const struct vm_info *vm)
{
	char cpus[VM_INFO_CPUS_SIZE];

	if (vm->overdue > 0)
		snprintf(text, TEXT_SIZE, "%" PRIu32 " overdue", vm->overdue);
	else if (strcmp(vm->target_reason, "none") != 0)
		snprintf(text, TEXT_SIZE, "%s", vm->target_reason);
	else if (vm->quota != VM_INFO_NO_QUOTA)
		snprintf(text, TEXT_SIZE, "%s %s", strcmp(vm->quota_state, "held") == 0 ? "cpu" : "not held",
			 vm_info_cpus(vm->quota, cpus));
	else
		*text = '\0';
}

static void format_state(char text[TEXT_SIZE], const char *state)
{
	snprintf(text, TEXT_SIZE, "%s", strcmp(state, "disconnected") == 0 ? "disconn." : state);
}

static void format_cell(char text[TEXT_SIZE], const struct top_vm *vm, enum top_column column, uint64_t now)
{
	const struct vm_info *info = &vm->info;

	*text = '\0';
	switch (column) {
	case TOP_NAME:
		snprintf(text, TEXT_SIZE, "%s", info->name);
		break;
	case TOP_CLASS:
		snprintf(text, TEXT_SIZE, "%s", info->class);
		break;
	case TOP_STATE:
		format_state(text, info->state);
		break;
	case TOP_DESIRED:
		format_count(text, info->desired);
		break;
	case TOP_TARGET:
		format_count(text, info->target);
		break;
	case TOP_ENABLED:
		format_count(text, info->enabled);
		break;
	case TOP_ONLINE:
		format_count(text, info->online);
		break;
	case TOP_CREDIT:
		format_credit(text, vm, now);
		break;
	case TOP_DENIED:
		format_rate(text, vm->denied_rate);
		break;
	case TOP_REASON:
		format_reason(text, info);
		break;
	case TOP_COLUMNS:
		break;
	}
}

static unsigned cell_attr(const struct top_vm *vm, enum top_column column)
{
	const struct vm_info *info = &vm->info;

	if (strcmp(info->state, "stopped") == 0)
		return SCREEN_DIM;
	switch (column) {
	case TOP_STATE:
		return strcmp(info->state, "disconnected") == 0 ? SCREEN_RED : 0;
	case TOP_TARGET:
		return info->target < info->desired ? SCREEN_YELLOW : 0;
	case TOP_ENABLED:
		return info->overdue > 0 ? SCREEN_RED | SCREEN_BOLD : info->enabled != info->target ? SCREEN_YELLOW : 0;
	case TOP_CREDIT:
		if (strcmp(info->credit_state, "owed") == 0)
			return SCREEN_RED | SCREEN_BOLD;
		return strcmp(info->credit_state, "spent") == 0 ? SCREEN_YELLOW : 0;
	case TOP_DENIED:
		return vm->denied_rate > 0 ? SCREEN_RED : 0;
	case TOP_REASON:
		return info->overdue > 0 ? SCREEN_RED | SCREEN_BOLD : SCREEN_YELLOW;
	default:
		return 0;
	}
}

/* What the columns take; the name has the rest. Where there is no room, those in
 * `sacrifice` go, the first one first. */
static const struct {
	const char *head;
	unsigned width;
	bool right;
} columns[TOP_COLUMNS] = {
	[TOP_NAME] = {"NAME", 0, false},   [TOP_CLASS] = {"CLASS", 8, false},  [TOP_STATE] = {"STATE", 8, false},
	[TOP_DESIRED] = {"DES", 3, true},  [TOP_TARGET] = {"TGT", 3, true},    [TOP_ENABLED] = {"ENA", 3, true},
	[TOP_ONLINE] = {"ONL", 3, true},   [TOP_CREDIT] = {"CREDIT", 7, true}, [TOP_DENIED] = {"DENY/S", 6, true},
	[TOP_REASON] = {"WHY", 14, false},
};

static const enum top_column sacrifice[] = {TOP_DENIED, TOP_STATE,  TOP_CLASS,  TOP_REASON,
					    TOP_CREDIT, TOP_ONLINE, TOP_TARGET, TOP_DESIRED};

static void lay_out(unsigned width, unsigned ret[TOP_COLUMNS])
{
	unsigned taken = 0;

	for (size_t i = TOP_NAME + 1; i < TOP_COLUMNS; i++) {
		ret[i] = columns[i].width;
		taken += ret[i] + 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(sacrifice) && taken + NAME_MIN > width; i++) {
		taken -= ret[sacrifice[i]] + 1;
		ret[sacrifice[i]] = 0;
	}
	ret[TOP_NAME] = width > taken ? width - taken : 1;
	if (ret[TOP_NAME] > NAME_MAX)
		ret[TOP_NAME] = NAME_MAX;
}

static void draw_head(const struct view *v, const unsigned widths[TOP_COLUMNS])
{
	unsigned column = 0;

	screen_fill(v->s, ROW_HEAD, 0, v->s->columns, SCREEN_REVERSE, ' ');
	for (size_t i = 0; i < TOP_COLUMNS; i++) {
		unsigned a = SCREEN_REVERSE | (i == v->t->sort ? SCREEN_BOLD : 0);

		if (widths[i] == 0)
			continue;
		if (columns[i].right)
			screen_put_right(v->s, ROW_HEAD, column, widths[i], a, columns[i].head);
		else
			screen_put(v->s, ROW_HEAD, column, widths[i], a, columns[i].head);
		column += widths[i] + 1;
	}
}

static void draw_vm(const struct view *v, unsigned row, const struct top_vm *vm, const unsigned widths[TOP_COLUMNS])
{
	char text[TEXT_SIZE];
	unsigned column = 0;

	for (size_t i = 0; i < TOP_COLUMNS; i++) {
		unsigned a = attr(v, cell_attr(vm, i));

		if (widths[i] == 0)
			continue;
		format_cell(text, vm, i, v->now);
		if (columns[i].right)
			screen_put_right(v->s, row, column, widths[i], a, text);
		else
			screen_put(v->s, row, column, widths[i], a, text);
		column += widths[i] + 1;
	}
}

static void draw_vms(const struct view *v, size_t lines)
{
	unsigned widths[TOP_COLUMNS];

	lay_out(v->s->columns, widths);
	draw_head(v, widths);
	for (size_t i = 0; i < lines && v->t->first + i < v->t->n_order; i++)
		draw_vm(v, (unsigned)(ROWS_ABOVE + i), v->t->order[v->t->first + i], widths);
}

/* ---- keys ---- */

static void draw_help(const struct view *v, size_t lines)
{
	static const char *const text[] = {
		"q            quit",
		"arrows, page up, page down, home, end, space: scroll",
		"left, right  sort by the column before or after; or by",
		"  n name  c class  s state  d desired  t target  e enabled  o online",
		"  x credit (least first)  v denied calls  w why",
		"r            the other way round",
		"/            show VMs whose name, UUID, class, tenant or state has what is typed",
		"l            show only those that lack or owe something",
		"escape       show all again",
		"",
		"[####++!..]  guaranteed, burst, overdue, free",
		"DES TGT      vCPUs asked for, and what there is room for now; WHY that is less",
		"ENA ONL      vCPUs the guest may use, and that it has powered on",
		"CREDIT       vCPU-seconds (h: hours, d: days) of burst that are left; below 0 is owed",
		"DENY/S       calls of CPU_ON denied per second",
	};

	for (size_t i = 0; i < ARRAY_SIZE(text) && i < lines; i++)
		screen_put(v->s, (unsigned)(ROWS_ABOVE + i), 0, v->s->columns, 0, text[i]);
}

static void draw_keys(const struct view *v)
{
	const char *text = v->t->typing ? "enter: done  escape: show all"
					: "q quit  h help  / filter  l lacking  </> sort  r reverse";

	if (v->s->rows > ROWS_ABOVE + ROWS_BELOW)
		screen_put(v->s, v->s->rows - 1, 0, v->s->columns, SCREEN_DIM, text);
}

void top_view(const struct top *t, struct screen *s, bool colours, uint64_t now)
{
	const struct view v = {.t = t, .s = s, .colours = colours, .now = now};
	size_t lines = top_view_lines(s->rows);

	screen_clear(s);
	draw_host(&v);
	draw_capacity(&v);
	draw_status(&v);
	if (t->help)
		draw_help(&v, lines);
	else
		draw_vms(&v, lines);
	draw_keys(&v);
}
