/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/layer_ranks.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

#define FIELD(kind, name, length, unit, text)         \
  {#name,                                             \
   PTQ_KIND_##kind,                                   \
   offsetof(ptq_sensitivity_row, name),               \
   sizeof(((const ptq_sensitivity_row *)NULL)->name), \
   unit,                                              \
   text},

static const ptq_field fields[] = {PTQ_SENSITIVITY_FIELDS(FIELD)};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };
static const ptq_table table = {"sensitivity", fields, N_FIELDS,
                                sizeof(ptq_sensitivity_row)};

const ptq_table *ptq_sensitivity_table(void) {
  return &table;
}

const ptq_field *ptq_layer_proxy(int proxy) {
  PTQ_ASSERT(proxy >= 0 && proxy < PTQ_LAYER_PROXIES);
  return &fields[N_FIELDS - PTQ_LAYER_PROXIES + proxy];
}

const char *ptq_rank_target_name(ptq_rank_target t) {
  static const char *const names[] = {"alone", "restored", "interaction"};
  PTQ_ASSERT((unsigned)t < PTQ_RANK_TARGETS);
  return names[t];
}

/* The store's tables. */
typedef struct tables {
  const ptq_model_row *models;
  const ptq_direction_row *directions;
  const ptq_direction_layer_row *layers;
  const ptq_point_row *points;
  const ptq_layer_row *point_layers;
  const int64_t *subject, *first_point_layer;
  const int *point_state;
  int64_t n_models, n_directions, n_points;
  ptq_view_landscape index;
} tables;

static ptq_status read_tables(ptq_view *v, tables *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  const int64_t *windows = NULL;
  const int *models = NULL;
  int64_t n = 0;
  ptq_view_directions(v, &t->index);
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_MODELS, &rows, &t->n_models, err));
  t->models = rows;
  PTQ_TRY(
      ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &t->n_directions, err));
  t->directions = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_DIRECTION_LAYERS, &rows, &n, err));
  t->layers = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &t->n_points, err));
  t->points = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_LAYERS, &rows, &n, err));
  t->point_layers = rows;
  PTQ_TRY(ptq_view_index(v, &t->subject, &t->first_point_layer, &windows, err));
  PTQ_TRY(ptq_view_states(v, &t->point_state, &n, &models, &n, err));
done:
  return rc;
}

static bool is_kind(const ptq_direction_row *d, const char *kind) {
  return strcmp(d->kind, kind) == 0;
}

/* Number of layers whose derivatives a direction has. */
static int64_t layers_of(const tables *t, int64_t d) {
  return t->index.first_layer[d + 1] - t->index.first_layer[d];
}

/* A finished direction of a kind beside one of sensitivity, at its dtype and
 * group where it has any; -1: none. A joined store may hold it a second time,
 * without derivatives. */
static int64_t find(const tables *t, const ptq_direction_row *of,
                    const char *kind) {
  int64_t found = -1;
  for (int64_t i = 0; i < t->n_directions; i++) {
    const ptq_direction_row *d = &t->directions[i];
    if (t->index.state[i] == PTQ_STATE_DONE && d->subject == of->subject &&
        is_kind(d, kind) &&
        (d->dtype[0] == '\0' ||
         (strcmp(d->dtype, of->dtype) == 0 && d->group == of->group)) &&
        (found < 0 || layers_of(t, i) > layers_of(t, found)))
      found = i;
  }
  return found;
}

/* The layer's row of a direction; NULL: none. */
static const ptq_direction_layer_row *layer_of(const tables *t, int64_t d,
                                               const char *layer) {
  if (d < 0) return NULL;
  for (int64_t i = t->index.first_layer[d]; i < t->index.first_layer[d + 1];
       i++)
    if (strcmp(t->layers[i].layer, layer) == 0) return &t->layers[i];
  return NULL;
}

/* The finished point that rounds the same; -1: none. */
static int64_t find_point(const tables *t, const ptq_direction_row *of) {
  for (int64_t i = 0; i < t->n_points; i++) {
    const ptq_point_row *p = &t->points[i];
    if (t->point_state[i] == PTQ_STATE_DONE && t->subject[i] == of->subject &&
        strcmp(p->method, "rtn") == 0 && p->options[0] == '\0' &&
        strcmp(p->dtype, of->dtype) == 0 && p->group == of->group)
      return i;
  }
  return -1;
}

static const ptq_layer_row *point_layer_of(const tables *t, int64_t p,
                                           const char *layer) {
  if (p < 0) return NULL;
  for (int64_t i = t->first_point_layer[p]; i < t->first_point_layer[p + 1];
       i++)
    if (strcmp(t->point_layers[i].layer, layer) == 0)
      return &t->point_layers[i];
  return NULL;
}

/* Directions and point that a sensitivity is beside. */
typedef struct beside {
  int64_t rtn, hessian, point;
} beside;

static void take_proxies(const tables *t, const beside *b,
                         const ptq_direction_layer_row *l,
                         ptq_sensitivity_row *r) {
  const ptq_direction_layer_row *e = layer_of(t, b->rtn, l->layer);
  const ptq_direction_layer_row *h = layer_of(t, b->hessian, l->layer);
  const ptq_layer_row *p = point_layer_of(t, b->point, l->layer);
  const double n = (double)l->weights;
  r->size_square = l->size * l->size;
  r->weight_noise = r->size_square * l->weight_norm * l->weight_norm;
  if (p != NULL) {
    r->error_select = pow(10.0, -p->sqnr_output / 10.0);
    r->err_hessian = p->err_hessian;
  }
  if (h != NULL) {
    r->gradient_norm = h->gradient_norm;
    r->trace = h->trace;
    r->trace_noise = h->trace / n * r->weight_noise;
    r->fisher = h->fisher;
    r->fisher_noise = h->fisher / n * r->weight_noise;
  }
  if (e != NULL) {
    r->output_noise = e->output_noise;
    r->slope = e->slope;
    r->curvature = e->curvature;
    r->fisher_diagonal = e->fisher_diagonal;
    r->quadratic = e->slope + e->curvature / 2.0;
    r->gauss_newton = e->gauss_newton;
    r->kronecker = e->kronecker;
    r->err_top = e->err_top;
    r->size_top = e->size_top;
  }
  if (h != NULL && e != NULL && l->outputs > 0)
    r->kronecker_trace = h->output_trace / (double)l->outputs * e->output_noise;
}

static void take_block(const tables *t, int64_t d, ptq_sensitivities *out) {
  const ptq_direction_row *row = &t->directions[d];
  const beside b = {find(t, row, "rtn"), find(t, row, "hessian"),
                    find_point(t, row)};
  ptq_interaction *s = &out->sums[out->n_sums - 1];
  for (int64_t i = t->index.first_layer[d]; i < t->index.first_layer[d + 1];
       i++) {
    const ptq_direction_layer_row *l = &t->layers[i];
    ptq_sensitivity_row *r = &out->rows[out->n++];
    ptq_row_clear(&table, r);
    (void)ptq_text_copy(r->model, sizeof r->model, row->model);
    (void)ptq_text_copy(r->calibration, sizeof r->calibration,
                        row->calibration);
    (void)ptq_text_copy(r->evaluation, sizeof r->evaluation, row->evaluation);
    (void)ptq_text_copy(r->dtype, sizeof r->dtype, row->dtype);
    (void)ptq_text_copy(r->layer, sizeof r->layer, l->layer);
    r->group = row->group;
    r->block = row->number;
    r->weights = l->weights;
    r->alone = l->alone;
    r->alone_se = l->alone_se;
    r->restored = l->restored;
    r->restored_se = l->restored_se;
    r->interaction = l->restored - l->alone;
    r->dnll = row->dnll;
    take_proxies(t, &b, l, r);
    s->layers++;
    s->alone += l->alone;
    s->restored += l->restored;
  }
}

/* Blocks of a model and dtype follow one another in a store. */
static bool same_sum(const ptq_direction_row *a, const ptq_direction_row *b) {
  return a->subject == b->subject && a->group == b->group &&
         strcmp(a->dtype, b->dtype) == 0;
}

/* Has a row before it the same block? */
static bool is_twice(const tables *t, int64_t d) {
  const ptq_direction_row *row = &t->directions[d];
  for (int64_t i = 0; i < d; i++) {
    const ptq_direction_row *o = &t->directions[i];
    if (t->index.state[i] == PTQ_STATE_DONE && is_kind(o, "sensitivity") &&
        same_sum(o, row) && o->number == row->number)
      return true;
  }
  return false;
}

/* The first row of the checkpoint that is in row `subject` of /models: on
 * other texts it is the same model. */
static int64_t model_of(const tables *t, int64_t subject) {
  if (subject < 0 || subject >= t->n_models) return subject;
  const ptq_model_row *m = &t->models[subject];
  for (int64_t i = 0; i < subject; i++)
    if (strcmp(t->models[i].model, m->model) == 0 &&
        strcmp(t->models[i].fingerprint, m->fingerprint) == 0)
      return i;
  return subject;
}

static void take_all(const tables *t, ptq_sensitivities *out) {
  for (int64_t i = 0; i < t->n_directions; i++) {
    const ptq_direction_row *d = &t->directions[i];
    if (!is_kind(d, "sensitivity") || is_twice(t, i)) continue;
    const bool done = t->index.state[i] == PTQ_STATE_DONE;
    if (out->n_sums == 0 || !same_sum(out->sums[out->n_sums - 1].row, d))
      out->sums[out->n_sums++] = (ptq_interaction){
          .row = d, .model = model_of(t, d->subject), .whole = true};
    ptq_interaction *s = &out->sums[out->n_sums - 1];
    s->whole = s->whole && done;
    if (!done) continue;
    s->row = d;
    take_block(t, i, out);
  }
}

static double number(const ptq_sensitivity_row *r, const ptq_field *f) {
  double v;
  memcpy(&v, (const char *)r + f->offset, sizeof v);
  return v;
}

static double target_of(const ptq_sensitivity_row *r, ptq_rank_target t) {
  return t == PTQ_RANK_ALONE      ? r->alone
         : t == PTQ_RANK_RESTORED ? r->restored
                                  : fabs(r->interaction);
}

enum { LEAST_LAYERS = 5 };

/* Spearman's rho over rows first .. first + n - 1; NaN where a number is
 * missing or layers are too few. */
static double spearman(const ptq_sensitivity_row *rows, int64_t n,
                       const ptq_field *f, ptq_rank_target t, double *x) {
  double *y = x + n, *work = x + 2 * n;
  for (int64_t i = 0; i < n; i++) {
    x[i] = number(&rows[i], f);
    y[i] = target_of(&rows[i], t);
    if (!isfinite(x[i]) || !isfinite(y[i])) return (double)NAN;
  }
  return n < LEAST_LAYERS ? (double)NAN
                          : gsl_stats_spearman(x, 1, y, 1, (size_t)n, work);
}

/* A mean. */
typedef struct pooled {
  double n, sum, square;
} pooled;

static void pool(pooled *p, double v) {
  if (!isfinite(v)) return;
  p->n += 1.0;
  p->sum += v;
  p->square += v * v;
}

static double mean_of(const pooled *p) {
  return p->n > 0.0 ? p->sum / p->n : (double)NAN;
}

/* Over models. Student's interval knows no ends; a correlation has. */
static ptq_rank rank_of(const pooled *p, int64_t layers) {
  const double none = (double)NAN;
  ptq_rank r = {mean_of(p), none, none, (int)p->n, layers};
  if (p->n < 2.0) return r;
  const double spread = fmax(0.0, p->square - p->n * r.rho * r.rho);
  const double half = gsl_cdf_tdist_Pinv(0.975, p->n - 1.0) *
                      sqrt(spread / (p->n - 1.0) / p->n);
  r.low = fmax(-1.0, r.rho - half);
  r.high = fmin(1.0, r.rho + half);
  return r;
}

/* Mean over dtypes of every subject, at the first of its sums; NaN elsewhere.
 * @return layers behind them */
static int64_t of_subjects(const ptq_sensitivities *s, const ptq_field *f,
                           ptq_rank_target t, double *scratch, double *rho) {
  int64_t at = 0, layers = 0, first = 0;
  pooled dtypes = {0};
  for (int64_t k = 0; k < s->n_sums; at += s->sums[k++].layers) {
    const ptq_interaction *sum = &s->sums[k];
    if (sum->row->subject != s->sums[first].row->subject) {
      first = k;
      dtypes = (pooled){0};
    }
    rho[k] = (double)NAN;
    const double v = spearman(s->rows + at, sum->layers, f, t, scratch);
    pool(&dtypes, v);
    rho[first] = mean_of(&dtypes);
    if (isfinite(v)) layers += sum->layers;
  }
  return layers;
}

/* Over a model's texts first: they are no models. */
static ptq_rank correlate(const ptq_sensitivities *s, const ptq_field *f,
                          ptq_rank_target t, double *scratch, double *rho) {
  const int64_t layers = of_subjects(s, f, t, scratch, rho);
  pooled models = {0};
  for (int64_t k = 0; k < s->n_sums; k++) {
    pooled texts = {0};
    for (int64_t j = k; j < s->n_sums; j++) {
      if (s->sums[j].model != s->sums[k].model) continue;
      pool(&texts, rho[j]);
      rho[j] = (double)NAN; /* taken */
    }
    pool(&models, mean_of(&texts));
  }
  return rank_of(&models, layers);
}

ptq_status ptq_sensitivities_rank(ptq_sensitivities *s, ptq_err *err) {
  double *scratch = NULL;
  /* two columns, GSL's two of ranks, and sums */
  const ptq_status rc =
      ptq_alloc(&scratch, 4 * s->n + s->n_sums, sizeof *scratch, "ranks", err);
  for (int p = 0; rc == PTQ_OK && p < PTQ_LAYER_PROXIES; p++)
    for (int t = 0; t < PTQ_RANK_TARGETS; t++)
      s->rank[p][t] = correlate(s, ptq_layer_proxy(p), (ptq_rank_target)t,
                                scratch, scratch + 4 * s->n);
  ptq_free(scratch);
  return rc;
}

ptq_status ptq_sensitivities_read(ptq_view *v, ptq_sensitivities *out,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  tables t = {0};
  *out = (ptq_sensitivities){0};
  ptq_view_directions(v, &t.index);
  if (t.index.n == 0) return PTQ_OK;
  PTQ_TRY(read_tables(v, &t, err));
  PTQ_TRY(ptq_alloc(&out->rows, t.index.first_layer[t.index.n],
                    sizeof *out->rows, "layers", err));
  PTQ_TRY(ptq_alloc(&out->sums, t.index.n, sizeof *out->sums, "sums", err));
  take_all(&t, out);
  PTQ_TRY(ptq_sensitivities_rank(out, err));
done:
  if (rc != PTQ_OK) ptq_sensitivities_release(out);
  return rc;
}

void ptq_sensitivities_release(ptq_sensitivities *s) {
  ptq_free(s->rows);
  ptq_free(s->sums);
  *s = (ptq_sensitivities){0};
}
