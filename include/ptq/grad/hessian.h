/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file hessian.h
 * The gradient, the Hessian and the Gauss-Newton matrix (ptq_curvature) of a
 * text's mean NLL (nats a scored token) by the weights of all linear layers: as
 * a vector and operators on vectors, and as numbers by layer along directions,
 * for which none is ever held as a whole.
 *
 * A vector has a model's layers in the order of blocks and of their numbers
 * within (ptq_layer_of), each row-major [out, in]. Sums over chunks are float64
 * in chunk order.
 */
#ifndef PTQ_GRAD_HESSIAN_H
#define PTQ_GRAD_HESSIAN_H

#include "ptq/grad/gradient.h"
#include "ptq/num/operator.h"

/** Elements of a vector; where a layer begins in it (absent layers are empty).
 */
int64_t ptq_flat_size(const ptq_model_info *info);
int64_t ptq_flat_at(const ptq_model_info *info, int64_t block, int layer);
/** Layers of a model, absent ones counted: block * ptq_layer_count + layer. */
int64_t ptq_flat_layers(const ptq_model_info *info);

/** nll: mean over scored tokens; gradient[ptq_flat_size]. */
ptq_status ptq_flat_gradient(ptq_grad *g, double *nll, double *gradient,
                             ptq_err *err);

/** Derivatives along k <= max_tangents vectors x[k], from forward passes alone.
 */
ptq_status ptq_flat_slopes(ptq_grad *g, int64_t k, const double *const *x,
                           double *slopes, ptq_err *err);

/** The Hessian, the Gauss-Newton matrix as operators; `g` is borrowed. Their
 * width is max_tangents. */
ptq_operator ptq_hessian_operator(ptq_grad *g);
ptq_operator ptq_gauss_newton_operator(ptq_grad *g);

/** What forms have beside slopes and the Hessian. */
enum {
  PTQ_FORMS_GAUSS_NEWTON = 1, /* ege: a run of its own */
  PTQ_FORMS_GRADIENT = 2,     /* ghe: the gradient and all H e_j are held as
                                 vectors */
  PTQ_FORMS_FISHER = 4        /* efe and eke: windows' gradients pass a layer at
                                 a time, Kronecker factors of all are held */
};

/** Numbers by layer along k directions e_j, all layers displaced together. */
typedef struct ptq_forms {
  int64_t layers, k;
  double nll;   /* mean over scored tokens */
  double *nlld; /* owned; [k] directional derivatives from the forward pass:
                   each the sum of its column of ge */
  double *ge;   /* owned; [layers, k] gradient of the layer times e_j's part */
  double *ehe;  /* owned; [layers, k, k] e_i's part times that of H e_j */
  double *ee;   /* owned; [layers, k] |e_j's part|^2 */
  /* [layers, k] each; NULL: not asked for */
  double *ege; /* owned; e_j's part times that of the Gauss-Newton matrix times
                  e_j */
  double *ghe; /* owned; gradient of the layer times H e_j's part */
  double *efe; /* owned; squares of e_j's part times the empirical Fisher's
                  diagonal: sum over windows of the squared gradient of their
                  NLL, over scored tokens */
  double *eke; /* owned; e_j's part times the layer's block of the same matrix
                  in Kronecker's factors (ptq/grad/kronecker.h) */
} ptq_forms;

/** `want`: PTQ_FORMS_... or 0. PTQ_E_NUMERIC: the loss is not finite. */
ptq_status ptq_forms_run(ptq_grad *g, const ptq_directions *d, unsigned want,
                         ptq_forms *out, ptq_err *err);
/** Bytes that it holds beside the gradient's own. */
int64_t ptq_forms_bytes(const ptq_model_info *info, int64_t k, unsigned want);
void ptq_forms_release(ptq_forms *f);
/** Along the Gauss-Newton matrix alone: ege[layers, k]. */
ptq_status ptq_gauss_newton_forms(ptq_grad *g, const ptq_directions *d,
                                  double *ege, ptq_err *err);

/** Directions of random elements that are never held as a whole: direction j
 * of probe `first` + j. */
typedef struct ptq_random_directions {
  const ptq_model_info *info; /* borrowed */
  uint64_t seed;
  int64_t first;
  ptq_probe_kind kind;
  double *scratch; /* owned; [largest layer] */
} ptq_random_directions;
ptq_status ptq_random_directions_init(const ptq_model_info *info, uint64_t seed,
                                      ptq_probe_kind kind,
                                      ptq_random_directions *r, ptq_err *err);
void ptq_random_directions_release(ptq_random_directions *r);
/** k of them, from number `first` on; borrows r. */
ptq_directions ptq_random_directions_at(ptq_random_directions *r, int64_t first,
                                        int64_t k);

/** Hutchinson's estimates of a matrix's trace, of the whole and of each
 * layer's diagonal block: by_layer[ptq_flat_layers], absent ones 0. */
ptq_status ptq_curvature_trace(ptq_grad *g, ptq_curvature curvature,
                               uint64_t seed, int64_t probes,
                               ptq_estimate *whole, ptq_estimate *by_layer,
                               ptq_err *err);

#endif /* PTQ_GRAD_HESSIAN_H */
