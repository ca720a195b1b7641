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

struct ptq_factor_cache {
  entry *first; /* owned */
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
  if (key.power > 0.0)
    PTQ_TRY(ptq_gptq_factor_create_shrunk(
        h, n, key.damp, key.power, key.act_order, threads, &e->factor, err));
  else
    PTQ_TRY(ptq_gptq_factor_create(h, n, key.damp, key.act_order, threads,
                                   &e->factor, err));
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
