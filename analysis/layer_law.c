/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/layers.h"

/* ln(sum s e) and ln(dnll) of a point that the law is fitted to. */
static bool point_of(const ptq_layer_source *s, int64_t i, const char *model,
                     const char *text, const ptq_layer_table *t, double *x,
                     double *y) {
  const ptq_obs *o = &s->frame->obs[i];
  if (o->use != PTQ_USE_OK || ptq_obs_is_mixed(o) ||
      strcmp(o->point->model, model) != 0 ||
      strcmp(o->point->evaluation, text) != 0 ||
      ptq_obs_censoring(o, y) != PTQ_CENSORED_NOT)
    return false;
  *x = log(ptq_layer_sum(s, i, t));
  return isfinite(*x);
}

ptq_status ptq_layer_law_fit(const ptq_layer_source *s, const char *model,
                             const ptq_layer_table *t, ptq_layer_law *out,
                             ptq_err *err) {
  double mean_y = 0.0, sxy = 0.0, rest = 0.0, x = 0.0, y = 0.0;
  ptq_layer_law law = {.a = NAN, .b = NAN, .sigma = NAN};
  const char *text = ptq_result_text(s->frame, model);
  (void)err; /* nothing can fail: without points there is no law */
  for (int64_t i = 0; i < s->frame->n; i++)
    if (point_of(s, i, model, text, t, &x, &y)) {
      law.n++;
      law.mean += x;
      mean_y += y;
    }
  law.mean /= (double)law.n;
  mean_y /= (double)law.n;
  for (int64_t i = 0; i < s->frame->n; i++)
    if (point_of(s, i, model, text, t, &x, &y)) {
      law.spread += (x - law.mean) * (x - law.mean);
      sxy += (x - law.mean) * (y - mean_y);
    }
  if (law.n < 3 || !(law.spread > 0.0)) {
    *out = law;
    return PTQ_OK;
  }
  law.b = sxy / law.spread;
  law.a = mean_y - law.b * law.mean;
  for (int64_t i = 0; i < s->frame->n; i++)
    if (point_of(s, i, model, text, t, &x, &y))
      rest += pow(y - law.a - law.b * x, 2.0);
  law.sigma = sqrt(rest / (double)(law.n - 2));
  *out = law;
  return PTQ_OK;
}

ptq_prediction ptq_layer_law_predict(const ptq_layer_law *law, double sum) {
  const double x = log(sum);
  if (!isfinite(law->sigma) || !isfinite(x))
    return (ptq_prediction){NAN, NAN, NAN, "value"};
  const double off = x - law->mean;
  const double half =
      gsl_cdf_tdist_Pinv(0.95, (double)(law->n - 2)) * law->sigma *
      sqrt(1.0 + 1.0 / (double)law->n + off * off / law->spread);
  const double at = law->a + law->b * x;
  return (ptq_prediction){exp(at), exp(at - half), exp(at + half), NULL};
}
