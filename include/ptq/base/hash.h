/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file hash.h
 * XXH3 (libxxhash): 128-bit content hashes for keys and fingerprints, 64-bit
 * for seeds.
 */
#ifndef PTQ_BASE_HASH_H
#define PTQ_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "ptq/base/status.h"

enum { PTQ_HASH_HEX = 33 }; /* 32 lower-case hex digits and NUL */

/** Streaming XXH3-128; update with any number of pieces. */
typedef struct ptq_hash ptq_hash;
ptq_status ptq_hash_create(ptq_hash **out, ptq_err *err);
void ptq_hash_update(ptq_hash *h, const void *data, size_t size);
/** Adds the text and its terminating NUL, so that fields cannot run into one
 * another. */
void ptq_hash_text(ptq_hash *h, const char *s);
void ptq_hash_hex(const ptq_hash *h, char hex[PTQ_HASH_HEX]);
void ptq_hash_free(ptq_hash *h);

/** XXH3-128 of one buffer, canonical (big-endian) hex: equals Python's
 * xxhash.xxh3_128_hexdigest. */
void ptq_hash_buffer(const void *data, size_t size, char hex[PTQ_HASH_HEX]);
/** XXH3-128 of a whole file's bytes. Errors name the path. */
ptq_status ptq_hash_file(const char *path, char hex[PTQ_HASH_HEX],
                         ptq_err *err);
/** XXH3-64 of a buffer. */
uint64_t ptq_hash64(const void *data, size_t size);

#endif /* PTQ_BASE_HASH_H */
