/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "mend.h"

#include <string.h>

#include "attempt.h"
#include "fixed.h"
#include "logring.h"
#include "pack.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "steps.h"

enum { SLAB_ROWS = 4096 };

ptq_status ptq_mend_rows(const ptq_sets *s, ptq_set_id rows_id,
                         ptq_set_id state_id, ptq_set_id sum_id,
                         const void *fresh, const unsigned char *bad,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *rows = &s->set[rows_id], *states = &s->set[state_id],
                   *sums = &s->set[sum_id];
  const ptq_table *t = ptq_set_get(rows_id)->table();
  const size_t size = rows->row_bytes;
  const unsigned char none[4] = {0}, pending = PTQ_STATE_PENDING;
  unsigned char *state = NULL, *have = NULL, *want = NULL;
  PTQ_TRY(ptq_alloc(&state, SLAB_ROWS, 1, "states", err));
  PTQ_TRY(ptq_alloc(&have, SLAB_ROWS, size, "rows", err));
  PTQ_TRY(ptq_alloc(&want, SLAB_ROWS, size, "rows", err));
  for (int64_t at = 0; at < rows->rows; at += SLAB_ROWS) {
    const int64_t n = rows->rows - at < SLAB_ROWS ? rows->rows - at : SLAB_ROWS;
    PTQ_TRY(ptq_h5_read(states, at, n, state, err));
    PTQ_TRY(ptq_h5_read(rows, at, n, have, err));
    ptq_pack_rows(t, (const char *)fresh + (size_t)at * t->row_size, n, want);
    for (int64_t k = 0; k < n; k++) {
      if (bad[at + k]) {
        PTQ_TRY(ptq_h5_write(sums, at + k, 1, none, err));
        PTQ_TRY(ptq_h5_write(states, at + k, 1, &pending, err));
      } else if (state[k] == PTQ_STATE_DONE || state[k] == PTQ_STATE_FAILED) {
        continue;
      }
      const size_t where = (size_t)k * size;
      if (memcmp(have + where, want + where, size) != 0)
        PTQ_TRY(ptq_h5_write(rows, at + k, 1, want + where, err));
    }
  }
done:
  ptq_free(want);
  ptq_free(have);
  ptq_free(state);
  return rc;
}

/* What is wrong beside the rows: with the index a run would write results into
 * the wrong places. */
static void note_fixed(void *ctx, const char *kind, int64_t row,
                       const char *why) {
  const char **index = ctx;
  (void)row;
  if (strcmp(kind, "/") != 0)
    *index = kind;
  else
    ptq_log(PTQ_LOG_WARN,
            "the store is damaged outside its tables (structure or "
            "attributes: %s); take a copy, and `ptqsweep merge` it into a new "
            "one when this run is over",
            why);
}

ptq_status ptq_mend_refuse(const ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *index = NULL;
  int64_t n_bad = 0;
  PTQ_TRY(ptq_fixed_check(s, note_fixed, &index, &n_bad, err));
  if (index != NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                     "store '%s': '%s' is damaged (its checksum differs): "
                     "take an older copy, or `ptqsweep merge NEW %s` and go on "
                     "with NEW, which has what is still good",
                     s->path, index, s->path));
done:
  return rc;
}

ptq_status ptq_mend_rest(const ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n_lost = 0;
  PTQ_TRY(ptq_steps_mend(s, err));
  PTQ_TRY(ptq_attempt_mend(s, &n_lost, err));
  PTQ_TRY(ptq_logring_mend(s, &n_lost, err));
  if (n_lost > 0)
    ptq_log(PTQ_LOG_WARN,
            "store '%s': %lld rows of attempts or lines of the log were "
            "damaged and are lost; results are not",
            s->path, (long long)n_lost);
done:
  return rc;
}
