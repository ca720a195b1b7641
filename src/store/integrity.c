/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "integrity.h"

#include <stdio.h>

#include "pack.h"
#include "ptq/base/mem.h"

/* Rows are read in runs of owners: as many as fit about this many bytes. */
enum { RUN_BYTES = 8 << 20, RUN_OWNERS = 4096 };

uint32_t ptq_get_u32(const unsigned char b[4]) {
  return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
         (uint32_t)b[3] << 24;
}

void ptq_put_u32(unsigned char b[4], uint32_t v) {
  for (int i = 0; i < 4; i++) b[i] = (unsigned char)(v >> (8 * i));
}

uint32_t ptq_integrity_sum(int64_t head, int state, const unsigned char *row,
                           size_t row_size,
                           const ptq_integrity_part part[PTQ_PARTS]) {
  unsigned char first[9];
  ptq_pack_i64(first, head);
  first[8] = (unsigned char)state;
  uint32_t crc = ptq_crc(0, first, sizeof first);
  crc = ptq_crc(crc, row, row_size);
  for (int i = 0; part != NULL && i < PTQ_PARTS; i++)
    if (part[i].size > 0) crc = ptq_crc(crc, part[i].bytes, part[i].size);
  return ptq_crc_stored(crc);
}

/* Owners (points or models) with their own row and up to PTQ_PARTS further
 * tables whose rows [first[i], first[i + 1]) are theirs. */
typedef struct owners {
  const char *kind;
  const ptq_h5_set *rows, *state, *checksum, *part[PTQ_PARTS];
  const int64_t *head;             /* borrowed; NULL: 0 */
  const int64_t *first[PTQ_PARTS]; /* borrowed; NULL where there is no part */
} owners;

/* A table's rows read so far for one run of owners. */
typedef struct slab {
  unsigned char *bytes; /* owned */
  int64_t cap;
} slab;

static ptq_status load(slab *b, const ptq_h5_set *set, int64_t at, int64_t n,
                       ptq_err *err) {
  const int64_t need = n * (int64_t)set->row_bytes;
  if (need > b->cap) {
    ptq_free(b->bytes);
    b->cap = 0;
    const ptq_status rc = ptq_alloc(&b->bytes, need, 1, set->name, err);
    if (rc != PTQ_OK) return rc;
    b->cap = need;
  }
  return ptq_h5_read(set, at, n, b->bytes, err);
}

static int64_t part_bytes(const owners *o, int part, int64_t i, int64_t n) {
  if (o->part[part] == NULL) return 0;
  return (o->first[part][i + n] - o->first[part][i]) *
         (int64_t)o->part[part]->row_bytes;
}

static int64_t all_bytes(const owners *o, int64_t i, int64_t n) {
  int64_t bytes = 0;
  for (int p = 0; p < PTQ_PARTS; p++) bytes += part_bytes(o, p, i, n);
  return bytes;
}

static int64_t run_length(const owners *o, int64_t i, int64_t end) {
  int64_t n = 1;
  while (i + n < end && n < RUN_OWNERS && all_bytes(o, i, n + 1) < RUN_BYTES)
    n++;
  return n;
}

/* NULL when the row is as its state says. */
static const char *judge(unsigned state, uint32_t stored, uint32_t computed,
                         char *text, size_t size) {
  if (state > PTQ_STATE_FAILED) {
    (void)snprintf(text, size, "state %u does not exist", state);
    return text;
  }
  if (state == PTQ_STATE_PENDING)
    return stored != 0 ? "pending, but it has a checksum" : NULL;
  /* Its writer gets no further: failed rows have their checksums last. */
  if (state == PTQ_STATE_STARTED)
    return stored != 0 && stored == computed
               ? "started, but it has a failed row's checksum"
               : NULL;
  if (stored == computed || (state == PTQ_STATE_FAILED && stored == 0))
    return NULL;
  (void)snprintf(text, size, "checksum %08x stored, %08x computed",
                 (unsigned)stored, (unsigned)computed);
  return text;
}

/* A run may be writing the row: is it still as it was read? */
static bool unchanged(const owners *o, int64_t i, unsigned char state,
                      const unsigned char *checksum) {
  unsigned char state_now = 0, checksum_now[4] = {0};
  return ptq_h5_read(o->state, i, 1, &state_now, NULL) != PTQ_OK ||
         ptq_h5_read(o->checksum, i, 1, checksum_now, NULL) != PTQ_OK ||
         (state == state_now &&
          ptq_get_u32(checksum) == ptq_get_u32(checksum_now));
}

/* Is there a checksum to compare with? */
static bool is_judged(unsigned state, const unsigned char *checksum) {
  return state == PTQ_STATE_DONE || state == PTQ_STATE_FAILED ||
         (state == PTQ_STATE_STARTED && ptq_get_u32(checksum) != 0);
}

/* One run: owners [i, i + n), whose states and checksums are given. */
static ptq_status check_run(const owners *o, int64_t i, int64_t n,
                            const unsigned char *state,
                            const unsigned char *checksum,
                            slab slabs[PTQ_PARTS + 1],
                            ptq_integrity_report report, void *ctx,
                            int64_t *n_checked, int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool any = false;
  for (int64_t k = 0; k < n; k++)
    any = any || is_judged(state[k], checksum + 4 * k);
  if (any) {
    PTQ_TRY(load(&slabs[PTQ_PARTS], o->rows, i, n, err));
    for (int p = 0; p < PTQ_PARTS; p++)
      if (o->part[p] != NULL)
        PTQ_TRY(load(&slabs[p], o->part[p], o->first[p][i],
                     o->first[p][i + n] - o->first[p][i], err));
  }
  for (int64_t k = 0; k < n; k++) {
    char text[64];
    const bool done = state[k] == PTQ_STATE_DONE;
    uint32_t computed = 0;
    if (is_judged(state[k], checksum + 4 * k)) {
      ptq_integrity_part part[PTQ_PARTS] = {{NULL, 0}};
      for (int p = 0; done && p < PTQ_PARTS; p++) {
        part[p].size = (size_t)part_bytes(o, p, i + k, 1);
        if (part[p].size > 0)
          part[p].bytes = slabs[p].bytes + part_bytes(o, p, i, k);
      }
      const size_t row_size = o->rows->row_bytes;
      computed = ptq_integrity_sum(
          o->head != NULL ? o->head[i + k] : 0,
          done ? PTQ_STATE_DONE : PTQ_STATE_FAILED,
          slabs[PTQ_PARTS].bytes + (size_t)k * row_size, row_size, part);
      *n_checked += state[k] != PTQ_STATE_STARTED;
    }
    const char *why = judge(state[k], ptq_get_u32(checksum + 4 * k), computed,
                            text, sizeof text);
    if (why == NULL || !unchanged(o, i + k, state[k], checksum + 4 * k))
      continue;
    ++*n_bad;
    if (report != NULL) report(ctx, o->kind, i + k, why);
  }
done:
  return rc;
}

static ptq_status check_owners(const owners *o, int64_t begin, int64_t end,
                               ptq_integrity_report report, void *ctx,
                               int64_t *n_checked, int64_t *n_bad,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  unsigned char *state = NULL, *checksum = NULL;
  slab slabs[PTQ_PARTS + 1] = {{NULL, 0}};
  const int64_t n = end - begin;
  PTQ_TRY(ptq_alloc(&state, n, 1, "states", err));
  PTQ_TRY(ptq_alloc(&checksum, n, 4, "checksums", err));
  PTQ_TRY(ptq_h5_read(o->state, begin, n, state, err));
  PTQ_TRY(ptq_h5_read(o->checksum, begin, n, checksum, err));
  for (int64_t i = begin, some = 0; i < end; i += some) {
    some = run_length(o, i, end);
    PTQ_TRY(check_run(o, i, some, state + (i - begin),
                      checksum + 4 * (i - begin), slabs, report, ctx, n_checked,
                      n_bad, err));
  }
done:
  for (int i = 0; i <= PTQ_PARTS; i++) ptq_free(slabs[i].bytes);
  ptq_free(checksum);
  ptq_free(state);
  return rc;
}

ptq_status ptq_integrity_points(const ptq_sets *s, int64_t begin, int64_t end,
                                ptq_integrity_report report, void *ctx,
                                int64_t *n_checked, int64_t *n_bad,
                                ptq_err *err) {
  const owners o = {
      .kind = "point",
      .rows = &s->set[PTQ_SET_POINTS],
      .state = &s->set[PTQ_SET_STATE],
      .checksum = &s->set[PTQ_SET_CHECKSUM],
      .part = {&s->set[PTQ_SET_LAYERS], &s->set[PTQ_SET_WINDOWS],
               &s->set[PTQ_SET_ANSWERS]},
      .head = s->subject,
      .first = {s->first_layer, s->first_window, s->first_answer},
  };
  return check_owners(&o, begin, end, report, ctx, n_checked, n_bad, err);
}

ptq_status ptq_integrity_models(const ptq_sets *s, int64_t begin, int64_t end,
                                ptq_integrity_report report, void *ctx,
                                int64_t *n_checked, int64_t *n_bad,
                                ptq_err *err) {
  const owners o = {
      .kind = "model",
      .rows = &s->set[PTQ_SET_MODELS],
      .state = &s->set[PTQ_SET_MODELS_STATE],
      .checksum = &s->set[PTQ_SET_MODELS_CHECKSUM],
      .part = {&s->set[PTQ_SET_BASELINE], &s->set[PTQ_SET_BASELINE_ANSWERS]},
      .first = {s->first_baseline, s->first_baseline_answer},
  };
  return check_owners(&o, begin, end, report, ctx, n_checked, n_bad, err);
}

ptq_status ptq_integrity_directions(const ptq_sets *s, int64_t begin,
                                    int64_t end, ptq_integrity_report report,
                                    void *ctx, int64_t *n_checked,
                                    int64_t *n_bad, ptq_err *err) {
  const owners o = {
      .kind = "direction",
      .rows = &s->set[PTQ_SET_DIRECTIONS],
      .state = &s->set[PTQ_SET_DIRECTIONS_STATE],
      .checksum = &s->set[PTQ_SET_DIRECTIONS_CHECKSUM],
      .part = {&s->set[PTQ_SET_PROFILES], &s->set[PTQ_SET_DIRECTION_LAYERS],
               &s->set[PTQ_SET_RITZ]},
      .first = {s->first_profile, s->first_direction_layer, s->first_ritz},
  };
  if (begin >= end) return PTQ_OK; /* older stores have none of these */
  return check_owners(&o, begin, end, report, ctx, n_checked, n_bad, err);
}

ptq_status ptq_integrity_spectra(const ptq_sets *s, int64_t begin, int64_t end,
                                 ptq_integrity_report report, void *ctx,
                                 int64_t *n_checked, int64_t *n_bad,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_h5_set set = PTQ_H5_SET_NONE;
  slab values = {NULL, 0};
  for (int64_t i = begin; i < end; i++) {
    unsigned char state = 0, checksum[4] = {0}, tokens[8] = {0};
    char text[64];
    uint32_t computed = 0;
    PTQ_TRY(ptq_h5_read(&s->set[PTQ_SET_SPECTRA_STATE], i, 1, &state, err));
    PTQ_TRY(
        ptq_h5_read(&s->set[PTQ_SET_SPECTRA_CHECKSUM], i, 1, checksum, err));
    if (state == PTQ_STATE_DONE || state == PTQ_STATE_FAILED) {
      PTQ_TRY(ptq_h5_read(&s->set[PTQ_SET_SPECTRA_TOKENS], i, 1, tokens, err));
      PTQ_TRY(ptq_sets_spectrum(s, i, &set, err));
      PTQ_TRY(load(&values, &set, 0, set.rows, err));
      const ptq_integrity_part part[PTQ_PARTS] = {
          {values.bytes, (size_t)set.rows * set.row_bytes}};
      computed = ptq_integrity_sum(s->spectra[i].subject, state, tokens,
                                   sizeof tokens, part);
      ptq_h5_close(&set);
      ++*n_checked;
    }
    const char *why =
        judge(state, ptq_get_u32(checksum), computed, text, sizeof text);
    if (why == NULL) continue;
    ++*n_bad;
    if (report != NULL) report(ctx, "spectrum", i, why);
  }
done:
  ptq_h5_close(&set);
  ptq_free(values.bytes);
  return rc;
}
