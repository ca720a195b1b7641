/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Parameters are ln height, center and ln width: both stay positive. Errors
 * come back by the first derivative of exp. */
#include "step_fit.h"

#include <gsl/gsl_blas.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <math.h>

#include "ptq/base/mem.h"

enum { PARAMETERS = 3, LEAST = 5, ITERATIONS = 200 };

typedef struct profile {
  const double *x, *y; /* ln radius, dnll */
} profile;

static double rise(double t) {
  return 1.0 / (1.0 + exp(-t));
}

static int residuals(const gsl_vector *p, void *ctx, gsl_vector *f) {
  const profile *d = ctx;
  const double height = exp(gsl_vector_get(p, 0));
  const double center = gsl_vector_get(p, 1);
  const double width = exp(gsl_vector_get(p, 2));
  for (size_t i = 0; i < f->size; i++)
    gsl_vector_set(f, i, height * rise((d->x[i] - center) / width) - d->y[i]);
  return GSL_SUCCESS;
}

static int jacobian(const gsl_vector *p, void *ctx, gsl_matrix *j) {
  const profile *d = ctx;
  const double height = exp(gsl_vector_get(p, 0));
  const double center = gsl_vector_get(p, 1);
  const double width = exp(gsl_vector_get(p, 2));
  for (size_t i = 0; i < j->size1; i++) {
    const double t = (d->x[i] - center) / width, s = rise(t);
    gsl_matrix_set(j, i, 0, height * s);
    gsl_matrix_set(j, i, 1, -height * s * (1.0 - s) / width);
    gsl_matrix_set(j, i, 2, -height * s * (1.0 - s) * t);
  }
  return GSL_SUCCESS;
}

static ptq_step_fit nothing(void) {
  const double none = (double)NAN;
  return (ptq_step_fit){none, none, none, none, none, none};
}

/* From the largest rise, and where half of it is passed. */
static void start(const profile *d, size_t n, gsl_vector *p) {
  double top = 0.0, center = d->x[n - 1];
  for (size_t i = 0; i < n; i++) top = fmax(top, d->y[i]);
  for (size_t i = n; i-- > 0;)
    if (d->y[i] >= top / 2.0) center = d->x[i];
  gsl_vector_set(p, 0, log(top));
  gsl_vector_set(p, 1, center);
  gsl_vector_set(p, 2, log(0.3));
}

/* Do the data bound the height? A sigmoid levels off most where its second
 * derivative is least, at center + ln(2 + sqrt(3)) widths and 79 % of the
 * height. A profile that ends before is a rise that any height fits with a
 * center to it; where the error is above the height, it is not told from others
 * either, nor is a width that is narrower than the radii are apart. */
static bool has_plateau(const ptq_step_fit *s, double last) {
  const double shoulder = s->center + log(2.0 + sqrt(3.0)) * s->width;
  return shoulder <= last && s->height_se <= s->height &&
         s->width_se <= s->width;
}

static ptq_step_fit read_fit(gsl_multifit_nlinear_workspace *w,
                             const profile *d, size_t n) {
  ptq_step_fit out = nothing();
  double squares = 0.0, cov[PARAMETERS * PARAMETERS];
  gsl_matrix_view c = gsl_matrix_view_array(cov, PARAMETERS, PARAMETERS);
  const gsl_vector *p = gsl_multifit_nlinear_position(w);
  const gsl_vector *f = gsl_multifit_nlinear_residual(w);
  for (size_t i = 0; i < n; i++)
    squares += gsl_vector_get(f, i) * gsl_vector_get(f, i);
  if (gsl_multifit_nlinear_covar(gsl_multifit_nlinear_jac(w), 0.0, &c.matrix) !=
      GSL_SUCCESS)
    return out;
  const double variance = squares / (double)(n - PARAMETERS);
  out.height = exp(gsl_vector_get(p, 0));
  out.center = gsl_vector_get(p, 1);
  out.width = exp(gsl_vector_get(p, 2));
  out.height_se = out.height * sqrt(variance * cov[0]);
  out.center_se = sqrt(variance * cov[4]);
  out.width_se = out.width * sqrt(variance * cov[8]);
  return has_plateau(&out, d->x[n - 1]) ? out : nothing();
}

static ptq_step_fit fit(const profile *d, size_t n) {
  ptq_step_fit out = nothing();
  gsl_multifit_nlinear_parameters how =
      gsl_multifit_nlinear_default_parameters();
  gsl_multifit_nlinear_fdf fdf = {.f = residuals,
                                  .df = jacobian,
                                  .n = n,
                                  .p = PARAMETERS,
                                  .params = (void *)(uintptr_t)d};
  int info = 0;
  gsl_multifit_nlinear_workspace *w = gsl_multifit_nlinear_alloc(
      gsl_multifit_nlinear_trust, &how, n, PARAMETERS);
  gsl_vector *p = gsl_vector_alloc(PARAMETERS);
  if (w != NULL && p != NULL) {
    start(d, n, p);
    if (gsl_multifit_nlinear_init(p, &fdf, w) == GSL_SUCCESS &&
        gsl_multifit_nlinear_driver(ITERATIONS, 1e-10, 1e-10, 0.0, NULL, NULL,
                                    &info, w) == GSL_SUCCESS)
      out = read_fit(w, d, n);
  }
  gsl_vector_free(p);
  gsl_multifit_nlinear_free(w);
  return out;
}

ptq_step_fit ptq_step_fit_of(const ptq_profile_row *steps, int64_t n) {
  ptq_step_fit out = nothing();
  double *x = NULL, *y = NULL, top = 0.0;
  size_t used = 0;
  if (n < LEAST || ptq_alloc(&x, n, sizeof *x, "a profile", NULL) != PTQ_OK ||
      ptq_alloc(&y, n, sizeof *y, "a profile", NULL) != PTQ_OK)
    goto done;
  for (int64_t i = 0; i < n; i++) {
    if (!(steps[i].radius > 0.0) || !isfinite(steps[i].dnll)) continue;
    x[used] = log(steps[i].radius);
    y[used] = steps[i].dnll;
    top = fmax(top, y[used++]);
  }
  gsl_error_handler_t *old = gsl_set_error_handler_off();
  if (used >= LEAST && top > 0.0) {
    const profile d = {x, y};
    out = fit(&d, used);
  }
  (void)gsl_set_error_handler(old);
done:
  ptq_free(x);
  ptq_free(y);
  return out;
}
