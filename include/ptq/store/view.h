/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file view.h
 * Reading a store, also while a run is writing it: whole tables as C rows.
 * Needs no MPI.
 */
#ifndef PTQ_STORE_VIEW_H
#define PTQ_STORE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/base/text.h"
#include "ptq/record/rows.h"

typedef struct ptq_view ptq_view;

/** Open read-only. PTQ_E_IO, PTQ_E_FORMAT (not a store, or of a newer
 * schema). */
ptq_status ptq_view_open(const char *path, ptq_view **out, ptq_err *err);
void ptq_view_close(ptq_view *v);

/** Names the file in messages; borrowed. */
const char *ptq_view_path(const ptq_view *v);
/** Is a run writing the store now? *pid is one of its processes, on its own
 * host. Never from a process that writes it itself: looking would drop its
 * lock. */
bool ptq_view_running(const ptq_view *v, long *pid);
/** Text of a root attribute (spec_text, uuid, created, ...), "" if absent;
 * borrowed until close. */
const char *ptq_view_attribute(const ptq_view *v, const char *name);

/** Rows of a table; loaded at first use, borrowed until close. Numbers of rows
 * without a finished point or model are NaN, whatever is being written there.
 * For ATTEMPTS one row a point. `*rows` has *n elements of the table's C row.
 */
ptq_status ptq_view_table(ptq_view *v, ptq_table_id id, const void **rows,
                          int64_t *n, ptq_err *err);
/** States: one int a point, one a subject; borrowed. */
ptq_status ptq_view_states(ptq_view *v, const int **points, int64_t *n_points,
                           const int **subjects, int64_t *n_subjects,
                           ptq_err *err);
/** Subject of every point and first layer and window row of every point,
 * [n_points] and [n_points + 1]; borrowed. */
ptq_status ptq_view_index(ptq_view *v, const int64_t **subject,
                          const int64_t **first_layer,
                          const int64_t **first_window, ptq_err *err);

/** First row in ANSWERS of every point, [n_points + 1], and in
 * BASELINE_ANSWERS of every subject, [n_subjects + 1]; all 0 in stores of
 * sweeps without requests. Borrowed. */
void ptq_view_answers(const ptq_view *v, const int64_t **first_answer,
                      const int64_t **first_baseline_answer);

/** States and first row of PROFILES, DIRECTION_LAYERS and RITZ of every
 * direction, [n] and [n + 1]; borrowed. Stores of sweeps without a landscape
 * have none. */
typedef struct ptq_view_landscape {
  int64_t n;
  const int *state;
  const int64_t *first_profile, *first_layer, *first_ritz;
} ptq_view_landscape;
void ptq_view_directions(const ptq_view *v, ptq_view_landscape *out);

/** Attempts at the models' own items: one row a subject, or one a direction;
 * borrowed. PTQ_E_IO, PTQ_E_NOMEM. */
ptq_status ptq_view_item_attempts(ptq_view *v, bool directions,
                                  const ptq_attempt_row **rows, ptq_err *err);

/** One spectrum dataset. */
typedef struct ptq_view_spectrum {
  char group[80], site[32];
  int64_t subject, n_blocks, d, n_tokens;
  double *values; /* owned by the view; [n_blocks, d], NaN until done */
} ptq_view_spectrum;
ptq_status ptq_view_spectra(ptq_view *v, const ptq_view_spectrum **out,
                            int64_t *n, ptq_err *err);

/** The last lines of /log, at most `last`, each ended by a newline, added to
 * `out`. */
ptq_status ptq_view_log(ptq_view *v, int64_t last, ptq_text *out, ptq_err *err);

/** Recompute the checksum of every finished row: points with their layers and
 * windows, models with their windows, directions with their profiles, spectra.
 * One line for each bad one goes to `report` (may be NULL). Also while a run is
 * writing. */
ptq_status ptq_view_verify(ptq_view *v,
                           void (*report)(void *ctx, const char *line),
                           void *ctx, int64_t *n_checked, int64_t *n_bad,
                           ptq_err *err);

#endif /* PTQ_STORE_VIEW_H */
