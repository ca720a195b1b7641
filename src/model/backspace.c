/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "backspace.h"

#include "ptq/base/mem.h"

static void lay_out_mlp(const ptq_model_info *info, int64_t n, ptq_real *base,
                        int64_t *at, ptq_lane *lane) {
  const int64_t inner = n * info->d_ff;
  lane->at[PTQ_AT_WIDE] = ptq_take(base, at, inner);
  lane->at[PTQ_AT_DWIDE] = ptq_take(base, at, inner);
  ptq_tape t = {.up = NULL};
  if (info->has_gate)
    t.gate = ptq_take(base, at, info->fused_gate_up ? 2 * inner : inner);
  if (!info->fused_gate_up) t.up = ptq_take(base, at, inner);
  lane->at[PTQ_AT_DGATE] = t.gate;
  lane->at[PTQ_AT_DUP] = t.up;
  if (base != NULL) lane->dinner = ptq_tape_inner(info, &t, 0);
}

static void lay_out_experts(const ptq_model_info *info, int64_t n,
                            ptq_real *base, int64_t *at, ptq_lane *lane) {
  if (info->n_experts == 0) return;
  lane->at[PTQ_AT_MEMBER_IN] = ptq_take(base, at, n * info->d_model);
  lane->at[PTQ_AT_MEMBER_DX] = ptq_take(base, at, n * info->d_model);
  lane->at[PTQ_AT_MEMBER_DGIVEN] = ptq_take(base, at, n * info->d_model);
  lane->at[PTQ_AT_ODDS] = ptq_take(base, at, n * info->n_experts);
  lane->at[PTQ_AT_DODDS] = ptq_take(base, at, n * info->n_experts);
}

static void lay_out_lane(const ptq_model_info *info, int64_t n, ptq_real *base,
                         int64_t *at, ptq_lane *lane) {
  const int64_t stream = n * info->d_model, qkv = ptq_qkv_size(info, n);
  const int64_t rows = ptq_tile_rows(info) * info->d_head;
  for (int p = PTQ_AT_SUM; p <= PTQ_AT_DADD; p++)
    lane->at[p] = ptq_take(base, at, stream);
  lane->at[PTQ_AT_READY] = ptq_take(base, at, qkv);
  lane->at[PTQ_AT_DREADY] = ptq_take(base, at, qkv);
  lane->at[PTQ_AT_DMIX] = ptq_take(base, at, n * info->n_heads * info->d_head);
  lay_out_mlp(info, n, base, at, lane);
  lay_out_experts(info, n, base, at, lane);
  ptq_real *spare = ptq_take(base, at, ptq_tape_size(info, n, PTQ_KEEP_ALL));
  if (spare != NULL) ptq_tape_at(info, n, PTQ_KEEP_ALL, spare, &lane->spare);
  lane->tile_q = ptq_take(base, at, rows);
  lane->tile_out = ptq_take(base, at, rows);
  lane->tile_dq = ptq_take(base, at, rows);
}

static int64_t lay_out(const ptq_model_info *info, int64_t n, int64_t lanes,
                       ptq_real *base, ptq_backspace *bs) {
  const int64_t tile = ptq_tile_rows(info) * PTQ_BACK_KEYS;
  int64_t at = 0;
  bs->tile_p = ptq_take(base, &at, tile);
  bs->tile_t = ptq_take(base, &at, tile);
  bs->tile_ds = ptq_take(base, &at, tile);
  bs->tile_sd = ptq_take(base, &at, tile);
  bs->tile_dsd = ptq_take(base, &at, tile);
  if (info->attn_cap > 0.0) {
    bs->tile_cap = ptq_take(base, &at, tile);
    bs->tile_capd = ptq_take(base, &at, tile);
    bs->tile_dcap = ptq_take(base, &at, tile);
  }
  bs->route = ptq_take(base, &at, (n + 1) * info->n_experts);
  ptq_lane counted;
  for (int64_t j = 0; j < lanes; j++)
    lay_out_lane(info, n, base, &at, base != NULL ? &bs->lanes[j] : &counted);
  return at;
}

ptq_status ptq_backspace_create(const ptq_model_info *info, int64_t max_tokens,
                                int64_t max_tangents, ptq_backspace **out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t lanes = 1 + max_tangents, rows = ptq_tile_rows(info);
  ptq_backspace *bs = NULL;
  *out = NULL;
  if (info->compute != PTQ_COMPUTE_F32)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "derivatives of a model whose products take %s: open it "
                    "with 'compute: f32'",
                    ptq_compute_name(info->compute));
  PTQ_TRY(ptq_alloc(&bs, 1, sizeof *bs, "a backward pass", err));
  bs->max_tokens = max_tokens;
  bs->max_tangents = max_tangents;
  PTQ_TRY(ptq_workspace_create(info, max_tokens, &bs->ws, err));
  PTQ_TRY(
      ptq_alloc(&bs->lanes, lanes, sizeof *bs->lanes, "a backward pass", err));
  PTQ_TRY(ptq_alloc(&bs->attended, lanes, sizeof *bs->attended,
                    "a backward pass", err));
  PTQ_TRY(ptq_alloc(&bs->out, lanes, sizeof *bs->out, "a backward pass", err));
  PTQ_TRY(ptq_alloc(&bs->sums, lanes * rows, sizeof *bs->sums,
                    "sums of a backward pass", err));
  PTQ_TRY(ptq_alloc(&bs->memory, lay_out(info, max_tokens, lanes, NULL, bs),
                    sizeof(ptq_real), "backward pass of a window", err));
  (void)lay_out(info, max_tokens, lanes, bs->memory, bs);
  for (int64_t j = 0; j < lanes; j++)
    bs->lanes[j].tile_sum = bs->sums + j * rows;
  *out = bs;
  bs = NULL;
done:
  ptq_backspace_free(bs);
  return rc;
}

void ptq_backspace_free(ptq_backspace *bs) {
  if (bs == NULL) return;
  ptq_workspace_free(bs->ws);
  ptq_free(bs->lanes);
  ptq_free(bs->attended);
  ptq_free(bs->out);
  ptq_free(bs->sums);
  ptq_free(bs->memory);
  ptq_free(bs);
}

int64_t ptq_backspace_bytes(const ptq_model_info *info, int64_t max_tokens,
                            int64_t max_tangents) {
  const int64_t lanes = 1 + max_tangents;
  ptq_backspace bs;
  return lay_out(info, max_tokens, lanes, NULL, &bs) *
             (int64_t)sizeof(ptq_real) +
         lanes * ptq_tile_rows(info) * (int64_t)sizeof(double) +
         lanes * (int64_t)(sizeof(ptq_lane) + sizeof(ptq_attended)) +
         ptq_workspace_bytes(info, max_tokens) + (int64_t)sizeof bs;
}

ptq_workspace *ptq_backspace_workspace(ptq_backspace *bs) {
  return bs->ws;
}
