/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Theory in message.h; the rules themselves, normative, in docs/protocol.md. */

#include "message.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "text.h"

#define STATE(s)    (1u << CPUPOLICY_MSG_##s)
#define KNOWN_FLAGS (CPUPOLICY_HDR_VERSION_MASK | CPUPOLICY_HDR_REPLY | CPUPOLICY_HDR_NEED_REPLY | CPUPOLICY_HDR_ERROR)

static int refuse(int r, const char *why, const char **ret_why)
{
	*ret_why = why;
	return r;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= bytes[i];
	return any == 0;
}

/* ---- vCPU arrays ---- */

/* Shell's sort: in place, no allocation, and no order of the input that makes it slow. */
static void sort(uint64_t *v, uint32_t n)
{
	static const uint32_t gaps[] = {301, 132, 57, 23, 10, 4, 1};

	for (size_t g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++) {
		uint32_t gap = gaps[g];

		for (uint32_t i = gap; i < n; i++) {
			uint64_t x = v[i];
			uint32_t j = i;

			for (; j >= gap && v[j - gap] > x; j -= gap)
				v[j] = v[j - gap];
			v[j] = x;
		}
	}
}

int cpupolicy_msg_check_mpidrs(const uint64_t *mpidrs, uint32_t n, const char **ret_why)
{
	uint64_t sorted[CPUPOLICY_MAX_VCPUS];
	bool ascending = true;

	if (n > CPUPOLICY_MAX_VCPUS)
		return refuse(-EPROTO, "too many vCPUs", ret_why);
	for (uint32_t i = 0; i < n; i++) {
		if (mpidrs[i] & ~CPUPOLICY_MSG_MPIDR_MASK)
			return refuse(-EPROTO, "an MPIDR has bits beside its affinity fields", ret_why);
		if (i > 0 && mpidrs[i] <= mpidrs[i - 1])
			ascending = false;
		sorted[i] = mpidrs[i];
	}
	if (ascending)
		return 0;
	sort(sorted, n);
	for (uint32_t i = 1; i < n; i++)
		if (sorted[i] == sorted[i - 1])
			return refuse(-EPROTO, "two vCPUs have the same MPIDR", ret_why);
	return 0;
}

static int check_vcpus(const struct cpupolicy_vcpu *vcpus, uint32_t n, const char **ret_why)
{
	uint64_t mpidrs[CPUPOLICY_MAX_VCPUS];

	for (uint32_t i = 0; i < n; i++) {
		if (vcpus[i].flags & ~CPUPOLICY_VCPU_FLAGS)
			return refuse(-EPROTO, "a vCPU has unknown flags", ret_why);
		if ((vcpus[i].flags & (CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN)) == CPUPOLICY_VCPU_EJECT_OWN)
			return refuse(-EPROTO, "the guest's own ejection of a vCPU that is not ejected", ret_why);
		mpidrs[i] = vcpus[i].mpidr;
	}
	if (vcpus[0].flags & CPUPOLICY_VCPU_EJECTED)
		return refuse(-EPROTO, "vCPU 0 cannot be ejected", ret_why);
	return cpupolicy_msg_check_mpidrs(mpidrs, n, ret_why);
}

/* ---- payloads of requests ---- */

static int check_vcpu(const struct cpupolicy_msg_context *context, uint32_t vcpu, const char **ret_why)
{
	if (vcpu >= context->possible)
		return refuse(-EPROTO, "a vCPU's index is out of range", ret_why);
	return 0;
}

static int check_enum(uint32_t value, uint32_t max, const char *why, const char **ret_why)
{
	if (value < 1 || value > max)
		return refuse(-EPROTO, why, ret_why);
	return 0;
}

static int check_run_state(uint32_t state, const char **ret_why)
{
	return check_enum(state, CPUPOLICY_RUN_INACTIVE, "the run state is unknown", ret_why);
}

static int check_register(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
			  uint32_t n, const char **ret_why)
{
	const struct cpupolicy_register *m = &payload->reg.head;
	int r;

	if (m->possible != n)
		return refuse(-EPROTO, "the count of vCPUs and the size of the message differ", ret_why);
	if (m->boot < 1 || m->boot > m->possible)
		return refuse(-EPROTO, "the boot count is out of range", ret_why);
	if (m->flags & ~CPUPOLICY_REG_FLAGS)
		return refuse(-EPROTO, "unknown registration flags", ret_why);
	if (cpupolicy_means(m->flags) > CPUPOLICY_MEANS_MAX)
		return refuse(-EPROTO, "unknown means of enforcement", ret_why);
	if (m->flags & CPUPOLICY_REG_REALM && cpupolicy_means(m->flags) == CPUPOLICY_MEANS_HOTPLUG)
		return refuse(-EPROTO, "a realm has no hotplug", ret_why);
	r = check_run_state(m->run_state, ret_why);
	if (r < 0)
		return r;
	if (m->flags & CPUPOLICY_REG_INCOMING) {
		if (!(context->features & CPUPOLICY_F_INCOMING))
			return refuse(-EPROTO, "registration as incoming was not agreed on", ret_why);
		if (is_zero(m->token, sizeof(m->token)))
			return refuse(-EPROTO, "registration as incoming needs a token", ret_why);
	}
	r = cpupolicy_text_check_member(m->name, sizeof(m->name), ret_why);
	if (r < 0)
		return r;
	r = check_vcpus(payload->reg.vcpus, n, ret_why);
	if (r < 0)
		return r;
	r = cpupolicy_text_check_name(m->name, ret_why);
	if (r < 0)
		return r;
	if (is_zero(m->uuid, sizeof(m->uuid)))
		return refuse(-EPERM, "the UUID is null", ret_why);
	if (m->possible > context->max_vcpus)
		return refuse(-E2BIG, "more vCPUs than this daemon serves in one VM", ret_why);
	return 0;
}

static int check_ask(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		     uint32_t n, const char **ret_why)
{
	const struct cpupolicy_ask *m = &payload->ask;
	int r;

	if (!(context->features & CPUPOLICY_F_ASK))
		return refuse(-EPROTO, "asking was not agreed on", ret_why);
	r = check_vcpu(context, m->vcpu, ret_why);
	if (r < 0)
		return r;
	r = check_vcpu(context, m->caller, ret_why);
	if (r < 0)
		return r;
	if (m->function != CPUPOLICY_PSCI_CPU_ON_32 && m->function != CPUPOLICY_PSCI_CPU_ON_64)
		return refuse(-EOPNOTSUPP, "nothing but CPU_ON can be asked", ret_why);
	return 0;
}

static int check_power(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		       uint32_t n, const char **ret_why)
{
	const struct cpupolicy_power *m = &payload->power;
	int r;

	r = check_vcpu(context, m->vcpu, ret_why);
	if (r < 0)
		return r;
	r = check_enum(m->event, CPUPOLICY_POWER_DENIED, "the power event is unknown", ret_why);
	if (r < 0)
		return r;
	if (m->reason > CPUPOLICY_REASON_MAX)
		return refuse(-EPROTO, "the reason is unknown", ret_why);
	if (m->event == CPUPOLICY_POWER_OFF && m->reason != CPUPOLICY_REASON_NONE)
		return refuse(-EPROTO, "a power-off has no reason", ret_why);
	if (m->count < 1 || (m->event != CPUPOLICY_POWER_DENIED && m->count != 1))
		return refuse(-EPROTO, "the count of a power event is out of range", ret_why);
	return 0;
}

static int check_ost(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		     uint32_t n, const char **ret_why)
{
	return check_vcpu(context, payload->ost.vcpu, ret_why);
}

static int check_eject(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		       uint32_t n, const char **ret_why)
{
	const struct cpupolicy_eject *m = &payload->eject;
	int r;

	r = check_vcpu(context, m->vcpu, ret_why);
	if (r < 0)
		return r;
	if (m->vcpu == 0)
		return refuse(-EPROTO, "vCPU 0 cannot be ejected", ret_why);
	return check_enum(m->cause, CPUPOLICY_EJECT_RESET, "the cause of the ejection is unknown", ret_why);
}

static int check_run(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		     uint32_t n, const char **ret_why)
{
	return check_run_state(payload->run.run_state, ret_why);
}

static int check_reset(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		       uint32_t n, const char **ret_why)
{
	return check_enum(payload->reset.kind, CPUPOLICY_RESET_HOST, "the kind of reset is unknown", ret_why);
}

static int check_state(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		       uint32_t n, const char **ret_why)
{
	const struct cpupolicy_state *m = &payload->state.head;
	int r;

	if (m->possible != n)
		return refuse(-EPROTO, "the count of vCPUs and the size of the message differ", ret_why);
	if (m->possible != context->possible)
		return refuse(-EPROTO, "the count of vCPUs is not the registered one", ret_why);
	r = check_run_state(m->run_state, ret_why);
	if (r < 0)
		return r;
	return check_vcpus(payload->state.vcpus, n, ret_why);
}

static int check_unregister(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
			    uint32_t n, const char **ret_why)
{
	return check_enum(payload->unregister.cause, CPUPOLICY_UNREGISTER_MIGRATED,
			  "the cause of the unregistration is unknown", ret_why);
}

/* ---- payloads of replies ---- */

static int check_hello_reply(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_reply *reply,
			     const char **ret_why)
{
	const struct cpupolicy_hello_reply *m = &reply->hello;

	if (m->features & ~context->features)
		return refuse(-EPROTO, "the daemon agrees to features that were not offered", ret_why);
	if (m->max_vcpus < 1 || m->max_vcpus > CPUPOLICY_MAX_VCPUS)
		return refuse(-EPROTO, "the daemon's bound on vCPUs is out of range", ret_why);
	return 0;
}

static int check_register_reply(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_reply *reply,
				const char **ret_why)
{
	const struct cpupolicy_register_reply *m = &reply->reg;

	if (is_zero(m->token, sizeof(m->token)))
		return refuse(-EPROTO, "the daemon gave no token", ret_why);
	if (m->epoch == 0)
		return refuse(-EPROTO, "the epoch is zero", ret_why);
	if (m->possible != context->possible)
		return refuse(-EPROTO, "the daemon registered another count of vCPUs", ret_why);
	if (m->enabled > m->possible)
		return refuse(-EPROTO, "more vCPUs are enabled than possible", ret_why);
	if (m->page_size < sizeof(struct cpupolicy_page) + (size_t)m->possible * sizeof(uint64_t))
		return refuse(-EPROTO, "the policy page is too small", ret_why);
	return 0;
}

static int check_verdict(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_reply *reply,
			 const char **ret_why)
{
	const struct cpupolicy_verdict *m = &reply->verdict;
	bool allows = m->reason == CPUPOLICY_REASON_GRANTED || m->reason == CPUPOLICY_REASON_OBSERVED;

	if (m->psci != CPUPOLICY_PSCI_SUCCESS && m->psci != CPUPOLICY_PSCI_DENIED)
		return refuse(-EPROTO, "the verdict is neither SUCCESS nor DENIED", ret_why);
	if (m->reason == CPUPOLICY_REASON_NONE || m->reason > CPUPOLICY_REASON_MAX)
		return refuse(-EPROTO, "the verdict's reason is unknown", ret_why);
	if (allows != (m->psci == CPUPOLICY_PSCI_SUCCESS))
		return refuse(-EPROTO, "the verdict and its reason contradict each other", ret_why);
	return 0;
}

static int check_error(const struct cpupolicy_error *m, const char **ret_why)
{
	int r;

	r = check_enum(m->code, CPUPOLICY_ERROR_BUSY, "the error's code is unknown", ret_why);
	if (r < 0)
		return r;
	return cpupolicy_text_check_member(m->message, sizeof(m->message), ret_why);
}

/* ---- the table ---- */

#define LAYOUT_VCPU  "84r"
#define LAYOUT_ERROR "4re"

/* An event: no array, legal when registered, an empty reply if asked for. */
#define EVENT(text, type, members, function)                                                                           \
	{                                                                                                              \
		.name = text, .size = sizeof(struct type), .states = STATE(REGISTERED), .layout = members,             \
		.element_layout = "", .reply_layout = "", .check = function                                            \
	}

static const struct cpupolicy_msg_row table[] = {
	[CPUPOLICY_HELLO] =
		{
			.name = "HELLO",
			.size = sizeof(struct cpupolicy_hello),
			.states = STATE(GREETING),
			.reply_always = true,
			.reply_size = sizeof(struct cpupolicy_hello_reply),
			.layout = "8",
			.element_layout = "",
			.reply_layout = "84r",
			.check_reply = check_hello_reply,
		},
	[CPUPOLICY_REGISTER] =
		{
			.name = "REGISTER",
			.size = sizeof(struct cpupolicy_register),
			.stride = sizeof(struct cpupolicy_vcpu),
			.states = STATE(GREETED),
			.reply_always = true,
			.reply_size = sizeof(struct cpupolicy_register_reply),
			.reply_fds = CPUPOLICY_MSG_REGISTER_FDS,
			.layout = "uun4444",
			.element_layout = LAYOUT_VCPU,
			.reply_layout = "u4444",
			.check = check_register,
			.check_reply = check_register_reply,
		},
	[CPUPOLICY_ASK] =
		{
			.name = "ASK",
			.size = sizeof(struct cpupolicy_ask),
			.states = STATE(REGISTERED),
			.reply_always = true,
			.reply_size = sizeof(struct cpupolicy_verdict),
			.layout = "444r",
			.element_layout = "",
			.reply_layout = "44",
			.check = check_ask,
			.check_reply = check_verdict,
		},
	[CPUPOLICY_POWER] = EVENT("POWER", cpupolicy_power, "4444", check_power),
	[CPUPOLICY_OST] = EVENT("OST", cpupolicy_ost, "444r", check_ost),
	[CPUPOLICY_EJECT] = EVENT("EJECT", cpupolicy_eject, "44", check_eject),
	[CPUPOLICY_RUN_STATE] = EVENT("RUN_STATE", cpupolicy_run, "4r", check_run),
	[CPUPOLICY_RESET] = EVENT("RESET", cpupolicy_reset, "4r", check_reset),
	[CPUPOLICY_STATE] =
		{
			.name = "STATE",
			.size = sizeof(struct cpupolicy_state),
			.stride = sizeof(struct cpupolicy_vcpu),
			.states = STATE(REGISTERED),
			.layout = "44",
			.element_layout = LAYOUT_VCPU,
			.reply_layout = "",
			.check = check_state,
		},
	[CPUPOLICY_CONFIRM] = EVENT("CONFIRM", cpupolicy_confirm, "44", NULL),
	[CPUPOLICY_UNREGISTER] = EVENT("UNREGISTER", cpupolicy_unregister, "4r", check_unregister),
};

const struct cpupolicy_msg_row *cpupolicy_msg_row(uint32_t request)
{
	if (request < 1 || request > CPUPOLICY_REQUEST_MAX)
		return NULL;
	return &table[request];
}

uint32_t cpupolicy_msg_elements(const struct cpupolicy_header *header)
{
	const struct cpupolicy_msg_row *row = cpupolicy_msg_row(header->request);

	return row && row->stride ? (header->size - row->size) / row->stride : 0;
}

bool cpupolicy_msg_wants_reply(const struct cpupolicy_header *header)
{
	const struct cpupolicy_msg_row *row = cpupolicy_msg_row(header->request);

	return (header->flags & CPUPOLICY_HDR_NEED_REPLY) || (row && row->reply_always);
}

/* ---- byte order ---- */

static size_t member_size(char kind)
{
	switch (kind) {
	case '8':
		return 8;
	case '4':
	case 'r':
		return 4;
	case 'u':
		return CPUPOLICY_UUID_SIZE;
	case 'n':
		return CPUPOLICY_NAME_SIZE;
	default:
		return CPUPOLICY_ERROR_SIZE;
	}
}

/* Between wire and host: the same operation in both directions. Returns the bytes done. */
static size_t convert(const char *layout, const uint8_t *from, uint8_t *to)
{
	size_t at = 0;

	for (; *layout; layout++) {
		size_t size = member_size(*layout);
		uint64_t v8;
		uint32_t v4;

		if (size == sizeof(v8)) {
			memcpy(&v8, from + at, sizeof(v8));
			v8 = le64toh(v8);
			memcpy(to + at, &v8, sizeof(v8));
		} else if (size == sizeof(v4)) {
			memcpy(&v4, from + at, sizeof(v4));
			v4 = le32toh(v4);
			memcpy(to + at, &v4, sizeof(v4));
		} else {
			memcpy(to + at, from + at, size);
		}
		at += size;
	}
	return at;
}

static void convert_request(const struct cpupolicy_header *header, const void *from, void *to)
{
	const struct cpupolicy_msg_row *row = cpupolicy_msg_row(header->request);
	const uint8_t *in = from;
	uint8_t *out = to;
	size_t at;

	at = convert(row->layout, in, out);
	for (uint32_t i = 0; i < cpupolicy_msg_elements(header); i++)
		at += convert(row->element_layout, in + at, out + at);
}

static const char *reply_layout(const struct cpupolicy_header *header)
{
	if (header->flags & CPUPOLICY_HDR_ERROR)
		return LAYOUT_ERROR;
	return cpupolicy_msg_row(header->request)->reply_layout;
}

static bool reserved_is_zero(const char *layout, const void *host)
{
	const uint8_t *p = host;

	for (; *layout; layout++) {
		if (*layout == 'r' && !is_zero(p, member_size('r')))
			return false;
		p += member_size(*layout);
	}
	return true;
}

/* ---- reading ---- */

#define LAYOUT_HEADER "4444"

void cpupolicy_msg_decode_header(const void *wire, struct cpupolicy_header *ret)
{
	convert(LAYOUT_HEADER, wire, (uint8_t *)ret);
}

static int check_flags(const struct cpupolicy_header *h, const char **ret_why)
{
	if ((h->flags & CPUPOLICY_HDR_VERSION_MASK) != CPUPOLICY_PROTOCOL_VERSION)
		return refuse(-EPROTO, "the version of the protocol is not 1", ret_why);
	if (h->flags & ~KNOWN_FLAGS)
		return refuse(-EPROTO, "unknown flags in the header", ret_why);
	return 0;
}

int cpupolicy_msg_check_header(const void *wire, enum cpupolicy_msg_state state, struct cpupolicy_header *ret,
			       const char **ret_why)
{
	const struct cpupolicy_msg_row *row;
	struct cpupolicy_header h;
	uint32_t rest;
	int r;

	cpupolicy_msg_decode_header(wire, &h);
	r = check_flags(&h, ret_why);
	if (r < 0)
		return r;
	if (h.flags & (CPUPOLICY_HDR_REPLY | CPUPOLICY_HDR_ERROR))
		return refuse(-EPROTO, "a reply where a request was due", ret_why);
	row = cpupolicy_msg_row(h.request);
	if (!row)
		return refuse(-EPROTO, "the request is unknown", ret_why);
	if (!(row->states & 1u << state))
		return refuse(-EPROTO, "the request is illegal in this state of the session", ret_why);
	if (h.size < row->size)
		return refuse(-EPROTO, "the payload is too short for the request", ret_why);
	rest = h.size - row->size;
	if (row->stride == 0 && rest != 0)
		return refuse(-EPROTO, "the payload is too long for the request", ret_why);
	if (row->stride != 0) {
		if (rest > row->stride * CPUPOLICY_MAX_VCPUS)
			return refuse(-EPROTO, "the payload is too long for the request", ret_why);
		if (rest == 0 || rest % row->stride != 0)
			return refuse(-EPROTO, "the payload does not hold whole vCPUs", ret_why);
	}
	*ret = h;
	return 0;
}

void cpupolicy_msg_decode(const struct cpupolicy_header *header, const void *wire, union cpupolicy_msg_payload *ret)
{
	convert_request(header, wire, ret);
}

int cpupolicy_msg_check_payload(const struct cpupolicy_header *header, const union cpupolicy_msg_payload *payload,
				const struct cpupolicy_msg_context *context, const char **ret_why)
{
	const struct cpupolicy_msg_row *row = cpupolicy_msg_row(header->request);
	uint32_t n = cpupolicy_msg_elements(header);
	const uint8_t *elements = (const uint8_t *)payload + row->size;

	if (!reserved_is_zero(row->layout, payload))
		return refuse(-EPROTO, "a reserved member is not zero", ret_why);
	for (uint32_t i = 0; i < n; i++)
		if (!reserved_is_zero(row->element_layout, elements + (size_t)i * row->stride))
			return refuse(-EPROTO, "a reserved member is not zero", ret_why);
	return row->check ? row->check(context, payload, n, ret_why) : 0;
}

int cpupolicy_msg_check_reply_header(const void *wire, struct cpupolicy_header *ret, const char **ret_why)
{
	const struct cpupolicy_msg_row *row;
	struct cpupolicy_header h;
	int r;

	cpupolicy_msg_decode_header(wire, &h);
	r = check_flags(&h, ret_why);
	if (r < 0)
		return r;
	if (!(h.flags & CPUPOLICY_HDR_REPLY) || (h.flags & CPUPOLICY_HDR_NEED_REPLY))
		return refuse(-EPROTO, "a request where a reply was due", ret_why);
	row = cpupolicy_msg_row(h.request);
	if (!row)
		return refuse(-EPROTO, "the request replied to is unknown", ret_why);
	if (h.size != (h.flags & CPUPOLICY_HDR_ERROR ? sizeof(struct cpupolicy_error) : row->reply_size))
		return refuse(-EPROTO, "the reply is not of its request's size", ret_why);
	*ret = h;
	return 0;
}

void cpupolicy_msg_decode_reply(const struct cpupolicy_header *header, const void *wire, union cpupolicy_msg_reply *ret)
{
	convert(reply_layout(header), wire, (uint8_t *)ret);
}

int cpupolicy_msg_check_reply(const struct cpupolicy_header *header, const union cpupolicy_msg_reply *reply,
			      const struct cpupolicy_msg_context *context, const char **ret_why)
{
	const struct cpupolicy_msg_row *row = cpupolicy_msg_row(header->request);

	if (!reserved_is_zero(reply_layout(header), reply))
		return refuse(-EPROTO, "a reserved member is not zero", ret_why);
	if (header->flags & CPUPOLICY_HDR_ERROR)
		return check_error(&reply->error, ret_why);
	return row->check_reply ? row->check_reply(context, reply, ret_why) : 0;
}

/* ---- writing ---- */

static uint8_t *encode_header(const struct cpupolicy_header *header, void *ret_wire)
{
	struct cpupolicy_header h = *header;

	h.flags = (h.flags & ~CPUPOLICY_HDR_VERSION_MASK) | CPUPOLICY_PROTOCOL_VERSION;
	return (uint8_t *)ret_wire + convert(LAYOUT_HEADER, (const uint8_t *)&h, ret_wire);
}

size_t cpupolicy_msg_encode(const struct cpupolicy_header *header, const void *payload, void *ret_wire)
{
	convert_request(header, payload, encode_header(header, ret_wire));
	return CPUPOLICY_MSG_HEADER_SIZE + header->size;
}

static size_t encode_reply(const struct cpupolicy_header *request, uint32_t flags, size_t size, const void *payload,
			   void *ret_wire)
{
	struct cpupolicy_header h = {
		.request = request->request,
		.flags = flags | CPUPOLICY_HDR_REPLY,
		.size = (uint32_t)size,
		.seq = request->seq,
	};
	uint8_t *at = encode_header(&h, ret_wire);

	if (size > 0)
		convert(reply_layout(&h), payload, at);
	return CPUPOLICY_MSG_HEADER_SIZE + size;
}

size_t cpupolicy_msg_encode_reply(const struct cpupolicy_header *request, const void *payload, void *ret_wire)
{
	return encode_reply(request, 0, cpupolicy_msg_row(request->request)->reply_size, payload, ret_wire);
}

size_t cpupolicy_msg_encode_error(const struct cpupolicy_header *request, enum cpupolicy_error_code code,
				  const char *sentence, void *ret_wire)
{
	struct cpupolicy_error e = {.code = code};

	memcpy(e.message, sentence, cpupolicy_text_cut(sentence, sizeof(e.message) - 1));
	return encode_reply(request, CPUPOLICY_HDR_ERROR, sizeof(e), &e, ret_wire);
}

/* ---- names and values ---- */

enum cpupolicy_error_code cpupolicy_msg_error_code(int r)
{
	switch (r) {
	case -EOPNOTSUPP:
		return CPUPOLICY_ERROR_UNSUPPORTED;
	case -EPERM:
	case -EACCES:
		return CPUPOLICY_ERROR_IDENTITY;
	case -E2BIG:
		return CPUPOLICY_ERROR_LIMIT;
	case -EIO:
	case -ENOSPC:
		return CPUPOLICY_ERROR_STORAGE;
	case -EAGAIN:
	case -EBUSY:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		return CPUPOLICY_ERROR_BUSY;
	default:
		return CPUPOLICY_ERROR_PROTOCOL;
	}
}

const char *cpupolicy_msg_reason_name(uint32_t reason)
{
	static const char *const names[] = {
		[CPUPOLICY_REASON_NONE] = "none",
		[CPUPOLICY_REASON_GRANTED] = "granted",
		[CPUPOLICY_REASON_NOT_ENABLED] = "not-enabled",
		[CPUPOLICY_REASON_EJECTED] = "ejected",
		[CPUPOLICY_REASON_RATE] = "rate",
		[CPUPOLICY_REASON_OBSERVED] = "observed",
		[CPUPOLICY_REASON_INACTIVE] = "inactive",
		[CPUPOLICY_REASON_NO_POLICY] = "no-policy",
		[CPUPOLICY_REASON_TIMEOUT] = "timeout",
		[CPUPOLICY_REASON_OVERLOAD] = "overload",
		[CPUPOLICY_REASON_PAGE] = "page",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == CPUPOLICY_REASON_MAX + 1, "every reason has a name");
	return reason <= CPUPOLICY_REASON_MAX ? names[reason] : "unknown";
}
