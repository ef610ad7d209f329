/* fuzz_config.c - any text as a config: it loads and is whole, or is refused with a message. */
#include "base/secret.h"
#include "config/config.h"
#include "fuzz.h"

static const struct co_option options[] = {
    {"mode", CO_OPT_PAIR, CO_OPT_ENUM, "physical|logical", "physical", "Mode."},
    {"setup.method", CO_OPT_PAIR, CO_OPT_STRING, NULL, NULL, "How."},
    {"setup.patience", CO_OPT_PAIR, CO_OPT_DURATION_MS, NULL, "1h", "Time."},
    {"setup.rate", CO_OPT_PAIR, CO_OPT_BYTES, NULL, NULL, "Rate."},
    {"setup.replace_b", CO_OPT_PAIR, CO_OPT_BOOL, NULL, "false", "Replace."},
    {"host.data_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL, "Data."},
    {"host.start", CO_OPT_SIDE, CO_OPT_ARGV, NULL, NULL, "Start."},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct co_config *config = NULL;
    struct co_error err = {0};
    bool private_file = bytes % 2 == 0;
    if (co_config_parse("/fuzz.yaml", (const char *)data, bytes, private_file, &config, &err) != 0) {
        FUZZ_EXPECT(!config && err.code != 0 && err.message[0] != '\0');
        FUZZ_EXPECT(memchr(err.message, '\0', sizeof err.message) && memchr(err.hint, '\0', sizeof err.hint));
    } else {
        FUZZ_EXPECT(config->migration && config->journal && config->pair_count > 0 && strlen(config->hash) == 32);
        for (size_t i = 0; i < config->pair_count; i++) {
            struct co_pair_config *pair = &config->pairs[i];
            FUZZ_EXPECT(pair->name && pair->engine && pair->gate.max_ms > 0 && pair->side[0].endpoint.url &&
                        pair->side[1].endpoint.url);
            FUZZ_EXPECT(pair->side[0].endpoint.tls.mode <= CO_TLS_VERIFY && pair->side[1].endpoint.tls.mode <= CO_TLS_VERIFY);
            if (co_config_check_options(config, pair, options, sizeof options / sizeof options[0], &err) == 0)
                FUZZ_EXPECT(co_option_find(&pair->options, "mode") != NULL);
        }
        co_config_free(config);
    }
    co_mask_clear();
    return 0;
}
