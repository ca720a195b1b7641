/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/seeds.h"

#include <ctype.h>
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/analysis/fit.h"
#include "ptq/base/mem.h"

/* Length of "text:48x256" in "text:48x256@1"; 0: windows not drawn at random.
 */
static size_t without_seed(const char *label) {
  const char *at = strrchr(label, '@');
  if (at == NULL || at[1] == '\0') return 0;
  for (const char *c = at + 1; *c != '\0'; c++)
    if (!isdigit((unsigned char)*c)) return 0;
  return (size_t)(at - label);
}

static double nominal_bits(const ptq_obs *o) {
  return ptq_obs_is_mixed(o) ? 0.0 : ptq_name_bits(o->point->dtype, 0.0);
}

static int compare_pools(const ptq_obs *a, const ptq_obs *b) {
  int order = strcmp(a->point->method, b->point->method);
  if (order == 0) order = strcmp(a->point->options, b->point->options);
  if (order != 0) return order;
  const double x = nominal_bits(a), y = nominal_bits(b);
  return (x > y) - (x < y);
}

/* All that determines a result but the seed. */
static int compare_sets(const ptq_obs *a, const ptq_obs *b) {
  const ptq_point_row *p = a->point, *q = b->point;
  int order = compare_pools(a, b);
  if (order == 0) order = strcmp(p->model, q->model);
  if (order == 0) order = strcmp(p->dtype, q->dtype);
  if (order == 0) order = (p->group > q->group) - (p->group < q->group);
  if (order == 0) order = strcmp(p->evaluation, q->evaluation);
  if (order == 0) order = strcmp(a->model->selection, b->model->selection);
  if (order != 0) return order;
  const size_t m = without_seed(p->calibration);
  const size_t n = without_seed(q->calibration);
  order = strncmp(p->calibration, q->calibration, m < n ? m : n);
  return order != 0 ? order : (m > n) - (m < n);
}

static int compare(const void *x, const void *y) {
  const ptq_obs *a = *(const ptq_obs *const *)x;
  const ptq_obs *b = *(const ptq_obs *const *)y;
  const int order = compare_sets(a, b);
  return order != 0 ? order : (a > b) - (a < b); /* the frame's order */
}

/* Sum of squares around the mean. */
typedef struct scatter {
  double sum, squares;
  int64_t n;
} scatter;

static void scatter_add(scatter *s, double x) {
  s->n++;
  const double from_mean = s->n > 1 ? x - s->sum / (double)(s->n - 1) : 0.0;
  s->squares += from_mean * from_mean * (double)(s->n - 1) / (double)s->n;
  s->sum += x;
}

/* Sums of a pool while its sets are read. */
typedef struct pool {
  double nats, logs, noise;
  int64_t nats_df;
} pool;

static void add_set(const ptq_obs *const *set, int64_t n, ptq_seed_spread *r,
                    pool *p) {
  scatter nats = {0}, logs = {0};
  if (n < 2) return;
  for (int64_t i = 0; i < n; i++) {
    double y = 0.0;
    scatter_add(&nats, set[i]->point->dnll);
    p->noise += set[i]->point->dnll_se * set[i]->point->dnll_se;
    if (ptq_obs_censoring(set[i], &y) == PTQ_CENSORED_NOT)
      scatter_add(&logs, y);
  }
  r->n_sets++;
  r->n_points += n;
  p->nats += nats.squares;
  p->nats_df += n - 1;
  if (logs.n < n) return;
  r->n_log_sets++;
  r->df += n - 1;
  p->logs += logs.squares;
}

static void finish(const pool *p, ptq_seed_spread *r) {
  r->sd_log = r->low = r->high = NAN;
  r->sd_nats = sqrt(p->nats / (double)p->nats_df);
  r->rms_se = sqrt(p->noise / (double)r->n_points);
  if (r->df == 0) return;
  const double df = (double)r->df;
  r->sd_log = sqrt(p->logs / df);
  r->low = sqrt(p->logs / gsl_cdf_chisq_Pinv(0.975, df));
  r->high = sqrt(p->logs / gsl_cdf_chisq_Pinv(0.025, df));
}

/* Pools one after the other in `obs`, sorted. */
static void measure(const ptq_obs *const *obs, int64_t n, ptq_seeds *out) {
  for (int64_t a = 0, b = 0; a < n; a = b) {
    ptq_seed_spread row = {.method = obs[a]->point->method,
                           .options = obs[a]->point->options,
                           .bits = nominal_bits(obs[a])};
    pool sums = {0};
    while (b < n && compare_pools(obs[a], obs[b]) == 0) {
      int64_t end = b + 1;
      while (end < n && compare_sets(obs[b], obs[end]) == 0) end++;
      add_set(obs + b, end - b, &row, &sums);
      b = end;
    }
    if (row.n_sets == 0) continue;
    finish(&sums, &row);
    out->row[out->n++] = row;
  }
}

ptq_status ptq_seeds_measure(const ptq_frame *f, ptq_seeds *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **obs = NULL;
  int64_t n = 0;
  *out = (ptq_seeds){0};
  PTQ_TRY(ptq_alloc(&obs, f->n, sizeof(const ptq_obs *), "points", err));
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_obs *o = &f->obs[i];
    if ((o->use == PTQ_USE_OK || o->use == PTQ_USE_COLLAPSED) &&
        without_seed(o->point->calibration) > 0)
      obs[n++] = o;
  }
  if (n == 0) goto done;
  qsort(obs, (size_t)n, sizeof(const ptq_obs *), compare);
  PTQ_TRY(ptq_alloc(&out->row, n, sizeof *out->row, "spreads", err));
  measure(obs, n, out);
done:
  ptq_free(obs);
  return rc;
}

void ptq_seeds_release(ptq_seeds *s) {
  ptq_free(s->row);
  *s = (ptq_seeds){0};
}
