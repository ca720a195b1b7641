/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Incoherence processing and LDLQ (QuIP#, Tseng et al. 2024) with scalar
 * codes: weights and inputs are rotated by random signs and Hadamard matrices
 * on both sides, so that no element stands out; columns are then quantized
 * from the last to the first, each with the feedback of those before.
 *
 * LDLQ is GPTQ in the opposite order: with H = L D L', L unit lower
 * triangular, column k is rounded at w_k + (w - y) L_k. Both are the solution
 * of one problem, so the column loop of GPTQ does it, on the factor of H with
 * its order reversed (tests/unit/quant/test_method_quip.c holds it against
 * LDL).
 */
#include <math.h>
#include <string.h>

#include "tune.h"
#include "gptq_core.h"
#include "gptq_factor.h"
#include "option_table.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "rotation.h"

typedef struct quip_options {
  double damp;
  int64_t block, seed, tune;
  int hessian;
  bool rescale, rht;
} quip_options;

_Static_assert(sizeof(quip_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

enum { STATIC, SEQUENTIAL };

static const char *const hessian_names[] = {"static", "sequential", NULL};
static const quip_options defaults = {
    .damp = 0.01, .block = 128, .tune = 10, .rht = true};

/* clang-format off */
#define AT(field) offsetof(quip_options, field)
static const ptq_option_row rows[] = {
  {"damp",    PTQ_OPTION_DOUBLE, AT(damp),    0.0, 1.0,   NULL},
  {"hessian", PTQ_OPTION_CHOICE, AT(hessian), 0.0, 0.0,   hessian_names},
  {"rescale", PTQ_OPTION_BOOL,   AT(rescale), 0.0, 0.0,   NULL},
  {"rht",     PTQ_OPTION_BOOL,   AT(rht),     0.0, 0.0,   NULL},
  {"seed",    PTQ_OPTION_INT,    AT(seed),    0.0, 0x1p31, NULL},
  {"tune",    PTQ_OPTION_INT,    AT(tune),    0.0, 1000.0, NULL},
  {NULL,      PTQ_OPTION_BOOL,   0,           0.0, 0.0,   NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static quip_options options_of(const ptq_method *m) {
  quip_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  quip_options o;
  const ptq_status rc =
      ptq_options_parse(&table, options, n, &o, sizeof o, m, err);
  if (rc == PTQ_OK) memcpy(m->own.bytes, &o, sizeof o);
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  return options_of(m).hessian == STATIC ? PTQ_CALIB_STATIC
                                         : PTQ_CALIB_SEQUENTIAL;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)m, (void)dt, (void)group, (void)err;
  return PTQ_OK;
}

/* What layers with the same inputs share, unless columns are rescaled. */
typedef struct inputs {
  int64_t n;
  ptq_rotation rotation; /* of the inputs */
  double damp;           /* in all */
  double *scale;         /* owned, nullable; [n]: columns of w are multiplied */
  double *h;             /* owned; [n, n]: damped, rescaled and rotated */
  ptq_gptq_factor *factor; /* owned; of h in reversed order */
} inputs;

static void inputs_release(inputs *x) {
  ptq_rotation_release(&x->rotation);
  ptq_free(x->scale);
  ptq_free(x->h);
  ptq_gptq_factor_free(x->factor);
  *x = (inputs){0};
}

/* h with `damp` times the mean of its diagonal added to it. */
static ptq_status damp_inputs(inputs *x, const double *h, ptq_err *err) {
  const int64_t n = x->n;
  double mean = 0.0;
  for (int64_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
  if (!isfinite(mean) || mean <= 0.0)
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "the mean diagonal of the second moment of %lld inputs is "
                    "%g; look for NaN or Inf in the activations",
                    (long long)n, mean);
  memcpy(x->h, h, (size_t)(n * n) * sizeof *h);
  for (int64_t i = 0; i < n; i++) x->h[i * n + i] += x->damp * mean;
  return PTQ_OK;
}

/* Scales (diag H / diag W'W)^(1/4), as the reference guards them. */
static ptq_status rescale_inputs(inputs *x, const ptq_quant_input *in,
                                 ptq_err *err) {
  const int64_t n = x->n;
  double most = 0.0;
  ptq_status rc = ptq_alloc(&x->scale, n, sizeof *x->scale, "scales", err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < n * n; i++) most = fmax(most, fabs(x->h[i]));
  for (int64_t c = 0; c < n; c++) {
    double energy = 0.0;
    for (int64_t r = 0; r < in->rows; r++) {
      const double w = (double)in->w[r * n + c];
      energy += w * w;
    }
    const double moment = fmax(x->h[c * n + c] / most, 1e-8);
    const double s = sqrt(sqrt(moment / fmax(energy, 1e-8)));
    x->scale[c] = (double)(float)fmax(s, 1e-8);
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      x->h[i * n + j] /= x->scale[i] * x->scale[j];
  return PTQ_OK;
}

/* The factor that the column loop runs on from the last column to the first. */
static ptq_status factorize(inputs *x, int threads, ptq_err *err) {
  const int64_t n = x->n;
  ptq_status rc = PTQ_OK;
  double *reversed = NULL;
  PTQ_TRY(ptq_alloc(&reversed, n * n, sizeof *reversed, "H reversed", err));
  for (int64_t i = 0; i < n * n; i++) reversed[i] = x->h[n * n - 1 - i];
  PTQ_TRY(ptq_gptq_factor_create(reversed, n, 0.0, false, threads, &x->factor,
                                 err));
  PTQ_TRY(ptq_alloc(&x->factor->order, n, sizeof *x->factor->order,
                    "order of columns", err));
  for (int64_t i = 0; i < n; i++) x->factor->order[i] = n - 1 - i;
  for (int64_t i = 0; i < n / 2; i++) {
    const unsigned char dead = x->factor->dead[i];
    x->factor->dead[i] = x->factor->dead[n - 1 - i];
    x->factor->dead[n - 1 - i] = dead;
  }
  x->damp += x->factor->damp;
done:
  ptq_free(reversed);
  return rc;
}

static ptq_status inputs_init(inputs *x, const quip_options *o,
                              const ptq_quant_input *in, const char *name,
                              ptq_err *err) {
  const int64_t n = in->cols;
  ptq_status rc = PTQ_OK;
  *x = (inputs){.n = n, .damp = o->damp};
  PTQ_TRY(ptq_alloc(&x->h, n * n, sizeof *x->h, "rotated H", err));
  PTQ_TRY(damp_inputs(x, in->h, err));
  if (o->rescale) PTQ_TRY(rescale_inputs(x, in, err));
  if (o->rht) {
    PTQ_TRY(ptq_rotation_init(&x->rotation, n, true,
                              ptq_rotation_seed(o->seed, name, "inputs"), err));
    PTQ_TRY(ptq_rotate_rows(&x->rotation, false, x->h, n, err));
    PTQ_TRY(ptq_rotate_columns(&x->rotation, false, x->h, n, err));
  }
  PTQ_TRY(factorize(x, in->threads, err));
done:
  if (rc != PTQ_OK) inputs_release(x);
  return rc;
}

/* A layer's weights in the rotated frame and back. */
typedef struct frame {
  const inputs *x;      /* borrowed */
  ptq_rotation outputs; /* of the rows; order 0 where nothing is rotated */
  int64_t rows;
  double *w; /* owned; [rows, cols] */
} frame;

static ptq_status into_frame(frame *f, const quip_options *o,
                             const ptq_quant_input *in, ptq_err *err) {
  const int64_t n = in->cols;
  ptq_status rc = PTQ_OK;
  for (int64_t r = 0; r < in->rows; r++)
    for (int64_t c = 0; c < n; c++)
      f->w[r * n + c] = (double)in->w[r * n + c] *
                        (f->x->scale != NULL ? f->x->scale[c] : 1.0);
  if (!o->rht) return PTQ_OK;
  PTQ_TRY(ptq_rotation_init(&f->outputs, in->rows, true,
                            ptq_rotation_seed(o->seed, in->layer, "outputs"),
                            err));
  PTQ_TRY(ptq_rotate_rows(&f->x->rotation, false, f->w, in->rows, err));
  PTQ_TRY(ptq_rotate_columns(&f->outputs, false, f->w, n, err));
done:
  return rc;
}

/* y, in the frame, becomes effective weights. */
static ptq_status out_of_frame(frame *f, const quip_options *o, float *y,
                               ptq_err *err) {
  const int64_t n = f->x->n, size = f->rows * n;
  ptq_status rc = PTQ_OK;
  if (!o->rht && f->x->scale == NULL) return PTQ_OK;
  for (int64_t i = 0; i < size; i++) f->w[i] = (double)y[i];
  if (o->rht) {
    PTQ_TRY(ptq_rotate_columns(&f->outputs, true, f->w, n, err));
    PTQ_TRY(ptq_rotate_rows(&f->x->rotation, true, f->w, f->rows, err));
  }
  for (int64_t i = 0; i < size; i++)
    y[i] = (float)(f->w[i] / (f->x->scale != NULL ? f->x->scale[i % n] : 1.0));
done:
  return rc;
}

/* LDLQ and the passes behind it, in the frame; out->y stays there. */
static ptq_status run_in_frame(const quip_options *o, const inputs *x,
                               const ptq_quant_input *in, const float *w,
                               ptq_quant_output *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_dtype dtype;
  ptq_dtype_matrix state = {0};
  PTQ_TRY(ptq_dtype_prepare(in->dtype, w, in->rows, in->cols, in->group, &state,
                            &dtype, err));
  const ptq_gptq_job job = {.w = w,
                            .rows = in->rows,
                            .cols = in->cols,
                            .dtype = &dtype,
                            .group = in->group,
                            .block = o->block,
                            .static_groups = true,
                            .factor = x->factor,
                            .threads = in->threads,
                            .team = in->team,
                            .y = out->y,
                            .q = out->q,
                            .params = out->params};
  PTQ_TRY(ptq_gptq_run(&job, err));
  const ptq_tune_job tune = {.w = w,
                             .rows = in->rows,
                             .cols = in->cols,
                             .dtype = &dtype,
                             .group = in->group,
                             .h = x->h,
                             .params = out->params,
                             .passes = o->tune,
                             .threads = in->threads,
                             .team = in->team,
                             .y = out->y,
                             .q = out->q};
  PTQ_TRY(ptq_tune(&tune, err));
done:
  ptq_dtype_matrix_release(&state);
  return rc;
}

static ptq_status quantize_layer(const quip_options *o, const inputs *x,
                                 const ptq_quant_input *in,
                                 ptq_quant_output *out, ptq_err *err) {
  const int64_t size = in->rows * in->cols;
  ptq_status rc = PTQ_OK;
  frame f = {.x = x, .rows = in->rows};
  float *w = NULL;
  PTQ_TRY(ptq_dtype_check_finite(in->w, in->rows, in->cols, err));
  PTQ_TRY(ptq_alloc(&f.w, size, sizeof *f.w, "rotated weights", err));
  PTQ_TRY(ptq_alloc(&w, size, sizeof *w, "rotated weights", err));
  PTQ_TRY(into_frame(&f, o, in, err));
  for (int64_t i = 0; i < size; i++) w[i] = (float)f.w[i];
  PTQ_TRY(run_in_frame(o, x, in, w, out, err));
  PTQ_TRY(out_of_frame(&f, o, out->y, err));
  out->damp = x->damp;
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group) +
      (x->scale != NULL ? 32.0 * (double)in->cols : 0.0);
  const uint64_t parts[3] = {
      o->rht ? ptq_hash64(x->rotation.signs, (size_t)x->n * sizeof(double)) : 0,
      o->rht ? ptq_hash64(f.outputs.signs, (size_t)f.rows * sizeof(double)) : 0,
      x->scale != NULL ? ptq_hash64(x->scale, (size_t)x->n * sizeof *x->scale)
                       : 0};
  if (o->rht || x->scale != NULL)
    out->extra_hash = ptq_hash64(parts, sizeof parts);
done:
  ptq_rotation_release(&f.outputs);
  ptq_free(f.w);
  ptq_free(w);
  return rc;
}

/* Layers with the same inputs see them rotated the same way: one H and one
 * factor, named after the first. Scales of columns come from a layer's own
 * weights: then each has its own. */
static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const quip_options o = options_of(m);
  ptq_status rc = PTQ_OK;
  inputs x = {0};
  for (int i = 0; i < n; i++) {
    if (i == 0 || o.rescale) {
      inputs_release(&x);
      PTQ_TRY(inputs_init(&x, &o, &in[i], in[0].layer, err));
    }
    PTQ_TRY(quantize_layer(&o, &x, &in[i], &out[i], err));
  }
done:
  inputs_release(&x);
  return rc;
}

/* As GPTQ; a pass behind it is a product with H; rotations of H and, both
 * ways, of the weights are additions. */
static double flops(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const quip_options o = options_of(m);
  bool hadamard;
  const double r = (double)n_rows, c = (double)cols;
  const double by_cols =
      4.0 * log2(c + 1.0) + 4.0 * (double)ptq_rotation_block(cols, &hadamard);
  const double by_rows =
      4.0 * log2(r + 1.0) + 4.0 * (double)ptq_rotation_block(n_rows, &hadamard);
  const double rotations =
      o.rht ? 12.0 * (r * c * (by_cols + by_rows) + c * c * by_cols) : 0.0;
  return 1.5 * r * c * c + c * c * c + 1600.0 * r * c + rotations +
         (double)o.tune * (3.9 * r * c * c + 1150.0 * r * c);
}

/* Rotated weights twice; H, H reversed and its factor. */
static double bytes(const ptq_method *m, int64_t n_rows, int64_t cols) {
  (void)m;
  const double r = (double)n_rows, c = (double)cols;
  return 12.0 * r * c + 3.0 * 8.0 * c * c + 8.0 * r * c;
}

const ptq_method_family ptq_method_quip = {
    .name = "quip",
    .summary = "weights and inputs made incoherent by random Hadamard "
               "matrices, then LDLQ",
    .source = "arXiv 2402.04396; Cornell-RelaxML/quip-sharp 1d8f873 quip.py, "
              "scalar codes",
    .options_help = "damp=0.01 hessian=static|sequential rescale=false "
                    "rht=true seed=0 tune=10",
    .parse = parse,
    .mode = mode,
    .accepts = accepts,
    .quantize_site = quantize_site,
    .flops = flops,
    .bytes = bytes,
};
