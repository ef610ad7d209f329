/* replay.c - runs a fuzzer over the files of a folder; fails when there are none. */
#include <dirent.h>
#include <limits.h>

#include "fuzz.h"

static size_t replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    static uint8_t data[1 << 20];
    size_t bytes = fread(data, 1, sizeof data, file);
    fclose(file);
    uint8_t *exact = malloc(bytes ? bytes : 1); /* so that a sanitizer sees reads past the end */
    FUZZ_EXPECT(exact != NULL);
    memcpy(exact, data, bytes);
    LLVMFuzzerTestOneInput(exact, bytes);
    free(exact);
    return 1;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        FUZZ_EXPECT(folder != NULL);
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char path[PATH_MAX];
            if (entry->d_name[0] == '.')
                continue;
            FUZZ_EXPECT(snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name) < PATH_MAX);
            count += replay(path);
        }
        closedir(folder);
    }
    printf("%zu inputs\n", count);
    return count > 0 ? 0 : 1;
}
