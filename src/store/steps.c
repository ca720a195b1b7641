/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rows go to the places that they have in the end, then their checksums. A
 * writer killed between the two, a write cut in the middle, a flipped bit or
 * the key of another measurement: the checksum does not hold, and the row is
 * not there. Rows are written once more with the whole direction, as the same
 * bytes.
 */
#include "steps.h"

#include <stdio.h>
#include <string.h>

#include "pack.h"
#include "ptq/base/mem.h"
#include "store_impl.h"

static uint32_t sum_of(const char *key, const unsigned char *row, size_t size) {
  return ptq_crc_guarded(ptq_crc(ptq_crc(0, key, strlen(key)), row, size));
}

static const ptq_h5_set *rows_of(const ptq_sets *s) {
  return &s->set[PTQ_SET_PROFILES];
}

static const ptq_h5_set *sums_of(const ptq_sets *s) {
  return &s->set[PTQ_SET_PROFILES_CHECKSUM];
}

/* A direction's rows as they stand in the file, with their checksums. */
typedef struct profile {
  int64_t at, n;
  unsigned char *rows, *sums; /* owned */
} profile;

static void profile_release(profile *p) {
  ptq_free(p->rows);
  ptq_free(p->sums);
}

static ptq_status profile_read(const ptq_sets *s, int64_t direction, profile *p,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *rows = rows_of(s), *sums = sums_of(s);
  const int64_t at = s->first_profile[direction];
  *p = (profile){.at = at, .n = s->first_profile[direction + 1] - at};
  PTQ_TRY(ptq_alloc(&p->rows, p->n, rows->row_bytes, rows->name, err));
  PTQ_TRY(ptq_alloc(&p->sums, p->n, 4, sums->name, err));
  PTQ_TRY(ptq_h5_read(rows, at, p->n, p->rows, err));
  PTQ_TRY(ptq_h5_read(sums, at, p->n, p->sums, err));
done:
  return rc;
}

/* Does the checksum of row i hold? */
static bool holds(const ptq_sets *s, const profile *p, const char *key,
                  int64_t i, uint32_t *computed) {
  const size_t size = rows_of(s)->row_bytes;
  *computed = sum_of(key, p->rows + (size_t)i * size, size);
  return ptq_get_u32(p->sums + 4 * i) == *computed;
}

/* The rows whose checksums hold, there[i] each; others are left as they are. */
static ptq_status take_rows(const ptq_sets *s, const profile *p,
                            const char *key, ptq_profile_row *rows, bool *there,
                            ptq_err *err) {
  const ptq_table *t = ptq_table_get(PTQ_TABLE_PROFILES);
  const size_t size = rows_of(s)->row_bytes;
  ptq_pack_column columns[64];
  const ptq_status rc = ptq_h5_columns(rows_of(s), t, s->schema, columns, err);
  for (int64_t i = 0; rc == PTQ_OK && i < p->n; i++) {
    uint32_t computed;
    there[i] = holds(s, p, key, i, &computed);
    if (there[i])
      ptq_unpack_rows(t, columns, size, p->rows + (size_t)i * size, 1,
                      &rows[i]);
  }
  return rc;
}

static ptq_status check_steps(const ptq_store *st, const ptq_steps *s,
                              ptq_err *err) {
  const int64_t d = s->direction;
  bool good = d >= 0 && d < st->sets.n_directions;
  const int64_t *first = st->sets.first_profile;
  const int64_t n = good ? first[d + 1] - first[d] : 0;
  for (int64_t i = 0; good && i < s->n; i++)
    good = s->rows[i].direction == d && s->rows[i].step >= 0 &&
           s->rows[i].step < n;
  if (good) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "store '%s': %lld rows of '%s' that direction %lld has no "
                  "place for",
                  st->path, (long long)s->n, rows_of(&st->sets)->name,
                  (long long)d);
}

ptq_status ptq_store_put_steps(ptq_store *st, const ptq_steps *s,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *sets = &st->sets;
  const size_t size = rows_of(sets)->row_bytes;
  int state = PTQ_STATE_PENDING;
  PTQ_TRY(check_steps(st, s, err));
  PTQ_TRY(ptq_store_still_there(st, err));
  /* Finished meanwhile by a rank that was given this one's work. */
  PTQ_TRY(ptq_store_read_state(&sets->set[PTQ_SET_DIRECTIONS_STATE],
                               s->direction, &state, err));
  if (state == PTQ_STATE_DONE) goto done;
  const int64_t at = sets->first_profile[s->direction];
  PTQ_TRY(ptq_store_scratch(st, s->n * (int64_t)size, err));
  ptq_pack_rows(ptq_table_get(PTQ_TABLE_PROFILES), s->rows, s->n, st->scratch);
  for (int64_t i = 0; i < s->n; i++)
    PTQ_TRY(ptq_h5_write(rows_of(sets), at + s->rows[i].step, 1,
                         st->scratch + (size_t)i * size, err));
  for (int64_t i = 0; i < s->n; i++)
    PTQ_TRY(ptq_store_write_sum(
        sums_of(sets), at + s->rows[i].step,
        sum_of(s->key, st->scratch + (size_t)i * size, size), err));
done:
  return rc;
}

ptq_status ptq_store_left_steps(ptq_store *st, const ptq_steps *s, bool *there,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *sets = &st->sets;
  profile p = {0};
  PTQ_TRY(check_steps(st, s, err));
  PTQ_TRY(profile_read(sets, s->direction, &p, err));
  if (p.n != s->n)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "store '%s': a profile of %lld steps where direction "
                     "%lld has %lld",
                     st->path, (long long)s->n, (long long)s->direction,
                     (long long)p.n));
  PTQ_TRY(take_rows(sets, &p, s->key, s->rows, there, err));
done:
  profile_release(&p);
  return rc;
}

ptq_status ptq_steps_carry(const ptq_sets *from, int64_t source, ptq_store *st,
                           int64_t direction, const char *key, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  profile p = {0};
  ptq_profile_row *rows = NULL;
  bool *there = NULL;
  int64_t n = 0;
  if (sums_of(from)->rows == 0) return PTQ_OK;
  PTQ_TRY(profile_read(from, source, &p, err));
  PTQ_TRY(ptq_alloc(&rows, p.n, sizeof *rows, rows_of(from)->name, err));
  PTQ_TRY(ptq_alloc(&there, p.n, sizeof *there, rows_of(from)->name, err));
  PTQ_TRY(take_rows(from, &p, key, rows, there, err));
  for (int64_t i = 0; i < p.n; i++) {
    if (!there[i]) continue;
    rows[n] = rows[i];
    rows[n++].direction = direction; /* may have another number here */
  }
  const ptq_steps s = {
      .direction = direction, .key = key, .rows = rows, .n = n};
  if (n > 0) PTQ_TRY(ptq_store_put_steps(st, &s, err));
done:
  ptq_free(rows);
  ptq_free(there);
  profile_release(&p);
  return rc;
}

ptq_status ptq_steps_seal(const ptq_sets *s, int64_t direction, const char *key,
                          const unsigned char *rows, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const size_t size = rows_of(s)->row_bytes;
  const int64_t at = s->first_profile[direction];
  const int64_t n = s->first_profile[direction + 1] - at;
  unsigned char *sums = NULL;
  PTQ_TRY(ptq_alloc(&sums, n, 4, sums_of(s)->name, err));
  for (int64_t i = 0; i < n; i++)
    ptq_put_u32(sums + 4 * i, sum_of(key, rows + (size_t)i * size, size));
  PTQ_TRY(ptq_h5_write(sums_of(s), at, n, sums, err));
done:
  ptq_free(sums);
  return rc;
}

static ptq_status read_direction(const ptq_sets *s, int64_t direction,
                                 ptq_direction_row *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_DIRECTIONS);
  const ptq_h5_set *set = &s->set[PTQ_SET_DIRECTIONS];
  ptq_pack_column columns[64];
  unsigned char *raw = NULL;
  PTQ_TRY(ptq_h5_columns(set, t, s->schema, columns, err));
  PTQ_TRY(ptq_alloc(&raw, 1, set->row_bytes, set->name, err));
  PTQ_TRY(ptq_h5_read(set, direction, 1, raw, err));
  ptq_unpack_rows(t, columns, set->row_bytes, raw, 1, out);
done:
  ptq_free(raw);
  return rc;
}

/* Every row of a finished direction that differs from its checksum. */
static ptq_status check_direction(const ptq_sets *s, int64_t direction,
                                  ptq_integrity_report report, void *ctx,
                                  int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  profile p = {0};
  ptq_direction_row row;
  int state = PTQ_STATE_PENDING;
  const ptq_h5_set *states = &s->set[PTQ_SET_DIRECTIONS_STATE];
  PTQ_TRY(read_direction(s, direction, &row, err));
  PTQ_TRY(profile_read(s, direction, &p, err));
  for (int64_t i = 0; i < p.n; i++) {
    char why[64];
    uint32_t computed = 0;
    if (holds(s, &p, row.key, i, &computed)) continue;
    /* A run may be writing it. */
    PTQ_TRY(ptq_store_read_state(states, direction, &state, err));
    if (state != PTQ_STATE_DONE) continue;
    ++*n_bad;
    (void)snprintf(why, sizeof why, "checksum %08x stored, %08x computed",
                   (unsigned)ptq_get_u32(p.sums + 4 * i), (unsigned)computed);
    if (report != NULL) report(ctx, rows_of(s)->name, p.at + i, why);
  }
done:
  profile_release(&p);
  return rc;
}

/* The finished direction from `*at` on; n_directions: none, and none in stores
 * without these checksums. */
static ptq_status next_finished(const ptq_sets *s, int64_t *at, ptq_err *err) {
  const ptq_h5_set *states = &s->set[PTQ_SET_DIRECTIONS_STATE];
  if (sums_of(s)->rows == 0) *at = s->n_directions;
  for (; *at < s->n_directions; ++*at) {
    int state = PTQ_STATE_PENDING;
    const ptq_status rc = ptq_store_read_state(states, *at, &state, err);
    if (rc != PTQ_OK || state == PTQ_STATE_DONE) return rc;
  }
  return PTQ_OK;
}

ptq_status ptq_steps_check(const ptq_sets *s, ptq_integrity_report report,
                           void *ctx, int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0;; i++) {
    PTQ_TRY(next_finished(s, &i, err));
    if (i == s->n_directions) break;
    PTQ_TRY(check_direction(s, i, report, ctx, n_bad, err));
  }
done:
  return rc;
}

static ptq_status mend_direction(const ptq_sets *s, int64_t direction,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  profile p = {0};
  ptq_direction_row row;
  bool good = true;
  PTQ_TRY(read_direction(s, direction, &row, err));
  PTQ_TRY(profile_read(s, direction, &p, err));
  for (int64_t i = 0; good && i < p.n; i++) {
    uint32_t computed;
    good = holds(s, &p, row.key, i, &computed);
  }
  if (!good) PTQ_TRY(ptq_steps_seal(s, direction, row.key, p.rows, err));
done:
  profile_release(&p);
  return rc;
}

ptq_status ptq_steps_mend(const ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0;; i++) {
    PTQ_TRY(next_finished(s, &i, err));
    if (i == s->n_directions) break;
    PTQ_TRY(mend_direction(s, i, err));
  }
done:
  return rc;
}
