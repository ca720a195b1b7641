/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file loss.h
 * The NLL of a window with its derivatives by the stream that the head takes,
 * in slices of the vocabulary: never a [n, vocab] matrix. The head itself is
 * not differentiated.
 */
#ifndef PTQ_MODEL_LOSS_H
#define PTQ_MODEL_LOSS_H

#include "ptq/model/forward.h"

/** Which tokens a window is scored on. */
typedef struct ptq_scored {
  const uint32_t *ids; /* borrowed; [n]: those to predict (drawn ones make a
                          Fisher matrix of the gradients' second moment) */
  int64_t n;
  int64_t first; /* tokens first .. n - 1 are scored, each predicted from the
                    position before it; 1 <= first < n */
} ptq_scored;

/** Scratch for windows of up to max_tokens with up to max_tangents directions;
 * one a thread. */
typedef struct ptq_lossspace ptq_lossspace;
ptq_status ptq_lossspace_create(const ptq_model_info *info, int64_t max_tokens,
                                int64_t max_tangents, ptq_lossspace **out,
                                ptq_err *err);
void ptq_lossspace_free(ptq_lossspace *ls);
int64_t ptq_lossspace_bytes(const ptq_model_info *info, int64_t max_tokens,
                            int64_t max_tangents);

/** Which second derivative takes tangents back: the loss's own (H), or its
 * Gauss-Newton matrix G = J' S J, J the Jacobian of the logits and S the loss's
 * second derivative by them, diag(p) - p p'. For this loss G is the Fisher
 * matrix of labels drawn from the model's own distribution, token by token
 * (Martens 2020, section 9.2). */
typedef enum ptq_curvature {
  PTQ_CURVATURE_HESSIAN,
  PTQ_CURVATURE_GAUSS_NEWTON
} ptq_curvature;

/** A direction's way through the head. */
typedef struct ptq_loss_tangent {
  const ptq_real *hd; /* [n, d_model] tangent of h */
  ptq_real *dhd; /* [n, d_model] out: that of dh, or the head's J' S J hd; may
                    be hd; NULL: not asked for */
  double nll;    /* out: that of the NLL */
} ptq_loss_tangent;

/**
 * Sum of -ln p over the scored tokens, in nats.
 * @param h   [n, d_model] the last block's output
 * @param curvature what tangents' dhd are
 * @param[out] nll NaN where a logit is not finite
 * @param[out] dh  [n, d_model] the derivative of nll by h; may be h; NULL: not
 *                 asked for, and then no tangent's dhd is
 * @return PTQ_E_ARG: `first` out of range, an id beyond the vocabulary
 */
ptq_status ptq_head_loss(const ptq_model_info *info, const ptq_head *head,
                         const ptq_scored *w, const ptq_real *h,
                         ptq_lossspace *ls, ptq_curvature curvature,
                         double *nll, ptq_real *dh, int64_t k,
                         ptq_loss_tangent *tangents, ptq_err *err);

#endif /* PTQ_MODEL_LOSS_H */
