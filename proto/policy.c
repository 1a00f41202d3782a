/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "message.h"

/* More than any page needs, on hosts with the largest memory pages. */
#define MAX_PAGE_SIZE (1u << 20)

int cpupolicy_policy_init(struct cpupolicy_policy *p, uint32_t vcpus)
{
	struct cpupolicy_policy_vcpu *vcpu = calloc(vcpus, sizeof(*vcpu));

	if (!vcpu)
		return -ENOMEM;
	*p = (struct cpupolicy_policy){.vcpus = vcpus, .vcpu = vcpu};
	return 0;
}

static void drop_page(struct cpupolicy_policy *p)
{
	if (p->mapped > 0)
		munmap((void *)p->page, p->mapped);
	free(p->own);
	p->page = NULL;
	p->own = NULL;
	p->mapped = 0;
}

void cpupolicy_policy_done(struct cpupolicy_policy *p)
{
	drop_page(p);
	free(p->vcpu);
	p->vcpu = NULL;
}

/* The file must not be able to shrink under the mapping: a read past its end is a SIGBUS in the VMM. */
static int check_file(int fd, uint32_t size, const char **ret_why)
{
	struct stat st;
	int seals;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != (off_t)size || size > MAX_PAGE_SIZE) {
		*ret_why = "the policy page is not a file of the announced size";
		return -EPROTO;
	}
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
		*ret_why = "the policy page is not sealed against shrinking";
		return -EPROTO;
	}
	return 0;
}

static void carry_marks(struct cpupolicy_policy *p)
{
	for (uint32_t i = 0; i < p->vcpus; i++) {
		struct cpupolicy_policy_vcpu *v = &p->vcpu[i];

		v->ejected = v->ejected && v->late;
		v->late = false;
		v->grant = cpupolicy_page_parse_word(cpupolicy_page_load_word(p->page, i)).grant;
	}
}

int cpupolicy_policy_adopt(struct cpupolicy_policy *p, int fd, uint32_t size, uint32_t epoch, const char **ret_why)
{
	const struct cpupolicy_page *page;
	int r;

	r = check_file(fd, size, ret_why);
	if (r < 0)
		return r;
	page = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED) {
		*ret_why = "the policy page cannot be mapped";
		return -errno;
	}
	/* Of a session that joined, the epoch may have risen since the reply was sent. */
	if (cpupolicy_page_check(page, size, p->vcpus) < 0 ||
	    cpupolicy_page_epoch(cpupolicy_page_load_head(page)) < epoch) {
		munmap((void *)page, size);
		*ret_why = "the policy page's head is not of this session";
		return -EPROTO;
	}
	drop_page(p);
	p->page = page;
	p->mapped = size;
	carry_marks(p);
	return 0;
}

int cpupolicy_policy_own(struct cpupolicy_policy *p, uint32_t enabled)
{
	static const struct cpupolicy_page_word granted = {
		.enabled = true,
		.wanted = true,
		.verdict = CPUPOLICY_VERDICT_ALLOW,
		.grant = 1,
	};
	struct cpupolicy_page *page;
	uint64_t head;

	if (p->own)
		return 0;
	page = calloc(1, cpupolicy_page_bytes(p->vcpus));
	if (!page)
		return -ENOMEM;
	cpupolicy_page_init(page, p->vcpus, 0);
	for (uint32_t i = 0; i < p->vcpus; i++) {
		if (p->page)
			cpupolicy_page_store_word(page, i, cpupolicy_page_load_word(p->page, i));
		else if (i < enabled)
			cpupolicy_page_store_word(page, i, cpupolicy_page_make_word(&granted));
	}
	/* Epoch 0 is no session's, and the generation goes on so that nobody takes the new page for the old. */
	head = cpupolicy_policy_head(p);
	cpupolicy_page_store_head(page, cpupolicy_page_make_head(0, cpupolicy_page_generation(head) + 1));
	drop_page(p);
	p->own = page;
	p->page = page;
	return 0;
}

void cpupolicy_policy_set(struct cpupolicy_policy *p, uint32_t vcpu, bool wanted)
{
	struct cpupolicy_page_word w = cpupolicy_page_parse_word(cpupolicy_page_load_word(p->own, vcpu));
	bool enabled = w.enabled && !cpupolicy_policy_ejected(p, vcpu);

	if (wanted) {
		if (!enabled)
			w.grant++;
		w.enabled = true;
		w.verdict = CPUPOLICY_VERDICT_ALLOW;
	} else {
		w.enabled = enabled;
	}
	if (wanted != w.wanted || (wanted && !enabled))
		w.serial++;
	w.wanted = wanted;
	cpupolicy_page_store_word(p->own, vcpu, cpupolicy_page_make_word(&w));
	cpupolicy_page_store_head(p->own, cpupolicy_policy_head(p) + 1);
}

uint64_t cpupolicy_policy_head(const struct cpupolicy_policy *p)
{
	return p->page ? cpupolicy_page_load_head(p->page) : 0;
}

struct cpupolicy_page_word cpupolicy_policy_word(const struct cpupolicy_policy *p, uint32_t vcpu)
{
	struct cpupolicy_page_word w = {.verdict = CPUPOLICY_VERDICT_DENY};

	if (p->page)
		w = cpupolicy_page_parse_word(cpupolicy_page_load_word(p->page, vcpu));
	if (vcpu == 0) {
		w.enabled = true;
		w.wanted = true;
		w.verdict = CPUPOLICY_VERDICT_ALLOW;
	}
	return w;
}

static bool mark_holds(const struct cpupolicy_policy *p, uint32_t vcpu, const struct cpupolicy_page_word *w)
{
	const struct cpupolicy_policy_vcpu *v = &p->vcpu[vcpu];

	return v->ejected && (!p->page || v->grant == w->grant);
}

bool cpupolicy_policy_ejected(const struct cpupolicy_policy *p, uint32_t vcpu)
{
	struct cpupolicy_page_word w = cpupolicy_policy_word(p, vcpu);

	return mark_holds(p, vcpu, &w);
}

void cpupolicy_policy_mark(struct cpupolicy_policy *p, uint32_t vcpu, bool own, bool late)
{
	struct cpupolicy_policy_vcpu *v = &p->vcpu[vcpu];

	if (vcpu == 0)
		return;
	v->ejected = true;
	v->own = own;
	v->late = late;
	v->grant = cpupolicy_policy_word(p, vcpu).grant;
}

void cpupolicy_policy_unmark(struct cpupolicy_policy *p, uint32_t vcpu)
{
	p->vcpu[vcpu].ejected = false;
}

/* NONE: the page does not deny. */
static enum cpupolicy_reason denial(const struct cpupolicy_policy *p, uint32_t vcpu,
				    const struct cpupolicy_page_word *w, bool inactive)
{
	if (!p->page && vcpu != 0)
		return CPUPOLICY_REASON_NO_POLICY;
	if (mark_holds(p, vcpu, w))
		return CPUPOLICY_REASON_EJECTED;
	if (!w->enabled || w->verdict == CPUPOLICY_VERDICT_DENY)
		return inactive ? CPUPOLICY_REASON_INACTIVE : CPUPOLICY_REASON_NOT_ENABLED;
	return CPUPOLICY_REASON_NONE;
}

enum cpupolicy_answer cpupolicy_policy_decide(const struct cpupolicy_policy *p, uint32_t vcpu, bool inactive,
					      enum cpupolicy_reason *ret_reason)
{
	struct cpupolicy_page_word w = cpupolicy_policy_word(p, vcpu);
	enum cpupolicy_reason why = denial(p, vcpu, &w, inactive);

	if (why == CPUPOLICY_REASON_NONE) {
		*ret_reason = CPUPOLICY_REASON_GRANTED;
		return w.verdict == CPUPOLICY_VERDICT_ASK ? CPUPOLICY_ANSWER_ASKED : CPUPOLICY_ANSWER_ALLOW;
	}
	*ret_reason = w.observe ? CPUPOLICY_REASON_OBSERVED : why;
	return w.observe ? CPUPOLICY_ANSWER_ALLOW : CPUPOLICY_ANSWER_DENY;
}

struct cpupolicy_verdict cpupolicy_policy_timeout(const struct cpupolicy_policy *p, uint32_t vcpu, bool inactive)
{
	struct cpupolicy_page_word w = cpupolicy_policy_word(p, vcpu);
	enum cpupolicy_reason why = denial(p, vcpu, &w, inactive);

	if (why == CPUPOLICY_REASON_NONE) {
		if (w.timeout_allow)
			return (struct cpupolicy_verdict){CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_TIMEOUT};
		why = CPUPOLICY_REASON_TIMEOUT;
	}
	if (w.observe)
		return (struct cpupolicy_verdict){CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_OBSERVED};
	return (struct cpupolicy_verdict){CPUPOLICY_PSCI_DENIED, why};
}

bool cpupolicy_policy_holds(const struct cpupolicy_policy *p, uint32_t vcpu)
{
	struct cpupolicy_page_word w = cpupolicy_policy_word(p, vcpu);

	return w.observe || denial(p, vcpu, &w, false) == CPUPOLICY_REASON_NONE;
}

void cpupolicy_policy_record(struct cpupolicy_policy *p, uint32_t vcpu, struct cpupolicy_verdict verdict)
{
	struct cpupolicy_policy_vcpu *v = &p->vcpu[vcpu];

	v->last = verdict;
	if (verdict.psci != CPUPOLICY_PSCI_SUCCESS)
		v->denied++;
}
