/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/eval/score.h"

#include <math.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

/*
 * With running maxima mr, mc of the reference's and the candidate's logits r,
 * c at one position, four sums over the vocabulary suffice for both
 * divergences (ptq_vec_kl_slice):
 *
 *   Zr = sum e^(r-mr)   A = sum e^(r-mr) (r-c)
 *   Zc = sum e^(c-mc)   B = sum e^(c-mc) (c-r)
 *   KL(ref || cand) = A / Zr + (mc - mr) + (ln Zc - ln Zr)
 *   KL(cand || ref) = B / Zc + (mr - mc) + (ln Zr - ln Zc)
 *
 * Subtracting log-sum-exps by their parts keeps divergences of 1e-6 nats from
 * drowning in logits of tens. The reference is scored as a candidate against
 * itself, so that every Z comes from the same sums of the same kernel: a
 * candidate that equals the reference has Zc == Zr, A == B == 0 and hence
 * divergences and a difference of NLL of exactly zero.
 */

/** One position of one stream. The sums are relative to `max` and to the
 * reference's maximum at the time of the last slice. */
typedef struct row_state {
  double sums[4]; /* Zr, A, Zc, B */
  float max;      /* of this stream's logits so far */
  float next_max; /* the reference's with the slice at hand */
  float target;   /* logit of the token to predict */
  int64_t top;    /* id of the maximum */
} row_state;

struct ptq_scorer {
  ptq_model_info info;
  int64_t max_tokens, max_candidates;
  float *ref_logits;   /* owned; [max_tokens, PTQ_HEAD_SLICE] */
  float *cand_logits;  /* owned; [max_tokens, PTQ_HEAD_SLICE] */
  ptq_multiplier *mul; /* owned; NULL in float32 */
  row_state *rows;     /* owned; [1 + max_candidates, max_tokens]; the
                          reference first */
};

static int64_t slice_width(const ptq_model_info *info) {
  return info->vocab < PTQ_HEAD_SLICE ? info->vocab : PTQ_HEAD_SLICE;
}

int64_t ptq_scorer_bytes(const ptq_model_info *info, int64_t max_tokens,
                         int64_t max_candidates) {
  const int64_t logits = 2 * max_tokens * slice_width(info);
  const int64_t rows = (1 + max_candidates) * max_tokens;
  const int64_t operands =
      info->compute == PTQ_COMPUTE_BF16
          ? ptq_multiplier_bytes(max_tokens * info->d_model)
          : 0;
  return logits * (int64_t)sizeof(float) + rows * (int64_t)sizeof(row_state) +
         operands;
}

ptq_status ptq_scorer_create(const ptq_model_info *info, int64_t max_tokens,
                             int64_t max_candidates, ptq_scorer **out,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_scorer *s = NULL;
  *out = NULL;
  if (max_tokens < 2 || max_candidates < 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "scorer for %lld tokens and %lld candidates: at least 2 "
                    "and 0 are needed",
                    (long long)max_tokens, (long long)max_candidates);
  PTQ_TRY(ptq_alloc(&s, 1, sizeof *s, "scorer", err));
  s->info = *info;
  s->max_tokens = max_tokens;
  s->max_candidates = max_candidates;
  const int64_t n_logits = max_tokens * slice_width(info);
  PTQ_TRY(ptq_alloc(&s->ref_logits, n_logits, sizeof(float),
                    "a slice of reference logits", err));
  PTQ_TRY(ptq_alloc(&s->cand_logits, n_logits, sizeof(float),
                    "a slice of candidate logits", err));
  PTQ_TRY(ptq_alloc(&s->rows, (1 + max_candidates) * max_tokens,
                    sizeof(row_state), "scores of positions", err));
  if (info->compute == PTQ_COMPUTE_BF16)
    PTQ_TRY(ptq_multiplier_create(&s->mul, err));
  *out = s;
  s = NULL;
done:
  ptq_scorer_free(s);
  return rc;
}

void ptq_scorer_free(ptq_scorer *s) {
  if (s == NULL) return;
  ptq_free(s->ref_logits);
  ptq_free(s->cand_logits);
  ptq_free(s->rows);
  ptq_multiplier_free(s->mul);
  ptq_free(s);
}

/** Take a slice of logits at one position into the running sums of `row`:
 * `r` the reference's, whose state is `ref`, and `c` this stream's. */
static void add_slice(row_state *row, const row_state *ref, const float *r,
                      const float *c, int64_t v0, int64_t width) {
  const float mr_old = ref->max, mr = ref->next_max, mc_old = row->max;
  int64_t at = 0;
  const float top = ptq_vec_max(c, width, &at);
  if (v0 == 0 || top > mc_old) { /* strictly: ties go to the lower id */
    row->max = top;
    row->top = v0 + at;
  }
  if (v0 > 0) {
    const double scale_r = exp((double)mr_old - (double)mr);
    const double scale_c = exp((double)mc_old - (double)row->max);
    row->sums[0] *= scale_r;
    row->sums[1] *= scale_r;
    row->sums[2] *= scale_c;
    row->sums[3] *= scale_c;
  }
  ptq_vec_kl_slice(r, c, width, mr, row->max, row->sums);
  /* A maximum may skip a NaN, and a kernel clamp it. */
  if (!ptq_vec_all_finite(c, width)) row->sums[2] = NAN;
}

static double row_nll(const row_state *row) {
  return ((double)row->max - (double)row->target) + log(row->sums[2]);
}

/** Sum a candidate's positions; a non-finite one makes every sum NaN. */
static void finish_candidate(const row_state *ref, const row_state *cand,
                             int64_t n_rows, ptq_window_score *out, float *kl) {
  ptq_window_score sum = {0};
  for (int64_t i = 0; i < n_rows; i++) {
    const double z_r = ref[i].sums[2], z_c = cand[i].sums[2];
    const double shift = (double)cand[i].max - (double)ref[i].max;
    const double ln_ratio = log(z_c) - log(z_r);
    const double forward = cand[i].sums[1] / z_r + (shift + ln_ratio);
    const double reverse = cand[i].sums[3] / z_c - (shift + ln_ratio);
    sum.nll += row_nll(&cand[i]);
    sum.kl += forward;
    sum.kl_rev += reverse;
    if (isfinite(forward) && cand[i].top == ref[i].top) sum.top1++;
    if (kl != NULL) kl[i] = isfinite(forward) ? (float)forward : NAN;
  }
  if (!isfinite(sum.nll) || !isfinite(sum.kl) || !isfinite(sum.kl_rev))
    sum.nll = sum.kl = sum.kl_rev = NAN;
  *out = sum;
}

static ptq_status check_window(const ptq_scorer *s, const uint32_t *ids,
                               int64_t n, int64_t n_cand, ptq_err *err) {
  if (n < 2 || n > s->max_tokens)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "window of %lld tokens: a scorer for 2 to %lld",
                    (long long)n, (long long)s->max_tokens);
  if (n_cand < 0 || n_cand > s->max_candidates)
    return PTQ_FAIL(err, PTQ_E_ARG, "%lld candidates: a scorer for %lld",
                    (long long)n_cand, (long long)s->max_candidates);
  for (int64_t i = 0; i < n; i++)
    if ((int64_t)ids[i] >= s->info.vocab)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "token %lld of the window is %lu, the vocabulary has "
                      "%lld",
                      (long long)i, (unsigned long)ids[i],
                      (long long)s->info.vocab);
  return PTQ_OK;
}

/** One slice of vocabulary v0..v0+width at every position of one stream. */
static void score_stream(row_state *rows, const row_state *ref_rows,
                         const uint32_t *ids, int64_t n_rows,
                         const float *ref_logits, const float *logits,
                         int64_t v0, int64_t width) {
  for (int64_t i = 0; i < n_rows; i++) {
    const float *r = ref_logits + i * width, *c = logits + i * width;
    const int64_t target = (int64_t)ids[i + 1] - v0;
    add_slice(&rows[i], &ref_rows[i], r, c, v0, width);
    if (target >= 0 && target < width) rows[i].target = c[target];
  }
}

/** One slice at every position of every stream; the reference goes last,
 * since the others need its maxima of before and after. */
static ptq_status score_slice(ptq_scorer *s, const ptq_head *head,
                              const uint32_t *ids, int64_t n_rows,
                              const float *ref, const float *const *cand,
                              int64_t n_cand, int64_t v0, int64_t width,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  row_state *ref_rows = s->rows;
  PTQ_TRY(ptq_head_logits(&s->info, head, s->mul, ref, n_rows, v0, v0 + width,
                          s->ref_logits, err));
  for (int64_t i = 0; i < n_rows; i++) {
    const float top = ptq_vec_max(s->ref_logits + i * width, width, NULL);
    const bool moves = v0 == 0 || top > ref_rows[i].max;
    ref_rows[i].next_max = moves ? top : ref_rows[i].max;
  }
  for (int64_t k = 0; k < n_cand; k++) {
    PTQ_TRY(ptq_head_logits(&s->info, head, s->mul, cand[k], n_rows, v0,
                            v0 + width, s->cand_logits, err));
    score_stream(s->rows + (1 + k) * s->max_tokens, ref_rows, ids, n_rows,
                 s->ref_logits, s->cand_logits, v0, width);
  }
  score_stream(ref_rows, ref_rows, ids, n_rows, s->ref_logits, s->ref_logits,
               v0, width);
done:
  return rc;
}

ptq_status ptq_score_window(ptq_scorer *s, const ptq_head *head,
                            const uint32_t *ids, int64_t n, const float *ref,
                            const float *const *cand, int64_t n_cand,
                            double *ref_nll, ptq_window_score *out,
                            float *const *kl, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *ref_nll = NAN;
  PTQ_TRY(check_window(s, ids, n, n_cand, err));
  const int64_t n_rows = n - 1; /* the last position predicts nothing */
  for (int64_t k = 0; k <= n_cand; k++)
    for (int64_t i = 0; i < n_rows; i++)
      s->rows[k * s->max_tokens + i] = (row_state){.target = NAN};
  for (int64_t v0 = 0; v0 < s->info.vocab; v0 += PTQ_HEAD_SLICE) {
    const int64_t left = s->info.vocab - v0;
    PTQ_TRY(score_slice(s, head, ids, n_rows, ref, cand, n_cand, v0,
                        left < PTQ_HEAD_SLICE ? left : PTQ_HEAD_SLICE, err));
  }
  double sum = 0.0;
  for (int64_t i = 0; i < n_rows; i++) sum += row_nll(&s->rows[i]);
  *ref_nll = isfinite(sum) ? sum : NAN;
  for (int64_t k = 0; k < n_cand; k++)
    finish_candidate(s->rows, s->rows + (1 + k) * s->max_tokens, n_rows,
                     &out[k], kl == NULL ? NULL : kl[k]);
done:
  return rc;
}
