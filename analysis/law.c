/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/validate.h"

/* The first is the default: simple enough to say in a sentence. The others
 * stand beside it in the comparison by held-out error. */
/* clang-format off */
static const ptq_law laws[] = {
  {"simple",
   "dnll ~ log(params_nonembedding) + bits_per_weight + log(group) + "
   "sqnr_output + method",
   "size, storage, group, output SQNR and method"},
  {"config",
   "dnll ~ log(params_nonembedding) + bits_per_weight + log(group) + method",
   "what is known before anything is run"},
  {"sqnr_output",
   "dnll ~ log(params_nonembedding) + sqnr_output",
   "size and output SQNR alone"},
  {"sqnr_weight",
   "dnll ~ log(params_nonembedding) + bits_per_weight + log(group) + "
   "sqnr_weight + method",
   "the default with weight SQNR instead of output SQNR"},
  {"element",
   "dnll ~ log(params_nonembedding) + bits + log(group) + element + method",
   "bits of the code and kind of number format instead of storage"},
  {"interaction",
   "dnll ~ log(params_nonembedding) + bits_per_weight + log(group) + "
   "sqnr_output + method + log(params_nonembedding):sqnr_output",
   "the default, with the effect of SQNR growing with size"},
  {"hessian",
   "dnll ~ log(params_nonembedding) + log(err_hessian) + sqnr_output",
   "size, the error that calibration sees, and the error on selection text"},
  {"rtn",
   "dnll ~ log(params_nonembedding) + sqnr_rtn + method",
   "size, SQNR of rounding, and method"},
  {"headroom",
   "dnll ~ log(params_nonembedding) + sqnr_rtn + log(headroom) + method",
   "the same with what the model has to lose"},
  {"spectrum",
   "dnll ~ log(params_nonembedding) + sqnr_rtn + h_rank_nofirst + "
   "h_tail_nofirst + method",
   "size, SQNR of rounding, and the inputs' spectra"},
  {"landscape",
   "dnll ~ log(params_nonembedding) + sqnr_rtn + log(basin_05) + method",
   "size, SQNR of rounding, and how far out the loss rises by half a nat"},
  {"nll",
   "dnll ~ log(params_nonembedding) + log(nll_model) + bits_per_weight + "
   "log(group) + sqnr_output + method",
   "the default with the unquantized model's NLL"},
};
/* clang-format on */

const ptq_law *ptq_law_at(size_t i) {
  return i < sizeof laws / sizeof laws[0] ? &laws[i] : NULL;
}
