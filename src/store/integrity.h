/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file integrity.h
 * Checksums of finished rows, recomputed from the bytes in the file.
 */
#ifndef PTQ_STORE_INTEGRITY_H
#define PTQ_STORE_INTEGRITY_H

#include "sets.h"

/** Told of each bad row: what kind ("point", "model", "direction",
 * "spectrum"), which, and
 * why. */
typedef void (*ptq_integrity_report)(void *ctx, const char *kind, int64_t row,
                                     const char *why);

/** Check the points, models, directions and spectra [begin, end). *n_checked
 * grows by the finished rows seen, *n_bad by the bad ones. PTQ_E_IO when a row
 * cannot be read, PTQ_E_NOMEM. Rank-local. */
ptq_status ptq_integrity_points(const ptq_sets *s, int64_t begin, int64_t end,
                                ptq_integrity_report report, void *ctx,
                                int64_t *n_checked, int64_t *n_bad,
                                ptq_err *err);
ptq_status ptq_integrity_models(const ptq_sets *s, int64_t begin, int64_t end,
                                ptq_integrity_report report, void *ctx,
                                int64_t *n_checked, int64_t *n_bad,
                                ptq_err *err);
ptq_status ptq_integrity_directions(const ptq_sets *s, int64_t begin,
                                    int64_t end, ptq_integrity_report report,
                                    void *ctx, int64_t *n_checked,
                                    int64_t *n_bad, ptq_err *err);
ptq_status ptq_integrity_spectra(const ptq_sets *s, int64_t begin, int64_t end,
                                 ptq_integrity_report report, void *ctx,
                                 int64_t *n_checked, int64_t *n_bad,
                                 ptq_err *err);

/** A row's own rows in another table, as file bytes; size 0: none. */
enum { PTQ_PARTS = 3 };
typedef struct ptq_integrity_part {
  const unsigned char *bytes; /* borrowed */
  size_t size;
} ptq_integrity_part;

/** Checksum of a row with its parts, as stored: over `head` (eight bytes), the
 * state (one), the row and the parts; NULL: no parts. */
uint32_t ptq_integrity_sum(int64_t head, int state, const unsigned char *row,
                           size_t row_size,
                           const ptq_integrity_part part[PTQ_PARTS]);

uint32_t ptq_get_u32(const unsigned char b[4]);
void ptq_put_u32(unsigned char b[4], uint32_t v);

#endif /* PTQ_STORE_INTEGRITY_H */
