/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file diff_table.h
 * The kernels of ptq/num/diff.h of one instruction set; vec_generic.c,
 * vec_avx2.c and vec_avx512.c each define one table from diff_kernels.h.
 */
#ifndef PTQ_NUM_DIFF_TABLE_H
#define PTQ_NUM_DIFF_TABLE_H

#include "ptq/num/diff.h"

/** Members are the functions of ptq/num/diff.h of the same name; those of an
 * activation, one each. */
typedef struct ptq_diff_table {
  void (*act[PTQ_ACT_COUNT])(const float *x, const float *t, int64_t n,
                             float *out);
  void (*act_tangent[PTQ_ACT_COUNT])(const float *x, const float *xd,
                                     const float *dy, const float *dyd,
                                     int64_t n, float *dxd);
  void (*gate[PTQ_ACT_COUNT])(const float *g, const float *u, const float *dy,
                              int64_t n, float *dg, float *du);
  void (*gate_jvp[PTQ_ACT_COUNT])(const float *g, const float *u,
                                  const float *gd, const float *ud, int64_t n,
                                  float *yd);
  void (*gate_tangent[PTQ_ACT_COUNT])(const float *g, const float *u,
                                      const float *gd, const float *ud,
                                      const float *dy, const float *dyd,
                                      int64_t n, float *dgd, float *dud);
  void (*soft)(const float *p, const float *dp, int64_t n, float d, float *t,
               float *ds);
  double (*soft_jvp)(const float *p, int64_t n, float *sd);
  void (*soft_tangent)(const float *p, const float *t, int64_t n, float r,
                       float dd, float *sd, float *dpd);
  void (*cap)(const float *y, float cap, int64_t n, float *t);
  void (*cap_tangent)(const float *y, const float *yd, const float *dy,
                      float cap, int64_t n, float *dxd);
  void (*cap_bend)(const float *y, float cap, int64_t n, float *t);
  void (*unrotate)(const float *x, const float *cosines, const float *sines,
                   int64_t half, float *y);
  void (*norm)(PTQ_DIFF_NORM(float), const float *dy, float *dx);
  void (*norm_jvp)(PTQ_DIFF_NORM(float), const float *xd, float *yd);
  void (*norm_tangent)(PTQ_DIFF_NORM(float), const float *xd, const float *dy,
                       const float *dyd, float *dxd);
} ptq_diff_table;

extern const ptq_diff_table ptq_diff_generic;
extern const ptq_diff_table ptq_diff_avx2;
extern const ptq_diff_table ptq_diff_avx512;

/** The table in use. */
const ptq_diff_table *ptq_diffs(void);

#endif /* PTQ_NUM_DIFF_TABLE_H */
