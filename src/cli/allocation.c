/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "allocation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/yaml.h"
#include "ptq/sweep/grid.h"

/* The least loss of a uniform point of the task's method within a budget. */
static const ptq_obs *best_uniform(const ptq_allocation_task *task,
                                   const char *model, double budget) {
  const ptq_frame *f = task->store.frame;
  const ptq_obs *best = NULL;
  const char *text = ptq_result_text(f, model);
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_obs *o = &f->obs[i];
    if ((o->use != PTQ_USE_OK && o->use != PTQ_USE_COLLAPSED) ||
        ptq_obs_is_mixed(o) || strcmp(o->point->model, model) != 0 ||
        strcmp(o->point->evaluation, text) != 0 ||
        strcmp(o->point->method, task->method) != 0 ||
        strcmp(o->point->options, task->options) != 0 ||
        o->point->bits_per_weight > budget * (1.0 + 1e-9))
      continue;
    if (best == NULL || o->point->dnll < best->point->dnll) best = o;
  }
  return best;
}

static bool same_everywhere(const ptq_layer_table *t, const int *choice) {
  for (int64_t l = 1; l < t->n_layers; l++)
    if (choice[l] != choice[0]) return false;
  return true;
}

static ptq_status check_probes(const ptq_allocation_task *task,
                               const char *model, const ptq_layer_table *t,
                               ptq_err *err) {
  if (task->equal || t->n_probed > 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "model '%s' has no probes: how sensitive its layers are is "
                  "not known, and taking all for alike is worse than a uniform "
                  "format; make them by `ptqsweep allocate STORE --probe -o "
                  "probes.yaml`, run that, and give its store with --probes; "
                  "or say --equal",
                  model);
}

ptq_status ptq_model_allocate(const ptq_allocation_task *task,
                              const char *model, ptq_model_allocation *out,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_layer_query query = {.model = model,
                                 .method = task->method,
                                 .options = task->options,
                                 .formats = task->formats,
                                 .n_formats = task->n_formats,
                                 .group = task->group};
  ptq_err why = {0};
  *out = (ptq_model_allocation){.model = model};
  PTQ_TRY(ptq_layer_table_build(&task->store, &query, &out->table, err));
  if (!task->equal)
    PTQ_TRY(ptq_layer_sensitivities(&task->probes, model, &out->table, err));
  PTQ_TRY(check_probes(task, model, &out->table, err));
  PTQ_TRY(ptq_layer_law_fit(&task->store, model, &out->table, &out->law, err));
  for (; out->n_rows < task->n_budgets; out->n_rows++) {
    ptq_budgeted *b = &out->row[out->n_rows];
    b->budget = task->budget[out->n_rows];
    if ((rc = ptq_allocate(&out->table, b->budget, &b->allocation, &why)) !=
        PTQ_OK)
      PTQ_TRY(PTQ_FAIL(err, rc, "model '%s': %s", model, why.msg));
    b->predicted = ptq_layer_law_predict(&out->law, b->allocation.cost);
    b->uniform = best_uniform(task, model, b->budget);
    b->is_uniform = same_everywhere(&out->table, b->allocation.choice);
  }
done:
  if (rc != PTQ_OK) ptq_model_allocation_release(out);
  return rc;
}

void ptq_model_allocation_release(ptq_model_allocation *a) {
  for (int i = 0; i < PTQ_BUDGETS_MAX; i++)
    ptq_allocation_release(&a->row[i].allocation);
  ptq_layer_table_release(&a->table);
  *a = (ptq_model_allocation){0};
}

void ptq_mixture_base_name(const ptq_allocation_task *task, double budget,
                           char *text, size_t size) {
  (void)snprintf(text, size, "%s-%g", task->name, budget);
}

/* "mxint4/32" */
static void option_name(const ptq_layer_option *o, char text[96]) {
  char group[24];
  ptq_group_name(o->group, group);
  (void)snprintf(text, 96, "%s/%s", o->dtype, group);
}

/* "mxint2/32 x 3, int4/row x 11": layers a format, in the options' order. */
static void counts_text(const ptq_layer_table *t, const int *choice,
                        ptq_text *out) {
  for (int64_t k = 0; k < t->n_options; k++) {
    int64_t n = 0;
    char name[96];
    for (int64_t l = 0; l < t->n_layers; l++) n += choice[l] == k;
    if (n == 0) continue;
    option_name(&t->option[k], name);
    ptq_text_addf(out, "%s%s x %lld", out->len > 0 ? ", " : "", name,
                  (long long)n);
  }
}

static void print_row(const ptq_model_allocation *a, const ptq_budgeted *b) {
  const ptq_allocation *x = &b->allocation;
  ptq_text counts = {0};
  counts_text(&a->table, x->choice, &counts);
  printf("  %7.4g %8.4f", b->budget, x->bits);
  if (b->predicted.why == NULL)
    printf("  %9.4g [%.4g, %.4g]", b->predicted.dnll, b->predicted.low,
           b->predicted.high);
  else
    printf("  %9s", "?");
  if (b->uniform != NULL) {
    char name[96];
    const ptq_layer_option o = {b->uniform->point->dtype,
                                b->uniform->point->group, 1};
    option_name(&o, name);
    printf("  %s, %.4f bits: %.4g", name, b->uniform->point->bits_per_weight,
           b->uniform->point->dnll);
  } else {
    printf("  none within it");
  }
  printf("\n          %s%s\n", b->is_uniform ? "uniform: " : "",
         ptq_text_str(&counts));
  ptq_text_release(&counts);
}

void ptq_model_allocation_print(const ptq_allocation_task *task,
                                const ptq_model_allocation *a) {
  const ptq_layer_table *t = &a->table;
  printf("%s, %s%s%s: %lld layers, %lld formats; ", a->model, task->method,
         task->options[0] != '\0' ? ":" : "", task->options,
         (long long)t->n_layers, (long long)t->n_options);
  if (t->n_probes > 0)
    printf("sensitivities from %lld probes, %lld of the layers measured\n",
           (long long)t->n_probes, (long long)t->n_probed);
  else
    printf("all layers taken to be equally sensitive\n");
  if (isfinite(a->law.sigma))
    printf("  dnll = %.4g (sum of s e)^%.3f, off by a factor of %.2f on %lld "
           "uniform points\n",
           exp(a->law.a), a->law.b, exp(a->law.sigma), (long long)a->law.n);
  printf("  %7s %8s  %9s %s\n", "budget", "bits/w", "predicted",
         "[90 % interval]  best uniform format within the budget: measured");
  for (int i = 0; i < a->n_rows; i++) print_row(a, &a->row[i]);
}

static json_t *number(double v) {
  return isfinite(v) ? json_real(v) : json_null();
}

static json_t *layers_json(const ptq_layer_table *t, const int *choice) {
  json_t *rows = json_array();
  for (int64_t l = 0; l < t->n_layers; l++) {
    const int64_t k = choice[l];
    (void)json_array_append_new(
        rows,
        json_pack("{s:s,s:s,s:I,s:o,s:o,s:o,s:b}", "layer", t->name[l], "dtype",
                  t->option[k].dtype, "group", (json_int_t)t->option[k].group,
                  "bits", number(t->bits[l * t->n_options + k]), "error",
                  number(t->error[l * t->n_options + k]), "sensitivity",
                  number(t->sensitivity[l]), "measured", (int)t->probed[l]));
  }
  return rows;
}

static json_t *uniform_json(const ptq_obs *o) {
  if (o == NULL) return json_null();
  const ptq_point_row *p = o->point;
  return json_pack("{s:s,s:s,s:I,s:o,s:o,s:o}", "key", p->key, "dtype",
                   p->dtype, "group", (json_int_t)p->group, "bits_per_weight",
                   number(p->bits_per_weight), "dnll", number(p->dnll),
                   "dnll_se", number(p->dnll_se));
}

json_t *ptq_model_allocation_json(const ptq_allocation_task *task,
                                  const ptq_model_allocation *a) {
  const ptq_layer_table *t = &a->table;
  json_t *rows = json_array();
  for (int i = 0; i < a->n_rows; i++) {
    const ptq_budgeted *b = &a->row[i];
    char name[96];
    ptq_mixture_base_name(task, b->budget, name, sizeof name);
    (void)json_array_append_new(
        rows,
        json_pack(
            "{s:s,s:o,s:o,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "mixed", name,
            "budget", number(b->budget), "bits_per_weight",
            number(b->allocation.bits), "uniform_choice", (int)b->is_uniform,
            "cost", number(b->allocation.cost), "cost_bound",
            number(b->allocation.bound), "dnll", number(b->predicted.dnll),
            "dnll_low", number(b->predicted.low), "dnll_high",
            number(b->predicted.high), "best_uniform", uniform_json(b->uniform),
            "layers", layers_json(t, b->allocation.choice)));
  }
  return json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:{s:o,s:o,s:o,s:I},s:o}", "model",
                   a->model, "method", task->method, "options", task->options,
                   "sensitivities", t->n_probes > 0 ? "measured" : "equal",
                   "n_probes", (json_int_t)t->n_probes, "n_layers_measured",
                   (json_int_t)t->n_probed, "law", "a", number(a->law.a), "b",
                   number(a->law.b), "sigma", number(a->law.sigma), "n",
                   (json_int_t)a->law.n, "budgets", rows);
}

/* The option of most weights: the mixture's default. */
static int commonest(const ptq_layer_table *t, const int *choice) {
  int best = 0;
  double most = -1.0;
  for (int64_t k = 0; k < t->n_options; k++) {
    double sum = 0.0;
    for (int64_t l = 0; l < t->n_layers; l++)
      if (choice[l] == k) sum += t->weights[l];
    if (sum <= most) continue;
    most = sum;
    best = (int)k;
  }
  return best;
}

void ptq_format_yaml(const char *dtype, int64_t group, ptq_text *out) {
  char name[24];
  ptq_group_name(group, name);
  ptq_text_add(out, "{dtype: ");
  ptq_yaml_scalar(dtype, out);
  ptq_text_addf(out, ", group: %s}", name);
}

static void add_format(const ptq_layer_option *o, ptq_text *out) {
  ptq_format_yaml(o->dtype, o->group, out);
}

void ptq_model_allocation_yaml(const ptq_allocation_task *task,
                               const ptq_model_allocation *a, ptq_text *out) {
  const ptq_layer_table *t = &a->table;
  for (int i = 0; i < a->n_rows; i++) {
    const ptq_budgeted *b = &a->row[i];
    const int *choice = b->allocation.choice;
    const int fallback = commonest(t, choice);
    char name[96];
    if (b->is_uniform) continue;
    ptq_mixture_base_name(task, b->budget, name, sizeof name);
    ptq_text_add(out, "- mixed: ");
    ptq_yaml_scalar(name, out);
    ptq_text_add(out, "\n  default: ");
    add_format(&t->option[fallback], out);
    ptq_text_add(out, "\n  layers:\n");
    for (int64_t l = 0; l < t->n_layers; l++) {
      if (choice[l] == fallback) continue;
      ptq_text_add(out, "    ");
      ptq_yaml_scalar(t->name[l], out);
      ptq_text_add(out, ": ");
      add_format(&t->option[choice[l]], out);
      ptq_text_add(out, "\n");
    }
    ptq_text_add(out, "  models: ");
    ptq_yaml_scalar(a->model, out);
    ptq_text_add(out, "\n");
    if (b->predicted.why == NULL)
      ptq_text_addf(out, "  predicted: [%.6g, %.6g, %.6g]\n", b->predicted.dnll,
                    b->predicted.low, b->predicted.high);
  }
}
