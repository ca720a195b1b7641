/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "collect.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

static int64_t widest_site(const ptq_model_info *info) {
  int64_t widest = 0;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    const int64_t d = ptq_site_width(info, (ptq_site)s);
    if (d > widest) widest = d;
  }
  return widest;
}

ptq_status ptq_collected_open(ptq_collected *c, const ptq_model_info *info,
                              unsigned needs, int64_t length, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *c = (ptq_collected){.needs = needs};
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    const int64_t d = ptq_site_width(info, (ptq_site)s);
    PTQ_TRY(ptq_alloc(&c->h[s], d * d, sizeof(double), "H", err));
    if (needs & PTQ_NEED_HOLDOUT) {
      PTQ_TRY(ptq_alloc(&c->h_train[s], d * d, sizeof(double), "H", err));
      PTQ_TRY(ptq_alloc(&c->h_holdout[s], d * d, sizeof(double), "H", err));
    }
    if (needs & PTQ_NEED_CROSS) {
      PTQ_TRY(
          ptq_alloc(&c->cross[s], d * d, sizeof(double), "cross moment", err));
      PTQ_TRY(ptq_alloc(&c->reference[s], length * d, sizeof(float),
                        "inputs of a window", err));
    }
    if (needs & PTQ_NEED_MEAN_ABS)
      PTQ_TRY(
          ptq_alloc(&c->mean_abs[s], d, sizeof(double), "mean inputs", err));
  }
  if (needs & PTQ_NEED_CROSS) {
    const int64_t d = widest_site(info);
    PTQ_TRY(ptq_alloc(&c->product, d * d, sizeof(float),
                      "cross moment of a window", err));
  }
done:
  if (rc != PTQ_OK) ptq_collected_close(c);
  return rc;
}

void ptq_collected_close(ptq_collected *c) {
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    ptq_free(c->h[s]);
    ptq_free(c->h_train[s]);
    ptq_free(c->h_holdout[s]);
    ptq_free(c->cross[s]);
    ptq_free(c->mean_abs[s]);
    ptq_free(c->reference[s]);
  }
  ptq_free(c->product);
  *c = (ptq_collected){0};
}

int64_t ptq_collected_bytes(const ptq_model_info *info, unsigned needs,
                            int64_t length) {
  int64_t bytes = 0;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    const int64_t d = ptq_site_width(info, (ptq_site)s);
    const int64_t square = d * d * (int64_t)sizeof(double);
    bytes += square;
    if (needs & PTQ_NEED_HOLDOUT) bytes += 2 * square;
    if (needs & PTQ_NEED_CROSS)
      bytes += square + length * d * (int64_t)sizeof(float);
    if (needs & PTQ_NEED_MEAN_ABS) bytes += d * (int64_t)sizeof(double);
  }
  const int64_t d = widest_site(info);
  if (needs & PTQ_NEED_CROSS) bytes += d * d * (int64_t)sizeof(float);
  return bytes;
}

ptq_collector ptq_collect_begin(ptq_collected *to, ptq_moment *moment,
                                ptq_site first, ptq_site last, int64_t n) {
  const int64_t holdout = n >= 5 ? n / 5 : 1;
  for (int s = (int)first; s <= (int)last; s++) {
    const size_t d = (size_t)moment[s].d;
    ptq_moment_reset(&moment[s]);
    if (to->mean_abs[s] != NULL)
      memset(to->mean_abs[s], 0, d * sizeof *to->mean_abs[s]);
    if (to->cross[s] != NULL)
      memset(to->cross[s], 0, d * d * sizeof *to->cross[s]);
  }
  return (ptq_collector){.to = to,
                         .moment = moment,
                         .first = first,
                         .last = last,
                         .n = n,
                         .n_train = n - holdout};
}

ptq_status ptq_collect_reference(void *collector, ptq_site site, const float *x,
                                 int64_t n, int64_t width, ptq_err *err) {
  const ptq_collector *c = collector;
  (void)err;
  if (site >= c->first && site <= c->last)
    memcpy(c->to->reference[site], x, (size_t)(n * width) * sizeof *x);
  return PTQ_OK;
}

/* The sum over the window of (x_fp - x) x', float32 within it. */
static void add_cross(const ptq_collector *c, ptq_site site, const float *x,
                      int64_t n, int64_t width) {
  float *fp = c->to->reference[site];
  for (int64_t i = 0; i < n * width; i++) fp[i] -= x[i];
  ptq_sgemm_tn(width, width, n, 1.0F, fp, width, x, width, 0.0F, c->to->product,
               width);
  ptq_vec_accumulate(c->to->product, width * width, 1.0, c->to->cross[site]);
}

ptq_status ptq_collect_input(void *collector, ptq_site site, const float *x,
                             int64_t n, int64_t width, ptq_err *err) {
  const ptq_collector *c = collector;
  double *sum = c->to->mean_abs[site];
  (void)err;
  if (site < c->first || site > c->last) return PTQ_OK;
  ptq_moment_add(&c->moment[site], x, n);
  for (int64_t t = 0; sum != NULL && t < n; t++)
    for (int64_t i = 0; i < width; i++)
      sum[i] += (double)fabsf(x[t * width + i]);
  if (c->to->cross[site] != NULL) add_cross(c, site, x, n, width);
  return PTQ_OK;
}

/* h_holdout from the sums over everything and over the training windows. */
static void split(ptq_collector *c, int s) {
  const double n = (double)c->moment[s].n_tokens;
  const double train = n * (double)c->n_train / (double)c->n;
  const int64_t d = c->moment[s].d;
  const double *h = c->to->h[s], *h_train = c->to->h_train[s];
  for (int64_t i = 0; i < d * d; i++)
    c->to->h_holdout[s][i] = (n * h[i] - train * h_train[i]) / (n - train);
}

static void finish(ptq_collector *c, int s) {
  const int64_t d = c->moment[s].d;
  const double n = (double)c->moment[s].n_tokens;
  double *mean = c->to->mean_abs[s], *cross = c->to->cross[s];
  ptq_moment_get(&c->moment[s], c->to->h[s]);
  if (c->to->h_holdout[s] != NULL) split(c, s);
  for (int64_t i = 0; mean != NULL && i < d; i++) mean[i] /= n;
  for (int64_t i = 0; cross != NULL && i < d * d; i++) cross[i] /= n;
}

void ptq_collect_window(ptq_collector *c, int64_t i) {
  for (int s = (int)c->first; s <= (int)c->last; s++) {
    if (i + 1 == c->n_train && c->to->h_train[s] != NULL)
      ptq_moment_get(&c->moment[s], c->to->h_train[s]);
    if (i + 1 == c->n) finish(c, s);
  }
}
