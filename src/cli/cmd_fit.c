/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "ptq/analysis/summary.h"

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
  return json_pack("{s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "n", (json_int_t)a->n,
                   "median_abs_ln", number(a->median), "median_abs_ln_baseline",
                   number(a->median_base), "r2", number(a->r2), "r2_baseline",
                   number(a->r2_base), "mae_nats", number(a->mae),
                   "mae_nats_baseline", number(a->mae_base), "coverage_90",
                   number(a->coverage));
}

static json_t *validation(const ptq_validation *v) {
  json_t *by_bits = json_array();
  for (int b = 0; b < PTQ_BITS_MAX; b++) {
    if (v->by_bits[b].n == 0) continue;
    json_t *row = accuracy(&v->by_bits[b]);
    json_object_set_new(row, "bits", json_integer(b));
    json_array_append_new(by_bits, row);
  }
  return json_pack("{s:s,s:I,s:I,s:s,s:I,s:I,s:o,s:o}", "split", v->split->name,
                   "n_groups", (json_int_t)v->n_groups, "n_failed",
                   (json_int_t)v->n_failed, "failure", v->failure,
                   "n_predicted", (json_int_t)v->n_points, "n_unpredicted",
                   (json_int_t)v->n_unpredicted, "all", accuracy(&v->all),
                   "by_bits", by_bits);
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
                {"n_models", f->matrix.n_clusters},
                {"n_families", f->matrix.n_families},
                {"n_censored", f->n_left},
                {"n_collapsed", frame->count[PTQ_USE_COLLAPSED]},
                {"n_collapsed_used", f->n_right},
                {"n_failed", frame->count[PTQ_USE_FAILED]},
                {"n_pending", frame->count[PTQ_USE_PENDING]},
                {"n_dequantized", frame->count[PTQ_USE_DEQUANTIZED]},
                {"n_incomplete", frame->count[PTQ_USE_INCOMPLETE]},
                {"n_without_value", f->matrix.n_lost},
                {"n_excluded", f->n_excluded},
                {"n_unbounded", f->n_unbounded},
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
    json_object_set_new(o, "noise_in_variance", json_boolean(f->noise));
  }
  json_object_set_new(o, "r2", number(f->r2));
  json_object_set_new(o, "r2_nats", number(f->r2_nats));
  json_object_set_new(o, "log_likelihood", number(f->log_likelihood));
  json_object_set_new(o, "diagnostics", diagnostics(f));
  json_object_update_new(o, left_out(&f->matrix));
  json_object_set_new(o, "validation", splits);
  return o;
}

static ptq_status print_json(const ptq_summary *s, const char *store,
                             ptq_err *err) {
  json_t *fits = json_array(), *others = json_array();
  json_array_append_new(fits, fit_object(&s->law, s->frame));
  json_array_append_new(fits, fit_object(&s->beside, s->frame));
  for (int i = 0; i < s->n_others; i++)
    json_array_append_new(others, fit_object(&s->others[i], s->frame));
  ptq_text equation = {0};
  ptq_fit_equation(&s->law.fit, &equation);
  json_t *root =
      json_pack("{s:s,s:I,s:s,s:o,s:o}", "store", store, "n_points",
                (json_int_t)s->frame->n, "equation", ptq_text_str(&equation),
                "fits", fits, "laws", others);
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

/* Values of the command line, checked before the store is read. */
static ptq_status read_options(const ptq_args *args, ptq_summary_options *o,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_formula formula;
  const ptq_estimator *estimator = NULL;
  *o = (ptq_summary_options){.formula = ptq_args_get(args, "formula"),
                             .estimator = ptq_args_get(args, "estimator")};
  PTQ_TRY(
      ptq_args_double(args, "power", PTQ_POWER_DEFAULT, &o->fit.power, err));
  if (!(o->fit.power > 0.0 && o->fit.power <= 3.0))
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_ARG, "--power: %g is not in (0, 3]", o->fit.power));
  if (o->formula != NULL) PTQ_TRY(ptq_formula_parse(o->formula, &formula, err));
  if (o->estimator != NULL)
    PTQ_TRY(ptq_estimator_find(o->estimator, &estimator, err));
  o->fit.ignore_noise = ptq_args_has(args, "ignore-noise");
done:
  return rc;
}

static ptq_status fit(const ptq_args *args, int *exit_code, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_summary *summary = NULL;
  ptq_text text = {0};
  const char *store = ptq_args_at(args, 0);
  ptq_summary_options options;
  rc = read_options(args, &options, err);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  summary = calloc(1, sizeof *summary);
  if (summary == NULL) {
    rc = PTQ_FAIL(err, PTQ_E_NOMEM, "summary of '%s'", store);
    goto done;
  }
  PTQ_TRY(ptq_view_open(store, &view, err));
  PTQ_TRY(ptq_frame_from_view(view, &frame, err));
  PTQ_TRY(ptq_summary_build(&frame, &options, summary, err));
  if (ptq_args_has(args, "json")) {
    PTQ_TRY(print_json(summary, store, err));
    goto done;
  }
  ptq_summary_text(summary, store, &text);
  if (text.rc != PTQ_OK)
    rc = PTQ_FAIL(err, text.rc, "printing the fits of '%s'", store);
  else
    (void)fputs(ptq_text_str(&text), stdout); /* as above */
done:
  ptq_text_release(&text);
  if (summary != NULL) ptq_summary_release(summary);
  free(summary);
  ptq_frame_release(&frame);
  ptq_view_close(view);
  return rc;
}

static const ptq_option options[] = {
    {"formula", 0, "TEXT", "the law's right side; default: the first named"},
    {"estimator", 0, "NAME", "quasi (default), censored or ols"},
    {"power", 0, "P", "quasi: variance = phi mean^P + dnll_se^2"},
    {"ignore-noise", 0, NULL, "quasi: leave dnll_se out of the variance"},
    {"json", 0, NULL, "print JSON"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_fit = {
    .name = "fit",
    .args = "STORE [options]",
    .summary = "fit the loss added by quantization, validate on held-out "
               "models",
    .details =
        "Regresses dnll, the nats a token that quantization adds, on what is\n"
        "known of model and format: by quasi-likelihood with a log link, and\n"
        "beside it by censored least squares of ln(dnll). Errors are\n"
        "clustered by model; accuracy is judged on models and families that\n"
        "were held out, beside the median of the dtype. A half-finished store\n"
        "is fitted with what is done.\n\n"
        "A formula joins columns by + and interactions by a:b; log, log2 and\n"
        "sqrt transform numbers. Numbers: params, params_nonembedding,\n"
        "params_quantizable, n_blocks, d_model, vocab, bits, bits_per_weight,\n"
        "bits_model, group, sqnr_weight, sqnr_output, err_hessian, nll_model.\n"
        "Factors: method (reference rtn), element, dtype, family, model.\n\n"
        "  ptqsweep fit quick.h5 --formula 'log(params) + bits_per_weight +\n"
        "      method + sqnr_output + sqnr_output:method'\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .needs_mpi = false,
    .run = fit,
};
