/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Final norm, head and loss. With logits l = cap(z), z = W hn + b, running
 * maximum top and e = exp(l - top), one walk over slices of the vocabulary
 * gives
 *
 *   nll = top + ln sum e - l_target      dhn = sum e l' W / sum e - l'_t W_t
 *
 * with l' the cap's slope (1 without one), and for a tangent zd = W hnd, ld =
 * l' zd, with r = sum e ld / sum e and l'' zd^2 = l'' / l'^2 ld^2,
 *
 *   nlld = r - ld_target
 *   dhnd = sum e (ld l' + l'' zd) W / sum e - r sum e l' W / sum e - l''_t zd_t
 *          W_t
 *
 * where l'' zd = -2 l ld / cap^2. Without the terms in l'' and with the norm's
 * Jacobian alone it is the Gauss-Newton matrix times hd. What was summed up is
 * rescaled when the maximum grows, as in op_attention.c.
 */
#include <math.h>
#include <string.h>

#include "op.h"
#include "op_bf16.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/model/loss.h"
#include "ptq/num/kernels.h"

void ptq_head_norm(const ptq_model_info *info, const ptq_head *head,
                   ptq_real *h, int64_t n) {
  if (head->norm.w != NULL)
    ptq_norm_rows(info, &head->norm, h, n, info->d_model, h);
}

/* y = x times head rows v0..v1 */
static void multiply(const ptq_model_info *info, const ptq_head *head,
                     const ptq_real *x, int64_t n, int64_t v0, int64_t v1,
                     ptq_real *y) {
  const int64_t d = info->d_model;
  PTQ_GEMM(nt, n, v1 - v0, d, 1.0F, x, d, head->weight + v0 * d, d, 0.0F, y,
           v1 - v0);
}

/* What follows the product. */
static void finish_logits(const ptq_model_info *info, const ptq_head *head,
                          int64_t n, int64_t v0, int64_t v1, ptq_real *logits) {
  const int64_t width = v1 - v0;
  if (head->bias != NULL)
    for (int64_t i = 0; i < n; i++)
      PTQ_VEC(add, head->bias + v0, width, logits + i * width);
  if (info->logit_cap > 0.0)
    PTQ_VEC(soft_cap, (ptq_real)info->logit_cap, n * width, logits);
}

ptq_status ptq_head_logits(const ptq_model_info *info, const ptq_head *head,
                           ptq_multiplier *mul, const ptq_real *hn, int64_t n,
                           int64_t v0, int64_t v1, ptq_real *logits,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_ASSERT((head->slices != NULL) == (mul != NULL));
  if (PTQ_BF16(mul != NULL))
    PTQ_TRY(ptq_bf16_head(info, head, mul, hn, n, v0, v1, logits, err));
  else
    multiply(info, head, hn, n, v0, v1, logits);
  finish_logits(info, head, n, v0, v1, logits);
done:
  return rc;
}

/* One scored position of the window. */
typedef struct row_state {
  double sum;      /* of e */
  ptq_real top;    /* largest logit so far */
  ptq_real target; /* logit of the token to predict */
} row_state;

/* One scored position of a direction. */
typedef struct row_tangent {
  double sum;      /* of e ld */
  ptq_real target; /* ld of the token to predict */
} row_tangent;

struct ptq_lossspace {
  int64_t max_tokens, max_tangents;
  ptq_real *memory;      /* owned; what the pointers to reals point into */
  ptq_real *hn, *dhn;    /* [1 + max_tangents][max_tokens, d_model] */
  ptq_real *e;           /* [max_tokens, slice] */
  ptq_real *logits;      /* likewise, with a cap */
  ptq_real *ld;          /* likewise, for tangents */
  row_state *rows;       /* owned; [max_tokens] */
  row_tangent *tangents; /* owned; [max_tangents, max_tokens] */
};

static int64_t slice_width(const ptq_model_info *info) {
  return info->vocab < PTQ_HEAD_SLICE ? info->vocab : PTQ_HEAD_SLICE;
}

static int64_t lay_out(const ptq_model_info *info, int64_t n, int64_t k,
                       ptq_real *base, ptq_lossspace *ls) {
  const int64_t slice = n * slice_width(info);
  int64_t at = 0;
  ls->hn = ptq_take(base, &at, (1 + k) * n * info->d_model);
  ls->dhn = ptq_take(base, &at, (1 + k) * n * info->d_model);
  ls->e = ptq_take(base, &at, slice);
  if (info->logit_cap > 0.0) ls->logits = ptq_take(base, &at, slice);
  if (k > 0) ls->ld = ptq_take(base, &at, slice);
  return at;
}

ptq_status ptq_lossspace_create(const ptq_model_info *info, int64_t max_tokens,
                                int64_t max_tangents, ptq_lossspace **out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_lossspace *ls = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&ls, 1, sizeof *ls, "a loss", err));
  ls->max_tokens = max_tokens;
  ls->max_tangents = max_tangents;
  PTQ_TRY(ptq_alloc(&ls->rows, max_tokens, sizeof *ls->rows,
                    "scores of positions", err));
  PTQ_TRY(ptq_alloc(&ls->tangents, max_tangents * max_tokens,
                    sizeof *ls->tangents, "scores of positions", err));
  PTQ_TRY(ptq_alloc(&ls->memory,
                    lay_out(info, max_tokens, max_tangents, NULL, ls),
                    sizeof(ptq_real), "the loss of a window", err));
  (void)lay_out(info, max_tokens, max_tangents, ls->memory, ls);
  *out = ls;
  ls = NULL;
done:
  ptq_lossspace_free(ls);
  return rc;
}

void ptq_lossspace_free(ptq_lossspace *ls) {
  if (ls == NULL) return;
  ptq_free(ls->memory);
  ptq_free(ls->rows);
  ptq_free(ls->tangents);
  ptq_free(ls);
}

int64_t ptq_lossspace_bytes(const ptq_model_info *info, int64_t max_tokens,
                            int64_t max_tangents) {
  ptq_lossspace ls;
  return lay_out(info, max_tokens, max_tangents, NULL, &ls) *
             (int64_t)sizeof(ptq_real) +
         max_tokens * (int64_t)sizeof(row_state) +
         max_tangents * max_tokens * (int64_t)sizeof(row_tangent) +
         (int64_t)sizeof ls;
}

/* A window on its way through the head. */
typedef struct pass {
  const ptq_model_info *info; /* borrowed, as all */
  const ptq_head *head;
  const uint32_t *targets; /* [n] */
  int64_t n;               /* scored positions */
  int64_t k;
  ptq_lossspace *ls;
  int64_t v0, width; /* the slice at hand */
  bool slopes;       /* is dhn asked for? */
  bool bends;        /* with second derivatives of the head itself? */
} pass;

static ptq_real *lane(const pass *p, ptq_real *base, int64_t j) {
  return base + j * p->ls->max_tokens * p->info->d_model;
}

static row_tangent *tangent(const pass *p, int64_t j, int64_t row) {
  return &p->ls->tangents[j * p->ls->max_tokens + row];
}

/* A row's maximum grew to `top`: what was summed up shrinks. */
static void rescale(const pass *p, int64_t row, ptq_real top) {
  row_state *r = &p->ls->rows[row];
  const int64_t d = p->info->d_model;
  ptq_real shrink = 0.0F;
  if (r->sum > 0.0) PTQ_VEC(exp, &r->top, 1, top, &shrink);
  r->top = top;
  r->sum *= (double)shrink;
  for (int64_t j = 0; j <= p->k && p->slopes; j++)
    PTQ_VEC(scale, shrink, d, lane(p, p->ls->dhn, j) + row * d);
  for (int64_t j = 0; j < p->k; j++) tangent(p, j, row)->sum *= (double)shrink;
}

/* One row's slice of logits to e. */
static void take_row(const pass *p, int64_t row) {
  ptq_real *l = p->ls->e + row * p->width;
  row_state *r = &p->ls->rows[row];
  const int64_t target = (int64_t)p->targets[row] - p->v0;
  if (target >= 0 && target < p->width) r->target = l[target];
  const ptq_real top = PTQ_VEC(max, l, p->width, NULL);
  const bool finite = PTQ_VEC(all_finite, l, p->width) != 0;
  if (top > r->top) rescale(p, row, top);
  if (p->ls->logits != NULL)
    memcpy(p->ls->logits + row * p->width, l, (size_t)p->width * sizeof *l);
  r->sum += PTQ_VEC(exp, l, p->width, r->top, l);
  /* A maximum may skip a NaN, and a kernel clamp it. */
  if (!finite) r->sum = NAN;
}

/* The slice of one direction: its sums, and its part of dhnd. */
static void take_tangent(const pass *p, int64_t j) {
  ptq_lossspace *ls = p->ls;
  const int64_t d = p->info->d_model, size = p->n * p->width;
  const ptq_real cap = (ptq_real)p->info->logit_cap;
  multiply(p->info, p->head, lane(p, ls->hn, 1 + j), p->n, p->v0,
           p->v0 + p->width, ls->ld);
  if (ls->logits != NULL) PTQ_DIFF(cap, ls->logits, cap, size, ls->ld);
  for (int64_t row = 0; row < p->n; row++) {
    ptq_real *ld = ls->ld + row * p->width;
    const int64_t target = (int64_t)p->targets[row] - p->v0;
    if (target >= 0 && target < p->width)
      tangent(p, j, row)->target = ld[target];
    tangent(p, j, row)->sum +=
        PTQ_DIFF(soft_jvp, ls->e + row * p->width, p->width, ld);
  }
  if (!p->slopes) return;
  if (ls->logits != NULL && p->bends)
    PTQ_DIFF(cap_bend, ls->logits, cap, size, ls->ld);
  else if (ls->logits != NULL)
    PTQ_DIFF(cap, ls->logits, cap, size, ls->ld);
  PTQ_GEMM(nn, p->n, d, p->width, 1.0F, ls->ld, p->width,
           p->head->weight + p->v0 * d, d, 1.0F, lane(p, ls->dhn, 1 + j), d);
}

static void take_slice(const pass *p) {
  ptq_lossspace *ls = p->ls;
  const int64_t d = p->info->d_model;
  multiply(p->info, p->head, ls->hn, p->n, p->v0, p->v0 + p->width, ls->e);
  finish_logits(p->info, p->head, p->n, p->v0, p->v0 + p->width, ls->e);
  for (int64_t row = 0; row < p->n; row++) take_row(p, row);
  for (int64_t j = 0; j < p->k; j++) take_tangent(p, j);
  if (!p->slopes) return;
  if (ls->logits != NULL)
    PTQ_DIFF(cap, ls->logits, (ptq_real)p->info->logit_cap, p->n * p->width,
             ls->e);
  PTQ_GEMM(nn, p->n, d, p->width, 1.0F, ls->e, p->width,
           p->head->weight + p->v0 * d, d, 1.0F, ls->dhn, d);
}

/* y = a x + b y + c w */
static void combine(double a, const ptq_real *x, double b, double c,
                    const ptq_real *w, int64_t n, ptq_real *y) {
  for (int64_t i = 0; i < n; i++)
    y[i] = (ptq_real)(a * (double)x[i] + b * (double)y[i] + c * (double)w[i]);
}

/* From sums to derivatives by one row of hn. */
static void finish_row(const pass *p, int64_t row) {
  const row_state *r = &p->ls->rows[row];
  const int64_t d = p->info->d_model;
  const ptq_real *w = p->head->weight + (int64_t)p->targets[row] * d;
  ptq_real *own = p->ls->dhn + row * d;
  const double share = 1.0 / r->sum, target = (double)r->target;
  double slope = 1.0, bend = 0.0;
  if (p->info->logit_cap > 0.0) {
    slope = 1.0 - pow(target / p->info->logit_cap, 2.0);
    if (p->bends) bend = -2.0 * target / pow(p->info->logit_cap, 2.0);
  }
  for (int64_t j = 0; j < p->k; j++) {
    const row_tangent *t = tangent(p, j, row);
    combine(-share * share * t->sum, own, share, -bend * (double)t->target, w,
            d, lane(p, p->ls->dhn, 1 + j) + row * d);
  }
  combine(0.0, own, share, -slope, w, d, own);
}

static ptq_status check(const ptq_model_info *info, const ptq_scored *w,
                        ptq_err *err) {
  if (w->first < 1 || w->first >= w->n)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "a window of %lld tokens scored from token %lld on; it is "
                    "1 to %lld",
                    (long long)w->n, (long long)w->first, (long long)w->n - 1);
  for (int64_t i = 0; i < w->n; i++)
    if ((int64_t)w->ids[i] >= info->vocab)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "token %lld of the window is %lu, the vocabulary has "
                      "%lld",
                      (long long)i, (unsigned long)w->ids[i],
                      (long long)info->vocab);
  return PTQ_OK;
}

/* hn and its tangents; empty sums. h and hd begin at the first row. */
static void begin(const pass *p, const ptq_real *h, int64_t skip,
                  const ptq_loss_tangent *tangents) {
  const ptq_model_info *info = p->info;
  const int64_t d = info->d_model;
  const bool normed = p->head->norm.w != NULL;
  for (int64_t j = 0; j <= p->k; j++) {
    const ptq_real *from = j == 0 ? h : tangents[j - 1].hd + skip;
    ptq_real *to = lane(p, p->ls->hn, j);
    memset(lane(p, p->ls->dhn, j), 0, (size_t)(p->n * d) * sizeof *to);
    memcpy(to, from, (size_t)(p->n * d) * sizeof *to);
    if (normed && j == 0) ptq_norm_rows(info, &p->head->norm, h, p->n, d, to);
    if (normed && j > 0)
      ptq_norm_jvp(info, &p->head->norm, h, from, p->n, d, to);
  }
  for (int64_t row = 0; row < p->n; row++) {
    p->ls->rows[row] = (row_state){.top = -INFINITY, .target = NAN};
    for (int64_t j = 0; j < p->k; j++)
      *tangent(p, j, row) = (row_tangent){.target = NAN};
  }
}

static void sum_up(const pass *p, double *nll, ptq_loss_tangent *tangents) {
  *nll = 0.0;
  for (int64_t j = 0; j < p->k; j++) tangents[j].nll = 0.0;
  for (int64_t row = 0; row < p->n; row++) {
    const row_state *r = &p->ls->rows[row];
    *nll += ((double)r->top - (double)r->target) + log(r->sum);
    for (int64_t j = 0; j < p->k; j++) {
      const row_tangent *t = tangent(p, j, row);
      tangents[j].nll += t->sum / r->sum - (double)t->target;
    }
  }
  if (!isfinite(*nll)) *nll = NAN;
}

/* Through the final norm, tangents first: dh may be h, and dhd hd. */
static void leave(const pass *p, const ptq_scored *w, const ptq_real *h,
                  ptq_real *dh, const ptq_loss_tangent *tangents) {
  const ptq_model_info *info = p->info;
  const int64_t d = info->d_model, skip = (w->first - 1) * d, n = p->n;
  const size_t before = (size_t)skip * sizeof *h;
  const size_t last = (size_t)d * sizeof *h;
  const ptq_norm *norm = &p->head->norm;
  for (int64_t row = 0; row < n; row++) finish_row(p, row);
  for (int64_t j = 1; j <= p->k; j++) {
    ptq_real *to = tangents[j - 1].dhd;
    ptq_real *by_hn = lane(p, p->ls->dhn, j);
    if (norm->w != NULL && p->bends)
      ptq_norm_tangent(info, norm, h + skip, tangents[j - 1].hd + skip,
                       p->ls->dhn, by_hn, n, d, by_hn);
    else if (norm->w != NULL)
      ptq_norm_vjp(info, norm, h + skip, by_hn, n, d, by_hn);
    memcpy(to + skip, by_hn, (size_t)(n * d) * sizeof *to);
    memset(to, 0, before);
    memset(to + skip + n * d, 0, last);
  }
  if (norm->w != NULL)
    ptq_norm_vjp(info, norm, h + skip, p->ls->dhn, n, d, p->ls->dhn);
  memcpy(dh + skip, p->ls->dhn, (size_t)(n * d) * sizeof *dh);
  memset(dh, 0, before);
  memset(dh + skip + n * d, 0, last);
}

ptq_status ptq_head_loss(const ptq_model_info *info, const ptq_head *head,
                         const ptq_scored *w, const ptq_real *h,
                         ptq_lossspace *ls, ptq_curvature curvature,
                         double *nll, ptq_real *dh, int64_t k,
                         ptq_loss_tangent *tangents, ptq_err *err) {
  PTQ_ASSERT(w->n <= ls->max_tokens && k <= ls->max_tangents);
  *nll = NAN;
  const ptq_status rc = check(info, w, err);
  if (rc != PTQ_OK) return rc;
  const int64_t skip = (w->first - 1) * info->d_model;
  pass p = {.info = info,
            .head = head,
            .targets = w->ids + w->first,
            .n = w->n - w->first,
            .k = k,
            .ls = ls,
            .slopes = dh != NULL,
            .bends = curvature == PTQ_CURVATURE_HESSIAN};
  begin(&p, h + skip, skip, tangents);
  for (p.v0 = 0; p.v0 < info->vocab; p.v0 += PTQ_HEAD_SLICE) {
    const int64_t left = info->vocab - p.v0;
    p.width = left < PTQ_HEAD_SLICE ? left : PTQ_HEAD_SLICE;
    take_slice(&p);
  }
  sum_up(&p, nll, tangents);
  if (dh != NULL) leave(&p, w, h, dh, tangents);
  return PTQ_OK;
}
