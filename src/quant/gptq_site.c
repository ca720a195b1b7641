/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gptq_site.h"

#include <math.h>
#include <string.h>

#include "gptq_core.h"
#include "gptq_factor.h"
#include "gptq_search.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

const char *const ptq_gptq_orders[] = {"false", "true", "group", NULL};

ptq_status ptq_gptq_walk_check(const char *method, const ptq_gptq_walk *w,
                               ptq_err *err) {
  if (w->static_groups && w->group_params == PTQ_GROUP_PARAMS_FRESH)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "%s: static_groups=true takes parameters from untouched "
                    "weights, group_params=fresh from updated ones; choose "
                    "one",
                    method);
  if (w->mx == PTQ_MX_JOINT && w->static_groups)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "%s: mx=joint fits a block on updated weights, "
                    "static_groups=true on untouched ones; choose one",
                    method);
  if (w->mx == PTQ_MX_JOINT && w->group_params == PTQ_GROUP_PARAMS_FRESH)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "%s: the blocks of mx=joint have fresh parameters anyhow; "
                    "leave group_params=fresh out",
                    method);
  return PTQ_OK;
}

ptq_status ptq_gptq_walk_accepts(const char *method, const ptq_gptq_walk *w,
                                 const ptq_dtype *dt, ptq_err *err) {
  if (w->mx == PTQ_MX_COLUMNS || dt->family->pads_groups) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "%s: mx=joint quantizes the blocks of MX formats at once, "
                  "and '%s' has none",
                  method, dt->name);
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* Columns between two updates of everything behind. What the reference does
 * with group parameters fitted on updated weights is what it does with blocks
 * of one group. */
static int64_t block_columns(const ptq_gptq_walk *w, int64_t group,
                             int64_t cols) {
  if (w->mx == PTQ_MX_JOINT) {
    const int64_t width = group > 0 ? least(group, cols) : cols;
    return width < w->block ? w->block / width * width : width;
  }
  return w->group_params == PTQ_GROUP_PARAMS_FRESH && group > 0 ? group
                                                                : w->block;
}

/* As ptq_gptq_factor_create takes it. */
static int64_t run_of(const ptq_gptq_walk *w, const ptq_quant_input *in) {
  if (w->act_order != PTQ_ORDER_GROUPS) return w->act_order;
  return in->group > 0 ? least(in->group, in->cols) : in->cols;
}

static ptq_gptq_job make_job(const ptq_gptq_walk *w, const ptq_quant_input *in,
                             const ptq_quant_output *out) {
  return (ptq_gptq_job){.w = in->w,
                        .rows = in->rows,
                        .cols = in->cols,
                        .dtype = in->dtype,
                        .group = in->group,
                        .block = block_columns(w, in->group, in->cols),
                        .static_groups = w->static_groups,
                        .whole_groups = w->act_order == PTQ_ORDER_GROUPS,
                        .joint = w->mx == PTQ_MX_JOINT,
                        .threads = in->threads,
                        .team = in->team,
                        .y = out->y,
                        .q = out->q,
                        .params = out->params};
}

/* -P = -alpha triu(D U', 1) U, with the cross moment D and U in the factor's
 * order; U's own unit cancels. */
static ptq_status make_drift(const ptq_gptq_walk *w, const ptq_quant_input *in,
                             const ptq_gptq_factor *f, double **out,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = in->cols;
  double *d = NULL, *t = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&d, n * n, sizeof *d, "GPTAQ's cross moment", err));
  PTQ_TRY(ptq_alloc(&t, n * n, sizeof *t, "GPTAQ's cross moment", err));
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      const int64_t r = f->order != NULL ? f->order[i] : i;
      const int64_t c = f->order != NULL ? f->order[j] : j;
      d[i * n + j] = f->dead[c] ? 0.0 : in->cross[r * n + c];
    }
  ptq_dgemm_nt(n, n, n, -w->alpha * f->unit, d, n, f->u, n, 0.0, t, n);
  for (int64_t i = 0; i < n; i++)
    memset(t + i * n, 0, (size_t)(i + 1) * sizeof *t);
  ptq_dgemm_nn(n, n, n, 1.0, t, n, f->u, n, 0.0, d, n);
  *out = d;
  d = NULL;
done:
  ptq_free(d);
  ptq_free(t);
  return rc;
}

static void account(const ptq_gptq_walk *w, const ptq_quant_input *in,
                    const ptq_gptq_factor *f, ptq_quant_output *out) {
  out->damp = f->damp;
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group);
  if (w->act_order == PTQ_ORDER_DIAGONAL && !w->static_groups &&
      ptq_dtype_groups(in->cols, in->group) > 1)
    out->storage_bits += 32.0 * (double)in->cols; /* a column's group */
}

/* Layers [0, n) of a site with one damping. */
static ptq_status quantize_with(const ptq_gptq_walk *w, double damp,
                                const ptq_quant_input *in,
                                ptq_quant_output *out, int n, bool cached,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_gptq_factor *own = NULL;
  const ptq_gptq_factor *factor = NULL;
  double *drift = NULL;
  if (in->spare != NULL && ptq_gptq_walk_spends_h(w)) {
    PTQ_TRY(ptq_gptq_factor_create_in(in->spare, in->cols, damp, in->threads,
                                      &own, err));
    factor = own;
  } else if (cached) {
    PTQ_TRY(ptq_factor_cache_get(in->cache, in->cache_site, in->h, in->cols,
                                 damp, w->act_order != 0, in->threads, &factor,
                                 err));
  } else {
    PTQ_TRY(ptq_gptq_factor_create(in->h, in->cols, damp, run_of(w, in),
                                   in->threads, &own, err));
    factor = own;
  }
  if (w->alpha > 0.0) PTQ_TRY(make_drift(w, in, factor, &drift, err));
  for (int i = 0; i < n; i++) {
    ptq_gptq_job job = make_job(w, &in[i], &out[i]);
    job.factor = factor;
    job.drift = drift;
    PTQ_TRY(ptq_gptq_run(&job, err));
    account(w, &in[i], factor, &out[i]);
  }
done:
  ptq_gptq_factor_free(own);
  ptq_free(drift);
  return rc;
}

/* Each layer with the damping that errs least on what was held out. */
static ptq_status search_and_quantize(const ptq_gptq_walk *w,
                                      const ptq_quant_input *in,
                                      ptq_quant_output *out, int n,
                                      ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_gptq_job *jobs = NULL;
  double *damp = NULL;
  PTQ_TRY(ptq_alloc(&jobs, n, sizeof *jobs, "a site's layers", err));
  PTQ_TRY(ptq_alloc(&damp, n, sizeof *damp, "dampings", err));
  for (int i = 0; i < n; i++) jobs[i] = make_job(w, &in[i], &out[i]);
  PTQ_TRY(ptq_gptq_search(in, jobs, n, run_of(w, in), damp, err));
  for (int i = 0; i < n; i++)
    PTQ_TRY(quantize_with(w, damp[i], &in[i], &out[i], 1, false, err));
done:
  ptq_free(jobs);
  ptq_free(damp);
  return rc;
}

ptq_status ptq_gptq_site(const ptq_gptq_walk *w, const ptq_quant_input *in,
                         ptq_quant_output *out, int n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  /* An order that hangs on the group would fill the cache; layers of mixed
   * precision whose groups differ have one each. */
  const bool cached = in->cache != NULL && w->act_order != PTQ_ORDER_GROUPS;
  for (int i = 0, m; i < n; i += m) {
    for (m = 1; i + m < n && run_of(w, &in[i + m]) == run_of(w, &in[i]);) m++;
    if (w->damp < 0.0)
      PTQ_TRY(search_and_quantize(w, &in[i], &out[i], m, err));
    else
      PTQ_TRY(quantize_with(w, w->damp, &in[i], &out[i], m, cached, err));
  }
done:
  return rc;
}

/* Feedback rows * cols^2; Cholesky factorization and inverse of a triangle a
 * third of cols^3 each; all in float64 at half the speed; rounding. A search
 * does it again for each of its dampings, and takes the trace. */
double ptq_gptq_walk_flops(const ptq_gptq_walk *w, int64_t rows, int64_t cols) {
  const double r = (double)rows, c = (double)cols;
  const double once = 1.5 * r * c * c + c * c * c + 1600.0 * r * c;
  double flops = once;
  if (w->alpha > 0.0) flops += 7.0 * c * c * c + 1.8 * r * c * c;
  if (w->damp < 0.0) flops += PTQ_GPTQ_DAMPINGS * (once + 3.0 * r * c * c);
  return flops;
}

bool ptq_gptq_walk_spends_h(const ptq_gptq_walk *w) {
  return w->act_order == PTQ_ORDER_NATURAL && w->alpha == 0.0 && w->damp >= 0.0;
}

double ptq_gptq_walk_bytes(const ptq_gptq_walk *w, int64_t rows, int64_t cols) {
  const double r = (double)rows, c = (double)cols;
  double bytes = ptq_gptq_tile_bytes(rows, cols) + 8.0 * 256.0 * c;
  if (w->alpha > 0.0) bytes += 16.0 * c * c;
  if (w->act_order == PTQ_ORDER_GROUPS) bytes += 8.0 * c * c;
  if (w->damp < 0.0) bytes += 8.0 * c * c + 4.0 * c * c + 8.0 * r * c;
  return bytes;
}
