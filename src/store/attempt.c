/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "attempt.h"

#include <stdio.h>

#include "pack.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

enum { SLAB_ROWS = 4096, LOOKS = 3 };

static const struct {
  ptq_set_id rows, states, sums;
} kinds[] = {
    {PTQ_SET_ATTEMPTS, PTQ_SET_STATE, PTQ_SET_ATTEMPTS_CHECKSUM},
    {PTQ_SET_MODELS_ATTEMPTS, PTQ_SET_MODELS_STATE,
     PTQ_SET_MODELS_ATTEMPTS_CHECKSUM},
    {PTQ_SET_DIRECTIONS_ATTEMPTS, PTQ_SET_DIRECTIONS_STATE,
     PTQ_SET_DIRECTIONS_ATTEMPTS_CHECKSUM},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static size_t kind_of(ptq_set_id attempts) {
  size_t k = 0;
  while (k < N_KINDS && kinds[k].rows != attempts) k++;
  PTQ_ASSERT(k < N_KINDS);
  return k;
}

ptq_set_id ptq_attempt_sums(ptq_set_id attempts) {
  return kinds[kind_of(attempts)].sums;
}

static uint32_t sum_of(int64_t row, const unsigned char *raw, size_t size) {
  unsigned char head[8];
  ptq_pack_i64(head, row);
  return ptq_crc_guarded(ptq_crc(ptq_crc(0, head, sizeof head), raw, size));
}

ptq_status ptq_attempt_get(const ptq_sets *s, ptq_set_id attempts, int64_t row,
                           ptq_attempt_row *out, ptq_err *err) {
  const ptq_table *t = ptq_table_get(PTQ_TABLE_ATTEMPTS);
  ptq_pack_column columns[16];
  unsigned char raw[sizeof *out];
  ptq_pack_columns(t, columns);
  const ptq_status rc = ptq_h5_read(&s->set[attempts], row, 1, raw, err);
  if (rc == PTQ_OK)
    ptq_unpack_rows(t, columns, s->set[attempts].row_bytes, raw, 1, out);
  return rc;
}

static ptq_status put_sum(const ptq_sets *s, ptq_set_id attempts, int64_t row,
                          uint32_t sum, ptq_err *err) {
  unsigned char bytes[4];
  ptq_put_u32(bytes, sum);
  return ptq_h5_write(&s->set[ptq_attempt_sums(attempts)], row, 1, bytes, err);
}

ptq_status ptq_attempt_put(const ptq_sets *s, ptq_set_id attempts, int64_t row,
                           const ptq_attempt_row *a, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *set = &s->set[attempts];
  unsigned char raw[sizeof *a];
  ptq_pack_rows(ptq_table_get(PTQ_TABLE_ATTEMPTS), a, 1, raw);
  PTQ_TRY(put_sum(s, attempts, row, 0, err));
  PTQ_TRY(ptq_h5_write(set, row, 1, raw, err));
  PTQ_TRY(put_sum(s, attempts, row, sum_of(row, raw, set->row_bytes), err));
done:
  return rc;
}

/* Some rows with their states and checksums. */
typedef struct slab {
  int64_t at, n;
  unsigned char *rows, *states, *sums; /* owned; SLAB_ROWS of each */
  size_t row_bytes;
} slab;

static void slab_release(slab *b) {
  ptq_free(b->rows);
  ptq_free(b->states);
  ptq_free(b->sums);
}

static ptq_status slab_init(slab *b, const ptq_h5_set *set, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *b = (slab){.row_bytes = set->row_bytes};
  PTQ_TRY(ptq_alloc(&b->rows, SLAB_ROWS, set->row_bytes, set->name, err));
  PTQ_TRY(ptq_alloc(&b->states, SLAB_ROWS, 1, set->name, err));
  PTQ_TRY(ptq_alloc(&b->sums, SLAB_ROWS, 4, set->name, err));
done:
  return rc;
}

static ptq_status slab_read(slab *b, const ptq_sets *s, size_t kind, int64_t at,
                            int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  b->at = at;
  b->n = n;
  PTQ_TRY(ptq_h5_read(&s->set[kinds[kind].states], at, n, b->states, err));
  PTQ_TRY(ptq_h5_read(&s->set[kinds[kind].rows], at, n, b->rows, err));
  PTQ_TRY(ptq_h5_read(&s->set[kinds[kind].sums], at, n, b->sums, err));
done:
  return rc;
}

/* What row k of the slab is: nobody's, without checksum, right or wrong. */
typedef enum verdict { OPEN, UNSEALED, GOOD, BAD } verdict;

static verdict judge(const slab *b, int64_t k, uint32_t *computed) {
  const unsigned char state = b->states[k];
  const uint32_t stored = ptq_get_u32(b->sums + 4 * k);
  *computed =
      sum_of(b->at + k, b->rows + (size_t)k * b->row_bytes, b->row_bytes);
  if (state != PTQ_STATE_DONE && state != PTQ_STATE_FAILED) return OPEN;
  if (stored == 0) return UNSEALED;
  return stored == *computed ? GOOD : BAD;
}

/* A run may be writing the row: look again. */
static ptq_status look_again(const ptq_sets *s, size_t kind, int64_t row,
                             bool *bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  slab one = {0};
  uint32_t computed;
  PTQ_TRY(slab_init(&one, &s->set[kinds[kind].rows], err));
  *bad = true;
  for (int i = 0; i < LOOKS && *bad; i++) {
    PTQ_TRY(slab_read(&one, s, kind, row, 1, err));
    *bad = judge(&one, 0, &computed) == BAD;
  }
done:
  slab_release(&one);
  return rc;
}

ptq_status ptq_attempt_check(const ptq_sets *s, ptq_set_id attempts,
                             ptq_integrity_report report, void *ctx,
                             int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const size_t kind = kind_of(attempts);
  const ptq_h5_set *set = &s->set[attempts];
  slab b = {0};
  if (s->set[kinds[kind].sums].rows == 0) return PTQ_OK;
  PTQ_TRY(slab_init(&b, set, err));
  for (int64_t at = 0; at < set->rows; at += SLAB_ROWS) {
    const int64_t n = set->rows - at < SLAB_ROWS ? set->rows - at : SLAB_ROWS;
    PTQ_TRY(slab_read(&b, s, kind, at, n, err));
    for (int64_t k = 0; k < n; k++) {
      char why[64];
      uint32_t computed = 0;
      bool bad = judge(&b, k, &computed) == BAD;
      if (bad) PTQ_TRY(look_again(s, kind, at + k, &bad, err));
      if (!bad) continue;
      ++*n_bad;
      (void)snprintf(why, sizeof why, "checksum %08x stored, %08x computed",
                     (unsigned)ptq_get_u32(b.sums + 4 * k), (unsigned)computed);
      if (report != NULL) report(ctx, set->name, at + k, why);
    }
  }
done:
  slab_release(&b);
  return rc;
}

static ptq_status mend_kind(const ptq_sets *s, size_t kind, int64_t *n_lost,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_set_id id = kinds[kind].rows;
  const ptq_h5_set *set = &s->set[id];
  slab b = {0};
  if (s->set[kinds[kind].sums].rows == 0) return PTQ_OK;
  PTQ_TRY(slab_init(&b, set, err));
  for (int64_t at = 0; at < set->rows; at += SLAB_ROWS) {
    const int64_t n = set->rows - at < SLAB_ROWS ? set->rows - at : SLAB_ROWS;
    PTQ_TRY(slab_read(&b, s, kind, at, n, err));
    for (int64_t k = 0; k < n; k++) {
      uint32_t computed = 0;
      const verdict is = judge(&b, k, &computed);
      if (is == UNSEALED) PTQ_TRY(put_sum(s, id, at + k, computed, err));
      if (is != BAD) continue;
      ptq_attempt_row lost;
      ptq_row_clear(ptq_table_get(PTQ_TABLE_ATTEMPTS), &lost);
      lost.attempts = 1;
      (void)ptq_text_copy(lost.message, sizeof lost.message,
                          "(this row was damaged)");
      PTQ_TRY(ptq_attempt_put(s, id, at + k, &lost, err));
      ++*n_lost;
    }
  }
done:
  slab_release(&b);
  return rc;
}

ptq_status ptq_attempt_mend(const ptq_sets *s, int64_t *n_lost, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (size_t k = 0; k < N_KINDS; k++) PTQ_TRY(mend_kind(s, k, n_lost, err));
done:
  return rc;
}
