/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file rotation.h
 * Random orthogonal matrices that multiply fast: signs, then a Hadamard
 * matrix.
 *
 * R = T diag(s) with T = H(2^k) (x) B of order n = 2^k m, orthonormal. H is
 * Sylvester's matrix; B is 1 where n is a power of two, else a Hadamard matrix
 * of the least order m, n / m a power of two, that Paley's constructions give:
 * q + 1 for prime powers q = 3 (mod 4) and 2 (q + 1) for q = 1 (mod 4). Where
 * there is none, m is the odd part of n and B is orthogonal at random. The
 * signs s and such a B come from the seed, so that R needs no storage.
 */
#ifndef PTQ_QUANT_ROTATION_H
#define PTQ_QUANT_ROTATION_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"

typedef struct ptq_rotation {
  int64_t n, power, m; /* n = power * m, power a power of two */
  bool hadamard;       /* all elements of T have one magnitude */
  double *block;       /* owned; [m, m], orthonormal; NULL where m is 1 */
  double *signs;       /* owned; [n] */
} ptq_rotation;

/** The order of B for width n > 0; *hadamard as in ptq_rotation. */
int64_t ptq_rotation_block(int64_t n, bool *hadamard);

/** A Hadamard matrix h[m, m] of elements 1 and -1, where ptq_rotation_block
 * returns m and hadamard for width m. PTQ_E_NOMEM. */
ptq_status ptq_hadamard(int64_t m, double *h, ptq_err *err);

/** R of order n > 0. `random`: signs from the seed; else all are 1. */
ptq_status ptq_rotation_init(ptq_rotation *r, int64_t n, bool random,
                             uint64_t seed, ptq_err *err);
void ptq_rotation_release(ptq_rotation *r);

/** A seed of its own for `what` of the layer `name` (nullable). */
uint64_t ptq_rotation_seed(int64_t seed, const char *name, const char *what);

/** x[rows, n]: each row x becomes R x, or R' x where `back`. PTQ_E_NOMEM. */
ptq_status ptq_rotate_rows(const ptq_rotation *r, bool back, double *x,
                           int64_t rows, ptq_err *err);

/** x[n, cols]: x becomes R x, or R' x where `back`. PTQ_E_NOMEM. */
ptq_status ptq_rotate_columns(const ptq_rotation *r, bool back, double *x,
                              int64_t cols, ptq_err *err);

#endif /* PTQ_QUANT_ROTATION_H */
