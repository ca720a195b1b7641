/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file moment.h
 * The uncentred second moment of a layer's inputs ("Hessian" of the layer's
 * squared error), H = (1/n) sum x x'.
 *
 * Products of one window are float32, sums across windows float64 in window
 * order, so the bits do not depend on who else computes. A window's products
 * are made PTQ_MOMENT_PANEL rows of the triangle at a time, so that scratch
 * stays small where inputs are wide.
 */
#ifndef PTQ_NUM_MOMENT_H
#define PTQ_NUM_MOMENT_H

#include <stdint.h>

#include "ptq/base/status.h"

enum { PTQ_MOMENT_PANEL = 2048 };

typedef struct ptq_moment {
  int64_t d;
  int64_t n_tokens;
  double *sum; /* owned; [d, d], upper triangle: sum of x x' */
} ptq_moment;

/** Floats of scratch that ptq_moment_add takes. */
int64_t ptq_moment_scratch(int64_t d);

ptq_status ptq_moment_init(ptq_moment *m, int64_t d, ptq_err *err);
void ptq_moment_release(ptq_moment *m);
/** Back to zero tokens. */
void ptq_moment_reset(ptq_moment *m);
/** Add one window x[n, d]; scratch[ptq_moment_scratch(d)]. */
void ptq_moment_add(ptq_moment *m, const float *x, int64_t n, float *scratch);
/** The same by panel 0 .. ptq_moment_panels(d) - 1: the product, which several
 * threads may make at once, and its sum, in the order of windows. The tokens
 * are for the caller to count. */
int64_t ptq_moment_panels(int64_t d);
void ptq_moment_product(int64_t d, int64_t panel, const float *x, int64_t n,
                        float *scratch);
void ptq_moment_add_panel(double *sum, int64_t d, int64_t panel,
                          const float *scratch);
/** h[d, d], full symmetric storage, = sum / n_tokens; n_tokens > 0. h may be
 * m->sum, which is no sum then any more until it is reset. */
void ptq_moment_get(const ptq_moment *m, double *h);
/** The same in float32. */
void ptq_moment_get_f32(const ptq_moment *m, float *h);

/** tr(A H A') for a[rows, d] and symmetric h[d, d] float32, with
 * scratch[rows, d]: one sgemm and a float64 dot. */
double ptq_moment_quadratic(const float *a, int64_t rows, const float *h,
                            int64_t d, float *scratch);

#endif /* PTQ_NUM_MOMENT_H */
