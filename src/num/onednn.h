/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file onednn.h
 * Products of bfloat16 matrices through oneDNN, the only caller of it. Built
 * where PTQ_ONEDNN is defined.
 */
#ifndef PTQ_NUM_ONEDNN_H
#define PTQ_NUM_ONEDNN_H

#include <stddef.h>

#include "ptq/num/bf16.h"

/** Whether this CPU has instructions that oneDNN may use; then `name` is
 * "onednn 2.6.3 avx512_core_bf16". */
bool ptq_onednn_usable(char *name, size_t size);

/** How the right side of a product is stored. */
typedef enum ptq_onednn_side {
  PTQ_ONEDNN_NT,    /* b[n, k] */
  PTQ_ONEDNN_NN,    /* b[k, n] */
  PTQ_ONEDNN_PACKED /* by ptq_onednn_pack */
} ptq_onednn_side;

/** c[m, n] = alpha a b, added to what c has where `add`; matrices without
 * gaps. */
typedef struct ptq_onednn_shape {
  ptq_onednn_side side;
  int64_t m, n, k;
  float alpha;
  bool add;
} ptq_onednn_shape;

/** oneDNN's engine and a kernel for every shape met so far. */
typedef struct ptq_onednn ptq_onednn;
ptq_status ptq_onednn_create(ptq_onednn **out, ptq_err *err);
void ptq_onednn_free(ptq_onednn *o);

ptq_status ptq_onednn_multiply(ptq_onednn *o, const ptq_onednn_shape *shape,
                               const ptq_bf16 *a, const void *b, float *c,
                               ptq_err *err);

/** Bytes of packed weights [n, k], which begin on a cache line. */
ptq_status ptq_onednn_packed_bytes(ptq_onednn *o, int64_t n, int64_t k,
                                   int64_t *bytes, ptq_err *err);
ptq_status ptq_onednn_pack(ptq_onednn *o, int64_t n, int64_t k,
                           const ptq_bf16 *w, void *packed, ptq_err *err);

#endif /* PTQ_NUM_ONEDNN_H */
