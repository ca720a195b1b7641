/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/validate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

static const char *group_model(const ptq_obs *o) {
  return o->point->model;
}
static const char *group_family(const ptq_obs *o) {
  return o->point->family;
}

static const ptq_split splits[] = {
    {"leave-one-model-out", "model", group_model},
    {"leave-one-family-out", "family", group_family},
};

const ptq_split *ptq_split_at(size_t i) {
  return i < sizeof splits / sizeof splits[0] ? &splits[i] : NULL;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *v, int64_t n) {
  if (n == 0) return NAN;
  qsort(v, (size_t)n, sizeof *v, compare_doubles);
  return n % 2 == 1 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

static bool in_band(double dnll) {
  return dnll > PTQ_BAND_LOW && dnll < PTQ_BAND_HIGH;
}

/* |ln(p / y)|, infinite for a prediction that is not positive. */
static double log_error(double predicted, double measured) {
  return predicted > 0.0 ? fabs(log(predicted / measured)) : INFINITY;
}

/* Points of the band with both predictions; bits < 0 means all. A
 * prediction that is not positive makes R2 of ln(dnll) minus infinity. */
static ptq_status judge(const ptq_validation *v, int bits, ptq_accuracy *a,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *law = NULL, *base = NULL, mean = 0.0, total = 0.0;
  double rest = 0.0, rest_base = 0.0, inside = 0.0;
  *a = (ptq_accuracy){.n = 0};
  PTQ_TRY(ptq_alloc(&law, v->n_points, sizeof *law, "errors", err));
  PTQ_TRY(ptq_alloc(&base, v->n_points, sizeof *base, "errors", err));
  for (int pass = 0; pass < 2; pass++) {
    int64_t n = 0;
    for (int64_t i = 0; i < v->n_points; i++) {
      const ptq_holdout *h = &v->points[i];
      const double y = h->obs->point->dnll;
      if (!in_band(y) || isnan(h->base) ||
          (bits >= 0 && ptq_nominal_bits(h->obs) != bits))
        continue;
      n++;
      if (pass == 0) {
        mean += log(y);
        a->mae += fabs(h->law.dnll - y);
        a->mae_base += fabs(h->base - y);
        inside += y >= h->law.low && y <= h->law.high;
        continue;
      }
      const double e = log_error(h->law.dnll, y), b = log_error(h->base, y);
      law[n - 1] = e;
      base[n - 1] = b;
      rest += e * e;
      rest_base += b * b;
      total += (log(y) - mean) * (log(y) - mean);
    }
    a->n = n;
    if (pass == 0 && n > 0) mean /= (double)n;
  }
  a->median = median(law, a->n);
  a->median_base = median(base, a->n);
  a->r2 = total > 0.0 ? 1.0 - rest / total : NAN;
  a->r2_base = total > 0.0 ? 1.0 - rest_base / total : NAN;
  a->mae = a->n > 0 ? a->mae / (double)a->n : NAN;
  a->mae_base = a->n > 0 ? a->mae_base / (double)a->n : NAN;
  a->coverage = a->n > 0 ? inside / (double)a->n : NAN;
done:
  ptq_free(law);
  ptq_free(base);
  return rc;
}

/* Median dnll of the dtype over training points that are not collapsed. */
static double baseline(const ptq_obs *o, const ptq_obs *const *train, int64_t n,
                       double *buffer) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; i++)
    if (train[i]->use == PTQ_USE_OK &&
        strcmp(train[i]->point->dtype, o->point->dtype) == 0)
      buffer[found++] = train[i]->point->dnll;
  return median(buffer, found);
}

typedef struct task {
  const ptq_estimator *estimator;
  const ptq_formula *formula;
  const ptq_fit_options *options;
  const ptq_frame *frame;
  const ptq_obs **train; /* owned; [frame->n] */
  double *buffer;        /* owned; [frame->n] */
} task;

static ptq_status hold_out(task *t, const char *name, ptq_validation *v,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n = 0;
  ptq_fit fit = {0};
  for (int64_t i = 0; i < t->frame->n; i++) {
    const ptq_obs *o = &t->frame->obs[i];
    if (strcmp(v->split->group(o), name) != 0) t->train[n++] = o;
  }
  ptq_err why = {0};
  const ptq_status fitted = ptq_fit_points(t->estimator, t->formula, t->options,
                                           t->train, n, &fit, &why);
  if (fitted != PTQ_OK) {
    if (fitted == PTQ_E_NOMEM) {
      rc = PTQ_FAIL(err, fitted, "%s", why.msg);
      goto done;
    }
    if (v->n_failed++ == 0)
      (void)ptq_text_copy(v->failure, sizeof v->failure, why.msg);
    goto done;
  }
  /* neighbours in grid order share the dtype */
  const char *last_dtype = NULL;
  double base = NAN;
  for (int64_t i = 0; i < t->frame->n; i++) {
    const ptq_obs *o = &t->frame->obs[i];
    if (o->use != PTQ_USE_OK || strcmp(v->split->group(o), name) != 0) continue;
    const ptq_prediction p = ptq_fit_predict(&fit, o);
    if (isnan(p.dnll)) {
      v->n_unpredicted++;
      continue;
    }
    if (last_dtype == NULL || strcmp(last_dtype, o->point->dtype) != 0)
      base = baseline(o, t->train, n, t->buffer);
    last_dtype = o->point->dtype;
    v->points[v->n_points++] = (ptq_holdout){o, p, base};
  }
done:
  ptq_fit_release(&fit);
  return rc;
}

static int compare_holdouts(const void *a, const void *b) {
  const ptq_obs *x = ((const ptq_holdout *)a)->obs;
  const ptq_obs *y = ((const ptq_holdout *)b)->obs;
  return (x > y) - (x < y);
}

/* Distinct names of the groups that have a usable point. */
static int64_t list_groups(const ptq_frame *f, const ptq_split *split,
                           const char **names) {
  int64_t n = 0;
  for (int64_t i = 0; i < f->n; i++) {
    if (f->obs[i].use != PTQ_USE_OK) continue;
    const char *name = split->group(&f->obs[i]);
    int64_t g = n - 1;
    while (g >= 0 && strcmp(names[g], name) != 0) g--;
    if (g < 0) names[n++] = name;
  }
  return n;
}

ptq_status ptq_validate(const ptq_estimator *estimator,
                        const ptq_formula *formula,
                        const ptq_fit_options *options, const ptq_split *split,
                        const ptq_frame *f, ptq_validation *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  task t = {estimator, formula, options, f, NULL, NULL};
  const char **names = NULL;
  *out = (ptq_validation){.split = split};
  PTQ_TRY(ptq_alloc(&names, f->n, sizeof *names, "groups", err));
  PTQ_TRY(ptq_alloc(&t.train, f->n, sizeof *t.train, "training points", err));
  PTQ_TRY(ptq_alloc(&t.buffer, f->n, sizeof *t.buffer, "medians", err));
  PTQ_TRY(
      ptq_alloc(&out->points, f->n, sizeof *out->points, "predictions", err));
  out->n_groups = list_groups(f, split, names);
  for (int64_t g = 0; g < out->n_groups && out->n_groups >= 2; g++)
    PTQ_TRY(hold_out(&t, names[g], out, err));
  qsort(out->points, (size_t)out->n_points, sizeof *out->points,
        compare_holdouts);
  PTQ_TRY(judge(out, -1, &out->all, err));
  for (int b = 0; b < PTQ_BITS_MAX; b++)
    PTQ_TRY(judge(out, b, &out->by_bits[b], err));
done:
  ptq_free(names);
  ptq_free(t.train);
  ptq_free(t.buffer);
  if (rc != PTQ_OK) ptq_validation_release(out);
  return rc;
}

void ptq_validation_release(ptq_validation *v) {
  ptq_free(v->points);
  *v = (ptq_validation){0};
}
