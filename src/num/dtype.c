/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/dtype.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype_core.h"
#include "dtype_lanes.h"
#include "ptq/base/check.h"
#include "ptq/base/text.h"

extern const ptq_dtype_family ptq_dtype_int;
extern const ptq_dtype_family ptq_dtype_mxint;
extern const ptq_dtype_family ptq_dtype_bfp;
extern const ptq_dtype_family ptq_dtype_sbfp12;
extern const ptq_dtype_family ptq_dtype_mxfp4;
extern const ptq_dtype_family ptq_dtype_mxfp6_e2m3;
extern const ptq_dtype_family ptq_dtype_mxfp6_e3m2;
extern const ptq_dtype_family ptq_dtype_mxfp8_e4m3;
extern const ptq_dtype_family ptq_dtype_mxfp8_e5m2;
extern const ptq_dtype_family ptq_dtype_nvfp4;
extern const ptq_dtype_family ptq_dtype_fp8_e4m3;
extern const ptq_dtype_family ptq_dtype_fp8_e5m2;
extern const ptq_dtype_family ptq_dtype_nf;
extern const ptq_dtype_family ptq_dtype_af4;
extern const ptq_dtype_family ptq_dtype_fp4_bnb;
extern const ptq_dtype_family ptq_dtype_ternary;

static const ptq_dtype_family *const families[] = {
    &ptq_dtype_int,
    &ptq_dtype_mxint,
    &ptq_dtype_bfp,
    &ptq_dtype_sbfp12,
    &ptq_dtype_mxfp4,
    &ptq_dtype_mxfp6_e2m3,
    &ptq_dtype_mxfp6_e3m2,
    &ptq_dtype_mxfp8_e4m3,
    &ptq_dtype_mxfp8_e5m2,
    &ptq_dtype_nvfp4,
    &ptq_dtype_fp8_e4m3,
    &ptq_dtype_fp8_e5m2,
    &ptq_dtype_nf,
    &ptq_dtype_af4,
    &ptq_dtype_fp4_bnb,
    &ptq_dtype_ternary,
    NULL,
};

const ptq_dtype_family *const *ptq_dtype_families(void) {
  return families;
}

void ptq_dtype_spelling(const ptq_dtype_family *f, int bits,
                        char out[PTQ_DTYPE_NAME_MAX]) {
  if (f->bare)
    snprintf(out, PTQ_DTYPE_NAME_MAX, "%s%s", f->name, f->suffix);
  else
    snprintf(out, PTQ_DTYPE_NAME_MAX, "%s%d%s", f->name, bits, f->suffix);
}

/* "int2..int8, mxint2..mxint8, mxfp4" */
static void known_spellings(char *text, size_t size) {
  size_t len = 0;
  text[0] = '\0';
  for (int i = 0; families[i] != NULL && len < size; i++) {
    const ptq_dtype_family *f = families[i];
    char least[PTQ_DTYPE_NAME_MAX], most[PTQ_DTYPE_NAME_MAX];
    ptq_dtype_spelling(f, f->min_bits, least);
    ptq_dtype_spelling(f, f->max_bits, most);
    const bool one = f->min_bits == f->max_bits;
    const int n =
        snprintf(text + len, size - len, "%s%s%s%s", i > 0 ? ", " : "", least,
                 one ? "" : "..", one ? "" : most);
    len += n > 0 ? (size_t)n : 0;
  }
}

static ptq_status unknown_dtype(const char *text, ptq_err *err) {
  enum { MAX = 128 };
  static const char *const none = "";
  char spelled[MAX][PTQ_DTYPE_NAME_MAX];
  const char *names[MAX];
  size_t n = 0;
  for (int i = 0; families[i] != NULL; i++)
    for (int b = families[i]->min_bits; b <= families[i]->max_bits; b++) {
      if (n == MAX) break;
      ptq_dtype_spelling(families[i], b, spelled[n]);
      names[n] = spelled[n];
      n++;
    }
  char known[256];
  known_spellings(known, sizeof known);
  const char *near = ptq_text_nearest(text, names, n);
  return PTQ_FAIL(err, PTQ_E_ARG, "unknown dtype '%.40s'%s%s%s; known: %s",
                  text, near != NULL ? ", did you mean '" : none,
                  near != NULL ? near : none, near != NULL ? "'" : none, known);
}

/* True when text is the family's name, its width unless it is spelled bare, its
 * suffix and then the end or options, which *rest is set to. */
static bool spells(const ptq_dtype_family *f, const char *text, long *bits,
                   const char **rest) {
  const size_t n = strlen(f->name), tail = strlen(f->suffix);
  if (strncmp(text, f->name, n) != 0) return false;
  const char *end = text + n;
  if (f->bare) {
    *bits = f->max_bits;
  } else {
    if (!isdigit((unsigned char)*end)) return false;
    *bits = *end == '0' ? 0 : strtol(end, NULL, 10);
    end += strspn(end, "0123456789");
  }
  if (strncmp(end, f->suffix, tail) != 0) return false;
  *rest = end + tail;
  return **rest == '\0' || **rest == ':';
}

ptq_status ptq_dtype_parse(const char *text, ptq_dtype *out, ptq_err *err) {
  *out = (ptq_dtype){0};
  const ptq_dtype_family *f = NULL, *ranged = NULL;
  const char *rest = NULL;
  long bits = 0;
  for (int i = 0; families[i] != NULL && f == NULL; i++) {
    if (!spells(families[i], text, &bits, &rest)) continue;
    if (bits >= families[i]->min_bits && bits <= families[i]->max_bits)
      f = families[i];
    else if (families[i]->min_bits < families[i]->max_bits)
      ranged = families[i];
  }
  if (f == NULL && ranged != NULL)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "dtype '%.40s': %s has widths of %d to %d bits", text,
                    ranged->name, ranged->min_bits, ranged->max_bits);
  if (f == NULL) return unknown_dtype(text, err);
  if (*rest == ':' && rest[1] == '\0')
    return PTQ_FAIL(err, PTQ_E_ARG, "dtype '%.40s': no option after the colon",
                    text);
  ptq_dtype dt = {.family = f, .bits = (int)bits};
  ptq_dtype_spelling(f, dt.bits, dt.name);
  const ptq_status rc =
      ptq_dtype_parse_options(&dt, *rest == ':' ? rest + 1 : rest, err);
  if (rc == PTQ_OK) *out = dt;
  return rc;
}

float ptq_dtype_value(const ptq_dtype *dt, const ptq_group_params *p,
                      int code) {
  if (dt->family->value != NULL) return dt->family->value(dt, p, code);
  return p->scale * ((float)code - p->zero);
}

int64_t ptq_dtype_groups(int64_t cols, int64_t group) {
  if (group <= 0) return 1;
  return cols / group + (cols % group != 0);
}

ptq_status ptq_dtype_overflow(const ptq_dtype *dt, double lo, double hi,
                              int64_t n, int64_t row, int64_t col,
                              ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "the scale of the group at row %lld, column %lld overflows "
                  "as %s: its %lld weights range from %g to %g; rescale the "
                  "layer or leave it out",
                  (long long)row, (long long)col, dt->name, (long long)n, lo,
                  hi);
}

ptq_status ptq_dtype_fit(const ptq_dtype *dt, const float *x, int64_t n,
                         int64_t inc, int64_t row, int64_t col,
                         ptq_group_params *out, ptq_err *err) {
  PTQ_ASSERT(dt->matrix != NULL || !ptq_dtype_shares(dt));
  if ((dt->options & PTQ_OPTION_SEARCH) != 0)
    return ptq_dtype_search(dt, x, n, inc, row, col, out, err);
  *out = dt->family->fit(dt, x, n, inc);
  if (isfinite(out->scale) && !ptq_dtype_stores(dt)) return PTQ_OK;
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  ptq_dtype_store(dt, ptq_dtype_index(dt, row, col), (double)lo, (double)hi,
                  out);
  if (isfinite(out->scale)) return PTQ_OK;
  return ptq_dtype_overflow(dt, (double)lo, (double)hi, n, row, col, err);
}

ptq_status ptq_dtype_fit64(const ptq_dtype *dt, const ptq_group64 *g,
                           int64_t row, int64_t col, ptq_group_params64 *out,
                           ptq_err *err) {
  PTQ_ASSERT(dt->matrix != NULL || !ptq_dtype_shares(dt));
  if ((dt->options & PTQ_OPTION_SEARCH) != 0)
    return ptq_dtype_search64(dt, g, row, col, out, err);
  *out = dt->family->fit64(dt, g->lo, g->hi, g->given);
  if (ptq_dtype_stores(dt))
    ptq_dtype_store64(dt, ptq_dtype_index(dt, row, col), g->lo, g->hi, out);
  if (isfinite(out->scale)) return PTQ_OK;
  return ptq_dtype_overflow(dt, g->lo, g->hi, g->n, row, col, err);
}

ptq_status ptq_dtype_check_finite(const float *w, int64_t rows, int64_t cols,
                                  ptq_err *err) {
  for (int64_t r = 0; r < rows; r++) {
    const float *row = w + r * cols;
    if (ptq_lanes_finite(row, cols)) continue;
    int64_t c = 0;
    while (isfinite(row[c])) c++;
    return PTQ_FAIL(err, PTQ_E_NUMERIC, "weight at row %lld, column %lld is %s",
                    (long long)r, (long long)c, isnan(row[c]) ? "NaN" : "Inf");
  }
  return PTQ_OK;
}

/* Why the run of groups that holds w[row, col..] was not done. */
static ptq_status name_failure(const ptq_dtype *dt, const float *w,
                               int64_t rows, int64_t cols, int64_t group,
                               int64_t row, int64_t col, ptq_err *err) {
  ptq_group_params p;
  int64_t n = cols - col;
  if (group > 0 && group < n) n = group;
  if (group == PTQ_GROUP_TENSOR) n = rows * cols;
  ptq_status rc = ptq_dtype_check_finite(w, rows, cols, err);
  if (rc == PTQ_OK)
    rc = ptq_dtype_fit(dt, w + row * cols + col, n, 1, row, col, &p, err);
  PTQ_ASSERT(rc != PTQ_OK);
  return rc;
}

/* Values of a matrix that stays in no cache: 32 MB, as large as the third level
 * often is. Then a copy of it does not go through the caches either. */
#define STREAM_FROM 8388608.0

static ptq_status round_prepared(const ptq_dtype *dt, const float *w,
                                 int64_t rows, int64_t cols, int64_t group,
                                 float *y, int16_t *q, ptq_group_params *params,
                                 ptq_err *err) {
  const int64_t width = group > 0 ? group : cols;
  const int64_t groups = ptq_dtype_groups(cols, group);
  const bool stream = y != w && (double)rows * (double)cols > STREAM_FROM;
  if (group == PTQ_GROUP_TENSOR) {
    if (ptq_dtype_round_run(dt, 0, w, rows * cols, rows * cols, y, q, params,
                            stream) == 1)
      return PTQ_OK;
    return name_failure(dt, w, rows, cols, group, 0, 0, err);
  }
  for (int64_t r = 0; r < rows; r++) {
    const int64_t at = r * cols;
    const int64_t done = ptq_dtype_round_run(
        dt, r * groups, w + at, cols, width, y != NULL ? y + at : NULL,
        q != NULL ? q + at : NULL, params != NULL ? params + r * groups : NULL,
        stream);
    if (done < groups)
      return name_failure(dt, w, rows, cols, group, r, done * width, err);
  }
  return PTQ_OK;
}

ptq_status ptq_dtype_round_matrix(const ptq_dtype *dt, const float *w,
                                  int64_t rows, int64_t cols, int64_t group,
                                  float *y, int16_t *q,
                                  ptq_group_params *params, ptq_err *err) {
  PTQ_ASSERT(group > 0 || group == PTQ_GROUP_ROW || group == PTQ_GROUP_TENSOR);
  ptq_status rc = PTQ_OK;
  if (rows <= 0 || cols <= 0) return PTQ_OK;
  ptq_dtype prepared = *dt;
  ptq_dtype_matrix state = {0};
  if (dt->matrix == NULL)
    PTQ_TRY(
        ptq_dtype_prepare(dt, w, rows, cols, group, &state, &prepared, err));
  rc = round_prepared(&prepared, w, rows, cols, group, y, q, params, err);
done:
  ptq_dtype_matrix_release(&state);
  return rc;
}
