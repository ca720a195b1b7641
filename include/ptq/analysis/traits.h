/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file traits.h
 * What the Hessian spectra of a model and the layers of a point come to, as
 * a few numbers for features.
 */
#ifndef PTQ_ANALYSIS_TRAITS_H
#define PTQ_ANALYSIS_TRAITS_H

#include "ptq/record/rows.h"
#include "ptq/store/view.h"

/** Means over the blocks and sites of a model; NaN without spectra. With
 * eigenvalues v[0] >= v[1] >= ... of a d x d second moment, positive ones
 * only: */
typedef struct ptq_spectrum_traits {
  double log_trace; /* ln(sum v / d) */
  double top_share; /* v[0] / sum v */
  double rank;      /* exp(entropy of v / sum v) / d, in (0, 1] */
  double log_cond;  /* ln(v[0] / v[9d/10]): the last tenth is noise */
  double tail;      /* minus the slope of ln v by ln rank from d/10 to d/2 */
} ptq_spectrum_traits;

/** All positions, and without the first of each window. */
typedef struct ptq_model_traits {
  ptq_spectrum_traits all, nofirst;
} ptq_model_traits;

/** Traits of one spectrum of d eigenvalues, descending. */
ptq_spectrum_traits ptq_spectrum_traits_of(const double *values, int64_t d);

/** Traits of `n_models` models from the spectra of a store. Sites whose name
 * ends in "_nofirst" are those without the first position. */
void ptq_model_traits_of(const ptq_view_spectrum *spectra, int64_t n,
                         ptq_model_traits *out, int64_t n_models);

/** Over the layers of a point; NaN without layers. */
typedef struct ptq_layer_traits {
  double log_err_mean, log_err_max;         /* of ln(err_hessian) */
  double weight_min, weight_max, weight_sd; /* sqnr_weight, dB */
  double output_min, output_max, output_sd; /* sqnr_output, dB */
  /* Means over weights, of what each layer says of its own format; for points
   * of mixed precision. NaN in stores of older programs. */
  double bits;      /* width of the element as its name says */
  double log_group; /* ln(weights that share a scale), of layers whose group is
                       a number or the tensor */
  double row_share; /* of weights whose group is the row */
} ptq_layer_traits;

/** Width of the element of a number format in bits, as its name says: 4 of
 * "mxint4:x"; `storage` where the name has no number; 0: not known. */
double ptq_name_bits(const char *dtype, double storage);

ptq_layer_traits ptq_layer_traits_of(const ptq_layer_row *layers, int64_t n);

#endif /* PTQ_ANALYSIS_TRAITS_H */
