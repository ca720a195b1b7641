/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file join_rows.h
 * The points and models of several stores, each once.
 */
#ifndef PTQ_STORE_JOIN_ROWS_H
#define PTQ_STORE_JOIN_ROWS_H

#include "ptq/base/hash.h"
#include "ptq/store/merge.h"
#include "source.h"

/* A row of one of the stores. */
typedef struct ptq_join_entry {
  char config[PTQ_HASH_HEX];
  int64_t source, row;
  int64_t order; /* of all rows, store by store */
} ptq_join_entry;

typedef struct ptq_joining {
  const ptq_merge_options *options; /* borrowed */
  ptq_merge_summary *summary;       /* borrowed */
  ptq_source *sources;              /* owned [n_sources] */
  int64_t n_sources;
  ptq_join_entry *points, *models; /* owned; by configuration, then order */
  int64_t n_points, n_models;
  ptq_join_entry *kept, *kept_models; /* owned; one each, in order */
  int64_t n_kept, n_kept_models;
} ptq_joining;

/**
 * Choose a row of each configuration, the finished one if there is, else the
 * failed one, and compare it with the others that are finished: the summary
 * counts, options->report tells.
 *
 * @param[in,out] j  options, summary and sources are given; the rest is filled,
 *                   and released with ptq_joining_release() on failure too
 * @return PTQ_E_ARG (texts of one name with other bytes), PTQ_E_NOMEM, PTQ_E_IO
 */
ptq_status ptq_joining_choose(ptq_joining *j, ptq_err *err);

/** Place of a source's row of models among the kept ones, -1 without memory.
 * `ctx` is the ptq_joining. */
int64_t ptq_joining_find_model(const void *ctx, const ptq_source *s,
                               int64_t row);

void ptq_joining_release(ptq_joining *j);

#endif /* PTQ_STORE_JOIN_ROWS_H */
