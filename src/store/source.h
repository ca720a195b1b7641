/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file source.h
 * A store as a source of finished rows: read-only, also of an older schema,
 * its checksums verified.
 */
#ifndef PTQ_STORE_SOURCE_H
#define PTQ_STORE_SOURCE_H

#include "sets.h"

typedef struct ptq_source {
  ptq_sets sets;                   /* owned */
  ptq_point_row *points;           /* owned [n_points] */
  ptq_model_row *models;           /* owned [n_subjects] */
  ptq_attempt_row *attempts;       /* owned [n_points] */
  ptq_attempt_row *model_attempts; /* owned [n_subjects] */
  unsigned char *state;            /* owned [n_points]; bad rows are PENDING */
  unsigned char *model_state;      /* owned [n_subjects] */
  ptq_direction_row *directions;   /* owned [n_directions] */
  ptq_attempt_row *direction_attempts; /* owned [n_directions] */
  unsigned char *direction_state;      /* owned [n_directions] */
  char *uuid, *numerics;               /* owned; root attributes */
  int64_t n_bad_points, n_bad_models, n_bad_directions; /* now PENDING */
  char first_bad[128]; /* which, and why; empty: none is bad */
} ptq_source;

/** Open `path` and read what is one row a point or model. PTQ_E_IO,
 * PTQ_E_FORMAT, PTQ_E_NOMEM. Rank-local. */
ptq_status ptq_source_open(const char *path, ptq_source *out, ptq_err *err);
void ptq_source_close(ptq_source *s);
/** Warn of results that failed their checksum, if any did: how many, where. */
void ptq_source_tell_bad(const ptq_source *s);

/** One finished or failed point's rows. */
typedef struct ptq_source_point {
  ptq_layer_row *layers;   /* owned [n_layers]; NULL when failed */
  ptq_window_row *windows; /* owned [n_windows] */
  ptq_answer_row *answers; /* owned [n_answers] */
  int64_t n_layers, n_windows, n_answers;
} ptq_source_point;
ptq_status ptq_source_read_point(const ptq_source *s, int64_t i,
                                 ptq_source_point *out, ptq_err *err);
void ptq_source_point_release(ptq_source_point *p);

/** `n` rows of a set from row `at` on, as C rows; freed with ptq_free. */
ptq_status ptq_source_rows(const ptq_source *s, ptq_set_id id, int64_t at,
                           int64_t n, void *out, ptq_err *err);

#endif /* PTQ_STORE_SOURCE_H */
