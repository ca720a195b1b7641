/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file recompute.h
 * Do finished points of a store again and compare bit for bit.
 */
#ifndef PTQ_CLI_RECOMPUTE_H
#define PTQ_CLI_RECOMPUTE_H

#include <stdint.h>

#include "ptq/store/view.h"
#include "study.h"

typedef struct ptq_recompute_options {
  const char *spec_path; /* NULL: where the store says it was */
  int64_t n_points;      /* at random among the finished ones */
  uint64_t seed;
  int threads; /* of this rank; 0: as the sweep file says */
} ptq_recompute_options;

/**
 * Recompute points of an open store; one line on standard output for each that
 * differs. Needs MPI to be started, works on this rank alone.
 * @param[out] n_done points done again
 * @param[out] n_bad  of them, those that differ
 * @return PTQ_E_ARG when sweep file, models or texts are no longer those of
 *         the store, or numerics are others
 */
ptq_status ptq_recompute(ptq_view *v, const ptq_recompute_options *o,
                         int64_t *n_done, int64_t *n_bad, ptq_err *err);

/**
 * The study a store was made of, from its sweep file (`spec_path`; NULL: where
 * the store says it was) and its overrides. Needs MPI to be started.
 * @return PTQ_E_ARG when the sweep file is not to be found or numerics are
 *         others
 */
ptq_status ptq_study_reopen(ptq_view *v, const char *spec_path,
                            ptq_study *study, ptq_err *err);
/** The point with that key, -1 if there is none. */
int64_t ptq_study_find(const ptq_study *s, const char *key);

#endif /* PTQ_CLI_RECOMPUTE_H */
