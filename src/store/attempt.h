/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file attempt.h
 * Rows of attempts: what is not a result, with checksums of their own. They
 * change while the result stands, and a signal handler writes them too, so
 * that 0 says "being written": a writer zeroes the checksum, writes the row
 * and then its checksum. Only rows whose result is finished are judged.
 */
#ifndef PTQ_STORE_ATTEMPT_H
#define PTQ_STORE_ATTEMPT_H

#include "integrity.h"

/** The checksums of the rows of `attempts`: of points, models, directions. */
ptq_set_id ptq_attempt_sums(ptq_set_id attempts);

ptq_status ptq_attempt_get(const ptq_sets *s, ptq_set_id attempts, int64_t row,
                           ptq_attempt_row *out, ptq_err *err);
ptq_status ptq_attempt_put(const ptq_sets *s, ptq_set_id attempts, int64_t row,
                           const ptq_attempt_row *a, ptq_err *err);

/** Report the rows of finished points, models or directions that differ from
 * their checksums; the kind is the set's name. Nothing in stores without
 * them. Rank-local. */
ptq_status ptq_attempt_check(const ptq_sets *s, ptq_set_id attempts,
                             ptq_integrity_report report, void *ctx,
                             int64_t *n_bad, ptq_err *err);
/** What a killed writer left without checksum gets one; what differs from it
 * is lost and says so. *n_lost counts on. */
ptq_status ptq_attempt_mend(const ptq_sets *s, int64_t *n_lost, ptq_err *err);

#endif /* PTQ_STORE_ATTEMPT_H */
