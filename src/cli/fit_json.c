/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fit_json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ptq/base/mem.h"

/* JSON has no NaN: what is not known is null. */
static json_t *number(double v) {
  return isfinite(v) ? json_real(v) : json_null();
}

static json_t *coefficient(const ptq_fit *f, int64_t j) {
  const ptq_coefficient *c = &f->coef[j];
  return json_pack("{s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "name",
                   f->matrix.columns[j].name, "estimate", number(c->estimate),
                   "std_error", number(c->std_error), "std_error_cluster",
                   number(c->std_error_cluster), "df", number(c->df), "t",
                   number(c->t), "p", number(c->p), "ci_low", number(c->ci_low),
                   "ci_high", number(c->ci_high), "vif", number(c->vif));
}

static json_t *accuracy(const ptq_accuracy *a) {
  return json_pack("{s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "n",
                   (json_int_t)a->n, "median_abs_ln", number(a->median),
                   "median_abs_ln_baseline", number(a->median_base), "r2",
                   number(a->r2), "r2_baseline", number(a->r2_base), "mae_nats",
                   number(a->mae), "mae_nats_baseline", number(a->mae_base),
                   "coverage_90", number(a->coverage), "rank_correlation",
                   number(a->rank));
}

static json_t *validation(const ptq_validation *v) {
  json_t *by_bits = json_array();
  for (int b = 0; b < PTQ_BITS_MAX; b++) {
    if (v->by_bits[b].n == 0) continue;
    json_t *row = accuracy(&v->by_bits[b]);
    json_object_set_new(row, "bits", json_integer(b));
    json_array_append_new(by_bits, row);
  }
  return json_pack(
      "{s:s,s:I,s:I,s:I,s:I,s:s,s:I,s:I,s:o,s:o}", "split", v->split->name,
      "n_groups", (json_int_t)v->n_groups, "n_folds", (json_int_t)v->n_folds,
      "n_outside_hull", (json_int_t)v->n_outside, "n_failed",
      (json_int_t)v->n_failed, "failure", v->failure, "n_predicted",
      (json_int_t)v->n_points, "n_unpredicted", (json_int_t)v->n_unpredicted,
      "all", accuracy(&v->all), "by_bits", by_bits);
}

static json_t *diagnostics(const ptq_fit *f) {
  const ptq_diagnostics *d = &f->diagnostics;
  json_t *cook = json_array();
  for (int i = 0; i < d->n_cook; i++) {
    const ptq_obs *o = f->matrix.obs[d->cook[i].row];
    char name[256];
    ptq_obs_name(o, name, sizeof name);
    json_array_append_new(
        cook, json_pack("{s:s,s:s,s:o}", "key", o->point->key, "point", name,
                        "distance", number(d->cook[i].distance)));
  }
  return json_pack(
      "{s:o,s:o,s:o,s:o,s:o,s:o}", "jarque_bera", number(d->jarque_bera),
      "jarque_bera_p", number(d->jarque_bera_p), "breusch_pagan",
      number(d->breusch_pagan), "breusch_pagan_p", number(d->breusch_pagan_p),
      "condition", number(d->condition), "cook", cook);
}

/* Every row that is left out, by name; at most so many. */
enum { ROWS_NAMED = 1000 };

static json_t *rows_left_out(const ptq_fit *f) {
  json_t *rows = json_array();
  for (int64_t i = 0; i < f->n_left_out && i < ROWS_NAMED; i++) {
    const ptq_left_out *l = &f->left_out[i];
    char name[256], why[320];
    ptq_obs_name(l->obs, name, sizeof name);
    (void)snprintf(why, sizeof why, "%s%s%s", l->why,
                   l->column[0] != '\0' ? " " : "", l->column);
    json_array_append_new(
        rows, json_pack("{s:s,s:s,s:s}", "key", l->obs->point->key, "point",
                        name, "why", why));
  }
  return rows;
}

static json_t *left_out(const ptq_matrix *m) {
  json_t *dropped = json_array(), *unusable = json_array();
  for (int64_t i = 0; i < m->n_dropped; i++)
    json_array_append_new(
        dropped, json_pack("{s:s,s:s}", "name", m->dropped[i].name, "why",
                           m->dropped[i].why));
  for (int64_t i = 0; i < m->n_unusable; i++)
    json_array_append_new(
        unusable, json_pack("{s:s,s:I}", "name", m->unusable[i].name, "n",
                            (json_int_t)m->unusable[i].n));
  return json_pack("{s:o,s:o}", "columns_dropped", dropped,
                   "columns_without_value", unusable);
}

static json_t *fit_object(const ptq_law_result *r, const ptq_frame *frame) {
  const ptq_fit *f = &r->fit;
  json_t *o =
      json_pack("{s:s,s:s,s:s,s:b}", "law", r->name, "estimator",
                r->estimator->name, "formula", r->formula, "fitted", r->fitted);
  if (!r->fitted) {
    json_object_set_new(o, "failure", json_string(r->failure));
    return o;
  }
  const struct {
    const char *name;
    int64_t n;
  } counts[] = {{"n", f->matrix.n},
                {"n_models", f->matrix.n_models},
                {"n_runs", f->matrix.n_clusters},
                {"n_families", f->matrix.n_families},
                {"n_censored", f->n_left},
                {"n_collapsed", frame->count[PTQ_USE_COLLAPSED]},
                {"n_collapsed_used", f->n_right},
                {"n_failed", frame->count[PTQ_USE_FAILED]},
                {"n_pending", frame->count[PTQ_USE_PENDING]},
                {"n_dequantized", frame->count[PTQ_USE_DEQUANTIZED]},
                {"n_incomplete", frame->count[PTQ_USE_INCOMPLETE]},
                {"n_held_out", frame->n_held},
                {"n_without_value", f->matrix.n_lost},
                {"n_excluded", f->n_excluded},
                {"n_unbounded", f->n_unbounded},
                {"n_left_out", f->n_left_out},
                {"n_rejected", f->n_rejected},
                {"iterations", f->iterations}};
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
    json_object_set_new(o, counts[i].name, json_integer(counts[i].n));
  json_t *coefficients = json_array(), *splits = json_array();
  for (int64_t j = 0; j < f->matrix.k; j++)
    json_array_append_new(coefficients, coefficient(f, j));
  for (int i = 0; i < r->n_splits; i++)
    json_array_append_new(splits, validation(&r->splits[i]));
  json_object_set_new(o, "coefficients", coefficients);
  json_object_set_new(o, "scale", number(f->scale));
  if (f->power > 0.0) {
    json_object_set_new(o, "power", number(f->power));
    json_object_set_new(o, "power_lowered", json_boolean(f->power_lowered));
    json_object_set_new(o, "noise_in_variance", json_boolean(f->noise));
  }
  if (f->tau2 >= 0.0) json_object_set_new(o, "tau2", number(f->tau2));
  if (f->lambda > 0.0) {
    json_object_set_new(o, "lambda", number(f->lambda));
    json_object_set_new(o, "edf", number(f->edf));
  }
  json_object_set_new(o, "r2", number(f->r2));
  json_object_set_new(o, "r2_adjusted", number(f->r2_adjusted));
  json_object_set_new(o, "r2_nats", number(f->r2_nats));
  json_object_set_new(o, "log_likelihood", number(f->log_likelihood));
  json_object_set_new(o, "aic", number(f->aic));
  json_object_set_new(o, "bic", number(f->bic));
  json_object_set_new(o, "rows_left_out", rows_left_out(f));
  json_object_set_new(o, "diagnostics", diagnostics(f));
  json_object_update_new(o, left_out(&f->matrix));
  json_object_set_new(o, "validation", splits);
  return o;
}

static json_t *curve_parameters(const ptq_curve_fit *f) {
  json_t *rows = json_array();
  for (int j = 0; j < ptq_curve_n_params(f->curve); j++)
    json_array_append_new(
        rows,
        json_pack("{s:s,s:s,s:o,s:o,s:o,s:o}", "name", f->curve->params[j].name,
                  "text", f->curve->params[j].text, "estimate", number(f->q[j]),
                  "std_error", number(f->std_error[j]), "std_error_cluster",
                  number(f->std_error_cluster[j]), "df", number(f->df[j])));
  return rows;
}

static const char *kind_of(const ptq_recipe *r) {
  if (r->choose) return "nested choice";
  if (r->curve != NULL) return "nonlinear";
  return r->trees != NULL ? "trees" : "formula";
}

static json_t *entry(const ptq_entry *e) {
  const ptq_recipe *r = &e->recipe;
  json_t *splits = json_array();
  for (int i = 0; i < e->n_splits; i++)
    json_array_append_new(splits, validation(&e->splits[i]));
  json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:b,s:s,s:o}", "law", r->name, "kind",
                        kind_of(r), "formula", r->text, "tier",
                        ptq_tier_name(r->tier), "fitted", e->learned, "failure",
                        e->failure, "validation", splits);
  if (r->estimator != NULL)
    json_object_set_new(o, "estimator", json_string(r->estimator->name));
  if (r->curve == NULL) return o;
  const ptq_curve_fit *f = &e->curve;
  json_object_set_new(o, "source", json_string(r->curve->source));
  json_object_set_new(o, "identified", json_boolean(f->identified));
  if (!f->identified) return o;
  json_object_set_new(o, "parameters", curve_parameters(f));
  const struct {
    const char *name;
    int64_t n;
  } counts[] = {{"n", f->n},
                {"n_censored", f->n_left},
                {"n_collapsed_used", f->n_right},
                {"n_without_value", f->n_lost},
                {"n_models", f->n_clusters},
                {"n_starts", f->n_starts},
                {"n_starts_agree", f->n_agree}};
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
    json_object_set_new(o, counts[i].name, json_integer(counts[i].n));
  json_object_set_new(o, "seed", json_integer((json_int_t)f->seed));
  json_object_set_new(o, "sigma", number(f->sigma));
  json_object_set_new(o, "rss", number(f->rss));
  json_object_set_new(o, "r2", number(f->r2));
  return o;
}

/* Names a split, best first. */
static json_t *comparison(const ptq_contest *c) {
  json_t *all = json_array();
  for (int s = 0; s < c->n_splits; s++) {
    json_t *rows = json_array();
    for (int i = 0; i < c->n; i++) {
      const ptq_entry *e = &c->entry[c->order[s][i]];
      if (!e->learned || e->splits[s].all.n == 0) continue;
      json_t *row = accuracy(&e->splits[s].all);
      json_object_set_new(row, "law", json_string(e->recipe.name));
      json_object_set_new(row, "tier",
                          json_string(ptq_tier_name(e->recipe.tier)));
      json_array_append_new(rows, row);
    }
    json_array_append_new(
        all, json_pack("{s:s,s:o}", "split", ptq_split_at((size_t)s)->name,
                       "laws", rows));
  }
  return all;
}

static json_t *bootstrap(const ptq_summary *s) {
  json_t *rows = json_array();
  if (s->resampled == NULL) {
    json_decref(rows);
    return json_null();
  }
  for (int64_t j = 0; j < s->law.fit.matrix.k; j++)
    json_array_append_new(
        rows,
        json_pack("{s:s,s:o,s:o,s:o}", "name",
                  s->law.fit.matrix.columns[j].name, "std_error_bootstrap",
                  number(s->resampled[j].std_error), "ci_low",
                  number(s->resampled[j].low), "ci_high",
                  number(s->resampled[j].high)));
  return json_pack("{s:s,s:I,s:I,s:i,s:o}", "over", "models", "resamples",
                   (json_int_t)s->n_resamples, "failed",
                   (json_int_t)s->n_resamples_failed, "seed", 1, "coefficients",
                   rows);
}

static json_t *statements(const ptq_statements *all) {
  json_t *rows = json_array();
  for (int i = 0; i < all->n; i++) {
    const ptq_statement *s = &all->row[i];
    json_array_append_new(
        rows,
        json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:I,s:i,s:s}", "name",
                  s->name, "statement", s->text, "test", s->test, "verdict",
                  ptq_verdict_name(s->verdict), "estimate", number(s->estimate),
                  "ci_low", number(s->low), "ci_high", number(s->high), "p",
                  number(s->p), "p_holm", number(s->p_holm), "n",
                  (json_int_t)s->n, "n_models", s->n_models, "why", s->why));
  }
  return rows;
}

static json_t *seeds(const ptq_seeds *s) {
  json_t *rows = json_array();
  for (int64_t i = 0; i < s->n; i++) {
    const ptq_seed_spread *r = &s->row[i];
    json_array_append_new(
        rows,
        json_pack("{s:s,s:s,s:o,s:I,s:I,s:o,s:o,s:o,s:I,s:I,s:o,s:o}", "method",
                  r->method, "options", r->options, "bits",
                  r->bits > 0.0 ? number(r->bits) : json_null(), "n_sets",
                  (json_int_t)r->n_sets, "n_points", (json_int_t)r->n_points,
                  "sd_ln_dnll", number(r->sd_log), "ci_low", number(r->low),
                  "ci_high", number(r->high), "n_sets_ln",
                  (json_int_t)r->n_log_sets, "df", (json_int_t)r->df, "sd_dnll",
                  number(r->sd_nats), "rms_dnll_se", number(r->rms_se)));
  }
  return rows;
}

static json_t *mixed_row(const ptq_mixed_row *r) {
  const ptq_point_row *p = r->obs->point;
  const ptq_point_row *u = r->uniform != NULL ? r->uniform->point : NULL;
  const struct {
    const char *name;
    double value;
  } numbers[] = {{"bits_per_weight", p->bits_per_weight},
                 {"dnll", p->dnll},
                 {"dnll_se", p->dnll_se},
                 {"predicted", r->predicted.dnll},
                 {"predicted_low", r->predicted.low},
                 {"predicted_high", r->predicted.high},
                 {"uniform_bits", u != NULL ? u->bits_per_weight : (double)NAN},
                 {"uniform_dnll", u != NULL ? u->dnll : (double)NAN},
                 {"difference", r->difference},
                 {"difference_se", r->difference_se},
                 {"uniform_at_equal_bits", r->equal_bits}};
  json_t *o =
      json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:o}", "key", p->key, "model",
                p->model, "dtype", p->dtype, "method", p->method, "options",
                p->options, "predicted_ahead", (int)r->ahead, "uniform_key",
                u != NULL ? json_string(u->key) : json_null());
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    json_object_set_new(o, numbers[i].name, number(numbers[i].value));
  return o;
}

static json_t *mixed_json(const ptq_mixed *m) {
  json_t *rows = json_array();
  if (m->n == 0) {
    json_decref(rows);
    return json_null();
  }
  for (int64_t i = 0; i < m->n; i++)
    json_array_append_new(rows, mixed_row(&m->row[i]));
  return json_pack(
      "{s:o,s:o,s:o,s:I,s:i,s:o,s:o,s:o,s:o,s:I,s:i,s:o,s:o,s:o,s:I,s:I,s:I,s:"
      "o,s:I,s:o}",
      "ratio", number(m->within.ratio), "ratio_low", number(m->within.low),
      "ratio_high", number(m->within.high), "n_pairs",
      (json_int_t)m->within.n_pairs, "n_models", m->within.n_models,
      "mean_bits_fewer", number(m->fewer), "ratio_equal_bits",
      number(m->equal.ratio), "ratio_equal_bits_low", number(m->equal.low),
      "ratio_equal_bits_high", number(m->equal.high), "n_pairs_equal_bits",
      (json_int_t)m->equal.n_pairs, "n_models_equal_bits", m->equal.n_models,
      "ratio_equal_bits_noise", number(m->any.ratio),
      "ratio_equal_bits_noise_low", number(m->any.low),
      "ratio_equal_bits_noise_high", number(m->any.high),
      "n_pairs_equal_bits_noise", (json_int_t)m->any.n_pairs, "n_better",
      (json_int_t)m->n_better, "n_worse", (json_int_t)m->n_worse,
      "median_abs_ln_predicted", number(m->median_error), "n_predicted",
      (json_int_t)m->n_predicted, "points", rows);
}

/* Permutation importance of the trees that were compared, of the points that
 * the report's picture takes; rows stay empty where there are no trees. */
static ptq_status add_importance(const ptq_summary *s, json_t *all,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **obs = NULL;
  ptq_importance *rows = NULL;
  PTQ_TRY(ptq_alloc(&obs, s->sample.n, sizeof *obs, "points", err));
  for (int64_t i = 0; i < s->sample.n; i++) obs[i] = &s->sample.obs[i];
  for (int i = 0; i < s->contest.n; i++) {
    const ptq_recipe *r = &s->contest.entry[i].recipe;
    int64_t n = 0;
    double error = NAN;
    if (r->trees == NULL || !s->contest.entry[i].learned) continue;
    PTQ_TRY(ptq_trees_importance(r->trees, obs, s->sample.n, &rows, &n, &error,
                                 err));
    for (int64_t j = 0; j < n; j++)
      json_array_append_new(
          all, json_pack("{s:s,s:s,s:o,s:o}", "law", r->name, "feature",
                         rows[j].name, "importance", number(rows[j].growth),
                         "mean_abs_ln", number(error)));
    ptq_free(rows);
    rows = NULL;
  }
done:
  ptq_free(obs);
  ptq_free(rows);
  return rc;
}

/* What ranks layers, and what they add to one another. */
static json_t *sensitivity(const ptq_sensitivities *s) {
  json_t *sums = json_array(), *ranks = json_array();
  for (int64_t i = 0; i < s->n_sums; i++) {
    const ptq_interaction *x = &s->sums[i];
    if (!x->whole) continue;
    json_array_append_new(
        sums,
        json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:o,s:o,s:o,s:o}", "model",
                  x->row->model, "calibration", x->row->calibration,
                  "evaluation", x->row->evaluation, "dtype", x->row->dtype,
                  "group", (json_int_t)x->row->group, "layers",
                  (json_int_t)x->layers, "dnll", number(x->row->dnll),
                  "dnll_se", number(x->row->dnll_se), "sum_alone",
                  number(x->alone), "sum_restored", number(x->restored)));
  }
  for (int p = 0; s->n > 0 && p < PTQ_LAYER_PROXIES; p++)
    for (int t = 0; t < PTQ_RANK_TARGETS; t++) {
      const ptq_rank *r = &s->rank[p][t];
      json_array_append_new(
          ranks, json_pack("{s:s,s:s,s:o,s:o,s:o,s:i,s:I}", "number",
                           ptq_layer_proxy(p)->name, "ranks",
                           ptq_rank_target_name((ptq_rank_target)t), "spearman",
                           number(r->rho), "low", number(r->low), "high",
                           number(r->high), "n_models", r->n_models, "n_layers",
                           (json_int_t)r->n_layers));
    }
  return json_pack("{s:o,s:o}", "sums", sums, "ranks", ranks);
}

ptq_status ptq_fit_print_json(const ptq_summary *s, const ptq_mixed *mixed,
                              const ptq_sensitivities *layers,
                              const char *store, ptq_err *err) {
  json_t *trees = json_array();
  const ptq_status rc = add_importance(s, trees, err);
  if (rc != PTQ_OK) {
    json_decref(trees);
    return rc;
  }
  json_t *fits = json_array(), *others = json_array();
  json_array_append_new(fits, fit_object(&s->law, s->frame));
  json_array_append_new(fits, fit_object(&s->beside, s->frame));
  for (int i = 0; i < s->n_also; i++)
    json_array_append_new(fits, fit_object(&s->also[i], s->frame));
  for (int i = 0; i < s->contest.n; i++)
    json_array_append_new(others, entry(&s->contest.entry[i]));
  ptq_text equation = {0};
  ptq_fit_equation(&s->law.fit, &equation);
  json_t *root = json_pack(
      "{s:s,s:I,s:I,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "store", store,
      "n_points", (json_int_t)s->frame->n, "n_validated",
      (json_int_t)s->sample.n, "equation", ptq_text_str(&equation), "fits",
      fits, "laws", others, "comparison", comparison(&s->contest), "importance",
      trees, "statements", statements(&s->statements), "bootstrap",
      bootstrap(s), "mixed", mixed_json(mixed), "calibration_seeds",
      seeds(&s->seeds), "sensitivity", sensitivity(layers));
  char *text = root != NULL
                   ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12))
                   : NULL;
  json_decref(root);
  ptq_text_release(&equation);
  if (text == NULL) return PTQ_FAIL(err, PTQ_E_NOMEM, "JSON of the fits");
  (void)puts(text); /* what is lost, main() tells */
  free(text);
  return PTQ_OK;
}
