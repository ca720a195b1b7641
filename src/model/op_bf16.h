/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file op_bf16.h
 * The forward pass's products of bfloat16; forward.h says what is rounded.
 * Callers ask PTQ_BF16 first. Derivatives have no such products.
 */
#ifndef PTQ_MODEL_OP_BF16_H
#define PTQ_MODEL_OP_BF16_H

#include "attention_tile.h"

/** Whether products take bfloat16, by the condition at hand. Never in float64,
 * whose library is without op_bf16.c. */
#ifdef PTQ_REAL64
#define PTQ_BF16(condition) false
#else
#define PTQ_BF16(condition) (condition)
#endif

/** The places that a workspace has besides, in ws; ptq_take. */
void ptq_bf16_lay_out(const ptq_model_info *info, int64_t n, ptq_real *base,
                      int64_t *at, ptq_workspace *ws);
/** What its multiplier takes. */
int64_t ptq_bf16_multiplier_bytes(const ptq_model_info *info,
                                  int64_t max_tokens);

/** Make l->packed of l->weight; created where it is NULL. */
ptq_status ptq_bf16_pack(ptq_linear *l, ptq_multiplier *mul, ptq_err *err);
/** The head's weights into slices, instead of the float32 ones. */
ptq_status ptq_bf16_pack_head(const ptq_model_info *info, ptq_multiplier *mul,
                              ptq_head *head, ptq_err *err);
/** Bytes of a layer's packed weights, of a block's and of the head's. */
int64_t ptq_bf16_block_bytes(const ptq_model_info *info);
int64_t ptq_bf16_head_bytes(const ptq_model_info *info);

/** y = x W' */
ptq_status ptq_bf16_linear(const ptq_linear *l, const ptq_real *x, int64_t n,
                           ptq_workspace *ws, ptq_real *y, ptq_err *err);
/** y = x times head rows v0..v1, one slice. */
ptq_status ptq_bf16_head(const ptq_model_info *info, const ptq_head *head,
                         ptq_multiplier *mul, const ptq_real *x, int64_t n,
                         int64_t v0, int64_t v1, ptq_real *y, ptq_err *err);
/** `size` elements as products take them, in ws->seen. */
const ptq_real *ptq_bf16_seen(const ptq_real *x, int64_t size,
                              ptq_workspace *ws);

/** Round the tile's queries in ws->tile_q, and with the first tile of a key
 * head its keys and values: those of the whole branch, by position. */
void ptq_bf16_round_tile(const ptq_tile *t, const ptq_qkv *x,
                         const ptq_workspace *ws);
/** ws->tile_s = scores with keys k0 .. k0 + width - 1. */
ptq_status ptq_bf16_score(const ptq_tile *t, const ptq_workspace *ws,
                          int64_t k0, int64_t width, ptq_err *err);
/** Probabilities of a row outside [low, high) are 0. */
void ptq_bf16_hide(const ptq_workspace *ws, int64_t row, int64_t low,
                   int64_t high, int64_t width);
/** exp(s - top) of n scores as probabilities from `at` on; their sum. */
double ptq_bf16_exp(const ptq_workspace *ws, const ptq_real *s, int64_t n,
                    ptq_real top, int64_t at);
/** ws->tile_o += probabilities times the values at k0 .. k0 + width - 1. */
ptq_status ptq_bf16_gather(const ptq_tile *t, const ptq_workspace *ws,
                           int64_t k0, int64_t width, ptq_err *err);

#endif /* PTQ_MODEL_OP_BF16_H */
