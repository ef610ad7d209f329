/* log.c - messages to standard error, masked, never blocking the caller.
 *
 * Standard error may be a terminal that somebody stopped with ^S or a pipe that nobody reads; both would
 * stop a cutover inside its write pause. A terminal or pipe is therefore opened a second time, non-blocking:
 * a new open file description, so that no other process that shares ours sees its flags change.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/text.h"

static struct {
    pthread_mutex_t mutex;
    enum co_verbosity verbosity;
    bool ready;
    bool socket;  /* send() with MSG_DONTWAIT */
    bool guarded; /* shared blocking descriptor: poll before each short write */
    bool terminal;
    bool broken_line; /* the last message was cut: begin the next on a new line */
    bool status_shown;
    int fd;
    int patience_ms;
    long dropped;
    char status[256];
} log_state = {.mutex = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

static void find_stderr(void)
{
    struct stat info;
    log_state.ready = true;
    log_state.fd = STDERR_FILENO;
    log_state.terminal = isatty(STDERR_FILENO) == 1;
    if (fstat(STDERR_FILENO, &info) != 0)
        return;
    if (S_ISSOCK(info.st_mode)) {
        log_state.socket = true;
    } else if (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode)) {
        int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0)
            log_state.fd = fd;
        else
            log_state.guarded = true;
    }
}

static ssize_t write_some(const char *data, size_t bytes)
{
    if (log_state.socket)
        return send(log_state.fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (log_state.guarded) {
        struct pollfd fd = {.fd = log_state.fd, .events = POLLOUT};
        if (poll(&fd, 1, 0) <= 0) {
            errno = EAGAIN;
            return -1;
        }
        if (bytes > 512)
            bytes = 512;
    }
    return write(log_state.fd, data, bytes);
}

static void write_all(const char *data, size_t bytes)
{
    int64_t deadline = 0;
    while (bytes > 0) {
        ssize_t written = write_some(data, bytes);
        if (written > 0) {
            data += written;
            bytes -= (size_t)written;
            continue;
        }
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && log_state.patience_ms > 0) {
            if (deadline == 0)
                deadline = co_deadline_in_ms(log_state.patience_ms);
            int64_t left = co_ms_left(deadline);
            struct pollfd fd = {.fd = log_state.fd, .events = POLLOUT};
            if (left > 0 && poll(&fd, 1, (int)left) >= 0)
                continue;
        }
        log_state.dropped++;
        log_state.broken_line = true;
        return;
    }
}

__attribute__((format(printf, 2, 0))) static void emit(const char *kind, const char *format, va_list args)
{
    int saved_errno = errno;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_set_str(&text, kind);
    co_text_vadd(&text, format, args);
    co_mask_text(&text);
    if (text.bytes == 0 || text.data[text.bytes - 1] != '\n')
        co_text_add(&text, "\n");
    pthread_mutex_lock(&log_state.mutex);
    if (!log_state.ready)
        find_stderr();
    CO_TEXT_AUTO line = CO_TEXT_INIT;
    if (log_state.status_shown)
        co_text_add(&line, "\r\033[K");
    else if (log_state.broken_line)
        co_text_add(&line, "\n");
    log_state.broken_line = false;
    co_text_add_bytes(&line, co_text_str(&text), text.bytes);
    if (log_state.status_shown)
        co_text_add(&line, "%s", log_state.status);
    write_all(co_text_str(&line), line.bytes);
    pthread_mutex_unlock(&log_state.mutex);
    errno = saved_errno;
}

void co_log_setup(enum co_verbosity verbosity)
{
    pthread_mutex_lock(&log_state.mutex);
    log_state.verbosity = verbosity;
    if (!log_state.ready)
        find_stderr();
    pthread_mutex_unlock(&log_state.mutex);
}

void co_log_patience(int ms)
{
    pthread_mutex_lock(&log_state.mutex);
    log_state.patience_ms = ms;
    pthread_mutex_unlock(&log_state.mutex);
}

enum co_verbosity co_log_verbosity(void)
{
    return log_state.verbosity;
}

bool co_log_is_terminal(void)
{
    pthread_mutex_lock(&log_state.mutex);
    if (!log_state.ready)
        find_stderr();
    bool terminal = log_state.terminal;
    pthread_mutex_unlock(&log_state.mutex);
    return terminal;
}

/* A line that wraps could not be taken back. In bytes: too short rather than too long. */
static size_t status_width(void)
{
    struct winsize size;
    size_t width = 79;
    if (ioctl(log_state.fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
        width = (size_t)size.ws_col - 1;
    return width < sizeof log_state.status - 1 ? width : sizeof log_state.status - 1;
}

void co_log_status(const char *line)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_set_str(&text, line);
    co_mask_text(&text);
    pthread_mutex_lock(&log_state.mutex);
    if (!log_state.ready)
        find_stderr();
    if (log_state.terminal && log_state.verbosity >= CO_NORMAL) {
        CO_TEXT_AUTO shown = CO_TEXT_INIT;
        size_t bytes = text.bytes, width = status_width();
        if (bytes > width) {
            bytes = width;
            while (bytes > 0 && ((unsigned char)text.data[bytes] & 0xc0) == 0x80)
                bytes--;
        }
        memcpy(log_state.status, co_text_str(&text), bytes);
        log_state.status[bytes] = '\0';
        if (line || log_state.status_shown)
            co_text_add(&shown, "\r\033[K%s", log_state.status);
        log_state.status_shown = line != NULL;
        write_all(co_text_str(&shown), shown.bytes);
    }
    pthread_mutex_unlock(&log_state.mutex);
}

void co_debug(const char *format, ...)
{
    if (log_state.verbosity < CO_DEBUG)
        return;
    va_list args;
    va_start(args, format);
    emit("debug: ", format, args);
    va_end(args);
}

void co_say(const char *format, ...)
{
    if (log_state.verbosity < CO_NORMAL)
        return;
    va_list args;
    va_start(args, format);
    emit("", format, args);
    va_end(args);
}

void co_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit("warning: ", format, args);
    va_end(args);
}

void co_complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit("changeover: ", format, args);
    va_end(args);
}

long co_log_dropped(void)
{
    pthread_mutex_lock(&log_state.mutex);
    long dropped = log_state.dropped;
    pthread_mutex_unlock(&log_state.mutex);
    return dropped;
}
