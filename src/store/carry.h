/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file carry.h
 * Finished and failed rows from one store into a new one, which appears whole.
 */
#ifndef PTQ_STORE_CARRY_H
#define PTQ_STORE_CARRY_H

#include "ptq/base/text.h"
#include "source.h"

/** Point, subject or direction `row` of a new store comes from `from` of a
 * source. */
typedef struct ptq_carry {
  const ptq_source *source; /* borrowed; NULL: nothing to take over */
  int64_t from;
} ptq_carry;

/** What a new store is made of. Borrowed. */
typedef struct ptq_carry_plan {
  const ptq_store_layout *layout;
  const ptq_carry *points;     /* [layout->n_points] */
  const ptq_carry *subjects;   /* [layout->n_subjects] */
  const ptq_carry *directions; /* [layout->n_directions]; NULL: none */
  const ptq_source *sources;   /* [n_sources] whose profiles are looked through
                                  for steps of unfinished directions */
  int64_t n_sources;
  const ptq_source *log; /* whose log goes on; NULL: none */
  const char *line;      /* its next line */
} ptq_carry_plan;

/**
 * Make `path` by a plan under a temporary name and rename it over what is
 * there, at once. `path` is locked by the caller, or nobody knows it.
 * Attempts, deaths, times and messages are carried too, also of what waits;
 * what was in flight waits again, as when a run resumes. A finished model whose
 * spectra the source lacks waits anew. Of an unfinished direction, the steps
 * are those of every source that has its key, the first one's before another's.
 * Rank-local.
 * @param[out] n_points  finished and failed points taken over
 * @return PTQ_OK, PTQ_E_IO (no room), PTQ_E_FORMAT, PTQ_E_NOMEM; `path` is
 *         untouched after a failure
 */
ptq_status ptq_carry_into(const char *path, const ptq_carry_plan *plan,
                          int64_t *n_points, ptq_err *err);

#endif /* PTQ_STORE_CARRY_H */
