/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/matrix.h"

#include <gsl/gsl_blas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "least_squares.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

enum { FACTOR_MAX = 8 };

/* A column whose part orthogonal to the earlier ones is this much shorter
 * than itself is a combination of them. Rounding leaves about 1e-15 times the
 * condition of the earlier columns. */
static const double collinear_tol = 1e-9;

/* The labels of one point, each factor asked once. */
typedef struct labels {
  const ptq_factor *factor[FACTOR_MAX];
  char text[FACTOR_MAX][PTQ_LEVEL_MAX];
  int n;
} labels;

static const char *label_of(labels *l, const ptq_factor *f, const ptq_obs *o) {
  for (int i = 0; i < l->n; i++)
    if (l->factor[i] == f) return l->text[i];
  PTQ_ASSERT(l->n < FACTOR_MAX);
  l->factor[l->n] = f;
  f->get(o, l->text[l->n], PTQ_LEVEL_MAX);
  return l->text[l->n++];
}

static double column_value(const ptq_column *c, labels *l, const ptq_obs *o) {
  double v = 1.0;
  for (int p = 0; p < c->term.n_parts; p++) {
    const ptq_part *part = &c->term.parts[p];
    if (part->factor == NULL)
      v *= ptq_part_value(part, o);
    else if (strcmp(label_of(l, part->factor, o), c->level[p]) != 0)
      return 0.0;
  }
  return v;
}

bool ptq_matrix_row(const ptq_matrix *m, const ptq_obs *o, double *row,
                    const char **why) {
  labels l = {.n = 0};
  bool known = m->n_levels == 0;
  for (int64_t i = 0; i < m->n_levels; i++) {
    const ptq_level *v = &m->levels[i];
    const bool last =
        i + 1 == m->n_levels || m->levels[i + 1].factor != v->factor;
    known = known || strcmp(label_of(&l, v->factor, o), v->name) == 0;
    if (last && !known) {
      if (why != NULL) *why = "level";
      return false;
    }
    if (last) known = i + 1 == m->n_levels;
  }
  for (int64_t j = 0; j < m->k; j++) {
    row[j] = column_value(&m->columns[j], &l, o);
    if (!isfinite(row[j])) {
      if (why != NULL) *why = "value";
      return false;
    }
  }
  return true;
}

/* Counts a point the part has no value for; *at is the part's number. */
static ptq_status count_unusable(ptq_matrix *m, const ptq_part *part, int *at,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char name[PTQ_COLUMN_NAME];
  ptq_part_name(part, name, sizeof name);
  for (int64_t i = 0; i < m->n_unusable; i++)
    if (strcmp(m->unusable[i].name, name) == 0) {
      m->unusable[i].n++;
      *at = (int)i;
      goto done;
    }
  PTQ_TRY(ptq_grow(&m->unusable, m->n_unusable, m->n_unusable + 1,
                   sizeof *m->unusable, "unusable columns", err));
  m->unusable[m->n_unusable].n = 1;
  *at = (int)m->n_unusable;
  (void)ptq_text_copy(m->unusable[m->n_unusable++].name, PTQ_COLUMN_NAME, name);
done:
  return rc;
}

static bool repeated_part(const ptq_formula *f, int term, int part) {
  const ptq_part *a = &f->terms[term].parts[part];
  for (int t = 0; t <= term; t++)
    for (int p = 0; p < (t == term ? part : f->terms[t].n_parts); p++) {
      const ptq_part *b = &f->terms[t].parts[p];
      if (a->feature == b->feature && a->factor == b->factor &&
          a->transform == b->transform)
        return true;
    }
  return false;
}

static ptq_status choose_rows(const ptq_formula *f, const ptq_obs *const *obs,
                              int64_t n, ptq_matrix *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_alloc(&m->obs, n, sizeof *m->obs, "rows", err));
  PTQ_TRY(ptq_alloc(&m->lost, n, sizeof *m->lost, "rows", err));
  PTQ_TRY(ptq_alloc(&m->lost_for, n, sizeof *m->lost_for, "rows", err));
  for (int64_t i = 0; i < n; i++) {
    int reason = -1;
    for (int t = 0; t < f->n_terms; t++)
      for (int p = 0; p < f->terms[t].n_parts; p++) {
        const ptq_part *part = &f->terms[t].parts[p];
        if (part->feature == NULL || repeated_part(f, t, p) ||
            isfinite(ptq_part_value(part, obs[i])))
          continue;
        int at = 0;
        PTQ_TRY(count_unusable(m, part, &at, err));
        if (reason < 0) reason = at;
      }
    if (reason < 0) {
      m->obs[m->n++] = obs[i];
      continue;
    }
    m->lost[m->n_lost] = obs[i];
    m->lost_for[m->n_lost++] = reason;
  }
  if (m->n == 0 && n > 0)
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "fit: none of %lld points has a finite '%s'; leave it out "
                  "of the formula",
                  (long long)n, m->unusable[0].name);
  else if (n == 0)
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "fit: no finished point to fit; 'ptqsweep status' says "
                  "what is missing");
done:
  return rc;
}

/* Numbers for the texts of a label, in order of first appearance. */
static ptq_status number_clusters(ptq_matrix *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char **runs = NULL, **families = NULL;
  const ptq_model_row **models = NULL;
  PTQ_TRY(ptq_alloc(&m->cluster, m->n, sizeof *m->cluster, "clusters", err));
  PTQ_TRY(ptq_alloc(&runs, m->n, sizeof *runs, "runs", err));
  PTQ_TRY(ptq_alloc(&models, m->n, sizeof *models, "models", err));
  PTQ_TRY(ptq_alloc(&families, m->n, sizeof *families, "families", err));
  for (int64_t i = 0; i < m->n; i++) {
    const ptq_point_row *p = m->obs[i]->point;
    const char *run = m->obs[i]->run;
    int c = 0;
    /* grid order keeps a model's points together: the last one is likely */
    if (m->n_clusters > 0 && strcmp(runs[m->n_clusters - 1], run) == 0)
      c = m->n_clusters - 1;
    while (c < m->n_clusters && strcmp(runs[c], run) != 0) c++;
    if (c == m->n_clusters) runs[m->n_clusters++] = run;
    m->cluster[i] = c;
    int k = m->n_models - 1; /* likely the last one again */
    while (k >= 0 && models[k] != m->obs[i]->model) k--;
    if (k < 0) models[m->n_models++] = m->obs[i]->model;
    int f = 0;
    while (f < m->n_families && strcmp(families[f], p->family) != 0) f++;
    if (f == m->n_families) families[m->n_families++] = p->family;
  }
done:
  ptq_free(runs);
  ptq_free(models);
  ptq_free(families);
  return rc;
}

static int compare_levels(const void *a, const void *b) {
  return strcmp(((const ptq_level *)a)->name, ((const ptq_level *)b)->name);
}

static ptq_status collect_levels(ptq_matrix *m, const ptq_factor *f,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t first = m->n_levels;
  for (int64_t i = 0; i < m->n; i++) {
    char text[PTQ_LEVEL_MAX];
    f->get(m->obs[i], text, sizeof text);
    int64_t v = first;
    while (v < m->n_levels && strcmp(m->levels[v].name, text) != 0) v++;
    if (v < m->n_levels) continue;
    PTQ_TRY(ptq_grow(&m->levels, m->n_levels, m->n_levels + 1,
                     sizeof *m->levels, "levels", err));
    m->levels[m->n_levels].factor = f;
    (void)ptq_text_copy(m->levels[m->n_levels++].name, PTQ_LEVEL_MAX, text);
  }
  qsort(m->levels + first, (size_t)(m->n_levels - first), sizeof *m->levels,
        compare_levels);
  ptq_level *base = &m->levels[first];
  for (int64_t v = first; f->reference != NULL && v < m->n_levels; v++)
    if (strcmp(m->levels[v].name, f->reference) == 0) base = &m->levels[v];
  base->reference = true;
done:
  return rc;
}

static ptq_status collect_all_levels(ptq_matrix *m, const ptq_formula *f,
                                     ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int t = 0; t < f->n_terms; t++)
    for (int p = 0; p < f->terms[t].n_parts; p++)
      if (f->terms[t].parts[p].factor != NULL && !repeated_part(f, t, p))
        PTQ_TRY(collect_levels(m, f->terms[t].parts[p].factor, err));
done:
  return rc;
}

static void name_column(ptq_column *c) {
  size_t at = 0;
  for (int p = 0; p < c->term.n_parts; p++) {
    char part[PTQ_COLUMN_NAME];
    ptq_part_name(&c->term.parts[p], part, sizeof part);
    const bool factor = c->term.parts[p].factor != NULL;
    const int wrote = snprintf(c->name + at, sizeof c->name - at, "%s%s%s%s%s",
                               p > 0 ? ":" : "", part, factor ? "[" : "",
                               factor ? c->level[p] : "", factor ? "]" : "");
    at += wrote > 0 ? (size_t)wrote : 0;
    if (at >= sizeof c->name) at = sizeof c->name - 1;
  }
  if (c->term.n_parts == 0)
    (void)ptq_text_copy(c->name, sizeof c->name, "(intercept)");
}

static ptq_status push_column(ptq_matrix *m, const ptq_column *c,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (m->k == PTQ_COLUMN_MAX) {
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "fit: the formula has more than %d columns; '%s' is one "
                  "too many",
                  PTQ_COLUMN_MAX, c->name);
    goto done;
  }
  PTQ_TRY(ptq_grow(&m->columns, m->k, m->k + 1, sizeof *m->columns, "columns",
                   err));
  m->columns[m->k++] = *c;
done:
  return rc;
}

/* All combinations of the term's factors' levels, the reference level only
 * where the formula lacks the margin. */
static ptq_status expand_term(ptq_matrix *m, const ptq_formula *formula,
                              ptq_column *c, int part, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (part == c->term.n_parts) {
    name_column(c);
    return push_column(m, c, err);
  }
  const ptq_factor *f = c->term.parts[part].factor;
  if (f == NULL) return expand_term(m, formula, c, part + 1, err);
  const bool all = ptq_formula_all_levels(formula, &c->term, part);
  for (int64_t v = 0; v < m->n_levels; v++) {
    if (m->levels[v].factor != f || (m->levels[v].reference && !all)) continue;
    (void)ptq_text_copy(c->level[part], PTQ_LEVEL_MAX, m->levels[v].name);
    PTQ_TRY(expand_term(m, formula, c, part + 1, err));
  }
done:
  return rc;
}

static ptq_status expand(ptq_matrix *m, const ptq_formula *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_column c = {.term = {.n_parts = 0}};
  name_column(&c);
  PTQ_TRY(push_column(m, &c, err));
  for (int t = 0; t < f->n_terms; t++) {
    c = (ptq_column){.term = f->terms[t]};
    PTQ_TRY(expand_term(m, f, &c, 0, err));
  }
done:
  return rc;
}

static ptq_status drop(ptq_matrix *m, const char *name, const char *why,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_grow(&m->dropped, m->n_dropped, m->n_dropped + 1,
                   sizeof *m->dropped, "dropped columns", err));
  (void)ptq_text_copy(m->dropped[m->n_dropped].name, PTQ_COLUMN_NAME, name);
  (void)ptq_text_copy(m->dropped[m->n_dropped].why, sizeof m->dropped->why,
                      why);
  m->n_dropped++;
done:
  return rc;
}

static bool has_column(const ptq_matrix *m, const ptq_factor *f) {
  for (int64_t j = 0; j < m->k; j++)
    for (int p = 0; p < m->columns[j].term.n_parts; p++)
      if (m->columns[j].term.parts[p].factor == f) return true;
  return false;
}

/* A factor without a second level has no column: say so all the same. */
static ptq_status drop_single_levels(ptq_matrix *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t v = 0; v < m->n_levels; v++) {
    const ptq_level *l = &m->levels[v];
    if ((v > 0 && m->levels[v - 1].factor == l->factor) ||
        (v + 1 < m->n_levels && m->levels[v + 1].factor == l->factor) ||
        has_column(m, l->factor))
      continue;
    char why[160];
    (void)snprintf(why, sizeof why, "constant: every point has '%.80s'",
                   l->name);
    PTQ_TRY(drop(m, l->factor->name, why, err));
  }
done:
  return rc;
}

static double dot(const double *a, const double *b, int64_t n) {
  double s = 0.0;
  for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
  return s;
}

static bool is_constant(const double *v, int64_t n) {
  for (int64_t i = 1; i < n; i++)
    if (v[i] != v[0]) return false;
  return true;
}

/* Gram-Schmidt, twice, in the formula's order; q holds the kept columns. */
static bool adds_direction(double *q, int64_t kept, double *v, int64_t n) {
  const double before = sqrt(dot(v, v, n));
  if (!(before > 0.0)) return false;
  gsl_vector_view vv = gsl_vector_view_array(v, (size_t)n);
  for (int pass = 0; pass < 2 && kept > 0; pass++) {
    double s[PTQ_COLUMN_MAX];
    const gsl_matrix_const_view qv =
        gsl_matrix_const_view_array(q, (size_t)kept, (size_t)n);
    gsl_vector_view sv = gsl_vector_view_array(s, (size_t)kept);
    (void)gsl_blas_dgemv(CblasNoTrans, 1.0, &qv.matrix, &vv.vector, 0.0,
                         &sv.vector);
    (void)gsl_blas_dgemv(CblasTrans, -1.0, &qv.matrix, &sv.vector, 1.0,
                         &vv.vector);
  }
  const double after = sqrt(dot(v, v, n));
  if (after <= collinear_tol * before) return false;
  for (int64_t i = 0; i < n; i++) v[i] /= after;
  return true;
}

/* r of x = Q r. Is each column longer orthogonally to those before it than
 * what rounding leaves? */
static ptq_status independent(ptq_matrix *m, bool *all, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = m->k;
  *all = m->n >= k;
  if (!*all) goto done;
  PTQ_TRY(ptq_qr_factor(m->x, m->n, k, m->r, err));
  for (int64_t j = 0; j < k; j++) {
    double norm = 0.0;
    for (int64_t i = 0; i <= j; i++) norm += m->r[i * k + j] * m->r[i * k + j];
    if (!(fabs(m->r[j * k + j]) > collinear_tol * sqrt(norm))) *all = false;
  }
done:
  return rc;
}

/* The columns that add a direction, one after the other. */
static ptq_status sift(ptq_matrix *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = m->n, k = m->k;
  double *q = NULL;
  int64_t kept = 0;
  PTQ_TRY(ptq_alloc(&q, (k + 1) * n, sizeof *q, "orthogonal columns", err));
  for (int64_t j = 0; j < k; j++) {
    double *v = q + kept * n;
    for (int64_t i = 0; i < n; i++) v[i] = m->x[i * k + j];
    char why[160] = "a linear combination of the columns before it";
    const bool constant = j > 0 && is_constant(v, n);
    if (constant)
      (void)snprintf(why, sizeof why, "constant: %.6g at every point", v[0]);
    if (constant || !adds_direction(q, kept, v, n)) {
      PTQ_TRY(drop(m, m->columns[j].name, why, err));
      continue;
    }
    m->columns[kept] = m->columns[j];
    for (int64_t i = 0; i < n; i++) m->x[i * k + kept] = m->x[i * k + j];
    kept++;
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < kept; j++) m->x[i * kept + j] = m->x[i * k + j];
  m->k = kept;
  if (n >= kept) PTQ_TRY(ptq_qr_factor(m->x, n, kept, m->r, err));
done:
  ptq_free(q);
  return rc;
}

static ptq_status drop_columns(ptq_matrix *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool all = false;
  PTQ_TRY(ptq_alloc(&m->r, m->k * m->k, sizeof *m->r, "model matrix", err));
  PTQ_TRY(independent(m, &all, err));
  if (!all) PTQ_TRY(sift(m, err));
done:
  return rc;
}

ptq_status ptq_matrix_build(const ptq_formula *formula,
                            const ptq_obs *const *obs, int64_t n,
                            ptq_matrix *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_matrix){0};
  PTQ_TRY(choose_rows(formula, obs, n, out, err));
  PTQ_TRY(number_clusters(out, err));
  PTQ_TRY(collect_all_levels(out, formula, err));
  PTQ_TRY(expand(out, formula, err));
  PTQ_TRY(drop_single_levels(out, err));
  PTQ_TRY(
      ptq_alloc(&out->x, out->n * out->k, sizeof *out->x, "model matrix", err));
  for (int64_t i = 0; i < out->n; i++) {
    const bool whole =
        ptq_matrix_row(out, out->obs[i], out->x + i * out->k, NULL);
    if (!whole) {
      rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "fit: a product of columns overflows at point '%s'",
                    out->obs[i]->point->key);
      goto done;
    }
  }
  const int64_t asked = out->k;
  PTQ_TRY(drop_columns(out, err));
  if (out->n <= out->k)
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "fit: %lld points cannot determine %lld coefficients; "
                  "finish more of the sweep or shorten the formula",
                  (long long)out->n, (long long)asked);
done:
  if (rc != PTQ_OK) ptq_matrix_release(out);
  return rc;
}

ptq_tier ptq_matrix_tier(const ptq_matrix *m) {
  ptq_tier tier = PTQ_TIER_CONFIG;
  for (int64_t j = 0; j < m->k; j++)
    for (int p = 0; p < m->columns[j].term.n_parts; p++) {
      const ptq_feature *f = m->columns[j].term.parts[p].feature;
      if (f != NULL && f->tier > tier) tier = f->tier;
    }
  return tier;
}

void ptq_matrix_release(ptq_matrix *m) {
  ptq_free(m->x);
  ptq_free(m->r);
  ptq_free(m->obs);
  ptq_free(m->lost);
  ptq_free(m->lost_for);
  ptq_free(m->cluster);
  ptq_free(m->columns);
  ptq_free(m->levels);
  ptq_free(m->dropped);
  ptq_free(m->unusable);
  *m = (ptq_matrix){0};
}
