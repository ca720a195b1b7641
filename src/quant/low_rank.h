/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file low_rank.h
 * The best low-rank stand-in for an error of weights under a metric.
 */
#ifndef PTQ_QUANT_LOW_RANK_H
#define PTQ_QUANT_LOW_RANK_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"

/** Numbers that factors are kept in. */
typedef enum ptq_factor_type {
  PTQ_FACTOR_F32,
  PTQ_FACTOR_F16,
  PTQ_FACTOR_BF16,
  PTQ_FACTOR_COUNT
} ptq_factor_type;

/** "f32", "f16", "bf16", NULL. */
extern const char *const ptq_factor_type_names[PTQ_FACTOR_COUNT + 1];

/** Bits of one number. */
double ptq_factor_bits(ptq_factor_type type);

/** x to the nearest number of the type, ties to even; Inf beyond its range. */
double ptq_factor_round(ptq_factor_type type, double x);

/**
 * Factors of L = B A with the least tr((E - L) M (E - L)') among matrices of
 * rank `rank`: with U the top eigenvectors of E M E', L = U U' E. A rank-one
 * term is split by a power of two so that the largest elements of its two
 * vectors are about equal.
 * @param e      [rows, cols]
 * @param metric symmetric, positive semidefinite: [cols, cols], or its
 *               diagonal [cols] where `diagonal`
 * @param rank   0 < rank <= rows
 * @param[out] b [rank, rows], the columns of B
 * @param[out] a [rank, cols]
 * @return PTQ_E_NUMERIC when e or metric is not finite, PTQ_E_NOMEM
 */
ptq_status ptq_low_rank(const double *e, int64_t rows, int64_t cols,
                        const double *metric, bool diagonal, int64_t rank,
                        double *b, double *a, ptq_err *err);

#endif /* PTQ_QUANT_LOW_RANK_H */
