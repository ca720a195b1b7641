/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file round_table.h
 * The rounding kernels of one instruction set. round_generic.c, round_avx2.c
 * and round_avx512.c each define one table from the same source,
 * round_kernels.h; the bits of results do not depend on which one runs.
 *
 * A run is n values cut into groups of `width` (the last one may be shorter);
 * group g has parameters p[g]. A column with one group a row is a run of width
 * 1. y and q may be NULL; y may be x. `stream`: y is too large for the caches
 * and had better not pass through them.
 */
#ifndef PTQ_NUM_ROUND_TABLE_H
#define PTQ_NUM_ROUND_TABLE_H

#include <stdint.h>

#include "ptq/num/dtype.h"

/** Codes p.zero .. top, y = p.scale * (code - p.zero): dtype_int.c. */
typedef struct ptq_round_int {
  float top;
} ptq_round_int;

/** Codes -top .. top after a first rounding at scale * to_base; scales below
 * `tiny` are of blocks of zeros or subnormals: dtype_mxint.c. */
typedef struct ptq_round_mxint {
  float top, to_base, tiny;
  int bits;
  bool wide; /* -top - 1 too, for what was clipped to -top and is as near */
} ptq_round_mxint;

/** Codes -top .. top, chosen with p.zero, restored with p.scale; a tie that
 * float32's addition of 0.5 leaves goes to even: dtype_sbfp.c. */
typedef struct ptq_round_sbfp {
  float top;
} ptq_round_sbfp;

/** Small floats: dtype_mxfp.c. */
typedef struct ptq_round_float {
  float most, least; /* largest element, least normal one */
  int mantissa;
  int bias;        /* exponent of `least` as float32 encodes it */
  bool by_zero;    /* weights are multiplied by p.zero: NVFP4 */
  bool keeps_zero; /* -0 stays -0, any scale; ties go to even */
  bool dmx;        /* dmx-compressor's MXFP; ties go to even */
  bool away;       /* ties go away from zero, else to even */
  bool log2f;      /* floor(t + 0.5) in float32, and the sign that ... */
  float unit;      /* ... the quotient by scale * unit has */
} ptq_round_float;

/** -1, 0, 1: dtype_ternary.c. */
typedef struct ptq_round_ternary {
  bool trits; /* the reference's; else absmean */
} ptq_round_ternary;

/** At most 16 values, for weights times 1 / p.zero, the group's scale: the
 * nearest, a value above bound[k] being nearer to level[k + 1] than to
 * level[k]. */
typedef struct ptq_round_book {
  int n;
  float level[16]; /* ascending */
  float bound[15];
} ptq_round_book;

/** How far ahead streaming kernels ask for values: ptq_dtype_round_run's
 * chunk, which is read once for its ranges before it is rounded. */
enum { PTQ_ROUND_AHEAD = 4096 };

typedef struct ptq_round_table {
  const char *isa;
  /** Ranges of the groups of a run; how many there are before the first with
   * NaN or Inf. */
  int64_t (*ranges)(const float *x, int64_t n, int64_t width, ptq_range *r);
  /** The same for formats that see the largest magnitude alone: ranges from
   * minus that to that. */
  int64_t (*peaks)(const float *x, int64_t n, int64_t width, ptq_range *r);
  void (*ints)(const ptq_round_int *c, const float *x, int64_t n, int64_t width,
               const ptq_group_params *p, float *y, int16_t *q, bool stream);
  void (*mxints)(const ptq_round_mxint *c, const float *x, int64_t n,
                 int64_t width, const ptq_group_params *p, float *y, int16_t *q,
                 bool stream);
  void (*sbfps)(const ptq_round_sbfp *c, const float *x, int64_t n,
                int64_t width, const ptq_group_params *p, float *y, int16_t *q,
                bool stream);
  void (*floats)(const ptq_round_float *c, const float *x, int64_t n,
                 int64_t width, const ptq_group_params *p, float *y, int16_t *q,
                 bool stream);
  void (*ternary)(const ptq_round_ternary *c, const float *x, int64_t n,
                  int64_t width, const ptq_group_params *p, float *y,
                  int16_t *q, bool stream);
  /** Sums of magnitudes of the groups of a run. */
  void (*sums_abs)(const float *x, int64_t n, int64_t width, double *out);
  double (*sum_2_4)(const double *d, int64_t n); /* of |d|^2.4 */
  void (*book)(const ptq_round_book *c, const float *x, int64_t n,
               int64_t width, const ptq_group_params *p, float *y, int16_t *q,
               bool stream);
  /** round64 of integers: value i by scale[i] and zero[i]. */
  void (*ints64)(double top, const double *x, int64_t n, const double *scale,
                 const double *zero, double *y, int16_t *q);
} ptq_round_table;

extern const ptq_round_table ptq_round_generic;
#ifdef PTQ_VEC_X86
extern const ptq_round_table ptq_round_avx2;
extern const ptq_round_table ptq_round_avx512;
#endif

/** The table of the instruction set that ptq/num/vec.h uses. */
const ptq_round_table *ptq_rounding(void);

#endif /* PTQ_NUM_ROUND_TABLE_H */
