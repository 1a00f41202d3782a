/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "daemon/base/util.h"

/* The alternate screen, no cursor, no wrapping at the right edge; and back. */
#define ENTER "\033[?1049h\033[?25l\033[?7l"
#define LEAVE "\033[m\033[?7h\033[?25h\033[?1049l"

/* The rest of a key's sequence comes with its first byte, or on a slow line a little later. */
#define SEQUENCE_MILLISECONDS 50

struct terminal {
	struct termios before;
	bool entered;
	int signals;
	int poll;
	unsigned char input[64];
	size_t n_input;
};

/* ---- modes ---- */

static int enter(struct terminal *t)
{
	struct termios raw = t->before;

	/* Ctrl-C and Ctrl-Z still make signals */
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
		return -errno;
	t->entered = true;
	return terminal_write(t, ENTER, strlen(ENTER));
}

static void leave(struct terminal *t)
{
	if (!t->entered)
		return;
	t->entered = false;
	terminal_write(t, LEAVE, strlen(LEAVE));
	tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
}

static int add(int poll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int listen_to_signals(struct terminal *t)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGTSTP);
	sigaddset(&set, SIGCONT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	t->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return t->signals < 0 ? -errno : 0;
}

/* One that says it can do nothing is taken at its word. */
bool terminal_is_there(void)
{
	const char *name = getenv("TERM");

	return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && name && *name && strcmp(name, "dumb") != 0;
}

int terminal_open(struct terminal **ret)
{
	struct terminal *t;
	int r;

	if (!terminal_is_there())
		return -ENOTTY;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->signals = -1;
	t->poll = epoll_create1(EPOLL_CLOEXEC);
	r = t->poll < 0 ? -errno : listen_to_signals(t);
	if (r >= 0)
		r = add(t->poll, t->signals);
	if (r >= 0)
		r = add(t->poll, STDIN_FILENO);
	if (r >= 0)
		r = tcgetattr(STDIN_FILENO, &t->before) < 0 ? -errno : enter(t);
	if (r < 0) {
		terminal_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct terminal *terminal_close(struct terminal *t)
{
	if (!t)
		return NULL;
	leave(t);
	if (t->signals >= 0)
		close(t->signals);
	if (t->poll >= 0)
		close(t->poll);
	free(t);
	return NULL;
}

int terminal_fd(const struct terminal *t)
{
	return t->poll;
}

void terminal_size(const struct terminal *t, unsigned *ret_rows, unsigned *ret_columns)
{
	struct winsize size;

	*ret_rows = 24;
	*ret_columns = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		return;
	if (size.ws_row > 0)
		*ret_rows = size.ws_row;
	if (size.ws_col > 0)
		*ret_columns = size.ws_col;
}

int terminal_write(struct terminal *t, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(STDOUT_FILENO, data, size);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd fd = {.fd = STDOUT_FILENO, .events = POLLOUT};

			poll(&fd, 1, -1);
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

/* ---- signals ---- */

static void suspend(struct terminal *t)
{
	leave(t);
	raise(SIGSTOP);
	/* goes on here when it is continued */
}

static int next_signal(struct terminal *t)
{
	struct signalfd_siginfo info;

	if (read(t->signals, &info, sizeof(info)) != sizeof(info))
		return TERMINAL_NONE;
	if (info.ssi_signo == SIGTSTP)
		suspend(t);
	if (info.ssi_signo != SIGWINCH && enter(t) < 0)
		return TERMINAL_ENDED;
	return TERMINAL_REDRAW;
}

/* ---- keys ---- */

static const struct {
	const char *sequence;
	enum terminal_key key;
} sequences[] = {
	{"\033[A", TERMINAL_UP},         {"\033OA", TERMINAL_UP},    {"\033[B", TERMINAL_DOWN},
	{"\033OB", TERMINAL_DOWN},       {"\033[C", TERMINAL_RIGHT}, {"\033OC", TERMINAL_RIGHT},
	{"\033[D", TERMINAL_LEFT},       {"\033OD", TERMINAL_LEFT},  {"\033[5~", TERMINAL_PAGE_UP},
	{"\033[6~", TERMINAL_PAGE_DOWN}, {"\033[H", TERMINAL_HOME},  {"\033OH", TERMINAL_HOME},
	{"\033[1~", TERMINAL_HOME},      {"\033[7~", TERMINAL_HOME}, {"\033[F", TERMINAL_END},
	{"\033OF", TERMINAL_END},        {"\033[4~", TERMINAL_END},  {"\033[8~", TERMINAL_END},
	{"\r", TERMINAL_ENTER},          {"\n", TERMINAL_ENTER},     {"\177", TERMINAL_BACKSPACE},
	{"\b", TERMINAL_BACKSPACE},
};

/* False: nobody is there any more. */
static bool fill(struct terminal *t)
{
	ssize_t n;

	if (t->n_input == sizeof(t->input))
		return true;
	n = read(STDIN_FILENO, t->input + t->n_input, sizeof(t->input) - t->n_input);
	if (n > 0)
		t->n_input += (size_t)n;
	return n >= 0 || errno == EAGAIN || errno == EINTR;
}

static int take(struct terminal *t, size_t n, int key)
{
	t->n_input -= n;
	memmove(t->input, t->input + n, t->n_input);
	return key;
}

/* How long a control sequence of any kind is; 0: it is not whole yet. */
static size_t sequence_length(const struct terminal *t)
{
	if (t->n_input < 2)
		return 0;
	if (t->input[1] == 'O')
		return t->n_input < 3 ? 0 : 3;
	if (t->input[1] != '[')
		return 1; /* escape, and then something else */
	for (size_t i = 2; i < t->n_input; i++)
		if (t->input[i] >= 0x40 && t->input[i] <= 0x7e)
			return i + 1;
	return t->n_input == sizeof(t->input) ? t->n_input : 0;
}

static int take_sequence(struct terminal *t)
{
	size_t length = sequence_length(t);

	if (length == 0) {
		struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};

		if (poll(&fd, 1, SEQUENCE_MILLISECONDS) > 0)
			fill(t);
		length = sequence_length(t);
	}
	if (length <= 1)
		return take(t, 1, TERMINAL_ESCAPE);
	for (size_t i = 0; i < ARRAY_SIZE(sequences); i++)
		if (strlen(sequences[i].sequence) == length && memcmp(sequences[i].sequence, t->input, length) == 0)
			return take(t, length, (int)sequences[i].key);
	return take(t, length, TERMINAL_NONE); /* a key that means nothing here */
}

static int take_key(struct terminal *t)
{
	if (t->input[0] == '\033')
		return take_sequence(t);
	for (size_t i = 0; i < ARRAY_SIZE(sequences); i++)
		if (sequences[i].sequence[0] == (char)t->input[0])
			return take(t, 1, (int)sequences[i].key);
	return take(t, 1, t->input[0]);
}

int terminal_key(struct terminal *t)
{
	struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
	int key = next_signal(t);

	if (key != TERMINAL_NONE)
		return key;
	/* a terminal that hung up is readable, and has nothing: 0 bytes without a wait are nothing else */
	if (poll(&fd, 1, 0) > 0 && (!fill(t) || (fd.revents & POLLHUP)))
		return TERMINAL_ENDED;
	while (t->n_input > 0) {
		key = take_key(t);
		if (key != TERMINAL_NONE)
			return key;
	}
	return TERMINAL_NONE;
}
