/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rotary positions, and the clip of queries, keys and values. */
#include <string.h>

#include "op.h"
#include "ptq/base/check.h"
#include "ptq/num/kernels.h"

const ptq_turns *ptq_turns_of(const ptq_model_info *info, unsigned flags,
                              int64_t n, const ptq_workspace *ws) {
  if (info->positions != PTQ_POSITIONS_ROTARY || flags & PTQ_BLOCK_NO_ROPE)
    return NULL;
  if (flags & PTQ_BLOCK_LOCAL_ROPE) return &ws->turns[PTQ_ROPE_LOCAL];
  const bool is_long = info->rope_long_from > 0 && n > info->rope_long_from;
  return &ws->turns[is_long ? PTQ_ROPE_LONG : PTQ_ROPE_MAIN];
}

/* The elements of a head that are not rotated. */
static void pass(const ptq_model_info *info, const ptq_real *x, ptq_real *y) {
  const int64_t width = info->rotary_width;
  if (y != x && width < info->d_head)
    memcpy(y + width, x + width, (size_t)(info->d_head - width) * sizeof *y);
}

void ptq_rotate(const ptq_model_info *info, const ptq_turns *turns, int64_t at,
                const ptq_real *x, ptq_real *y) {
  const int64_t half = info->rotary_width / 2;
  PTQ_VEC(rotate, x, turns->cosines + at * half, turns->sines + at * half, half,
          y);
  pass(info, x, y);
}

void ptq_rotate_vjp(const ptq_model_info *info, const ptq_turns *turns,
                    int64_t at, const ptq_real *dy, ptq_real *dx) {
  const int64_t half = info->rotary_width / 2;
  PTQ_DIFF(unrotate, dy, turns->cosines + at * half, turns->sines + at * half,
           half, dx);
  pass(info, dy, dx);
}

void ptq_rotate_keys(const ptq_model_info *info, const ptq_turns *turns,
                     const ptq_branch *b, const ptq_heads *k) {
  if (turns == NULL) return;
  for (int64_t t = 0; t < b->n; t++)
    for (int64_t h = 0; h < info->n_kv_heads; h++) {
      ptq_real *x = k->p + (b->start + t) * k->row + h * k->step;
      ptq_rotate(info, turns, b->shared + t, x, x);
    }
}

void ptq_rotate_keys_vjp(const ptq_model_info *info, const ptq_turns *turns,
                         int64_t n, const ptq_heads *dk) {
  if (turns == NULL) return;
  for (int64_t t = 0; t < n; t++)
    for (int64_t h = 0; h < info->n_kv_heads; h++) {
      ptq_real *x = dk->p + t * dk->row + h * dk->step;
      ptq_rotate_vjp(info, turns, t, x, x);
    }
}

void ptq_clip(const ptq_model_info *info, int64_t n, ptq_real *qkv) {
  const ptq_real limit = (ptq_real)info->qkv_clip;
  if (!(info->qkv_clip > 0.0)) return;
  const int64_t size = ptq_qkv_size(info, n);
  for (int64_t i = 0; i < size; i++)
    qkv[i] = qkv[i] > limit ? limit : qkv[i] < -limit ? -limit : qkv[i];
}

void ptq_clip_vjp(const ptq_model_info *info, int64_t n,
                  const ptq_real *clipped, ptq_real *t) {
  const ptq_real limit = (ptq_real)info->qkv_clip;
  if (!(info->qkv_clip > 0.0)) return;
  const int64_t size = ptq_qkv_size(info, n);
  for (int64_t i = 0; i < size; i++)
    if (clipped[i] >= limit || clipped[i] <= -limit) t[i] = 0.0F;
}

static void rotate_branch(const ptq_model_info *info, unsigned flags,
                          const ptq_branch *b, const ptq_workspace *ws,
                          const ptq_heads *k) {
  const int64_t end = b->shared + b->n;
  ptq_rotate_keys(info, ptq_turns_of(info, flags, end, ws), b, k);
}

void ptq_ready(const ptq_model_info *info, const ptq_block *b, int64_t n,
               const ptq_workspace *ws, const ptq_qkv *x) {
  const unsigned flags = info->block_flags[b->index];
  ptq_norm_heads(info, b, PTQ_NORM_Q, n, &x->q);
  ptq_norm_heads(info, b, PTQ_NORM_K, n, &x->k);
  ptq_clip(info, n, x->q.p);
  const ptq_branch whole = {.n = n};
  if (ws->branches == NULL) rotate_branch(info, flags, &whole, ws, &x->k);
  for (int64_t i = 0; i < ws->n_branches; i++)
    rotate_branch(info, flags, &ws->branches[i], ws, &x->k);
}
