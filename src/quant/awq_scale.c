/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "awq_scale.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/moment.h"
#include "round_rows.h"

typedef struct search {
  const ptq_quant_input *in; /* borrowed; [n] */
  ptq_quant_output *out;     /* borrowed; [n] */
  int n;
  int64_t cols;
  ptq_awq_scaling scaling;
  ptq_awq_objective objective;
  float *scaled;  /* borrowed; largest [rows, cols] */
  float *trial;   /* owned; [cols] */
  float *w_mean;  /* owned; [cols]; PTQ_AWQ_DUO, else NULL */
  float *h;       /* owned; [cols, cols]; PTQ_AWQ_SITE, else NULL */
  float *product; /* owned; largest [rows, cols]; likewise */
  float **y;      /* owned; [n] the outputs' weights */
} search;

static void search_release(search *s) {
  ptq_free(s->trial);
  ptq_free(s->w_mean);
  ptq_free(s->h);
  ptq_free(s->product);
  ptq_free(s->y);
}

/* |w| over the largest of its row's group, averaged over the rows of all
 * layers. */
static ptq_status mean_weights(search *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *sum = NULL;
  int64_t n_rows = 0;
  PTQ_TRY(ptq_alloc(&sum, s->cols, sizeof *sum, "AWQ's means", err));
  for (int i = 0; i < s->n; i++) {
    const int64_t width = s->in[i].group > 0 ? s->in[i].group : s->cols;
    n_rows += s->in[i].rows;
    for (int64_t r = 0; r < s->in[i].rows; r++) {
      const float *w = s->in[i].w + r * s->cols;
      for (int64_t c = 0; c < s->cols; c += width) {
        const int64_t end = c + width < s->cols ? c + width : s->cols;
        float most = 0.0F;
        for (int64_t k = c; k < end; k++) most = fmaxf(most, fabsf(w[k]));
        for (int64_t k = c; k < end; k++)
          sum[k] += (double)(fabsf(w[k]) / (most + 1e-6F));
      }
    }
  }
  for (int64_t c = 0; c < s->cols; c++)
    s->w_mean[c] = (float)(sum[c] / (double)n_rows);
done:
  ptq_free(sum);
  return rc;
}

static ptq_status search_init(search *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *what = "AWQ's search for scales";
  const int64_t cols = s->cols;
  int64_t most = 0;
  for (int i = 0; i < s->n; i++)
    most = s->in[i].rows > most ? s->in[i].rows : most;
  PTQ_TRY(ptq_alloc(&s->trial, cols, sizeof *s->trial, what, err));
  PTQ_TRY(ptq_alloc(&s->y, s->n, sizeof *s->y, what, err));
  for (int i = 0; i < s->n; i++) s->y[i] = s->out[i].y;
  if (s->scaling == PTQ_AWQ_DUO) {
    PTQ_TRY(ptq_alloc(&s->w_mean, cols, sizeof *s->w_mean, what, err));
    PTQ_TRY(mean_weights(s, err));
  }
  if (s->objective == PTQ_AWQ_SITE) {
    PTQ_TRY(ptq_alloc(&s->h, cols * cols, sizeof *s->h, what, err));
    PTQ_TRY(ptq_alloc(&s->product, most * cols, sizeof *s->product, what, err));
    for (int64_t i = 0; i < cols * cols; i++) s->h[i] = (float)s->in->h[i];
  }
done:
  return rc;
}

static float candidate(const search *s, int k, int64_t c) {
  const float x = (float)s->in->mean_abs[c];
  if (s->scaling == PTQ_AWQ_INPUTS)
    return fmaxf(powf(x, (float)((double)k / PTQ_AWQ_CANDIDATES)), 1e-4F);
  if (k == 0) return 1.0F;
  const double r = (double)(k - 1) / (PTQ_AWQ_CANDIDATES - 2);
  const float down = powf(s->w_mean[c], (float)(1.0 - r)) + 1e-4F;
  return fmaxf(powf(x, (float)r) / down, 1e-4F);
}

/* Candidate k, with the product of its extremes brought to 1. */
static void make_trial(const search *s, int k) {
  float low = INFINITY, high = 0.0F;
  for (int64_t c = 0; c < s->cols; c++) {
    s->trial[c] = candidate(s, k, c);
    low = fminf(low, s->trial[c]);
    high = fmaxf(high, s->trial[c]);
  }
  const float middle = sqrtf(high * low);
  for (int64_t c = 0; c < s->cols; c++) {
    s->trial[c] /= middle;
    if (!isfinite(s->trial[c]) || s->trial[c] <= 0.0F) s->trial[c] = 1.0F;
  }
}

/* y = Q(w s) / s of layer i. */
static ptq_status apply(const search *s, int i, ptq_err *err) {
  const ptq_quant_input *in = &s->in[i];
  const int64_t cols = s->cols;
  float *y = s->y[i];
  ptq_dtype plain = *in->dtype;
  plain.matrix = NULL; /* was prepared on other weights */
  for (int64_t r = 0; r < in->rows; r++)
    for (int64_t c = 0; c < cols; c++)
      s->scaled[r * cols + c] = in->w[r * cols + c] * s->trial[c];
  const ptq_status rc =
      ptq_round_rows(&plain, in, s->scaled, y, NULL, s->out[i].params, err);
  if (rc != PTQ_OK) return rc;
  for (int64_t r = 0; r < in->rows; r++)
    for (int64_t c = 0; c < cols; c++) y[r * cols + c] /= s->trial[c];
  return PTQ_OK;
}

static ptq_status loss_of(const search *s, double *loss, ptq_err *err) {
  if (s->objective == PTQ_AWQ_MODULE)
    return s->in->module->eval(s->in->module->ctx, s->y, loss, err);
  *loss = 0.0;
  for (int i = 0; i < s->n; i++) {
    const ptq_quant_input *in = &s->in[i];
    for (int64_t k = 0; k < in->rows * s->cols; k++)
      s->scaled[k] = in->w[k] - s->y[i][k];
    *loss +=
        ptq_moment_quadratic(s->scaled, in->rows, s->h, s->cols, s->product);
  }
  return PTQ_OK;
}

ptq_status ptq_awq_search(ptq_awq_scaling scaling, ptq_awq_objective objective,
                          const ptq_quant_input *in, ptq_quant_output *out,
                          int n, float *scaled, float *scale, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double best = (double)INFINITY;
  search s = {.in = in,
              .out = out,
              .n = n,
              .cols = in->cols,
              .scaling = scaling,
              .objective = objective,
              .scaled = scaled};
  PTQ_TRY(search_init(&s, err));
  for (int k = 0; k < PTQ_AWQ_CANDIDATES; k++) {
    double loss = (double)NAN;
    make_trial(&s, k);
    for (int i = 0; i < n; i++) PTQ_TRY(apply(&s, i, err));
    PTQ_TRY(loss_of(&s, &loss, err));
    if (!(loss < best)) continue;
    best = loss;
    memcpy(scale, s.trial, (size_t)s.cols * sizeof *scale);
  }
  if (!isfinite(best))
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "awq: no scales of '%s' give a finite error; look for NaN "
                  "or Inf in the activations",
                  in->layer != NULL ? in->layer : "a layer");
done:
  search_release(&s);
  return rc;
}
