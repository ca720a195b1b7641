/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/trees.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xgboost/c_api.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/base/text.h"
#include "trees_table.h"

/* The paper's inputs: parameter count, pre-trained NLL, SQNR of rounding,
 * format, block size; and the Hessian spectra. Its landscape's are kinds of
 * their own, for few stores have one. */
/* clang-format off */
static const char *const paper_features[] = {
    "params_nonembedding", "params", "nll_model", "headroom", "sqnr_rtn",
    "bits", "bits_per_weight", "group", "h_trace", "h_top", "h_rank",
    "h_cond", "h_tail", "h_top_nofirst", "h_rank_nofirst", "h_cond_nofirst",
    "h_tail_nofirst", NULL};
static const char *const landscape_features[] = {
    "params_nonembedding", "params", "nll_model", "headroom", "sqnr_rtn",
    "bits", "bits_per_weight", "group", "h_trace", "h_top", "h_rank",
    "h_cond", "h_tail", "h_top_nofirst", "h_rank_nofirst", "h_cond_nofirst",
    "h_tail_nofirst", "basin_01", "basin_05", "basin_1", "step_height",
    "step_width", "loss_curvature", "noise_over_basin", "gradient_norm",
    "hessian_trace", "hessian_max", NULL};
static const char *const config_features[] = {
    "params_nonembedding", "params", "d_model", "n_blocks",
    "share_quantized", "bits", "bits_per_weight", "group", NULL};
/* clang-format on */
static const char *const factors[] = {"element", "method", NULL};

static const ptq_trees kinds[] = {
    {"forest", "random forest on the paper's features", false, 100, 8, 1.0,
     paper_features, factors},
    {"forest-config", "random forest on what is known before anything is run",
     false, 100, 8, 1.0, config_features, factors},
    {"boosting", "gradient boosting on the paper's features", true, 100, 3,
     0.15, paper_features, factors},
    {"forest-landscape", "the forest, and the loss along random directions",
     false, 100, 8, 1.0, landscape_features, factors},
};
enum { STEP = 20, MIN_POINTS = 10 };

const ptq_trees *ptq_trees_at(size_t i) {
  return i < sizeof kinds / sizeof kinds[0] ? &kinds[i] : NULL;
}

ptq_tier ptq_trees_tier(const ptq_trees *t) {
  ptq_tier tier = PTQ_TIER_CONFIG;
  for (const char *const *f = t->features; *f != NULL; f++)
    if (ptq_feature_find(*f)->tier > tier) tier = ptq_feature_find(*f)->tier;
  return tier;
}

struct ptq_grove {
  const ptq_trees *kind;
  ptq_tree_table table;  /* owned; columns only */
  BoosterHandle booster; /* owned */
  int n_trees;
  int64_t n_points;
  double half; /* of the 90 % interval of ln(dnll); NaN with one model */
};

static ptq_status complain(const char *what, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_NUMERIC, "%s: XGBoost: %.300s", what,
                  XGBGetLastError());
}

#define XGB_TRY(call, what)                        \
  do {                                             \
    if ((call) != 0) PTQ_TRY(complain(what, err)); \
  } while (0)

static ptq_status set(BoosterHandle b, const char *name, double value,
                      ptq_err *err) {
  char text[40];
  (void)snprintf(text, sizeof text, "%.10g", value);
  return XGBoosterSetParam(b, name, text) == 0 ? PTQ_OK : complain(name, err);
}

/* Trees of table rows that `keep` allows (NULL: all). */
static ptq_status grow(const ptq_trees *kind, const ptq_tree_table *t,
                       const bool *keep, int n_trees, BoosterHandle *out,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  DMatrixHandle d = NULL;
  float *x = NULL, *y = NULL;
  int64_t n = 0;
  double mean = 0.0;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&x, t->n * t->k, sizeof *x, "trees", err));
  PTQ_TRY(ptq_alloc(&y, t->n, sizeof *y, "trees", err));
  for (int64_t i = 0; i < t->n; i++) {
    if (keep != NULL && !keep[i]) continue;
    memcpy(x + n * t->k, t->x + i * t->k, (size_t)t->k * sizeof *x);
    y[n++] = (float)t->y[i];
    mean += t->y[i];
  }
  XGB_TRY(XGDMatrixCreateFromMat(x, (bst_ulong)n, (bst_ulong)t->k, NAN, &d),
          kind->name);
  XGB_TRY(XGDMatrixSetFloatInfo(d, "label", y, (bst_ulong)n), kind->name);
  XGB_TRY(XGBoosterCreate(&d, 1, out), kind->name);
  XGB_TRY(XGBoosterSetParam(*out, "tree_method", n > 5000 ? "hist" : "exact"),
          kind->name);
  PTQ_TRY(set(*out, "verbosity", 0.0, err));
  PTQ_TRY(set(*out, "nthread", 1.0, err));
  PTQ_TRY(set(*out, "seed", 1.0, err));
  PTQ_TRY(set(*out, "max_depth", kind->depth, err));
  PTQ_TRY(set(*out, "eta", kind->eta, err));
  PTQ_TRY(set(*out, "lambda", kind->boosted ? 1.0 : 0.0, err));
  PTQ_TRY(set(*out, "min_child_weight", 2.0, err));
  PTQ_TRY(set(*out, "subsample", 0.632, err));
  PTQ_TRY(set(*out, "colsample_bynode", 1.0 / 3.0, err));
  PTQ_TRY(set(*out, "base_score", n > 0 ? mean / (double)n : 0.0, err));
  if (!kind->boosted) PTQ_TRY(set(*out, "num_parallel_tree", n_trees, err));
  for (int i = 0; i < (kind->boosted ? n_trees : 1); i++)
    XGB_TRY(XGBoosterUpdateOneIter(*out, i, d), kind->name);
done:
  if (rc != PTQ_OK && *out != NULL) {
    (void)XGBoosterFree(*out);
    *out = NULL;
  }
  if (d != NULL) (void)XGDMatrixFree(d);
  ptq_free(x);
  ptq_free(y);
  return rc;
}

/* ln(dnll) of n rows x[n, k] by the first `rounds` rounds (0: all). */
static ptq_status ask(BoosterHandle b, const float *x, int64_t n, int64_t k,
                      int rounds, double *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  DMatrixHandle d = NULL;
  char config[160];
  const bst_ulong *shape = NULL;
  bst_ulong dim = 0;
  const float *result = NULL;
  if (n == 0) goto done;
  XGB_TRY(XGDMatrixCreateFromMat(x, (bst_ulong)n, (bst_ulong)k, NAN, &d),
          "trees");
  (void)snprintf(config, sizeof config,
                 "{\"type\":0,\"training\":false,\"iteration_begin\":0,"
                 "\"iteration_end\":%d,\"strict_shape\":false}",
                 rounds);
  XGB_TRY(XGBoosterPredictFromDMatrix(b, d, config, &shape, &dim, &result),
          "trees");
  for (int64_t i = 0; i < n; i++) out[i] = (double)result[i];
done:
  if (d != NULL) (void)XGDMatrixFree(d);
  return rc;
}

/* Predictions of the rows outside of keep, at every STEP-th round for boosted
 * trees; errors are added up by number of rounds. */
typedef struct inner {
  double *error; /* owned; [n_steps, n] |ln(p/m)| of held-out rows */
  double sum[64];
  int n_steps;
  int64_t n;
} inner;

static ptq_status hold_out_fold(const ptq_trees *kind, const ptq_tree_table *t,
                                const bool *keep, inner *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  BoosterHandle b = NULL;
  float *x = NULL;
  double *y = NULL, *p = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_alloc(&x, t->n * t->k, sizeof *x, "trees", err));
  PTQ_TRY(ptq_alloc(&y, t->n, sizeof *y, "trees", err));
  PTQ_TRY(ptq_alloc(&p, t->n, sizeof *p, "trees", err));
  PTQ_TRY(grow(kind, t, keep, kind->n_trees, &b, err));
  for (int64_t i = 0; i < t->n; i++) {
    if (keep[i]) continue;
    memcpy(x + n * t->k, t->x + i * t->k, (size_t)t->k * sizeof *x);
    y[n++] = t->y[i];
  }
  for (int k = 0; k < s->n_steps; k++) {
    const int rounds = kind->boosted ? (k + 1) * STEP : 0;
    PTQ_TRY(ask(b, x, n, t->k, rounds, p, err));
    for (int64_t i = 0; i < n; i++) {
      const double e = fabs(p[i] - y[i]);
      s->error[k * t->n + s->n + i] = e;
      s->sum[k] += e * e;
    }
  }
  s->n += n;
done:
  if (b != NULL) (void)XGBoosterFree(b);
  ptq_free(x);
  ptq_free(y);
  ptq_free(p);
  return rc;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Number of trees and the interval's half width, over models held out of the
 * training points. */
static ptq_status tune(ptq_grove *g, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_tree_table *t = &g->table;
  const int folds = ptq_tree_table_folds(t);
  inner s = {.n_steps = g->kind->boosted ? g->kind->n_trees / STEP : 1};
  bool *keep = NULL;
  g->n_trees = g->kind->n_trees;
  g->half = NAN;
  if (folds < 2) goto done;
  PTQ_TRY(ptq_alloc(&keep, t->n, sizeof *keep, "folds", err));
  PTQ_TRY(
      ptq_alloc(&s.error, s.n_steps * t->n, sizeof *s.error, "errors", err));
  /* many points: one fold is enough to judge by */
  const int tried = t->n > 600 ? 1 : folds;
  for (int f = 0; f < tried; f++) {
    for (int64_t i = 0; i < t->n; i++) keep[i] = t->cluster[i] % folds != f;
    PTQ_TRY(hold_out_fold(g->kind, t, keep, &s, err));
  }
  int best = 0;
  for (int k = 1; k < s.n_steps; k++)
    if (s.sum[k] < s.sum[best]) best = k;
  if (g->kind->boosted) g->n_trees = (best + 1) * STEP;
  double *e = s.error + best * t->n;
  qsort(e, (size_t)s.n, sizeof *e, compare_doubles);
  if (s.n > 0) g->half = e[(int64_t)(0.9 * (double)(s.n - 1))];
done:
  ptq_free(keep);
  ptq_free(s.error);
  return rc;
}

/* Without a landscape its kind of trees is the one without. */
static bool has_dearest(const ptq_trees *kind, const ptq_tree_table *t) {
  const ptq_tier tier = ptq_trees_tier(kind);
  bool found = tier < PTQ_TIER_LANDSCAPE;
  for (int64_t c = 0; c < t->k && !found; c++)
    found = t->column[c].feature != NULL && t->column[c].feature->tier == tier;
  return found;
}

ptq_status ptq_trees_learn(const ptq_trees *kind, const ptq_obs *const *obs,
                           int64_t n, ptq_grove **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_grove *g = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&g, 1, sizeof *g, kind->name, err));
  g->kind = kind;
  PTQ_TRY(ptq_tree_table_columns(kind, obs, n, &g->table, err));
  if (!has_dearest(kind, &g->table))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "%s: no point has a feature of tier '%s'; measure it, or "
                     "take another law",
                     kind->name, ptq_tier_name(ptq_trees_tier(kind))));
  PTQ_TRY(ptq_tree_table_fill(&g->table, obs, n, true, err));
  g->n_points = g->table.n;
  if (g->n_points < MIN_POINTS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "%s: %lld points are too few for trees; finish more of "
                     "the sweep",
                     kind->name, (long long)g->n_points));
  PTQ_TRY(tune(g, err));
  PTQ_TRY(grow(kind, &g->table, NULL, g->n_trees, &g->booster, err));
  *out = g;
  g = NULL;
done:
  ptq_grove_free(g);
  return rc;
}

void ptq_grove_free(ptq_grove *g) {
  if (g == NULL) return;
  if (g->booster != NULL) (void)XGBoosterFree(g->booster);
  ptq_tree_table_release(&g->table);
  ptq_free(g);
}

int ptq_grove_n_trees(const ptq_grove *g) {
  return g->n_trees;
}

int64_t ptq_grove_n_points(const ptq_grove *g) {
  return g->n_points;
}

ptq_status ptq_grove_predict(const ptq_grove *g, const ptq_obs *const *obs,
                             int64_t n, ptq_prediction *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  float *x = NULL;
  double *p = NULL;
  PTQ_TRY(ptq_alloc(&p, n, sizeof *p, "trees", err));
  PTQ_TRY(ptq_tree_table_rows(&g->table, obs, n, &x, out, err));
  PTQ_TRY(ask(g->booster, x, n, g->table.k, 0, p, err));
  for (int64_t i = 0; i < n; i++)
    if (out[i].why == NULL)
      out[i] = (ptq_prediction){exp(p[i]), exp(p[i] - g->half),
                                exp(p[i] + g->half), NULL};
done:
  ptq_free(x);
  ptq_free(p);
  return rc;
}

/* Mean |ln(p/m)| of the fold's rows after the columns of group `shuffled`
 * (-1: none) were permuted among them. */
static ptq_status fold_error(BoosterHandle b, const ptq_tree_table *t,
                             const bool *keep, int shuffled, uint64_t seed,
                             double *sum, int64_t *count, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  float *x = NULL;
  double *y = NULL, *p = NULL;
  int64_t n = 0;
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  PTQ_TRY(ptq_alloc(&x, t->n * t->k, sizeof *x, "importance", err));
  PTQ_TRY(ptq_alloc(&y, t->n, sizeof *y, "importance", err));
  PTQ_TRY(ptq_alloc(&p, t->n, sizeof *p, "importance", err));
  for (int64_t i = 0; i < t->n; i++) {
    if (keep[i]) continue;
    memcpy(x + n * t->k, t->x + i * t->k, (size_t)t->k * sizeof *x);
    y[n++] = t->y[i];
  }
  for (int64_t i = n - 1; i > 0 && shuffled >= 0; i--) {
    const int64_t j = (int64_t)ptq_rng_below(&rng, (uint64_t)i + 1);
    for (int64_t c = 0; c < t->k; c++) {
      if (t->column[c].group != shuffled) continue;
      const float v = x[i * t->k + c];
      x[i * t->k + c] = x[j * t->k + c];
      x[j * t->k + c] = v;
    }
  }
  PTQ_TRY(ask(b, x, n, t->k, 0, p, err));
  for (int64_t i = 0; i < n; i++) *sum += fabs(p[i] - y[i]);
  *count += n;
done:
  ptq_free(x);
  ptq_free(y);
  ptq_free(p);
  return rc;
}

static int compare_importance(const void *a, const void *b) {
  const ptq_importance *x = a, *y = b;
  if (x->growth != y->growth)
    return (x->growth < y->growth) - (x->growth > y->growth);
  return strcmp(x->name, y->name);
}

ptq_status ptq_trees_importance(const ptq_trees *kind,
                                const ptq_obs *const *obs, int64_t n,
                                ptq_importance **out, int64_t *n_out,
                                double *error, ptq_err *err) {
  enum { REPEATS = 5 };
  ptq_status rc = PTQ_OK;
  ptq_tree_table t = {0};
  BoosterHandle b = NULL;
  bool *keep = NULL;
  double base = 0.0;
  int64_t count = 0;
  *out = NULL;
  *n_out = 0;
  *error = NAN;
  PTQ_TRY(ptq_tree_table_columns(kind, obs, n, &t, err));
  PTQ_TRY(ptq_tree_table_fill(&t, obs, n, true, err));
  PTQ_TRY(ptq_alloc(&keep, t.n, sizeof *keep, "folds", err));
  PTQ_TRY(ptq_alloc(out, t.n_groups, sizeof **out, "importance", err));
  const int folds = ptq_tree_table_folds(&t);
  if (folds < 2 || t.n < MIN_POINTS) goto done;
  for (int f = 0; f < (t.n > 20000 ? 1 : folds); f++) {
    for (int64_t i = 0; i < t.n; i++) keep[i] = t.cluster[i] % folds != f;
    PTQ_TRY(grow(kind, &t, keep, kind->n_trees, &b, err));
    PTQ_TRY(fold_error(b, &t, keep, -1, 0, &base, &count, err));
    for (int g = 0; g < t.n_groups; g++) {
      int64_t unused = 0;
      for (int r = 0; r < REPEATS; r++)
        PTQ_TRY(fold_error(b, &t, keep, g, (uint64_t)(r + 1), &(*out)[g].growth,
                           &unused, err));
    }
    (void)XGBoosterFree(b);
    b = NULL;
  }
  *error = base / (double)count;
  *n_out = t.n_groups;
  for (int g = 0; g < t.n_groups; g++) {
    (*out)[g].growth = ((*out)[g].growth / REPEATS - base) / (double)count;
    (void)ptq_text_copy((*out)[g].name, PTQ_LEVEL_MAX, t.group[g]);
  }
  qsort(*out, (size_t)*n_out, sizeof **out, compare_importance);
done:
  if (b != NULL) (void)XGBoosterFree(b);
  if (rc != PTQ_OK) {
    ptq_free(*out);
    *out = NULL;
  }
  ptq_tree_table_release(&t);
  ptq_free(keep);
  return rc;
}
