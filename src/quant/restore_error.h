/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file restore_error.h
 * What LQER and EoRA have in common: a base method, and a low-rank product
 * that gives back part of its error.
 */
#ifndef PTQ_QUANT_RESTORE_ERROR_H
#define PTQ_QUANT_RESTORE_ERROR_H

#include "base_method.h"
#include "low_rank.h"

typedef struct ptq_restore {
  ptq_base_method base;
  int64_t rank;
  int precision; /* a ptq_factor_type */
  int hessian;   /* where the base needs no calibration */
} ptq_restore;

_Static_assert(sizeof(ptq_restore) <= sizeof(((ptq_method *)0)->own),
               "options fit");

ptq_restore ptq_restore_of(const ptq_method *m);

/** `fallback` is the base where none is given. */
ptq_status ptq_restore_parse(ptq_method *m, const ptq_method_option *options,
                             size_t n, const char *fallback, ptq_err *err);
ptq_calibration_mode ptq_restore_mode(const ptq_method *m);
ptq_status ptq_restore_accepts(const ptq_method *m, const ptq_dtype *dt,
                               int64_t group, ptq_err *err);
unsigned ptq_restore_needs(const ptq_method *m);
double ptq_restore_module_evals(const ptq_method *m);
double ptq_restore_bytes(const ptq_method *m, int64_t rows, int64_t cols);
double ptq_restore_flops(const ptq_method *m, int64_t rows, int64_t cols);

/** out->y, which holds the base's weights, gains the low-rank stand-in of the
 * base's error under the metric (see low_rank.h); bits and hash with it. */
ptq_status ptq_restore_add(const ptq_method *m, const ptq_quant_input *in,
                           const double *metric, bool diagonal,
                           ptq_quant_output *out, ptq_err *err);

#endif /* PTQ_QUANT_RESTORE_ERROR_H */
