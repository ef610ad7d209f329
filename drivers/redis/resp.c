/* resp.c - hiredis as the protocol's codec, with limits.
 *
 * Invariant: no reply makes us allocate more than was received plus a small constant: an array's announced length is
 * bounded before anything is allocated for it, and the bytes of one reply are. hiredis 0.14 (Debian 12) and 1.x
 * (Debian 13) differ in the type of that length only.
 */
#include "rd.h"

#include <pthread.h>

#if HIREDIS_MAJOR >= 1
typedef size_t rd_elements;
#else
typedef int rd_elements;
#endif

static void *(*default_array)(const redisReadTask *, rd_elements);
static redisReplyObjectFunctions limited;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *limited_array(const redisReadTask *task, rd_elements elements)
{
    if ((uint64_t)elements > RD_MAX_ELEMENTS)
        return NULL;
    return default_array(task, elements);
}

/* hiredis doesn't export its own object functions; a reader that it made carries them. */
static void take_defaults(void)
{
    redisReader *model = redisReaderCreate();

    if (!model)
        return;
    limited = *model->fn;
    default_array = limited.createArray;
    limited.createArray = limited_array;
    redisReaderFree(model);
}

redisReader *rd_reader_new(void)
{
    redisReader *reader;

    pthread_once(&once, take_defaults);
    if (!default_array)
        return NULL;
    reader = redisReaderCreate();
    if (!reader)
        return NULL;
    reader->fn = &limited;
    return reader;
}

int rd_reader_take(redisReader *reader, redisReply **ret)
{
    void *reply = NULL;

    if (reader->len > RD_MAX_REPLY_BYTES)
        return -1;
    if (redisReaderGetReply(reader, &reply) != REDIS_OK)
        return -1;
    if (!reply)
        return 0;
    *ret = reply;
    return 1;
}
