/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gptq_core.h
 * The column loop of GPTQ on one weight matrix.
 */
#ifndef PTQ_QUANT_GPTQ_CORE_H
#define PTQ_QUANT_GPTQ_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "gptq_factor.h"
#include "ptq/base/team.h"
#include "ptq/num/dtype.h"

typedef struct ptq_gptq_job {
  const float *w; /* borrowed; [rows, cols], finite */
  int64_t rows, cols;
  const ptq_dtype *dtype; /* borrowed */
  int64_t group;          /* > 0, PTQ_GROUP_ROW or PTQ_GROUP_TENSOR */
  int64_t block;          /* columns between two updates of all the rest */
  bool static_groups;     /* parameters of original groups, from w untouched */
  bool whole_groups;      /* the factor's order keeps groups together:
                             parameters are stored by original group */
  bool joint; /* all columns of a group at once; then block is a multiple of
                 the group, and of cols where that is a row or the tensor */
  const double *drift; /* borrowed, nullable; [cols, cols] strictly upper, in
                          the factor's order: see below */
  const ptq_gptq_factor *factor; /* borrowed; of order cols */
  bool given_params;             /* params is input: groups of columns */
  int threads;                   /* bits do not depend on it */
  ptq_team *team;                /* borrowed, nullable; likewise */
  float *y;                      /* borrowed; [rows, cols], may be w */
  int16_t *q;                    /* borrowed; [rows, cols] */
  ptq_group_params *params;      /* borrowed; [rows, n_groups], 1 for TENSOR */
} ptq_gptq_job;

/**
 * Quantize column after column, in the factor's order, each time spreading
 * the column's error over the columns that follow.
 *
 * Parameters of a group of consecutive positions are fitted when the block
 * that holds its first column begins, from weights as the blocks before left
 * them: feedback from within that block has not reached them yet (the
 * reference's rule). For MX formats likewise: a block's shared exponent is
 * fixed there and its columns are rounded one by one. ROW and TENSOR are
 * fitted on w untouched, dead columns included; static groups on w with dead
 * columns set to 0. Parameters that are given belong to groups of original
 * columns too, and nothing is fitted. Dead columns are quantized as 0.
 *
 * `joint`: a group is fitted and rounded with all feedback of the groups
 * before it and none from within: D = W - Y, errors E = D inv(U_gg).
 *
 * `drift`: with P the matrix of GPTAQ, drift = -P; column i, when its error is
 * spread, also adds w_i P_ij to the columns j of its block of columns, and the
 * block's quantized columns Y P to those behind it.
 *
 * @return PTQ_E_NUMERIC naming the row where a scale overflows or feedback
 *         diverges (outputs undefined), PTQ_E_NOMEM
 */
ptq_status ptq_gptq_run(const ptq_gptq_job *job, ptq_err *err);

/** Bytes that it takes at most on one thread, about. */
double ptq_gptq_tile_bytes(int64_t rows, int64_t cols);

#endif /* PTQ_QUANT_GPTQ_CORE_H */
