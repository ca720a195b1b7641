/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/mixed.h"

#include <fnmatch.h>
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/hash.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/statistics.h"
#include "ptq/base/yaml.h"

static bool is_result(const ptq_obs *o) {
  return o->use == PTQ_USE_OK || o->use == PTQ_USE_COLLAPSED;
}

bool ptq_frame_has_mixed(const ptq_frame *f) {
  for (int64_t i = 0; i < f->n; i++)
    if (is_result(&f->obs[i]) && ptq_obs_is_mixed(&f->obs[i])) return true;
  return false;
}

/* A frame's uniform points by subject, so that pairing costs little. */
typedef struct rivals {
  const ptq_obs **obs; /* in the frame's order within a subject */
  int64_t *first;      /* [subjects + 1] */
} rivals;

static void rivals_release(rivals *r) {
  ptq_free(r->obs);
  ptq_free(r->first);
}

static ptq_status rivals_of(const ptq_frame *f, rivals *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t *next = NULL;
  *r = (rivals){0};
  PTQ_TRY(ptq_alloc(&r->obs, f->n, sizeof *r->obs, "points", err));
  PTQ_TRY(
      ptq_alloc(&r->first, f->n_models + 1, sizeof *r->first, "models", err));
  PTQ_TRY(ptq_alloc(&next, f->n_models, sizeof *next, "models", err));
  for (int64_t i = 0; i < f->n; i++)
    if (is_result(&f->obs[i]) && !ptq_obs_is_mixed(&f->obs[i]))
      r->first[f->obs[i].subject + 1]++;
  for (int64_t s = 0; s < f->n_models; s++) {
    r->first[s + 1] += r->first[s];
    next[s] = r->first[s];
  }
  for (int64_t i = 0; i < f->n; i++)
    if (is_result(&f->obs[i]) && !ptq_obs_is_mixed(&f->obs[i]))
      r->obs[next[f->obs[i].subject]++] = &f->obs[i];
done:
  ptq_free(next);
  if (rc != PTQ_OK) rivals_release(r);
  return rc;
}

static bool same_method(const ptq_obs *a, const ptq_obs *b) {
  return strcmp(a->point->method, b->point->method) == 0 &&
         strcmp(a->point->options, b->point->options) == 0;
}

/* A mixture seldom meets a budget to the last digit. */
static const double equal_within = 0.01; /* bits a weight */

static const ptq_obs *best_uniform(const rivals *r, const ptq_obs *mixed) {
  const ptq_obs *best = NULL;
  const double most = mixed->point->bits_per_weight + equal_within;
  for (int64_t i = r->first[mixed->subject]; i < r->first[mixed->subject + 1];
       i++) {
    const ptq_obs *o = r->obs[i];
    if (o->point->bits_per_weight <= most && same_method(o, mixed) &&
        (best == NULL || o->point->dnll < best->point->dnll))
      best = o;
  }
  return best;
}

/* The line from a to the uniform point beyond `bits` that is lowest there, and
 * that point. */
static double lowest_line(const rivals *r, const ptq_obs *mixed,
                          const ptq_obs *a, const ptq_obs **end) {
  const double bits = mixed->point->bits_per_weight;
  const double x = a->point->bits_per_weight;
  double least = INFINITY;
  for (int64_t i = r->first[mixed->subject]; i < r->first[mixed->subject + 1];
       i++) {
    const ptq_obs *b = r->obs[i];
    if (!(b->point->dnll > 0.0) || b->point->bits_per_weight <= bits ||
        !same_method(b, mixed))
      continue;
    const double share = (bits - x) / (b->point->bits_per_weight - x);
    const double y =
        (1.0 - share) * log(a->point->dnll) + share * log(b->point->dnll);
    if (!(y < least)) continue;
    least = y;
    *end = b;
  }
  return least;
}

static bool above_noise(const ptq_obs *o) {
  double y = 0.0;
  return ptq_obs_censoring(o, &y) == PTQ_CENSORED_NOT;
}

/* Lower envelope of the uniform points, straight in ln(dnll). */
static double at_equal_bits(const rivals *r, const ptq_obs *mixed,
                            bool *clear) {
  const double bits = mixed->point->bits_per_weight;
  const ptq_obs *ends[2] = {NULL, NULL}; /* what the envelope lies between */
  double least = INFINITY;
  for (int64_t i = r->first[mixed->subject]; i < r->first[mixed->subject + 1];
       i++) {
    const ptq_obs *a = r->obs[i];
    const double x = a->point->bits_per_weight;
    if (!(a->point->dnll > 0.0) || !same_method(a, mixed)) continue;
    const bool same = fabs(x / bits - 1.0) < 1e-9;
    if (!same && x > bits) continue;
    const ptq_obs *end = a;
    const double y =
        same ? log(a->point->dnll) : lowest_line(r, mixed, a, &end);
    if (!(y < least)) continue;
    least = y;
    ends[0] = a;
    ends[1] = end;
  }
  *clear = isfinite(least) && above_noise(ends[0]) && above_noise(ends[1]);
  return isfinite(least) ? exp(least) : (double)NAN;
}

/* The windows of a store. */
typedef struct windows {
  const ptq_window_row *row;
  const int64_t *first; /* [points + 1] */
  const ptq_baseline_row *base;
  int64_t n_base;
} windows;

static ptq_status read_windows(ptq_view *view, windows *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL, *base = NULL;
  const int64_t *subject = NULL, *first_layer = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_view_table(view, PTQ_TABLE_WINDOWS, &rows, &n, err));
  PTQ_TRY(ptq_view_table(view, PTQ_TABLE_BASELINE, &base, &w->n_base, err));
  PTQ_TRY(ptq_view_index(view, &subject, &first_layer, &w->first, err));
  w->row = rows;
  w->base = base;
done:
  return rc;
}

static ptq_status pair_up(const ptq_frame *f, const windows *w,
                          ptq_mixed_row *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *x = NULL, *tokens = NULL, sum = 0.0, all = 0.0;
  const int64_t a = w->first[r->obs - f->obs];
  const int64_t b = w->first[r->uniform - f->obs];
  const int64_t n = w->first[r->obs - f->obs + 1] - a;
  int64_t base = 0;
  r->difference = r->obs->point->dnll - r->uniform->point->dnll;
  while (base < w->n_base && w->base[base].subject != r->obs->subject) base++;
  if (base + n > w->n_base) return PTQ_OK; /* the model is not finished */
  PTQ_TRY(ptq_alloc(&x, n, sizeof *x, "windows", err));
  PTQ_TRY(ptq_alloc(&tokens, n, sizeof *tokens, "windows", err));
  for (int64_t i = 0; i < n; i++) {
    x[i] = w->row[a + i].nll - w->row[b + i].nll;
    tokens[i] = (double)w->base[base + i].tokens;
    sum += x[i];
    all += tokens[i];
  }
  r->difference = sum / all;
  r->difference_se = ptq_block_bootstrap_se(
      x, tokens, n, ptq_hash64(r->obs->point->key, strlen(r->obs->point->key)));
done:
  ptq_free(x);
  ptq_free(tokens);
  return rc;
}

static bool names_model(const ptq_yaml_node *models, const char *name) {
  if (models == NULL) return true;
  if (models->kind == PTQ_YAML_SCALAR)
    return fnmatch(models->text, name, 0) == 0;
  for (const ptq_yaml_node *m = models->child; m != NULL; m = m->next)
    if (m->kind == PTQ_YAML_SCALAR && fnmatch(m->text, name, 0) == 0)
      return true;
  return false;
}

/* Is `dtype` "mixed:NAME-" and eight digits? */
static bool is_called(const char *dtype, const char *name) {
  static const char prefix[] = "mixed:";
  const size_t n = strlen(name), head = sizeof prefix - 1;
  return strlen(dtype) == head + n + 9 && strncmp(dtype, prefix, head) == 0 &&
         strncmp(dtype + head, name, n) == 0 && dtype[head + n] == '-';
}

static ptq_prediction read_prediction(const ptq_yaml_node *node) {
  ptq_prediction p = {NAN, NAN, NAN, NULL};
  const ptq_yaml_node *one = node->kind == PTQ_YAML_LIST ? node->child : node;
  double *to[] = {&p.dnll, &p.low, &p.high};
  for (int i = 0; one != NULL && i < 3; i++) {
    (void)ptq_yaml_double("", one, to[i], NULL);
    one = node->kind == PTQ_YAML_LIST ? one->next : NULL;
  }
  return p;
}

/* What the sweep file said of a point before it was run. */
static void look_up(const ptq_yaml_node *root, ptq_mixed_row *r) {
  const ptq_yaml_node *grid = root != NULL && root->kind == PTQ_YAML_MAP
                                  ? ptq_yaml_get(root, "grid")
                                  : NULL;
  const ptq_yaml_node *list = grid != NULL && grid->kind == PTQ_YAML_MAP
                                  ? ptq_yaml_get(grid, "dtype")
                                  : NULL;
  if (list == NULL) return;
  const ptq_yaml_node *entry = list->kind == PTQ_YAML_LIST ? list->child : list;
  for (; entry != NULL; entry = entry->next) {
    if (entry->kind != PTQ_YAML_MAP) continue;
    const ptq_yaml_node *name = ptq_yaml_get(entry, "mixed");
    const ptq_yaml_node *predicted = ptq_yaml_get(entry, "predicted");
    if (name == NULL || predicted == NULL || name->kind != PTQ_YAML_SCALAR ||
        !is_called(r->obs->point->dtype, name->text) ||
        !names_model(ptq_yaml_get(entry, "models"), r->obs->point->model))
      continue;
    r->predicted = read_prediction(predicted);
    r->ahead = isfinite(r->predicted.dnll);
    return;
  }
}

/* What uniform points say of mixed ones; of the last model and method. */
typedef struct teacher {
  const ptq_obs *of; /* NULL: none yet */
  bool known;        /* there are uniform points to learn from */
  ptq_layer_table table;
  ptq_layer_law law;
} teacher;

static void teacher_forget(teacher *t) {
  if (t->known) ptq_layer_table_release(&t->table);
  *t = (teacher){0};
}

static ptq_status teacher_learn(const ptq_layer_source *s, const ptq_obs *o,
                                teacher *t, ptq_err *err) {
  const ptq_layer_query query = {.model = o->point->model,
                                 .method = o->point->method,
                                 .options = o->point->options,
                                 .group = PTQ_ANY_GROUP};
  ptq_err why = {0};
  teacher_forget(t);
  t->of = o;
  const ptq_status rc = ptq_layer_table_build(s, &query, &t->table, &why);
  if (rc == PTQ_E_NOMEM) return PTQ_FAIL(err, rc, "%s", why.msg);
  if (rc != PTQ_OK) return PTQ_OK;
  t->known = true;
  return ptq_layer_law_fit(s, o->point->model, &t->table, &t->law, err);
}

/* From the errors of the point's own layers, all equally sensitive. */
static ptq_status from_layers(const ptq_layer_source *s, teacher *t,
                              ptq_mixed_row *r, ptq_err *err) {
  if (t->of == NULL || !same_method(t->of, r->obs) ||
      strcmp(t->of->point->model, r->obs->point->model) != 0) {
    const ptq_status rc = teacher_learn(s, r->obs, t, err);
    if (rc != PTQ_OK) return rc;
  }
  if (t->known)
    r->predicted = ptq_layer_law_predict(
        &t->law, ptq_layer_sum(s, r->obs - s->frame->obs, &t->table));
  return PTQ_OK;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static ptq_status judge_predictions(ptq_mixed *m, ptq_err *err) {
  double *e = NULL;
  const ptq_status rc = ptq_alloc(&e, m->n, sizeof *e, "predictions", err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < m->n; i++)
    if (above_noise(m->row[i].obs) && m->row[i].predicted.dnll > 0.0)
      e[m->n_predicted++] =
          fabs(log(m->row[i].predicted.dnll / m->row[i].obs->point->dnll));
  qsort(e, (size_t)m->n_predicted, sizeof *e, compare_doubles);
  const int64_t n = m->n_predicted;
  m->median_error = n > 0 ? 0.5 * (e[(n - 1) / 2] + e[n / 2]) : (double)NAN;
  ptq_free(e);
  return rc;
}

/* Of ln(dnll / uniform dnll), by model. */
typedef struct gain {
  double sum;
  int64_t n;
} gain;

/* The loss that a mixture is divided by; NaN where it does not count. */
static double rival_dnll(const ptq_mixed_row *r, const ptq_mixed *m,
                         const ptq_mixed_ratio *of) {
  if (of == &m->within)
    return r->uniform != NULL && above_noise(r->uniform)
               ? r->uniform->point->dnll
               : (double)NAN;
  return of == &m->any || r->equal_clear ? r->equal_bits : (double)NAN;
}

/* A model is here once, though it may be evaluated on several texts. */
static ptq_status gains_of(const ptq_frame *f, const ptq_mixed *m,
                           const ptq_mixed_ratio *of, gain **gains,
                           ptq_err *err) {
  int64_t *model = NULL; /* of a subject: the first one of its name */
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_alloc(gains, f->n_models, sizeof **gains, "models", err));
  PTQ_TRY(ptq_alloc(&model, f->n_models, sizeof *model, "models", err));
  for (int64_t s = 0; s < f->n_models; s++)
    while (strcmp(f->models[model[s]].model, f->models[s].model) != 0)
      model[s]++;
  for (int64_t i = 0; i < m->n; i++) {
    const ptq_mixed_row *r = &m->row[i];
    const double rival = rival_dnll(r, m, of);
    if (isnan(rival) || !above_noise(r->obs)) continue;
    gain *g = &(*gains)[model[r->obs->subject]];
    g->sum += log(r->obs->point->dnll / rival);
    g->n++;
  }
done:
  ptq_free(model);
  return rc;
}

static void judge_ratio(const gain *g, int64_t n, ptq_mixed_ratio *m) {
  double mean = 0.0, square = 0.0;
  for (int64_t s = 0; s < n; s++) {
    if (g[s].n == 0) continue;
    m->n_models++;
    m->n_pairs += g[s].n;
    mean += g[s].sum / (double)g[s].n;
  }
  if (m->n_models == 0) return;
  const double k = (double)m->n_models;
  mean /= k;
  m->ratio = exp(mean);
  if (m->n_models < 2) return;
  for (int64_t s = 0; s < n; s++)
    if (g[s].n > 0) square += pow(g[s].sum / (double)g[s].n - mean, 2.0);
  const double half =
      gsl_cdf_tdist_Pinv(0.975, k - 1.0) * sqrt(square / (k - 1.0) / k);
  m->low = exp(mean - half);
  m->high = exp(mean + half);
}

static ptq_status judge_ratios(const ptq_frame *f, ptq_mixed *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_mixed_ratio *const ratios[] = {&m->within, &m->equal, &m->any};
  for (int i = 0; i < 3 && rc == PTQ_OK; i++) {
    gain *g = NULL;
    rc = gains_of(f, m, ratios[i], &g, err);
    if (rc == PTQ_OK) judge_ratio(g, f->n_models, ratios[i]);
    ptq_free(g);
  }
  return rc;
}

/* Counts of paired differences, and what the rivals save. */
static void judge_pairs(ptq_mixed *m) {
  double saved = 0.0;
  int64_t n = 0;
  for (int64_t i = 0; i < m->n; i++) {
    const ptq_mixed_row *r = &m->row[i];
    if (!isnan(rival_dnll(r, m, &m->within)) && above_noise(r->obs)) {
      saved +=
          r->obs->point->bits_per_weight - r->uniform->point->bits_per_weight;
      n++;
    }
    if (r->uniform == NULL || !(r->difference_se > 0.0)) continue;
    m->n_better += r->difference < -2.0 * r->difference_se;
    m->n_worse += r->difference > 2.0 * r->difference_se;
  }
  m->fewer = n > 0 ? saved / (double)n : (double)NAN;
}

static ptq_status fill(ptq_view *view, const ptq_frame *frame,
                       const ptq_yaml_node *root, ptq_mixed *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  windows w = {0};
  ptq_layer_source layers = {0};
  rivals uniform = {0};
  teacher equal = {0};
  PTQ_TRY(rivals_of(frame, &uniform, err));
  PTQ_TRY(read_windows(view, &w, err));
  PTQ_TRY(ptq_layer_source_of(view, frame, &layers, err));
  for (int64_t i = 0; i < frame->n; i++) {
    const ptq_obs *o = &frame->obs[i];
    if (!is_result(o) || !ptq_obs_is_mixed(o)) continue;
    ptq_mixed_row *r = &m->row[m->n++];
    *r = (ptq_mixed_row){.obs = o,
                         .predicted = {NAN, NAN, NAN, NULL},
                         .uniform = best_uniform(&uniform, o),
                         .difference = NAN,
                         .difference_se = NAN};
    r->equal_bits = at_equal_bits(&uniform, o, &r->equal_clear);
    look_up(root, r);
    if (!r->ahead) PTQ_TRY(from_layers(&layers, &equal, r, err));
    if (r->uniform != NULL) PTQ_TRY(pair_up(frame, &w, r, err));
  }
  PTQ_TRY(judge_predictions(m, err));
  PTQ_TRY(judge_ratios(frame, m, err));
  judge_pairs(m);
done:
  teacher_forget(&equal);
  rivals_release(&uniform);
  return rc;
}

ptq_status ptq_mixed_compare(ptq_view *view, const ptq_frame *frame,
                             ptq_mixed *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_yaml_node *root = NULL;
  ptq_err why = {0};
  *out = (ptq_mixed){.within = {NAN, NAN, NAN, 0, 0},
                     .equal = {NAN, NAN, NAN, 0, 0},
                     .any = {NAN, NAN, NAN, 0, 0},
                     .fewer = NAN,
                     .median_error = NAN};
  if (!ptq_frame_has_mixed(frame)) return PTQ_OK;
  const char *text = ptq_view_attribute(view, "spec_text");
  if (ptq_yaml_parse("the store's sweep file", text, strlen(text), &root,
                     &why) != PTQ_OK)
    ptq_log(PTQ_LOG_WARN, "no predictions of mixed points: %s", why.msg);
  PTQ_TRY(ptq_alloc(&out->row, frame->n, sizeof *out->row, "points", err));
  PTQ_TRY(fill(view, frame, root, out, err));
done:
  ptq_yaml_free(root);
  if (rc != PTQ_OK) ptq_mixed_release(out);
  return rc;
}

void ptq_mixed_release(ptq_mixed *m) {
  ptq_free(m->row);
  *m = (ptq_mixed){0};
}
