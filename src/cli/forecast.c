/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "forecast.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/analysis/feature.h"
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

/* The factors whose level no point that laws learn from has. A law without the
 * factor predicts all the same. */
static void find_unseen(const ptq_frame *frame, const ptq_obs *obs,
                        ptq_guess *guess) {
  static const char *const names[] = {"method", "element"};
  for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
    const ptq_factor *factor = ptq_factor_find(names[k]);
    char mine[160], other[160];
    int64_t i = 0;
    factor->get(obs, mine, sizeof mine);
    for (; i < frame->n; i++) {
      if (!ptq_obs_learned(&frame->obs[i])) continue;
      factor->get(&frame->obs[i], other, sizeof other);
      if (strcmp(mine, other) == 0) break;
    }
    if (i == frame->n) guess->unseen[guess->n_unseen++] = names[k];
  }
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
  find_unseen(frame, &obs, guess);
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

/* Another tokenizer makes other tokens of the same text. */
static bool same_tokens(const ptq_model_row *a, const ptq_model_row *b) {
  return a->vocab == b->vocab && a->tokens == b->tokens && a->bytes == b->bytes;
}

void ptq_guess_compare(ptq_guesses *g) {
  bool several = false, mixed = false, bytes = true;
  for (int64_t i = 0; i < g->n; i++) {
    const ptq_model_row *m = &g->row[i].model->row;
    several = several || g->row[i].model != g->row[0].model;
    if (!isfinite(m->nll)) continue;
    mixed = mixed || !same_tokens(m, &g->row[0].model->row);
    bytes = bytes && m->tokens > 0 && m->bytes > 0;
  }
  g->by_byte = several && mixed && bytes;
  g->n_incomparable = 0;
  for (int64_t i = 0; i < g->n; i++) {
    const ptq_model_row *m = &g->row[i].model->row;
    ptq_guess *x = &g->row[i];
    x->loss = x->forecast.dnll.dnll;
    if (!several) continue;
    x->loss += m->nll;
    if (g->by_byte) x->loss *= (double)m->tokens / (double)m->bytes;
    g->n_incomparable += !isfinite(m->nll);
  }
}

/* Less loss; of equals, which a law that knows no methods makes, the one that
 * a law which does prefers. */
static int compare_loss(const ptq_guess *x, const ptq_guess *y) {
  const double a = x->forecast.by_method, b = y->forecast.by_method;
  if (x->loss != y->loss) return x->loss < y->loss ? -1 : 1;
  return (a > b) - (a < b);
}

ptq_status ptq_guess_best(ptq_guesses *g, double bits, double bytes,
                          ptq_err *err) {
  const ptq_guess *best = NULL, *smallest = NULL;
  for (int64_t i = 0; i < g->n; i++) {
    const ptq_guess *x = &g->row[i];
    if (isnan(x->loss)) continue;
    if (smallest == NULL || x->point.bits_model < smallest->point.bits_model)
      smallest = x;
    if (x->point.bits_per_weight > bits || x->point.bits_model > 8.0 * bytes)
      continue;
    if (best == NULL || compare_loss(x, best) < 0) best = x;
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
  return compare_loss(x, y);
}

void ptq_guess_frontier(ptq_guesses *g) {
  int64_t kept = 0;
  double least = INFINITY;
  qsort(g->row, (size_t)g->n, sizeof *g->row, compare_bits);
  for (int64_t i = 0; i < g->n; i++) {
    if (!(g->row[i].loss < least)) continue;
    least = g->row[i].loss;
    const ptq_guess row = g->row[i];
    g->row[kept++] = row;
  }
  g->n = kept;
}

/* No better than word frequencies, as far as the law can say. */
static bool collapses(const ptq_guess *x) {
  const ptq_model_row *m = &x->model->row;
  return isfinite(m->nll) && isfinite(m->nll_unigram) &&
         m->nll + x->forecast.dnll.dnll >= m->nll_unigram;
}

/* The columns in which the points that were learned from have nothing like it,
 * by comma; false: none. */
static bool outside(const ptq_guess *x, ptq_text *out) {
  const ptq_forecast *f = &x->forecast;
  for (int i = 0; i < f->n_outside; i++)
    ptq_text_addf(out, "%s%s", i > 0 ? ", " : "", f->outside[i]->name);
  for (int i = 0; i < x->n_unseen; i++)
    ptq_text_addf(out, "%s%s", i + f->n_outside > 0 ? ", " : "", x->unseen[i]);
  return f->n_outside + x->n_unseen > 0;
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
  printf("  %9.4g [%.3g, %.3g]", p->dnll, p->low, p->high);
  if (isfinite(base))
    printf("  %8.4f [%.4f, %.4f]", base + p->dnll, base + p->low,
           base + p->high);
  if (isfinite(x->measured)) printf("  measured %.4f", x->measured);
  if (collapses(x))
    printf("  collapses: the unigram model has %.4f",
           x->model->row.nll_unigram);
  ptq_text beyond = {0};
  if (outside(x, &beyond))
    printf("  outside of the data: %s", ptq_text_str(&beyond));
  ptq_text_release(&beyond);
  printf("\n");
}

void ptq_guess_print(const ptq_guesses *g, const ptq_oracle *oracle,
                     bool chosen) {
  const ptq_oracle_law *law = &oracle->law[0];
  int width = 10; /* of the longest dtype */
  for (int64_t i = 0; i < g->n; i++)
    if (g->row[i].forecast.law != NULL) {
      law = g->row[i].forecast.law;
      break;
    }
  if (isnan(law->accuracy.median))
    printf("law '%s', not tried on models it has not seen (too few in the "
           "store): %s\n\n",
           law->recipe.name, law->recipe.text);
  else
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
  if (chosen && g->by_byte)
    printf("\nThe models have different tokenizers: they were compared by nats "
           "a byte.\n");
  if (chosen && g->n_incomparable > 0)
    printf("\n%lld configurations were not compared: their models' own NLL is "
           "not known.\n",
           (long long)g->n_incomparable);
}

static json_t *number(double v) {
  return isfinite(v) ? json_real(v) : json_null();
}

/* Of the quantized model; NaN where the text's bytes are not known. */
static double per_byte(const ptq_guess *x) {
  const ptq_model_row *m = &x->model->row;
  if (m->tokens <= 0 || m->bytes <= 0) return NAN;
  return (m->nll + x->forecast.dnll.dnll) * (double)m->tokens /
         (double)m->bytes;
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
                 {"measured_dnll", x->measured},
                 {"nll_byte", per_byte(x)}};
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
  json_object_set_new(o, "collapses", json_boolean(collapses(x)));
  ptq_text beyond = {0};
  json_object_set_new(
      o, "outside_hull",
      outside(x, &beyond) ? json_string(ptq_text_str(&beyond)) : json_null());
  ptq_text_release(&beyond);
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
  json_t *root = json_pack("{s:o,s:o,s:b,s:I}", "predictions", rows, "laws",
                           laws, "compared_by_byte", (int)g->by_byte,
                           "n_not_compared", (json_int_t)g->n_incomparable);
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
