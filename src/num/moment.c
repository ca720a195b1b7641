/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/moment.h"

#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

int64_t ptq_moment_scratch(int64_t d) {
  return least(d, PTQ_MOMENT_PANEL) * d;
}

ptq_status ptq_moment_init(ptq_moment *m, int64_t d, ptq_err *err) {
  *m = (ptq_moment){.d = d};
  return ptq_alloc(&m->sum, d * d, sizeof *m->sum, "second moment", err);
}

void ptq_moment_release(ptq_moment *m) {
  ptq_free(m->sum);
  *m = (ptq_moment){0};
}

void ptq_moment_reset(ptq_moment *m) {
  memset(m->sum, 0, (size_t)(m->d * m->d) * sizeof *m->sum);
  m->n_tokens = 0;
}

int64_t ptq_moment_panels(int64_t d) {
  return (d + PTQ_MOMENT_PANEL - 1) / PTQ_MOMENT_PANEL;
}

void ptq_moment_product(int64_t d, int64_t panel, const float *x, int64_t n,
                        float *scratch) {
  const int64_t first = panel * PTQ_MOMENT_PANEL, ld = d - first;
  const int64_t rows = least(PTQ_MOMENT_PANEL, ld);
  ptq_ssyrk_upper(rows, n, x + first, d, scratch, ld);
  if (rows < ld)
    ptq_sgemm_tn(rows, ld - rows, n, 1.0F, x + first, d, x + first + rows, d,
                 0.0F, scratch + rows, ld);
}

void ptq_moment_add_panel(double *sum, int64_t d, int64_t panel,
                          const float *scratch) {
  const int64_t first = panel * PTQ_MOMENT_PANEL, ld = d - first;
  const int64_t rows = least(PTQ_MOMENT_PANEL, ld);
  for (int64_t i = 0; i < rows; i++)
    ptq_vec_accumulate(scratch + i * ld + i, ld - i, 1.0,
                       sum + (first + i) * (d + 1));
}

void ptq_moment_add(ptq_moment *m, const float *x, int64_t n, float *scratch) {
  if (n == 0) return;
  for (int64_t panel = 0; panel < ptq_moment_panels(m->d); panel++) {
    ptq_moment_product(m->d, panel, x, n, scratch);
    ptq_moment_add_panel(m->sum, m->d, panel, scratch);
  }
  m->n_tokens += n;
}

/* Copying the transpose tile by tile keeps both sides in cache. */
enum { TILE = 32 };

void ptq_moment_get(const ptq_moment *m, double *h) {
  PTQ_ASSERT(m->n_tokens > 0);
  const int64_t d = m->d;
  const double f = 1.0 / (double)m->n_tokens;
  for (int64_t i0 = 0; i0 < d; i0 += TILE)
    for (int64_t j0 = i0; j0 < d; j0 += TILE)
      for (int64_t i = i0; i < least(i0 + TILE, d); i++)
        for (int64_t j = j0 > i ? j0 : i; j < least(j0 + TILE, d); j++)
          h[i * d + j] = h[j * d + i] = m->sum[i * d + j] * f;
}

void ptq_moment_get_f32(const ptq_moment *m, float *h) {
  PTQ_ASSERT(m->n_tokens > 0);
  const int64_t d = m->d;
  const double f = 1.0 / (double)m->n_tokens;
  for (int64_t i0 = 0; i0 < d; i0 += TILE)
    for (int64_t j0 = i0; j0 < d; j0 += TILE)
      for (int64_t i = i0; i < least(i0 + TILE, d); i++)
        for (int64_t j = j0 > i ? j0 : i; j < least(j0 + TILE, d); j++)
          h[i * d + j] = h[j * d + i] = (float)(m->sum[i * d + j] * f);
}

double ptq_moment_quadratic(const float *a, int64_t rows, const float *h,
                            int64_t d, float *scratch) {
  /* H is symmetric: A H = A H'. */
  ptq_sgemm_nt(rows, d, d, 1.0F, a, d, h, d, 0.0F, scratch, d);
  return ptq_vec_dot(a, scratch, rows * d);
}
