/* acl_kit.h - ACL categories as 6.2 has them, in small, and what a server would be sent. */
#ifndef CO_TESTS_REDIS_ACL_KIT_H
#define CO_TESTS_REDIS_ACL_KIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rd.h"

static redisReply *kit_reply(const char *resp)
{
    redisReader *reader = rd_reader_new();
    redisReply *reply = NULL;

    if (!reader || redisReaderFeed(reader, resp, strlen(resp)) != REDIS_OK || rd_reader_take(reader, &reply) != 1)
        abort();
    redisReaderFree(reader);
    return reply;
}

/* Categories: write (set del hset geoadd), scripting (eval script), hash (hset hget), read (get hget). */
static void kit_conn(struct co_conn *conn)
{
    redisReply *names = kit_reply("*4\r\n$5\r\nwrite\r\n$9\r\nscripting\r\n$4\r\nhash\r\n$4\r\nread\r\n");
    RD_REPLIES(members);

    memset(conn, 0, sizeof(*conn));
    rd_version_parse("redis_version:6.2.16\r\n", &conn->version);
    members.reply[0] = kit_reply("*4\r\n$3\r\nset\r\n$3\r\ndel\r\n$4\r\nhset\r\n$6\r\ngeoadd\r\n");
    members.reply[1] = kit_reply("*2\r\n$4\r\neval\r\n$6\r\nscript\r\n");
    members.reply[2] = kit_reply("*2\r\n$4\r\nhset\r\n$4\r\nhget\r\n");
    members.reply[3] = kit_reply("*2\r\n$3\r\nget\r\n$4\r\nhget\r\n");
    members.count = 4;
    conn->rights = rd_rights_map_new(names, &members);
    if (!conn->rights)
        abort();
    freeReplyObject(names);
}

static inline void kit_done(struct co_conn *conn)
{
    rd_rights_map_free(conn->rights);
    free(conn->out);
    memset(conn, 0, sizeof(*conn));
}

/* The commands that were appended, words apart by a blank, one a line; and forgets them. */
static char *kit_sent(struct co_conn *conn)
{
    redisReader *reader = rd_reader_new();
    char *text = calloc(1, conn->out_bytes + 2), *to = text;
    redisReply *reply;

    if (!reader || !text || redisReaderFeed(reader, conn->out ? conn->out : "", conn->out_bytes) != REDIS_OK)
        abort();
    while (rd_reader_take(reader, &reply) == 1) {
        for (size_t at = 0; at < reply->elements; at++) {
            memcpy(to, reply->element[at]->str, reply->element[at]->len);
            to += reply->element[at]->len;
            *to++ = at + 1 < reply->elements ? ' ' : '\n';
        }
        freeReplyObject(reply);
    }
    redisReaderFree(reader);
    conn->out_bytes = conn->pending = 0;
    return text;
}

#endif
