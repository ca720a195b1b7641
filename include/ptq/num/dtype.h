/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file dtype.h
 * Number formats that weights can be quantized to.
 *
 * An element family (int, mxint, ...) is one file src/num/dtype_<family>.c
 * that ends in its `const ptq_dtype_family` row, listed once in dtype.c. A
 * `ptq_dtype` is a family with its width and options, parsed from a spelling
 * such as `int4`, `int4:asym` or `mxint3`.
 *
 * A group is `n` consecutive weights of one row that share parameters. The
 * parameters of a group are two floats, and a family without a `value` member
 * dequantizes a code as scale * (code - zero): for integers the codes are
 * 0 .. 2^b - 1 with a zero point (2^(b-1) where symmetric); for MXINT they are
 * signed, the scale is the step 2^(E-(b-2)) and zero is 0. Floats number their
 * values instead; ptq_dtype_value dequantizes any code.
 *
 * Families of one name differ by a suffix: mxfp6_e2m3, mxfp6_e3m2. Options
 * follow in any order, `mxfp4:scale=rceil:round=away`.
 *
 * Kernels are bitwise the same on every instruction set.
 */
#ifndef PTQ_NUM_DTYPE_H
#define PTQ_NUM_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/base/status.h"

enum {
  PTQ_DTYPE_NAME_MAX = 48,
  PTQ_GROUP_TENSOR = 0, /* one group for the whole matrix */
  PTQ_GROUP_ROW = -1    /* one group a row */
};

typedef struct ptq_dtype_family ptq_dtype_family;

typedef struct ptq_dtype {
  const ptq_dtype_family *family; /* static */
  int bits;                       /* width of a code */
  unsigned options;               /* bit set, the family's own */
  char name[PTQ_DTYPE_NAME_MAX];  /* canonical spelling */
} ptq_dtype;

/** Parameters of one group. */
typedef struct ptq_group_params {
  float scale;
  float zero;
} ptq_group_params;

/** The same in float64, for methods that spread errors. */
typedef struct ptq_group_params64 {
  double scale;
  double zero;
} ptq_group_params64;

/** A small float: sign, exponent, mantissa, no infinities in use. */
typedef struct ptq_element {
  int mantissa;   /* explicit bits */
  int emin, emax; /* exponents of the least and the largest normal value */
  int max_code;   /* encoding of the largest magnitude */
} ptq_element;

struct ptq_dtype_family {
  const char *name;    /* prefix of the spelling: "int", "mxint" */
  const char *suffix;  /* what follows the width, "_e4m3"; "" if nothing */
  const char *summary; /* one line for `ptqsweep list dtypes` */
  const char *source;  /* reference implementation and version */
  const char *options; /* as parse_options takes them; "" if none */
  int min_bits, max_bits;
  bool pads_groups; /* true: a short last group is padded with zeros (MX);
                       false: it stands alone (GPTQ reference) */
  bool signed_codes;   /* codes mirror each other around 0 */
  ptq_element element; /* of floats only */
  /** Parse what follows the colon ("asym", "" if none) into dt->options and
   * append the canonical form to dt->name; PTQ_E_ARG names what is known. */
  ptq_status (*parse_options)(ptq_dtype *dt, const char *text, ptq_err *err);
  /** Parameters of the group x[0], x[inc], ... of n > 0 finite values. The
   * scale is not finite where the group's range overflows float32: call
   * ptq_dtype_fit, which says so. */
  ptq_group_params (*fit)(const ptq_dtype *dt, const float *x, int64_t n,
                          int64_t inc);
  /**
   * Round n values: codes q and dequantized y (either may be NULL; y may be
   * x). Value i uses params[i * params_inc]; params_inc is 0 (one group) or 1
   * (a column of a matrix: one group a row). Values beyond the range
   * saturate. Vectorizable, pure.
   */
  void (*round)(const ptq_dtype *dt, const float *x, int64_t n,
                const ptq_group_params *params, int64_t params_inc, float *y,
                int16_t *q);
  /**
   * fit and round in float64, for methods that spread errors: one code then
   * decides over many, and none should hang on a rounding to float32. Both
   * NULL: such a method takes fit and round on values rounded to float32,
   * which is right where a scale is a power of two.
   *
   * fit64 takes the least and the largest value of the group. A value that
   * lies exactly between two codes by construction (in a symmetric integer
   * group the largest magnitude) gets, where `given`, the code of float64
   * arithmetic on these very values; else, where their last bits are noise of
   * a computation, the even code. The scale is not finite where the group's
   * range overflows float32, and not 0 when rounded to float32: call
   * ptq_dtype_fit64.
   */
  ptq_group_params64 (*fit64)(const ptq_dtype *dt, double lo, double hi,
                              bool given);
  /** Round a column of n values, value i by scale[i] and zero[i]: codes q and
   * dequantized y, which overlaps none of the others. As `round` else. */
  void (*round64)(const ptq_dtype *dt, const double *x, int64_t n,
                  const double *scale, const double *zero, double *y,
                  int16_t *q);
  /** Value of a code; NULL where it is scale * (code - zero). */
  float (*value)(const ptq_dtype *dt, const ptq_group_params *p, int code);
  /** Bits that one group's parameters take in storage. */
  double (*param_bits)(const ptq_dtype *dt);
  /** Number of distinct codes. */
  int (*levels)(const ptq_dtype *dt);
};

/** All families, NULL-terminated. */
const ptq_dtype_family *const *ptq_dtype_families(void);

/** Parse a spelling. PTQ_E_ARG: unknown family (with a suggestion), width out
 * of range, unknown option. */
ptq_status ptq_dtype_parse(const char *text, ptq_dtype *out, ptq_err *err);

/** Canonical spelling of a family's width without options, "mxfp6_e2m3". */
void ptq_dtype_spelling(const ptq_dtype_family *f, int bits,
                        char out[PTQ_DTYPE_NAME_MAX]);

/** What a code of a group stands for. */
float ptq_dtype_value(const ptq_dtype *dt, const ptq_group_params *p,
                      int code);

/** Number of groups in a row of `cols` weights: 1 for ROW and TENSOR, else
 * ceil(cols / group). */
int64_t ptq_dtype_groups(int64_t cols, int64_t group);

/** Storage of a rows x cols matrix in bits: codes and group parameters; a
 * short last group pays whole parameters (definitions: bits_per_weight). */
double ptq_dtype_storage_bits(const ptq_dtype *dt, int64_t rows, int64_t cols,
                              int64_t group);

/** family->fit with the failure named: PTQ_E_NUMERIC where the scale
 * overflows, with the row and column at which the group starts. */
ptq_status ptq_dtype_fit(const ptq_dtype *dt, const float *x, int64_t n,
                         int64_t inc, int64_t row, int64_t col,
                         ptq_group_params *out, ptq_err *err);

/** The same of family->fit64, for a group of n values from lo to hi. */
ptq_status ptq_dtype_fit64(const ptq_dtype *dt, double lo, double hi, int64_t n,
                           bool given, int64_t row, int64_t col,
                           ptq_group_params64 *out, ptq_err *err);

/** PTQ_E_NUMERIC with row and column of the first NaN or Inf in w[rows,
 * cols]. */
ptq_status ptq_dtype_check_finite(const float *w, int64_t rows, int64_t cols,
                                  ptq_err *err);

/**
 * Round a matrix to nearest (RTN): w[rows, cols] row-major.
 * @param[out] y  dequantized [rows, cols]; may be w; may be NULL
 * @param[out] q  codes [rows, cols]; may be NULL
 * @param[out] params [rows, n_groups] (1 element for TENSOR); may be NULL
 * @return PTQ_E_NUMERIC with row and column when w has NaN or Inf, or a
 *         group's scale overflows.
 */
ptq_status ptq_dtype_round_matrix(const ptq_dtype *dt, const float *w,
                                  int64_t rows, int64_t cols, int64_t group,
                                  float *y, int16_t *q,
                                  ptq_group_params *params, ptq_err *err);

#endif /* PTQ_NUM_DTYPE_H */
