/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Coefficients are those of the censored log-linear fit, with errors
 * clustered by model; differences of pairs and traits of models are averaged
 * by training run first, and runs are the sample of a t test.
 */
#include "ptq/analysis/statement.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_fit.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

/* One statement: a coefficient of a formula, a mean over pairs, or a trait's
 * slope. */
typedef struct claim {
  const char *name, *text, *test;
  const char *formula, *column; /* NULL: pairs of gptq and rtn, or a trait;
                                   "method[gptq]" is the level tested */
  const char *slope; /* of which column is the square: the vertex must lie
                        within the sizes of the points; NULL: no parabola */
  double (*gain)(const ptq_obs *rtn, const ptq_obs *other);
  double (*trait)(const ptq_obs *o); /* of a model: its slope by ln(N) */
  int sign; /* stated: 1 above 0, -1 below, 0 any other than 0 */
} claim;

static double gain_db(const ptq_obs *rtn, const ptq_obs *other) {
  return other->point->sqnr_output - rtn->point->sqnr_output;
}

static double log_basin(const ptq_obs *o) {
  return o->landscape != NULL ? o->landscape->log_basin[1] : (double)NAN;
}

static const claim claims[] = {
    {"size", "larger models quantize better",
     "slope of ln(dnll) by ln(parameters), all else equal",
     "log(params_nonembedding) + bits_per_weight + log(group) + method",
     "log(params_nonembedding)", NULL, NULL, NULL, -1},
    {"rtn-sqnr", "the SQNR of rounding predicts the loss",
     "slope of ln(dnll) by sqnr_rtn, size and method equal",
     "log(params_nonembedding) + sqnr_rtn + method", "sqnr_rtn", NULL, NULL,
     NULL, -1},
    {"spectrum", "characteristics of the Hessian predict beyond size and SQNR",
     "slope of ln(dnll) by h_rank_nofirst, size, SQNR and method equal",
     "log(params_nonembedding) + sqnr_rtn + method + h_rank_nofirst",
     "h_rank_nofirst", NULL, NULL, NULL, 0},
    {"gptq-loss", "GPTQ loses less than rounding",
     "ln of the ratio of their dnll, all else equal",
     "log(params_nonembedding) + bits_per_weight + log(group) + method",
     "method[gptq]", NULL, NULL, NULL, -1},
    {"gptq-monotone", "GPTQ's gain is not monotone in size",
     "curvature of its gain by ln(parameters), its turn within their sizes",
     "log_params + square(log_params) + sqnr_rtn + method + "
     "log_params:method + square(log_params):method",
     "square(log_params):method[gptq]", "log_params:method[gptq]", NULL, NULL,
     0},
    {"gptq-sqnr",
     "GPTQ raises the SQNR of outputs (a summary of it says: by 1.8 dB)",
     "mean difference to rounding, dB", NULL, NULL, NULL, gain_db, NULL, 1},
    {"flatter", "larger models are flatter around their weights",
     "slope by ln(parameters) of the ln of the radius, along random "
     "directions, where the loss has risen by half a nat",
     NULL, NULL, NULL, NULL, log_basin, 1},
    {"landscape",
     "where the loss around the weights is flatter, quantization loses less",
     "slope of ln(dnll) by ln(basin_05), size, SQNR and method equal",
     "log(params_nonembedding) + sqnr_rtn + method + log(basin_05)",
     "log(basin_05)", NULL, NULL, NULL, -1},
};
enum { N_CLAIMS = sizeof claims / sizeof claims[0] };
_Static_assert((int)N_CLAIMS <= (int)PTQ_STATEMENTS_MAX,
               "room for every statement");

const char *ptq_verdict_name(ptq_verdict v) {
  static const char *const names[PTQ_VERDICT_COUNT] = {
      [PTQ_VERDICT_SHOWN] = "shown",
      [PTQ_VERDICT_REFUTED] = "refuted",
      [PTQ_VERDICT_OPEN] = "open",
      [PTQ_VERDICT_UNTESTED] = "not tested"};
  return names[v];
}

enum { LEVELS_MAX = 16 };

/* Which level of GPTQ the statements are of, and what else there is. */
typedef struct levels {
  char text[LEVELS_MAX][PTQ_LEVEL_MAX]; /* of the method, as met */
  int64_t points[LEVELS_MAX];           /* finished ones that laws learn from */
  int n;
  char gptq[PTQ_LEVEL_MAX]; /* one of text, or "gptq" where none is of it */
} levels;

static void level_of(const ptq_obs *o, char text[PTQ_LEVEL_MAX]) {
  ptq_factor_find("method")->get(o, text, PTQ_LEVEL_MAX);
}

static levels find_levels(const ptq_frame *f) {
  levels l = {.n = 0, .gptq = "gptq"};
  bool is_gptq[LEVELS_MAX] = {false};
  int best = -1;
  for (int64_t i = 0; i < f->n; i++) {
    char text[PTQ_LEVEL_MAX];
    int at = 0;
    if (!ptq_obs_learned(&f->obs[i])) continue;
    level_of(&f->obs[i], text);
    while (at < l.n && strcmp(l.text[at], text) != 0) at++;
    if (at == LEVELS_MAX) continue;
    if (at == l.n) {
      (void)ptq_text_copy(l.text[l.n++], PTQ_LEVEL_MAX, text);
      is_gptq[at] = strcmp(f->obs[i].point->method, "gptq") == 0;
    }
    l.points[at]++;
  }
  for (int i = 0; i < l.n; i++) {
    const bool plain = strcmp(l.text[i], "gptq") == 0;
    if (is_gptq[i] && (plain || best < 0 || l.points[i] > l.points[best]))
      best = i;
    if (plain) break;
  }
  if (best >= 0) (void)ptq_text_copy(l.gptq, sizeof l.gptq, l.text[best]);
  return l;
}

/* Is the statement of GPTQ? */
static bool of_gptq(const claim *c) {
  return c->gain != NULL ||
         (c->column != NULL && strstr(c->column, "method[gptq]") != NULL);
}

/* A column's name with the level tested in the place of gptq. */
static void column_name(const char *column, const levels *l,
                        char name[PTQ_COLUMN_NAME]) {
  static const char gptq[] = "[gptq]";
  const char *at = strstr(column, gptq);
  if (at == NULL)
    (void)snprintf(name, PTQ_COLUMN_NAME, "%s", column);
  else
    (void)snprintf(name, PTQ_COLUMN_NAME, "%.*s[%s]%s", (int)(at - column),
                   column, l->gptq, at + strlen(gptq));
}

/* Behind a reason: the levels that the points are of. */
static void name_levels(const levels *l, ptq_statement *s) {
  size_t n = strlen(s->why);
  for (int i = 0; i < l->n && n < sizeof s->why - 1; i++) {
    (void)snprintf(s->why + n, sizeof s->why - n, "%s%s",
                   i == 0 ? "; the points' methods: " : ", ", l->text[i]);
    n += strlen(s->why + n);
  }
}

static double coefficient(const ptq_fit *fit, const char *column) {
  for (int64_t j = 0; j < fit->matrix.k; j++)
    if (strcmp(fit->matrix.columns[j].name, column) == 0)
      return fit->coef[j].estimate;
  return NAN;
}

/* A parabola that turns outside of the sizes of the method's points is
 * monotone on them, however curved. */
static void check_vertex(const claim *c, const levels *l, const ptq_fit *fit,
                         ptq_statement *s) {
  char slope[PTQ_COLUMN_NAME];
  double low = INFINITY, high = 0.0;
  column_name(c->slope, l, slope);
  for (int64_t i = 0; i < fit->matrix.n; i++) {
    const ptq_obs *o = fit->matrix.obs[i];
    char text[PTQ_LEVEL_MAX];
    level_of(o, text);
    if (strcmp(text, l->gptq) != 0) continue;
    low = fmin(low, (double)o->model->params_nonembedding);
    high = fmax(high, (double)o->model->params_nonembedding);
  }
  const double turn = exp(-0.5 * coefficient(fit, slope) / s->estimate);
  if (turn > low && turn < high) return;
  if (isnan(turn))
    (void)snprintf(s->why, sizeof s->why, "the points have no column %.60s",
                   slope);
  else
    (void)snprintf(s->why, sizeof s->why,
                   "it turns at %.2g parameters, outside of the points' %.2g "
                   "to %.2g",
                   turn, low, high);
}

/* Does it ask for what no model was measured for? */
static bool formula_lacks_landscape(const ptq_formula *f,
                                    const ptq_frame *frame) {
  for (int64_t i = 0; i < frame->n; i++)
    if (frame->obs[i].landscape != NULL) return false;
  for (int t = 0; t < f->n_terms; t++)
    for (int p = 0; p < f->terms[t].n_parts; p++)
      if (f->terms[t].parts[p].feature != NULL &&
          f->terms[t].parts[p].feature->tier == PTQ_TIER_LANDSCAPE)
        return true;
  return false;
}

static ptq_status test_coefficient(const claim *c, const levels *l,
                                   const ptq_frame *frame, ptq_statement *s,
                                   ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_formula formula;
  ptq_fit fit = {0};
  ptq_err why = {0};
  const ptq_estimator *censored = NULL;
  const ptq_fit_options options = {0};
  char column[PTQ_COLUMN_NAME];
  column_name(c->column, l, column);
  PTQ_TRY(ptq_estimator_find("censored", &censored, err));
  PTQ_TRY(ptq_formula_parse(c->formula, &formula, err));
  rc = ptq_fit_frame(censored, &formula, &options, frame, &fit, &why);
  if (rc == PTQ_E_NOMEM) PTQ_TRY(PTQ_FAIL(err, rc, "%s", why.msg));
  (void)ptq_text_copy(s->why, sizeof s->why, why.msg);
  if (rc != PTQ_OK) {
    rc = PTQ_OK;
    if (formula_lacks_landscape(&formula, frame))
      (void)ptq_text_copy(s->why, sizeof s->why,
                          "needs models with a measured landscape");
    goto done;
  }
  s->n = fit.matrix.n;
  s->n_models = fit.matrix.n_clusters;
  (void)snprintf(s->why, sizeof s->why, "the points have no column %.100s",
                 column);
  for (int64_t j = 0; j < fit.matrix.k; j++) {
    if (strcmp(fit.matrix.columns[j].name, column) != 0) continue;
    s->estimate = fit.coef[j].estimate;
    s->low = fit.coef[j].ci_low;
    s->high = fit.coef[j].ci_high;
    s->p = fit.coef[j].p;
    s->why[0] = '\0';
    if (c->slope != NULL) check_vertex(c, l, &fit, s);
  }
  for (int64_t j = 0; j < fit.matrix.n_dropped; j++)
    if (strcmp(fit.matrix.dropped[j].name, column) == 0)
      (void)snprintf(s->why, sizeof s->why, "%.100s: %.120s", column,
                     fit.matrix.dropped[j].why);
  if (s->n_models < 3) { /* one difference is no sample */
    s->p = NAN;
    (void)ptq_text_copy(s->why, sizeof s->why, "needs at least three models");
  }
done:
  ptq_fit_release(&fit);
  return rc;
}

/* The twin that rounds, among the neighbours of the same subject. */
static const ptq_obs *twin(const ptq_frame *f, int64_t i) {
  const ptq_obs *o = &f->obs[i];
  int64_t first = i;
  while (first > 0 && f->obs[first - 1].subject == o->subject) first--;
  for (int64_t j = first; j < f->n && f->obs[j].subject == o->subject; j++) {
    const ptq_point_row *p = f->obs[j].point;
    if (strcmp(p->method, "rtn") == 0 && p->options[0] == '\0' &&
        p->group == o->point->group && strcmp(p->dtype, o->point->dtype) == 0)
      return &f->obs[j];
  }
  return NULL;
}

/* The first subject of the same training run. */
static int64_t first_of_run(const ptq_frame *f, int64_t subject) {
  int64_t i = 0;
  while (strcmp(f->runs[i], f->runs[subject]) != 0) i++;
  return i;
}

/* Mean over runs of the mean over pairs of one run's models, and its t test. */
static ptq_status test_pairs(const claim *c, const levels *l,
                             const ptq_frame *frame, ptq_statement *s,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *sum = NULL, *n = NULL;
  PTQ_TRY(ptq_alloc(&sum, frame->n_models, sizeof *sum, "pairs", err));
  PTQ_TRY(ptq_alloc(&n, frame->n_models, sizeof *n, "pairs", err));
  for (int64_t i = 0; i < frame->n; i++) {
    const ptq_obs *o = &frame->obs[i];
    char text[PTQ_LEVEL_MAX];
    if (o->held || strcmp(o->point->method, "gptq") != 0) continue;
    level_of(o, text);
    if (strcmp(text, l->gptq) != 0) continue;
    const ptq_obs *rtn = twin(frame, i);
    const double gain = rtn != NULL ? c->gain(rtn, o) : (double)NAN;
    if (!isfinite(gain)) continue;
    const int64_t run = first_of_run(frame, o->subject);
    sum[run] += gain;
    n[run] += 1.0;
    s->n++;
  }
  double mean = 0.0, square = 0.0, m = 0.0;
  for (int64_t i = 0; i < frame->n_models; i++) {
    if (n[i] == 0.0) continue;
    mean += sum[i] / n[i];
    square += sum[i] / n[i] * (sum[i] / n[i]);
    m += 1.0;
  }
  s->n_models = (int)m;
  (void)ptq_text_copy(s->why, sizeof s->why,
                      "needs three models with gptq beside rtn");
  if (m < 3.0) goto done;
  mean /= m;
  const double se = sqrt(fmax(0.0, square - m * mean * mean) / (m - 1.0) / m);
  s->why[0] = '\0';
  s->estimate = mean;
  s->low = mean - gsl_cdf_tdist_Pinv(0.975, m - 1.0) * se;
  s->high = mean + gsl_cdf_tdist_Pinv(0.975, m - 1.0) * se;
  s->p = 2.0 * gsl_cdf_tdist_Q(fabs(mean) / se, m - 1.0);
done:
  ptq_free(sum);
  ptq_free(n);
  return rc;
}

/* Least squares of runs' mean trait on their mean ln(N), and its t test. */
static ptq_status test_trait(const claim *c, const ptq_frame *frame,
                             ptq_statement *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *x = NULL, *y = NULL, *n = NULL;
  bool *seen = NULL;
  PTQ_TRY(ptq_alloc(&x, frame->n_models, sizeof *x, "models", err));
  PTQ_TRY(ptq_alloc(&y, frame->n_models, sizeof *y, "models", err));
  PTQ_TRY(ptq_alloc(&n, frame->n_models, sizeof *n, "models", err));
  PTQ_TRY(ptq_alloc(&seen, frame->n_models, sizeof *seen, "models", err));
  for (int64_t i = 0; i < frame->n; i++) {
    const ptq_obs *o = &frame->obs[i];
    const double trait = c->trait(o);
    if (seen[o->subject] || o->held || o->use == PTQ_USE_DEQUANTIZED ||
        !isfinite(trait))
      continue;
    const int64_t run = first_of_run(frame, o->subject);
    seen[o->subject] = true;
    x[run] += log((double)o->model->params_nonembedding);
    y[run] += trait;
    n[run] += 1.0;
    s->n++;
  }
  int64_t m = 0;
  for (int64_t i = 0; i < frame->n_models; i++) {
    if (n[i] == 0.0) continue;
    x[m] = x[i] / n[i];
    y[m++] = y[i] / n[i];
  }
  s->n_models = (int)m;
  (void)ptq_text_copy(s->why, sizeof s->why,
                      "needs four models of several sizes with a measured "
                      "landscape");
  double b0 = 0.0, v00 = 0.0, v01 = 0.0, v11 = 0.0, rss = 0.0;
  if (m < 4 || gsl_stats_sd(x, 1, (size_t)m) == 0.0) goto done;
  (void)gsl_fit_linear(x, 1, y, 1, (size_t)m, &b0, &s->estimate, &v00, &v01,
                       &v11, &rss);
  const double df = (double)(m - 2), se = sqrt(v11);
  s->why[0] = '\0';
  s->low = s->estimate - gsl_cdf_tdist_Pinv(0.975, df) * se;
  s->high = s->estimate + gsl_cdf_tdist_Pinv(0.975, df) * se;
  s->p = 2.0 * gsl_cdf_tdist_Q(fabs(s->estimate) / se, df);
done:
  ptq_free(x);
  ptq_free(y);
  ptq_free(n);
  ptq_free(seen);
  return rc;
}

static ptq_status test(const claim *c, const levels *l, const ptq_frame *frame,
                       ptq_statement *s, ptq_err *err) {
  if (c->formula != NULL) return test_coefficient(c, l, frame, s, err);
  return c->gain != NULL ? test_pairs(c, l, frame, s, err)
                         : test_trait(c, frame, s, err);
}

void ptq_holm(const double *p, int n, double *out) {
  int tested = 0;
  for (int i = 0; i < n; i++) tested += !isnan(p[i]);
  for (int i = 0; i < n; i++) {
    out[i] = isnan(p[i]) ? (double)NAN : 0.0;
    /* the largest (tested - rank) p among those not above it */
    for (int j = 0; j < n && !isnan(p[i]); j++) {
      if (isnan(p[j]) || p[j] > p[i]) continue;
      int rank = 0;
      for (int k = 0; k < n; k++)
        rank += p[k] < p[j] || (p[k] == p[j] && k < j);
      out[i] = fmax(out[i], fmin(1.0, (tested - rank) * p[j]));
    }
  }
}

static ptq_verdict judge(const claim *c, const ptq_statement *s) {
  if (isnan(s->p)) return PTQ_VERDICT_UNTESTED;
  if (s->p_holm >= 0.05 || s->why[0] != '\0') return PTQ_VERDICT_OPEN;
  if (c->sign == 0 || (s->estimate > 0.0) == (c->sign > 0))
    return PTQ_VERDICT_SHOWN;
  return PTQ_VERDICT_REFUTED;
}

ptq_status ptq_statements_test(const ptq_frame *frame, ptq_statements *out,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double p[N_CLAIMS], holm[N_CLAIMS];
  const levels l = find_levels(frame);
  *out = (ptq_statements){.n = N_CLAIMS};
  for (int i = 0; i < N_CLAIMS; i++) {
    ptq_statement *s = &out->row[i];
    *s = (ptq_statement){.name = claims[i].name,
                         .test = claims[i].test,
                         .estimate = NAN,
                         .low = NAN,
                         .high = NAN,
                         .p = NAN};
    (void)ptq_text_copy(s->text, sizeof s->text, claims[i].text);
    if (of_gptq(&claims[i]) && strcmp(l.gptq, "gptq") != 0)
      (void)snprintf(s->text, sizeof s->text,
                     "%s (here %s: no point is of plain gptq)", claims[i].text,
                     l.gptq);
    PTQ_TRY(test(&claims[i], &l, frame, s, err));
    if (of_gptq(&claims[i]) && isnan(s->p)) name_levels(&l, s);
    p[i] = s->p;
  }
  ptq_holm(p, N_CLAIMS, holm);
  for (int i = 0; i < N_CLAIMS; i++) {
    out->row[i].p_holm = holm[i];
    out->row[i].verdict = judge(&claims[i], &out->row[i]);
  }
done:
  return rc;
}
