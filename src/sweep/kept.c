/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "kept.h"

#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"

static bool by_expert(const ptq_model_info *info, ptq_site kind) {
  return info->n_experts > 0 && kind >= PTQ_SITE_MLP_IN;
}

int64_t ptq_kept_most(const ptq_model_info *info, ptq_site kind,
                      int64_t length) {
  return by_expert(info, kind) ? length * info->experts_used : length;
}

ptq_status ptq_kept_open(ptq_kept *k, ptq_room room, const ptq_model_info *info,
                         ptq_site kind, int64_t n, int64_t length,
                         int64_t width, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *k = (ptq_kept){.n = n,
                  .most = ptq_kept_most(info, kind, length),
                  .width = width,
                  .mlps = by_expert(info, kind) ? ptq_mlp_count(info) : 1};
  PTQ_TRY(ptq_spool_open(&k->rows, room, n, k->most * width,
                         "a site's rows over a text", err));
  PTQ_TRY(ptq_alloc(&k->first, n * (k->mlps + 1), sizeof *k->first,
                    "a site's rows over a text", err));
  if (by_expert(info, kind))
    PTQ_TRY(ptq_alloc(&k->tokens, ptq_room_share(room, n) * k->most,
                      sizeof *k->tokens, "an expert's tokens", err));
done:
  if (rc != PTQ_OK) ptq_kept_close(k);
  return rc;
}

void ptq_kept_close(ptq_kept *k) {
  ptq_spool_close(&k->rows);
  ptq_free(k->first);
  ptq_free(k->tokens);
  *k = (ptq_kept){.rows = {.fd = -1}};
}

void ptq_kept_begin(ptq_kept *k, int hand, int64_t i) {
  (void)ptq_spool_fresh(&k->rows, hand, i);
  memset(k->first + i * (k->mlps + 1), 0,
         (size_t)(k->mlps + 1) * sizeof *k->first);
}

void ptq_kept_add(ptq_kept *k, int hand, int expert, const float *x,
                  const int32_t *tokens, int64_t n) {
  const int64_t window = ptq_spool_at(&k->rows, hand);
  int64_t *first = k->first + window * (k->mlps + 1);
  const int64_t at = first[expert];
  PTQ_ASSERT(first[k->mlps] == at && at + n <= k->most);
  memcpy(ptq_spool_fresh(&k->rows, hand, window) + at * k->width, x,
         (size_t)(n * k->width) * sizeof *x);
  if (k->tokens != NULL)
    memcpy(k->tokens + ptq_spool_place(&k->rows, window) * k->most + at, tokens,
           (size_t)n * sizeof *tokens);
  for (int e = expert + 1; e <= k->mlps; e++) first[e] = at + n;
}

ptq_status ptq_kept_end(ptq_kept *k, int hand, ptq_err *err) {
  const int64_t window = ptq_spool_at(&k->rows, hand);
  const int64_t n = k->first[window * (k->mlps + 1) + k->mlps];
  return ptq_spool_put(&k->rows, hand, n * k->width, err);
}

ptq_status ptq_kept_get(ptq_kept *k, int hand, int64_t i, int expert,
                        ptq_kept_part *part, ptq_err *err) {
  float *x = NULL;
  const int64_t *first = k->first + i * (k->mlps + 1);
  const ptq_status rc = ptq_spool_get(&k->rows, hand, i, &x, err);
  if (rc != PTQ_OK) return rc;
  *part = (ptq_kept_part){.x = x + first[expert] * k->width,
                          .n = first[expert + 1] - first[expert]};
  if (k->tokens != NULL)
    part->tokens =
        k->tokens + ptq_spool_place(&k->rows, i) * k->most + first[expert];
  return PTQ_OK;
}

ptq_status ptq_kept_share(ptq_kept *k, ptq_team *team, ptq_err *err) {
  const size_t bytes = (size_t)(k->mlps + 1) * sizeof *k->first;
  return ptq_team_share(team, k->first, k->n, bytes, 1, err);
}

int64_t ptq_kept_count(const ptq_kept *k, int expert) {
  return ptq_kept_count_first(k, expert, k->n);
}

int64_t ptq_kept_count_first(const ptq_kept *k, int expert, int64_t windows) {
  int64_t n = 0;
  for (int64_t i = 0; i < windows; i++) {
    const int64_t *first = k->first + i * (k->mlps + 1);
    n += first[expert + 1] - first[expert];
  }
  return n;
}

static int64_t token_of(const ptq_kept_part *p, int64_t i) {
  return p->tokens != NULL ? p->tokens[i] : i;
}

bool ptq_kept_next(const ptq_kept_part *a, const ptq_kept_part *b, int64_t *i,
                   int64_t *j) {
  ++*i;
  ++*j;
  while (*i < a->n && *j < b->n) {
    const int64_t x = token_of(a, *i), y = token_of(b, *j);
    if (x == y) return true;
    if (x < y)
      ++*i;
    else
      ++*j;
  }
  return false;
}

int64_t ptq_kept_bytes(ptq_room room, const ptq_model_info *info, ptq_site kind,
                       int64_t n, int64_t length, int64_t width) {
  const int64_t most = ptq_kept_most(info, kind, length);
  const int mlps = by_expert(info, kind) ? ptq_mlp_count(info) : 1;
  int64_t bytes = ptq_spool_bytes(room, n, most * width) +
                  n * (mlps + 1) * (int64_t)sizeof(int64_t);
  if (by_expert(info, kind))
    bytes += ptq_room_share(room, n) * most * (int64_t)sizeof(int32_t);
  return bytes;
}
