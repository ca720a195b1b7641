/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file kronecker.h
 * Kronecker's factors of the empirical Fisher matrix, layer by layer: A, the
 * second moment of a layer's inputs a token that it sees (a window's last one
 * too, from which nothing is predicted), and B, that of the NLL's derivatives
 * by its outputs, summed over tokens and divided by the scored ones. A layer's
 * block of the matrix is about B (x) A, exactly where inputs and derivatives of
 * tokens are independent (Martens and Grosse 2015, K-FAC; every token an
 * example of its own).
 *
 * Layers that share their input (queries, keys and values; gate and up) share
 * one A. Sums are float64 in the order of windows. Numbers of layers are flat:
 * block * ptq_layer_count + layer.
 */
#ifndef PTQ_GRAD_KRONECKER_H
#define PTQ_GRAD_KRONECKER_H

#include "ptq/grad/gradient.h"

typedef struct ptq_kronecker_layer {
  double *input;  /* owned; [in, in] where it is the first of its site */
  double *output; /* owned; [out, out] */
  int64_t tokens; /* seen */
} ptq_kronecker_layer;

typedef struct ptq_kronecker {
  const ptq_model_info *info;  /* borrowed */
  ptq_kronecker_layer *layers; /* owned; [n flat layers], absent ones empty */
  int64_t n;
  ptq_real *scratch; /* owned; a window's product */
} ptq_kronecker;

ptq_status ptq_kronecker_init(const ptq_model_info *info, ptq_kronecker *k,
                              ptq_err *err);
void ptq_kronecker_release(ptq_kronecker *k);
int64_t ptq_kronecker_bytes(const ptq_model_info *info);
/** FLOPs a token of a window, of ptq_kronecker_add over all layers; and of
 * ptq_kronecker_form over all layers, which are float64. */
double ptq_kronecker_flops(const ptq_model_info *info);
double ptq_kronecker_form_flops(const ptq_model_info *info);

/** What ptq_grad_sink.window is given, window after window. */
void ptq_kronecker_add(ptq_kronecker *k, const ptq_grad_window *w);
/** From sums to A and B; once, after all windows. */
void ptq_kronecker_finish(ptq_kronecker *k, int64_t scored_tokens);
/** A [in, in] and B [out, out] of a layer that is present, full symmetric
 * storage; borrowed. No tokens: zeros. */
const double *ptq_kronecker_input(const ptq_kronecker *k, int64_t layer);
const double *ptq_kronecker_output(const ptq_kronecker *k, int64_t layer);

/** tr(B E A E') of a layer: E times (B (x) A) times E, E[out, in]. */
ptq_status ptq_kronecker_form(const ptq_kronecker *k, int64_t layer,
                              const ptq_real *e, double *out, ptq_err *err);

#endif /* PTQ_GRAD_KRONECKER_H */
