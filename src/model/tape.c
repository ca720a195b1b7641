/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tape.h"

static int64_t lay_out(const ptq_model_info *info, int64_t n, ptq_keep keep,
                       ptq_real *memory, ptq_tape *t) {
  const int64_t stream = n * info->d_model;
  /* A mixture's tokens stand here once for each of their experts. */
  const int64_t rows = n * (info->n_experts > 0 ? info->experts_used : 1);
  const int64_t inner = rows * info->d_ff;
  int64_t at = 0;
  *t = (ptq_tape){.h = ptq_take(memory, &at, stream)};
  if (keep >= PTQ_KEEP_STREAMS) {
    t->qkv = ptq_take(memory, &at, ptq_qkv_size(info, n));
    t->mix = ptq_take(memory, &at, n * info->n_heads * info->d_head);
    t->top = ptq_take(memory, &at, n * info->n_heads);
    t->share = ptq_take(memory, &at, n * info->n_heads);
    if (info->has_norm[PTQ_NORM_ATTN_ADD])
      t->attn_add = ptq_take(memory, &at, stream);
    t->mid = ptq_take(memory, &at, stream);
  }
  if (keep < PTQ_KEEP_ALL) return at;
  if (info->has_gate)
    t->gate = ptq_take(memory, &at, info->fused_gate_up ? 2 * inner : inner);
  if (!info->fused_gate_up) t->up = ptq_take(memory, &at, inner);
  if (info->n_experts > 0)
    t->given = ptq_take(memory, &at, rows * info->d_model);
  if (info->has_norm[PTQ_NORM_MLP_ADD])
    t->mlp_add = ptq_take(memory, &at, stream);
  if (info->has_norm[PTQ_NORM_MLP_SUM]) t->end = ptq_take(memory, &at, stream);
  return at;
}

int64_t ptq_tape_size(const ptq_model_info *info, int64_t n, ptq_keep keep) {
  ptq_tape t;
  return lay_out(info, n, keep, NULL, &t);
}

void ptq_tape_at(const ptq_model_info *info, int64_t n, ptq_keep keep,
                 ptq_real *memory, ptq_tape *out) {
  (void)lay_out(info, n, keep, memory, out);
}

ptq_inner ptq_tape_inner(const ptq_model_info *info, const ptq_tape *t,
                         int64_t first) {
  const int64_t ff = info->d_ff, row = info->fused_gate_up ? 2 * ff : ff;
  ptq_inner x = {.row = row};
  if (info->has_gate) x.gate = t->gate + first * row;
  x.up = info->fused_gate_up ? x.gate + ff : t->up + first * row;
  return x;
}

static void fill(ptq_real **to, ptq_real *from) {
  if (*to == NULL) *to = from;
}

ptq_tape ptq_tape_completed(const ptq_tape *t, const ptq_tape *spare) {
  ptq_tape all = *t;
  fill(&all.qkv, spare->qkv);
  fill(&all.mix, spare->mix);
  fill(&all.top, spare->top);
  fill(&all.share, spare->share);
  fill(&all.attn_add, spare->attn_add);
  fill(&all.mid, spare->mid);
  fill(&all.gate, spare->gate);
  fill(&all.up, spare->up);
  fill(&all.given, spare->given);
  fill(&all.mlp_add, spare->mlp_add);
  fill(&all.end, spare->end);
  return all;
}
