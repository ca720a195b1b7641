/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "forecast.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/sweep/cost.h"
#include "ptq/sweep/identity.h"

void ptq_guesses_release(ptq_guesses *g) {
  ptq_free(g->row);
  *g = (ptq_guesses){0};
}

static bool same_point(const ptq_point_row *a, const ptq_point_row *b) {
  return a->group == b->group && strcmp(a->model, b->model) == 0 &&
         strcmp(a->dtype, b->dtype) == 0 && strcmp(a->method, b->method) == 0 &&
         strcmp(a->options, b->options) == 0;
}

static const ptq_obs *find_measured(const ptq_frame *frame,
                                    const ptq_point_row *p) {
  for (int64_t i = 0; i < frame->n; i++)
    if (frame->obs[i].use <= PTQ_USE_DEQUANTIZED &&
        same_point(frame->obs[i].point, p))
      return &frame->obs[i];
  return NULL;
}

/* One configuration with its identity and bits. */
static ptq_status add(ptq_guesses *g, const ptq_oracle *oracle,
                      const ptq_frame *frame, const ptq_geometry *model,
                      const ptq_point_row *point,
                      const ptq_layer_traits *layers, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < g->n; i++) /* two groups that are both a row */
    if (same_point(&g->row[i].point, point)) return PTQ_OK;
  PTQ_TRY(
      ptq_grow(&g->row, g->n, g->n + 1, sizeof *g->row, "predictions", err));
  ptq_guess *guess = &g->row[g->n];
  *guess = (ptq_guess){.model = model, .point = *point, .measured = NAN};
  const ptq_obs *measured = find_measured(frame, point);
  if (measured != NULL) {
    guess->measured = measured->point->dnll;
    guess->point.bits_per_weight = measured->point->bits_per_weight;
    guess->point.bits_model = measured->point->bits_model;
  }
  const ptq_obs obs = {.point = &guess->point,
                       .model = &model->row,
                       .n_layers = ptq_geometry_layers(model),
                       .log_err_hessian = NAN,
                       .layers = *layers,
                       .sqnr_rtn = NAN};
  PTQ_TRY(ptq_oracle_ask(oracle, &obs, &guess->forecast, err));
  g->n++;
done:
  return rc;
}

ptq_status ptq_guess_add(ptq_guesses *g, const ptq_oracle *oracle,
                         const ptq_frame *frame, const ptq_geometry *model,
                         const ptq_dtype *dtype, const ptq_method *method,
                         int64_t group, ptq_err *err) {
  ptq_point_row point;
  const ptq_layer_traits none = ptq_layer_traits_of(NULL, 0);
  ptq_geometry_point(model, dtype, method, group, &point);
  return add(g, oracle, frame, model, &point, &none, err);
}

ptq_status ptq_guess_sweep(ptq_guesses *g, const ptq_oracle *oracle,
                           const ptq_frame *frame, const ptq_grid *grid,
                           const ptq_geometry *models, const char *model,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_layer_row *layers = NULL;
  for (int64_t i = 0; i < grid->n_points; i++) {
    const int64_t s = grid->points[i].subject;
    const int64_t n = ptq_subject_layers(&grid->subjects[s]);
    ptq_point_row point;
    if (model != NULL && strcmp(models[s].row.model, model) != 0) continue;
    ptq_free(layers);
    PTQ_TRY(ptq_alloc(&layers, n, sizeof *layers, "layers", err));
    ptq_point_layers(grid, i, layers);
    const ptq_layer_traits traits = ptq_layer_traits_of(layers, n);
    ptq_point_identity(grid, i, "", &point);
    PTQ_TRY(ptq_point_bits(grid, i, &point.bits_per_weight, err));
    point.bits_model =
        point.bits_per_weight * (double)models[s].row.params_quantizable +
        models[s].bits_unquantized;
    PTQ_TRY(add(g, oracle, frame, &models[s], &point, &traits, err));
  }
done:
  ptq_free(layers);
  return rc;
}

/* "hessian=static,damp=0.05" of the store into options. */
static ptq_status parse_method(const char *name, const char *options,
                               ptq_method *out, ptq_err *err) {
  enum { OPTIONS = 16 };
  char text[PTQ_METHOD_OPTIONS_MAX + 1];
  ptq_method_option parts[OPTIONS];
  size_t n = 0;
  (void)snprintf(text, sizeof text, "%s", options);
  for (char *at = strtok(text, ","); at != NULL && n < OPTIONS;
       at = strtok(NULL, ",")) {
    char *equals = strchr(at, '=');
    if (equals == NULL)
      return PTQ_FAIL(err, PTQ_E_ARG, "method option '%s' is not key=value",
                      at);
    *equals = '\0';
    parts[n++] = (ptq_method_option){at, equals + 1};
  }
  return ptq_method_parse(name, parts, n, out, err);
}

ptq_status ptq_guess_all(ptq_guesses *g, const ptq_oracle *oracle,
                         const ptq_frame *frame, const ptq_geometry *model,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_point_row **seen = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_alloc(&seen, frame->n, sizeof *seen, "configurations", err));
  for (int64_t i = 0; i < frame->n; i++) {
    const ptq_point_row *p = frame->obs[i].point;
    int64_t at = 0;
    if (ptq_obs_is_mixed(&frame->obs[i])) continue; /* of one model only */
    for (; at < n; at++)
      if (seen[at]->group == p->group &&
          strcmp(seen[at]->dtype, p->dtype) == 0 &&
          strcmp(seen[at]->method, p->method) == 0 &&
          strcmp(seen[at]->options, p->options) == 0)
        break;
    if (at < n) continue;
    seen[n++] = p;
    ptq_dtype dtype;
    ptq_method method;
    PTQ_TRY(ptq_dtype_parse(p->dtype, &dtype, err));
    PTQ_TRY(parse_method(p->method, p->options, &method, err));
    PTQ_TRY(
        ptq_guess_add(g, oracle, frame, model, &dtype, &method, p->group, err));
  }
done:
  ptq_free(seen);
  return rc;
}

double ptq_guess_loss(const ptq_guess *g) {
  const double base = g->model->row.nll;
  return g->forecast.dnll.dnll + (isfinite(base) ? base : 0.0);
}

ptq_status ptq_guess_best(ptq_guesses *g, double bits, double bytes,
                          ptq_err *err) {
  const ptq_guess *best = NULL, *smallest = NULL;
  for (int64_t i = 0; i < g->n; i++) {
    const ptq_guess *x = &g->row[i];
    if (isnan(x->forecast.dnll.dnll)) continue;
    if (smallest == NULL || x->point.bits_model < smallest->point.bits_model)
      smallest = x;
    if (x->point.bits_per_weight > bits || x->point.bits_model > 8.0 * bytes)
      continue;
    if (best == NULL || ptq_guess_loss(x) < ptq_guess_loss(best)) best = x;
  }
  if (smallest == NULL)
    return PTQ_FAIL(err, PTQ_E_ARG, "no configuration can be predicted");
  if (best == NULL)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "nothing fits; the smallest is %s in %s: %.3f bits a "
                    "weight, %.0f bytes",
                    smallest->point.model, smallest->point.dtype,
                    smallest->point.bits_per_weight,
                    smallest->point.bits_model / 8.0);
  const ptq_guess chosen = *best;
  g->row[0] = chosen;
  g->n = 1;
  return PTQ_OK;
}

static int compare_bits(const void *a, const void *b) {
  const ptq_guess *x = a, *y = b;
  if (x->point.bits_model != y->point.bits_model)
    return x->point.bits_model < y->point.bits_model ? -1 : 1;
  const double lx = ptq_guess_loss(x), ly = ptq_guess_loss(y);
  return (lx > ly) - (lx < ly);
}

void ptq_guess_frontier(ptq_guesses *g) {
  int64_t kept = 0;
  double least = INFINITY;
  qsort(g->row, (size_t)g->n, sizeof *g->row, compare_bits);
  for (int64_t i = 0; i < g->n; i++) {
    const double loss = ptq_guess_loss(&g->row[i]);
    if (!(loss < least)) continue;
    least = loss;
    const ptq_guess row = g->row[i];
    g->row[kept++] = row;
  }
  g->n = kept;
}

static void print_row(const ptq_guess *x, int width) {
  const ptq_prediction *p = &x->forecast.dnll;
  const double base = x->model->row.nll;
  char group[24], method[160];
  ptq_group_name(x->point.group, group);
  (void)snprintf(method, sizeof method, "%s%s%s", x->point.method,
                 x->point.options[0] != '\0' ? ":" : "", x->point.options);
  printf("%-16s %-*s %-12s %6s %8.3f %12.0f", x->point.model, width,
         x->point.dtype, method, group, x->point.bits_per_weight,
         x->point.bits_model / 8.0);
  if (isnan(p->dnll)) {
    printf("  no law knows this %s\n",
           p->why != NULL && strcmp(p->why, "level") == 0 ? "method or format"
                                                          : "configuration");
    return;
  }
  printf("  %9.4f [%.4f, %.4f]", p->dnll, p->low, p->high);
  if (isfinite(base))
    printf("  %8.4f [%.4f, %.4f]", base + p->dnll, base + p->low,
           base + p->high);
  if (isfinite(x->measured)) printf("  measured %.4f", x->measured);
  if (x->forecast.outside != NULL)
    printf("  outside of the data: %s", x->forecast.outside->name);
  printf("\n");
}

void ptq_guess_print(const ptq_guesses *g, const ptq_oracle *oracle) {
  const ptq_oracle_law *law = &oracle->law[0];
  int width = 10; /* of the longest dtype */
  for (int64_t i = 0; i < g->n; i++)
    if (g->row[i].forecast.law != NULL) {
      law = g->row[i].forecast.law;
      break;
    }
  printf("law '%s', off by a factor of %.2f (median) on models it has not "
         "seen: %s\n\n",
         law->recipe.name, exp(law->accuracy.median), law->recipe.text);
  for (int64_t i = 0; i < g->n; i++) {
    const int n = (int)strlen(g->row[i].point.dtype);
    if (n > width) width = n;
  }
  printf("%-16s %-*s %-12s %6s %8s %12s  %9s %s\n", "model", width, "dtype",
         "method", "group", "bits/w", "bytes", "dnll",
         "with its 90 % interval, nats; nll where the baseline is known");
  for (int64_t i = 0; i < g->n; i++) print_row(&g->row[i], width);
}

static json_t *number(double v) {
  return isfinite(v) ? json_real(v) : json_null();
}

static json_t *object(const ptq_guess *x) {
  const ptq_prediction *p = &x->forecast.dnll;
  const double base = x->model->row.nll;
  const struct {
    const char *name;
    double value;
  } numbers[] = {{"bits_per_weight", x->point.bits_per_weight},
                 {"bits_model", x->point.bits_model},
                 {"dnll", p->dnll},
                 {"dnll_low", p->low},
                 {"dnll_high", p->high},
                 {"nll_model", base},
                 {"nll", base + p->dnll},
                 {"nll_low", base + p->low},
                 {"nll_high", base + p->high},
                 {"measured_dnll", x->measured}};
  json_t *o =
      json_pack("{s:s,s:s,s:s,s:s,s:I}", "model", x->point.model, "dtype",
                x->point.dtype, "method", x->point.method, "options",
                x->point.options, "group", (json_int_t)x->point.group);
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    json_object_set_new(o, numbers[i].name, number(numbers[i].value));
  json_object_set_new(o, "law",
                      x->forecast.law != NULL
                          ? json_string(x->forecast.law->recipe.name)
                          : json_null());
  json_object_set_new(o, "outside_hull",
                      x->forecast.outside != NULL
                          ? json_string(x->forecast.outside->name)
                          : json_null());
  return o;
}

ptq_status ptq_guess_print_json(const ptq_guesses *g, const ptq_oracle *oracle,
                                ptq_err *err) {
  json_t *rows = json_array(), *laws = json_array();
  for (int64_t i = 0; i < g->n; i++)
    json_array_append_new(rows, object(&g->row[i]));
  for (int i = 0; i < oracle->n; i++)
    json_array_append_new(
        laws, json_pack("{s:s,s:s,s:o,s:o}", "law", oracle->law[i].recipe.name,
                        "formula", oracle->law[i].recipe.text, "median_abs_ln",
                        number(oracle->law[i].accuracy.median), "coverage_90",
                        number(oracle->law[i].accuracy.coverage)));
  json_t *root = json_pack("{s:o,s:o}", "predictions", rows, "laws", laws);
  char *text = root != NULL
                   ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12))
                   : NULL;
  json_decref(root);
  if (text == NULL)
    return PTQ_FAIL(err, PTQ_E_NOMEM, "JSON of the predictions");
  (void)puts(text); /* what is lost, main() tells */
  free(text);
  return PTQ_OK;
}
