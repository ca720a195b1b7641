/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GPTAQ (Li et al. 2025): GPTQ that also corrects each layer for how far its
 * inputs, behind quantized layers, are from the unquantized model's. */
#include <string.h>

#include "gptq_site.h"
#include "option_table.h"

_Static_assert(sizeof(ptq_gptq_walk) <= sizeof(((ptq_method *)0)->own),
               "options fit");

static const char *const group_params_names[] = {"stale", "fresh", NULL};
static const ptq_gptq_walk defaults = {
    .damp = 0.01, .alpha = 0.25, .block = 128};

/* clang-format off */
#define AT(field) offsetof(ptq_gptq_walk, field)
static const ptq_option_row rows[] = {
  {"act_order",       PTQ_OPTION_CHOICE, AT(act_order),       0,    0,
   ptq_gptq_orders},
  {"alpha",           PTQ_OPTION_DOUBLE, AT(alpha),           1e-6, 1, NULL},
  {"block",           PTQ_OPTION_INT,    AT(block),           1,    65536,
   NULL},
  {"damp",            PTQ_OPTION_DOUBLE, AT(damp),            0,    1, NULL},
  {"group_params",    PTQ_OPTION_CHOICE, AT(group_params),    0,    0,
   group_params_names},
  {"static_groups",   PTQ_OPTION_BOOL,   AT(static_groups),   0,    0, NULL},
  {"true_sequential", PTQ_OPTION_BOOL,   AT(true_sequential), 0,    0, NULL},
  {NULL,              PTQ_OPTION_BOOL,   0,                   0,    0, NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static ptq_gptq_walk walk_of(const ptq_method *m) {
  ptq_gptq_walk w;
  memcpy(&w, m->own.bytes, sizeof w);
  return w;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_gptq_walk w;
  for (size_t i = 0; i < n; i++)
    if (strcmp(options[i].key, "hessian") == 0) {
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "gptaq corrects inputs that earlier layers' quantization "
                    "changed, so it is always sequential; hessian=static has "
                    "nothing to correct and is gptq");
      goto done;
    }
  PTQ_TRY(ptq_options_parse(&table, options, n, &w, sizeof w, m, err));
  PTQ_TRY(ptq_gptq_walk_check(m->name, &w, err));
  memcpy(m->own.bytes, &w, sizeof w);
done:
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  return walk_of(m).true_sequential ? PTQ_CALIB_TRUE_SEQUENTIAL
                                    : PTQ_CALIB_SEQUENTIAL;
}

static unsigned needs(const ptq_method *m) {
  (void)m;
  return PTQ_NEED_CROSS;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)m, (void)dt, (void)group, (void)err;
  return PTQ_OK;
}

static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const ptq_gptq_walk w = walk_of(m);
  return ptq_gptq_site(&w, in, out, n, err);
}

static double flops(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const ptq_gptq_walk w = walk_of(m);
  return ptq_gptq_walk_flops(&w, n_rows, cols);
}

static double bytes(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const ptq_gptq_walk w = walk_of(m);
  return ptq_gptq_walk_bytes(&w, n_rows, cols);
}

const ptq_method_family ptq_method_gptaq = {
    .name = "gptaq",
    .summary = "GPTQ that corrects for inputs changed by quantized layers",
    .source = "arXiv 2504.02692; GPTQModel 7.7.0 gptaq.py",
    .options_help =
        "act_order=false|true|group alpha=0.25 block=128 damp=0.01 "
        "group_params=stale|fresh static_groups=false true_sequential=false",
    .parse = parse,
    .mode = mode,
    .needs = needs,
    .accepts = accepts,
    .quantize_site = quantize_site,
    .flops = flops,
    .bytes = bytes,
};
