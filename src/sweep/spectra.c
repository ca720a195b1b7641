/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "spectra.h"

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

static const char *const names[PTQ_SPECTRA_ROWS] = {
    "attn_in",         "attn_out",         "mlp_in",         "mlp_out",
    "attn_in_nofirst", "attn_out_nofirst", "mlp_in_nofirst", "mlp_out_nofirst"};

const char *ptq_spectra_name(int i) {
  PTQ_ASSERT(i >= 0 && i < PTQ_SPECTRA_ROWS);
  return names[i];
}

ptq_site ptq_spectra_site(int i) {
  return (ptq_site)(i % PTQ_SITE_COUNT);
}

ptq_status ptq_spectra_init(ptq_spectra *s, const ptq_model_info *info,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t largest = 0;
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    const int64_t d = ptq_site_width(info, (ptq_site)i);
    PTQ_TRY(ptq_moment_init(&s->rest[i], d, err));
    PTQ_TRY(ptq_moment_init(&s->first[i], d, err));
    if (d > largest) largest = d;
  }
  PTQ_TRY(ptq_alloc(&s->matrix, largest * largest, sizeof(double), "H", err));
  for (int i = 0; i < PTQ_SPECTRA_ROWS; i++) {
    const int64_t d = ptq_site_width(info, ptq_spectra_site(i));
    PTQ_TRY(ptq_alloc(&s->values[i], info->n_blocks * d, sizeof(double),
                      "eigenvalues", err));
    s->rows[i] = (ptq_spectrum){.site = names[i],
                                .n_blocks = info->n_blocks,
                                .d = d,
                                .values = s->values[i]};
  }
  s->n_rows = PTQ_SPECTRA_ROWS;
done:
  return rc;
}

void ptq_spectra_release(ptq_spectra *s) {
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    ptq_moment_release(&s->rest[i]);
    ptq_moment_release(&s->first[i]);
  }
  for (int i = 0; i < PTQ_SPECTRA_ROWS; i++) ptq_free(s->values[i]);
  ptq_free(s->matrix);
  *s = (ptq_spectra){0};
}

static ptq_status collect(void *ctx, ptq_site site, const float *x, int64_t n,
                          int64_t width, ptq_err *err) {
  ptq_spectra *s = ctx;
  (void)err;
  ptq_moment_add(&s->first[site], x, 1);
  if (n > 1) ptq_moment_add(&s->rest[site], x + width, n - 1);
  return PTQ_OK;
}

/* Eigenvalues of `m` into row `i`, block `block`. */
static ptq_status decompose(ptq_spectra *s, int i, int64_t block,
                            const ptq_moment *m, ptq_err *err) {
  const int64_t d = m->d;
  ptq_moment_get(m, s->matrix);
  s->rows[i].n_tokens = m->n_tokens;
  return ptq_eigenvalues(s->matrix, d, s->values[i] + block * d, err);
}

ptq_status ptq_spectra_block(ptq_spectra *s, ptq_stream *calib,
                             const ptq_model_info *info, const ptq_block *b,
                             ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_forward_hook hook = {.ctx = s, .input = collect};
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    ptq_moment_reset(&s->rest[i]);
    ptq_moment_reset(&s->first[i]);
  }
  for (int64_t i = 0; i < calib->n; i++)
    PTQ_TRY(ptq_block_forward(info, b, ptq_stream_window(calib, i),
                              calib->length, ws, &hook, PTQ_SITE_COUNT, err));
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    ptq_moment *all = &s->first[i], *rest = &s->rest[i];
    if (rest->n_tokens > 0)
      PTQ_TRY(decompose(s, PTQ_SITE_COUNT + i, b->index, rest, err));
    for (int64_t j = 0; j < all->d * all->d; j++) all->sum[j] += rest->sum[j];
    all->n_tokens += rest->n_tokens;
    PTQ_TRY(decompose(s, i, b->index, all, err));
  }
done:
  return rc;
}
