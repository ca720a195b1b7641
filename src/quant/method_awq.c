/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AWQ (Lin et al. 2023): input channels that carry large activations get a
 * scale above 1 before rounding; what comes before the layer takes its
 * inverse. Then each group is clipped. */
#include <math.h>
#include <string.h>

#include "awq_clip.h"
#include "awq_scale.h"
#include "option_table.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "round_rows.h"

typedef struct awq_options {
  int objective, scaling; /* ptq_awq_objective, ptq_awq_scaling */
  bool clip;
} awq_options;

_Static_assert(sizeof(awq_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

static const char *const objective_names[] = {"module", "site", NULL};
static const char *const scaling_names[] = {"inputs", "duo", "none", NULL};
static const awq_options defaults = {.clip = true};

/* clang-format off */
#define AT(field) offsetof(awq_options, field)
static const ptq_option_row rows[] = {
  {"clip",      PTQ_OPTION_BOOL,   AT(clip),      0, 0, NULL},
  {"objective", PTQ_OPTION_CHOICE, AT(objective), 0, 0, objective_names},
  {"scaling",   PTQ_OPTION_CHOICE, AT(scaling),   0, 0, scaling_names},
  {NULL,        PTQ_OPTION_BOOL,   0,             0, 0, NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static awq_options options_of(const ptq_method *m) {
  awq_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  awq_options o;
  PTQ_TRY(ptq_options_parse(&table, options, n, &o, sizeof o, m, err));
  if (o.scaling == PTQ_AWQ_NONE && !o.clip)
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "awq: scaling=none and clip=false leave nothing but rtn");
  else if (o.scaling == PTQ_AWQ_NONE && o.objective != defaults.objective)
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "awq: scaling=none searches nothing by an objective; leave "
                  "it out");
  memcpy(m->own.bytes, &o, sizeof o);
done:
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  (void)m;
  return PTQ_CALIB_STATIC;
}

static bool asks_module(const awq_options *o) {
  return o->scaling != PTQ_AWQ_NONE && o->objective == PTQ_AWQ_MODULE;
}

static unsigned needs(const ptq_method *m) {
  const awq_options o = options_of(m);
  unsigned bits = o.scaling != PTQ_AWQ_NONE ? PTQ_NEED_MEAN_ABS : 0;
  if (asks_module(&o)) bits |= PTQ_NEED_MODULE_LOSS;
  return bits;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)dt;
  if (!options_of(m).clip || group != PTQ_GROUP_TENSOR) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "awq clips each group by its own error, and a tensor is one "
                  "group for all rows; say clip=false");
}

/* One layer with the scales chosen: its codes, and the weights that it has in
 * effect once what comes before it takes the inverse. */
static ptq_status finish(const awq_options *o, const ptq_quant_input *in,
                         const float *scale, float *scaled,
                         ptq_quant_output *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t cols = in->cols;
  ptq_dtype plain = *in->dtype, dtype;
  ptq_dtype_matrix state = {0};
  plain.matrix = NULL; /* was prepared on other weights */
  for (int64_t r = 0; r < in->rows; r++) {
    const float by = in->row_divisor != NULL ? in->row_divisor[r] : 1.0F;
    for (int64_t c = 0; c < cols; c++)
      scaled[r * cols + c] = in->w[r * cols + c] * scale[c] / by;
  }
  if (o->clip && !in->makes_scores) {
    PTQ_TRY(ptq_dtype_prepare(&plain, scaled, in->rows, cols, in->group, &state,
                              &dtype, err));
    PTQ_TRY(ptq_awq_clip(&dtype, scaled, in->rows, cols, in->group, in->h,
                         scale, in->threads, in->team, err));
  }
  PTQ_TRY(ptq_round_rows(&plain, in, scaled, out->y, out->q, out->params, err));
  for (int64_t r = 0; r < in->rows; r++) {
    const float by = in->row_divisor != NULL ? in->row_divisor[r] : 1.0F;
    float *y = out->y + r * cols;
    for (int64_t c = 0; c < cols; c++) y[c] = y[c] / scale[c] * by;
  }
  const uint64_t parts[2] = {
      ptq_hash64(scale, (size_t)cols * sizeof *scale),
      in->row_divisor == NULL
          ? 0
          : ptq_hash64(in->row_divisor, (size_t)in->rows * sizeof(float))};
  out->extra_hash = ptq_hash64(parts, sizeof parts);
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, cols, in->group);
  if (out->fold != NULL) memcpy(out->fold, scale, (size_t)cols * sizeof *scale);
done:
  ptq_dtype_matrix_release(&state);
  return rc;
}

static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const awq_options o = options_of(m);
  ptq_status rc = PTQ_OK;
  float *scale = NULL, *scaled = NULL;
  int64_t most = 0;
  for (int i = 0; i < n; i++) most = in[i].rows > most ? in[i].rows : most;
  PTQ_TRY(ptq_alloc(&scale, in->cols, sizeof *scale, "AWQ's scales", err));
  PTQ_TRY(ptq_alloc(&scaled, most * in->cols, sizeof *scaled,
                    "AWQ's scaled weights", err));
  for (int64_t c = 0; c < in->cols; c++) scale[c] = 1.0F;
  if (o.scaling != PTQ_AWQ_NONE && in->foldable)
    PTQ_TRY(ptq_awq_search((ptq_awq_scaling)o.scaling,
                           (ptq_awq_objective)o.objective, in, out, n, scaled,
                           scale, err));
  for (int i = 0; i < n; i++)
    PTQ_TRY(finish(&o, &in[i], scale, scaled, &out[i], err));
done:
  ptq_free(scale);
  ptq_free(scaled);
  return rc;
}

/* Rounding (8 a weight) for each candidate, its objective where that is the
 * site's, and ten clippings with a product by blocks of about 128. */
static double flops(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const awq_options o = options_of(m);
  const double r = (double)n_rows, c = (double)cols;
  double sum = 8.0 * r * c;
  if (o.scaling != PTQ_AWQ_NONE) sum += PTQ_AWQ_CANDIDATES * 8.0 * r * c;
  if (o.scaling != PTQ_AWQ_NONE && !asks_module(&o))
    sum += PTQ_AWQ_CANDIDATES * 2.0 * r * c * c;
  if (o.clip) sum += 10.0 * (2.0 * 128.0 + 20.0) * r * c;
  return sum;
}

static double module_evals(const ptq_method *m) {
  const awq_options o = options_of(m);
  return asks_module(&o) ? PTQ_AWQ_CANDIDATES : 0.0;
}

/* Scaled weights; for the site's objective also products of errors, and H in
 * float32. */
static double bytes(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const awq_options o = options_of(m);
  const double r = (double)n_rows, c = (double)cols;
  double sum = 4.0 * r * c;
  if (o.scaling != PTQ_AWQ_NONE && !asks_module(&o))
    sum += 4.0 * (r * c + c * c);
  return sum;
}

const ptq_method_family ptq_method_awq = {
    .name = "awq",
    .summary = "input channels scaled by their activations, groups clipped",
    .source = "arXiv 2306.00978; mit-han-lab/llm-awq auto_scale.py, "
              "auto_clip.py; scaling=duo: llm-compressor",
    .options_help = "clip=true objective=module|site scaling=inputs|duo|none",
    .backward = true,
    .parse = parse,
    .mode = mode,
    .needs = needs,
    .accepts = accepts,
    .quantize_site = quantize_site,
    .flops = flops,
    .module_evals = module_evals,
    .bytes = bytes,
    .lean = true,
};
