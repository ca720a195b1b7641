/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Round to nearest: each weight on its own. */
#include <math.h>

#include "options.h"

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  static const char *const known[] = {NULL};
  if (n == 0) return PTQ_OK;
  return ptq_option_unknown(m->name, &options[0], known, err);
}

static ptq_calibration_mode mode(const ptq_method *m) {
  (void)m;
  return PTQ_CALIB_NONE;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)m, (void)dt, (void)group, (void)err;
  return PTQ_OK;
}

static ptq_status quantize(const ptq_method *m, const ptq_quant_input *in,
                           ptq_quant_output *out, ptq_err *err) {
  (void)m;
  out->damp = NAN;
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group);
  return ptq_dtype_round_matrix(in->dtype, in->w, in->rows, in->cols, in->group,
                                out->y, out->q, out->params, err);
}

/* A division, a rounding and a range a weight, in units of the cost model. */
static double flops(const ptq_method *m, int64_t rows, int64_t cols) {
  (void)m;
  return 8.0 * (double)rows * (double)cols;
}

const ptq_method_family ptq_method_rtn = {
    .name = "rtn",
    .summary = "round to nearest, each weight on its own",
    .source = "the dtype's reference",
    .options_help = "",
    .parse = parse,
    .mode = mode,
    .accepts = accepts,
    .quantize = quantize,
    .flops = flops,
};
