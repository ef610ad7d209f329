/* short.c - a marker's info in as few characters as it can be written, for servers whose config lines are short.
 *
 * Before 7.0 a config line must stay below 1024 bytes (config.c of 5.0.14, 6.0.20, 6.2.16), and what a run notes for an undo
 * must fit, or no other machine could take the run over. So quotes become apostrophes, words that the text is known to
 * consist of become two characters, and what a config line could misread becomes %XX. Base64 would add a third.
 *
 * Invariants: the result holds no quote, backslash, blank or byte outside printable ASCII, and reads back as what it was
 * made from. A marker may have been written by another version of this program: words are only ever added, at the end.
 */
#include "rd.h"

#include <stdlib.h>
#include <string.h>

#define WORD '~'
#define BYTE '%'
#define FIRST 'A'

static const char *const words[] = {
    "\",\"original.min-replicas-to-write\":\"",
    "\",\"original.min-replicas-max-lag\":\"",
    "\",\"original.repl-ping-replica-period\":\"",
    "\",\"original.appendfsync\":\"everysec",
    "\",\"original.appendfsync\":\"",
    "\",\"closed_before\":\"no",
    "\",\"closed_before\":\"",
    "\",\"master_before\":\"",
    "{\"core.incarnation\":\"",
    ",\"notes\":{\"a\":",
    "{\"run\":\"",
    "\",\"kind\":\"cutover",
    "\",\"kind\":\"rollback",
    "\",\"kind\":\"",
    "\",\"operator\":\"",
    "\",\"host\":\"",
    "\",\"journal\":\"/var/lib/changeover/",
    "\",\"journal\":\"",
    ".journal\",\"since\":\"",
    "\",\"since\":\"",
    "\",\"source\":\"a\",\"pid\":",
    "\",\"source\":\"b\",\"pid\":",
};
#define WORDS (sizeof(words) / sizeof(*words))

static bool is_plain(char c)
{
    return c > ' ' && c < 127 && !strchr("\"'\\", c) && c != WORD && c != BYTE;
}

char *rd_shorten(const char *text)
{
    static const char digits[] = "0123456789abcdef";
    char *out = malloc(strlen(text) * 3 + 1), *to = out;

    while (out && *text) {
        size_t word = 0;

        while (word < WORDS && strncmp(text, words[word], strlen(words[word])) != 0)
            word++;
        if (word < WORDS) {
            *to++ = WORD;
            *to++ = (char)(FIRST + (int)word);
            text += strlen(words[word]);
            continue;
        }
        if (*text == '"') {
            *to++ = '\'';
        } else if (is_plain(*text)) {
            *to++ = *text;
        } else {
            *to++ = BYTE;
            *to++ = digits[(unsigned char)*text >> 4];
            *to++ = digits[(unsigned char)*text & 15];
        }
        text++;
    }
    if (out)
        *to = '\0';
    return out;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *rd_lengthen(const char *text, size_t bytes)
{
    const char *end = text + bytes;
    size_t longest = 1;
    char *out, *to;

    for (size_t at = 0; at < WORDS; at++)
        longest = strlen(words[at]) > longest ? strlen(words[at]) : longest;
    out = to = bytes > RD_MAX_REPLY_BYTES ? NULL : malloc(bytes * longest + 1);
    while (out && text < end) {
        if (*text == WORD && end - text >= 2 && text[1] >= FIRST && text[1] < FIRST + (int)WORDS) {
            const char *word = words[text[1] - FIRST];

            memcpy(to, word, strlen(word));
            to += strlen(word);
            text += 2;
        } else if (*text == BYTE && end - text >= 3 && digit(text[1]) >= 0 && digit(text[2]) >= 0) {
            *to++ = (char)(digit(text[1]) << 4 | digit(text[2]));
            text += 3;
        } else if (*text == '\'' || is_plain(*text)) {
            *to++ = *text == '\'' ? '"' : *text;
            text++;
        } else {
            free(out);
            return NULL;
        }
    }
    if (out)
        *to = '\0';
    return out;
}
