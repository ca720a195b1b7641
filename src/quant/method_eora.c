/* SPDX-License-Identifier: GPL-3.0-or-later */
/* EoRA (Liu et al. 2024): the low-rank part of a method's error that costs
 * the layer's output most, kept beside the codes. */
#include "ptq/base/mem.h"
#include "restore_error.h"

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  return ptq_restore_parse(m, options, n, "gptq", err);
}

static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  ptq_status rc = ptq_method_quantize_site(&base, in, out, n, err);
  for (int i = 0; i < n && rc == PTQ_OK; i++)
    rc = ptq_restore_add(m, &in[i], in[i].h, false, &out[i], err);
  return rc;
}

const ptq_method_family ptq_method_eora = {
    .name = "eora",
    .summary = "a base method, and its error's best low-rank stand-in under "
               "the inputs' second moment",
    .source = "arXiv 2410.21271; GPTQModel eora.py",
    .options_help = "base=gptq|rtn|... hessian=static|sequential (over a base "
                    "without) precision=f16|bf16|f32 rank=32, the base's",
    .parse = parse,
    .mode = ptq_restore_mode,
    .needs = ptq_restore_needs,
    .accepts = ptq_restore_accepts,
    .quantize_site = quantize_site,
    .flops = ptq_restore_flops,
    .module_evals = ptq_restore_module_evals,
    .bytes = ptq_restore_bytes,
};
