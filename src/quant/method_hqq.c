/* SPDX-License-Identifier: GPL-3.0-or-later */
/* HQQ (half-quadratic quantization): a float zero point a group, moved to
 * where a sparse part of the error (an l_p norm, p < 1) takes up outliers.
 *
 * The arithmetic is float32 as in the reference, on the inverse of the scale;
 * means are summed in float64. The reference stops by the mean error of the
 * whole layer, so all groups take the same number of steps. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "option_table.h"
#include "ptq/base/mem.h"
#include "tiles.h"

typedef struct hqq_options {
  double beta, kappa, p;
  int64_t iters;
  int solver;
  bool optimize, round_zero;
} hqq_options;

_Static_assert(sizeof(hqq_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

enum { LEGACY, V2 };
enum { TILE = 64 /* rows */ };

static const char *const solver_names[] = {"legacy", "v2", NULL};
static const hqq_options defaults = {
    .beta = 10.0, .kappa = 1.01, .p = 0.7, .iters = 20, .optimize = true};

/* clang-format off */
#define AT(field) offsetof(hqq_options, field)
static const ptq_option_row rows[] = {
  {"beta",       PTQ_OPTION_DOUBLE, AT(beta),       1e-3, 1e6,  NULL},
  {"iters",      PTQ_OPTION_INT,    AT(iters),      1.0,  1e4,  NULL},
  {"kappa",      PTQ_OPTION_DOUBLE, AT(kappa),      1.0,  2.0,  NULL},
  {"optimize",   PTQ_OPTION_BOOL,   AT(optimize),   0.0,  0.0,  NULL},
  {"p",          PTQ_OPTION_DOUBLE, AT(p),          0.1,  1.0,  NULL},
  {"round_zero", PTQ_OPTION_BOOL,   AT(round_zero), 0.0,  0.0,  NULL},
  {"solver",     PTQ_OPTION_CHOICE, AT(solver),     0.0,  0.0,  solver_names},
  {NULL,         PTQ_OPTION_BOOL,   0,              0.0,  0.0,  NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static hqq_options options_of(const ptq_method *m) {
  hqq_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  hqq_options o;
  const ptq_status rc =
      ptq_options_parse(&table, options, n, &o, sizeof o, m, err);
  if (rc == PTQ_OK) memcpy(m->own.bytes, &o, sizeof o);
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  (void)m;
  return PTQ_CALIB_NONE;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)m, (void)group;
  char plain[PTQ_DTYPE_NAME_MAX];
  snprintf(plain, sizeof plain, "int%d:asym", dt->bits);
  if (strcmp(dt->name, plain) == 0) return PTQ_OK;
  if (strcmp(dt->family->name, "int") == 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "hqq solves for a float32 scale and zero point of its own "
                    "a group: write '%s', not '%s'",
                    plain, dt->name);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "hqq's solver is defined over a scale and a zero point, "
                  "which '%s' does not have; it takes int2:asym to int8:asym",
                  dt->name);
}

/* The layer at one step of the solver. */
typedef struct state {
  const ptq_quant_input *in; /* borrowed */
  const hqq_options *o;      /* borrowed */
  int64_t width, n_groups;
  float top;
  float beta, threshold; /* of this step; errors below it do not shrink */
  float *inverse, *zero; /* borrowed; [groups]: inverse scale, zero point */
  float *next_zero;      /* borrowed; [groups] */
  double *errors;        /* borrowed; [tiles]: sums of |w - y| */
} state;

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* First parameters of a group: the whole range, zero not forced into it. */
static void start_group(const state *s, const float *w, int64_t n, int64_t at) {
  float lo = w[0], hi = w[0];
  for (int64_t i = 1; i < n; i++) {
    lo = w[i] < lo ? w[i] : lo;
    hi = w[i] > hi ? w[i] : hi;
  }
  const float range = hi - lo;
  float inverse = range <= 1e-4F ? 1.0F : s->top / range;
  if (inverse > 2e4F) inverse = 2e4F;
  s->inverse[at] = inverse;
  s->zero[at] = -lo * inverse;
  if (s->o->round_zero) s->zero[at] = rintf(s->zero[at]);
}

static float code_of(const state *s, float w, int64_t at) {
  const float k = rintf(w * s->inverse[at] + s->zero[at]);
  return fminf(fmaxf(k, 0.0F), s->top);
}

/* sign(d) * relu(|d| - |d|^(p - 1) / beta) */
static float shrink(const state *s, float d) {
  const float size = fabsf(d);
  if (size < s->threshold) return 0.0F;
  const float by = powf(size, (float)s->o->p - 1.0F) / s->beta;
  return size > by ? copysignf(size - by, d) : 0.0F;
}

/* The error at this zero point, and the next one. Returns sum |w - y|. */
static double step_group(const state *s, const float *w, int64_t n,
                         int64_t at) {
  const float inverse = s->inverse[at], zero = s->zero[at];
  double error = 0.0, sum = 0.0;
  for (int64_t i = 0; i < n; i++) {
    const float k = code_of(s, w[i], at);
    const float d = w[i] - (k - zero) / inverse;
    error += (double)fabsf(d);
    sum += (double)(k - (w[i] - shrink(s, d)) * inverse);
  }
  s->next_zero[at] = (float)(sum / (double)n);
  return error;
}

static ptq_status start_tile(void *ctx, int64_t index, ptq_err *err) {
  const state *s = ctx;
  (void)err;
  const int64_t cols = s->in->cols, first = index * TILE;
  for (int64_t r = first; r < least(first + TILE, s->in->rows); r++)
    for (int64_t g = 0; g < s->n_groups; g++)
      start_group(s, s->in->w + r * cols + g * s->width,
                  least(s->width, cols - g * s->width), r * s->n_groups + g);
  return PTQ_OK;
}

static ptq_status step_tile(void *ctx, int64_t index, ptq_err *err) {
  const state *s = ctx;
  (void)err;
  const int64_t cols = s->in->cols, first = index * TILE;
  double error = 0.0;
  for (int64_t r = first; r < least(first + TILE, s->in->rows); r++)
    for (int64_t g = 0; g < s->n_groups; g++)
      error +=
          step_group(s, s->in->w + r * cols + g * s->width,
                     least(s->width, cols - g * s->width), r * s->n_groups + g);
  s->errors[index] = error;
  return PTQ_OK;
}

/* Errors of size d shrink to nothing where d^(2 - p) < 1 / beta. */
static void set_beta(state *s, double beta) {
  s->beta = (float)beta;
  s->threshold = (float)(0.999 * pow(beta, -1.0 / (2.0 - s->o->p)));
}

/* The solver's steps. `legacy` breaks off when the error of the zero point
 * before did not fall, and keeps the new one all the same; `v2` goes back to
 * the best one and sharpens the shrinking step by step. */
static ptq_status solve(state *s, int64_t n_tiles, int64_t n_groups,
                        float *best_zero, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const hqq_options *o = s->o;
  const size_t bytes = (size_t)n_groups * sizeof *s->zero;
  double beta = o->beta;
  float best = o->solver == V2 ? 1e4F : (float)INFINITY;
  for (int64_t i = 0; i < o->iters; i++) {
    set_beta(s, beta);
    PTQ_TRY(ptq_tiles_run(n_tiles, s->in->threads, step_tile, s, err));
    double sum = 0.0;
    for (int64_t t = 0; t < n_tiles; t++) sum += s->errors[t];
    const float error =
        (float)(sum / ((double)s->in->rows * (double)s->in->cols));
    if (o->solver == V2) {
      if (!(best - error > 0.0F)) {
        if (i > 0) memcpy(s->zero, best_zero, bytes);
        break;
      }
      memcpy(best_zero, s->zero, bytes);
    }
    memcpy(s->zero, s->next_zero, bytes);
    if (!(error < best)) break;
    best = error;
    if (o->solver == V2) beta *= o->kappa;
  }
done:
  return rc;
}

/* Codes, weights and parameters of the group that starts at w[at]. */
static ptq_status finish_group(const state *s, ptq_quant_output *out,
                               int64_t at, int64_t n, int64_t group,
                               ptq_err *err) {
  const ptq_group_params p = {.scale = 1.0F / s->inverse[group],
                              .zero = s->zero[group]};
  const float *w = s->in->w + at;
  bool fits = s->inverse[group] > 0.0F && isfinite(p.zero);
  out->params[group] = p;
  for (int64_t i = 0; i < n; i++) {
    const float k = code_of(s, w[i], group);
    out->q[at + i] = (int16_t)k;
    out->y[at + i] = p.scale * (k - p.zero);
    fits = fits && isfinite(out->y[at + i]);
  }
  if (fits) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "hqq: the range of the group at row %lld, column %lld "
                  "overflows float32; rescale the layer or leave it out",
                  (long long)(at / s->in->cols), (long long)(at % s->in->cols));
}

static ptq_status finish(const state *s, ptq_quant_output *out, ptq_err *err) {
  const int64_t cols = s->in->cols;
  if (s->in->group == PTQ_GROUP_TENSOR)
    return finish_group(s, out, 0, s->in->rows * cols, 0, err);
  ptq_status rc = PTQ_OK;
  for (int64_t r = 0; r < s->in->rows && rc == PTQ_OK; r++)
    for (int64_t g = 0; g < s->n_groups && rc == PTQ_OK; g++)
      rc = finish_group(s, out, r * cols + g * s->width,
                        least(s->width, cols - g * s->width),
                        r * s->n_groups + g, err);
  return rc;
}

static ptq_status quantize(const ptq_method *m, const ptq_quant_input *in,
                           ptq_quant_output *out, ptq_err *err) {
  const hqq_options o = options_of(m);
  const bool tensor = in->group == PTQ_GROUP_TENSOR;
  const int64_t n_tiles = (in->rows + TILE - 1) / TILE;
  ptq_status rc = PTQ_OK;
  float *room = NULL;
  double *errors = NULL;
  state s = {.in = in,
             .o = &o,
             .width = in->group > 0 ? least(in->group, in->cols) : in->cols,
             .n_groups = ptq_dtype_groups(in->cols, in->group),
             .top = (float)((1 << in->dtype->bits) - 1)};
  const int64_t n_groups = tensor ? 1 : in->rows * s.n_groups;
  PTQ_TRY(ptq_dtype_check_finite(in->w, in->rows, in->cols, err));
  PTQ_TRY(ptq_alloc(&room, 4 * n_groups, sizeof *room, "HQQ's groups", err));
  PTQ_TRY(ptq_alloc(&errors, n_tiles, sizeof *errors, "HQQ's errors", err));
  s.inverse = room;
  s.zero = room + n_groups;
  s.next_zero = room + 2 * n_groups;
  s.errors = errors;
  if (tensor) { /* not solved: the reference has no solver here either */
    start_group(&s, in->w, in->rows * in->cols, 0);
  } else {
    PTQ_TRY(ptq_tiles_run(n_tiles, in->threads, start_tile, &s, err));
    if (o.optimize)
      PTQ_TRY(solve(&s, n_tiles, n_groups, room + 3 * n_groups, err));
  }
  PTQ_TRY(finish(&s, out, err));
  out->damp = (double)NAN;
  out->storage_bits = (double)in->rows * (double)in->cols * in->dtype->bits +
                      64.0 * (double)n_groups;
done:
  ptq_free(room);
  ptq_free(errors);
  return rc;
}

/* A division, a rounding and the sums, a weight and step. */
static double flops(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const hqq_options o = options_of(m);
  const double steps = o.optimize ? (double)o.iters : 0.0;
  return (60.0 + 290.0 * steps) * (double)n_rows * (double)cols;
}

const ptq_method_family ptq_method_hqq = {
    .name = "hqq",
    .summary = "asymmetric integers, float zero points by a half-quadratic "
               "solver; no calibration",
    .source = "PyPI hqq 0.2.8.post1 (mobiusml/hqq), axis 1, float32",
    .options_help = "beta=10 iters=20 kappa=1.01 optimize=true p=0.7 "
                    "round_zero=false solver=legacy|v2",
    .parse = parse,
    .mode = mode,
    .accepts = accepts,
    .quantize = quantize,
    .flops = flops,
};
