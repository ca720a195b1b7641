/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file bundle.h
 * Several sequences in one pass: tokens as rows of one matrix, so that linear
 * layers see many at a time, while each sequence attends to itself alone.
 * Sequences that begin alike may share the rows of their beginning.
 */
#ifndef PTQ_MODEL_BUNDLE_H
#define PTQ_MODEL_BUNDLE_H

#include "ptq/model/forward.h"

/** Rows start .. start + n - 1 of a bundle: tokens `shared` .. shared + n - 1
 * of a sequence whose tokens 0 .. shared - 1 are the rows from `trunk` on.
 * Those rows are one earlier branch of the bundle from its position 0 on. */
typedef struct ptq_branch {
  int64_t start, n;
  int64_t trunk, shared; /* shared == 0: the sequence begins here */
} ptq_branch;

/** May sequences of up to n tokens share rows? Not where their length changes
 * how their first tokens are rotated (longrope). */
bool ptq_bundle_may_share(const ptq_model_info *info, int64_t n);

/** h[n, d_model] = embedding of a bundle's ids, each at its position in its
 * sequence. Errors as ptq_embed. */
ptq_status ptq_bundle_embed(const ptq_model_info *info, const ptq_embedding *e,
                            const uint32_t *ids, const ptq_branch *branches,
                            int64_t n_branches, ptq_real *h, ptq_err *err);

/** h = block(h) for a bundle of n rows, which its branches cover in order. The
 * bits of a row depend on the model and on the bundle, on nothing else. The
 * workspace is for at least n tokens. */
ptq_status ptq_bundle_forward(const ptq_model_info *info, const ptq_block *b,
                              ptq_real *h, int64_t n,
                              const ptq_branch *branches, int64_t n_branches,
                              ptq_workspace *ws, ptq_err *err);

#endif /* PTQ_MODEL_BUNDLE_H */
