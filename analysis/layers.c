/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/layers.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

ptq_status ptq_layer_source_of(ptq_view *view, const ptq_frame *frame,
                               ptq_layer_source *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  const int64_t *subject = NULL, *first_window = NULL;
  int64_t n = 0;
  *out = (ptq_layer_source){.frame = frame};
  PTQ_TRY(ptq_view_table(view, PTQ_TABLE_LAYERS, &rows, &n, err));
  PTQ_TRY(
      ptq_view_index(view, &subject, &out->first_layer, &first_window, err));
  out->layers = rows;
  if (n == 0)
    rc = PTQ_FAIL(err, PTQ_E_ARG, "store '%s' has no rows of layers",
                  ptq_view_path(view));
done:
  return rc;
}

static bool finished(const ptq_obs *o) {
  return (o->use == PTQ_USE_OK || o->use == PTQ_USE_COLLAPSED) &&
         o->n_layers > 0;
}

bool ptq_same_text(const char *a, const char *b) {
  const size_t n = strcspn(a, ":");
  return strcspn(b, ":") == n && strncmp(a, b, n) == 0;
}

const char *ptq_result_text(const ptq_frame *f, const char *model) {
  const char *first = NULL;
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_obs *o = &f->obs[i];
    if (!finished(o) || ptq_obs_is_mixed(o) ||
        strcmp(o->point->model, model) != 0)
      continue;
    if (!ptq_same_text(o->point->evaluation, o->model->selection))
      return o->point->evaluation;
    if (first == NULL) first = o->point->evaluation;
  }
  return first != NULL ? first : "";
}

/* Noise over signal; a layer without signal has no noise either. */
static double error_of(const ptq_layer_row *l) {
  return isnan(l->sqnr_output) ? 0.0 : pow(10.0, -l->sqnr_output / 10.0);
}

static bool is_wanted(const ptq_obs *o, const ptq_layer_query *q) {
  const ptq_point_row *p = o->point;
  bool format = q->formats == NULL;
  for (int64_t i = 0; i < q->n_formats && !format; i++)
    format = strcmp(q->formats[i], p->dtype) == 0;
  return format && finished(o) && !ptq_obs_is_mixed(o) &&
         strcmp(p->model, q->model) == 0 && strcmp(p->method, q->method) == 0 &&
         strcmp(p->options, q->options) == 0 &&
         (q->group == PTQ_ANY_GROUP || q->group == p->group);
}

static int64_t find_option(const ptq_layer_table *t, const ptq_point_row *p) {
  for (int64_t k = 0; k < t->n_options; k++)
    if (t->option[k].group == p->group &&
        strcmp(t->option[k].dtype, p->dtype) == 0)
      return k;
  return -1;
}

static ptq_status nothing_there(const ptq_layer_source *s,
                                const ptq_layer_query *q, ptq_err *err) {
  int64_t of_model = 0, of_method = 0;
  for (int64_t i = 0; i < s->frame->n; i++) {
    const ptq_obs *o = &s->frame->obs[i];
    if (!finished(o) || ptq_obs_is_mixed(o) ||
        strcmp(o->point->model, q->model) != 0)
      continue;
    of_model++;
    of_method += strcmp(o->point->method, q->method) == 0 &&
                 strcmp(o->point->options, q->options) == 0;
  }
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "model '%s' has no finished uniform point of method "
                  "'%s%s%s' in these formats (%lld of the method, %lld of the "
                  "model); 'ptqsweep status' says what is missing",
                  q->model, q->method, q->options[0] != '\0' ? ":" : "",
                  q->options, (long long)of_method, (long long)of_model);
}

/* Room for the options of the wanted points, and the layers of the first. */
static ptq_status list_options(const ptq_layer_source *s,
                               const ptq_layer_query *q, ptq_layer_table *t,
                               int64_t *first, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_frame *f = s->frame;
  *first = -1;
  for (int64_t i = 0; i < f->n; i++) {
    if (!is_wanted(&f->obs[i], q)) continue;
    if (*first < 0) *first = i;
    int64_t k = find_option(t, f->obs[i].point);
    if (k < 0) {
      PTQ_TRY(ptq_grow(&t->option, t->n_options, t->n_options + 1,
                       sizeof *t->option, "formats", err));
      k = t->n_options++;
      t->option[k] =
          (ptq_layer_option){f->obs[i].point->dtype, f->obs[i].point->group, 0};
    }
    t->option[k].n++;
  }
  if (*first < 0) rc = nothing_there(s, q, err);
done:
  return rc;
}

static ptq_status fill(const ptq_layer_source *s, const ptq_layer_query *q,
                       ptq_layer_table *t, ptq_err *err) {
  const ptq_frame *f = s->frame;
  for (int64_t i = 0; i < f->n; i++) {
    if (!is_wanted(&f->obs[i], q)) continue;
    const int64_t k = find_option(t, f->obs[i].point);
    const ptq_layer_row *row = s->layers + s->first_layer[i];
    if (f->obs[i].n_layers != t->n_layers)
      return PTQ_FAIL(
          err, PTQ_E_FORMAT, "model '%s' has points of %lld and of %lld layers",
          q->model, (long long)t->n_layers, (long long)f->obs[i].n_layers);
    for (int64_t l = 0; l < t->n_layers; l++) {
      const double share = 1.0 / (double)t->option[k].n;
      t->bits[l * t->n_options + k] += share * row[l].layer_bits;
      t->error[l * t->n_options + k] += share * error_of(&row[l]);
    }
  }
  return PTQ_OK;
}

ptq_status ptq_layer_table_build(const ptq_layer_source *s,
                                 const ptq_layer_query *query,
                                 ptq_layer_table *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_layer_table *t = out;
  int64_t first = -1;
  *t = (ptq_layer_table){0};
  PTQ_TRY(list_options(s, query, t, &first, err));
  const ptq_layer_row *row = s->layers + s->first_layer[first];
  const int64_t n = t->n_layers = s->frame->obs[first].n_layers;
  const char *what = "layers of a model";
  PTQ_TRY(ptq_alloc(&t->name, n, sizeof *t->name, what, err));
  PTQ_TRY(ptq_alloc(&t->weights, n, sizeof *t->weights, what, err));
  PTQ_TRY(ptq_alloc(&t->sensitivity, n, sizeof *t->sensitivity, what, err));
  PTQ_TRY(ptq_alloc(&t->probed, n, sizeof *t->probed, what, err));
  PTQ_TRY(ptq_alloc(&t->bits, n * t->n_options, sizeof *t->bits, what, err));
  PTQ_TRY(ptq_alloc(&t->error, n * t->n_options, sizeof *t->error, what, err));
  for (int64_t l = 0; l < n; l++) {
    t->name[l] = row[l].layer;
    t->weights[l] = (double)row[l].weights;
    t->sensitivity[l] = 1.0;
    if (row[l].weights <= 0 || !(row[l].layer_bits > 0.0))
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                       "the layers of model '%s' have no sizes: the store is "
                       "an older program's; run its sweep into a new one",
                       query->model));
  }
  PTQ_TRY(fill(s, query, t, err));
done:
  if (rc != PTQ_OK) ptq_layer_table_release(t);
  return rc;
}

void ptq_layer_table_release(ptq_layer_table *t) {
  ptq_free(t->name);
  ptq_free(t->weights);
  ptq_free(t->option);
  ptq_free(t->bits);
  ptq_free(t->error);
  ptq_free(t->sensitivity);
  ptq_free(t->probed);
  *t = (ptq_layer_table){0};
}

/* Place of a layer in the table; points list them in the same order. */
static int64_t place(const ptq_layer_table *t, const char *name, int64_t near) {
  for (int64_t i = 0; i < t->n_layers; i++) {
    const int64_t l = (near + i) % t->n_layers;
    if (strcmp(t->name[l], name) == 0) return l;
  }
  return -1;
}

double ptq_layer_sum(const ptq_layer_source *s, int64_t point,
                     const ptq_layer_table *t) {
  const ptq_obs *o = &s->frame->obs[point];
  const ptq_layer_row *row = s->layers + s->first_layer[point];
  double sum = 0.0;
  if (o->n_layers != t->n_layers) return NAN;
  for (int64_t i = 0; i < o->n_layers; i++) {
    const int64_t l = place(t, row[i].layer, i);
    if (l < 0) return NAN;
    sum += t->sensitivity[l] * error_of(&row[i]);
  }
  return sum;
}

/* The probes of a model as equations sum s e = KL, each over its error. */
typedef struct equations {
  int64_t n, n_layers;
  double *e;      /* owned; [n, n_layers] e / sigma */
  double *rest;   /* owned; [n] (KL - sum s e) / sigma */
  double *square; /* owned; [n_layers] sum of (e / sigma)^2 */
  double mean;    /* sum of KL over sum of e: what a layer costs on average */
} equations;

static void equations_release(equations *q) {
  ptq_free(q->e);
  ptq_free(q->rest);
  ptq_free(q->square);
}

static bool is_probe(const ptq_obs *o, const char *model) {
  return o->use == PTQ_USE_PROBE && o->n_layers > 0 &&
         strcmp(o->point->model, model) == 0 && o->point->kl > 0.0 &&
         isfinite(o->point->kl);
}

static ptq_status add_probe(const ptq_layer_source *s, int64_t point,
                            const ptq_layer_table *t, equations *q,
                            double *sum_e, double *sum_kl, ptq_err *err) {
  const ptq_obs *o = &s->frame->obs[point];
  const ptq_layer_row *row = s->layers + s->first_layer[point];
  const double kl = o->point->kl;
  const double se = o->point->kl_se > 0.0 ? o->point->kl_se : 0.0;
  const double sigma = sqrt(se * se + 0.01 * kl * kl);
  double *e = q->e + q->n * q->n_layers;
  for (int64_t i = 0; i < o->n_layers; i++) {
    const int64_t l = place(t, row[i].layer, i);
    if (l < 0 || o->n_layers != t->n_layers)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "the probes of model '%s' have other layers than its "
                      "points: '%s'",
                      o->point->model, row[i].layer);
    e[l] = error_of(&row[i]) / sigma;
    *sum_e += error_of(&row[i]);
  }
  for (int64_t l = 0; l < q->n_layers; l++) q->square[l] += e[l] * e[l];
  q->rest[q->n++] = kl / sigma;
  *sum_kl += kl;
  return PTQ_OK;
}

static ptq_status read_probes(const ptq_layer_source *s, const char *model,
                              const ptq_layer_table *t, equations *q,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double sum_e = 0.0, sum_kl = 0.0;
  int64_t n = 0;
  q->n_layers = t->n_layers;
  for (int64_t i = 0; i < s->frame->n; i++)
    n += is_probe(&s->frame->obs[i], model);
  PTQ_TRY(ptq_alloc(&q->e, n * t->n_layers, sizeof *q->e, "probes", err));
  PTQ_TRY(ptq_alloc(&q->rest, n, sizeof *q->rest, "probes", err));
  PTQ_TRY(ptq_alloc(&q->square, t->n_layers, sizeof *q->square, "probes", err));
  for (int64_t i = 0; i < s->frame->n; i++)
    if (is_probe(&s->frame->obs[i], model))
      PTQ_TRY(add_probe(s, i, t, q, &sum_e, &sum_kl, err));
  q->mean = sum_e > 0.0 ? sum_kl / sum_e : 0.0;
done:
  return rc;
}

/* Coordinate descent: each s in turn where the rest leaves it, not below 0. */
static void solve(equations *q, double *s) {
  enum { SWEEPS = 10000 };
  const double prior = 1.0 / (9.0 * q->mean * q->mean);
  for (int64_t l = 0; l < q->n_layers; l++) s[l] = 0.0;
  for (int sweep = 0; sweep < SWEEPS; sweep++) {
    double moved = 0.0;
    for (int64_t l = 0; l < q->n_layers; l++) {
      double slope = prior * (q->mean - s[l]);
      for (int64_t p = 0; p < q->n; p++)
        slope += q->e[p * q->n_layers + l] * q->rest[p];
      const double curve = q->square[l] + prior;
      const double next = fmax(0.0, s[l] + slope / curve);
      const double step = next - s[l];
      for (int64_t p = 0; p < q->n && step != 0.0; p++)
        q->rest[p] -= step * q->e[p * q->n_layers + l];
      s[l] = next;
      moved = fmax(moved, fabs(step) * sqrt(curve));
    }
    if (moved < 1e-10) break;
  }
}

ptq_status ptq_layer_sensitivities(const ptq_layer_source *s, const char *model,
                                   ptq_layer_table *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  equations q = {0};
  PTQ_TRY(read_probes(s, model, t, &q, err));
  t->n_probes = q.n;
  t->n_probed = 0;
  if (q.n == 0 || !(q.mean > 0.0)) goto done;
  solve(&q, t->sensitivity);
  for (int64_t l = 0; l < t->n_layers; l++) {
    const double average = 1.0 / (q.mean * q.mean);
    t->sensitivity[l] += 1.0 / sqrt(q.square[l] + average);
    t->probed[l] = q.square[l] > 4.0 * average;
    t->n_probed += t->probed[l];
  }
done:
  equations_release(&q);
  return rc;
}
