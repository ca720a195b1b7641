/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gptq_factor.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"

typedef struct entry {
  struct entry *next; /* owned */
  int site;
  double damp;  /* as asked for */
  double power; /* 0: not shrunk */
  bool act_order;
  double trace;            /* of the H it was made from */
  ptq_gptq_factor *factor; /* owned */
} entry;

/* The spectrum of a site's H, which factors of all powers share. */
typedef struct spectrum {
  struct spectrum *next; /* owned */
  int site;
  ptq_spectrum of;
} spectrum;

struct ptq_factor_cache {
  entry *first;      /* owned */
  spectrum *spectra; /* owned */
};

ptq_status ptq_factor_cache_create(ptq_factor_cache **out, ptq_err *err) {
  return ptq_alloc(out, 1, sizeof **out, "a factor cache", err);
}

void ptq_factor_cache_reset(ptq_factor_cache *cache) {
  while (cache->first != NULL) {
    entry *e = cache->first;
    cache->first = e->next;
    ptq_gptq_factor_free(e->factor);
    ptq_free(e);
  }
  while (cache->spectra != NULL) {
    spectrum *s = cache->spectra;
    cache->spectra = s->next;
    ptq_spectrum_release(&s->of);
    ptq_free(s);
  }
}

void ptq_factor_cache_free(ptq_factor_cache *cache) {
  if (cache == NULL) return;
  ptq_factor_cache_reset(cache);
  ptq_free(cache);
}

static double trace(const double *h, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += h[i * n + i];
  return sum;
}

static ptq_status spectrum_of(ptq_factor_cache *cache, int site, double damp,
                              const double *h, int64_t n, ptq_spectrum **out,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  spectrum *s = cache->spectra;
  while (s != NULL && (s->site != site || s->of.damp != damp)) s = s->next;
  if (s == NULL) {
    PTQ_TRY(ptq_alloc(&s, 1, sizeof *s, "a factor cache's spectrum", err));
    s->site = site;
    s->next = cache->spectra;
    PTQ_TRY(ptq_spectrum_init(&s->of, h, n, damp, err));
    cache->spectra = s;
  }
  *out = &s->of;
  s = NULL;
done:
  if (s != NULL) ptq_spectrum_release(&s->of);
  ptq_free(s);
  return rc;
}

static ptq_status make(ptq_factor_cache *cache, const entry *key,
                       const double *h, int64_t n, int threads,
                       ptq_gptq_factor **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_spectrum *s = NULL;
  if (key->power <= 0.0)
    return ptq_gptq_factor_create(h, n, key->damp, key->act_order, threads, out,
                                  err);
  PTQ_TRY(spectrum_of(cache, key->site, key->damp, h, n, &s, err));
  PTQ_TRY(ptq_gptq_factor_create_shrunk(h, s, key->power, key->act_order,
                                        threads, out, err));
done:
  return rc;
}

static ptq_status get(ptq_factor_cache *cache, entry key, const double *h,
                      int64_t n, int threads, const ptq_gptq_factor **out,
                      ptq_err *err) {
  ptq_status rc = PTQ_OK;
  entry *e = cache->first;
  key.trace = trace(h, n);
  *out = NULL;
  for (; e != NULL; e = e->next) {
    if (e->site != key.site) continue;
    /* another H under the same site would give wrong codes in silence */
    PTQ_ASSERT(e->factor->n == n && e->trace == key.trace);
    if (e->damp != key.damp || e->power != key.power ||
        e->act_order != key.act_order)
      continue;
    *out = e->factor;
    return PTQ_OK;
  }
  PTQ_TRY(ptq_alloc(&e, 1, sizeof *e, "a factor cache's entry", err));
  *e = key;
  PTQ_TRY(make(cache, &key, h, n, threads, &e->factor, err));
  e->next = cache->first;
  cache->first = e;
  *out = e->factor;
  e = NULL;
done:
  ptq_free(e);
  return rc;
}

ptq_status ptq_factor_cache_get(ptq_factor_cache *cache, int site,
                                const double *h, int64_t n, double damp,
                                bool act_order, int threads,
                                const ptq_gptq_factor **out, ptq_err *err) {
  const entry key = {.site = site, .damp = damp, .act_order = act_order};
  return get(cache, key, h, n, threads, out, err);
}

ptq_status ptq_factor_cache_get_shrunk(ptq_factor_cache *cache, int site,
                                       const double *h, int64_t n, double damp,
                                       double power, bool act_order,
                                       int threads, const ptq_gptq_factor **out,
                                       ptq_err *err) {
  const entry key = {
      .site = site, .damp = damp, .power = power, .act_order = act_order};
  PTQ_ASSERT(power > 0.0);
  return get(cache, key, h, n, threads, out, err);
}
