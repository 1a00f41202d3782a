/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/rig.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"

/* ---- the daemon ---- */

static void on_added(struct host_vm *vm, void *userdata)
{
	((struct rig *)userdata)->added++;
}

static void on_removed(struct host_vm *vm, void *userdata)
{
	ck_assert_ptr_nonnull(host_vm_name(vm));
	((struct rig *)userdata)->removed++;
}

static void on_changed(struct host_vm *vm, void *userdata)
{
	((struct rig *)userdata)->changed++;
}

static void on_job_new(struct host_vm *vm, const struct job *job, void *userdata)
{
	struct rig *rig = userdata;

	rig->job_new++;
	rig->last_new = *job;
}

static void on_job_removed(struct host_vm *vm, const struct job *job, void *userdata)
{
	struct rig *rig = userdata;

	rig->job_removed++;
	rig->last_removed = *job;
}

static void on_denied(struct host_vm *vm, uint32_t vcpu, const struct vm_verdict *verdict, enum rule rule,
		      uint32_t count, void *userdata)
{
	struct rig *rig = userdata;

	rig->denials[rig->denied++ % 64] =
		(struct rig_denial){.vcpu = vcpu, .count = count, .rule = rule, .verdict = *verdict};
}

static void on_host_changed(void *userdata)
{
	((struct rig *)userdata)->host_changed++;
}

static void on_reloaded(void *userdata)
{
	((struct rig *)userdata)->reloaded++;
}

static const struct host_observer observer = {
	.added = on_added,
	.removed = on_removed,
	.changed = on_changed,
	.job_new = on_job_new,
	.job_removed = on_job_removed,
	.denied = on_denied,
	.host_changed = on_host_changed,
	.reloaded = on_reloaded,
};

void rig_open(struct rig *rig)
{
	char *error = NULL;

	*rig = (struct rig){.directory = "/tmp/cpupolicy-rig-XXXXXX"};
	ck_assert_ptr_nonnull(mkdtemp(rig->directory));
	ck_assert_msg(config_load(&rig->config, "/nonexistent/cpupolicyd.conf", true, &error) == 0, "%s", error);
	rig->config->messages.per_second = 0;
	rig->config->max_vms = 64;
	ck_assert_int_eq(config_set(rig->config, "policy_directory", rig->directory, &error), 0);
	log_open(LOG_CRIT, true);
}

void rig_policy(struct rig *rig, const char *text)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/policy.json", rig->directory);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

void rig_start(struct rig *rig)
{
	char *error = NULL;

	ck_assert_int_eq(loop_new(&rig->loop), 0);
	ck_assert_msg(policy_load(&rig->policy, rig->config->policy_directory, &error) == 0, "%s", error);
	ck_assert_msg(store_open(&rig->store, rig->loop, rig->directory, &error) == 0, "%s", error);
	ck_assert_int_eq(host_new(&rig->host,
				  &(struct host_setup){
					  .loop = rig->loop,
					  .store = rig->store,
					  .config = rig->config,
					  .policy = rig->policy,
				  }),
			 0);
	host_observe(rig->host, &observer, rig);
	ck_assert_msg(host_load(rig->host, &error) == 0, "%s", error);
	ck_assert_int_eq(session_hub_new(&rig->hub, rig->loop, rig->host, rig->config, NULL), 0);
}

void rig_stop(struct rig *rig)
{
	for (struct rig_end *end = rig->ends; end; end = end->next)
		end->session = session_free(end->session);
	rig->host = host_free(rig->host);
	rig->hub = session_hub_free(rig->hub);
	rig->store = store_close(rig->store);
	rig->policy = policy_unref(rig->policy);
	rig->loop = loop_free(rig->loop);
}

void rig_restart(struct rig *rig)
{
	rig_stop(rig);
	rig_start(rig);
}

const struct vm *rig_vm(struct rig *rig, const char *name)
{
	const struct host_vm *vm = host_find(rig->host, name);

	return vm ? host_vm_core(vm) : NULL;
}

pid_t rig_process(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

void rig_end_process(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void remove_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	ck_assert_int_eq(rmdir(path), 0);
}

void rig_close(struct rig *rig)
{
	rig_fill_disk(false);
	if (rig->loop)
		rig_stop(rig);
	while (rig->ends) {
		struct rig_end *end = rig->ends;

		rig->ends = end->next;
		free(end);
	}
	rig->config = config_free(rig->config);
	remove_directory(rig->directory);
}

static void quit(void *userdata)
{
	loop_quit(userdata);
}

/* No assertion that succeeds: each one writes to a file of the check library's, and turns are many. */
void rig_turn(struct rig *rig)
{
	struct loop_deferred *d;

	if (loop_deferred_new(&d, rig->loop, quit, rig->loop) < 0)
		ck_abort_msg("out of memory");
	loop_deferred_schedule(d);
	if (loop_run(rig->loop) < 0)
		ck_abort_msg("the loop fails");
	loop_deferred_free(d);
	sched_yield(); /* the store's thread */
}

void rig_expired(const char *condition, const char *file, int line)
{
	ck_abort_msg("%s:%d: waited in vain for: %s", file, line, condition);
}

uint64_t rig_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A page's memfd is the largest file that must still be made. */
void rig_fill_disk(bool full)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = full ? 8192 : limit.rlim_max;
	signal(SIGXFSZ, full ? SIG_IGN : SIG_DFL);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* ---- VMMs ---- */

static void on_registered(struct session *session, void *userdata)
{
	((struct rig_end *)userdata)->registered = true;
}

static void on_ended(struct session *session, void *userdata)
{
	((struct rig_end *)userdata)->session = NULL;
}

static const struct session_ops session_ops = {
	.registered = on_registered,
	.ended = on_ended,
};

static struct rig_end *make_end(struct vmm *vmm)
{
	struct rig_end *end = calloc(1, sizeof(*end));

	ck_assert_ptr_nonnull(end);
	end->next = vmm->rig->ends;
	vmm->rig->ends = vmm->end = end;
	return end;
}

static void open_session(struct vmm *vmm, uid_t uid, pid_t pid)
{
	struct peer peer = {.uid = uid, .gid = uid, .pid = pid};
	struct rig_end *end = make_end(vmm);
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	vmm->fd = pair[0];
	vmm->doorbell = -1;
	ck_assert_int_eq(session_new(&end->session, vmm->rig->hub, pair[1], &peer, NULL, &session_ops, end), 0);
}

static void set_identity(struct vmm *vmm, struct rig *rig, uint8_t id)
{
	*vmm = (struct vmm){
		.rig = rig,
		.possible = 6,
		.boot = 4,
		.flags = CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE,
		.run_state = CPUPOLICY_RUN_RUNNING,
		.vcpus = {CPUPOLICY_VCPU_ONLINE},
	};
	memset(vmm->uuid, id, sizeof(vmm->uuid));
	snprintf(vmm->name, sizeof(vmm->name), "vm%u", id);
}

void vmm_connect_as(struct vmm *vmm, struct rig *rig, uint8_t id, uid_t uid, pid_t pid)
{
	set_identity(vmm, rig, id);
	open_session(vmm, uid, pid);
}

void vmm_connect(struct vmm *vmm, struct rig *rig, uint8_t id)
{
	vmm_connect_as(vmm, rig, id, 1000, getpid());
}

void vmm_connect_path(struct vmm *vmm, struct rig *rig, uint8_t id, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	set_identity(vmm, rig, id);
	make_end(vmm);
	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path) + 1);
	vmm->doorbell = -1;
	vmm->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_ge(vmm->fd, 0);
	ck_assert_int_eq(connect(vmm->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

void vmm_reconnect(struct vmm *vmm, const struct vmm *old)
{
	*vmm = (struct vmm){.rig = old->rig,
			    .possible = old->possible,
			    .boot = old->boot,
			    .flags = old->flags,
			    .run_state = old->run_state};
	memcpy(vmm->uuid, old->uuid, sizeof(vmm->uuid));
	memcpy(vmm->token, old->token, sizeof(vmm->token));
	memcpy(vmm->name, old->name, sizeof(vmm->name));
	memcpy(vmm->vcpus, old->vcpus, sizeof(vmm->vcpus));
	open_session(vmm, 1000, getpid());
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vmm_close(struct vmm *vmm)
{
	close_fd(&vmm->fd);
	close_fd(&vmm->doorbell);
	if (vmm->page)
		munmap(vmm->page, vmm->page_size);
	vmm->page = NULL;
}

/* ---- messages ---- */

void vmm_send_bytes(struct vmm *vmm, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	uint64_t since = rig_clock();

	while (n > 0) {
		ssize_t sent = send(vmm->fd, p, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			if (rig_clock() - since > RIG_DEADLINE)
				ck_abort_msg("the daemon reads nothing");
			rig_turn(vmm->rig);
			continue;
		}
		if (sent < 0)
			return; /* hung up: what comes next tells */
		p += sent;
		n -= (size_t)sent;
	}
}

uint32_t vmm_send(struct vmm *vmm, uint32_t request, uint32_t flags, const void *payload, size_t n)
{
	uint8_t wire[CPUPOLICY_MSG_MAX_REQUEST];
	struct cpupolicy_header header = {
		.request = request,
		.flags = flags,
		.size = (uint32_t)n,
		.seq = ++vmm->seq,
	};

	vmm_send_bytes(vmm, wire, cpupolicy_msg_encode(&header, payload, wire));
	return header.seq;
}

uint32_t vmm_send_register(struct vmm *vmm)
{
	struct {
		struct cpupolicy_register head;
		struct cpupolicy_vcpu vcpus[CPUPOLICY_MAX_VCPUS];
	} m = {
		.head = {.flags = vmm->flags,
			 .possible = vmm->possible,
			 .boot = vmm->boot,
			 .run_state = vmm->run_state},
	};

	memcpy(m.head.uuid, vmm->uuid, sizeof(m.head.uuid));
	memcpy(m.head.token, vmm->token, sizeof(m.head.token));
	memcpy(m.head.name, vmm->name, sizeof(m.head.name));
	for (uint32_t i = 0; i < vmm->possible; i++)
		m.vcpus[i] = (struct cpupolicy_vcpu){.mpidr = i, .flags = vmm->vcpus[i]};
	return vmm_send(vmm, CPUPOLICY_REGISTER, 0, &m, sizeof(m.head) + vmm->possible * sizeof(struct cpupolicy_vcpu));
}

static void keep_descriptors(struct vmm *vmm, struct msghdr *message)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(message);

	if (!c)
		return;
	ck_assert_int_eq(c->cmsg_type, SCM_RIGHTS);
	ck_assert_uint_eq(c->cmsg_len, CMSG_LEN(sizeof(vmm->fds)));
	memcpy(vmm->fds, CMSG_DATA(c), sizeof(vmm->fds));
	vmm->n_fds = 2;
}

/* False: the daemon has hung up. */
static bool receive_exactly(struct vmm *vmm, void *buffer, size_t n)
{
	uint8_t *p = buffer;
	uint64_t since = rig_clock();

	while (n > 0) {
		char control[CMSG_SPACE(2 * sizeof(int))];
		struct iovec iov = {.iov_base = p, .iov_len = n};
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		ssize_t got = recvmsg(vmm->fd, &message, MSG_CMSG_CLOEXEC);

		if (got == 0 || (got < 0 && errno == ECONNRESET))
			return false;
		if (got < 0) {
			if (errno != EAGAIN || rig_clock() - since > RIG_DEADLINE)
				ck_abort_msg("the daemon sends nothing: %s", strerror(errno));
			rig_turn(vmm->rig);
			continue;
		}
		keep_descriptors(vmm, &message);
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static bool receive_message(struct vmm *vmm)
{
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];
	struct cpupolicy_msg_context context = {
		.features = UINT64_MAX,
		.max_vcpus = CPUPOLICY_MAX_VCPUS,
		.possible = vmm->possible,
	};
	const char *why = NULL;

	if (!receive_exactly(vmm, wire, CPUPOLICY_MSG_HEADER_SIZE))
		return false;
	if (cpupolicy_msg_check_reply_header(wire, &vmm->header, &why) < 0) {
		/* the error reply to a request that does not exist */
		cpupolicy_msg_decode_header(wire, &vmm->header);
		ck_assert_msg(vmm->header.flags & CPUPOLICY_HDR_ERROR, "%s", why);
	}
	ck_assert_uint_le(vmm->header.size, sizeof(wire));
	if (!receive_exactly(vmm, wire, vmm->header.size))
		return false;
	cpupolicy_msg_decode_reply(&vmm->header, wire, &vmm->reply);
	if (cpupolicy_msg_row(vmm->header.request))
		ck_assert_msg(cpupolicy_msg_check_reply(&vmm->header, &vmm->reply, &context, &why) == 0, "%s", why);
	return true;
}

void vmm_receive(struct vmm *vmm)
{
	ck_assert_msg(receive_message(vmm), "the daemon hung up");
}

bool vmm_has_input(struct vmm *vmm)
{
	struct pollfd p = {.fd = vmm->fd, .events = POLLIN};

	for (int i = 0; i < 3; i++)
		rig_turn(vmm->rig);
	return poll(&p, 1, 0) > 0;
}

void vmm_expect_end(struct vmm *vmm)
{
	while (receive_message(vmm))
		;
	rig_until(vmm->rig, !vmm->end->session);
}

void vmm_expect_error(struct vmm *vmm, uint32_t code)
{
	vmm_receive(vmm);
	ck_assert(vmm->header.flags & CPUPOLICY_HDR_ERROR);
	ck_assert_msg(vmm->reply.error.code == code, "error %u: %s", vmm->reply.error.code, vmm->reply.error.message);
}

static void wait_reply(struct vmm *vmm, uint32_t seq)
{
	vmm_receive(vmm);
	ck_assert_msg(!(vmm->header.flags & CPUPOLICY_HDR_ERROR), "%s", vmm->reply.error.message);
	ck_assert_uint_eq(vmm->header.seq, seq);
}

void vmm_do(struct vmm *vmm, uint32_t request, const void *payload, size_t n)
{
	wait_reply(vmm, vmm_send(vmm, request, CPUPOLICY_HDR_NEED_REPLY, payload, n));
}

void vmm_hello(struct vmm *vmm)
{
	vmm_event(vmm, CPUPOLICY_HELLO, cpupolicy_hello, .features = CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING);
}

void vmm_register(struct vmm *vmm)
{
	wait_reply(vmm, vmm_send_register(vmm));
	ck_assert_uint_eq(vmm->n_fds, 2);
	memcpy(vmm->token, vmm->reply.reg.token, sizeof(vmm->token));
	vmm->epoch = vmm->reply.reg.epoch;
	vmm->enabled = vmm->reply.reg.enabled;
	vmm->page_size = vmm->reply.reg.page_size;
	vmm->page = mmap(NULL, vmm->page_size, PROT_READ, MAP_SHARED, vmm->fds[0], 0);
	ck_assert_ptr_ne(vmm->page, MAP_FAILED);
	close(vmm->fds[0]);
	vmm->doorbell = vmm->fds[1];
	vmm->n_fds = 0;
	ck_assert_int_eq(cpupolicy_page_check(vmm->page, vmm->page_size, vmm->possible), 0);
}

struct cpupolicy_verdict vmm_ask(struct vmm *vmm, uint32_t vcpu)
{
	vmm_event(vmm, CPUPOLICY_ASK, cpupolicy_ask, .vcpu = vcpu, .function = CPUPOLICY_PSCI_CPU_ON_64);
	return vmm->reply.verdict;
}

void vmm_power(struct vmm *vmm, uint32_t vcpu, uint32_t event)
{
	static const uint32_t reasons[] = {
		[CPUPOLICY_POWER_ON] = CPUPOLICY_REASON_GRANTED,
		[CPUPOLICY_POWER_OFF] = CPUPOLICY_REASON_NONE,
		[CPUPOLICY_POWER_DENIED] = CPUPOLICY_REASON_NOT_ENABLED,
	};

	vmm_event(vmm, CPUPOLICY_POWER, cpupolicy_power, .vcpu = vcpu, .event = event, .reason = reasons[event],
		  .count = 1);
}

void vmm_confirm(struct vmm *vmm)
{
	uint64_t head = cpupolicy_page_load_head(vmm->page);

	vmm_event(vmm, CPUPOLICY_CONFIRM, cpupolicy_confirm, .generation = cpupolicy_page_generation(head),
		  .epoch = cpupolicy_page_epoch(head));
}

void vmm_run_state(struct vmm *vmm, uint32_t state)
{
	vmm_event(vmm, CPUPOLICY_RUN_STATE, cpupolicy_run, .run_state = state);
}

uint64_t vmm_words(const struct vmm *vmm, uint64_t flag)
{
	uint64_t set = 0;

	for (uint32_t i = 0; i < vmm->possible && i < 64; i++)
		if (cpupolicy_page_load_word(vmm->page, i) & flag)
			set |= UINT64_C(1) << i;
	return set;
}

uint32_t vmm_generation(const struct vmm *vmm)
{
	return cpupolicy_page_generation(cpupolicy_page_load_head(vmm->page));
}

void vmm_plug(struct vmm *vmm, uint32_t vcpu)
{
	rig_until(vmm->rig, vmm_words(vmm, CPUPOLICY_WORD_ENABLED) >> vcpu & 1);
	vmm_confirm(vmm);
	vmm_event(vmm, CPUPOLICY_OST, cpupolicy_ost, .vcpu = vcpu, .event = 1, .status = 0);
}

void vmm_start(struct vmm *vmm, struct rig *rig, uint8_t id)
{
	vmm_connect(vmm, rig, id);
	vmm_hello(vmm);
	vmm_register(vmm);
	vmm_confirm(vmm);
}

/* ---- clients ---- */

void client_answer(enum host_error error, const char *message, uint64_t job, void *userdata)
{
	struct client *c = userdata;

	c->calls++;
	c->error = error;
	c->job = job;
	ck_assert_int_eq(!message, error == HOST_OK);
	snprintf(c->message, sizeof(c->message), "%s", message ? message : "");
}

void client_resize(struct client *c, struct rig *rig, const char *vm, uint32_t count)
{
	*c = (struct client){0};
	host_resize(rig->host, vm, count, 500, client_answer, c);
}

void client_forget(struct client *c, struct rig *rig, const char *vm)
{
	*c = (struct client){0};
	host_forget(rig->host, vm, 500, client_answer, c);
}

void rig_resize(struct rig *rig, const char *vm, uint32_t count)
{
	struct client c;

	client_resize(&c, rig, vm, count);
	rig_until(rig, c.calls == 1);
	ck_assert_msg(c.error == HOST_OK, "%s", c.message);
}
