/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- chance, and what to say when something is wrong ---- */

uint64_t world_random(struct world *w, uint64_t below)
{
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % below;
}

void world_log(struct world *w, const struct world_vm *x, const char *what, uint64_t a, uint64_t b)
{
	unsigned i = w->logged++ % WORLD_LOG;

	w->log[i].vm = (unsigned)(x - w->vms);
	w->log[i].what = what;
	w->log[i].a = a;
	w->log[i].b = b;
}

static void print_vm(const struct world_vm *x)
{
	const struct page *page = vmm_page(x);

	fprintf(stderr, "disk: present %d stopped %d desired %u enabled %02x wanted %02x revision %llu; writing %u\n",
		x->disk.present, x->disk.stopped, x->disk.desired, x->disk.enabled, x->disk.wanted,
		(unsigned long long)x->disk.revision, x->writing);
	fprintf(stderr, "VMM: alive %d session %d online %02x acked %02x queued %u; accepted %u, requests %u\n",
		x->vmm.alive, x->vmm.session, x->vmm.online, x->vmm.acked, x->vmm.queued, x->accepted, x->requested);
	if (x->vm)
		fprintf(stderr, "core: link %d desired %u revision %llu stored %llu job %llu\n", x->vm->link,
			x->vm->desired, (unsigned long long)x->vm->revision, (unsigned long long)x->vm->stored,
			(unsigned long long)x->vm->job.id);
	for (uint32_t i = 0; i < x->possible; i++)
		fprintf(stderr, "  vCPU %u: core %02x grant %u answer %u; page %llx; mark %d grant %u late %d\n", i,
			x->vm ? x->vm->vcpus[i].flags : 0, x->vm ? x->vm->vcpus[i].grant : 0,
			x->vm ? x->vm->vcpus[i].answer : 0, page ? (unsigned long long)page->words[i] : 0,
			x->vmm.marks[i].ejected, x->vmm.marks[i].grant, x->vmm.marks[i].late);
}

void world_fail(struct world *w, const struct world_vm *x, const char *what)
{
	uint64_t first = w->logged > WORLD_LOG ? w->logged - WORLD_LOG : 0;

	for (uint64_t i = first; i < w->logged; i++) {
		if (w->log[i % WORLD_LOG].vm == (unsigned)(x - w->vms))
			fprintf(stderr, "%s %llx %llx\n", w->log[i % WORLD_LOG].what,
				(unsigned long long)w->log[i % WORLD_LOG].a,
				(unsigned long long)w->log[i % WORLD_LOG].b);
	}
	print_vm(x);
	ck_abort_msg("VM %u, seed %llu, event %llu: %s", (unsigned)(x - w->vms), (unsigned long long)w->seed,
		     (unsigned long long)w->events, what);
	abort();
}

/* ---- the disk ---- */

static void capture(struct world *w, struct world_vm *x)
{
	const struct vm *vm = x->vm;
	struct record r = {
		.present = vm->link != VM_STOPPED || vm->desired_set,
		.incarnation = x->incarnation,
		.instance = x->instance,
		.revision = vm->revision,
		.boot = vm->boot,
		.desired = vm->desired,
		.epoch = vm->epoch,
		.desired_set = vm->desired_set,
		.boot_removable = vm->boot_removable,
		.stopped = vm->link == VM_STOPPED,
		.job = vm->job,
		.last_job = vm->last_job,
	};

	vm_record_grants(vm, &r.enabled, &r.wanted);
	x->retry = false;
	/* What has not begun to be written may be replaced by what is newer. */
	if (x->writing == WORLD_QUEUE || (x->writing > 1 && world_random(w, 4) == 0))
		x->writing--;
	x->writes[x->writing++] = r;
}

static void drop_vm(struct world_vm *x)
{
	x->vm = vm_free(x->vm);
	x->incarnation++;
	x->requested = 0;
	x->accepted_any = false;
	x->loose = false;
	x->doubt = 0;
	x->retry = false;
}

/* ---- clients ---- */

static void answer_requests(struct world_vm *x, uint64_t revision, bool ok)
{
	unsigned n = 0;

	while (n < x->requested && x->requests[n].revision <= revision) {
		if (ok) {
			x->accepted_any = true;
			x->accepted = x->requests[n].count;
			x->loose = x->requests[n].lowered;
		}
		n++;
	}
	x->requested -= n;
	memmove(x->requests, x->requests + n, x->requested * sizeof(x->requests[0]));
}

void daemon_resize(struct world *w, struct world_vm *x)
{
	uint32_t count = (uint32_t)world_random(w, x->possible + 1), wanted = 0;
	struct job superseded;
	enum vm_refusal refusal;
	unsigned effects = 0;
	struct vm_event e;

	for (uint32_t i = 0; i < x->possible; i++)
		wanted += (x->vm->vcpus[i].flags & VCPU_WANTED) != 0;
	vm_event_begin(&e, x->vm);
	refusal = vm_resize(x->vm, count, w->last_id + 1, w->now, &superseded, &effects);
	world_log(w, x, "resize", count, refusal);
	if (refusal != VM_ACCEPTED) {
		if (refusal == VM_REFUSED_NOTIFY || (refusal == VM_REFUSED_STORAGE && x->requested < VM_UNDO_MAX))
			world_fail(w, x, "refused without a reason");
		return;
	}
	if (count < 1 || count > x->possible || count > x->level.limit)
		world_fail(w, x, "accepted what the service level does not permit");
	if (!x->boot_removable && x->vm->link != VM_STOPPED && count < x->vm->boot && count < wanted)
		world_fail(w, x, "accepted to take boot vCPUs");
	w->last_id++;
	x->requests[x->requested++] = (struct request){.revision = x->vm->revision, .count = count};
	x->job_revision = x->vm->revision;
	world_effects(w, x, &e, effects);
	if ((e.deadline != UINT64_MAX) != (superseded.id != 0) && superseded.result != JOB_SUPERSEDED &&
	    superseded.id != 0)
		world_fail(w, x, "a job was superseded and does not say so");
}

/* Invariant 3: what a client was told is so, unless the guest itself gave vCPUs up since. */
static void check_desired(struct world *w, struct world_vm *x)
{
	if (!x->vm || !x->accepted_any || x->requested > 0)
		return;
	if (!x->vm->desired_set)
		world_fail(w, x, "an accepted count was forgotten");
	if (x->vm->desired != x->accepted && !x->loose)
		world_fail(w, x, "an accepted count was changed");
}

/* ---- effects ---- */

/* Whether the guest gave this vCPU back, under the grant that the page showed; or says so of one that a report made old. */
static bool given_back(const struct world_vm *x, uint32_t vcpu, uint64_t shown)
{
	uint32_t grant = (uint32_t)(shown >> CPUPOLICY_WORD_GRANT_SHIFT);
	const struct mark *m = &x->vmm.marks[vcpu];

	return !x->vmm.alive || x->vmm.eject_arrives == vcpu || x->vmm.gave[vcpu] == grant ||
	       (m->ejected && m->grant == grant);
}

static void publish(struct world *w, struct world_vm *x)
{
	/* What the guest has been under until now. */
	const struct page *old = x->vmm.session == VMM_OFF ? vmm_page(x) : &x->page;
	uint32_t enabled = 0, wanted = 0, floor = x->boot_removable ? 1 : x->vm->boot, allowed;
	bool more = false;
	uint64_t words[WORLD_VCPUS];

	for (uint32_t i = 0; i < x->possible; i++) {
		uint64_t was = old ? old->words[i] : 0;

		words[i] = vm_word(x->vm, i);
		enabled += (words[i] & CPUPOLICY_WORD_ENABLED) != 0;
		wanted += (words[i] & CPUPOLICY_WORD_WANTED) != 0;
		if (!(words[i] & CPUPOLICY_WORD_ENABLED))
			x->inherited &= (uint8_t) ~(1u << i);
		else if (!(was & CPUPOLICY_WORD_ENABLED) && !(x->inherited >> i & 1))
			more = true;
		/* Invariant 6, and design: nothing but the guest's own step ends what it has. */
		if (i > 0 && (was & ~words[i] & CPUPOLICY_WORD_ENABLED) && !given_back(x, i, was))
			world_fail(w, x, "a vCPU was taken that the guest did not give back");
	}
	/* Invariant 2. */
	allowed = floor > x->level.limit ? floor : x->level.limit;
	if (wanted > allowed)
		world_fail(w, x, "the page wants more than the service level permits");
	if (more && enabled > allowed)
		world_fail(w, x, "a grant beyond what the service level permits");
	if (!(words[0] & CPUPOLICY_WORD_ENABLED) || !(words[0] & CPUPOLICY_WORD_WANTED))
		world_fail(w, x, "vCPU 0 was taken");
	memcpy(x->page.words, words, sizeof(words));
	x->page.epoch = x->vm->epoch;
	x->page.generation = ++x->vm->generation;
}

static void job_ended(struct world *w, struct world_vm *x, const struct vm_event *e)
{
	const struct vm *old = (const struct vm *)e->vm;
	enum job_result result = x->vm->last_job.result;

	world_log(w, x, "job ended", x->vm->last_job.id, result);
	w->job_results[result]++;
	if (old->job_revision > x->vm->stored && result != JOB_STORAGE && result != JOB_SUPERSEDED)
		world_fail(w, x, "a job ended before its client knew of it");
	if (old->job_revision <= x->vm->stored && result == JOB_STORAGE)
		world_fail(w, x, "a job that is stored ended for want of it");
	if (result == JOB_TIMEOUT && w->now < old->job.deadline)
		world_fail(w, x, "a job timed out before its time");
}

/* Requests, and their failure, change how much is remembered. */
static bool lowered_by_guest(const struct vm *old, const struct vm *vm)
{
	bool lowered = vm->desired < old->desired;

	for (uint32_t i = 0; i < vm->undo_count; i++)
		lowered = lowered || vm->undo[i].desired < old->undo[i].desired;
	return lowered && vm->undo_count == old->undo_count;
}

void world_effects(struct world *w, struct world_vm *x, const struct vm_event *e, unsigned effects)
{
	const struct vm *old = (const struct vm *)e->vm;
	const char *wrong = vm_event_verify(e, x->vm, effects);

	if (wrong)
		world_fail(w, x, wrong);
	/* A guest may lower what was accepted, and nobody may raise it. */
	if (lowered_by_guest(old, x->vm)) {
		x->loose = true;
		for (unsigned i = 0; i < x->requested; i++)
			x->requests[i].lowered = true;
	}
	if (effects & VM_EFFECT_JOB_ENDED)
		job_ended(w, x, e);
	if ((effects & VM_EFFECT_PAGE) && x->vm->link == VM_CONNECTED)
		publish(w, x);
	if (effects & VM_EFFECT_STORE)
		capture(w, x);
}

/* ---- the daemon ---- */

void daemon_register(struct world *w, struct world_vm *x)
{
	struct cpupolicy_vcpu vcpus[WORLD_VCPUS];
	struct vm_registration reg = {
		.flags = CPUPOLICY_REG_NOTIFY | (x->boot_removable ? CPUPOLICY_REG_BOOT_REMOVABLE : 0),
		.boot = 1 + (uint32_t)world_random(w, x->possible),
		.run_state = x->vmm.run_state,
		.vcpus = vcpus,
	};

	vmm_report(x, vcpus);
	for (uint32_t i = 0; i < x->possible; i++)
		x->vmm.marks[i].late = false;
	if (!x->vm && vm_new(&x->vm, x->possible, &x->level) < 0)
		abort();
	x->starting = x->vm->link == VM_STOPPED;
	world_log(w, x, x->starting ? "starts" : "resumes", reg.boot, x->vm->desired);
	if (x->starting)
		WORLD_EVENT(w, x, vm_start(x->vm, &reg, w->now));
	else
		WORLD_EVENT(w, x, vm_resume(x->vm, &reg, w->now));
	x->vmm.session = VMM_REGISTERING;
	x->reply_revision = x->vm->revision;
}

void daemon_lost(struct world *w, struct world_vm *x, bool gone)
{
	x->reply_revision = 0;
	vmm_disconnected(x);
	if (gone) {
		x->vmm = (struct vmm){0};
		x->instance++;
	}
	if (!x->vm)
		return;
	world_log(w, x, "lost", gone, 0);
	WORLD_EVENT(w, x, vm_lost(x->vm, gone, w->now));
	if (x->vm->link == VM_STOPPED && !x->vm->desired_set)
		drop_vm(x);
}

static void reply_to_vmm(struct world *w, struct world_vm *x, bool ok)
{
	if (x->reply_revision == 0)
		return;
	if (ok && x->vm->stored >= x->reply_revision) {
		x->reply_revision = 0;
		vmm_adopt(x);
	} else if (!ok) {
		daemon_lost(w, x, x->starting);
	}
}

void daemon_commit(struct world *w, struct world_vm *x, bool ok)
{
	struct record r = x->writes[0];
	/* A write may have succeeded and yet be reported as failed. */
	bool done = ok || world_random(w, 4) == 0;

	memmove(x->writes, x->writes + 1, --x->writing * sizeof(x->writes[0]));
	world_log(w, x, ok ? "commits" : "fails to commit", r.revision, (uint64_t)r.enabled << 8 | done);
	if (done)
		x->disk = r;
	w->failed_writes += !ok;
	if (!w->up || !x->vm || r.incarnation != x->incarnation)
		return;
	WORLD_EVENT(w, x, vm_stored(x->vm, r.revision, ok, ok ? &r.enabled : NULL, w->now));
	x->retry = x->retry || !ok;
	if (!ok)
		x->doubt = x->vm->revision;
	else if (r.revision >= x->doubt)
		x->doubt = 0;
	answer_requests(x, r.revision, ok);
	reply_to_vmm(w, x, ok);
	if (x->vm && x->vm->link == VM_STOPPED && !x->vm->desired_set)
		drop_vm(x);
}

void daemon_retry(struct world *w, struct world_vm *x)
{
	if (x->retry && x->vm && x->writing == 0 && x->vm->stored < x->vm->revision)
		capture(w, x);
}

/* kill -9, or the power fails: of what was on its way to the disk, any beginning may have arrived. */
void daemon_kill(struct world *w)
{
	w->up = false;
	w->crashes++;
	for (unsigned i = 0; i < WORLD_VMS; i++) {
		struct world_vm *x = &w->vms[i];

		world_log(w, x, "crash", x->writing, 0);
		vmm_disconnected(x);
		x->vm = vm_free(x->vm);
		x->incarnation++;
		x->reply_revision = 0;
		x->retry = false;
		for (uint64_t n = world_random(w, x->writing + 1); n > 0; n--)
			daemon_commit(w, x, true);
		x->writing = 0;
	}
}

static void check_restored(struct world *w, struct world_vm *x)
{
	bool known = !x->accepted_any || x->disk.desired == x->accepted || x->loose || x->doubt > 0;

	if (x->accepted_any && !(x->disk.present && x->disk.desired_set))
		world_fail(w, x, "an accepted count was lost");
	for (unsigned i = 0; i < x->requested; i++)
		known = known || x->disk.desired == x->requests[i].count;
	if (!known)
		world_fail(w, x, "an accepted count did not survive");
	x->requested = 0;
	x->loose = false;
	x->doubt = 0;
	x->accepted_any = x->disk.present && x->disk.desired_set;
	x->accepted = x->disk.desired;
}

static void restore(struct world *w, struct world_vm *x)
{
	const struct record *r = &x->disk;

	check_restored(w, x);
	x->inherited = r->enabled;
	/* The configuration may have changed. */
	if (world_random(w, 4) == 0)
		x->level.limit = 1 + (uint32_t)world_random(w, x->possible);
	if (!r->present)
		return;
	if (vm_new(&x->vm, x->possible, &x->level) < 0)
		abort();
	x->vm->desired = r->desired;
	x->vm->desired_set = r->desired_set;
	x->vm->boot = r->boot;
	x->vm->boot_removable = r->boot_removable;
	x->vm->notify = true;
	x->vm->epoch = r->epoch;
	x->vm->last_job = r->last_job;
	if (r->stopped)
		return;
	if (r->job.id != 0)
		job_start(&x->vm->job, r->job.id, r->job.from, r->job.to, x->level.job_timeout, false, w->now);
	vm_restore_grants(x->vm, &r->enabled, &r->wanted);
	if (r->instance != x->instance || !x->vmm.alive) {
		WORLD_EVENT(w, x, vm_lost(x->vm, true, w->now));
		if (!x->vm->desired_set)
			drop_vm(x);
	}
}

void daemon_restart(struct world *w)
{
	w->up = true;
	for (unsigned i = 0; i < WORLD_VMS; i++) {
		w->vms[i].incarnation++;
		restore(w, &w->vms[i]);
	}
}

void daemon_ticks(struct world *w)
{
	for (unsigned i = 0; i < WORLD_VMS && w->up; i++) {
		struct world_vm *x = &w->vms[i];

		if (!x->vm)
			continue;
		if (vm_deadline(x->vm) <= w->now)
			WORLD_EVENT(w, x, vm_tick(x->vm, w->now));
		if (vm_deadline(x->vm) <= w->now)
			world_fail(w, x, "a job goes on after its deadline");
		/* A job that has no deadline is one whose VM stands, or whose client waits for the disk. */
		if (x->vm->job.id != 0 && vm_deadline(x->vm) == UINT64_MAX &&
		    !(x->vm->link == VM_CONNECTED && x->vm->run_state != CPUPOLICY_RUN_RUNNING) &&
		    x->vm->stored >= x->vm->job_revision)
			world_fail(w, x, "a job without an end");
	}
}

/* ---- the world ---- */

void world_init(struct world *w, uint64_t seed)
{
	static const uint32_t sizes[WORLD_VMS] = {8, 4, 6, 2};

	*w = (struct world){.seed = seed, .random = seed, .now = 1000, .up = true};
	for (unsigned i = 0; i < WORLD_VMS; i++) {
		struct world_vm *x = &w->vms[i];

		x->possible = sizes[i];
		x->boot_removable = world_random(w, 4) != 0;
		x->level = (struct service_class){
			.guaranteed = 1,
			.limit = sizes[i],
			.job_timeout = 200,
			.retry_interval = 300,
			.ask = world_random(w, 3) == 0,
			.timeout_allow = world_random(w, 2),
			.observe = world_random(w, 8) == 0,
		};
		if (world_random(w, 3) == 0)
			x->level.cpu_on = (struct rate_limit){.per_second = 50000000, .burst = 3};
	}
}

void world_done(struct world *w)
{
	for (unsigned i = 0; i < WORLD_VMS; i++)
		w->vms[i].vm = vm_free(w->vms[i].vm);
}

static void vmm_starts(struct world_vm *x)
{
	x->vmm = (struct vmm){.alive = true, .online = 1, .run_state = CPUPOLICY_RUN_RUNNING};
}

/* Something that needs neither guest nor client. */
static void fate(struct world *w, struct world_vm *x)
{
	switch (world_random(w, 100)) {
	case 0:
		if (w->up)
			daemon_kill(w);
		break;
	case 1 ... 3:
		if (x->vmm.session != VMM_OFF)
			daemon_lost(w, x, false);
		break;
	case 4:
		if (x->vmm.alive)
			daemon_lost(w, x, true);
		break;
	case 5 ... 15:
		if (!w->up)
			daemon_restart(w);
		break;
	case 16 ... 45:
		if (!x->vmm.alive)
			vmm_starts(x);
		else if (w->up && x->vmm.session == VMM_OFF)
			daemon_register(w, x);
		break;
	case 46 ... 55:
		if (w->up)
			daemon_retry(w, x);
		break;
	default:
		w->now += world_random(w, 60);
		break;
	}
}

static void check(struct world *w, struct world_vm *x)
{
	check_desired(w, x);
	vmm_check(w, x);
	if (x->vm && vm_consistent(x->vm))
		world_fail(w, x, vm_consistent(x->vm));
}

void world_step(struct world *w)
{
	struct world_vm *x = &w->vms[world_random(w, WORLD_VMS)];

	w->events++;
	switch (world_random(w, 20)) {
	case 0 ... 7:
		if (x->vmm.alive)
			vmm_step(w, x);
		break;
	case 8 ... 11:
		vmm_deliver(w, x);
		break;
	case 12 ... 15:
		if (w->up && x->writing > 0)
			daemon_commit(w, x, world_random(w, 8) != 0);
		break;
	case 16 ... 17:
		if (w->up && x->vm && world_random(w, 3) == 0)
			daemon_resize(w, x);
		break;
	default:
		fate(w, x);
		break;
	}
	daemon_ticks(w);
	check(w, x);
}

/* ---- peace ---- */

static bool settle_vm(struct world *w, struct world_vm *x)
{
	bool busy = false;

	if (x->vmm.alive && x->vmm.session == VMM_OFF) {
		daemon_register(w, x);
		busy = true;
	}
	daemon_retry(w, x);
	while (x->writing > 0) {
		daemon_commit(w, x, true);
		busy = true;
	}
	while (vmm_deliver(w, x))
		busy = true;
	if (x->vmm.session == VMM_REGISTERED)
		busy = vmm_cooperate(w, x) || busy;
	return busy;
}

static void check_settled(struct world *w, struct world_vm *x)
{
	uint32_t target, n = 0;

	if (!x->vm)
		return;
	target = vm_target(x->vm);
	if (!x->boot_removable && x->vm->link != VM_STOPPED && x->vm->boot > target)
		target = x->vm->boot;
	if (x->vm->stored != x->vm->revision)
		world_fail(w, x, "settled, but not stored");
	if (x->vm->link == VM_STOPPED) {
		if (x->vm->job.id != 0)
			world_fail(w, x, "settled, but a stopped VM has a job");
		return;
	}
	if (x->vm->job.id != 0)
		world_fail(w, x, "settled, but the job goes on");
	for (uint32_t i = 0; i < x->possible; i++) {
		uint64_t word = x->page.words[i], due = vm_word(x->vm, i);

		n += (word & CPUPOLICY_WORD_ENABLED) != 0;
		/* Of what the guest has not, the number of the grant may lag. */
		if (word != due && ((word | due) & CPUPOLICY_WORD_ENABLED))
			world_fail(w, x, "settled, but the page is not what the core says");
		if ((word & CPUPOLICY_WORD_ENABLED) && (!(word & CPUPOLICY_WORD_WANTED) || vmm_ejected(x, i)))
			world_fail(w, x, "settled, but a vCPU is neither the guest's nor the host's");
		if (!!(word & CPUPOLICY_WORD_ENABLED) != (x->disk.enabled >> i & 1))
			world_fail(w, x, "settled, but the disk differs");
	}
	/* Boot vCPUs that may not be taken are the guest's to give. */
	if (x->boot_removable ? n != target : n > target)
		world_fail(w, x, "settled, but not at the target");
	if (x->disk.desired != x->vm->desired)
		world_fail(w, x, "settled, but the disk has another count");
}

void world_settle(struct world *w)
{
	bool busy = true;

	if (!w->up)
		daemon_restart(w);
	for (int round = 0; busy; round++) {
		busy = false;
		for (unsigned i = 0; i < WORLD_VMS; i++)
			busy = settle_vm(w, &w->vms[i]) || busy;
		if (round > 50)
			world_fail(w, &w->vms[0], "it never settles");
	}
	for (unsigned i = 0; i < WORLD_VMS; i++)
		check_settled(w, &w->vms[i]);
}
