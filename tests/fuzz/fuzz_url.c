/* fuzz_url.c - any text as a URL: what may be shown of it never holds its password, and parses to the same again. */
#include "base/secret.h"
#include "config/url.h"
#include "fuzz.h"

static int same(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    FUZZ_EXPECT(text != NULL);
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    struct co_url url = {0}, again = {0};
    struct co_error err = {0};
    if (co_url_parse(text, &url, &err) != 0) {
        FUZZ_EXPECT(err.code != 0 && err.message[0] != '\0' && !url.url);
    } else {
        FUZZ_EXPECT(url.url && url.scheme && url.port >= 0 && url.port <= 65535);
        FUZZ_EXPECT(!url.password || url.has_secret);
        FUZZ_EXPECT(!url.has_secret || co_url_holds_password(text));
        FUZZ_EXPECT(co_url_parse(url.url, &again, &err) == 0);
        FUZZ_EXPECT(!again.has_secret && !again.password);
        FUZZ_EXPECT(same(url.scheme, again.scheme) && same(url.user, again.user) && same(url.address, again.address));
        FUZZ_EXPECT(url.port == again.port && same(url.database, again.database));
        (void)co_url_is_local(url.address);
    }
    co_url_done(&url);
    co_url_done(&again);
    char *address = NULL;
    int port = 0;
    (void)co_url_parse_address(text, &address, &port, &err);
    free(address);
    free(text);
    co_mask_clear();
    return 0;
}
