/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file descent_tile.h
 * Some rows of a matrix while they are descended on, and the two kinds of step.
 */
#ifndef PTQ_QUANT_DESCENT_TILE_H
#define PTQ_QUANT_DESCENT_TILE_H

#include <stdbool.h>
#include <stdint.h>

#include "joint_descent.h"
#include "gptq_factor.h"

/* Rows of a tile, fixed since it shapes products; a multiple of the lanes. */
enum { PTQ_DESCENT_ROWS = 256, PTQ_DESCENT_BLOCK = 64, PTQ_DESCENT_LANES = 8 };

/** What all tiles share of a group: its block of H, in the order in which GPTQ
 * takes its columns. */
typedef struct ptq_group_plan {
  int64_t first, n;        /* columns */
  double unit;             /* of h: a power of two that makes its mean
                              diagonal 1 to 2, where a factor has no unit of
                              its own */
  double *h;               /* owned; [n, n] in that order, times unit */
  ptq_gptq_factor *factor; /* owned; of h */
} ptq_group_plan;

/** A tile is transposed: a column is contiguous over `lanes` rows. */
typedef struct ptq_descent_tile {
  const ptq_joint_descent_job *job; /* borrowed */
  int64_t row, rows;                /* first row and their number */
  int64_t lanes;                    /* rows padded with zeros */
  int64_t width, n_groups;          /* columns of a group */
  double *y;                        /* owned; [cols, lanes] */
  int16_t *q;                       /* owned; [cols, lanes] */
  double *g;                        /* owned; [cols, lanes]: H (w - y) */
  double *d;                        /* owned; [most, lanes]: changes of y */
  ptq_group_params *params;         /* owned; [n_groups, lanes] */
  float *x, *rounded;               /* owned; [lanes] */
  int16_t *code;                    /* owned; [lanes] */
  double *column;                   /* owned; [lanes] */
} ptq_descent_tile;

ptq_status ptq_descent_tile_init(ptq_descent_tile *t,
                                 const ptq_joint_descent_job *job,
                                 int64_t index, ptq_err *err);
void ptq_descent_tile_release(ptq_descent_tile *t);
/** Codes, weights and parameters back to the job's. */
void ptq_descent_tile_store(const ptq_descent_tile *t);

/** t->g after t->d[n, lanes] was added to columns [first, first + n) of y. */
void ptq_descent_moved(ptq_descent_tile *t, int64_t first, int64_t n);

/** x -= sum over k < n of d_k by_k; by_k is ld apart. */
void ptq_descent_feed(double *x, const double *d, const double *by, int64_t ld,
                      int64_t n, int64_t lanes);

/** One pass over all columns; true where a code changed. */
bool ptq_descent_codes(ptq_descent_tile *t);

/** Room that steps over groups need. */
typedef struct ptq_group_step ptq_group_step;
ptq_status ptq_group_step_create(const ptq_descent_tile *t, int64_t widest,
                                 ptq_group_step **out, ptq_err *err);
void ptq_group_step_free(ptq_group_step *s);

/** Scale and codes of group k anew. */
void ptq_descent_group(ptq_descent_tile *t, ptq_group_step *s,
                       const ptq_group_plan *plan, int64_t k);

#endif /* PTQ_QUANT_DESCENT_TILE_H */
