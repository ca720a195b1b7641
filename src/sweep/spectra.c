/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "spectra.h"

#include <string.h>

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

/* How often a token is seen at a kind of site. */
static int64_t times(const ptq_model_info *info, int kind) {
  return info->n_experts > 0 && kind == PTQ_SITE_MLP_OUT ? info->experts_used
                                                         : 1;
}

static bool keeps(const ptq_model_info *info, int kind, int64_t n_tokens) {
  return n_tokens * times(info, kind) < ptq_site_width(info, kind);
}

static ptq_status open_inputs(ptq_spectra_inputs *in,
                              const ptq_model_info *info, const char *scratch,
                              int kind, int64_t n, int64_t length,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *in = (ptq_spectra_inputs){.d = ptq_site_width(info, kind),
                             .most = length * times(info, kind),
                             .keeps = keeps(info, kind, n * length),
                             .rows = {.fd = -1}};
  PTQ_TRY(ptq_alloc(&in->firsts, n * times(info, kind) * in->d, sizeof(float),
                    "first positions", err));
  PTQ_TRY(ptq_alloc(&in->n_rows, n, sizeof *in->n_rows, "inputs", err));
  if (in->keeps)
    PTQ_TRY(ptq_spool_open(&in->rows, scratch, n, in->most * in->d,
                           "a site's inputs", err));
  else
    PTQ_TRY(ptq_moment_init(&in->rest, in->d, err));
done:
  return rc;
}

ptq_status ptq_spectra_init(ptq_spectra *s, const ptq_model_info *info,
                            const char *scratch, int64_t n, int64_t length,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t largest = 0, kept = 0;
  s->mixture = info->n_experts > 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    PTQ_TRY(open_inputs(&s->in[k], info, scratch, k, n, length, err));
    const int64_t d = s->in[k].d;
    if (d > largest) largest = d;
    if (d > kept && s->in[k].keeps) kept = d;
  }
  if (kept > 0) PTQ_TRY(ptq_moment_init(&s->rest, kept, err));
  PTQ_TRY(ptq_alloc(&s->matrix, largest * largest, sizeof(double), "H", err));
  PTQ_TRY(ptq_alloc(&s->scratch, ptq_moment_scratch(largest), sizeof(float),
                    "moment of a window", err));
  for (int i = 0; i < PTQ_SPECTRA_ROWS; i++) {
    const int64_t d = ptq_site_width(info, (int)ptq_spectra_site(i));
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

void ptq_spectra_end(ptq_spectra *s) {
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    ptq_spectra_inputs *in = &s->in[k];
    ptq_spool_close(&in->rows);
    ptq_moment_release(&in->rest);
    ptq_free(in->n_rows);
    ptq_free(in->firsts);
    *in = (ptq_spectra_inputs){.rows = {.fd = -1}};
  }
  ptq_moment_release(&s->rest);
  ptq_free(s->matrix);
  ptq_free(s->scratch);
  s->matrix = NULL;
  s->scratch = NULL;
}

void ptq_spectra_release(ptq_spectra *s) {
  ptq_spectra_end(s);
  for (int i = 0; i < PTQ_SPECTRA_ROWS; i++) ptq_free(s->values[i]);
  *s = (ptq_spectra){0};
}

/* Rows of a kind, the first of them of the window's first position or not. */
static void take(ptq_spectra *s, int kind, const float *x, int64_t n,
                 bool first) {
  ptq_spectra_inputs *in = &s->in[kind];
  const int64_t d = in->d;
  if (first) {
    memcpy(in->firsts + in->n_firsts++ * d, x, (size_t)d * sizeof *x);
    x += d;
    n--;
  }
  if (!in->keeps) {
    ptq_moment_add(&in->rest, x, n, s->scratch);
    return;
  }
  int64_t *have = &in->n_rows[s->window];
  memcpy(ptq_spool_fresh(&in->rows, s->window) + *have * d, x,
         (size_t)(n * d) * sizeof *x);
  *have += n;
}

static ptq_status see_input(void *ctx, int site, const float *x, int64_t n,
                            int64_t width, ptq_err *err) {
  ptq_spectra *s = ctx;
  const ptq_site kind = ptq_site_kind(site);
  (void)width, (void)err;
  if (s->mixture && kind == PTQ_SITE_MLP_IN) return PTQ_OK; /* the router's */
  const bool routed = s->mixture && kind == PTQ_SITE_MLP_OUT;
  take(s, (int)kind, x, n, !routed || s->first_routed);
  return PTQ_OK;
}

static ptq_status see_router(void *ctx, const float *x, int64_t n,
                             ptq_err *err) {
  (void)err;
  take(ctx, PTQ_SITE_MLP_IN, x, n, true);
  return PTQ_OK;
}

static ptq_status see_routed(void *ctx, int expert, const int32_t *tokens,
                             int64_t n, ptq_err *err) {
  ptq_spectra *s = ctx;
  (void)expert, (void)n, (void)err;
  s->first_routed = tokens[0] == 0;
  return PTQ_OK;
}

/* Eigenvalues of `m` into row `i`, block `block`. */
static ptq_status decompose(ptq_spectra *s, int i, int64_t block,
                            const ptq_moment *m, double *matrix, ptq_err *err) {
  ptq_moment_get(m, matrix);
  s->rows[i].n_tokens = m->n_tokens;
  return ptq_eigenvalues(matrix, m->d, s->values[i] + block * m->d, err);
}

/* The rows that were kept, summed. */
static ptq_status sum_kept(ptq_spectra *s, ptq_spectra_inputs *in, int64_t n,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  s->rest.d = in->d;
  ptq_moment_reset(&s->rest);
  for (int64_t i = 0; i < n; i++) {
    float *x = NULL;
    PTQ_TRY(ptq_spool_get(&in->rows, i, &x, err));
    ptq_moment_add(&s->rest, x, in->n_rows[i], s->scratch);
  }
done:
  return rc;
}

/* Both rows of a kind. */
static ptq_status finish(ptq_spectra *s, int kind, int64_t block, int64_t n,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_spectra_inputs *in = &s->in[kind];
  ptq_moment *rest = in->keeps ? &s->rest : &in->rest;
  if (in->keeps) PTQ_TRY(sum_kept(s, in, n, err));
  if (rest->n_tokens > 0)
    PTQ_TRY(decompose(s, PTQ_SITE_COUNT + kind, block, rest, s->matrix, err));
  ptq_moment all = {.d = in->d, .sum = s->matrix};
  ptq_moment_reset(&all);
  for (int64_t i = 0; i < in->n_firsts; i++)
    ptq_moment_add(&all, in->firsts + i * in->d, 1, s->scratch);
  for (int64_t j = 0; j < in->d * in->d; j++) rest->sum[j] += all.sum[j];
  rest->n_tokens += in->n_firsts;
  PTQ_TRY(decompose(s, kind, block, rest, rest->sum, err));
done:
  return rc;
}

static void start(ptq_spectra *s, int64_t n) {
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    ptq_spectra_inputs *in = &s->in[k];
    if (!in->keeps) ptq_moment_reset(&in->rest);
    memset(in->n_rows, 0, (size_t)n * sizeof *in->n_rows);
    in->n_firsts = 0;
  }
}

ptq_status ptq_spectra_block(ptq_spectra *s, ptq_stream *calib,
                             const ptq_model_info *info, const ptq_block *b,
                             ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_forward_hook hook = {
      .ctx = s, .input = see_input, .router = see_router, .routed = see_routed};
  start(s, calib->n);
  for (s->window = 0; s->window < calib->n; s->window++) {
    PTQ_TRY(ptq_stream_push(calib, s->window, info, b, ws, &hook, err));
    for (int k = 0; k < PTQ_SITE_COUNT; k++)
      if (s->in[k].keeps)
        PTQ_TRY(ptq_spool_put(&s->in[k].rows,
                              s->in[k].n_rows[s->window] * s->in[k].d, err));
  }
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    PTQ_TRY(finish(s, k, b->index, calib->n, err));
done:
  return rc;
}

int64_t ptq_spectra_bytes(const ptq_model_info *info, const char *scratch,
                          int64_t n, int64_t length) {
  const int64_t one = sizeof(float), two = sizeof(double);
  int64_t bytes = 0, largest = 0, kept = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    const int64_t d = ptq_site_width(info, k), t = times(info, k);
    bytes += n * t * d * one + 2 * info->n_blocks * d * two;
    if (keeps(info, k, n * length))
      bytes += ptq_spool_bytes(scratch, n, length * t * d);
    else
      bytes += d * d * two;
    if (d > largest) largest = d;
    if (d > kept && keeps(info, k, n * length)) kept = d;
  }
  return bytes + (kept * kept + largest * largest) * two +
         ptq_moment_scratch(largest) * one;
}
