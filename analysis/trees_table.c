/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "trees_table.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

static ptq_status push(ptq_tree_table *t, const ptq_tree_column *c,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (t->k == PTQ_TREE_COLUMNS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "trees: more than %d columns",
                     (int)PTQ_TREE_COLUMNS));
  PTQ_TRY(
      ptq_grow(&t->column, t->k, t->k + 1, sizeof *t->column, "columns", err));
  t->column[t->k++] = *c;
done:
  return rc;
}

static ptq_status push_levels(ptq_tree_table *t, const ptq_factor *f,
                              const ptq_obs *const *obs, int64_t n,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t first = t->k;
  for (int64_t i = 0; i < n; i++) {
    ptq_tree_column c = {.factor = f, .group = t->n_groups};
    if (!ptq_obs_learned(obs[i])) continue;
    f->get(obs[i], c.level, sizeof c.level);
    int64_t at = first;
    while (at < t->k && strcmp(t->column[at].level, c.level) != 0) at++;
    if (at == t->k) PTQ_TRY(push(t, &c, err));
  }
  t->group[t->n_groups++] = f->name;
done:
  return rc;
}

ptq_status ptq_tree_table_columns(const ptq_trees *kind,
                                  const ptq_obs *const *obs, int64_t n,
                                  ptq_tree_table *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *t = (ptq_tree_table){0};
  for (const char *const *name = kind->features; *name != NULL; name++) {
    const ptq_feature *f = ptq_feature_find(*name);
    bool known = false;
    for (int64_t i = 0; i < n && !known; i++) known = isfinite(f->get(obs[i]));
    if (!known) continue;
    const ptq_tree_column c = {.feature = f, .group = t->n_groups};
    PTQ_TRY(push(t, &c, err));
    t->group[t->n_groups++] = f->name;
  }
  for (const char *const *name = kind->factors; *name != NULL; name++)
    PTQ_TRY(push_levels(t, ptq_factor_find(*name), obs, n, err));
done:
  return rc;
}

/* One row; false where a factor's level has no column. */
static bool row_of(const ptq_tree_table *t, const ptq_obs *o, float *row) {
  char label[PTQ_LEVEL_MAX] = "";
  const ptq_factor *factor = NULL;
  bool found = true;
  for (int64_t c = 0; c < t->k; c++) {
    const ptq_tree_column *column = &t->column[c];
    if (column->feature != NULL) {
      const double v = column->feature->get(o);
      row[c] = isfinite(v) ? (float)v : NAN;
      continue;
    }
    if (column->factor != factor) {
      if (!found) return false;
      factor = column->factor;
      factor->get(o, label, sizeof label);
      found = false;
    }
    const bool same = strcmp(label, column->level) == 0;
    found = found || same;
    row[c] = same ? 1.0F : 0.0F;
  }
  return found;
}

ptq_status ptq_tree_table_fill(ptq_tree_table *t, const ptq_obs *const *obs,
                               int64_t n, bool wants_response, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char **model = NULL;
  PTQ_TRY(ptq_alloc(&t->x, n * t->k, sizeof *t->x, "trees", err));
  PTQ_TRY(ptq_alloc(&t->y, n, sizeof *t->y, "trees", err));
  PTQ_TRY(ptq_alloc(&t->cluster, n, sizeof *t->cluster, "trees", err));
  PTQ_TRY(ptq_alloc(&model, n, sizeof *model, "models", err));
  for (int64_t i = 0; i < n; i++) {
    if (!ptq_obs_learned(obs[i])) continue;
    double y = NAN;
    (void)ptq_obs_censoring(obs[i], &y);
    if (wants_response && !isfinite(y)) continue;
    (void)row_of(t, obs[i], t->x + t->n * t->k);
    int g = t->n_clusters - 1;
    while (g >= 0 && strcmp(model[g], obs[i]->run) != 0) g--;
    if (g < 0) {
      g = t->n_clusters;
      model[t->n_clusters++] = obs[i]->run;
    }
    t->cluster[t->n] = g;
    t->y[t->n++] = y;
  }
done:
  ptq_free(model);
  return rc;
}

ptq_status ptq_tree_table_rows(const ptq_tree_table *t,
                               const ptq_obs *const *obs, int64_t n, float **x,
                               ptq_prediction *out, ptq_err *err) {
  const ptq_status rc =
      ptq_alloc(x, n * t->k, sizeof **x, "rows for trees", err);
  for (int64_t i = 0; i < n && rc == PTQ_OK; i++) {
    const bool known = row_of(t, obs[i], *x + i * t->k);
    out[i] = (ptq_prediction){(double)NAN, (double)NAN, (double)NAN,
                              known ? NULL : "level"};
  }
  return rc;
}

int ptq_tree_table_folds(const ptq_tree_table *t) {
  enum { FOLDS = 5 };
  return t->n_clusters < FOLDS ? t->n_clusters : FOLDS;
}

void ptq_tree_table_release(ptq_tree_table *t) {
  ptq_free(t->column);
  ptq_free(t->x);
  ptq_free(t->y);
  ptq_free(t->cluster);
  *t = (ptq_tree_table){0};
}
