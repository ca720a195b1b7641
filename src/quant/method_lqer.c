/* SPDX-License-Identifier: GPL-3.0-or-later */
/* LQER (Zhang et al. 2024): the low-rank part of a method's error, its columns
 * weighted by the mean size of their inputs, kept beside the codes. */
#include <math.h>

#include "ptq/base/mem.h"
#include "restore_error.h"

/* The reference's floor of a mean input. */
#define LEAST_SCALE 1e-4

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  return ptq_restore_parse(m, options, n, "rtn", err);
}

static unsigned needs(const ptq_method *m) {
  return ptq_restore_needs(m) | PTQ_NEED_MEAN_ABS;
}

/* Scales' squares: |(W - Y - BA) diag(s)|^2 is the trace under diag(s^2). */
static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  double *metric = NULL;
  ptq_status rc = PTQ_OK;
  PTQ_TRY(
      ptq_alloc(&metric, in->cols, sizeof *metric, "scales of inputs", err));
  for (int64_t c = 0; c < in->cols; c++) {
    if (!isfinite(in->mean_abs[c])) {
      rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "the mean size of input %lld is %g; look for NaN or Inf "
                    "in the activations",
                    (long long)c, in->mean_abs[c]);
      goto done;
    }
    const double s = fmax(in->mean_abs[c], LEAST_SCALE);
    metric[c] = s * s;
  }
  PTQ_TRY(ptq_method_quantize_site(&base, in, out, n, err));
  for (int i = 0; i < n; i++)
    PTQ_TRY(ptq_restore_add(m, &in[i], metric, true, &out[i], err));
done:
  ptq_free(metric);
  return rc;
}

const ptq_method_family ptq_method_lqer = {
    .name = "lqer",
    .summary = "a base method, and its error's best low-rank stand-in under "
               "the inputs' mean size",
    .source = "arXiv 2402.02446 (L2QER); ChengZhang-98/lqer lqer_act.py",
    .options_help = "base=rtn|gptq|... hessian=static|sequential (over a base "
                    "without) precision=f16|bf16|f32 rank=32, the base's",
    .parse = parse,
    .mode = ptq_restore_mode,
    .needs = needs,
    .accepts = ptq_restore_accepts,
    .quantize_site = quantize_site,
    .flops = ptq_restore_flops,
    .module_evals = ptq_restore_module_evals,
    .bytes = ptq_restore_bytes,
};
