/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tiles.h"

#include <pthread.h>
#include <stdatomic.h>

#include "ptq/base/mem.h"

enum { MAX_THREADS = 64 };

typedef struct crew {
  ptq_tile_fn *fn; /* borrowed, as ctx */
  void *ctx;
  int64_t n;
  ptq_err *errs; /* borrowed; [n] */
  atomic_llong next;
} crew;

static void *member(void *arg) {
  crew *c = arg;
  for (;;) {
    const int64_t i = atomic_fetch_add(&c->next, 1);
    if (i >= c->n) return NULL;
    c->errs[i].code = c->fn(c->ctx, i, &c->errs[i]);
  }
}

ptq_status ptq_tiles_run(int64_t n, int threads, ptq_tile_fn *fn, void *ctx,
                         ptq_err *err) {
  crew c = {.fn = fn, .ctx = ctx, .n = n};
  ptq_status rc = ptq_alloc(&c.errs, n, sizeof *c.errs, "errors of tiles", err);
  if (rc != PTQ_OK) return rc;
  pthread_t ids[MAX_THREADS];
  int started = 0;
  while (started < threads - 1 && started < n - 1 && started < MAX_THREADS) {
    /* a thread that cannot be had is done without */
    if (pthread_create(&ids[started], NULL, member, &c) != 0) break;
    started++;
  }
  (void)member(&c);
  for (int i = 0; i < started; i++) (void)pthread_join(ids[i], NULL);
  for (int64_t i = 0; i < n && rc == PTQ_OK; i++) {
    rc = c.errs[i].code;
    if (rc != PTQ_OK && err != NULL && err->code == PTQ_OK) *err = c.errs[i];
  }
  ptq_free(c.errs);
  return rc;
}
