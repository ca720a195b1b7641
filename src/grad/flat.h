/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file flat.h
 * A run over a whole text whose directions and results are vectors, laid out
 * as hessian.h says.
 */
#ifndef PTQ_GRAD_FLAT_H
#define PTQ_GRAD_FLAT_H

#include "ptq/grad/gradient.h"

typedef struct ptq_flat {
  const ptq_model_info *info; /* borrowed, as all */
  double scale;               /* 1 / scored tokens */
  double *gradient;           /* or NULL */
  const double *const *x;     /* [k] directions */
  double *const *y;           /* [k] products */
} ptq_flat;

/** ptq_directions.load of x, ctx a ptq_flat. */
ptq_status ptq_flat_load(void *ctx, int64_t block, int64_t j,
                         ptq_real *const *e, ptq_err *err);
/** ptq_grad_sink.layer: adds scale times what it is given to gradient and y. */
ptq_status ptq_flat_take(void *ctx, const ptq_grad_layer *l, ptq_err *err);

/** All chunks; the mean NLL and its derivatives along d's directions
 * (nullable; nlld[k]). */
ptq_status ptq_flat_run(ptq_grad *g, const ptq_directions *d,
                        const ptq_grad_sink *sink, double *nll, double *nlld,
                        ptq_err *err);

#endif /* PTQ_GRAD_FLAT_H */
