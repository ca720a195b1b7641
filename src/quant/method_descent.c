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
#include "row_errors.h"
#include "scale_search.h"

typedef struct descent_options {
  double damp, shrink;
  int64_t passes, starts, sweeps;
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
                                         .starts = 1,
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
  {"starts",    PTQ_OPTION_INT,    AT(starts),    1.0,  8.0,   NULL},
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
                                   .team = in->team,
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
                             .team = in->team,
                             .y = out->y,
                             .q = out->q,
                             .params = out->params};
  PTQ_TRY(ptq_gptq_run(&gptq, err));
done:
  ptq_free(weight);
  return rc;
}

/* One start and where it leads. */
static ptq_status descend(const descent_options *o, const ptq_quant_input *in,
                          const ptq_gptq_factor *f, ptq_quant_output *out,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(start(o, in, f, out, err));
  const ptq_joint_descent_job job = {.w = in->w,
                                     .rows = in->rows,
                                     .cols = in->cols,
                                     .dtype = in->dtype,
                                     .group = in->group,
                                     .h = f->h,
                                     .dead = f->dead,
                                     .passes = o->passes,
                                     .sweeps = o->sweeps,
                                     .threads = in->threads,
                                     .team = in->team,
                                     .y = out->y,
                                     .q = out->q,
                                     .params = out->params};
  PTQ_TRY(ptq_joint_descent_run(&job, err));
done:
  return rc;
}

/* The power of H of start k. That of start 1 also judges: it is nearer to H,
 * whose directions of little variance a start should not overrate. */
static double power_of(const descent_options *o, int64_t k) {
  static const double off[] = {0.0, 0.1, 0.25, -0.1, 0.05, -0.05, 0.15, -0.15};
  return fmin(fmax(o->shrink + off[k], 0.05), 1.0);
}

/* Another start's results. */
typedef struct rival {
  ptq_quant_output out; /* buffers owned */
  double *error, *best; /* owned; [rows] */
} rival;

static ptq_status rival_init(rival *v, const ptq_quant_input *in,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = in->rows * in->cols;
  const int64_t n_params = in->rows * ptq_dtype_groups(in->cols, in->group);
  const char *what = "another start's weights";
  *v = (rival){.error = NULL};
  PTQ_TRY(ptq_alloc(&v->out.y, n, sizeof *v->out.y, what, err));
  PTQ_TRY(ptq_alloc(&v->out.q, n, sizeof *v->out.q, what, err));
  PTQ_TRY(
      ptq_alloc(&v->out.params, n_params, sizeof *v->out.params, what, err));
  PTQ_TRY(ptq_alloc(&v->error, in->rows, sizeof *v->error, what, err));
  PTQ_TRY(ptq_alloc(&v->best, in->rows, sizeof *v->best, what, err));
done:
  return rc;
}

static void rival_release(rival *v) {
  ptq_free(v->out.y);
  ptq_free(v->out.q);
  ptq_free(v->out.params);
  ptq_free(v->error);
  ptq_free(v->best);
}

/* Rows that the rival has better go to out. A tensor's parameters are the same
 * from every start. */
static void take_better_rows(const ptq_quant_input *in, rival *v,
                             ptq_quant_output *out) {
  const int64_t cols = in->cols;
  const int64_t groups = ptq_dtype_groups(cols, in->group);
  for (int64_t r = 0; r < in->rows; r++) {
    if (!(v->error[r] < v->best[r])) continue;
    v->best[r] = v->error[r];
    memcpy(out->y + r * cols, v->out.y + r * cols,
           (size_t)cols * sizeof *out->y);
    memcpy(out->q + r * cols, v->out.q + r * cols,
           (size_t)cols * sizeof *out->q);
    if (in->group == PTQ_GROUP_TENSOR) continue;
    memcpy(out->params + r * groups, v->out.params + r * groups,
           (size_t)groups * sizeof *out->params);
  }
}

/* The best of all starts, row by row. */
static ptq_status quantize_cached(const descent_options *o,
                                  const ptq_quant_input *in,
                                  ptq_factor_cache *cache,
                                  ptq_quant_output *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_gptq_factor *f = NULL, *judge = NULL;
  rival v = {.error = NULL};
  double tried[8];
  for (int64_t k = 0; k < o->starts; k++) {
    bool again = false;
    tried[k] = power_of(o, k);
    for (int64_t i = 0; i < k; i++) again = again || tried[i] == tried[k];
    if (again) continue;
    PTQ_TRY(ptq_factor_cache_get_shrunk(cache, in->cache_site, in->h, in->cols,
                                        o->damp, tried[k], o->act_order,
                                        in->threads, &f, err));
    if (k == 0) {
      out->damp = f->damp;
      PTQ_TRY(descend(o, in, f, out, err));
      continue;
    }
    if (judge == NULL) {
      judge = f;
      PTQ_TRY(rival_init(&v, in, err));
      PTQ_TRY(ptq_row_errors(in->w, out->y, in->rows, in->cols, judge->h,
                             judge->dead, in->threads, in->team, v.best, err));
    }
    PTQ_TRY(descend(o, in, f, &v.out, err));
    PTQ_TRY(ptq_row_errors(in->w, v.out.y, in->rows, in->cols, judge->h,
                           judge->dead, in->threads, in->team, v.error, err));
    take_better_rows(in, &v, out);
  }
done:
  rival_release(&v);
  return rc;
}

static ptq_status quantize(const ptq_method *m, const ptq_quant_input *in,
                           ptq_quant_output *out, ptq_err *err) {
  const descent_options o = options_of(m);
  ptq_status rc = PTQ_OK;
  ptq_factor_cache *own = NULL;
  PTQ_ASSERT(in->h != NULL);
  if (in->cache == NULL) PTQ_TRY(ptq_factor_cache_create(&own, err));
  PTQ_TRY(quantize_cached(&o, in, own != NULL ? own : in->cache, out, err));
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group);
done:
  ptq_factor_cache_free(own);
  return rc;
}

/* Eigenvectors, of which half goes at the speed of memory; and of each start: a
 * power of H and its factor, GPTQ, the gradient and a product a pass and a
 * sweep, some roundings of groups a sweep, the search's 65 candidates. */
static double flops(const ptq_method *m, int64_t n_rows, int64_t n_cols) {
  const descent_options o = options_of(m);
  const double r = (double)n_rows, c = (double)n_cols;
  const double passes = (double)(o.passes * (o.sweeps + 1));
  const double sweeps = (double)o.sweeps;
  double sum = 1.7 * r * c * c + 3.4 * c * c * c + 3500.0 * r * c;
  if (passes > 0.0 || sweeps > 0.0) sum += 1.6 * r * c * c * (2.0 + sweeps);
  sum += passes * (4.7 * r * c * c + 300.0 * r * c);
  if (o.scales == WEIGHTED) sum += 6200.0 * r * c;
  sum += 3100.0 * sweeps * r * c;
  return (double)o.starts * sum + (o.shrink < 1.0 ? 16.0 * c * c * c : 0.0);
}

/* Factor and moment of each start at all sites of a block, whose squares are
 * hardly more than 1.5 of the widest one; a spectrum, and room to make one;
 * rows of tiles with their gradient on two threads; another start's weights. */
static double bytes(const ptq_method *m, int64_t n_rows, int64_t n_cols) {
  const descent_options o = options_of(m);
  const double r = (double)n_rows, c = (double)n_cols;
  const double tiles = n_rows < 512 ? r : 512.0;
  const double squares = 1.5 * (2.0 * (double)o.starts + 2.0) + 2.0;
  return 8.0 * (squares * c * c + 8.0 * tiles * c + 2.0 * r * c);
}

const ptq_method_family ptq_method_descent = {
    .name = "descent",
    .summary = "GPTQ under a shrunk second moment, then descent on codes and "
               "scales",
    .source = "this program; GPTQ arXiv 2210.17323, coordinate descent as in "
              "arXiv 2406.17542",
    .options_help =
        "act_order=true damp=0.01 hessian=static|sequential passes=4 "
        "scales=weighted|fitted shrink=0.75 starts=1 sweeps=2",
    .parse = parse,
    .mode = mode,
    .accepts = accepts,
    .quantize = quantize,
    .flops = flops,
    .bytes = bytes,
};
