/* pg_hash.h - FNV-1a, for names that must be short and the same everywhere. Not for security. */
#ifndef CO_PG_HASH_H
#define CO_PG_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t pg_hash(const void *data, size_t bytes, uint64_t seed)
{
    const unsigned char *at = data;
    uint64_t hash = seed ? seed : 14695981039346656037ULL;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 1099511628211ULL;
    return hash;
}

#endif
