/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every write here goes payload, checksum, state: a process killed between
 * any two of them leaves a row that is not marked done. A row about to be
 * replaced is marked STARTED first for the same reason. A failed row gets its
 * checksum last and loses it first: one that is STARTED with a failed row's
 * checksum was damaged.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "integrity.h"
#include "logring.h"
#include "pack.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "steps.h"
#include "store_impl.h"

/* Time of an attempt that has not ended. */
#define UNKNOWN_SECONDS ((double)NAN)

ptq_status ptq_store_write_state(const ptq_h5_set *set, int64_t row, int state,
                                 ptq_err *err) {
  const unsigned char byte = (unsigned char)state;
  return ptq_h5_write(set, row, 1, &byte, err);
}

ptq_status ptq_store_read_state(const ptq_h5_set *set, int64_t row, int *state,
                                ptq_err *err) {
  unsigned char byte = 0;
  const ptq_status rc = ptq_h5_read(set, row, 1, &byte, err);
  *state = byte;
  return rc;
}

ptq_status ptq_store_write_sum(const ptq_h5_set *set, int64_t row, uint32_t sum,
                               ptq_err *err) {
  unsigned char bytes[4];
  ptq_put_u32(bytes, sum);
  return ptq_h5_write(set, row, 1, bytes, err);
}

/* Read and write one row of a table as the C row. */
ptq_status ptq_store_read_row(const ptq_h5_set *set, const ptq_table *t,
                              int64_t row, void *out, ptq_err *err) {
  ptq_pack_column columns[64];
  unsigned char raw[4096];
  if (set->row_bytes > sizeof raw || t->n_fields > 64)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED, "store '%s': row of '%s'",
                    set->path, set->name);
  ptq_pack_columns(t, columns);
  const ptq_status rc = ptq_h5_read(set, row, 1, raw, err);
  if (rc == PTQ_OK) ptq_unpack_rows(t, columns, set->row_bytes, raw, 1, out);
  return rc;
}

/* What an ended attempt leaves: time, place, and why it failed. */
static ptq_status end_attempt(ptq_store *st, ptq_set_id id, int64_t row,
                              double seconds, const char *message,
                              ptq_err *err) {
  ptq_attempt_row a;
  const ptq_status rc = ptq_attempt_read(st, id, row, &a, err);
  if (rc != PTQ_OK) return rc;
  a.seconds = seconds;
  (void)ptq_text_copy(a.message, sizeof a.message, message);
  return ptq_attempt_write(st, id, row, &a, err);
}

ptq_status ptq_store_check_point(const ptq_store *st, int64_t point,
                                 ptq_err *err) {
  if (point >= 0 && point < st->sets.n_points) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG, "store '%s': no point %lld", st->path,
                  (long long)point);
}

/* A result's identity is the grid's. A row without `name` takes its text and
 * integers from the store; one that has it must be of that point. */
static ptq_status take_identity(const ptq_h5_set *set, const ptq_table *t,
                                int64_t row, const char *name, void *inout,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  union {
    ptq_point_row point;
    ptq_model_row model;
    ptq_direction_row direction;
  } stored;
  const ptq_field *id = ptq_table_field(t, name);
  PTQ_TRY(ptq_store_read_row(set, t, row, &stored, err));
  const char *ours = (const char *)inout + id->offset;
  const char *theirs = (const char *)&stored + id->offset;
  if (ours[0] != '\0') {
    if (strncmp(ours, theirs, id->size) != 0)
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "store '%s': row %lld of '%s' is '%.64s', not '%.64s'",
                    set->path, (long long)row, set->name, theirs, ours);
    goto done;
  }
  for (size_t i = 0; i < t->n_fields; i++) {
    const ptq_field *f = &t->fields[i];
    int64_t given = 0;
    if (f->kind == PTQ_KIND_F64) continue;
    if (f->kind == PTQ_KIND_I64)
      memcpy(&given, (const char *)inout + f->offset, sizeof given);
    if (given == 0)
      memcpy((char *)inout + f->offset, (const char *)&stored + f->offset,
             f->size);
  }
done:
  return rc;
}

/* A row without a result says so in every number. */
static void clear_results(const ptq_table *t, void *row) {
  const double nothing = (double)NAN;
  for (size_t i = 0; i < t->n_fields; i++)
    if (t->fields[i].kind == PTQ_KIND_F64)
      memcpy((char *)row + t->fields[i].offset, &nothing, sizeof nothing);
}

/* One owner's rows, packed one behind the other in st->scratch. */
typedef struct package {
  const ptq_h5_set *rows, *part[PTQ_PARTS];
  int64_t row, at[PTQ_PARTS], n[PTQ_PARTS];
  unsigned char *bytes[1 + PTQ_PARTS]; /* in st->scratch: row, parts */
} package;

/* The rows of a part in memory, and their table. */
typedef struct given {
  const ptq_table *table; /* borrowed */
  const void *rows;       /* borrowed */
} given;

static ptq_status pack(ptq_store *st, package *p, const ptq_table *t,
                       const void *row, const given parts[PTQ_PARTS],
                       ptq_err *err) {
  int64_t size = (int64_t)p->rows->row_bytes;
  for (int i = 0; i < PTQ_PARTS; i++)
    if (p->n[i] > 0) size += p->n[i] * (int64_t)p->part[i]->row_bytes;
  const ptq_status rc = ptq_store_scratch(st, size, err);
  if (rc != PTQ_OK) return rc;
  p->bytes[0] = st->scratch;
  ptq_pack_rows(t, row, 1, p->bytes[0]);
  unsigned char *at = st->scratch + p->rows->row_bytes;
  for (int i = 0; i < PTQ_PARTS; i++) {
    p->bytes[i + 1] = at;
    if (p->n[i] == 0) continue;
    ptq_pack_rows(parts[i].table, parts[i].rows, p->n[i], at);
    at += (size_t)p->n[i] * p->part[i]->row_bytes;
  }
  return PTQ_OK;
}

static uint32_t package_sum(const package *p, int64_t head, ptq_state state) {
  ptq_integrity_part part[PTQ_PARTS] = {{NULL, 0}};
  for (int i = 0; i < PTQ_PARTS; i++)
    if (p->n[i] > 0)
      part[i] = (ptq_integrity_part){p->bytes[i + 1],
                                     (size_t)p->n[i] * p->part[i]->row_bytes};
  return ptq_integrity_sum(head, (int)state, p->bytes[0], p->rows->row_bytes,
                           part);
}

/* Is there anything to write? Not when the very same result stands there
 * already, nor when a failure would replace a result. */
static ptq_status is_needed(const package *p, const ptq_h5_set *states,
                            const ptq_h5_set *sums, uint32_t sum,
                            ptq_state state, bool *needed, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int before = PTQ_STATE_PENDING;
  unsigned char stored[4] = {0};
  PTQ_TRY(ptq_store_read_state(states, p->row, &before, err));
  PTQ_TRY(ptq_h5_read(sums, p->row, 1, stored, err));
  *needed = before != PTQ_STATE_DONE ||
            (state == PTQ_STATE_DONE && ptq_get_u32(stored) != sum);
  if (*needed && before == PTQ_STATE_FAILED)
    PTQ_TRY(ptq_store_write_sum(sums, p->row, 0, err));
  if (*needed && before != PTQ_STATE_STARTED)
    PTQ_TRY(ptq_store_write_state(states, p->row, PTQ_STATE_STARTED, err));
done:
  return rc;
}

/* Everything written so far, by whichever descriptor, is on the disk. */
static ptq_status reach_disk(const ptq_store *st, ptq_err *err) {
  if (!st->durable) return PTQ_OK;
  if (!ptq_fault() && fdatasync(st->words.fd) == 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot reach the disk: %s",
                  st->path, strerror(errno));
}

static ptq_status write_package(const ptq_store *st, const package *p,
                                const ptq_h5_set *states,
                                const ptq_h5_set *sums, uint32_t sum,
                                ptq_state state, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int i = 0; i < PTQ_PARTS; i++)
    if (p->n[i] > 0)
      PTQ_TRY(
          ptq_h5_write(p->part[i], p->at[i], p->n[i], p->bytes[i + 1], err));
  PTQ_TRY(ptq_h5_write(p->rows, p->row, 1, p->bytes[0], err));
  if (state == PTQ_STATE_DONE)
    PTQ_TRY(ptq_store_write_sum(sums, p->row, sum, err));
  PTQ_TRY(reach_disk(st, err));
  PTQ_TRY(ptq_store_write_state(states, p->row, (int)state, err));
  if (state == PTQ_STATE_FAILED)
    PTQ_TRY(ptq_store_write_sum(sums, p->row, sum, err));
  PTQ_TRY(reach_disk(st, err));
done:
  return rc;
}

static ptq_status check_count(const ptq_h5_set *set, int64_t row, int64_t have,
                              int64_t want, ptq_err *err) {
  if (have == want) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "store '%s': %lld rows of '%s' for row %lld, place for %lld",
                  set->path, (long long)have, set->name, (long long)row,
                  (long long)want);
}

ptq_status ptq_store_put_point(ptq_store *st, const ptq_point_result *r,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_POINTS);
  const given parts[PTQ_PARTS] = {
      {ptq_table_get(PTQ_TABLE_LAYERS), r->layers},
      {ptq_table_get(PTQ_TABLE_WINDOWS), r->windows},
      {ptq_table_get(PTQ_TABLE_ANSWERS), r->answers}};
  const bool finished = r->state == PTQ_STATE_DONE;
  package p = {.rows = &s->set[PTQ_SET_POINTS],
               .part = {&s->set[PTQ_SET_LAYERS], &s->set[PTQ_SET_WINDOWS],
                        &s->set[PTQ_SET_ANSWERS]},
               .row = r->point};
  const ptq_h5_set *states = &s->set[PTQ_SET_STATE],
                   *sums = &s->set[PTQ_SET_CHECKSUM];
  ptq_point_row row = r->row;
  bool needed = false;
  PTQ_TRY(ptq_store_check_point(st, r->point, err));
  PTQ_TRY(ptq_store_still_there(st, err));
  if (!finished && r->state != PTQ_STATE_FAILED)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "store '%s': point %lld has state %s",
                     st->path, (long long)r->point,
                     ptq_state_name((int)r->state)));
  if (finished) {
    const int64_t *first[PTQ_PARTS] = {s->first_layer, s->first_window,
                                       s->first_answer};
    const int64_t have[PTQ_PARTS] = {r->n_layers, r->n_windows, r->n_answers};
    for (int i = 0; i < PTQ_PARTS; i++) {
      p.at[i] = first[i][r->point];
      p.n[i] = first[i][r->point + 1] - p.at[i];
      PTQ_TRY(check_count(p.part[i], r->point, have[i], p.n[i], err));
    }
  }
  PTQ_TRY(take_identity(p.rows, t, r->point, "key", &row, err));
  if (!finished) clear_results(t, &row);
  PTQ_TRY(pack(st, &p, t, &row, parts, err));
  const uint32_t sum = package_sum(&p, s->subject[r->point], r->state);
  PTQ_TRY(is_needed(&p, states, sums, sum, r->state, &needed, err));
  if (!needed) goto done;
  /* Not a result, but why a point failed belongs to its state. */
  PTQ_TRY(
      end_attempt(st, PTQ_SET_ATTEMPTS, r->point, r->seconds, r->message, err));
  PTQ_TRY(write_package(st, &p, states, sums, sum, r->state, err));
done:
  ptq_words_finish(&st->words, r->point);
  return rc;
}

static const ptq_spectrum *find_spectrum(const ptq_subject_result *r,
                                         const char *site) {
  for (int64_t i = 0; i < r->n_spectra; i++)
    if (r->spectra[i].values != NULL && strcmp(r->spectra[i].site, site) == 0)
      return &r->spectra[i];
  return NULL;
}

static ptq_status put_spectrum(ptq_store *st, int64_t i, const ptq_spectrum *v,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  const ptq_spectrum_slot *slot = &s->spectra[i];
  ptq_h5_set set = PTQ_H5_SET_NONE;
  unsigned char tokens[8];
  const size_t size = (size_t)slot->n_blocks * (size_t)slot->d * 8;
  if (v->n_blocks != slot->n_blocks || v->d != slot->d)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "store '%s': spectrum '%s/%s' is %lld x %lld, place for "
                     "%lld x %lld",
                     st->path, slot->group, slot->site, (long long)v->n_blocks,
                     (long long)v->d, (long long)slot->n_blocks,
                     (long long)slot->d));
  PTQ_TRY(ptq_store_scratch(st, (int64_t)size, err));
  for (size_t k = 0; k < size / 8; k++) {
    int64_t bits;
    memcpy(&bits, &v->values[k], sizeof bits);
    ptq_pack_i64(st->scratch + 8 * k, bits);
  }
  ptq_pack_i64(tokens, v->n_tokens);
  const ptq_integrity_part values[PTQ_PARTS] = {{st->scratch, size}};
  const uint32_t sum = ptq_integrity_sum(slot->subject, PTQ_STATE_DONE, tokens,
                                         sizeof tokens, values);
  PTQ_TRY(ptq_sets_spectrum(s, i, &set, err));
  PTQ_TRY(ptq_store_write_state(&s->set[PTQ_SET_SPECTRA_STATE], i,
                                PTQ_STATE_STARTED, err));
  PTQ_TRY(ptq_h5_write(&set, 0, set.rows, st->scratch, err));
  PTQ_TRY(ptq_h5_write(&s->set[PTQ_SET_SPECTRA_TOKENS], i, 1, tokens, err));
  PTQ_TRY(ptq_store_write_sum(&s->set[PTQ_SET_SPECTRA_CHECKSUM], i, sum, err));
  PTQ_TRY(ptq_store_write_state(&s->set[PTQ_SET_SPECTRA_STATE], i,
                                PTQ_STATE_DONE, err));
done:
  ptq_h5_close(&set);
  return rc;
}

static ptq_status put_spectra(ptq_store *st, const ptq_subject_result *r,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < st->sets.n_spectra; i++) {
    const ptq_spectrum_slot *slot = &st->sets.spectra[i];
    if (slot->subject != r->subject) continue;
    const ptq_spectrum *v = find_spectrum(r, slot->site);
    if (v == NULL)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "store '%s': no spectrum for '%s/%s'",
                       st->path, slot->group, slot->site));
    PTQ_TRY(put_spectrum(st, i, v, err));
  }
done:
  return rc;
}

ptq_status ptq_store_put_subject(ptq_store *st, const ptq_subject_result *r,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_MODELS);
  const given parts[PTQ_PARTS] = {
      {ptq_table_get(PTQ_TABLE_BASELINE), r->windows},
      {ptq_table_get(PTQ_TABLE_BASELINE_ANSWERS), r->answers}};
  const ptq_h5_set *states = &s->set[PTQ_SET_MODELS_STATE],
                   *sums = &s->set[PTQ_SET_MODELS_CHECKSUM];
  const bool finished = r->state == PTQ_STATE_DONE;
  package p = {
      .rows = &s->set[PTQ_SET_MODELS],
      .part = {&s->set[PTQ_SET_BASELINE], &s->set[PTQ_SET_BASELINE_ANSWERS]},
      .row = r->subject};
  ptq_model_row row = r->row;
  bool needed = false;
  if (r->subject < 0 || r->subject >= s->n_subjects ||
      (!finished && r->state != PTQ_STATE_FAILED))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "store '%s': model %lld in state %s",
                     st->path, (long long)r->subject,
                     ptq_state_name((int)r->state)));
  PTQ_TRY(ptq_store_still_there(st, err));
  PTQ_TRY(take_identity(p.rows, t, r->subject, "model", &row, err));
  if (!finished) clear_results(t, &row);
  if (finished) {
    const int64_t *first[2] = {s->first_baseline, s->first_baseline_answer};
    const int64_t have[2] = {r->n_windows, r->n_answers};
    for (int i = 0; i < 2; i++) {
      p.at[i] = first[i][r->subject];
      p.n[i] = first[i][r->subject + 1] - p.at[i];
      PTQ_TRY(check_count(p.part[i], r->subject, have[i], p.n[i], err));
    }
  }
  PTQ_TRY(pack(st, &p, t, &row, parts, err));
  const uint32_t sum = package_sum(&p, 0, r->state);
  PTQ_TRY(is_needed(&p, states, sums, sum, r->state, &needed, err));
  if (!needed) goto done;
  if (finished) PTQ_TRY(put_spectra(st, r, err));
  PTQ_TRY(pack(st, &p, t, &row, parts, err)); /* spectra used it */
  PTQ_TRY(end_attempt(st, PTQ_SET_MODELS_ATTEMPTS, r->subject, r->seconds,
                      r->message, err));
  PTQ_TRY(write_package(st, &p, states, sums, sum, r->state, err));
done:
  return rc;
}

/* The rows of a direction, where they stand in the store. */
static ptq_status place_direction(const ptq_store *st,
                                  const ptq_direction_result *r, package *p,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  const int64_t *first[PTQ_PARTS] = {s->first_profile, s->first_direction_layer,
                                     s->first_ritz};
  const int64_t have[PTQ_PARTS] = {r->n_profile, r->n_layers, r->n_ritz};
  for (int i = 0; i < PTQ_PARTS; i++) {
    p->at[i] = first[i][r->direction];
    p->n[i] = first[i][r->direction + 1] - p->at[i];
    PTQ_TRY(check_count(p->part[i], r->direction, have[i], p->n[i], err));
  }
done:
  return rc;
}

ptq_status ptq_store_put_direction(ptq_store *st, const ptq_direction_result *r,
                                   ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_DIRECTIONS);
  const given parts[PTQ_PARTS] = {
      {ptq_table_get(PTQ_TABLE_PROFILES), r->profile},
      {ptq_table_get(PTQ_TABLE_DIRECTION_LAYERS), r->layers},
      {ptq_table_get(PTQ_TABLE_RITZ), r->ritz}};
  const ptq_h5_set *states = &s->set[PTQ_SET_DIRECTIONS_STATE],
                   *sums = &s->set[PTQ_SET_DIRECTIONS_CHECKSUM];
  const bool finished = r->state == PTQ_STATE_DONE;
  package p = {
      .rows = &s->set[PTQ_SET_DIRECTIONS],
      .part = {&s->set[PTQ_SET_PROFILES], &s->set[PTQ_SET_DIRECTION_LAYERS],
               &s->set[PTQ_SET_RITZ]},
      .row = r->direction};
  ptq_direction_row row = r->row;
  bool needed = false;
  if (r->direction < 0 || r->direction >= s->n_directions ||
      (!finished && r->state != PTQ_STATE_FAILED))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "store '%s': direction %lld in state %s",
                     st->path, (long long)r->direction,
                     ptq_state_name((int)r->state)));
  PTQ_TRY(ptq_store_still_there(st, err));
  PTQ_TRY(take_identity(p.rows, t, r->direction, "key", &row, err));
  if (!finished) clear_results(t, &row);
  if (finished) PTQ_TRY(place_direction(st, r, &p, err));
  PTQ_TRY(pack(st, &p, t, &row, parts, err));
  const uint32_t sum = package_sum(&p, 0, r->state);
  PTQ_TRY(is_needed(&p, states, sums, sum, r->state, &needed, err));
  if (!needed) goto done;
  PTQ_TRY(end_attempt(st, PTQ_SET_DIRECTIONS_ATTEMPTS, r->direction, r->seconds,
                      r->message, err));
  if (p.n[0] > 0)
    PTQ_TRY(ptq_steps_seal(s, r->direction, row.key, p.bytes[1], err));
  PTQ_TRY(write_package(st, &p, states, sums, sum, r->state, err));
done:
  return rc;
}

ptq_status ptq_store_mark(ptq_store *st, int64_t point, ptq_state state,
                          const char *message, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  const ptq_h5_set *states = &s->set[PTQ_SET_STATE];
  int before = PTQ_STATE_PENDING;
  PTQ_TRY(ptq_store_check_point(st, point, err));
  if (state == PTQ_STATE_FAILED) {
    /* A failed row has a checksum too: of its row as a new store has it. */
    ptq_point_result r = {.point = point, .state = state};
    r.seconds = UNKNOWN_SECONDS;
    ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), &r.row);
    (void)ptq_text_copy(r.message, sizeof r.message, message);
    return ptq_store_put_point(st, &r, err);
  }
  if (state == PTQ_STATE_DONE)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "store '%s': point %lld cannot be done without results",
                     st->path, (long long)point));
  PTQ_TRY(ptq_store_read_state(states, point, &before, err));
  if (before == PTQ_STATE_DONE) goto done;
  PTQ_TRY(ptq_store_write_sum(&s->set[PTQ_SET_CHECKSUM], point, 0, err));
  PTQ_TRY(ptq_store_write_state(states, point, PTQ_STATE_STARTED, err));
  PTQ_TRY(ptq_store_write_state(states, point, (int)state, err));
  PTQ_TRY(
      end_attempt(st, PTQ_SET_ATTEMPTS, point, UNKNOWN_SECONDS, message, err));
done:
  return rc;
}

ptq_status ptq_store_log(ptq_store *st, const char *line, ptq_err *err) {
  return ptq_logring_add(&st->sets, line, err);
}
