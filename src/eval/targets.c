/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/eval/targets.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

/* A row with targets: the softmax's maximum and sum so far. */
typedef struct slot {
  float max;
  double sum;  /* of exp(logit - max) */
  int64_t top; /* id of the maximum */
} slot;

struct ptq_target_scorer {
  ptq_model_info info;
  int64_t max_rows;
  float *x;            /* owned; [max_rows, d_model] normed rows with targets */
  float *logits;       /* owned; [max_rows, PTQ_HEAD_SLICE] */
  slot *slots;         /* owned; [max_rows] */
  int64_t *slot_of;    /* owned; [max_rows] of each row; -1: no targets */
  ptq_multiplier *mul; /* owned; NULL in float32 */
};

static int64_t slice_width(const ptq_model_info *info) {
  return info->vocab < PTQ_HEAD_SLICE ? info->vocab : PTQ_HEAD_SLICE;
}

int64_t ptq_target_scorer_bytes(const ptq_model_info *info, int64_t max_rows) {
  const int64_t floats = info->d_model + slice_width(info);
  const int64_t operands = info->compute == PTQ_COMPUTE_BF16
                               ? ptq_multiplier_bytes(max_rows * info->d_model)
                               : 0;
  return operands +
         max_rows * (floats * (int64_t)sizeof(float) + (int64_t)sizeof(slot) +
                     (int64_t)sizeof(int64_t));
}

ptq_status ptq_target_scorer_create(const ptq_model_info *info,
                                    int64_t max_rows, ptq_target_scorer **out,
                                    ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_target_scorer *s = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&s, 1, sizeof *s, "scorer of targets", err));
  s->info = *info;
  s->max_rows = max_rows;
  PTQ_TRY(ptq_alloc(&s->x, max_rows * info->d_model, sizeof *s->x,
                    "rows with targets", err));
  PTQ_TRY(ptq_alloc(&s->logits, max_rows * slice_width(info), sizeof *s->logits,
                    "a slice of logits", err));
  PTQ_TRY(ptq_alloc(&s->slots, max_rows, sizeof *s->slots, "targets", err));
  PTQ_TRY(ptq_alloc(&s->slot_of, max_rows, sizeof *s->slot_of, "targets", err));
  if (info->compute == PTQ_COMPUTE_BF16)
    PTQ_TRY(ptq_multiplier_create(&s->mul, err));
  *out = s;
  s = NULL;
done:
  ptq_target_scorer_free(s);
  return rc;
}

void ptq_target_scorer_free(ptq_target_scorer *s) {
  if (s == NULL) return;
  ptq_free(s->x);
  ptq_free(s->logits);
  ptq_free(s->slots);
  ptq_free(s->slot_of);
  ptq_multiplier_free(s->mul);
  ptq_free(s);
}

static ptq_status check(const ptq_target_scorer *s, int64_t n_rows,
                        const ptq_target *targets, int64_t n, ptq_err *err) {
  if (n_rows > s->max_rows)
    return PTQ_FAIL(err, PTQ_E_ARG, "%lld rows: a scorer for %lld",
                    (long long)n_rows, (long long)s->max_rows);
  for (int64_t i = 0; i < n; i++)
    if (targets[i].row < 0 || targets[i].row >= n_rows ||
        (int64_t)targets[i].token >= s->info.vocab)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "target %lld is token %lu of row %lld: %lld rows, a "
                      "vocabulary of %lld",
                      (long long)i, (unsigned long)targets[i].token,
                      (long long)targets[i].row, (long long)n_rows,
                      (long long)s->info.vocab);
  return PTQ_OK;
}

/* The rows with targets, one after the other in s->x; their number. */
static int64_t gather(ptq_target_scorer *s, const float *h, int64_t n_rows,
                      const ptq_target *targets, int64_t n) {
  const int64_t d = s->info.d_model;
  int64_t used = 0;
  for (int64_t r = 0; r < n_rows; r++) s->slot_of[r] = -1;
  for (int64_t i = 0; i < n; i++) s->slot_of[targets[i].row] = 0;
  for (int64_t r = 0; r < n_rows; r++) {
    if (s->slot_of[r] < 0) continue;
    memcpy(s->x + used * d, h + r * d, (size_t)d * sizeof *h);
    s->slots[used] = (slot){.max = -INFINITY};
    s->slot_of[r] = used++;
  }
  return used;
}

static void add_slice(slot *t, const float *logits, int64_t v0, int64_t width) {
  int64_t at = 0;
  const float top = ptq_vec_max(logits, width, &at);
  if (v0 == 0 || top > t->max) { /* strictly: ties go to the lower id */
    t->sum *= v0 == 0 ? 0.0 : exp((double)t->max - (double)top);
    t->max = top;
    t->top = v0 + at;
  }
  t->sum += ptq_vec_sum_exp(logits, width, t->max);
  /* A maximum may skip a NaN, and a kernel clamp it. */
  if (!ptq_vec_all_finite(logits, width)) t->sum = NAN;
}

ptq_status ptq_score_targets(ptq_target_scorer *s, const ptq_head *head,
                             const float *h, int64_t n_rows,
                             const ptq_target *targets, int64_t n,
                             ptq_target_score *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(check(s, n_rows, targets, n, err));
  const int64_t used = gather(s, h, n_rows, targets, n);
  ptq_head_norm(&s->info, head, s->x, used);
  for (int64_t v0 = 0; v0 < s->info.vocab; v0 += PTQ_HEAD_SLICE) {
    const int64_t left = s->info.vocab - v0;
    const int64_t width = left < PTQ_HEAD_SLICE ? left : PTQ_HEAD_SLICE;
    PTQ_TRY(ptq_head_logits(&s->info, head, s->mul, s->x, used, v0, v0 + width,
                            s->logits, err));
    for (int64_t i = 0; i < used; i++)
      add_slice(&s->slots[i], s->logits + i * width, v0, width);
    for (int64_t i = 0; i < n; i++) {
      const int64_t at = (int64_t)targets[i].token - v0;
      if (at >= 0 && at < width)
        out[i].logp =
            (double)s->logits[s->slot_of[targets[i].row] * width + at];
    }
  }
  for (int64_t i = 0; i < n; i++) {
    const slot *t = &s->slots[s->slot_of[targets[i].row]];
    out[i].logp = out[i].logp - (double)t->max - log(t->sum);
    if (!isfinite(out[i].logp)) out[i].logp = NAN;
    out[i].greedy = t->top == (int64_t)targets[i].token;
  }
done:
  return rc;
}
