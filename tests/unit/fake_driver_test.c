/* fake_driver_test.c - the fake driver against two real fake servers, called as the core would call it: whole
 * cutovers by the driver's own step table, and what a lost reply, a frozen server and a wrong token must give. */
#include "unit.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "base/text.h"
#include "changeover/driver.h"

/* ---------------------------------------------------------------- a host of the least that works */

struct world {
    const char *folder;
    char address[2][300];
    pid_t server[2];
    struct co_endpoint_config endpoint[2];
    char *notes[2][8][2];
    struct co_run run;
    struct co_error error;
    struct co_conn *conn[2];
    const struct co_driver *driver;
};
static struct world w;

static void text_set(void *ctx, struct co_text *text, const char *data, size_t bytes)
{
    (void)ctx;
    co_text_set(text, data, bytes);
}

__attribute__((format(printf, 3, 4))) static void text_add(void *ctx, struct co_text *text, const char *format, ...)
{
    (void)ctx;
    va_list args;
    va_start(args, format);
    co_text_vadd(text, format, args);
    va_end(args);
}

static void fact(void *ctx, const char *group, const char *name, const char *value)
{
    (void)ctx, (void)group, (void)name, (void)value;
}

static int error_findings;
static void finding(void *ctx, const struct co_finding *one)
{
    (void)ctx;
    error_findings += one->severity == CO_ERROR;
}

static void progress(void *ctx, const struct co_progress *one)
{
    (void)ctx, (void)one;
}

static const char *note_get(void *ctx, enum co_note_scope scope, enum co_side side, const char *key)
{
    (void)ctx, (void)scope;
    for (int i = 0; i < 8; i++) {
        if (w.notes[side][i][0] && strcmp(w.notes[side][i][0], key) == 0) {
            return w.notes[side][i][1];
        }
    }
    return NULL;
}

static int note_put(void *ctx, enum co_note_scope scope, enum co_side side, const char *key, const char *value)
{
    (void)ctx, (void)scope;
    for (int i = 0; i < 8; i++) {
        char **slot = w.notes[side][i];
        if (!slot[0] || strcmp(slot[0], key) == 0) {
            free(slot[0]);
            free(slot[1]);
            slot[0] = value ? strdup(key) : NULL;
            slot[1] = value ? strdup(value) : NULL;
            return 0;
        }
    }
    return -1;
}

static void forget_notes(void)
{
    for (int i = 0; i < 16; i++) {
        free(w.notes[i / 8][i % 8][0]);
        free(w.notes[i / 8][i % 8][1]);
        w.notes[i / 8][i % 8][0] = w.notes[i / 8][i % 8][1] = NULL;
    }
}

static const struct co_endpoint_config *endpoint(void *ctx, enum co_side side)
{
    (void)ctx;
    return &w.endpoint[side];
}

static const char *option(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "slot") == 0 ? "changeover" : NULL;
}

static const char *secret_user(void *ctx, enum co_secret which)
{
    (void)ctx;
    return which == CO_SECRET_PROBE ? "app" : NULL;
}

static const char *secret(void *ctx, enum co_side side, enum co_secret which)
{
    (void)ctx, (void)side, (void)which;
    return NULL;
}

static int64_t now_ns(void *ctx)
{
    (void)ctx;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int wait_fd(void *ctx, int fd, short events, int64_t deadline_ns)
{
    struct pollfd one = {.fd = fd, .events = events};
    int64_t left_ms = (deadline_ns - now_ns(ctx)) / 1000000;
    return poll(&one, 1, left_ms > 0 ? (int)left_ms : 0) > 0 ? one.revents : 0;
}

static void trace(void *ctx, const char *format, ...)
{
    (void)ctx, (void)format;
}

static enum co_result fault(void *ctx, const char *point)
{
    (void)ctx, (void)point;
    return CO_DONE;
}

static const struct co_host host = {.size = sizeof host,
                                    .text_set = text_set,
                                    .text_add = text_add,
                                    .fact = fact,
                                    .finding = finding,
                                    .progress = progress,
                                    .note_get = note_get,
                                    .note_put = note_put,
                                    .endpoint = endpoint,
                                    .option = option,
                                    .secret_user = secret_user,
                                    .secret = secret,
                                    .now_ns = now_ns,
                                    .wait_fd = wait_fd,
                                    .trace = trace,
                                    .fault = fault};

static struct co_call call_on(enum co_side side)
{
    memset(&w.error, 0, sizeof w.error);
    return (struct co_call){.size = sizeof(struct co_call),
                            .host = &host,
                            .side = side,
                            .role = side == w.run.source ? CO_SOURCE : CO_TARGET,
                            .conn = w.conn[side],
                            .other = w.conn[1 - side],
                            .run = w.run.token ? &w.run : NULL,
                            .deadline_ns = now_ns(NULL) + INT64_C(5000000000),
                            .err = &w.error};
}

#define DONE(result)                                                                                                           \
    do {                                                                                                                       \
        int got_ = (int)(result);                                                                                              \
        if (got_ != CO_DONE)                                                                                                   \
            fail_msg("%s: %d %s", #result, got_, w.error.message);                                                             \
    } while (0)

/* ---------------------------------------------------------------- servers */

static void start_server(int side)
{
    char data[400];
    snprintf(data, sizeof data, "%s/data-%d", w.folder, side);
    int ready[2];
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    w.server[side] = fork();
    if (w.server[side] == 0) {
        dup2(ready[1], 1);
        execl(CO_BINARY_DIR "/changeover-fake-server", "server", "--data", data, "--listen", w.address[side], (char *)NULL);
        _exit(127);
    }
    close(ready[1]);
    char line[64];
    assert_true(read(ready[0], line, sizeof line) > 0);
    close(ready[0]);
}

/* One line as an account, on a connection of its own; true when the reply begins with "ok". */
static bool say_as(int side, const char *account, const char *line)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, w.address[side], strlen(w.address[side]) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    char text[512], reply[4096];
    bool good = true;
    for (int i = 0; good && i < 2; i++) {
        int bytes = i ? snprintf(text, sizeof text, "%s\n", line) : snprintf(text, sizeof text, "hello account=%s\n", account);
        assert_int_equal(write(fd, text, (size_t)bytes), bytes);
        good = read(fd, reply, sizeof reply) > 2 && memcmp(reply, "ok", 2) == 0;
    }
    close(fd);
    return good;
}

static void connect_side(enum co_side side)
{
    w.driver->disconnect(w.conn[side]);
    w.conn[side] = NULL;
    struct co_call call = call_on(side);
    DONE(w.driver->connect(&call, CO_CONN_MAIN, &w.conn[side]));
}

static int set_up(void **state)
{
    (void)state;
    w.folder = unit_folder();
    void *module = dlopen(CO_BINARY_DIR "/drivers/changeover-fake.so", RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        fail_msg("%s", dlerror());
    }
    const struct co_driver *(*entry)(void) = NULL;
    *(void **)&entry = dlsym(module, "co_driver_entry");
    w.driver = entry();
    for (int side = 0; side < 2; side++) {
        snprintf(w.address[side], sizeof w.address[side], "%.200s/s%d", w.folder, side);
        w.endpoint[side] = (struct co_endpoint_config){
            .size = sizeof w.endpoint[side], .scheme = "fake", .address = w.address[side], .peer_address = w.address[side]};
        start_server(side);
        connect_side((enum co_side)side);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int side = 0; side < 2; side++) {
        w.driver->disconnect(w.conn[side]);
        w.conn[side] = NULL;
        kill(w.server[side], SIGKILL);
        waitpid(w.server[side], NULL, 0);
    }
    forget_notes();
    w.run = (struct co_run){0};
    unit_remove(w.folder);
    return 0;
}

/* ---------------------------------------------------------------- runs */

static void apply_phase(enum co_phase phase, enum co_run_role role)
{
    for (size_t i = 0; i < w.driver->step_count; i++) {
        const struct co_step *step = &w.driver->steps[i];
        if (step->phase != phase || step->role != role) {
            continue;
        }
        struct co_call call = call_on(role == CO_SOURCE ? w.run.source : (enum co_side)(1 - w.run.source));
        enum co_presence presence = CO_ABSENT;
        enum co_result result = CO_AGAIN;
        for (int tries = 0; tries < 200 && result == CO_AGAIN; tries++) {
            result = step->apply(&call);
            if (result == CO_AGAIN) {
                poll(NULL, 0, 20);
            }
        }
        DONE(result);
        DONE(step->probe(&call, &presence));
        if (presence != CO_PRESENT) {
            fail_msg("%s is not present after it was applied", step->name);
        }
    }
}

static void revert_phase(enum co_phase phase, enum co_run_role role)
{
    for (size_t i = w.driver->step_count; i-- > 0;) {
        const struct co_step *step = &w.driver->steps[i];
        if (step->phase == phase && step->role == role && step->revert) {
            struct co_call call = call_on(role == CO_SOURCE ? w.run.source : (enum co_side)(1 - w.run.source));
            DONE(step->revert(&call));
        }
    }
}

static void begin_run(enum co_side source, const char *id, const char *token)
{
    forget_notes();
    w.run = (struct co_run){.size = sizeof w.run,
                            .id = id,
                            .token = token,
                            .actor = "tool-1",
                            .session_name = "changeover:x:tool-1",
                            .source = source};
    for (int side = 0; side < 2; side++) {
        struct co_call call = call_on((enum co_side)side);
        DONE(w.driver->marker_set(&call, NULL, token, "{}"));
        DONE(w.driver->prepare(&call));
    }
}

static void setup_pair(void)
{
    for (int i = 0; i < 10; i++) {
        assert_true(say_as(0, "app", "write key=k value=before"));
    }
    apply_phase(CO_PHASE_SETUP, CO_SOURCE);
    apply_phase(CO_PHASE_SETUP, CO_TARGET);
}

/* Up to and with the promotion; returns the final position (the caller frees). */
static char *run_to_promotion(void)
{
    enum co_side source = w.run.source, target = (enum co_side)(1 - source);
    CO_TEXT_AUTO position = CO_TEXT_INIT, remaining = CO_TEXT_INIT;
    apply_phase(CO_PHASE_WARM_UP, CO_TARGET);
    apply_phase(CO_PHASE_FENCE, CO_SOURCE);
    struct co_call on_source = call_on(source), on_target = call_on(target);
    DONE(w.driver->drain(&on_source, true, &remaining));
    DONE(w.driver->capture(&on_source, &position));
    enum co_result result = w.driver->wait_applied(&on_target, co_text_str(&position));
    DONE(result);
    DONE(w.driver->proof(&on_source, co_text_str(&position)));
    DONE(w.driver->proof(&on_target, co_text_str(&position)));
    apply_phase(CO_PHASE_REVERSE_PREPARE, CO_SOURCE);
    apply_phase(CO_PHASE_PROMOTE, CO_TARGET);
    DONE(w.driver->proof(&on_source, co_text_str(&position)));
    DONE(w.driver->proof(&on_target, co_text_str(&position)));
    return strdup(co_text_str(&position));
}

static void finish_run(void)
{
    apply_phase(CO_PHASE_OPEN, CO_TARGET);
    apply_phase(CO_PHASE_REVERSE, CO_TARGET);
    apply_phase(CO_PHASE_REVERSE, CO_SOURCE);
    for (int side = 0; side < 2; side++) {
        struct co_call call = call_on((enum co_side)side);
        DONE(w.driver->marker_set(&call, w.run.token, NULL, NULL));
    }
}

static void test_a_cutover_and_back(void **state)
{
    (void)state;
    setup_pair();
    assert_false(say_as(1, "app", "write key=k value=follower"));
    begin_run(CO_SIDE_A, "x", "x:1");
    free(run_to_promotion());
    assert_false(say_as(0, "app", "write key=k value=fenced"));
    assert_false(say_as(0, "superuser", "write key=k value=fenced"));
    assert_false(say_as(1, "superuser", "write key=k value=closed"));
    finish_run();
    assert_true(say_as(1, "app", "write key=k value=after"));
    assert_false(say_as(0, "app", "write key=k value=old"));
    begin_run(CO_SIDE_B, "y", "y:1");
    free(run_to_promotion());
    finish_run();
    assert_true(say_as(0, "app", "write key=k value=back"));
    assert_false(say_as(1, "app", "write key=k value=old"));
}

static void test_an_undone_promotion_leaves_the_source_open_and_the_target_following(void **state)
{
    (void)state;
    setup_pair();
    begin_run(CO_SIDE_A, "x", "x:1");
    free(run_to_promotion());
    revert_phase(CO_PHASE_REVERSE_PREPARE, CO_SOURCE);
    revert_phase(CO_PHASE_FENCE, CO_SOURCE);
    assert_true(say_as(0, "app", "write key=k value=undone"));
    struct co_call on_target = call_on(CO_SIDE_B), on_source = call_on(CO_SIDE_A);
    revert_phase(CO_PHASE_PROMOTE, CO_TARGET);
    revert_phase(CO_PHASE_WARM_UP, CO_TARGET);
    CO_TEXT_AUTO position = CO_TEXT_INIT;
    DONE(w.driver->position(&on_source, &position));
    DONE(w.driver->wait_applied(&on_target, co_text_str(&position)));
    assert_false(say_as(1, "app", "write key=k value=follower"));
}

static void test_taking_the_closure_back_never_opens_a_primary(void **state)
{
    (void)state;
    setup_pair();
    begin_run(CO_SIDE_A, "x", "x:1");
    free(run_to_promotion());
    for (size_t i = 0; i < w.driver->step_count; i++) {
        if (strcmp(w.driver->steps[i].name, "warm_up.close") == 0) {
            struct co_call call = call_on(CO_SIDE_B);
            assert_int_equal(w.driver->steps[i].revert(&call), CO_NO_EFFECT);
            assert_int_equal(w.error.code, CO_E_STATE);
        }
    }
    assert_false(say_as(1, "app", "write key=k value=closed"));
}

static void test_a_process_whose_run_was_taken_over_changes_nothing(void **state)
{
    (void)state;
    setup_pair();
    begin_run(CO_SIDE_A, "x", "x:1");
    for (int side = 0; side < 2; side++) {
        struct co_call call = call_on((enum co_side)side);
        DONE(w.driver->marker_set(&call, "x:1", "x:2", "{}"));
    }
    for (size_t i = 0; i < w.driver->step_count; i++) {
        const struct co_step *step = &w.driver->steps[i];
        struct co_call call = call_on(step->role == CO_SOURCE ? CO_SIDE_A : CO_SIDE_B);
        assert_int_equal(step->apply(&call), CO_NO_EFFECT);
        assert_int_equal(w.error.code, CO_E_CONFLICT);
        if (step->revert) {
            assert_int_equal(step->revert(&call), CO_NO_EFFECT);
            assert_int_equal(w.error.code, CO_E_CONFLICT);
        }
    }
    assert_true(say_as(0, "app", "write key=k value=open"));
}

static void test_a_lost_reply_is_effect_unknown_and_a_probe_tells(void **state)
{
    (void)state;
    setup_pair();
    begin_run(CO_SIDE_A, "x", "x:1");
    assert_true(say_as(0, "control", "rule verb=fence do=lose"));
    for (size_t i = 0; i < w.driver->step_count; i++) {
        const struct co_step *step = &w.driver->steps[i];
        if (strcmp(step->name, "fence.refuse_writes") == 0) {
            struct co_call call = call_on(CO_SIDE_A);
            assert_int_equal(step->apply(&call), CO_EFFECT_UNKNOWN);
            assert_false(w.driver->alive(w.conn[0]));
            connect_side(CO_SIDE_A);
            call = call_on(CO_SIDE_A);
            enum co_presence presence = CO_ABSENT;
            DONE(step->probe(&call, &presence));
            assert_int_equal(presence, CO_PRESENT);
        }
    }
}

static void test_a_frozen_server_ends_every_call_at_its_deadline(void **state)
{
    (void)state;
    setup_pair();
    begin_run(CO_SIDE_A, "x", "x:1");
    assert_int_equal(kill(w.server[0], SIGSTOP), 0);
    struct co_call call = call_on(CO_SIDE_A);
    call.deadline_ns = now_ns(NULL) + 50000000;
    CO_TEXT_AUTO position = CO_TEXT_INIT;
    assert_int_equal(w.driver->position(&call, &position), CO_NO_EFFECT);
    assert_int_equal(w.error.code, CO_E_TIMEOUT);
    call.deadline_ns = now_ns(NULL) + 50000000;
    assert_int_equal(w.driver->marker_set(&call, "x:1", "x:2", "{}"), CO_EFFECT_UNKNOWN);
    struct co_conn *conn = NULL;
    call.deadline_ns = now_ns(NULL) + 50000000;
    assert_int_equal(w.driver->connect(&call, CO_CONN_MAIN, &conn), CO_NO_EFFECT);
    assert_int_equal(kill(w.server[0], SIGCONT), 0);
    call = call_on(CO_SIDE_A); /* the late replies are not taken for this one's */
    DONE(w.driver->position(&call, &position));
    assert_true(strchr(co_text_str(&position), '/') != NULL);
}

static void test_fence_and_closure_outlive_a_kill_of_the_servers(void **state)
{
    (void)state;
    setup_pair();
    begin_run(CO_SIDE_A, "x", "x:1");
    free(run_to_promotion());
    for (int side = 0; side < 2; side++) {
        kill(w.server[side], SIGKILL);
        waitpid(w.server[side], NULL, 0);
        start_server(side);
        connect_side((enum co_side)side);
    }
    assert_false(say_as(0, "superuser", "write key=k value=fenced"));
    assert_false(say_as(1, "superuser", "write key=k value=closed"));
    struct co_call call = call_on(CO_SIDE_A);
    CO_TEXT_AUTO token = CO_TEXT_INIT, info = CO_TEXT_INIT;
    DONE(w.driver->marker_get(&call, &token, &info));
    assert_string_equal(co_text_str(&token), "x:1");
    assert_string_equal(co_text_str(&info), "{}");
}

static void test_a_transaction_begun_before_the_fence_is_seen_and_ended(void **state)
{
    (void)state;
    setup_pair();
    begin_run(CO_SIDE_A, "x", "x:1");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, w.address[0], strlen(w.address[0]) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    static const char lines[] = "hello account=superuser\nbegin id=1\nput key=k value=v id=2\n";
    char reply[4096];
    assert_int_equal(write(fd, lines, sizeof lines - 1), (ssize_t)sizeof lines - 1);
    size_t have = 0;
    while (have + 1 < sizeof reply && (have == 0 || !memmem(reply, have, "id=2", 4))) {
        ssize_t n = read(fd, reply + have, sizeof reply - 1 - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    apply_phase(CO_PHASE_FENCE, CO_SOURCE);
    struct co_call call = call_on(CO_SIDE_A);
    CO_TEXT_AUTO remaining = CO_TEXT_INIT, position = CO_TEXT_INIT;
    assert_int_equal(w.driver->drain(&call, false, &remaining), CO_AGAIN);
    assert_true(strstr(co_text_str(&remaining), "superuser") != NULL);
    assert_int_equal(w.driver->capture(&call, &position), CO_NO_EFFECT);
    assert_int_equal(w.driver->drain(&call, true, &remaining), CO_AGAIN);
    DONE(w.driver->drain(&call, false, &remaining));
    DONE(w.driver->capture(&call, &position));
    assert_int_equal(read(fd, reply, sizeof reply), 0);
    close(fd);
}

static void test_a_cut_link_is_broken_and_histories_that_parted_are_diverged(void **state)
{
    (void)state;
    setup_pair();
    CO_TEXT_AUTO reason = CO_TEXT_INIT;
    struct co_call call = call_on(CO_SIDE_B);
    struct co_link link = {.size = sizeof link, .reason = &reason};
    DONE(w.driver->link(&call, &link));
    assert_int_equal(link.state, CO_LINK_RUNNING);
    assert_true(say_as(1, "control", "cut on=1"));
    DONE(w.driver->link(&call, &link));
    assert_int_equal(link.state, CO_LINK_BROKEN);
    assert_int_equal(w.driver->compare("l/a.1:5", "l/a.1:5"), CO_ORDER_EQUAL);
    assert_int_equal(w.driver->compare("l/a.1:4", "l/a.1:5"), CO_ORDER_BEHIND);
    assert_int_equal(w.driver->compare("l/a.1+b.6:5", "l/a.1:5"), CO_ORDER_AHEAD);
    assert_int_equal(w.driver->compare("l/a.1+b.6:9", "l/a.1:7"), CO_ORDER_DIVERGED);
    assert_int_equal(w.driver->compare("l/a.1+b.6:9", "l/a.1+c.6:9"), CO_ORDER_DIVERGED);
    assert_int_equal(w.driver->compare("m/a.1:5", "l/a.1:5"), CO_ORDER_DIVERGED);
    assert_int_equal(w.driver->compare("nonsense", "l/a.1:5"), CO_ORDER_UNKNOWN);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_a_cutover_and_back),
        TEST(test_an_undone_promotion_leaves_the_source_open_and_the_target_following),
        TEST(test_taking_the_closure_back_never_opens_a_primary),
        TEST(test_a_process_whose_run_was_taken_over_changes_nothing),
        TEST(test_a_lost_reply_is_effect_unknown_and_a_probe_tells),
        TEST(test_a_frozen_server_ends_every_call_at_its_deadline),
        TEST(test_fence_and_closure_outlive_a_kill_of_the_servers),
        TEST(test_a_transaction_begun_before_the_fence_is_seen_and_ended),
        TEST(test_a_cut_link_is_broken_and_histories_that_parted_are_diverged),
    };
    return cmocka_run_group_tests_name("fake driver", tests, NULL, NULL);
}
