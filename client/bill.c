/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/bill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/usage.h"

#define ROW "(ssssttttt)"

void bill_clear(struct bill *bill)
{
	for (size_t i = 0; i < bill->n; i++) {
		free(bill->rows[i].uuid);
		free(bill->rows[i].name);
		free(bill->rows[i].tenant);
		free(bill->rows[i].class);
	}
	free(bill->rows);
	*bill = (struct bill){0};
}

static int reserve(struct bill *bill)
{
	struct bill_row *rows;

	/* a power of two: full */
	if (bill->n & (bill->n - 1))
		return 0;
	rows = reallocarray(bill->rows, bill->n ? 2 * bill->n : 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	bill->rows = rows;
	return 0;
}

static int read_row(struct bill *bill, sd_bus_message *m)
{
	const char *uuid, *name, *tenant, *class;
	struct bill_row row = {0};
	int r;

	r = sd_bus_message_read(m, ROW, &uuid, &name, &tenant, &class, &row.begin, &row.end, &row.guaranteed_ns,
				&row.burst_ns, &row.rows);
	if (r <= 0)
		return r;
	r = reserve(bill);
	if (r < 0)
		return r;
	row.uuid = strdup(uuid);
	row.name = strdup(name);
	row.tenant = strdup(tenant);
	row.class = strdup(class);
	bill->rows[bill->n++] = row;
	return row.uuid && row.name && row.tenant && row.class ? 1 : -ENOMEM;
}

int bill_read(struct bill *bill, sd_bus_message *m)
{
	int r;

	r = sd_bus_message_enter_container(m, 'a', ROW);
	while (r >= 0) {
		r = read_row(bill, m);
		if (r == 0)
			return sd_bus_message_exit_container(m);
	}
	return r;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t cost(const struct host_class *class, uint64_t guaranteed_ns, uint64_t burst_ns)
{
	const struct class_price price = {
		.given = true,
		.guaranteed = class->price_guaranteed,
		.burst = class->price_burst,
	};

	return usage_cost(guaranteed_ns, burst_ns, &price);
}

static void apply_class(struct bill *bill, const struct host_class *class)
{
	uint64_t guaranteed_ns = 0, burst_ns = 0;

	for (size_t i = 0; i < bill->n; i++) {
		struct bill_row *row = &bill->rows[i];

		if (strcmp(row->class, class->name) != 0)
			continue;
		row->priced = bill->priced = true;
		row->cost = cost(class, row->guaranteed_ns, row->burst_ns);
		guaranteed_ns = plus(guaranteed_ns, row->guaranteed_ns);
		burst_ns = plus(burst_ns, row->burst_ns);
	}
	bill->cost = plus(bill->cost, cost(class, guaranteed_ns, burst_ns));
}

void bill_apply(struct bill *bill, const struct host_info *host)
{
	for (size_t i = 0; i < bill->n; i++) {
		bill->guaranteed_ns = plus(bill->guaranteed_ns, bill->rows[i].guaranteed_ns);
		bill->burst_ns = plus(bill->burst_ns, bill->rows[i].burst_ns);
	}
	for (size_t i = 0; i < host->n_classes; i++)
		if (host->classes[i].priced)
			apply_class(bill, &host->classes[i]);
}
