/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file merge.h
 * One store from several. Needs no MPI.
 */
#ifndef PTQ_STORE_MERGE_H
#define PTQ_STORE_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"

typedef struct ptq_merge_options {
  const char *program_version; /* that merges */
  double tolerance;            /* of numbers computed with other numerics: their
                                  difference over max(1, |a|, |b|) */
  bool keep_first; /* where stores disagree the first one's row counts,
                      instead of an error */
  /** One line for each row where they disagree. May be NULL. */
  void (*report)(void *ctx, const char *line);
  void *ctx;
} ptq_merge_options;

typedef struct ptq_merge_summary {
  int64_t n_points, n_finished; /* of the new store */
  int64_t n_equal;              /* rows in several stores, with equal bits */
  int64_t n_close;              /* of other numerics, within the tolerance */
  int64_t n_disagree;           /* neither */
} ptq_merge_summary;

/**
 * Join the stores `paths` into the new store `out`: points in the order of the
 * stores, each once, finished where one of them finished it. Finished rows of
 * one key must be equal bit by bit (with their layers and windows); those of
 * one configuration but other numerics must agree within the tolerance, and
 * the first one's is kept. Rows that fail their checksum count as not
 * finished; a warning says how many of which store.
 * @return PTQ_E_ARG: `out` exists, or stores disagree (*summary says how
 *         often) and keep_first is not set, or two texts of one name have
 *         other bytes; PTQ_E_IO, PTQ_E_FORMAT, PTQ_E_NOMEM. Nothing is written
 *         then.
 */
ptq_status ptq_store_merge(const char *out, const char *const *paths,
                           int64_t n_paths, const ptq_merge_options *options,
                           ptq_merge_summary *summary, ptq_err *err);

#endif /* PTQ_STORE_MERGE_H */
