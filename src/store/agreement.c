/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "agreement.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"

static double number_at(const ptq_field *f, const void *row) {
  double v;
  memcpy(&v, (const char *)row + f->offset, sizeof v);
  return v;
}

/* A store of a lower schema may lack the column: what its row has there is no
 * result. */
static bool may_lack(const ptq_source *s, const ptq_field *f, const void *row) {
  return s->sets.schema < PTQ_STORE_SCHEMA && f->kind == PTQ_KIND_F64 &&
         isnan(number_at(f, row));
}

/* Rows of a table in two stores. */
typedef struct rows {
  const ptq_source *source;
  const void *at;
} rows;

static const void *row_of(const rows *r, const ptq_table *t, int64_t i) {
  return (const char *)r->at + (size_t)i * t->row_size;
}

/* First column whose bits differ, NULL if none; `owner` is not compared. */
static const ptq_field *first_difference(const ptq_table *t, const rows *a,
                                         const rows *b, int64_t row,
                                         const char *owner) {
  const void *x = row_of(a, t, row), *y = row_of(b, t, row);
  for (size_t i = 0; i < t->n_fields; i++) {
    const ptq_field *f = &t->fields[i];
    if (owner != NULL && strcmp(f->name, owner) == 0) continue;
    if (!ptq_field_same(f, x, y) && !may_lack(a->source, f, x) &&
        !may_lack(b->source, f, y))
      return f;
  }
  return NULL;
}

static bool same_rows(const ptq_table *t, const rows *a, const rows *b,
                      int64_t n, const char *owner, char how[160]) {
  for (int64_t i = 0; i < n; i++) {
    const ptq_field *f = first_difference(t, a, b, i, owner);
    if (f == NULL) continue;
    (void)snprintf(how, 160, "'%s' of row %lld of its %s differs", f->name,
                   (long long)i, t->name);
    return false;
  }
  return true;
}

static bool same_results(const ptq_table *t, const rows *a, const rows *b,
                         char how[160]) {
  for (size_t i = 0; i < t->n_fields; i++) {
    const ptq_field *f = &t->fields[i];
    if (f->kind != PTQ_KIND_F64 ||
        memcmp((const char *)a->at + f->offset, (const char *)b->at + f->offset,
               f->size) == 0 ||
        may_lack(a->source, f, a->at) || may_lack(b->source, f, b->at))
      continue;
    (void)snprintf(how, 160, "%s is %.17g and %.17g", f->name,
                   number_at(f, a->at), number_at(f, b->at));
    return false;
  }
  return true;
}

/* Rows [at, at + n) of one set in each store. */
static ptq_status compare_part(const ptq_source *a, const int64_t *in_a,
                               const ptq_source *b, const int64_t *in_b,
                               ptq_set_id id, const char *owner, char how[160],
                               bool *agree, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  void *rows_a = NULL, *rows_b = NULL;
  const ptq_table *t = ptq_set_get(id)->table();
  const int64_t n = in_a[1] - in_a[0];
  if (n != in_b[1] - in_b[0]) {
    (void)snprintf(how, 160, "the number of its %s differs", t->name);
    *agree = false;
    return PTQ_OK;
  }
  PTQ_TRY(ptq_source_rows(a, id, in_a[0], n, &rows_a, err));
  PTQ_TRY(ptq_source_rows(b, id, in_b[0], n, &rows_b, err));
  const rows x = {a, rows_a}, y = {b, rows_b};
  *agree = same_rows(t, &x, &y, n, owner, how);
done:
  ptq_free(rows_a);
  ptq_free(rows_b);
  return rc;
}

/* Spectrum of a site of a subject, -1 if there is none. */
static int64_t find_site(const ptq_source *s, int64_t subject,
                         const char *site) {
  for (int64_t i = 0; i < s->sets.n_spectra; i++)
    if (s->sets.spectra[i].subject == subject &&
        strcmp(s->sets.spectra[i].site, site) == 0)
      return i;
  return -1;
}

static ptq_status read_values(const ptq_source *s, int64_t i,
                              unsigned char **out, size_t *size, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_h5_set set = PTQ_H5_SET_NONE;
  PTQ_TRY(ptq_sets_spectrum(&s->sets, i, &set, err));
  *size = (size_t)set.rows * set.row_bytes;
  PTQ_TRY(ptq_alloc(out, (int64_t)*size, 1, "spectrum", err));
  PTQ_TRY(ptq_h5_read(&set, 0, set.rows, *out, err));
done:
  ptq_h5_close(&set);
  return rc;
}

/* The spectra that both stores have. */
static ptq_status compare_spectra(const ptq_source *a, int64_t row_a,
                                  const ptq_source *b, int64_t row_b,
                                  char how[160], bool *agree, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  unsigned char *x = NULL, *y = NULL;
  for (int64_t i = 0; i < a->sets.n_spectra && *agree; i++) {
    const ptq_spectrum_slot *slot = &a->sets.spectra[i];
    const int64_t k = find_site(b, row_b, slot->site);
    size_t n = 0, m = 0;
    if (slot->subject != row_a || k < 0) continue;
    PTQ_TRY(read_values(a, i, &x, &n, err));
    PTQ_TRY(read_values(b, k, &y, &m, err));
    *agree = n == m && memcmp(x, y, n) == 0;
    if (!*agree)
      (void)snprintf(how, 160, "the spectrum of '%s' differs", slot->site);
    ptq_free(x);
    ptq_free(y);
    x = y = NULL;
  }
done:
  ptq_free(x);
  ptq_free(y);
  return rc;
}

ptq_status ptq_agreement_bits(const ptq_source *a, int64_t row_a,
                              const ptq_source *b, int64_t row_b, bool model,
                              char how[160], bool *agree, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &a->sets, *t = &b->sets;
  if (model) {
    const rows x = {a, &a->models[row_a]}, y = {b, &b->models[row_b]};
    *agree = same_results(ptq_table_get(PTQ_TABLE_MODELS), &x, &y, how);
    if (*agree)
      PTQ_TRY(compare_part(a, s->first_baseline + row_a, b,
                           t->first_baseline + row_b, PTQ_SET_BASELINE,
                           "subject", how, agree, err));
    if (*agree)
      PTQ_TRY(compare_part(a, s->first_baseline_answer + row_a, b,
                           t->first_baseline_answer + row_b,
                           PTQ_SET_BASELINE_ANSWERS, "subject", how, agree,
                           err));
    if (*agree) PTQ_TRY(compare_spectra(a, row_a, b, row_b, how, agree, err));
    goto done;
  }
  const rows x = {a, &a->points[row_a]}, y = {b, &b->points[row_b]};
  *agree = same_results(ptq_table_get(PTQ_TABLE_POINTS), &x, &y, how);
  if (*agree)
    PTQ_TRY(compare_part(a, s->first_layer + row_a, b, t->first_layer + row_b,
                         PTQ_SET_LAYERS, "point", how, agree, err));
  if (*agree)
    PTQ_TRY(compare_part(a, s->first_window + row_a, b, t->first_window + row_b,
                         PTQ_SET_WINDOWS, "point", how, agree, err));
  if (*agree)
    PTQ_TRY(compare_part(a, s->first_answer + row_a, b, t->first_answer + row_b,
                         PTQ_SET_ANSWERS, "point", how, agree, err));
done:
  return rc;
}

ptq_status ptq_agreement_direction(const ptq_source *a, int64_t row_a,
                                   const ptq_source *b, int64_t row_b,
                                   char how[160], bool *agree, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &a->sets, *t = &b->sets;
  const rows x = {a, &a->directions[row_a]}, y = {b, &b->directions[row_b]};
  *agree = same_results(ptq_table_get(PTQ_TABLE_DIRECTIONS), &x, &y, how);
  if (*agree)
    PTQ_TRY(compare_part(a, s->first_profile + row_a, b,
                         t->first_profile + row_b, PTQ_SET_PROFILES,
                         "direction", how, agree, err));
  if (*agree)
    PTQ_TRY(compare_part(a, s->first_direction_layer + row_a, b,
                         t->first_direction_layer + row_b,
                         PTQ_SET_DIRECTION_LAYERS, "direction", how, agree,
                         err));
  if (*agree)
    PTQ_TRY(compare_part(a, s->first_ritz + row_a, b, t->first_ritz + row_b,
                         PTQ_SET_RITZ, "direction", how, agree, err));
done:
  return rc;
}

bool ptq_agreement_close(const ptq_source *a, int64_t row_a,
                         const ptq_source *b, int64_t row_b, bool model,
                         double tolerance, char how[160]) {
  const ptq_table *t =
      ptq_table_get(model ? PTQ_TABLE_MODELS : PTQ_TABLE_POINTS);
  const void *x =
      model ? (const void *)&a->models[row_a] : (const void *)&a->points[row_a];
  const void *y =
      model ? (const void *)&b->models[row_b] : (const void *)&b->points[row_b];
  for (size_t i = 0; i < t->n_fields; i++) {
    const ptq_field *f = &t->fields[i];
    if (f->kind != PTQ_KIND_F64) continue;
    const double u = number_at(f, x), v = number_at(f, y);
    const double scale = fmax(1.0, fmax(fabs(u), fabs(v)));
    if (u == v || (isnan(u) && isnan(v)) || fabs(u - v) <= tolerance * scale)
      continue;
    (void)snprintf(how, 160, "%s is %.9g and %.9g", f->name, u, v);
    return false;
  }
  return true;
}
