/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/validate.h"

#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/analysis/hull.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

/* Of a sample of many points, so many folds tell as much as more. */
enum { FOLDS = 5 };

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

/* Points of the band with both predictions; bits < 0 means all, else those of
 * nominal[n_points] bits. A
 * prediction that is not positive makes R2 of ln(dnll) minus infinity. */
static ptq_status judge(const ptq_validation *v, const int *nominal, int bits,
                        ptq_accuracy *a, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *law = NULL, *base = NULL, *pair = NULL, mean = 0.0, total = 0.0;
  double rest = 0.0, rest_base = 0.0, inside = 0.0;
  *a = (ptq_accuracy){.n = 0};
  PTQ_TRY(ptq_alloc(&law, v->n_points, sizeof *law, "errors", err));
  PTQ_TRY(ptq_alloc(&base, v->n_points, sizeof *base, "errors", err));
  PTQ_TRY(ptq_alloc(&pair, 4 * v->n_points, sizeof *pair, "ranks", err));
  for (int pass = 0; pass < 2; pass++) {
    int64_t n = 0;
    for (int64_t i = 0; i < v->n_points; i++) {
      const ptq_holdout *h = &v->points[i];
      const double y = h->obs->point->dnll;
      if (!in_band(y) || isnan(h->base) || (bits >= 0 && nominal[i] != bits))
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
      pair[n - 1] = h->law.dnll;
      pair[a->n + n - 1] = y;
      law[n - 1] = e;
      base[n - 1] = b;
      rest += e * e;
      rest_base += b * b;
      total += (log(y) - mean) * (log(y) - mean);
    }
    a->n = n;
    if (pass == 0 && n > 0) mean /= (double)n;
  }
  a->rank = a->n > 2 ? gsl_stats_spearman(pair, 1, pair + a->n, 1, (size_t)a->n,
                                          pair + 2 * a->n)
                     : NAN;
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
  ptq_free(pair);
  return rc;
}

static ptq_status judge_all(ptq_validation *v, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int *nominal = NULL;
  PTQ_TRY(ptq_alloc(&nominal, v->n_points, sizeof *nominal, "bits", err));
  for (int64_t i = 0; i < v->n_points; i++)
    nominal[i] = ptq_nominal_bits(v->points[i].obs);
  PTQ_TRY(judge(v, nominal, -1, &v->all, err));
  for (int b = 0; b < PTQ_BITS_MAX; b++)
    PTQ_TRY(judge(v, nominal, b, &v->by_bits[b], err));
done:
  ptq_free(nominal);
  return rc;
}

/* Median dnll over training points that are not collapsed: of the dtype; if
 * there are none, of its nominal bits; else of all. */
static double baseline(const ptq_obs *o, const ptq_obs *const *train, int64_t n,
                       double *buffer) {
  const int bits = ptq_nominal_bits(o);
  for (int wide = 0; wide < 3; wide++) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
      if (train[i]->use == PTQ_USE_OK &&
          (wide == 2 || (wide == 1 && ptq_nominal_bits(train[i]) == bits) ||
           strcmp(train[i]->point->dtype, o->point->dtype) == 0))
        buffer[found++] = train[i]->point->dnll;
    if (found > 0) return median(buffer, found);
  }
  return NAN;
}

/* The baseline of a dtype's points. */
typedef struct dtype_base {
  const char *dtype; /* borrowed */
  double dnll;
} dtype_base;

typedef struct task {
  const ptq_recipe *recipe;
  const ptq_frame *frame;
  int *fold;             /* owned; [frame->n] -1: never held out */
  const ptq_obs **train; /* owned; [frame->n] */
  const ptq_obs **held;  /* owned; [frame->n] */
  ptq_prediction *p;     /* owned; [frame->n] */
  double *buffer;        /* owned; [frame->n] */
  dtype_base *base;      /* owned; [n_base] of the fold, as they are met */
  int64_t n_base;
} task;

static void release_task(task *t) {
  ptq_free(t->fold);
  ptq_free(t->train);
  ptq_free(t->held);
  ptq_free(t->p);
  ptq_free(t->buffer);
  ptq_free(t->base);
}

static ptq_status allocate_task(task *t, int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_alloc(&t->fold, n, sizeof *t->fold, "folds", err));
  PTQ_TRY(ptq_alloc(&t->train, n, sizeof *t->train, "training points", err));
  PTQ_TRY(ptq_alloc(&t->held, n, sizeof *t->held, "held-out points", err));
  PTQ_TRY(ptq_alloc(&t->p, n, sizeof *t->p, "predictions", err));
  PTQ_TRY(ptq_alloc(&t->buffer, n, sizeof *t->buffer, "medians", err));
done:
  return rc;
}

static ptq_status base_of(task *t, const ptq_obs *o, int64_t n_train,
                          double *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *dtype = o->point->dtype;
  int64_t i = t->n_base - 1;
  while (i >= 0 && strcmp(t->base[i].dtype, dtype) != 0) i--;
  if (i < 0) {
    i = t->n_base;
    PTQ_TRY(ptq_grow(&t->base, i, i + 1, sizeof *t->base, "baselines", err));
    t->base[t->n_base++] =
        (dtype_base){dtype, baseline(o, t->train, n_train, t->buffer)};
  }
  *out = t->base[i].dnll;
done:
  return rc;
}

/* The held-out points' predictions and baselines behind those of v. */
static ptq_status record(task *t, const ptq_learned *learned, int64_t n_train,
                         int64_t n_held, ptq_validation *v, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_hull hull = ptq_hull_of(t->recipe, t->train, n_train);
  t->n_base = 0;
  PTQ_TRY(ptq_learned_predict(learned, t->held, n_held, t->p, err));
  for (int64_t i = 0; i < n_held; i++) {
    const ptq_obs *o = t->held[i];
    if (isnan(t->p[i].dnll)) {
      v->n_unpredicted++;
      continue;
    }
    double base = NAN;
    PTQ_TRY(base_of(t, o, n_train, &base, err));
    const bool outside = ptq_hull_misses(&hull, o, NULL) > 0;
    v->n_outside += outside;
    v->points[v->n_points++] = (ptq_holdout){o, t->p[i], base, outside};
  }
done:
  return rc;
}

/* Can the point be held out under the split? */
static bool may_be_held(const ptq_split *split, const ptq_obs *o) {
  return split->held ? o->held && o->use == PTQ_USE_OK : ptq_obs_learned(o);
}

static ptq_status hold_out(task *t, int fold, ptq_validation *v, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_learned learned = {0};
  ptq_err why = {0};
  int64_t n_train = 0, n_held = 0;
  for (int64_t i = 0; i < t->frame->n; i++) {
    const ptq_obs *o = &t->frame->obs[i];
    if (t->fold[i] == fold) {
      if (o->use == PTQ_USE_OK) t->held[n_held++] = o;
    } else if (ptq_obs_learned(o)) {
      t->train[n_train++] = o;
    }
  }
  if (n_held == 0) goto done;
  const ptq_status fitted =
      ptq_recipe_learn(t->recipe, v->split, t->train, n_train, &learned, &why);
  if (fitted == PTQ_E_NOMEM) PTQ_TRY(PTQ_FAIL(err, fitted, "%s", why.msg));
  if (fitted == PTQ_OK) {
    PTQ_TRY(record(t, &learned, n_train, n_held, v, err));
  } else if (v->n_failed++ == 0) {
    (void)ptq_text_copy(v->failure, sizeof v->failure, why.msg);
  }
done:
  ptq_learned_release(&learned);
  return rc;
}

static int compare_holdouts(const void *a, const void *b) {
  const ptq_obs *x = ((const ptq_holdout *)a)->obs;
  const ptq_obs *y = ((const ptq_holdout *)b)->obs;
  return (x > y) - (x < y);
}

/* Number of every point's group, groups in order of appearance among usable
 * points; more groups than folds share them in turn. */
static ptq_status number_groups(task *t, const ptq_split *split,
                                ptq_validation *v, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char(*names)[PTQ_LEVEL_MAX] = NULL, text[PTQ_LEVEL_MAX];
  const ptq_model_row *last = NULL; /* of the point before */
  int last_fold = -1;
  const int most =
      !t->frame->sampled || split->most < FOLDS ? split->most : FOLDS;
  for (int64_t i = 0; i < t->frame->n; i++) {
    const ptq_obs *o = &t->frame->obs[i];
    t->fold[i] = -1;
    if (!may_be_held(split, o)) continue;
    if (split->of_model && o->model == last) {
      t->fold[i] = last_fold;
      continue;
    }
    last = o->model;
    last_fold = -1;
    if (!split->group(t->frame, o, text, sizeof text)) continue;
    int64_t g = v->n_groups - 1;
    while (g >= 0 && strcmp(names[g], text) != 0) g--;
    if (g < 0) {
      g = v->n_groups;
      PTQ_TRY(ptq_grow(&names, g, g + 1, sizeof *names, "groups", err));
      (void)ptq_text_copy(names[v->n_groups++], sizeof *names, text);
    }
    t->fold[i] = last_fold = (int)(g % most);
  }
  v->n_folds = v->n_groups < most ? v->n_groups : most;
done:
  ptq_free(names);
  return rc;
}

ptq_status ptq_validate(const ptq_recipe *recipe, const ptq_split *split,
                        const ptq_frame *f, ptq_validation *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  task t = {.recipe = recipe, .frame = f};
  *out = (ptq_validation){.split = split};
  PTQ_TRY(allocate_task(&t, f->n, err));
  PTQ_TRY(
      ptq_alloc(&out->points, f->n, sizeof *out->points, "predictions", err));
  PTQ_TRY(number_groups(&t, split, out, err));
  for (int g = 0; g < (int)out->n_folds && out->n_groups >= split->least; g++)
    PTQ_TRY(hold_out(&t, g, out, err));
  qsort(out->points, (size_t)out->n_points, sizeof *out->points,
        compare_holdouts);
  PTQ_TRY(judge_all(out, err));
done:
  release_task(&t);
  if (rc != PTQ_OK) ptq_validation_release(out);
  return rc;
}

void ptq_validation_release(ptq_validation *v) {
  ptq_free(v->points);
  *v = (ptq_validation){0};
}
