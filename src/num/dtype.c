/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/dtype.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype_lanes.h"
#include "ptq/base/check.h"
#include "ptq/base/text.h"

extern const ptq_dtype_family ptq_dtype_int;
extern const ptq_dtype_family ptq_dtype_mxint;

static const ptq_dtype_family *const families[] = {
    &ptq_dtype_int,
    &ptq_dtype_mxint,
    NULL,
};

const ptq_dtype_family *const *ptq_dtype_families(void) {
  return families;
}

/* "int2..int8, mxint2..mxint8" */
static void known_spellings(char *text, size_t size) {
  size_t len = 0;
  text[0] = '\0';
  for (int i = 0; families[i] != NULL && len < size; i++) {
    const ptq_dtype_family *f = families[i];
    const int n =
        snprintf(text + len, size - len, "%s%s%d..%s%d", i > 0 ? ", " : "",
                 f->name, f->min_bits, f->name, f->max_bits);
    len += n > 0 ? (size_t)n : 0;
  }
}

static ptq_status unknown_dtype(const char *text, ptq_err *err) {
  enum { MAX = 128, LENGTH = 24 };
  static const char *const none = "";
  char spelled[MAX][LENGTH];
  const char *names[MAX];
  size_t n = 0;
  for (int i = 0; families[i] != NULL; i++)
    for (int b = families[i]->min_bits; b <= families[i]->max_bits; b++) {
      if (n == MAX) break;
      snprintf(spelled[n], LENGTH, "%s%d", families[i]->name, b);
      names[n] = spelled[n];
      n++;
    }
  char known[200];
  known_spellings(known, sizeof known);
  const char *near = ptq_text_nearest(text, names, n);
  return PTQ_FAIL(err, PTQ_E_ARG, "unknown dtype '%.40s'%s%s%s; known: %s",
                  text, near != NULL ? ", did you mean '" : none,
                  near != NULL ? near : none, near != NULL ? "'" : none, known);
}

ptq_status ptq_dtype_parse(const char *text, ptq_dtype *out, ptq_err *err) {
  *out = (ptq_dtype){0};
  const ptq_dtype_family *f = NULL;
  const char *digits = NULL;
  for (int i = 0; families[i] != NULL && f == NULL; i++) {
    const size_t n = strlen(families[i]->name);
    if (strncmp(text, families[i]->name, n) == 0 &&
        isdigit((unsigned char)text[n])) {
      f = families[i];
      digits = text + n;
    }
  }
  if (f == NULL) return unknown_dtype(text, err);
  char *end = NULL;
  const long bits = strtol(digits, &end, 10);
  if (*end != '\0' && *end != ':') return unknown_dtype(text, err);
  if (bits < f->min_bits || bits > f->max_bits || digits[0] == '0')
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "dtype '%.40s': %s has widths of %d to %d bits", text,
                    f->name, f->min_bits, f->max_bits);
  if (*end == ':' && end[1] == '\0')
    return PTQ_FAIL(err, PTQ_E_ARG, "dtype '%.40s': no option after the colon",
                    text);
  ptq_dtype dt = {.family = f, .bits = (int)bits};
  snprintf(dt.name, sizeof dt.name, "%s%ld", f->name, bits);
  const ptq_status rc = f->parse_options(&dt, *end == ':' ? end + 1 : end, err);
  if (rc == PTQ_OK) *out = dt;
  return rc;
}

int64_t ptq_dtype_groups(int64_t cols, int64_t group) {
  if (group <= 0) return 1;
  return cols / group + (cols % group != 0);
}

double ptq_dtype_storage_bits(const ptq_dtype *dt, int64_t rows, int64_t cols,
                              int64_t group) {
  const double groups =
      group == PTQ_GROUP_TENSOR
          ? 1.0
          : (double)rows * (double)ptq_dtype_groups(cols, group);
  return (double)rows * (double)cols * dt->bits +
         groups * dt->family->param_bits(dt);
}

static ptq_status overflow(const ptq_dtype *dt, double lo, double hi, int64_t n,
                           int64_t row, int64_t col, ptq_err *err) {
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
  *out = dt->family->fit(dt, x, n, inc);
  if (isfinite(out->scale)) return PTQ_OK;
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  return overflow(dt, (double)lo, (double)hi, n, row, col, err);
}

ptq_status ptq_dtype_fit64(const ptq_dtype *dt, double lo, double hi, int64_t n,
                           bool given, int64_t row, int64_t col,
                           ptq_group_params64 *out, ptq_err *err) {
  *out = dt->family->fit64(dt, lo, hi, given);
  if (isfinite(out->scale)) return PTQ_OK;
  return overflow(dt, lo, hi, n, row, col, err);
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

/* One group of a row; any of y, q may be NULL. */
static void round_group(const ptq_dtype *dt, const float *w, int64_t at,
                        int64_t n, const ptq_group_params *p, float *y,
                        int16_t *q) {
  dt->family->round(dt, w + at, n, p, 0, y != NULL ? y + at : NULL,
                    q != NULL ? q + at : NULL);
}

static ptq_status round_row(const ptq_dtype *dt, const float *w, int64_t row,
                            int64_t cols, int64_t group, float *y, int16_t *q,
                            ptq_group_params *params, ptq_err *err) {
  const int64_t groups = ptq_dtype_groups(cols, group);
  const int64_t width = group > 0 ? group : cols;
  for (int64_t g = 0; g < groups; g++) {
    const int64_t c = g * width;
    const int64_t n = cols - c < width ? cols - c : width;
    ptq_group_params p;
    const ptq_status rc =
        ptq_dtype_fit(dt, w + row * cols + c, n, 1, row, c, &p, err);
    if (rc != PTQ_OK) return rc;
    round_group(dt, w, row * cols + c, n, &p, y, q);
    if (params != NULL) params[row * groups + g] = p;
  }
  return PTQ_OK;
}

ptq_status ptq_dtype_round_matrix(const ptq_dtype *dt, const float *w,
                                  int64_t rows, int64_t cols, int64_t group,
                                  float *y, int16_t *q,
                                  ptq_group_params *params, ptq_err *err) {
  PTQ_ASSERT(group > 0 || group == PTQ_GROUP_ROW || group == PTQ_GROUP_TENSOR);
  ptq_status rc = ptq_dtype_check_finite(w, rows, cols, err);
  if (rc != PTQ_OK || rows <= 0 || cols <= 0) return rc;
  if (group == PTQ_GROUP_TENSOR) {
    ptq_group_params p;
    rc = ptq_dtype_fit(dt, w, rows * cols, 1, 0, 0, &p, err);
    if (rc != PTQ_OK) return rc;
    round_group(dt, w, 0, rows * cols, &p, y, q);
    if (params != NULL) *params = p;
    return PTQ_OK;
  }
  for (int64_t r = 0; r < rows && rc == PTQ_OK; r++)
    rc = round_row(dt, w, r, cols, group, y, q, params, err);
  return rc;
}
