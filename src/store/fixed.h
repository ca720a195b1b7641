/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file fixed.h
 * Checksums of what never changes in a store once it is there: the sets below
 * /index, one each, and every byte of the file that is in no dataset of the
 * store, with HDF5's own structure, attributes and the gaps between.
 */
#ifndef PTQ_STORE_FIXED_H
#define PTQ_STORE_FIXED_H

#include "integrity.h"

/** How many: the file's bytes outside the sets, then one a set of /index. */
int64_t ptq_fixed_count(void);
/** The set of checksum `i`, PTQ_SET_COUNT for the file's other bytes. */
ptq_set_id ptq_fixed_set(int64_t i);

/** Compute and write them into a new store that is open for writing. */
ptq_status ptq_fixed_seal(const ptq_sets *s, ptq_err *err);
/** Report what differs; the kind is the set's name, or "/" for the other
 * bytes, and the row is the checksum's. Nothing in stores without them.
 * Rank-local. */
ptq_status ptq_fixed_check(const ptq_sets *s, ptq_integrity_report report,
                           void *ctx, int64_t *n_bad, ptq_err *err);

#endif /* PTQ_STORE_FIXED_H */
