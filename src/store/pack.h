/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file pack.h
 * Rows as the bytes that stand in the file: members one after the other
 * without padding, little-endian, text NUL-padded. Checksums are taken over
 * these bytes, so they do not depend on compiler or machine.
 */
#ifndef PTQ_STORE_PACK_H
#define PTQ_STORE_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "ptq/record/rows.h"

/** Bytes of one packed row. */
size_t ptq_pack_size(const ptq_table *t);

/** Pack `n` C rows into `out` [n * ptq_pack_size]. Text behind its NUL is
 * dropped. */
void ptq_pack_rows(const ptq_table *t, const void *rows, int64_t n,
                   unsigned char *out);

/** Where a column stands in a row of some file. */
typedef struct ptq_pack_column {
  size_t offset; /* in the file's row */
  size_t size;   /* bytes there; text may be shorter or longer than ours; 0:
                    there is no such column */
} ptq_pack_column;

/** Columns of a row as this program packs it, [t->n_fields]. */
void ptq_pack_columns(const ptq_table *t, ptq_pack_column *out);

/** Unpack `n` rows of `stride` bytes whose columns stand at `columns`. Text is
 * always NUL-terminated afterwards. */
void ptq_unpack_rows(const ptq_table *t, const ptq_pack_column *columns,
                     size_t stride, const unsigned char *in, int64_t n,
                     void *rows);

void ptq_pack_i64(unsigned char out[8], int64_t v);
int64_t ptq_unpack_i64(const unsigned char in[8]);

/** Continue a CRC-32 (zlib) over `n` bytes; start with 0. */
uint32_t ptq_crc(uint32_t crc, const void *data, size_t n);
/** A checksum as it is stored: never 0, which means "none yet". */
uint32_t ptq_crc_stored(uint32_t crc);
/** One that is also never a bit away from 0, where 0 means "being written". */
uint32_t ptq_crc_guarded(uint32_t crc);

#endif /* PTQ_STORE_PACK_H */
