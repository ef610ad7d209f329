/* fuzz_redis_acl.c - any text as the answer to ACL LIST: what is taken leaves nobody who may write, what is kept is no
 * password and is not replaced, and short marker texts read back. */
#include "acl_kit.h"
#include "fuzz.h"

/* The list as it would be after the taking, the server's part played simply. */
static char *after_taking(const char *list, const char *sent)
{
    char *text = malloc(strlen(list) + strlen(sent) * 2 + 64), *to = text;

    FUZZ_EXPECT(text);
    to += sprintf(to, "%s\n", list);
    for (const char *line = sent; *line; line = strchr(line, '\n') + 1) {
        const char *name = line + strlen("ACL SETUSER "), *rules = strstr(line, " reset");
        size_t bytes = strcspn(line, "\n");

        if (bytes > 28 && memcmp(name, "changeover.kept.", 16) == 0 && rules && rules < line + bytes)
            to += sprintf(to, "user %.*s off%.*s\n", (int)(rules - name), name, (int)(line + bytes - rules - 6), rules + 6);
    }
    return text;
}

static void expect_no_passwords(const char *sent)
{
    for (const char *at = sent; *at; at++)
        FUZZ_EXPECT(!(at > sent && at[-1] == ' ' && (*at == '#' || *at == '>')));
}

static void take_and_give(const char *list)
{
    static struct co_conn conn; /* made once: what it is made from isn't the subject */
    struct rd_state state = {.users = (char *)list};
    enum rd_rights before;
    char *sent;

    if (!conn.rights)
        kit_conn(&conn);
    before = rd_rights_judge(&conn, list);
    rd_out_take_rights(&conn, &state);
    sent = kit_sent(&conn);
    FUZZ_EXPECT(!conn.nomem);
    FUZZ_EXPECT((before == RD_RIGHTS_FREE || before == RD_RIGHTS_PARTLY) == (*sent != '\0'));
    if (!strpbrk(list, "#>\r") && *sent) {
        char *after = after_taking(list, sent), *again;

        expect_no_passwords(sent);
        state.users = after; /* the originals are there now: a second taking doesn't keep anything anew */
        rd_out_take_rights(&conn, &state);
        again = kit_sent(&conn);
        FUZZ_EXPECT(!strstr(again, " reset ") || strstr(list, "reset") || strstr(list, "user  ") || strstr(list, "user \n"));
        free(again);
        free(after);
    }
    free(sent);
    state.users = (char *)list;
    rd_out_give_rights(&conn, &state);
    sent = kit_sent(&conn);
    free(sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = rd_strndup((const char *)data, bytes), *shorter, *longer;

    FUZZ_EXPECT(text);
    shorter = rd_shorten(text);
    longer = rd_lengthen(shorter, strlen(shorter));
    FUZZ_EXPECT(longer && strcmp(longer, text) == 0 && !strpbrk(shorter, "\"\\ \n\r"));
    free(longer);
    free(shorter);
    free(rd_lengthen(text, strlen(text)));
    if (bytes < 4000)
        take_and_give(text);
    free(text);
    return 0;
}
