/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file steps.h
 * Checksums of the rows of profiles, a row by itself: a direction that was cut
 * short goes on with those that hold. The rows of a finished direction have
 * them too, though its own checksum is what says that it is right.
 */
#ifndef PTQ_STORE_STEPS_H
#define PTQ_STORE_STEPS_H

#include "integrity.h"

/** Write the checksums of all rows of a direction's profile, given as the bytes
 * that stand in the file. PTQ_E_IO, PTQ_E_NOMEM. Rank-local. */
ptq_status ptq_steps_seal(const ptq_sets *s, int64_t direction, const char *key,
                          const unsigned char *rows, ptq_err *err);

/** Rows of the profile of direction `source` of another store, of this or a
 * lower schema, whose checksums hold with the key go into the profile of
 * `direction` of `st`, which is not finished. Nothing in stores without
 * checksums. PTQ_E_ARG: a row that has no place there; PTQ_E_IO, PTQ_E_FORMAT,
 * PTQ_E_NOMEM. Rank-local. */
ptq_status ptq_steps_carry(const ptq_sets *from, int64_t source, ptq_store *st,
                           int64_t direction, const char *key, ptq_err *err);

/** Report the rows of finished directions that differ from their checksums; the
 * kind is the set's name, of the rows. Nothing in stores without them.
 * Rank-local. */
ptq_status ptq_steps_check(const ptq_sets *s, ptq_integrity_report report,
                           void *ctx, int64_t *n_bad, ptq_err *err);
/** Finished directions, whose own checksums hold, get what is wrong again.
 * PTQ_E_IO, PTQ_E_NOMEM. Rank-local; by one rank. */
ptq_status ptq_steps_mend(const ptq_sets *s, ptq_err *err);

#endif /* PTQ_STORE_STEPS_H */
