/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/moment.h"

#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

ptq_status ptq_moment_init(ptq_moment *m, int64_t d, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *m = (ptq_moment){.d = d};
  PTQ_TRY(ptq_alloc(&m->sum, d * d, sizeof *m->sum, "second moment", err));
  PTQ_TRY(ptq_alloc(&m->scratch, d * d, sizeof *m->scratch,
                    "second moment of a window", err));
done:
  if (rc != PTQ_OK) ptq_moment_release(m);
  return rc;
}

void ptq_moment_release(ptq_moment *m) {
  ptq_free(m->sum);
  ptq_free(m->scratch);
  *m = (ptq_moment){0};
}

void ptq_moment_reset(ptq_moment *m) {
  memset(m->sum, 0, (size_t)(m->d * m->d) * sizeof *m->sum);
  m->n_tokens = 0;
}

void ptq_moment_add(ptq_moment *m, const float *x, int64_t n) {
  const int64_t d = m->d;
  if (n == 0) return;
  ptq_ssyrk_upper(d, n, x, d, m->scratch, d);
  for (int64_t i = 0; i < d; i++)
    ptq_vec_accumulate(m->scratch + i * d + i, d - i, 1.0, m->sum + i * d + i);
  m->n_tokens += n;
}

/* Copying the transpose tile by tile keeps both sides in cache. */
enum { TILE = 32 };

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

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
