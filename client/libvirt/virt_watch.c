/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/virt_watch.h"

#include <jansson.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "client/libvirt/xml.h"
#include "daemon/base/log.h"
#include "daemon/base/util.h"

#define BACKOFF_FIRST_MS 500
#define BACKOFF_LAST_MS  15000
/* A libvirtd that is silent for 12 s is gone. */
#define KEEPALIVE_SECONDS 3
#define KEEPALIVE_COUNT   3

struct watch {
	struct virt *v;
	const char *uri;
	virConnectPtr connection; /* NULL: none */
	int wake;
	atomic_bool closed; /* it has ended by itself */
	int retry;          /* timer */
	int backoff;
};

/* ---- events ---- */

static void tell(struct watch *w, virDomainPtr domain, struct virt_event event)
{
	if (virDomainGetUUIDString(domain, event.uuid) == 0)
		virt_watch_event(w->v, &event);
}

static enum virt_event_kind kind_of(int event, int detail)
{
	if (event == VIR_DOMAIN_EVENT_STOPPED)
		return VIRT_EVENT_STOPPED;
	if (event == VIR_DOMAIN_EVENT_STARTED && detail == VIR_DOMAIN_EVENT_STARTED_RESTORED)
		return VIRT_EVENT_RESTORED;
	return VIRT_EVENT_CHANGED;
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail, void *userdata)
{
	tell(userdata, domain, (struct virt_event){.kind = kind_of(event, detail), .detail = detail});
	return 0;
}

static void on_metadata(virConnectPtr connection, virDomainPtr domain, int type, const char *uri, void *userdata)
{
	tell(userdata, domain, (struct virt_event){.kind = VIRT_EVENT_CHANGED});
}

static void on_qemu_event(virConnectPtr connection, virDomainPtr domain, const char *event, long long seconds,
			  unsigned micros, const char *details, void *userdata)
{
	json_t *root = details ? json_loads(details, 0, NULL) : NULL;
	json_t *info = json_object_get(root, "info");
	const char *type = json_string_value(json_object_get(info, "slot-type"));
	const char *slot = json_string_value(json_object_get(info, "slot"));
	uint32_t vcpu;

	if (type && slot && strcmp(type, "CPU") == 0 && xml_number(slot, 0, UINT32_MAX, &vcpu) >= 0)
		tell(userdata, domain,
		     (struct virt_event){
			     .kind = VIRT_EVENT_OST,
			     .vcpu = vcpu,
			     .source = (uint32_t)json_integer_value(json_object_get(info, "source")),
			     .status = (uint32_t)json_integer_value(json_object_get(info, "status")),
		     });
	json_decref(root);
}

/* In whatever thread has found out: an actor, where a call of its own ended with the connection. */
static void on_close(virConnectPtr connection, int reason, void *userdata)
{
	struct watch *w = userdata;

	w->closed = true;
	eventfd_write(w->wake, 1);
}

static int subscribe(struct watch *w, virConnectPtr c)
{
	if (virConnectRegisterCloseCallback(c, on_close, w, NULL) < 0 ||
	    virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
					     VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), w, NULL) < 0 ||
	    virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
					     VIR_DOMAIN_EVENT_CALLBACK(on_metadata), w, NULL) < 0)
		return -EIO;
	/* libvirt tells of no plugged vCPU; QEMU tells of what the guest says to it. Other hypervisors have none. */
	if (virConnectDomainQemuMonitorEventRegister(c, NULL, "ACPI_DEVICE_OST", on_qemu_event, w, NULL, 0) < 0)
		log_debug("no events of QEMU's: %s", virt_error());
	if (virConnectSetKeepAlive(c, KEEPALIVE_SECONDS, KEEPALIVE_COUNT) < 0)
		log_warning("libvirt has no keepalive there: a libvirtd that hangs is not noticed: %s", virt_error());
	return 0;
}

/* ---- the connection ---- */

static void again(struct watch *w, const char *why)
{
	virt_watch_down(w->v, why);
	virEventUpdateTimeout(w->retry, w->backoff);
	w->backoff = w->backoff * 2 < BACKOFF_LAST_MS ? w->backoff * 2 : BACKOFF_LAST_MS;
}

static void on_retry(int timer, void *userdata)
{
	struct watch *w = userdata;
	virConnectPtr connection;
	char why[512];

	virEventUpdateTimeout(w->retry, -1);
	w->closed = false;
	connection = virConnectOpen(w->uri);
	if (connection && subscribe(w, connection) >= 0) {
		w->connection = connection;
		w->backoff = BACKOFF_FIRST_MS;
		virt_watch_up(w->v, connection);
		return;
	}
	snprintf(why, sizeof(why), "no connection to libvirt (%s): %s", w->uri, virt_error());
	if (connection)
		virConnectClose(connection);
	again(w, why);
}

static void on_wake(int watch, int fd, int events, void *userdata)
{
	struct watch *w = userdata;

	virt_watch_work(w->v, w->connection && !w->closed ? w->connection : NULL);
}

/* Its callbacks are not called any more, whoever else still has a reference. */
static void drop(struct watch *w)
{
	virConnectPtr connection = TAKE(w->connection);

	again(w, "the connection to libvirt has ended");
	virConnectUnregisterCloseCallback(connection, on_close);
	virConnectClose(connection);
}

/* Errors are told by whoever has made the call. */
static void on_error(void *userdata, virErrorPtr error)
{
}

void virt_watch_run(struct virt *v, const char *uri, int wake)
{
	struct watch w = {.v = v, .uri = uri, .wake = wake, .backoff = BACKOFF_FIRST_MS};

	virSetErrorFunc(NULL, on_error);
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0 ||
	    virEventAddHandle(wake, VIR_EVENT_HANDLE_READABLE, on_wake, &w, NULL) < 0 ||
	    (w.retry = virEventAddTimeout(0, on_retry, &w, NULL)) < 0) {
		log_error("libvirt's library does not start: %s", virt_error());
		abort();
	}
	for (;;) {
		if (virEventRunDefaultImpl() < 0)
			log_error("libvirt's event loop: %s", virt_error());
		if (w.connection && w.closed)
			drop(&w);
	}
}
