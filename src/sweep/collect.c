/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "collect.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

bool ptq_collect_keeps(const ptq_model_info *info, ptq_site kind,
                       int64_t n_tokens) {
  const int64_t rows = ptq_kept_most(info, kind, n_tokens);
  const int64_t sites = kind >= PTQ_SITE_MLP_IN ? ptq_mlp_count(info) : 1;
  return rows < sites * ptq_site_width(info, (int)kind);
}

static int64_t width_of(const ptq_collected *c, int site) {
  return ptq_site_width(c->info, site);
}

static int64_t widest(const ptq_model_info *info) {
  int64_t most = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    if (ptq_site_width(info, k) > most) most = ptq_site_width(info, k);
  return most;
}

/* Whether anything is ever summed. */
static bool has_sums(unsigned uses, const bool *keeps) {
  bool any = (uses & PTQ_COLLECT_MOMENTS) != 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) any = any || !keeps[k];
  return any;
}

static void release(ptq_site_moments *s) {
  ptq_free(s->h);
  ptq_free(s->h_train);
  ptq_free(s->h_holdout);
  ptq_free(s->cross);
  ptq_free(s->mean_abs);
  *s = (ptq_site_moments){0};
}

/* What is not there yet of the moments of inputs d wide. */
static ptq_status make(ptq_site_moments *s, unsigned needs, int64_t d,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const size_t size = sizeof(double);
  if (s->h != NULL) return PTQ_OK;
  PTQ_TRY(ptq_alloc(&s->h, d * d, size, "H", err));
  if (needs & PTQ_NEED_HOLDOUT) {
    PTQ_TRY(ptq_alloc(&s->h_train, d * d, size, "H", err));
    PTQ_TRY(ptq_alloc(&s->h_holdout, d * d, size, "H", err));
  }
  if (needs & PTQ_NEED_CROSS)
    PTQ_TRY(ptq_alloc(&s->cross, d * d, size, "cross moment", err));
  if (needs & PTQ_NEED_MEAN_ABS)
    PTQ_TRY(ptq_alloc(&s->mean_abs, d, size, "mean inputs", err));
done:
  return rc;
}

/* What is not there of a kind's rows. */
static ptq_status open_kept(ptq_collected *c, int k, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *scratch = c->scratch_dir;
  const int64_t d = width_of(c, k);
  if (c->keeps[k] && c->kept[k].first == NULL)
    PTQ_TRY(ptq_kept_open(&c->kept[k], scratch, c->info, (ptq_site)k, c->n,
                          c->length, d, err));
  if ((c->needs & PTQ_NEED_CROSS) && c->reference[k].first == NULL)
    PTQ_TRY(ptq_kept_open(&c->reference[k], scratch, c->info, (ptq_site)k,
                          c->keeps[k] ? c->n : 1, c->length, d, err));
done:
  return rc;
}

ptq_status ptq_collected_open(ptq_collected *c, const ptq_model_info *info,
                              const char *scratch, unsigned uses,
                              unsigned needs, int64_t n, int64_t length,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int n_sites = ptq_site_count(info);
  *c = (ptq_collected){.info = info,
                       .scratch_dir = scratch,
                       .uses = uses,
                       .needs = needs,
                       .n = n,
                       .n_train = n - (n >= 5 ? n / 5 : 1),
                       .length = length,
                       .built_site = -1};
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    c->keeps[k] = ptq_collect_keeps(info, (ptq_site)k, n * length);
    PTQ_TRY(open_kept(c, k, err));
  }
  PTQ_TRY(ptq_alloc(&c->sums, n_sites, sizeof *c->sums, "moments", err));
  PTQ_TRY(ptq_alloc(&c->h32, n_sites, sizeof *c->h32, "moments", err));
  const int64_t d = widest(c->info);
  if (has_sums(uses, c->keeps))
    PTQ_TRY(ptq_alloc(&c->scratch, ptq_moment_scratch(d), sizeof(float),
                      "moment of a window", err));
  if (needs & PTQ_NEED_CROSS) {
    PTQ_TRY(ptq_alloc(&c->product, d * d, sizeof(float),
                      "cross moment of a window", err));
    PTQ_TRY(ptq_alloc(&c->difference, length * d, sizeof(float),
                      "differences of a window", err));
  }
done:
  if (rc != PTQ_OK) ptq_collected_close(c);
  return rc;
}

void ptq_collected_close(ptq_collected *c) {
  if (c->info == NULL) return;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    ptq_kept_close(&c->kept[k]);
    ptq_kept_close(&c->reference[k]);
  }
  for (int s = 0; s < ptq_site_count(c->info); s++) {
    if (c->sums != NULL) release(&c->sums[s]);
    if (c->h32 != NULL) ptq_free(c->h32[s]);
  }
  release(&c->built);
  ptq_free(c->sums);
  ptq_free(c->h32);
  ptq_free(c->scratch);
  ptq_free(c->product);
  ptq_free(c->difference);
  *c = (ptq_collected){0};
}

/* The sites of a kind: first, behind the last, and from one to the next. */
static int end_of(const ptq_collected *c, int kind) {
  return kind >= PTQ_SITE_MLP_IN
             ? kind + PTQ_EXPERT_SITES * ptq_mlp_count(c->info)
             : kind + 1;
}

static void clear(ptq_site_moments *s, int64_t d) {
  const size_t size = sizeof(double);
  memset(s->h, 0, (size_t)(d * d) * size);
  if (s->cross != NULL) memset(s->cross, 0, (size_t)(d * d) * size);
  if (s->mean_abs != NULL) memset(s->mean_abs, 0, (size_t)d * size);
  s->n_tokens = s->n_train = 0;
}

ptq_status ptq_collect_begin(ptq_collected *c, ptq_site first, ptq_site last,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  c->first = first;
  c->last = last;
  c->built_site = -1;
  for (int k = (int)first; k <= (int)last; k++) {
    PTQ_TRY(open_kept(c, k, err));
    if (c->keeps[k]) continue;
    for (int s = k; s < end_of(c, k); s += PTQ_EXPERT_SITES) {
      PTQ_TRY(make(&c->sums[s], c->needs, width_of(c, s), err));
      clear(&c->sums[s], width_of(c, s));
    }
  }
done:
  return rc;
}

void ptq_collect_window(ptq_collected *c, int64_t i) {
  c->window = i;
  c->tokens = NULL;
  for (int k = (int)c->first; k <= (int)c->last; k++) {
    if (c->keeps[k]) ptq_kept_begin(&c->kept[k], i);
    if (c->needs & PTQ_NEED_CROSS)
      ptq_kept_begin(&c->reference[k], c->keeps[k] ? i : 0);
  }
}

/* The sum over the part of (x_fp - x) x', float32 within it. Tokens whose
 * experts differ in the two models do not take part. */
static void add_cross(ptq_collected *c, const ptq_kept_part *own,
                      const ptq_kept_part *fp, int64_t d, double *cross) {
  float *to = c->difference;
  int64_t i = -1, j = -1;
  memset(to, 0, (size_t)(own->n * d) * sizeof *to);
  while (ptq_kept_next(own, fp, &i, &j))
    for (int64_t k = 0; k < d; k++)
      to[i * d + k] = fp->x[j * d + k] - own->x[i * d + k];
  ptq_sgemm_tn(d, d, own->n, 1.0F, to, d, own->x, d, 0.0F, c->product, d);
  ptq_vec_accumulate(c->product, d * d, 1.0, cross);
}

/* A part of a window into the sums of its site. */
static ptq_status add_part(ptq_collected *c, int site, const ptq_kept_part *p,
                           int64_t window, ptq_site_moments *s, ptq_err *err) {
  const int64_t d = width_of(c, site);
  ptq_moment m = {.d = d, .n_tokens = s->n_tokens, .sum = s->h};
  ptq_kept_part fp;
  if (p->n == 0) return PTQ_OK;
  ptq_moment_add(&m, p->x, p->n, c->scratch);
  s->n_tokens = m.n_tokens;
  for (int64_t t = 0; s->mean_abs != NULL && t < p->n; t++)
    for (int64_t i = 0; i < d; i++)
      s->mean_abs[i] += (double)fabsf(p->x[t * d + i]);
  if (s->cross == NULL) return PTQ_OK;
  const ptq_site kind = ptq_site_kind(site);
  const ptq_status rc =
      ptq_kept_get(&c->reference[kind], c->keeps[kind] ? window : 0,
                   ptq_site_expert(site), &fp, err);
  if (rc == PTQ_OK) add_cross(c, p, &fp, d, s->cross);
  return rc;
}

static void identity(double *h, int64_t d) {
  memset(h, 0, (size_t)(d * d) * sizeof *h);
  for (int64_t i = 0; i < d; i++) h[i * (d + 1)] = 1.0;
}

/* Sums of n tokens in full storage, divided by n. */
static void get(double *sum, int64_t n, int64_t d, double *h) {
  const ptq_moment m = {.d = d, .n_tokens = n, .sum = sum};
  if (n > 0)
    ptq_moment_get(&m, h);
  else
    identity(h, d);
}

/* Behind window i: the training windows' moment; behind the last, all. */
static void close_window(const ptq_collected *c, int64_t i, int64_t d,
                         ptq_site_moments *s) {
  if (i + 1 == c->n_train && s->h_train != NULL) {
    s->n_train = s->n_tokens;
    get(s->h, s->n_tokens, d, s->h_train);
  }
  if (i + 1 < c->n) return;
  const int64_t held = s->n_tokens - s->n_train;
  const double n = (double)s->n_tokens, train = (double)s->n_train;
  get(s->h, s->n_tokens, d, s->h);
  if (s->h_holdout != NULL && held == 0)
    identity(s->h_holdout, d);
  else if (s->h_holdout != NULL)
    for (int64_t k = 0; k < d * d; k++)
      s->h_holdout[k] = (n * s->h[k] - train * s->h_train[k]) / (n - train);
  for (int64_t k = 0; s->mean_abs != NULL && k < d; k++)
    s->mean_abs[k] = n > 0.0 ? s->mean_abs[k] / n : 1.0;
  for (int64_t k = 0; s->cross != NULL && n > 0.0 && k < d * d; k++)
    s->cross[k] /= n;
}

ptq_status ptq_collect_input(void *collected, int site, const float *x,
                             int64_t n, int64_t width, ptq_err *err) {
  ptq_collected *c = collected;
  const ptq_site kind = ptq_site_kind(site);
  (void)width;
  if (kind < c->first || kind > c->last) return PTQ_OK;
  if (c->keeps[kind]) {
    ptq_kept_add(&c->kept[kind], ptq_site_expert(site), x, c->tokens, n);
    return PTQ_OK;
  }
  const bool routed = c->info->n_experts > 0 && kind >= PTQ_SITE_MLP_IN;
  const ptq_kept_part part = {
      .x = x, .tokens = routed ? c->tokens : NULL, .n = n};
  return add_part(c, site, &part, c->window, &c->sums[site], err);
}

ptq_status ptq_collect_routed(void *collected, int expert,
                              const int32_t *tokens, int64_t n, ptq_err *err) {
  ptq_collected *c = collected;
  (void)expert, (void)n, (void)err;
  c->tokens = tokens;
  return PTQ_OK;
}

ptq_status ptq_collect_reference(void *collected, int site, const float *x,
                                 int64_t n, int64_t width, ptq_err *err) {
  ptq_collected *c = collected;
  const ptq_site kind = ptq_site_kind(site);
  (void)width, (void)err;
  if (kind >= c->first && kind <= c->last)
    ptq_kept_add(&c->reference[kind], ptq_site_expert(site), x, c->tokens, n);
  return PTQ_OK;
}

ptq_status ptq_collect_reference_end(ptq_collected *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int k = (int)c->first; k <= (int)c->last && rc == PTQ_OK; k++)
    rc = ptq_kept_end(&c->reference[k], err);
  return rc;
}

/* The moment for errors; the sums go where no method wants them. */
static ptq_status finish(ptq_collected *c, int site, ptq_err *err) {
  ptq_site_moments *s = &c->sums[site];
  const int64_t d = width_of(c, site), n = s->n_tokens;
  if (c->uses & PTQ_COLLECT_ERRORS) {
    ptq_status rc = PTQ_OK;
    if (c->h32[site] == NULL)
      rc = ptq_alloc(&c->h32[site], d * d, sizeof(float), "H", err);
    if (rc != PTQ_OK) return rc;
    for (int64_t i = 0; i < d * d; i++) c->h32[site][i] = (float)s->h[i];
  }
  if ((c->uses & PTQ_COLLECT_MOMENTS) == 0) {
    release(s);
    s->n_tokens = n;
  }
  return PTQ_OK;
}

ptq_status ptq_collect_window_end(ptq_collected *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int k = (int)c->first; k <= (int)c->last; k++) {
    if (c->keeps[k]) {
      PTQ_TRY(ptq_kept_end(&c->kept[k], err));
      continue;
    }
    for (int s = k; s < end_of(c, k); s += PTQ_EXPERT_SITES) {
      close_window(c, c->window, width_of(c, s), &c->sums[s]);
      if (c->window + 1 == c->n) PTQ_TRY(finish(c, s, err));
    }
  }
done:
  return rc;
}

/* The moments of a site whose rows are kept. */
static ptq_status build(ptq_collected *c, int site, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_site kind = ptq_site_kind(site);
  const int64_t d = width_of(c, site);
  c->built_site = -1;
  if (c->built_d != d) release(&c->built);
  PTQ_TRY(make(&c->built, c->needs, d, err));
  c->built_d = d;
  clear(&c->built, d);
  for (int64_t i = 0; i < c->n; i++) {
    ptq_kept_part part;
    PTQ_TRY(ptq_kept_get(&c->kept[kind], i, ptq_site_expert(site), &part, err));
    PTQ_TRY(add_part(c, site, &part, i, &c->built, err));
    close_window(c, i, d, &c->built);
  }
  c->built_site = site;
done:
  return rc;
}

ptq_status ptq_collected_site(ptq_collected *c, int site,
                              const ptq_site_moments **out, ptq_err *err) {
  PTQ_ASSERT(c->uses & PTQ_COLLECT_MOMENTS);
  *out = &c->sums[site];
  if (!c->keeps[ptq_site_kind(site)]) return PTQ_OK;
  *out = &c->built;
  return c->built_site == site ? PTQ_OK : build(c, site, err);
}

void ptq_collected_spoil(ptq_collected *c, int site) {
  if (c->built_site == site) c->built_site = -1;
}

int64_t ptq_collected_tokens(const ptq_collected *c, int site) {
  const ptq_site kind = ptq_site_kind(site);
  return c->keeps[kind] ? ptq_kept_count(&c->kept[kind], ptq_site_expert(site))
                        : c->sums[site].n_tokens;
}

ptq_status ptq_collected_error(ptq_collected *c, int site, const float *a,
                               int64_t rows, float *scratch, double *out,
                               ptq_err *err) {
  const ptq_site kind = ptq_site_kind(site);
  const int64_t d = width_of(c, site), n = ptq_collected_tokens(c, site);
  ptq_status rc = PTQ_OK;
  *out = 0.0;
  PTQ_ASSERT(c->uses & PTQ_COLLECT_ERRORS);
  if (n == 0) return PTQ_OK;
  if (!c->keeps[kind]) {
    *out = ptq_moment_quadratic(a, rows, c->h32[site], d, scratch);
    return PTQ_OK;
  }
  double sum = 0.0;
  for (int64_t i = 0; i < c->n; i++) {
    ptq_kept_part p;
    PTQ_TRY(ptq_kept_get(&c->kept[kind], i, ptq_site_expert(site), &p, err));
    if (p.n == 0) continue;
    ptq_sgemm_nt(p.n, rows, d, 1.0F, p.x, d, a, d, 0.0F, scratch, rows);
    sum += ptq_vec_sum_sq(scratch, p.n * rows);
  }
  *out = sum / (double)n;
done:
  return rc;
}

int64_t ptq_collected_scratch(const ptq_model_info *info, int64_t n_tokens,
                              int64_t length) {
  int64_t most = 0;
  for (int l = 0; l < PTQ_ROLE_COUNT; l++) {
    if (!ptq_layer_present(info, l)) continue;
    const ptq_site kind = ptq_role_site((ptq_role)l);
    const int64_t out = ptq_role_outputs(info, (ptq_role)l);
    const int64_t n = ptq_collect_keeps(info, kind, n_tokens)
                          ? length * out
                          : out * ptq_role_inputs(info, (ptq_role)l);
    if (n > most) most = n;
  }
  return most;
}

void ptq_collected_drop(ptq_collected *c, ptq_site kind) {
  ptq_kept_close(&c->kept[kind]);
  ptq_kept_close(&c->reference[kind]);
  release(&c->built);
  c->built_site = -1;
}

/* Of the moments of inputs d wide. */
static int64_t moment_bytes(unsigned needs, int64_t d) {
  const int64_t square = d * d * (int64_t)sizeof(double);
  int64_t bytes = square;
  if (needs & PTQ_NEED_HOLDOUT) bytes += 2 * square;
  if (needs & PTQ_NEED_CROSS) bytes += square;
  if (needs & PTQ_NEED_MEAN_ABS) bytes += d * (int64_t)sizeof(double);
  return bytes;
}

ptq_collected_size ptq_collected_bytes(const ptq_model_info *info,
                                       const char *scratch, unsigned uses,
                                       unsigned needs, int64_t n,
                                       int64_t length) {
  ptq_collected_size size = {0};
  bool keeps[PTQ_SITE_COUNT];
  const int64_t widest_d = widest(info), one = sizeof(float);
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    const ptq_site kind = (ptq_site)k;
    const int64_t d = ptq_site_width(info, k);
    const int64_t sites = kind >= PTQ_SITE_MLP_IN ? ptq_mlp_count(info) : 1;
    const bool moments = (uses & PTQ_COLLECT_MOMENTS) != 0;
    keeps[k] = ptq_collect_keeps(info, kind, n * length);
    if (needs & PTQ_NEED_CROSS)
      size.kept[k] =
          ptq_kept_bytes(scratch, info, kind, keeps[k] ? n : 1, length, d);
    if (keeps[k]) {
      size.kept[k] += ptq_kept_bytes(scratch, info, kind, n, length, d);
      size.built[k] = moments ? moment_bytes(needs, d) : 0;
      continue;
    }
    *(moments ? &size.fixed : &size.sums) += sites * moment_bytes(needs, d);
    if (uses & PTQ_COLLECT_ERRORS) size.fixed += sites * d * d * one;
  }
  if (has_sums(uses, keeps)) size.fixed += ptq_moment_scratch(widest_d) * one;
  if (needs & PTQ_NEED_CROSS)
    size.fixed += (widest_d + length) * widest_d * one;
  return size;
}
