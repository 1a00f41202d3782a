/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_PAGE_H
#define CPUPOLICY_PAGE_H

/*
 * The policy page's words and the order in which they are written and read (docs/protocol.md, "The policy page").
 *
 * One writer, any number of readers in other processes, no lock. A word is written whole and is true by itself; the
 * head is stored after the words that belong to it (release) and loaded before them (acquire), so that a reader that
 * has seen a generation has seen all its words, or newer ones.
 */

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpupolicy-proto.h"

_Static_assert(__atomic_always_lock_free(sizeof(uint64_t), 0), "the policy page needs atomic 64-bit access");

struct cpupolicy_page_word {
	bool enabled;
	bool wanted;
	bool timeout_allow;
	bool observe;
	uint8_t serial;
	uint32_t grant;
	enum cpupolicy_page_verdict verdict;
};

/* Bytes that a page of `vcpus` words needs; the file is that, rounded up to whole memory pages of the host. */
static inline size_t cpupolicy_page_bytes(uint32_t vcpus)
{
	return sizeof(struct cpupolicy_page) + (size_t)vcpus * sizeof(uint64_t);
}

static inline uint64_t cpupolicy_page_make_word(const struct cpupolicy_page_word *w)
{
	return (w->enabled ? CPUPOLICY_WORD_ENABLED : 0) | (w->wanted ? CPUPOLICY_WORD_WANTED : 0) |
	       (uint64_t)w->verdict << CPUPOLICY_WORD_VERDICT_SHIFT |
	       (w->timeout_allow ? CPUPOLICY_WORD_TIMEOUT_ALLOW : 0) | (w->observe ? CPUPOLICY_WORD_OBSERVE : 0) |
	       (uint64_t)w->serial << CPUPOLICY_WORD_SERIAL_SHIFT | (uint64_t)w->grant << CPUPOLICY_WORD_GRANT_SHIFT;
}

/* A verdict that is none of the three is DENY. */
static inline struct cpupolicy_page_word cpupolicy_page_parse_word(uint64_t v)
{
	uint32_t verdict = (uint32_t)((v & CPUPOLICY_WORD_VERDICT_MASK) >> CPUPOLICY_WORD_VERDICT_SHIFT);

	return (struct cpupolicy_page_word){
		.enabled = v & CPUPOLICY_WORD_ENABLED,
		.wanted = v & CPUPOLICY_WORD_WANTED,
		.timeout_allow = v & CPUPOLICY_WORD_TIMEOUT_ALLOW,
		.observe = v & CPUPOLICY_WORD_OBSERVE,
		.serial = (uint8_t)((v & CPUPOLICY_WORD_SERIAL_MASK) >> CPUPOLICY_WORD_SERIAL_SHIFT),
		.grant = (uint32_t)(v >> CPUPOLICY_WORD_GRANT_SHIFT),
		.verdict = verdict <= CPUPOLICY_VERDICT_ASK ? (enum cpupolicy_page_verdict)verdict
							    : CPUPOLICY_VERDICT_DENY,
	};
}

static inline uint64_t cpupolicy_page_make_head(uint32_t epoch, uint32_t generation)
{
	return (uint64_t)epoch << 32 | generation;
}

static inline uint32_t cpupolicy_page_epoch(uint64_t head)
{
	return (uint32_t)(head >> 32);
}

static inline uint32_t cpupolicy_page_generation(uint64_t head)
{
	return (uint32_t)head;
}

/* ---- readers ---- */

static inline uint64_t cpupolicy_page_load_head(const struct cpupolicy_page *page)
{
	return le64toh(__atomic_load_n(&page->head, __ATOMIC_ACQUIRE));
}

/* `vcpu` is below the number of words that cpupolicy_page_check() was given. */
static inline uint64_t cpupolicy_page_load_word(const struct cpupolicy_page *page, uint32_t vcpu)
{
	return le64toh(__atomic_load_n(&page->words[vcpu], __ATOMIC_RELAXED));
}

static inline uint32_t cpupolicy_page_ask_timeout_ms(const struct cpupolicy_page *page)
{
	return le32toh(__atomic_load_n(&page->ask_timeout_ms, __ATOMIC_RELAXED));
}

/* Whether `size` bytes hold a page of exactly `vcpus` words. -EPROTO if not. */
static inline int cpupolicy_page_check(const struct cpupolicy_page *page, size_t size, uint32_t vcpus)
{
	if (size < cpupolicy_page_bytes(vcpus))
		return -EPROTO;
	if (le32toh(page->magic) != CPUPOLICY_PAGE_MAGIC || le32toh(page->version) != CPUPOLICY_PAGE_VERSION ||
	    le32toh(page->vcpus) != vcpus)
		return -EPROTO;
	return 0;
}

/* ---- the writer ---- */

/* Of zeroed memory, before anyone else sees it: every word says no. */
static inline void cpupolicy_page_init(struct cpupolicy_page *page, uint32_t vcpus, uint32_t ask_timeout_ms)
{
	page->magic = htole32(CPUPOLICY_PAGE_MAGIC);
	page->version = htole32(CPUPOLICY_PAGE_VERSION);
	page->vcpus = htole32(vcpus);
	page->ask_timeout_ms = htole32(ask_timeout_ms);
}

static inline void cpupolicy_page_store_word(struct cpupolicy_page *page, uint32_t vcpu, uint64_t word)
{
	__atomic_store_n(&page->words[vcpu], htole64(word), __ATOMIC_RELAXED);
}

static inline void cpupolicy_page_store_ask_timeout_ms(struct cpupolicy_page *page, uint32_t ms)
{
	__atomic_store_n(&page->ask_timeout_ms, htole32(ms), __ATOMIC_RELAXED);
}

/* Publishes the words stored since the last head. */
static inline void cpupolicy_page_store_head(struct cpupolicy_page *page, uint64_t head)
{
	__atomic_store_n(&page->head, htole64(head), __ATOMIC_RELEASE);
}

#endif
