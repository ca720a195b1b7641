/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file logring.h
 * The store's log: a ring of lines, each with a checksum over its number and
 * text, and their number with one of its own. 0 says "being written". Only one
 * process writes it at a time.
 */
#ifndef PTQ_STORE_LOGRING_H
#define PTQ_STORE_LOGRING_H

#include "integrity.h"

/** Add a line, cut where it is too long. */
ptq_status ptq_logring_add(const ptq_sets *s, const char *line, ptq_err *err);
/** The number of lines ever written. */
ptq_status ptq_logring_next(const ptq_sets *s, int64_t *next, ptq_err *err);

/** Report lines and the number of lines that differ from their checksums; the
 * kind is the set's name. Nothing in stores without them. Rank-local. */
ptq_status ptq_logring_check(const ptq_sets *s, ptq_integrity_report report,
                             void *ctx, int64_t *n_bad, ptq_err *err);
/** What a killed writer left without checksum gets one; a damaged line says
 * so, and a damaged number of lines is counted anew. *n_lost counts on. */
ptq_status ptq_logring_mend(const ptq_sets *s, int64_t *n_lost, ptq_err *err);
/** Take over another store's log, with its checksums where it has any. */
ptq_status ptq_logring_copy(const ptq_sets *to, const ptq_sets *from,
                            ptq_err *err);

#endif /* PTQ_STORE_LOGRING_H */
