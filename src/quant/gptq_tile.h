/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gptq_tile.h
 * Rows of a matrix in GPTQ's work (gptq_core.c), and the parameters of their
 * groups (gptq_params.c).
 */
#ifndef PTQ_QUANT_GPTQ_TILE_H
#define PTQ_QUANT_GPTQ_TILE_H

#include <stdbool.h>
#include <stdint.h>

#include "gptq_core.h"

/** Rows of a tile are padded to a multiple, with zeros. */
enum { PTQ_GPTQ_LANES = 16 };

typedef struct ptq_gptq_tile {
  const ptq_gptq_job *job;  /* borrowed */
  int64_t row, rows;        /* first row and their number */
  int64_t lanes;            /* rows padded */
  int64_t width, n_groups;  /* columns of a group */
  double *w;                /* owned; [cols, lanes], by position */
  double *e;                /* owned; [block, lanes] */
  double *y64;              /* owned; [lanes]: the column at hand */
  float *y;                 /* owned; [block, lanes] */
  int16_t *q;               /* owned; [block, lanes] */
  double *scale, *zero;     /* owned; [n_groups, lanes] */
  ptq_group_params *params; /* owned; [n_groups, lanes]: rounded */
  float *group;             /* owned; [PTQ_GPTQ_LANES, cols]: rows of a group */
} ptq_gptq_tile;

/** What tiles share. */
typedef struct ptq_gptq_shared {
  const ptq_gptq_job *job; /* borrowed */
  ptq_group_params tensor; /* parameters of PTQ_GROUP_TENSOR */
  ptq_group_params64 tensor64;
} ptq_gptq_shared;

/** The original column of a position in the factor's order. */
static inline int64_t ptq_gptq_column(const ptq_gptq_job *job,
                                      int64_t position) {
  const int64_t *order = job->factor->order;
  return order != NULL ? order[position] : position;
}

/** Where no two columns are coupled GPTQ is rounding to nearest, to the bit. */
static inline bool ptq_gptq_in_float64(const ptq_gptq_job *job) {
  return job->dtype->family->round64 != NULL && job->factor->coupled;
}

/** Parameters are known before the first column, groups are of columns. */
static inline bool ptq_gptq_by_column(const ptq_gptq_job *job) {
  return job->static_groups || job->given_params;
}

/** Parameters of the tile's rows that are known before the first column.
 * PTQ_E_NUMERIC where a scale overflows. */
ptq_status ptq_gptq_fit_static(ptq_gptq_tile *t, const ptq_gptq_shared *s,
                               ptq_err *err);

/** Parameters of group g at positions [first, first + n), from the working
 * weights. What groups share goes by position, as it is stored. */
ptq_status ptq_gptq_fit_group(ptq_gptq_tile *t, int64_t g, int64_t first,
                              int64_t n, ptq_err *err);

/** Parameters of the whole matrix, PTQ_GROUP_TENSOR. */
ptq_status ptq_gptq_fit_tensor(ptq_gptq_shared *s, ptq_err *err);

#endif /* PTQ_QUANT_GPTQ_TILE_H */
