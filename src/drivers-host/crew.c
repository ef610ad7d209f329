/* crew.c - worker threads that are started once and then run rounds of work. Invariant: co_crew_run returns
 * when every call of fn has returned, and inside a write pause no thread is created. */
#include "drivers-host/pair.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/error.h"

struct worker {
    struct co_crew *crew;
    size_t index;
    pthread_t thread;
};

struct co_crew {
    pthread_mutex_t lock;
    pthread_cond_t start, finished;
    size_t count; /* workers */
    struct worker *workers;
    unsigned long round; /* grows with every co_crew_run */
    size_t work, left;   /* of this round */
    void (*fn)(size_t index, void *arg);
    void *arg;
    bool stopping;
};

static void *worker_main(void *arg)
{
    struct worker *self = arg;
    struct co_crew *crew = self->crew;
    unsigned long seen = 0;
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (!crew->stopping && crew->round == seen)
            pthread_cond_wait(&crew->start, &crew->lock);
        if (crew->stopping)
            break;
        seen = crew->round;
        if (self->index >= crew->work)
            continue;
        void (*fn)(size_t, void *) = crew->fn;
        void *fn_arg = crew->arg;
        pthread_mutex_unlock(&crew->lock);
        fn(self->index, fn_arg);
        pthread_mutex_lock(&crew->lock);
        if (--crew->left == 0)
            pthread_cond_signal(&crew->finished);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

int co_crew_new(size_t count, struct co_crew **ret, struct co_error *err)
{
    struct co_crew *crew = calloc(1, sizeof *crew);
    struct worker *workers = calloc(count ? count : 1, sizeof *workers);
    if (!crew || !workers) {
        free(crew);
        free(workers);
        return co_fail(err, CO_E_NOMEM, "no memory for %zu worker threads", count);
    }
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->start, NULL);
    pthread_cond_init(&crew->finished, NULL);
    crew->workers = workers;
    sigset_t all, before; /* signals are the main thread's business */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        workers[i].crew = crew;
        workers[i].index = i;
        rc = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
        if (rc == 0)
            crew->count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        co_crew_free(crew);
        co_fail(err, CO_E_NOMEM, "can't start %zu worker threads (error %d)", count, rc);
        co_hint(err, "Is there a limit on processes (ulimit -u, TasksMax=)?");
        return CO_E_NOMEM;
    }
    *ret = crew;
    return 0;
}

void co_crew_run(struct co_crew *crew, size_t count, void (*fn)(size_t index, void *arg), void *arg)
{
    size_t work = count < crew->count ? count : crew->count;
    pthread_mutex_lock(&crew->lock);
    crew->fn = fn;
    crew->arg = arg;
    crew->work = work;
    crew->left = work;
    crew->round++;
    pthread_cond_broadcast(&crew->start);
    pthread_mutex_unlock(&crew->lock);
    for (size_t i = work; i < count; i++) /* more work than workers: the caller lends a hand */
        fn(i, arg);
    pthread_mutex_lock(&crew->lock);
    while (crew->left > 0)
        pthread_cond_wait(&crew->finished, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
}

void co_crew_free(struct co_crew *crew)
{
    if (!crew)
        return;
    pthread_mutex_lock(&crew->lock);
    crew->stopping = true;
    pthread_cond_broadcast(&crew->start);
    pthread_mutex_unlock(&crew->lock);
    for (size_t i = 0; i < crew->count; i++)
        pthread_join(crew->workers[i].thread, NULL);
    pthread_cond_destroy(&crew->start);
    pthread_cond_destroy(&crew->finished);
    pthread_mutex_destroy(&crew->lock);
    free(crew->workers);
    free(crew);
}
