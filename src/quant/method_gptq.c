/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GPTQ (Frantar et al. 2022): columns one after the other, the error of each
 * spread over those that follow by the inverse second moment of the inputs. */
#include <math.h>
#include <string.h>

#include "gptq_core.h"
#include "gptq_factor.h"
#include "options.h"
#include "ptq/base/check.h"

typedef struct gptq_options {
  double damp;
  int64_t block;
  int hessian; /* index of hessian_names */
  int group_params;
  bool true_sequential, act_order, static_groups;
} gptq_options;

_Static_assert(sizeof(gptq_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

enum { SEQUENTIAL, STATIC };
enum { STALE, FRESH };

static const char *const hessian_names[] = {"sequential", "static", NULL};
static const char *const group_params_names[] = {"stale", "fresh", NULL};
static const gptq_options defaults = {.damp = 0.01, .block = 128};

enum { BLOCK_MAX = 65536 };

static gptq_options options_of(const ptq_method *m) {
  gptq_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse_one(const char *method, const ptq_method_option *o,
                            gptq_options *to, ptq_err *err) {
  static const char *const known[] = {
      "act_order",     "block",           "damp", "group_params", "hessian",
      "static_groups", "true_sequential", NULL};
  if (strcmp(o->key, "act_order") == 0)
    return ptq_option_bool(o, &to->act_order, err);
  if (strcmp(o->key, "block") == 0)
    return ptq_option_int(o, 1, BLOCK_MAX, &to->block, err);
  if (strcmp(o->key, "damp") == 0)
    return ptq_option_double(o, 0.0, 1.0, &to->damp, err);
  if (strcmp(o->key, "group_params") == 0)
    return ptq_option_choice(o, group_params_names, &to->group_params, err);
  if (strcmp(o->key, "hessian") == 0)
    return ptq_option_choice(o, hessian_names, &to->hessian, err);
  if (strcmp(o->key, "static_groups") == 0)
    return ptq_option_bool(o, &to->static_groups, err);
  if (strcmp(o->key, "true_sequential") == 0)
    return ptq_option_bool(o, &to->true_sequential, err);
  return ptq_option_unknown(method, o, known, err);
}

static ptq_status check_together(const gptq_options *o, ptq_err *err) {
  if (o->true_sequential && o->hessian == STATIC)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "gptq: true_sequential=true calibrates behind quantized "
                    "layers, hessian=static on the unquantized model; choose "
                    "one");
  if (o->static_groups && o->group_params == FRESH)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "gptq: static_groups=true takes parameters from untouched "
                    "weights, group_params=fresh from updated ones; choose "
                    "one");
  return PTQ_OK;
}

/* In the order of the keys; defaults are left out. */
static ptq_status spell(ptq_method *m, const gptq_options *o, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (o->act_order) PTQ_TRY(ptq_method_add_option(m, "act_order", "true", err));
  if (o->block != defaults.block)
    PTQ_TRY(ptq_method_add_number(m, "block", (double)o->block, err));
  if (o->damp != defaults.damp)
    PTQ_TRY(ptq_method_add_number(m, "damp", o->damp, err));
  if (o->group_params != defaults.group_params)
    PTQ_TRY(ptq_method_add_option(m, "group_params",
                                  group_params_names[o->group_params], err));
  if (o->hessian != defaults.hessian)
    PTQ_TRY(
        ptq_method_add_option(m, "hessian", hessian_names[o->hessian], err));
  if (o->static_groups)
    PTQ_TRY(ptq_method_add_option(m, "static_groups", "true", err));
  if (o->true_sequential)
    PTQ_TRY(ptq_method_add_option(m, "true_sequential", "true", err));
done:
  return rc;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  gptq_options o = defaults;
  for (size_t i = 0; i < n; i++)
    PTQ_TRY(parse_one(m->name, &options[i], &o, err));
  PTQ_TRY(check_together(&o, err));
  PTQ_TRY(spell(m, &o, err));
  memcpy(m->own.bytes, &o, sizeof o);
done:
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  const gptq_options o = options_of(m);
  if (o.hessian == STATIC) return PTQ_CALIB_STATIC;
  return o.true_sequential ? PTQ_CALIB_TRUE_SEQUENTIAL : PTQ_CALIB_SEQUENTIAL;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)m, (void)dt, (void)group, (void)err;
  return PTQ_OK;
}

/* What the reference does with group parameters fitted on updated weights is
 * what it does with blocks of one group. */
static int64_t block_columns(const gptq_options *o, int64_t group) {
  return o->group_params == FRESH && group > 0 ? group : o->block;
}

static ptq_status quantize(const ptq_method *m, const ptq_quant_input *in,
                           ptq_quant_output *out, ptq_err *err) {
  const gptq_options o = options_of(m);
  ptq_status rc = PTQ_OK;
  ptq_gptq_factor *own = NULL;
  const ptq_gptq_factor *factor = NULL;
  PTQ_ASSERT(in->h != NULL);
  if (in->cache != NULL) {
    PTQ_TRY(ptq_factor_cache_get(in->cache, in->cache_site, in->h, in->cols,
                                 o.damp, o.act_order, in->threads, &factor,
                                 err));
  } else {
    PTQ_TRY(ptq_gptq_factor_create(in->h, in->cols, o.damp, o.act_order,
                                   in->threads, &own, err));
    factor = own;
  }
  const ptq_gptq_job job = {.w = in->w,
                            .rows = in->rows,
                            .cols = in->cols,
                            .dtype = in->dtype,
                            .group = in->group,
                            .block = block_columns(&o, in->group),
                            .static_groups = o.static_groups,
                            .factor = factor,
                            .threads = in->threads,
                            .y = out->y,
                            .q = out->q,
                            .params = out->params};
  PTQ_TRY(ptq_gptq_run(&job, err));
  out->damp = factor->damp;
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group);
  if (o.act_order && !o.static_groups &&
      ptq_dtype_groups(in->cols, in->group) > 1)
    out->storage_bits += 32.0 * (double)in->cols; /* a column's group */
done:
  ptq_gptq_factor_free(own);
  return rc;
}

/* Feedback rows * cols^2; Cholesky factorization and inverse of a triangle a
 * third of cols^3 each; all in float64 at half the speed; rounding. */
static double flops(const ptq_method *m, int64_t rows, int64_t cols) {
  (void)m;
  const double r = (double)rows, c = (double)cols;
  return 2.0 * r * c * c + 4.0 / 3.0 * c * c * c + 100.0 * r * c;
}

const ptq_method_family ptq_method_gptq = {
    .name = "gptq",
    .summary = "columns one by one, errors fed back by the inputs' second "
               "moment",
    .source = "arXiv 2210.17323; IST-DASLab/gptq 2d65066 gptq.py",
    .options_help =
        "act_order=false block=128 damp=0.01 group_params=stale|fresh "
        "hessian=sequential|static static_groups=false true_sequential=false",
    .parse = parse,
    .mode = mode,
    .accepts = accepts,
    .quantize = quantize,
    .flops = flops,
};
