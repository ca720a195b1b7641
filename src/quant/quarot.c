/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A model whose norms' gains g are moved into the layers behind them computes
 * the same when its residual stream x is R x, R orthogonal: a layer W that
 * reads it becomes W diag(g) R', one that writes to it R W. There W~ is
 * quantized to Y~, under H~ = R diag(1/g) H diag(1/g) R'. The model as it is
 * computes the same with Y = Y~ R diag(1/g), or Y = R' Y~. With inner rotations
 * T, a layer that writes becomes R W T', H~ = T H T', and Y = R' Y~ T.
 */
#include "quarot.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"

/* Gains nearer to 0 than this count as 0: an input that is always 0, whose
 * weights are free; they are 0. */
#define LEAST_GAIN 1e-30F

/* One layer in the frame. */
typedef struct turned {
  const ptq_stream_frame *frame; /* borrowed */
  const ptq_quant_input *in;     /* borrowed: as it is */
  const ptq_rotation *rows;      /* borrowed, nullable: of inputs */
  const ptq_rotation *columns;   /* borrowed, nullable: of outputs */
  double *w;                     /* owned; [rows, cols] */
  float *w32;                    /* owned; [rows, cols] */
  double *mean; /* owned, nullable; [cols]: of outputs, left out */
} turned;

static void turned_release(turned *t) {
  ptq_free(t->w);
  ptq_free(t->w32);
  ptq_free(t->mean);
  *t = (turned){0};
}

static double gain_of(const ptq_quant_input *in, int64_t c) {
  if (!in->reads_stream || in->norm_w == NULL) return 1.0;
  const float g = in->norm_w[c];
  return fabsf(g) < LEAST_GAIN ? 0.0 : (double)g;
}

static double inverse_gain_of(const ptq_quant_input *in, int64_t c) {
  const double g = gain_of(in, c);
  return g == 0.0 ? 0.0 : 1.0 / g;
}

/* Where the stream's mean is taken off by all its readers, the mean over a
 * layer's outputs has no effect: it is not quantized. */
static ptq_status take_mean(turned *t, ptq_err *err) {
  const int64_t rows = t->in->rows, cols = t->in->cols;
  const ptq_status rc =
      ptq_alloc(&t->mean, cols, sizeof *t->mean, "means of outputs", err);
  if (rc != PTQ_OK) return rc;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) t->mean[c] += t->w[r * cols + c];
  for (int64_t c = 0; c < cols; c++) t->mean[c] /= (double)rows;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) t->w[r * cols + c] -= t->mean[c];
  return PTQ_OK;
}

static ptq_status turn(turned *t, const ptq_stream_frame *frame,
                       const ptq_quant_input *in, ptq_err *err) {
  const int64_t rows = in->rows, cols = in->cols, n = rows * cols;
  ptq_status rc = PTQ_OK;
  *t = (turned){.frame = frame, .in = in};
  t->rows = in->reads_stream    ? frame->stream
            : in->writes_stream ? frame->inner
                                : NULL;
  t->columns = in->writes_stream ? frame->stream : NULL;
  PTQ_ASSERT(t->rows == NULL || t->rows->n == cols);
  PTQ_ASSERT(t->columns == NULL || t->columns->n == rows);
  PTQ_TRY(ptq_dtype_check_finite(in->w, rows, cols, err));
  PTQ_TRY(ptq_alloc(&t->w, n, sizeof *t->w, "turned weights", err));
  PTQ_TRY(ptq_alloc(&t->w32, n, sizeof *t->w32, "turned weights", err));
  for (int64_t i = 0; i < n; i++)
    t->w[i] = (double)in->w[i] * gain_of(in, i % cols);
  if (in->writes_stream && in->stream_centred) PTQ_TRY(take_mean(t, err));
  if (t->rows != NULL)
    PTQ_TRY(ptq_rotate_rows(t->rows, false, t->w, rows, err));
  if (t->columns != NULL)
    PTQ_TRY(ptq_rotate_columns(t->columns, false, t->w, cols, err));
  for (int64_t i = 0; i < n; i++) t->w32[i] = (float)t->w[i];
  PTQ_TRY(ptq_dtype_check_finite(t->w32, rows, cols, err));
done:
  if (rc != PTQ_OK) turned_release(t);
  return rc;
}

/* y in the frame becomes effective weights. */
static ptq_status turn_back(turned *t, float *y, ptq_err *err) {
  const ptq_quant_input *in = t->in;
  const int64_t rows = in->rows, cols = in->cols, n = rows * cols;
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < n; i++) t->w[i] = (double)y[i];
  if (t->columns != NULL)
    PTQ_TRY(ptq_rotate_columns(t->columns, true, t->w, cols, err));
  if (t->rows != NULL) PTQ_TRY(ptq_rotate_rows(t->rows, true, t->w, rows, err));
  for (int64_t i = 0; i < n; i++) {
    const double mean = t->mean != NULL ? t->mean[i % cols] : 0.0;
    y[i] = (float)(t->w[i] * inverse_gain_of(in, i % cols) + mean);
  }
  if (ptq_dtype_check_finite(y, rows, cols, NULL) != PTQ_OK)
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "effective weights overflow float32: the norm before the "
                  "layer has a gain near 0");
done:
  return rc;
}

/* h of inputs in the frame, [cols, cols]. */
static ptq_status turn_moment(const turned *t, double *h, ptq_err *err) {
  const ptq_quant_input *in = t->in;
  const int64_t n = in->cols;
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < n; i++) {
    const double by = inverse_gain_of(in, i);
    for (int64_t j = 0; j < n; j++)
      h[i * n + j] = by * in->h[i * n + j] * inverse_gain_of(in, j);
  }
  if (t->rows != NULL) {
    PTQ_TRY(ptq_rotate_rows(t->rows, false, h, n, err));
    PTQ_TRY(ptq_rotate_columns(t->rows, false, h, n, err));
  }
done:
  return rc;
}

static void mix_hash(const turned *t, ptq_quant_output *out) {
  const ptq_rotation *r[2] = {t->rows, t->columns};
  uint64_t parts[4] = {out->extra_hash};
  for (int i = 0; i < 2; i++)
    if (r[i] != NULL)
      parts[i + 1] =
          ptq_hash64(r[i]->signs, (size_t)r[i]->n * sizeof *r[i]->signs);
  if (t->in->reads_stream && t->in->norm_w != NULL)
    parts[3] =
        ptq_hash64(t->in->norm_w, (size_t)t->in->cols * sizeof *t->in->norm_w);
  out->extra_hash = ptq_hash64(parts, sizeof parts);
}

/* One layer; h and cache are the site's, h unset before the first. */
static ptq_status quantize_turned(const ptq_method *base,
                                  const ptq_stream_frame *frame,
                                  const ptq_quant_input *in, bool first,
                                  double *h, ptq_factor_cache *cache,
                                  ptq_quant_output *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  turned t = {0};
  PTQ_TRY(turn(&t, frame, in, err));
  if (h != NULL && first) PTQ_TRY(turn_moment(&t, h, err));
  ptq_quant_input with = *in;
  with.w = t.w32;
  with.h = h;
  with.cache = cache;
  with.norm_w = with.norm_b = NULL;
  with.reads_stream = with.writes_stream = with.stream_centred = false;
  PTQ_TRY(ptq_method_quantize(base, &with, out, err));
  PTQ_TRY(turn_back(&t, out->y, err));
  mix_hash(&t, out);
done:
  turned_release(&t);
  return rc;
}

ptq_status ptq_stream_quantize(const ptq_method *base,
                               const ptq_stream_frame *frame,
                               const ptq_quant_input *in, ptq_quant_output *out,
                               int n, ptq_err *err) {
  if (!in->reads_stream && !in->writes_stream)
    return ptq_method_quantize_site(base, in, out, n, err);
  ptq_status rc = PTQ_OK;
  double *h = NULL;
  ptq_factor_cache *cache = NULL;
  if (base->family->mode(base) != PTQ_CALIB_NONE) {
    PTQ_TRY(ptq_alloc(&h, in->cols * in->cols, sizeof *h, "turned H", err));
    PTQ_TRY(ptq_factor_cache_create(&cache, err));
  }
  for (int i = 0; i < n; i++)
    PTQ_TRY(
        quantize_turned(base, frame, &in[i], i == 0, h, cache, &out[i], err));
done:
  ptq_factor_cache_free(cache);
  ptq_free(h);
  return rc;
}
