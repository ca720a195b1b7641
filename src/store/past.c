/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Attempts: begun before the work, counted when it ends. What ends with the
 * whole run (a stop, a kill, a dead node) is nobody's fault; what a rank dies
 * of is held against the point that it ran alone.
 */
#include <math.h>
#include <string.h>

#include "attempt.h"
#include "pack.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "store_impl.h"

enum { SLAB_ROWS = 4096 };

ptq_status ptq_attempt_read(ptq_store *st, ptq_set_id id, int64_t row,
                            ptq_attempt_row *out, ptq_err *err) {
  return ptq_attempt_get(&st->sets, id, row, out, err);
}

ptq_status ptq_attempt_write(ptq_store *st, ptq_set_id id, int64_t row,
                             const ptq_attempt_row *a, ptq_err *err) {
  ptq_attempt_row own = *a;
  own.rank = st->rank;
  (void)ptq_text_copy(own.host, sizeof own.host, st->host);
  return ptq_attempt_put(&st->sets, id, row, &own, err);
}

/* A row's tables: of points, of models or of directions. */
typedef struct kind {
  ptq_set_id attempts, state, checksum;
} kind;
static const kind of_points = {PTQ_SET_ATTEMPTS, PTQ_SET_STATE,
                               PTQ_SET_CHECKSUM};
static const kind of_models = {PTQ_SET_MODELS_ATTEMPTS, PTQ_SET_MODELS_STATE,
                               PTQ_SET_MODELS_CHECKSUM};

static const kind of_directions = {PTQ_SET_DIRECTIONS_ATTEMPTS,
                                   PTQ_SET_DIRECTIONS_STATE,
                                   PTQ_SET_DIRECTIONS_CHECKSUM};

static ptq_status check_row(const ptq_store *st, const kind *k, int64_t row,
                            ptq_err *err) {
  if (row >= 0 && row < st->sets.set[k->state].rows) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG, "store '%s': no row %lld of '%s'", st->path,
                  (long long)row, st->sets.set[k->state].name);
}

/* *deaths is the row's count. */
static ptq_status begin_row(ptq_store *st, const kind *k, int64_t row,
                            int64_t *deaths, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *states = &st->sets.set[k->state];
  ptq_attempt_row a;
  int state = PTQ_STATE_PENDING;
  PTQ_TRY(check_row(st, k, row, err));
  PTQ_TRY(ptq_attempt_read(st, k->attempts, row, &a, err));
  a.attempts++;
  a.seconds = (double)NAN; /* until it has ended */
  (void)ptq_text_copy(a.message, sizeof a.message, "");
  PTQ_TRY(ptq_attempt_write(st, k->attempts, row, &a, err));
  PTQ_TRY(ptq_store_read_state(states, row, &state, err));
  /* Done meanwhile by a rank that was given up: its result stands. */
  if (state != PTQ_STATE_DONE) {
    /* A failed row had one. */
    PTQ_TRY(ptq_store_write_sum(&st->sets.set[k->checksum], row, 0, err));
    PTQ_TRY(ptq_store_write_state(states, row, PTQ_STATE_STARTED, err));
  }
  *deaths = a.deaths;
done:
  return rc;
}

ptq_status ptq_store_begin(ptq_store *st, const int64_t *points, int64_t n,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t deaths = 0;
  PTQ_TRY(ptq_store_still_there(st, err));
  for (int64_t i = 0; i < n; i++)
    PTQ_TRY(begin_row(st, &of_points, points[i], &deaths, err));
  PTQ_TRY(ptq_words_arm(&st->words, &st->sets, PTQ_SET_ATTEMPTS, points, n,
                        deaths, err));
done:
  return rc;
}

static ptq_status begin_alone(ptq_store *st, const kind *k, int64_t row,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t deaths = 0;
  PTQ_TRY(begin_row(st, k, row, &deaths, err));
  PTQ_TRY(
      ptq_words_arm(&st->words, &st->sets, k->attempts, &row, 1, deaths, err));
done:
  return rc;
}

ptq_status ptq_store_begin_subject(ptq_store *st, int64_t subject,
                                   ptq_err *err) {
  return begin_alone(st, &of_models, subject, err);
}

ptq_status ptq_store_begin_direction(ptq_store *st, int64_t direction,
                                     ptq_err *err) {
  return begin_alone(st, &of_directions, direction, err);
}

void ptq_store_rest(ptq_store *st) {
  ptq_words_disarm(&st->words);
}

/* An attempt that is not to count; the row waits again. */
static ptq_status take_back(ptq_store *st, const kind *k, int64_t row,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *states = &st->sets.set[k->state];
  ptq_attempt_row a;
  int state = PTQ_STATE_PENDING;
  PTQ_TRY(check_row(st, k, row, err));
  PTQ_TRY(ptq_store_read_state(states, row, &state, err));
  if (state != PTQ_STATE_STARTED) goto done;
  PTQ_TRY(ptq_attempt_read(st, k->attempts, row, &a, err));
  /* Where a rank died of it, or may have, the attempt stays, and the words. */
  if (a.attempts > 0 && a.message[0] == '\0') {
    a.attempts--;
    PTQ_TRY(ptq_attempt_write(st, k->attempts, row, &a, err));
  }
  /* Its writer may have come so far as the checksum. */
  PTQ_TRY(ptq_store_write_sum(&st->sets.set[k->checksum], row, 0, err));
  PTQ_TRY(ptq_store_write_state(states, row, PTQ_STATE_PENDING, err));
done:
  return rc;
}

ptq_status ptq_store_drop(ptq_store *st, int64_t point, ptq_err *err) {
  return take_back(st, &of_points, point, err);
}

static ptq_status reset_kind(ptq_store *st, const kind *k, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *states = &st->sets.set[k->state];
  unsigned char *state = NULL;
  PTQ_TRY(ptq_alloc(&state, states->rows, 1, "states", err));
  PTQ_TRY(ptq_h5_read(states, 0, states->rows, state, err));
  for (int64_t i = 0; i < states->rows; i++)
    if (state[i] == PTQ_STATE_STARTED) PTQ_TRY(take_back(st, k, i, err));
done:
  ptq_free(state);
  return rc;
}

ptq_status ptq_past_reset(ptq_store *st, ptq_err *err) {
  ptq_status rc = reset_kind(st, &of_points, err);
  if (rc == PTQ_OK) rc = reset_kind(st, &of_models, err);
  return rc != PTQ_OK ? rc : reset_kind(st, &of_directions, err);
}

static ptq_status died(ptq_store *st, const kind *k, int64_t row,
                       int64_t deaths, const char *who, ptq_err *err) {
  ptq_attempt_row a;
  ptq_status rc = check_row(st, k, row, err);
  if (rc == PTQ_OK) rc = ptq_attempt_read(st, k->attempts, row, &a, err);
  if (rc != PTQ_OK) return rc;
  if (a.deaths < deaths) a.deaths = deaths;
  if (a.message[0] == '\0')
    (void)ptq_text_copy(a.message, sizeof a.message, who);
  return ptq_attempt_write(st, k->attempts, row, &a, err);
}

ptq_status ptq_store_died(ptq_store *st, int64_t point, int64_t deaths,
                          const char *who, ptq_err *err) {
  return died(st, &of_points, point, deaths, who, err);
}

ptq_status ptq_store_died_subject(ptq_store *st, int64_t subject,
                                  int64_t deaths, const char *who,
                                  ptq_err *err) {
  return died(st, &of_models, subject, deaths, who, err);
}

ptq_status ptq_store_died_direction(ptq_store *st, int64_t direction,
                                    int64_t deaths, const char *who,
                                    ptq_err *err) {
  return died(st, &of_directions, direction, deaths, who, err);
}

static ptq_status last_words(ptq_store *st, const kind *k, int64_t row,
                             char text[128], ptq_err *err) {
  ptq_attempt_row a;
  text[0] = '\0';
  ptq_status rc = check_row(st, k, row, err);
  if (rc == PTQ_OK) rc = ptq_attempt_read(st, k->attempts, row, &a, err);
  if (rc != PTQ_OK) return rc;
  const size_t n = sizeof PTQ_WORDS_PREFIX - 1;
  if (strncmp(a.message, PTQ_WORDS_PREFIX, n) == 0)
    (void)ptq_text_copy(text, 128, a.message);
  return PTQ_OK;
}

ptq_status ptq_store_last_words(ptq_store *st, int64_t point, char text[128],
                                ptq_err *err) {
  return last_words(st, &of_points, point, text, err);
}

static ptq_status forgive(ptq_store *st, const kind *k, int64_t row,
                          ptq_err *err) {
  ptq_attempt_row a;
  ptq_status rc = check_row(st, k, row, err);
  if (rc == PTQ_OK) rc = ptq_attempt_read(st, k->attempts, row, &a, err);
  if (rc != PTQ_OK || a.deaths == 0) return rc;
  a.deaths = 0;
  return ptq_attempt_write(st, k->attempts, row, &a, err);
}

ptq_status ptq_store_forgive(ptq_store *st, int64_t point, ptq_err *err) {
  return forgive(st, &of_points, point, err);
}

ptq_status ptq_store_forgive_subject(ptq_store *st, int64_t subject,
                                     ptq_err *err) {
  return forgive(st, &of_models, subject, err);
}

ptq_status ptq_store_forgive_direction(ptq_store *st, int64_t direction,
                                       ptq_err *err) {
  return forgive(st, &of_directions, direction, err);
}

static ptq_status load_past(ptq_store *st, const kind *k, ptq_store_past *out,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_ATTEMPTS);
  const ptq_h5_set *set = &st->sets.set[k->attempts],
                   *states = &st->sets.set[k->state];
  ptq_pack_column columns[16];
  unsigned char *raw = NULL, *state = NULL;
  ptq_attempt_row *rows = NULL;
  ptq_pack_columns(t, columns);
  PTQ_TRY(ptq_alloc(&raw, SLAB_ROWS, set->row_bytes, set->name, err));
  PTQ_TRY(ptq_alloc(&rows, SLAB_ROWS, sizeof *rows, set->name, err));
  PTQ_TRY(ptq_alloc(&state, SLAB_ROWS, 1, set->name, err));
  for (int64_t at = 0; at < set->rows; at += SLAB_ROWS) {
    const int64_t n = set->rows - at < SLAB_ROWS ? set->rows - at : SLAB_ROWS;
    PTQ_TRY(ptq_h5_read(set, at, n, raw, err));
    PTQ_TRY(ptq_h5_read(states, at, n, state, err));
    ptq_unpack_rows(t, columns, set->row_bytes, raw, n, rows);
    for (int64_t i = 0; i < n; i++) {
      const bool waits = state[i] == PTQ_STATE_PENDING;
      out[at + i] = (ptq_store_past){
          .deaths = rows[i].deaths,
          .suspect =
              waits && (rows[i].deaths > 0 || rows[i].message[0] != '\0')};
    }
  }
done:
  ptq_free(state);
  ptq_free(rows);
  ptq_free(raw);
  return rc;
}

ptq_status ptq_store_history(ptq_store *st, ptq_store_past *points,
                             ptq_store_past *subjects, ptq_err *err) {
  const ptq_status rc = load_past(st, &of_points, points, err);
  return rc != PTQ_OK ? rc : load_past(st, &of_models, subjects, err);
}

ptq_status ptq_past_directions(ptq_store *st, ptq_store_past *out,
                               ptq_err *err) {
  return load_past(st, &of_directions, out, err);
}
