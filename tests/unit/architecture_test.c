/* architecture_test.c - the folders show the architecture, and this holds them to it: which folder may include
 * which, that drivers see nothing of src/, that the core knows no engine, and that banned functions stay out. */
#include "unit.h"

#include <ctype.h>
#include <strings.h>

static const struct {
    const char *folder;
    const char *may_include[12];
} rules[] = {
    {"base", {"base"}},
    {"config", {"base", "config"}},
    {"journal", {"base", "journal"}},
    {"drivers-host", {"base", "config", "journal", "drivers-host"}},
    {"lag", {"base", "config", "journal", "drivers-host", "lag"}},
    {"report", {"base", "journal", "report"}},
    {"cutover", {"base", "config", "journal", "drivers-host", "lag", "cutover"}},
    {"verify", {"base", "config", "journal", "drivers-host", "lag", "verify"}},
    {"serve", {"base", "config", "journal", "drivers-host", "lag", "cutover", "verify", "report", "serve"}},
    {"cli", {"base", "config", "journal", "drivers-host", "lag", "cutover", "verify", "report", "serve", "cli"}},
};

static size_t files, includes;
static char problems[8192];

static void complain(const char *path, const char *what, const char *which)
{
    size_t used = strlen(problems);
    snprintf(problems + used, sizeof problems - used, "\n%s: %s %s", path + strlen(CO_SOURCE_DIR) + 1, what, which);
}

static char *read_source(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)bytes + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)bytes, file), bytes);
    fclose(file);
    return text;
}

/* Blanks what comments say; they may name anything. */
static void strip_comments(char *text)
{
    char quote = 0;
    for (char *at = text; *at; at++) {
        if (quote) {
            if (*at == '\\' && at[1])
                at++;
            else if (*at == quote)
                quote = 0;
        } else if (*at == '"' || *at == '\'') {
            quote = *at;
        } else if (strncmp(at, "/*", 2) == 0) {
            char *end = strstr(at + 2, "*/");
            size_t bytes = end ? (size_t)(end + 2 - at) : strlen(at);
            memset(at, ' ', bytes);
            at += bytes - 1;
        }
    }
}

static void check_include(const char *path, const char *folder, const char *name)
{
    includes++;
    if (strncmp(name, "changeover/", 11) == 0 || !strchr(name, '/'))
        return; /* the public headers; a header of the file's own folder */
    if (strstr(path, "/drivers/")) {
        complain(path, "a driver includes", name);
        return;
    }
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (strcmp(rules[i].folder, folder) != 0)
            continue;
        for (size_t k = 0; rules[i].may_include[k]; k++) {
            size_t bytes = strlen(rules[i].may_include[k]);
            if (strncmp(name, rules[i].may_include[k], bytes) == 0 && name[bytes] == '/')
                return;
        }
    }
    complain(path, "may not include", name);
}

static void check_banned(const char *path, const char *text)
{
    static const char *const banned[] = {"strcpy", "strcat", "strncpy", "strncat", "sprintf", "vsprintf",
                                         "atoi",   "atol",   "atoll",   "strtok",  "gets",    "system",
                                         "usleep", "sleep",  "alloca",  "rand",    "tmpnam"};
    for (size_t i = 0; i < sizeof banned / sizeof banned[0]; i++)
        for (const char *at = text; (at = strstr(at, banned[i])) != NULL; at++) {
            char before = at > text ? at[-1] : ' ';
            if (!isalnum((unsigned char)before) && before != '_' && at[strlen(banned[i])] == '(')
                complain(path, "uses", banned[i]);
        }
}

static void check_engines(const char *path, const char *folder, const char *text)
{
    static const char *const blind[] = {"journal", "drivers-host", "lag", "cutover", "report"};
    static const char *const engines[] = {"postgres", "mysql", "mariadb", "redis", "valkey", "mongo"};
    for (size_t i = 0; i < sizeof blind / sizeof blind[0]; i++)
        for (size_t k = 0; strcmp(blind[i], folder) == 0 && k < sizeof engines / sizeof engines[0]; k++)
            if (strcasestr(text, engines[k]))
                complain(path, "knows the engine", engines[k]);
}

static int check_file(const char *path, const struct stat *info, int flag, struct FTW *ftw)
{
    (void)info;
    (void)ftw;
    size_t bytes = strlen(path);
    if (flag != FTW_F || bytes < 2 || (strcmp(path + bytes - 2, ".c") != 0 && strcmp(path + bytes - 2, ".h") != 0))
        return 0;
    files++;
    const char *inside = path + strlen(CO_SOURCE_DIR) + 1;
    char folder[64] = "";
    if (strncmp(inside, "src/", 4) == 0 && strchr(inside + 4, '/'))
        snprintf(folder, sizeof folder, "%.*s", (int)strcspn(inside + 4, "/"), inside + 4);
    char *text = read_source(path);
    strip_comments(text);
    for (char *at = text; (at = strstr(at, "#include \"")) != NULL;) {
        at += 10;
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\""), at);
        if (*folder || strncmp(inside, "drivers/", 8) == 0)
            check_include(path, folder, name);
    }
    check_banned(path, text);
    check_engines(path, folder, text);
    free(text);
    return 0;
}

static void folders_keep_to_the_architecture(void **state)
{
    (void)state;
    assert_int_equal(nftw(CO_SOURCE_DIR "/src", check_file, 16, FTW_PHYS), 0);
    assert_int_equal(nftw(CO_SOURCE_DIR "/drivers", check_file, 16, FTW_PHYS), 0);
    assert_true(files > 20 && includes > 50);
    if (*problems)
        fail_msg("%s", problems);
}

static void the_checks_find_something(void **state)
{
    (void)state;
    char text[] = "a /* strcpy( */ \"/*\" strcpy(b) postgres";
    strip_comments(text);
    assert_string_equal(text, "a               \"/*\" strcpy(b) postgres");
    problems[0] = '\0';
    check_banned(CO_SOURCE_DIR "/src/x.c", text);
    assert_contains(problems, "src/x.c: uses strcpy");
    check_engines(CO_SOURCE_DIR "/src/lag/x.c", "lag", text);
    assert_contains(problems, "knows the engine postgres");
    check_include(CO_SOURCE_DIR "/src/base/x.c", "base", "cli/cli.h");
    assert_contains(problems, "may not include cli/cli.h");
    check_include(CO_SOURCE_DIR "/drivers/x/x.c", "", "base/text.h");
    assert_contains(problems, "a driver includes base/text.h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_keep_to_the_architecture),
        cmocka_unit_test(the_checks_find_something),
    };
    return cmocka_run_group_tests_name("architecture", tests, NULL, NULL);
}
