/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "forecast.h"
#include "ptq/analysis/feature.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"
#include "ptq/sweep/identity.h"
#include "study.h"

extern const ptq_command ptq_cmd_predict;

/* The command line, understood. */
typedef struct request {
  const char *model; /* NULL: every model of the store */
  ptq_dtype dtype;   /* family NULL: what the store's points have */
  ptq_method method;
  int64_t group;
  bool best, frontier;
  double bits, bytes;     /* of the best; NaN: no bound */
  double nll;             /* NaN: not given */
  const char *sweep;      /* file whose points are asked for; NULL: none */
  const char *covariates; /* "k=v,..."; NULL: none */
} request;

static ptq_status read_group(const char *text, int64_t *out, ptq_err *err) {
  char *end = NULL;
  *out = PTQ_GROUP_ROW;
  if (text == NULL || strcmp(text, "row") == 0) return PTQ_OK;
  *out = PTQ_GROUP_TENSOR;
  if (strcmp(text, "tensor") == 0) return PTQ_OK;
  *out = strtoll(text, &end, 10);
  if (end == text || *end != '\0' || *out <= 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "--group: '%s' is not a number above 0, row or tensor",
                    text);
  return PTQ_OK;
}

/* "gptq" or "gptq:hessian=static,damp=0.05". */
static ptq_status read_method(const char *text, ptq_method *out, ptq_err *err) {
  enum { OPTIONS = 16 };
  char copy[160];
  ptq_method_option parts[OPTIONS];
  size_t n = 0;
  if (!ptq_text_copy(copy, sizeof copy, text))
    return PTQ_FAIL(err, PTQ_E_ARG, "--method: too long");
  char *colon = strchr(copy, ':');
  if (colon != NULL) *colon = '\0';
  for (char *at = colon != NULL ? strtok(colon + 1, ",") : NULL;
       at != NULL && n < OPTIONS; at = strtok(NULL, ",")) {
    char *equals = strchr(at, '=');
    if (equals == NULL)
      return PTQ_FAIL(err, PTQ_E_ARG, "--method: '%s' is not key=value", at);
    *equals = '\0';
    parts[n++] = (ptq_method_option){at, equals + 1};
  }
  return ptq_method_parse(copy, parts, n, out, err);
}

/* Covariates that are columns of numbers are numbers. */
static ptq_status check_numbers(const char *text, ptq_err *err) {
  static const char *const numbers[] = {"train_tokens", "train_seed"};
  ptq_model_row row = {.params = 0};
  if (text == NULL) return PTQ_OK;
  (void)ptq_text_copy(row.covariates, sizeof row.covariates, text);
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    char value[sizeof row.covariates];
    if (ptq_covariate_text(&row, numbers[i], value, sizeof value) &&
        !isfinite(ptq_covariate(&row, numbers[i])))
      return PTQ_FAIL(err, PTQ_E_ARG, "--covariates: %s: '%s' is not a number",
                      numbers[i], value);
  }
  return PTQ_OK;
}

/* "train_tokens=3e12,lr_state=decayed": words without blanks. */
static ptq_status read_covariates(const char *text, request *r, ptq_err *err) {
  const char *at = text;
  r->covariates = text;
  while (at != NULL && *at != '\0') {
    const size_t name = strcspn(at, "=,"), all = strcspn(at, ",");
    if (name == 0 || at[name] != '=' || name + 1 == all ||
        strlen(text) >= sizeof((ptq_model_row *)0)->covariates)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "--covariates: '%s' is not key=value,..., at most %zu "
                      "characters; for example train_tokens=3e12",
                      text, sizeof((ptq_model_row *)0)->covariates - 1);
    at += all + (at[all] == ',');
  }
  return check_numbers(text, err);
}

static ptq_status read_request(const ptq_args *args, request *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *dtype = ptq_args_get(args, "dtype");
  const char *memory = ptq_args_get(args, "memory");
  const char *method = ptq_args_get(args, "method");
  int64_t bytes = 0;
  *r = (request){.model = ptq_args_at(args, 1),
                 .best = ptq_args_has(args, "best") ||
                         ptq_args_has(args, "bits") || memory != NULL,
                 .frontier = ptq_args_has(args, "pareto"),
                 .sweep = ptq_args_get(args, "sweep"),
                 .bytes = NAN};
  PTQ_TRY(read_covariates(ptq_args_get(args, "covariates"), r, err));
  PTQ_TRY(ptq_args_double(args, "bits", (double)NAN, &r->bits, err));
  PTQ_TRY(ptq_args_double(args, "nll", (double)NAN, &r->nll, err));
  if (memory != NULL) {
    PTQ_TRY(ptq_bytes_parse(memory, &bytes, err));
    r->bytes = (double)bytes;
  }
  if (r->best && r->frontier)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--best or --pareto, not both"));
  if (ptq_args_has(args, "best") && isnan(r->bits) && memory == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "--best under which budget? --bits 4.25 or --memory 8GB"));
  PTQ_TRY(read_group(ptq_args_get(args, "group"), &r->group, err));
  if (dtype != NULL) PTQ_TRY(ptq_dtype_parse(dtype, &r->dtype, err));
  PTQ_TRY(read_method(method != NULL ? method : "rtn", &r->method, err));
  if (dtype == NULL && !r->best && !r->frontier && r->sweep == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "what is to be predicted? --dtype NAME, --sweep FILE, "
                     "--best with a budget, or --pareto"));
  if (r->sweep != NULL && dtype != NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--sweep or --dtype, not both"));
  if (dtype != NULL && (r->best || r->frontier))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "--dtype with --best or --pareto; they choose it"));
  if (r->model == NULL && isfinite(r->nll))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--nll of which model?"));
  if (ptq_args_has(args, "nll") && !(r->nll > 0.0 && isfinite(r->nll)))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--nll: %g is not above 0", r->nll));
done:
  return rc;
}

/* What the checkpoint stores beside linear layers, from a finished point. */
static double unquantized_bits(const ptq_frame *f, const ptq_model_row *m) {
  for (int64_t i = 0; i < f->n; i++)
    if (f->obs[i].model == m && isfinite(f->obs[i].point->bits_model))
      return f->obs[i].point->bits_model -
             f->obs[i].point->bits_per_weight * (double)m->params_quantizable;
  return 16.0 * (double)(m->params - m->params_quantizable);
}

/* The models asked for: of the store by name, every one, or a directory. */
static ptq_status find_models(const request *r, const ptq_args *args,
                              const ptq_frame *f, ptq_geometry **out,
                              int64_t *n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *family = ptq_args_get(args, "family");
  PTQ_TRY(ptq_alloc(out, f->n_models + 1, sizeof **out, "models", err));
  for (int64_t i = 0; i < f->n_models; i++) {
    const ptq_model_row *m = &f->models[i];
    bool twice = false; /* a model of two texts */
    for (int64_t k = 0; k < *n; k++)
      twice = twice || strcmp((*out)[k].row.model, m->model) == 0;
    if (twice || (r->model != NULL && strcmp(r->model, m->model) != 0))
      continue;
    ptq_geometry_of_row(m, unquantized_bits(f, m), &(*out)[(*n)++]);
  }
  if (*n > 0 && r->covariates != NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "--covariates are of a model directory; the store has "
                     "those of its own models"));
  if (*n == 0) {
    PTQ_TRY(ptq_geometry_read(r->model != NULL ? r->model : "", *out, err));
    *n = 1;
    if (r->covariates != NULL)
      (void)ptq_text_copy((*out)->row.covariates, sizeof(*out)->row.covariates,
                          r->covariates);
  }
  for (int64_t i = 0; i < *n; i++) {
    if (isfinite(r->nll)) (*out)[i].row.nll = r->nll;
    if (family != NULL)
      (void)ptq_text_copy((*out)[i].row.family, sizeof(*out)[i].row.family,
                          family);
  }
done:
  return rc;
}

/* The models of the sweep file's subjects; the loss of those that the store
 * has is known. */
static ptq_status subject_models(const request *r, const ptq_args *args,
                                 const ptq_frame *f, const ptq_grid *grid,
                                 ptq_geometry **out, ptq_err *err) {
  const char *family = ptq_args_get(args, "family");
  const ptq_status rc =
      ptq_alloc(out, grid->n_subjects, sizeof **out, "models", err);
  for (int64_t s = 0; s < grid->n_subjects && rc == PTQ_OK; s++) {
    ptq_geometry *g = &(*out)[s];
    ptq_model_row row;
    ptq_subject_identity(grid, s, &row);
    ptq_geometry_of_row(&row, grid->subjects[s].info.bits_unquantized, g);
    for (int64_t i = 0; i < f->n_models; i++)
      if (strcmp(f->models[i].model, row.model) == 0 &&
          strcmp(f->models[i].evaluation, row.evaluation) == 0) {
        g->row.nll = f->models[i].nll;
        g->row.tokens = f->models[i].tokens;
        g->row.bytes = f->models[i].bytes;
        g->row.nll_unigram = f->models[i].nll_unigram;
      }
    if (isfinite(r->nll)) g->row.nll = r->nll;
    if (family != NULL)
      (void)ptq_text_copy(g->row.family, sizeof g->row.family, family);
  }
  return rc;
}

/* Every point of a sweep file, run or not. */
static ptq_status make_of_sweep(const request *r, const ptq_args *args,
                                const ptq_oracle *oracle, const ptq_frame *f,
                                ptq_study *study, ptq_geometry **models,
                                ptq_guesses *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_spec_read(r->sweep, NULL, 0, &study->spec, err));
  PTQ_TRY(ptq_grid_build(&study->spec, &study->grid, err));
  PTQ_TRY(subject_models(r, args, f, &study->grid, models, err));
  PTQ_TRY(
      ptq_guess_sweep(out, oracle, f, &study->grid, *models, r->model, err));
  if (out->n == 0)
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_ARG, "'%s' has no model '%s'", r->sweep, r->model));
done:
  return rc;
}

static ptq_status make(const request *r, const ptq_oracle *oracle,
                       const ptq_frame *f, const ptq_geometry *models,
                       int64_t n, ptq_guesses *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < n && r->sweep == NULL; i++) {
    if (r->dtype.family != NULL)
      PTQ_TRY(ptq_guess_add(out, oracle, f, &models[i], &r->dtype, &r->method,
                            r->group, err));
    else
      PTQ_TRY(ptq_guess_all(out, oracle, f, &models[i], err));
  }
  ptq_guess_compare(out);
  if (r->best) PTQ_TRY(ptq_guess_best(out, r->bits, r->bytes, err));
  if (r->frontier) ptq_guess_frontier(out);
done:
  return rc;
}

static ptq_status predict(const ptq_args *args, int *exit_code, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  request r;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_oracle oracle = {0};
  ptq_geometry *models = NULL;
  ptq_guesses guesses = {0};
  ptq_study study = {0};
  int64_t n = 0;
  rc = read_request(args, &r, err);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_view_open(ptq_args_at(args, 0), &view, err));
  PTQ_TRY(ptq_frame_from_view(view, &frame, err));
  if (r.sweep == NULL) PTQ_TRY(find_models(&r, args, &frame, &models, &n, err));
  PTQ_TRY(ptq_oracle_learn(&frame, ptq_args_get(args, "law"), &oracle, err));
  if (r.sweep != NULL)
    PTQ_TRY(make_of_sweep(&r, args, &oracle, &frame, &study, &models, &guesses,
                          err));
  PTQ_TRY(make(&r, &oracle, &frame, models, n, &guesses, err));
  if (ptq_args_has(args, "json"))
    PTQ_TRY(ptq_guess_print_json(&guesses, &oracle, err));
  else
    ptq_guess_print(&guesses, &oracle, r.best || r.frontier);
done:
  ptq_guesses_release(&guesses);
  ptq_study_close(&study);
  ptq_oracle_release(&oracle);
  ptq_free(models);
  ptq_frame_release(&frame);
  ptq_view_close(view);
  return rc;
}

static const ptq_option options[] = {
    {"dtype", 'd', "NAME", "number format, int4:asym"},
    {"method", 'm', "NAME", "rtn (default), gptq, gptq:hessian=static"},
    {"group", 'g', "N", "weights a group, row (default) or tensor"},
    {"sweep", 0, "FILE", "every point of a sweep file, mixtures too"},
    {"best", 0, NULL, "the least loss under a budget"},
    {"bits", 0, "B", "the budget: bits a weight"},
    {"memory", 0, "SIZE", "the budget: the whole model, 8GB"},
    {"pareto", 0, NULL, "what nothing else beats in size and loss"},
    {"nll", 0, "X", "NLL of the unquantized model, nats a token"},
    {"family", 0, "NAME", "family of a model directory, if not its type"},
    {"covariates", 0, "K=V,...",
     "of a model directory, as in a sweep file: train_tokens=3e12"},
    {"law", 0, "NAME",
     "the law to use; default: the best of those that need "
     "no run"},
    {"json", 0, NULL, "print JSON"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_predict = {
    .name = "predict",
    .args = "STORE [MODEL] [options]",
    .summary = "the loss of a configuration that was never run",
    .details =
        "Predicts what quantization adds to the NLL, with a 90 % interval,\n"
        "from the laws of the store's points that need no more than sizes and\n"
        "format; the one with the least error on held-out models that knows\n"
        "the method is used. MODEL is a name in the store, or a directory\n"
        "with a config.json; without it, every model of the store. A\n"
        "prediction outside of the range of the data says so. Laws of\n"
        "training tokens ask a directory's --covariates. --best and\n"
        "--pareto choose among the formats, methods and groups of the store,\n"
        "or among the points of a sweep file that --sweep names, whose models\n"
        "MODEL then picks from.\n\n"
        "  ptqsweep predict quick.h5 llama-1m --dtype int4 --group 64\n"
        "  ptqsweep predict quick.h5 /models/opt-125m --nll 3.3 --best --bits "
        "4.25\n"
        "  ptqsweep predict quick.h5 --pareto\n"
        "  ptqsweep predict quick.h5 --sweep mixed.yaml\n",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = predict,
};
