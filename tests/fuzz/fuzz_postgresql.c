/* fuzz_postgresql.c - what the PostgreSQL driver reads (positions, history files, pg_controldata) and how it quotes what it
 * writes (SQL, sh, connection strings, postgresql.conf): whatever the bytes are, nothing is misread and quoting comes back.
 * The input is two texts, apart by a '|'. */
#include "../../drivers/postgresql/machine_state.c"
#include "../../drivers/postgresql/position.c"
#include "../../drivers/postgresql/text.c"
#include "fuzz.h"

/* Takes quoting back: from `at`, just behind the opening quote, to the closing one; `doubled` quotes stand for one, what
 * follows an `escape` stands for itself. */
static void unquote(const char *at, char quote, bool doubled, char escape, struct pg_text *ret)
{
    for (; *at; at++) {
        if (escape && *at == escape) {
            at++;
        } else if (*at == quote) {
            if (!doubled || at[1] != quote)
                break;
            at++;
        }
        FUZZ_EXPECT(*at);
        pg_text_bytes(ret, at, 1);
    }
    FUZZ_EXPECT(*at == quote); /* nothing ended it early, and it is closed */
}

static void expect_quoting(const char *text)
{
    PG_TEXT literal = {0};
    PG_TEXT ident = {0};
    PG_TEXT conf = {0};
    PG_TEXT conninfo = {0};
    PG_TEXT back = {0};
    pg_text_literal(&literal, text);
    bool slashes = literal.data[0] == 'E';
    FUZZ_EXPECT(slashes == (strchr(text, '\\') != NULL));
    unquote(literal.data + (slashes ? 2 : 1), '\'', true, slashes ? '\\' : 0, &back);
    FUZZ_EXPECT(strcmp(pg_text_str(&back), text) == 0);

    pg_text_done(&back);
    pg_text_ident(&ident, text);
    unquote(ident.data + 1, '"', true, 0, &back);
    FUZZ_EXPECT(strcmp(pg_text_str(&back), text) == 0);

    pg_text_done(&back);
    pg_text_conf_line(&conf, "name", text);
    unquote(strchr(conf.data, '\'') + 1, '\'', true, '\\', &back);
    FUZZ_EXPECT(strcmp(pg_text_str(&back), text) == 0);

    pg_text_done(&back);
    pg_text_conninfo(&conninfo, "key", text);
    FUZZ_EXPECT((conninfo.used == 0) == (*text == '\0'));
    if (conninfo.used) {
        unquote(strchr(conninfo.data, '\'') + 1, '\'', false, '\\', &back);
        FUZZ_EXPECT(strcmp(pg_text_str(&back), text) == 0);
    }
}

/* '...' with '\'' for each quote. */
static void expect_shell_word(const char *text)
{
    PG_TEXT word = {0};
    PG_TEXT back = {0};
    pg_text_shell(&word, text);
    bool quoted = false;
    for (const char *at = word.data; *at; at++) {
        if (*at == '\'')
            quoted = !quoted;
        else if (quoted)
            pg_text_bytes(&back, at, 1);
        else
            FUZZ_EXPECT(*at == '\\' && at[1] == '\'');
        if (!quoted && at[0] == '\\') {
            pg_text_bytes(&back, ++at, 1);
        }
    }
    FUZZ_EXPECT(!quoted && strcmp(pg_text_str(&back), text) == 0);
}

static void expect_positions(const char *text, const char *other)
{
    struct pg_position position, again;
    char printed[40];
    if (pg_position_parse(text, &position)) {
        pg_position_print(&position, printed);
        FUZZ_EXPECT(pg_position_parse(printed, &again) && again.timeline == position.timeline && again.lsn == position.lsn);
        FUZZ_EXPECT(pg_compare(text, text) == CO_ORDER_EQUAL);
    } else {
        FUZZ_EXPECT(pg_compare(text, other) == CO_ORDER_UNKNOWN && pg_compare(other, text) == CO_ORDER_UNKNOWN);
    }
    enum co_order there = pg_compare(text, other), back = pg_compare(other, text);
    if (there == CO_ORDER_EQUAL)
        FUZZ_EXPECT(back == CO_ORDER_EQUAL);
    if (there == CO_ORDER_AHEAD)
        FUZZ_EXPECT(back == CO_ORDER_BEHIND);
    struct co_distance apart = {.size = sizeof apart};
    pg_distance(text, other, &apart);
    FUZZ_EXPECT(apart.bytes >= -1 && apart.transactions == -1);
    if (there == CO_ORDER_AHEAD || there == CO_ORDER_EQUAL)
        FUZZ_EXPECT(apart.bytes <= 0);
    if (pg_fork_point(text, &position))
        FUZZ_EXPECT(strchr(text, '/') != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    FUZZ_EXPECT(text != NULL);
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    char *other = strchr(text, '|');
    if (other)
        *other++ = '\0';
    else
        other = text;
    expect_positions(text, other);
    expect_quoting(text);
    expect_shell_word(text);
    struct pg_machine_state state;
    if (pg_machine_state_parse(text, &state))
        FUZZ_EXPECT(!state.clean || strstr(text, "\nstate shut down\n"));
    PG_TEXT code = {0};
    pg_text_base64(&code, data, bytes);
    FUZZ_EXPECT(code.used == (bytes + 2) / 3 * 4);
    free(text);
    return 0;
}
