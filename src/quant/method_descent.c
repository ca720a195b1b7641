/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GPTQ as a start, then descent on codes and scales, both under a second
 * moment whose eigenvalues are shrunk; scales by weighted least squares. */
#include <math.h>
#include <string.h>

#include "joint_descent.h"
#include "gptq_core.h"
#include "gptq_factor.h"
#include "option_table.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "scale_search.h"

typedef struct descent_options {
  double damp, shrink;
  int64_t passes, sweeps;
  int hessian, scales; /* indices of names */
  bool act_order;
} descent_options;

_Static_assert(sizeof(descent_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

enum { STATIC, SEQUENTIAL };
enum { WEIGHTED, FITTED };
enum { BLOCK = 128 }; /* columns of GPTQ between two updates of the rest */

static const char *const hessian_names[] = {"static", "sequential", NULL};
static const char *const scale_names[] = {"weighted", "fitted", NULL};
static const descent_options defaults = {.damp = 0.01,
                                         .shrink = 0.75,
                                         .passes = 4,
                                         .sweeps = 2,
                                         .hessian = STATIC,
                                         .scales = WEIGHTED,
                                         .act_order = true};

/* clang-format off */
#define AT(field) offsetof(descent_options, field)
static const ptq_option_row rows[] = {
  {"act_order", PTQ_OPTION_BOOL,   AT(act_order), 0.0,  0.0,   NULL},
  {"damp",      PTQ_OPTION_DOUBLE, AT(damp),      0.0,  1.0,   NULL},
  {"hessian",   PTQ_OPTION_CHOICE, AT(hessian),   0.0,  0.0,   hessian_names},
  {"passes",    PTQ_OPTION_INT,    AT(passes),    0.0,  100.0, NULL},
  {"scales",    PTQ_OPTION_CHOICE, AT(scales),    0.0,  0.0,   scale_names},
  {"shrink",    PTQ_OPTION_DOUBLE, AT(shrink),    0.05, 1.0,   NULL},
  {"sweeps",    PTQ_OPTION_INT,    AT(sweeps),    0.0,  100.0, NULL},
  {NULL,        PTQ_OPTION_BOOL,   0,             0.0,  0.0,   NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static descent_options options_of(const ptq_method *m) {
  descent_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  descent_options o;
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

/* What a column's error costs lies between its diagonal of H, where nothing
 * makes up for it, and 1 / U_ii^2, where all later columns do: their geometric
 * mean, by column. */
static void weigh(const ptq_gptq_factor *f, double *weight) {
  for (int64_t i = 0; i < f->n; i++) {
    const int64_t c = f->order != NULL ? f->order[i] : i;
    weight[c] = sqrt(f->h[c * f->n + c]) / f->u[i * f->n + i];
  }
}

static ptq_status start(const descent_options *o, const ptq_quant_input *in,
                        const ptq_gptq_factor *f, ptq_quant_output *out,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *weight = NULL;
  PTQ_TRY(
      ptq_alloc(&weight, in->cols, sizeof *weight, "weights of columns", err));
  weigh(f, weight);
  const ptq_scale_search search = {.w = in->w,
                                   .rows = in->rows,
                                   .cols = in->cols,
                                   .dtype = in->dtype,
                                   .group = in->group,
                                   .weight = weight,
                                   .dead = f->dead,
                                   .search = o->scales == WEIGHTED,
                                   .threads = in->threads,
                                   .params = out->params};
  PTQ_TRY(ptq_scale_search_run(&search, err));
  const ptq_gptq_job gptq = {.w = in->w,
                             .rows = in->rows,
                             .cols = in->cols,
                             .dtype = in->dtype,
                             .group = in->group,
                             .block = BLOCK,
                             .factor = f,
                             .given_params = true,
                             .threads = in->threads,
                             .y = out->y,
                             .q = out->q,
                             .params = out->params};
  PTQ_TRY(ptq_gptq_run(&gptq, err));
done:
  ptq_free(weight);
  return rc;
}

static ptq_status quantize(const ptq_method *m, const ptq_quant_input *in,
                           ptq_quant_output *out, ptq_err *err) {
  const descent_options o = options_of(m);
  ptq_status rc = PTQ_OK;
  ptq_gptq_factor *own = NULL;
  const ptq_gptq_factor *f = NULL;
  PTQ_ASSERT(in->h != NULL);
  if (in->cache != NULL) {
    PTQ_TRY(ptq_factor_cache_get_shrunk(in->cache, in->cache_site, in->h,
                                        in->cols, o.damp, o.shrink, o.act_order,
                                        in->threads, &f, err));
  } else {
    PTQ_TRY(ptq_gptq_factor_create_shrunk(in->h, in->cols, o.damp, o.shrink,
                                          o.act_order, in->threads, &own, err));
    f = own;
  }
  PTQ_TRY(start(&o, in, f, out, err));
  const ptq_joint_descent_job job = {.w = in->w,
                                     .rows = in->rows,
                                     .cols = in->cols,
                                     .dtype = in->dtype,
                                     .group = in->group,
                                     .h = f->h,
                                     .dead = f->dead,
                                     .passes = o.passes,
                                     .sweeps = o.sweeps,
                                     .threads = in->threads,
                                     .y = out->y,
                                     .q = out->q,
                                     .params = out->params};
  PTQ_TRY(ptq_joint_descent_run(&job, err));
  out->damp = f->damp;
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group);
done:
  ptq_gptq_factor_free(own);
  return rc;
}

/* GPTQ's; eigenvectors and their product, of which half goes at the speed of
 * memory; the gradient and a product a pass; about five roundings of groups a
 * sweep, with one product; the search's 65 candidates a weight. */
static double flops(const ptq_method *m, int64_t n_rows, int64_t n_cols) {
  const descent_options o = options_of(m);
  const double r = (double)n_rows, c = (double)n_cols;
  const double passes = (double)(o.passes * (o.sweeps + 1));
  const double sweeps = (double)o.sweeps;
  double sum = 2.0 * r * c * c + 4.0 / 3.0 * c * c * c + 100.0 * r * c;
  if (o.shrink < 1.0) sum += 30.0 * c * c * c;
  if (passes > 0.0 || sweeps > 0.0)
    sum += 4.0 * r * c * c * (1.0 + passes + sweeps);
  if (o.scales == WEIGHTED) sum += 600.0 * r * c;
  return sum + 2000.0 * sweeps * r * c;
}

/* The shrunk moments of a block's sites and, while one is made, its
 * eigenvectors; a tile's rows a thread, with their gradient. */
static double bytes(const ptq_method *m, int64_t n_rows, int64_t n_cols) {
  (void)m;
  const double r = (double)(n_rows < 512 ? n_rows : 512), c = (double)n_cols;
  return 8.0 * (7.0 * c * c + 8.0 * r * c);
}

const ptq_method_family ptq_method_descent = {
    .name = "descent",
    .summary = "GPTQ under a shrunk second moment, then descent on codes and "
               "scales",
    .source = "this program; GPTQ arXiv 2210.17323, coordinate descent as in "
              "arXiv 2406.17542",
    .options_help =
        "act_order=true damp=0.01 hessian=static|sequential passes=4 "
        "scales=weighted|fitted shrink=0.75 sweeps=2",
    .parse = parse,
    .mode = mode,
    .accepts = accepts,
    .quantize = quantize,
    .flops = flops,
    .bytes = bytes,
};
