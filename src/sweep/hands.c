/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hands.h"

#include "ptq/base/mem.h"

/* A thread's stack and its buffers in BLAS. */
enum { THREAD_BYTES = 6 << 20 };

ptq_status ptq_hands_open(ptq_hands *h, const ptq_model_info *info, int n,
                          int64_t max_tokens, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *h = (ptq_hands){.info = info, .n = n};
  PTQ_TRY(ptq_alloc(&h->ws, n, sizeof(ptq_workspace *), "workspaces", err));
  for (int i = 0; i < n; i++)
    PTQ_TRY(ptq_workspace_create(info, max_tokens, &h->ws[i], err));
done:
  if (rc != PTQ_OK) ptq_hands_close(h);
  return rc;
}

void ptq_hands_close(ptq_hands *h) {
  for (int i = 0; h->ws != NULL && i < h->n; i++) ptq_workspace_free(h->ws[i]);
  ptq_free(h->ws);
  *h = (ptq_hands){0};
}

int64_t ptq_hands_bytes(const ptq_model_info *info, int n, int64_t max_tokens) {
  return n * ptq_workspace_bytes(info, max_tokens) + (n - 1) * THREAD_BYTES;
}
