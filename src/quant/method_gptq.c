/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GPTQ (Frantar et al. 2022): columns one after the other, the error of each
 * spread over those that follow by the inverse second moment of the inputs. */
#include <string.h>

#include "gptq_site.h"
#include "option_table.h"

typedef struct gptq_options {
  ptq_gptq_walk walk;
  int hessian; /* index of hessian_names */
} gptq_options;

_Static_assert(sizeof(gptq_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

enum { SEQUENTIAL, STATIC };

static const char *const hessian_names[] = {"sequential", "static", NULL};
static const char *const group_params_names[] = {"stale", "fresh", NULL};
static const char *const mx_names[] = {"columns", "joint", NULL};
static const char *const damp_words[] = {"search", NULL};
static const gptq_options defaults = {.walk = {.damp = 0.01, .block = 128}};

/* clang-format off */
#define AT(field) offsetof(gptq_options, field)
static const ptq_option_row rows[] = {
  {"act_order",       PTQ_OPTION_CHOICE, AT(walk.act_order),       0, 0,
   ptq_gptq_orders},
  {"block",           PTQ_OPTION_INT,    AT(walk.block),           1, 65536,
   NULL},
  {"damp",            PTQ_OPTION_DOUBLE, AT(walk.damp),            0, 1,
   damp_words},
  {"group_params",    PTQ_OPTION_CHOICE, AT(walk.group_params),    0, 0,
   group_params_names},
  {"hessian",         PTQ_OPTION_CHOICE, AT(hessian),              0, 0,
   hessian_names},
  {"mx",              PTQ_OPTION_CHOICE, AT(walk.mx),              0, 0,
   mx_names},
  {"static_groups",   PTQ_OPTION_BOOL,   AT(walk.static_groups),   0, 0, NULL},
  {"true_sequential", PTQ_OPTION_BOOL,   AT(walk.true_sequential), 0, 0, NULL},
  {NULL,              PTQ_OPTION_BOOL,   0,                        0, 0, NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static gptq_options options_of(const ptq_method *m) {
  gptq_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  gptq_options o;
  PTQ_TRY(ptq_options_parse(&table, options, n, &o, sizeof o, m, err));
  if (o.walk.true_sequential && o.hessian == STATIC) {
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "gptq: true_sequential=true calibrates behind quantized "
                  "layers, hessian=static on the unquantized model; choose "
                  "one");
    goto done;
  }
  PTQ_TRY(ptq_gptq_walk_check(m->name, &o.walk, err));
  memcpy(m->own.bytes, &o, sizeof o);
done:
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  const gptq_options o = options_of(m);
  if (o.hessian == STATIC) return PTQ_CALIB_STATIC;
  return o.walk.true_sequential ? PTQ_CALIB_TRUE_SEQUENTIAL
                                : PTQ_CALIB_SEQUENTIAL;
}

static unsigned needs(const ptq_method *m) {
  return options_of(m).walk.damp < 0.0 ? PTQ_NEED_HOLDOUT : 0;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  const gptq_options o = options_of(m);
  (void)group;
  return ptq_gptq_walk_accepts(m->name, &o.walk, dt, err);
}

static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const gptq_options o = options_of(m);
  return ptq_gptq_site(&o.walk, in, out, n, err);
}

static double flops(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const gptq_options o = options_of(m);
  return ptq_gptq_walk_flops(&o.walk, n_rows, cols);
}

static double bytes(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const gptq_options o = options_of(m);
  return ptq_gptq_walk_bytes(&o.walk, n_rows, cols);
}

static bool spends_h(const ptq_method *m) {
  const gptq_options o = options_of(m);
  return ptq_gptq_walk_spends_h(&o.walk);
}

const ptq_method_family ptq_method_gptq = {
    .name = "gptq",
    .summary = "columns one by one, errors fed back by the inputs' second "
               "moment",
    .source = "arXiv 2210.17323; IST-DASLab/gptq 2d65066 gptq.py; mx=joint: "
              "dmx-compressor 0.1.11",
    .options_help =
        "act_order=false|true|group block=128 damp=0.01|search "
        "group_params=stale|fresh "
        "hessian=sequential|static mx=columns|joint static_groups=false "
        "true_sequential=false",
    .parse = parse,
    .mode = mode,
    .needs = needs,
    .accepts = accepts,
    .quantize_site = quantize_site,
    .flops = flops,
    .bytes = bytes,
    .lean = true,
    .spends_h = spends_h,
};
