/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A layer W whose inputs are x' = R diag(1/g) x and whose outputs are T y is
 * W~ = T W diag(g) R', and H~ = R diag(1/g) H diag(1/g) R'. W~ is quantized to
 * Y~; between x and y stands Y = T' Y~ R diag(1/g).
 *
 * QuaRot: a model whose norms' gains g are moved into the layers behind them
 * computes the same when its residual stream is R x. A layer that reads it has
 * these gains and that R, one that writes to it T = R.
 */
#include "turned.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"

/* Gains nearer to 0 than this count as 0: an input that is always 0, whose
 * weights are free; they are 0. */
#define LEAST_GAIN 1e-30F

/* One layer in its frame. */
typedef struct turned {
  const ptq_turn *turn;      /* borrowed */
  const ptq_quant_input *in; /* borrowed: as it is */
  double *w;                 /* owned; [rows, cols] */
  float *w32;                /* owned; [rows, cols] */
  double *mean;              /* owned, nullable; [cols]: of outputs, left out */
} turned;

static void turned_release(turned *t) {
  ptq_free(t->w);
  ptq_free(t->w32);
  ptq_free(t->mean);
  *t = (turned){0};
}

static double gain_of(const turned *t, int64_t c) {
  if (!t->turn->gains || t->in->norm_w == NULL) return 1.0;
  const float g = t->in->norm_w[c];
  return fabsf(g) < LEAST_GAIN ? 0.0 : (double)g;
}

static double inverse_gain_of(const turned *t, int64_t c) {
  const double g = gain_of(t, c);
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

static ptq_status turn_layer(turned *t, const ptq_turn *turn,
                             const ptq_quant_input *in, ptq_err *err) {
  const int64_t rows = in->rows, cols = in->cols, n = rows * cols;
  ptq_status rc = PTQ_OK;
  *t = (turned){.turn = turn, .in = in};
  PTQ_ASSERT(turn->inputs == NULL || turn->inputs->n == cols);
  PTQ_ASSERT(turn->outputs == NULL || turn->outputs->n == rows);
  PTQ_TRY(ptq_dtype_check_finite(in->w, rows, cols, err));
  PTQ_TRY(ptq_alloc(&t->w, n, sizeof *t->w, "turned weights", err));
  PTQ_TRY(ptq_alloc(&t->w32, n, sizeof *t->w32, "turned weights", err));
  for (int64_t i = 0; i < n; i++)
    t->w[i] = (double)in->w[i] * gain_of(t, i % cols);
  if (turn->centre) PTQ_TRY(take_mean(t, err));
  if (turn->inputs != NULL)
    PTQ_TRY(ptq_rotate_rows(turn->inputs, false, t->w, rows, err));
  if (turn->outputs != NULL)
    PTQ_TRY(ptq_rotate_columns(turn->outputs, false, t->w, cols, err));
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
  if (t->turn->outputs != NULL)
    PTQ_TRY(ptq_rotate_columns(t->turn->outputs, true, t->w, cols, err));
  if (t->turn->inputs != NULL)
    PTQ_TRY(ptq_rotate_rows(t->turn->inputs, true, t->w, rows, err));
  for (int64_t i = 0; i < n; i++) {
    const double mean = t->mean != NULL ? t->mean[i % cols] : 0.0;
    y[i] = (float)(t->w[i] * inverse_gain_of(t, i % cols) + mean);
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
    const double by = inverse_gain_of(t, i);
    for (int64_t j = 0; j < n; j++)
      h[i * n + j] = by * in->h[i * n + j] * inverse_gain_of(t, j);
  }
  if (t->turn->inputs != NULL) {
    PTQ_TRY(ptq_rotate_rows(t->turn->inputs, false, h, n, err));
    PTQ_TRY(ptq_rotate_columns(t->turn->inputs, false, h, n, err));
  }
done:
  return rc;
}

static void mix_hash(const turned *t, ptq_quant_output *out) {
  const ptq_rotation *r[2] = {t->turn->inputs, t->turn->outputs};
  uint64_t parts[4] = {out->extra_hash};
  for (int i = 0; i < 2; i++)
    if (r[i] != NULL)
      parts[i + 1] =
          ptq_hash64(r[i]->signs, (size_t)r[i]->n * sizeof *r[i]->signs);
  if (t->turn->gains && t->in->norm_w != NULL)
    parts[3] =
        ptq_hash64(t->in->norm_w, (size_t)t->in->cols * sizeof *t->in->norm_w);
  out->extra_hash = ptq_hash64(parts, sizeof parts);
}

/* One layer; h and cache are the site's, h unset before the first. */
static ptq_status quantize_turned(const ptq_method *base, const ptq_turn *turn,
                                  const ptq_quant_input *in, bool first,
                                  double *h, ptq_factor_cache *cache,
                                  ptq_quant_output *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  turned t = {0};
  PTQ_TRY(turn_layer(&t, turn, in, err));
  if (h != NULL && first) PTQ_TRY(turn_moment(&t, h, err));
  const ptq_quant_input with = {.w = t.w32,
                                .rows = in->rows,
                                .cols = in->cols,
                                .dtype = in->dtype,
                                .group = in->group,
                                .h = h,
                                .cache_site = in->cache_site,
                                .cache = cache,
                                .threads = in->threads,
                                .team = in->team,
                                .layer = in->layer};
  PTQ_TRY(ptq_method_quantize(base, &with, out, err));
  PTQ_TRY(turn_back(&t, out->y, err));
  mix_hash(&t, out);
done:
  turned_release(&t);
  return rc;
}

ptq_turn ptq_stream_turn(const ptq_stream_frame *frame,
                         const ptq_quant_input *in) {
  if (in->reads_stream)
    return (ptq_turn){.inputs = frame->stream, .gains = true};
  if (in->writes_stream)
    return (ptq_turn){.inputs = frame->inner,
                      .outputs = frame->stream,
                      .centre = in->stream_centred};
  return (ptq_turn){0};
}

ptq_status ptq_turned_quantize(const ptq_method *base, const ptq_turn *turn,
                               const ptq_quant_input *in, ptq_quant_output *out,
                               int n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *h = NULL;
  ptq_factor_cache *cache = NULL;
  PTQ_ASSERT(ptq_method_needs(base) == 0);
  if (base->family->mode(base) != PTQ_CALIB_NONE) {
    PTQ_TRY(ptq_alloc(&h, in->cols * in->cols, sizeof *h, "turned H", err));
    PTQ_TRY(ptq_factor_cache_create(&cache, err));
  }
  for (int i = 0; i < n; i++)
    PTQ_TRY(quantize_turned(base, &turn[i], &in[i], i == 0, h, cache, &out[i],
                            err));
done:
  ptq_factor_cache_free(cache);
  ptq_free(h);
  return rc;
}

ptq_status ptq_turned_parse(ptq_method *m, const ptq_option_table *t,
                            const ptq_method_option *options, size_t n,
                            const char *fallback, const char *const *not_below,
                            void *own, size_t size, ptq_base_method *base,
                            ptq_err *err) {
  const ptq_status rc = ptq_base_parse(m, t, options, n, fallback, not_below,
                                       own, size, base, err);
  if (rc != PTQ_OK) return rc;
  const ptq_method below = ptq_base_get(base);
  if (ptq_method_needs(&below) == 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "%s rotates weights and the second moment of inputs; its "
                  "base '%s' asks for more of the inputs",
                  m->name, below.name);
}

ptq_method ptq_turned_base(const ptq_method *m) {
  ptq_base_method base;
  memcpy(&base, m->own.bytes, sizeof base);
  return ptq_base_get(&base);
}

ptq_calibration_mode ptq_turned_mode(const ptq_method *m) {
  const ptq_method base = ptq_turned_base(m);
  return base.family->mode(&base);
}

ptq_status ptq_turned_accepts(const ptq_method *m, const ptq_dtype *dt,
                              int64_t group, ptq_err *err) {
  const ptq_method base = ptq_turned_base(m);
  return base.family->accepts(&base, dt, group, err);
}

/* A rotation takes additions, log2 of the width a number, and a product with
 * its block, in float64 at half speed: rotations both ways, of H and of the
 * weights. */
double ptq_turned_flops(const ptq_method *m, int64_t rows, int64_t cols) {
  const ptq_method base = ptq_turned_base(m);
  bool hadamard;
  const int64_t wide = rows > cols ? rows : cols;
  const double r = (double)rows, c = (double)cols;
  const double each = 4.0 * log2((double)wide + 1.0) +
                      4.0 * (double)ptq_rotation_block(cols, &hadamard) +
                      4.0 * (double)ptq_rotation_block(rows, &hadamard);
  return base.family->flops(&base, rows, cols) + 2.0 * r * c * each +
         2.0 * c * c * each;
}

/* Turned weights in both precisions and a copy; turned H and its factor. */
double ptq_turned_bytes(const ptq_method *m, int64_t rows, int64_t cols) {
  const ptq_method base = ptq_turned_base(m);
  const double r = (double)rows, c = (double)cols;
  const double below =
      base.family->bytes != NULL ? base.family->bytes(&base, rows, cols) : 0.0;
  return below + 20.0 * r * c + 24.0 * c * c;
}
