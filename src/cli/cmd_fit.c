/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "fit_json.h"
#include "ptq/analysis/summary.h"
#include "ptq/base/log.h"
#include "ptq/num/blas.h"

/* The law of the variance is quasi-likelihood's; all other estimators take no
 * notice of it. A quasi fit is printed beside theirs, so it is no mistake for
 * certain. */
static void warn_of_variance(const ptq_args *args,
                             const ptq_estimator *estimator) {
  static const char *const names[] = {"power", "ignore-noise"};
  if (estimator == NULL || strcmp(estimator->name, "quasi") == 0) return;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (ptq_args_has(args, names[i]))
      ptq_log(PTQ_LOG_WARN,
              "--%s changes nothing of estimator '%s', only of 'quasi', which "
              "is printed beside it",
              names[i], estimator->name);
}

/* Values of the command line, checked before the store is read. */
static ptq_status read_options(const ptq_args *args, ptq_summary_options *o,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_formula formula;
  const ptq_estimator *estimator = NULL;
  *o = (ptq_summary_options){.formula = ptq_args_get(args, "formula"),
                             .estimator = ptq_args_get(args, "estimator")};
  PTQ_TRY(ptq_args_double(args, "power", 0.0, &o->fit.power, err));
  if (ptq_args_get(args, "power") != NULL &&
      !(o->fit.power > 0.0 && o->fit.power <= 3.0))
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_ARG, "--power: %g is not in (0, 3]", o->fit.power));
  if (o->formula != NULL) PTQ_TRY(ptq_formula_parse(o->formula, &formula, err));
  if (o->estimator != NULL)
    PTQ_TRY(ptq_estimator_find(o->estimator, &estimator, err));
  long resamples = 0;
  PTQ_TRY(ptq_args_int(args, "bootstrap", 0, &resamples, err));
  if (resamples < 0 || resamples > 100000)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--bootstrap: %ld is not in [0, 100000]",
                     resamples));
  o->resamples = resamples;
  o->no_comparison = ptq_args_has(args, "no-comparison");
  o->no_trees = ptq_args_has(args, "no-trees");
  o->fit.ignore_noise = ptq_args_has(args, "ignore-noise");
  warn_of_variance(args, estimator);
done:
  return rc;
}

static ptq_status fit(const ptq_args *args, int *exit_code, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_summary *summary = NULL;
  ptq_text text = {0};
  ptq_mixed mixed = {0};
  ptq_sensitivities layers = {0};
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
  PTQ_TRY(ptq_blas_init(err)); /* one thread: the matrices are small */
  PTQ_TRY(ptq_view_open(store, &view, err));
  PTQ_TRY(ptq_frame_from_view(view, &frame, err));
  PTQ_TRY(ptq_summary_build(&frame, &options, summary, err));
  PTQ_TRY(ptq_mixed_compare(view, &frame, &mixed, err));
  if (ptq_args_has(args, "json")) {
    PTQ_TRY(ptq_sensitivities_read(view, &layers, err));
    PTQ_TRY(ptq_fit_print_json(summary, &mixed, &layers, store, err));
    goto done;
  }
  ptq_mixed_text(&mixed, &text);
  ptq_summary_text(summary, store, &text);
  if (text.rc != PTQ_OK)
    rc = PTQ_FAIL(err, text.rc, "printing the fits of '%s'", store);
  else
    (void)fputs(ptq_text_str(&text), stdout); /* as above */
done:
  ptq_text_release(&text);
  ptq_mixed_release(&mixed);
  ptq_sensitivities_release(&layers);
  if (summary != NULL) ptq_summary_release(summary);
  free(summary);
  ptq_frame_release(&frame);
  ptq_view_close(view);
  return rc;
}

static const ptq_option options[] = {
    {"formula", 0, "TEXT", "the law's right side; default: the first named"},
    {"estimator", 0, "NAME",
     "quasi (default), censored, ols, weighted, robust, ridge"},
    {"power", 0, "P", "quasi: variance = phi mean^P + dnll_se^2"},
    {"ignore-noise", 0, NULL, "quasi: leave dnll_se out of the variance"},
    {"no-trees", 0, NULL, "leave forest and boosting out of the comparison"},
    {"bootstrap", 0, "N", "errors of the law by N resamples of models"},
    {"no-comparison", 0, NULL, "the law alone, in a fraction of the time"},
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
        "A formula joins columns by +, interactions by a:b or a*b; log, log2,\n"
        "log10, log1p, sqrt, square, exp and inverse transform numbers.\n"
        "`ptqsweep list columns` tells the numbers and factors. Of a factor\n"
        "the first level is left out, of method rtn.\n\n"
        "Beside the formula all named laws, the nonlinear laws of the\n"
        "literature, and forest and boosting are compared under six splits:\n"
        "a model, a family, the largest size, a dtype, a method, or the "
        "models\n"
        "that the sweep file marks 'holdout: true' held out. Models with the\n"
        "same 'run:' count as one: they are checkpoints of one training "
        "run.\n\n"
        "  ptqsweep fit quick.h5 --formula 'log(params) + bits_per_weight +\n"
        "      method + sqnr_output + sqnr_output:method'\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .needs_mpi = false,
    .run = fit,
};
