/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "allocated_sweep.h"
#include "allocation.h"
#include "command.h"
#include "output.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/dtype.h"
#include "ptq/sweep/mixture.h"
#include "study.h"

extern const ptq_command ptq_cmd_allocate;

enum { FORMATS_MAX = 64 };

/* The command line, and the stores that it names. */
typedef struct request {
  ptq_allocation_task task;
  const char *model; /* pattern of names */
  bool probe, blocks;
  ptq_dtype formats[FORMATS_MAX];
  const char *format[FORMATS_MAX]; /* their names */
  char method[160];                /* cut into parts */
  ptq_view *store, *probes;        /* owned; probes NULL: the store's own */
  ptq_frame frame, probe_frame;
} request;

static void request_release(request *r) {
  ptq_frame_release(&r->frame);
  ptq_frame_release(&r->probe_frame);
  ptq_view_close(r->store);
  ptq_view_close(r->probes);
}

/* "3.25,4.25" */
static ptq_status read_budgets(const char *text, ptq_allocation_task *t,
                               ptq_err *err) {
  for (const char *at = text; at != NULL && *at != '\0';) {
    char *end = NULL;
    const double v = strtod(at, &end);
    if (end == at || (*end != ',' && *end != '\0') || !(v > 0.0) || v > 64.0)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "--bits: '%s' is not a list of bits a weight such as "
                      "3.25,4.25",
                      text);
    if (t->n_budgets == PTQ_BUDGETS_MAX)
      return PTQ_FAIL(err, PTQ_E_ARG, "--bits: more than %d budgets",
                      (int)PTQ_BUDGETS_MAX);
    t->budget[t->n_budgets++] = v;
    at = *end == ',' ? end + 1 : end;
  }
  return PTQ_OK;
}

/* "int4,mxint4:scale=rceil" */
static ptq_status read_formats(request *r, const char *text, ptq_err *err) {
  ptq_allocation_task *t = &r->task;
  char copy[512];
  if (text == NULL) return PTQ_OK;
  if (!ptq_text_copy(copy, sizeof copy, text))
    return PTQ_FAIL(err, PTQ_E_ARG, "--formats: too long");
  for (char *at = strtok(copy, ","); at != NULL; at = strtok(NULL, ",")) {
    if (t->n_formats == FORMATS_MAX)
      return PTQ_FAIL(err, PTQ_E_ARG, "--formats: more than %d",
                      (int)FORMATS_MAX);
    ptq_dtype *dt = &r->formats[t->n_formats];
    const ptq_status rc = ptq_dtype_parse(at, dt, err);
    if (rc != PTQ_OK) return rc;
    r->format[t->n_formats++] = dt->name;
  }
  t->formats = r->format;
  return PTQ_OK;
}

static ptq_status read_group(const char *text, int64_t *out, ptq_err *err) {
  char *end = NULL;
  *out = PTQ_ANY_GROUP;
  if (text == NULL) return PTQ_OK;
  *out = PTQ_GROUP_ROW;
  if (strcmp(text, "row") == 0) return PTQ_OK;
  *out = PTQ_GROUP_TENSOR;
  if (strcmp(text, "tensor") == 0) return PTQ_OK;
  *out = strtoll(text, &end, 10);
  if (end != text && *end == '\0' && *out > 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "--group: '%s' is not a number above 0, row or tensor", text);
}

/* What the reader of sweep files will not take is not written into one. */
static ptq_status read_name(const char *name, ptq_allocation_task *t,
                            ptq_err *err) {
  t->name = name;
  if (name == NULL) return PTQ_OK;
  if (strncmp(name, PTQ_PROBE_PREFIX, strlen(PTQ_PROBE_PREFIX)) == 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "--name: '%s' names probes, which are no results",
                    PTQ_PROBE_PREFIX);
  for (int b = 0; b < t->n_budgets; b++) {
    char text[96];
    ptq_mixture_base_name(t, t->budget[b], text, sizeof text);
    const ptq_status rc = ptq_mixture_check_name(text, err);
    if (rc != PTQ_OK) return rc;
  }
  return PTQ_OK;
}

static ptq_status read_request(const ptq_args *args, request *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_allocation_task *t = &r->task;
  const char *bits = ptq_args_get(args, "bits");
  *r = (request){.model = ptq_args_get(args, "model"),
                 .probe = ptq_args_has(args, "probe") ||
                          ptq_args_has(args, "probe-blocks"),
                 .blocks = ptq_args_has(args, "probe-blocks")};
  t->equal = ptq_args_has(args, "equal");
  PTQ_TRY(read_budgets(bits, t, err));
  PTQ_TRY(read_name(ptq_args_get(args, "name"), t, err));
  PTQ_TRY(read_formats(r, ptq_args_get(args, "formats"), err));
  PTQ_TRY(read_group(ptq_args_get(args, "group"), &t->group, err));
  if (t->n_budgets == 0 && !r->probe)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "how many bits a weight? --bits 3.5, or --probe to write "
                     "a sweep that measures sensitivities"));
  if (r->probe && (bits != NULL || t->equal || ptq_args_has(args, "probes")))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "--probe comes first, alone; --bits and --probes when its "
                     "sweep was run"));
  if (r->probe && !ptq_args_has(args, "output"))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--probe -o FILE: where to?"));
  if (t->equal && ptq_args_has(args, "probes"))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--equal or --probes, not both"));
  const char *const inputs[] = {ptq_args_at(args, 0),
                                ptq_args_get(args, "probes")};
  PTQ_TRY(ptq_output_check_file(ptq_args_get(args, "output"), inputs, 2, err));
done:
  return rc;
}

static bool has_method(const ptq_frame *f, const char *method,
                       const char *options) {
  for (int64_t i = 0; i < f->n; i++)
    if (strcmp(f->obs[i].point->method, method) == 0 &&
        strcmp(f->obs[i].point->options, options) == 0)
      return true;
  return false;
}

/* --method, else gptq if the store has it, else rtn, else the first point's. */
static ptq_status choose_method(request *r, const char *given, ptq_err *err) {
  ptq_allocation_task *t = &r->task;
  const ptq_frame *f = &r->frame;
  static const char *const usual[] = {"gptq", "rtn", NULL};
  t->method = f->n > 0 ? f->obs[0].point->method : "";
  t->options = f->n > 0 ? f->obs[0].point->options : "";
  if (given != NULL) {
    if (!ptq_text_copy(r->method, sizeof r->method, given))
      return PTQ_FAIL(err, PTQ_E_ARG, "--method: too long");
    char *colon = strchr(r->method, ':');
    if (colon != NULL) *colon = '\0';
    t->method = r->method;
    t->options = colon != NULL ? colon + 1 : "";
  } else {
    for (const char *const *m = usual; *m != NULL; m++)
      if (has_method(f, *m, "")) {
        t->method = *m;
        t->options = "";
        break;
      }
  }
  if (has_method(f, t->method, t->options)) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "the store has no method '%s%s%s'; give one of its own with "
                  "--method, as in gptq:hessian=static",
                  t->method, t->options[0] != '\0' ? ":" : "", t->options);
}

/* What is chosen by the text it is judged on looks better than it is. */
static void warn_of_text(const ptq_allocation_task *t) {
  const ptq_frame *f = t->probes.frame;
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_point_row *p = f->obs[i].point;
    if (!ptq_obs_is_probe(&f->obs[i]) ||
        !ptq_same_text(p->evaluation,
                       ptq_result_text(t->store.frame, p->model)))
      continue;
    ptq_log(PTQ_LOG_WARN,
            "probes were evaluated on '%s', the text that results are measured "
            "on: what they choose will look better than it is on another text",
            p->evaluation);
    return;
  }
}

static ptq_status open_stores(const ptq_args *args, request *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_allocation_task *t = &r->task;
  const char *probes = ptq_args_get(args, "probes");
  PTQ_TRY(ptq_view_open(ptq_args_at(args, 0), &r->store, err));
  PTQ_TRY(ptq_frame_from_view(r->store, &r->frame, err));
  PTQ_TRY(ptq_layer_source_of(r->store, &r->frame, &t->store, err));
  t->probes = t->store;
  if (probes != NULL) {
    PTQ_TRY(ptq_view_open(probes, &r->probes, err));
    PTQ_TRY(ptq_frame_from_view(r->probes, &r->probe_frame, err));
    PTQ_TRY(ptq_layer_source_of(r->probes, &r->probe_frame, &t->probes, err));
  }
  warn_of_text(t);
  PTQ_TRY(choose_method(r, ptq_args_get(args, "method"), err));
  if (t->name == NULL) t->name = t->method;
done:
  return rc;
}

/* Names of the store's models that are asked for, each once. */
static ptq_status list_models(const request *r, const char ***out, int64_t *n,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_frame *f = &r->frame;
  PTQ_TRY(ptq_alloc(out, f->n_models, sizeof **out, "models", err));
  for (int64_t i = 0; i < f->n_models; i++) {
    const char *name = f->models[i].model;
    bool seen = r->model != NULL && fnmatch(r->model, name, 0) != 0;
    for (int64_t k = 0; k < *n; k++)
      seen = seen || strcmp((*out)[k], name) == 0;
    if (!seen) (*out)[(*n)++] = name;
  }
  if (*n == 0)
    rc = PTQ_FAIL(err, PTQ_E_ARG, "the store has no model '%s'", r->model);
done:
  return rc;
}

static ptq_status write_sweep(const request *r, const char *path,
                              const ptq_text *dtypes, ptq_err *err) {
  const ptq_allocated_sweep what = {.task = &r->task,
                                    .frame = &r->frame,
                                    .store = r->store,
                                    .model = r->model,
                                    .probes = r->probe,
                                    .dtypes = dtypes};
  return ptq_allocated_sweep_write(&what, path, err);
}

static ptq_status write_probes(const request *r, const char *path,
                               const char **models, int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text dtypes = {0};
  int64_t total = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t own = 0;
    PTQ_TRY(
        ptq_model_probes(&r->task, models[i], r->blocks, &dtypes, &own, err));
    total += own;
  }
  if (dtypes.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, dtypes.rc, "probes"));
  PTQ_TRY(write_sweep(r, path, &dtypes, err));
  printf("%s: %lld probes of %lld models, evaluated on the selection text; run "
         "it into a store of its own and give that with --probes\n",
         path, (long long)total, (long long)n);
done:
  ptq_text_release(&dtypes);
  return rc;
}

static ptq_status print_json(json_t *models, ptq_err *err) {
  json_t *root = json_pack("{s:o}", "models", models);
  const int bad =
      root == NULL ||
      json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) != 0;
  json_decref(root);
  if (bad && !ferror(stdout))
    return PTQ_FAIL(err, PTQ_E_NOMEM, "JSON of the allocations");
  printf("\n");
  return PTQ_OK;
}

/* All models or none: half an answer would pass for a whole one. Where some
 * cannot, the first says why, and those that can are named. */
static ptq_status allocate_models(const request *r, const char **models,
                                  int64_t n, ptq_model_allocation *out,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text able = {0};
  for (int64_t i = 0; i < n && (rc == PTQ_OK || rc == PTQ_E_ARG); i++) {
    const ptq_status this =
        ptq_model_allocate(&r->task, models[i], &out[i], err);
    if (this == PTQ_OK)
      ptq_text_addf(&able, "%s%s", able.len > 0 ? ", " : "", models[i]);
    else if (rc == PTQ_OK)
      rc = this;
  }
  if (rc != PTQ_OK && able.len > 0)
    ptq_log(PTQ_LOG_WARN, "not for all models, but for %s: choose by --model",
            ptq_text_str(&able));
  ptq_text_release(&able);
  return rc;
}

static ptq_status allocate_all(const request *r, const ptq_args *args,
                               const char **models, int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *path = ptq_args_get(args, "output");
  const bool json = ptq_args_has(args, "json");
  json_t *all = json ? json_array() : NULL;
  ptq_text dtypes = {0};
  ptq_model_allocation *a = NULL;
  PTQ_TRY(ptq_alloc(&a, n, sizeof *a, "allocations", err));
  PTQ_TRY(allocate_models(r, models, n, a, err));
  for (int64_t i = 0; i < n; i++) {
    if (json)
      (void)json_array_append_new(all,
                                  ptq_model_allocation_json(&r->task, &a[i]));
    else
      ptq_model_allocation_print(&r->task, &a[i]);
    ptq_model_allocation_yaml(&r->task, &a[i], &dtypes);
  }
  if (dtypes.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, dtypes.rc, "mixtures"));
  if (path != NULL && dtypes.len == 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "nothing to write: every budget is best met by a uniform "
                     "format"));
  if (path != NULL) PTQ_TRY(write_sweep(r, path, &dtypes, err));
  if (json) {
    PTQ_TRY(print_json(all, err));
    all = NULL;
  } else if (path != NULL) {
    printf("%s: run it with -o %s --extend\n", path, ptq_view_path(r->store));
  }
done:
  json_decref(all);
  for (int64_t i = 0; a != NULL && i < n; i++)
    ptq_model_allocation_release(&a[i]);
  ptq_free(a);
  ptq_text_release(&dtypes);
  return rc;
}

static ptq_status allocate(const ptq_args *args, int *exit_code, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  request r;
  const char **models = NULL;
  int64_t n = 0;
  rc = read_request(args, &r, err);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(open_stores(args, &r, err));
  if (r.probe) { /* the sweep whose sensitivities are asked for stays */
    const char *spec = ptq_view_attribute(r.store, "spec_path");
    rc = ptq_output_check(ptq_args_get(args, "output"), &spec, 1, err);
    if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
    PTQ_TRY(rc);
  }
  PTQ_TRY(list_models(&r, &models, &n, err));
  if (r.probe)
    PTQ_TRY(write_probes(&r, ptq_args_get(args, "output"), models, n, err));
  else
    PTQ_TRY(allocate_all(&r, args, models, n, err));
done:
  ptq_free(models);
  request_release(&r);
  return rc;
}

static const ptq_option options[] = {
    {"model", 0, "NAME", "of the store, with wildcards; default: every one"},
    {"bits", 0, "B[,B]", "budgets: bits a weight, scales and all"},
    {"method", 'm', "NAME",
     "of the points to choose from, gptq:hessian=static;\n"
     "                               default: gptq"},
    {"formats", 0, "D[,D]", "dtypes to choose from; default: the store's"},
    {"group", 'g', "N", "only this group: a number, row or tensor"},
    {"probe", 0, NULL,
     "write the sweep that measures sensitivities: a point\n"
     "                               a layer"},
    {"probe-blocks", 0, NULL, "the same, a point a block: fewer, and coarser"},
    {"probes", 0, "STORE", "store of the probes; default: STORE itself"},
    {"equal", 0, NULL, "without probes: take layers for equally sensitive"},
    {"name", 0, "NAME",
     "of the mixtures, before the budget; default: the\n"
     "                               method's"},
    {"output", 'o', "FILE",
     "sweep file to write: the store's, with these "
     "points"},
    {"json", 0, NULL, "print JSON: every layer's format"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_allocate = {
    .name = "allocate",
    .args = "STORE --probe -o FILE | STORE --bits B [options]",
    .summary = "a number format for each layer under a budget of bits",
    .details =
        "Adaptive precision in two steps. First --probe writes a sweep in "
        "which\n"
        "one layer at a time is coarse and all others are fine, evaluated on\n"
        "the selection text: what each costs tells how sensitive the layers\n"
        "are. Then --bits chooses, for each layer, among the formats and\n"
        "groups that the store's uniform points were run in: the least sum of\n"
        "sensitivity times error that fits the budget. Errors are those of "
        "the\n"
        "store's rows of layers. The loss is predicted before it is measured,\n"
        "and stands beside the best uniform format within the budget.\n\n"
        "-o writes the store's sweep file with the chosen mixtures on its\n"
        "dtype axis; run with --extend, it measures just these. `report` then\n"
        "shows predicted beside measured, and beside uniform formats.\n\n"
        "  ptqsweep allocate quick.h5 --probe -o probes.yaml\n"
        "  ./run.sh sweep probes.yaml -o probes.h5\n"
        "  ptqsweep allocate quick.h5 --probes probes.h5 --bits 3.25,4.25 \\\n"
        "      -o mixed.yaml\n"
        "  ./run.sh sweep mixed.yaml -o quick.h5 --extend\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = allocate,
};
