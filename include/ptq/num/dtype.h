/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file dtype.h
 * Number formats that weights can be quantized to.
 *
 * An element family (int, mxint, ...) is one file src/num/dtype_<family>.c
 * that ends in its `const ptq_dtype_family` row, listed once in dtype.c. A
 * `ptq_dtype` is a family with its width and options, parsed from a spelling
 * such as `int4`, `int4:asym`, `mxint3` or `nvfp4`.
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
 * Scales as they are stored: with keep=f16 or keep=bf16 rounded to that, with
 * dq= quantized a second time (dtype_store.c). Every scale that
 * ptq_dtype_fit, ptq_dtype_fit64 and ptq_dtype_snap return is one the format
 * can store, so a method that takes its parameters there needs to know nothing
 * about it. What formats share across a matrix (a tensor's scale, the second
 * level of dq=) is fixed by ptq_dtype_prepare before the first group.
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
  PTQ_DTYPE_NAME_MAX = 64,
  PTQ_GROUP_TENSOR = 0, /* one group for the whole matrix */
  PTQ_GROUP_ROW = -1    /* one group a row */
};

typedef struct ptq_dtype_family ptq_dtype_family;

/** What the groups of one matrix share; filled by ptq_dtype_prepare. */
typedef struct ptq_dtype_matrix {
  int64_t width;  /* columns of a group */
  int64_t groups; /* groups of a row */
  bool whole;     /* one group is the whole matrix */
  float tensor;   /* scale of scales (dq=fp8, NVFP4); 1 if none */
  float mean;     /* what dq=bnb takes off every scale */
  float *second;  /* owned, nullable; scales of runs of groups (dq=bnb) */
} ptq_dtype_matrix;

typedef struct ptq_dtype {
  const ptq_dtype_family *family; /* static */
  int bits;                       /* width of a code */
  unsigned options;               /* values of the family's option rows */
  char name[PTQ_DTYPE_NAME_MAX];  /* canonical spelling */
  const ptq_dtype_matrix *matrix; /* borrowed; NULL before it is prepared */
} ptq_dtype;

/** One way to spell an option. Rows with the same mask exclude each other; the
 * first of them is the default and has value 0. A table ends in text NULL; its
 * order is that of canonical spellings. */
typedef struct ptq_dtype_option {
  const char *text; /* "scale=rceil", "asym" */
  unsigned mask, value;
} ptq_dtype_option;

/** Bits that the options all families may offer take; the rest, from 1 up,
 * are a family's own. */
enum {
  PTQ_OPTION_STORE = 7U << 24,
  PTQ_KEEP_F32 = 0U << 24,
  PTQ_KEEP_F16 = 1U << 24,
  PTQ_KEEP_BF16 = 2U << 24,
  PTQ_DQ_FP8 = 3U << 24,     /* E4M3 under one float32 a matrix */
  PTQ_DQ_BNB = 4U << 24,     /* 8-bit map a scale, mean off, float32 a 256 */
  PTQ_DQ_BNB_CPU = 5U << 24, /* as its CPU library picks the code */
  PTQ_OPTION_SEARCH = 1U << 27,
  PTQ_OPTION_SIGNED = 1U << 28 /* scales may be negative */
};

/** Rows of a family whose groups have a float32 scale: how it is stored. */
/* clang-format off */
#define PTQ_STORE_OPTIONS \
  {"keep=f32", PTQ_OPTION_STORE, PTQ_KEEP_F32}, \
  {"keep=f16", PTQ_OPTION_STORE, PTQ_KEEP_F16}, \
  {"keep=bf16", PTQ_OPTION_STORE, PTQ_KEEP_BF16}, \
  {"dq=fp8", PTQ_OPTION_STORE, PTQ_DQ_FP8}, \
  {"dq=bnb", PTQ_OPTION_STORE, PTQ_DQ_BNB}, \
  {"dq=bnb_cpu", PTQ_OPTION_STORE, PTQ_DQ_BNB_CPU}
/** Rows of a family that searches scales by `scale=mse` (dtype_search.c). */
#define PTQ_SEARCH_OPTIONS(plain) \
  {"scale=" plain, PTQ_OPTION_SEARCH, 0}, \
  {"scale=mse", PTQ_OPTION_SEARCH, PTQ_OPTION_SEARCH}
/* clang-format on */

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

/** A group's values in float64, for ptq_dtype_fit64. */
typedef struct ptq_group64 {
  const double *x; /* borrowed; x[0], x[inc], ...; or NULL, and then */
  const float *f;  /* borrowed; f[0], f[inc], ... */
  int64_t n, inc;
  double lo, hi; /* the least and the largest */
  bool given;    /* untouched weights: see fit64 */
} ptq_group64;

/** The least and the largest value of a group. */
typedef struct ptq_range {
  float lo, hi;
} ptq_range;

/** A small float: sign, exponent, mantissa, no infinities in use. */
typedef struct ptq_element {
  int mantissa;   /* explicit bits */
  int emin, emax; /* exponents of the least and the largest normal value */
  int max_code;   /* encoding of the largest magnitude */
} ptq_element;

/** What a format may not have, because its reference has not: exceptions from
 * the properties that tests/unit/num/test_dtype_properties.c walks. */
enum {
  PTQ_NOT_IDEMPOTENT = 1U,  /* rounding what was rounded changes nothing */
  PTQ_NOT_MONOTONE = 2U,    /* a larger weight has no smaller value */
  PTQ_NOT_ODD = 4U,         /* -w has the value of w, negated */
  PTQ_NOT_EQUIVARIANT = 8U, /* powers of two pass through, fit included */
  PTQ_NOT_NEAREST = 16U     /* no code is nearer than the one chosen */
};

struct ptq_dtype_family {
  const char *name;    /* prefix of the spelling: "int", "mxint" */
  const char *suffix;  /* what follows the width, "_e4m3"; "" if nothing */
  const char *summary; /* one line for `ptqsweep list dtypes` */
  const char *source;  /* reference implementation and version */
  const ptq_dtype_option *options; /* NULL: none */
  const char *const *dialects;     /* option texts that tests walk beside the
                                      default, "asym", "scale=rceil:round=away";
                                      NULL-terminated; NULL: none */
  int min_bits, max_bits;
  bool bare;            /* spelled without its width: "nvfp4", "ternary" */
  bool pads_groups;     /* true: a short last group is padded with zeros (MX);
                           false: it stands alone (GPTQ reference) */
  bool signed_codes;    /* codes mirror each other around 0 */
  bool fits_peaks;      /* fit_ranges looks at the larger end alone */
  bool encodes_by_zero; /* params.zero is the scale by which codes are chosen,
                           .scale the one stored, which restores them */
  ptq_element element;  /* of floats only */
  /** How scales are stored where no option says, a PTQ_KEEP_ value; NULL: as
   * float32. */
  unsigned (*default_store)(const ptq_dtype *dt);
  /** Refuse combinations of options or widths; NULL: none. */
  ptq_status (*check)(const ptq_dtype *dt, ptq_err *err);
  /** Parameters of the group x[0], x[inc], ... of n > 0 finite values, which
   * the format can store but for what keep= and dq= say. dt is prepared. The
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
  /** fit of `groups` groups whose ranges are all that it looks at, and round
   * of a run of groups of `width` values (a last one may be shorter), group g
   * by params[g]: what ptq_dtype_round_matrix takes where they are there. NULL:
   * fit and round group by group. `stream`: y is too large for the caches. */
  void (*fit_ranges)(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                     ptq_group_params *out);
  /** fit of a run of groups that a format looks at by more than their ranges;
   * NULL: one by one. */
  void (*fit_run)(const ptq_dtype *dt, const float *x, int64_t n, int64_t width,
                  ptq_group_params *out);
  void (*round_run)(const ptq_dtype *dt, const float *x, int64_t n,
                    int64_t width, const ptq_group_params *params, float *y,
                    int16_t *q, bool stream);
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
  /** Zero point of a group from lo to hi at a scale that is not the fitted
   * one; NULL where it does not depend on the scale. */
  double (*zero_at)(const ptq_dtype *dt, double lo, double hi, double scale);
  /** Parameters of a group from lo to hi, both ends multiplied by `by`, for
   * scale=mse: in the arithmetic of fit and fit64. NULL: the fitted scale is
   * multiplied. A family with fit64 has both. */
  ptq_group_params (*shrink)(const ptq_dtype *dt, float lo, float hi, float by);
  ptq_group_params64 (*shrink64)(const ptq_dtype *dt, double lo, double hi,
                                 double by);
  /** Value of a code; NULL where it is scale * (code - zero). */
  float (*value)(const ptq_dtype *dt, const ptq_group_params *p, int code);
  /** Fill *m (width, groups and whole are set, tensor is 1) from w[rows,
   * cols], PTQ_E_NUMERIC where that is not finite; NULL where groups share
   * nothing but what dq= says. */
  ptq_status (*prepare)(const ptq_dtype *dt, const float *w, int64_t rows,
                        int64_t cols, ptq_dtype_matrix *m, ptq_err *err);
  /** The storable parameters nearest to *p, whose scale is already as keep= and
   * dq= say; NULL where that is all. `index` counts the groups of the matrix
   * row by row. */
  void (*snap)(const ptq_dtype *dt, int64_t index, ptq_group_params *p);
  /** Bits that one group's parameters take in storage, the scale as keep=f32
   * has it: see ptq_dtype_param_bits. */
  double (*param_bits)(const ptq_dtype *dt);
  /** Bits that a whole matrix takes beside codes and parameters of groups (a
   * tensor's scale, a codebook); NULL: none. dq= counts its own. */
  double (*matrix_bits)(const ptq_dtype *dt);
  /** Bits of a code where that is no whole number; NULL: dt->bits. */
  double (*code_bits)(const ptq_dtype *dt);
  /** Number of distinct codes. */
  int (*levels)(const ptq_dtype *dt);
  /** PTQ_NOT_ flags of this dialect; NULL: none. */
  unsigned (*exceptions)(const ptq_dtype *dt);
  /** Largest |w - y| in units of the group's largest magnitude, for groups
   * whose parameters are fitted and whose scale is a normal float. */
  double (*error_bound)(const ptq_dtype *dt);
};

/** All families, NULL-terminated. */
const ptq_dtype_family *const *ptq_dtype_families(void);

/** Parse a spelling. PTQ_E_ARG: unknown family (with a suggestion), width out
 * of range, unknown option. */
ptq_status ptq_dtype_parse(const char *text, ptq_dtype *out, ptq_err *err);

/** Canonical spelling of a family's width without options, "mxfp6_e2m3". */
void ptq_dtype_spelling(const ptq_dtype_family *f, int bits,
                        char out[PTQ_DTYPE_NAME_MAX]);

/** The options of a family as they follow its spelling, defaults first:
 * "[:scale=floor|ceil][:round=even|away]"; "" if it has none. */
void ptq_dtype_options(const ptq_dtype_family *f, char *out, size_t size);

/** What a code of a group stands for. */
float ptq_dtype_value(const ptq_dtype *dt, const ptq_group_params *p, int code);

/** Number of groups in a row of `cols` weights: 1 for ROW and TENSOR, else
 * ceil(cols / group). */
int64_t ptq_dtype_groups(int64_t cols, int64_t group);

/** True where scales are fixed by more than their own group: such a dtype must
 * be prepared before ptq_dtype_fit, ptq_dtype_fit64 and ptq_dtype_snap. */
bool ptq_dtype_shares(const ptq_dtype *dt);

/**
 * The dtype with what its groups share fixed from the untouched w[rows, cols].
 * @param[out] state  caller's, released with ptq_dtype_matrix_release; must
 *                    stay where it is as long as *out is used
 * @param[out] out    dt with state; equal to dt where nothing is shared
 * @return PTQ_E_NUMERIC when w has NaN or Inf (only looked for where groups
 *         share something) or a scale overflows, PTQ_E_NOMEM
 */
ptq_status ptq_dtype_prepare(const ptq_dtype *dt, const float *w, int64_t rows,
                             int64_t cols, int64_t group,
                             ptq_dtype_matrix *state, ptq_dtype *out,
                             ptq_err *err);
void ptq_dtype_matrix_release(ptq_dtype_matrix *state);

/**
 * The nearest parameters that the format can store to wanted ones of the group
 * that holds (row, col): for methods that choose scales themselves. Powers of
 * two are nearest in ratio. The zero point becomes an integer of the code's
 * range, or what it always is. A wanted scale that is not positive or not
 * finite becomes the one that a group of zeros has.
 */
void ptq_dtype_snap(const ptq_dtype *dt, int64_t row, int64_t col,
                    ptq_group_params *p);

/** Bits of the scale and the other parameters of one group. */
double ptq_dtype_param_bits(const ptq_dtype *dt);

/** Storage of a rows x cols matrix in bits: codes, group parameters and what
 * groups share; a short last group pays whole parameters (definitions:
 * bits_per_weight). */
double ptq_dtype_storage_bits(const ptq_dtype *dt, int64_t rows, int64_t cols,
                              int64_t group);

/** The parameters of the group x[0], x[inc], ... of n > 0 finite values that
 * starts at (row, col) of the matrix: fitted, searched for where the dtype says
 * scale=mse, and storable. PTQ_E_NUMERIC where the scale overflows, with row
 * and column. */
ptq_status ptq_dtype_fit(const ptq_dtype *dt, const float *x, int64_t n,
                         int64_t inc, int64_t row, int64_t col,
                         ptq_group_params *out, ptq_err *err);

/** The same in float64, by family->fit64. */
ptq_status ptq_dtype_fit64(const ptq_dtype *dt, const ptq_group64 *g,
                           int64_t row, int64_t col, ptq_group_params64 *out,
                           ptq_err *err);

/**
 * The scale search of the GPTQ reference: of the 80 candidates p = 1 - i / 100
 * the first with the least sum of |value - x|^2.4. Integers shrink both ends of
 * the range; any other dtype shrinks the fitted scale and takes what it can
 * store (candidates that are equal then count once). As ptq_dtype_fit else.
 */
ptq_status ptq_dtype_search(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc, int64_t row, int64_t col,
                            ptq_group_params *out, ptq_err *err);

/** The same in float64, for families with round64. */
ptq_status ptq_dtype_search64(const ptq_dtype *dt, const ptq_group64 *g,
                              int64_t row, int64_t col, ptq_group_params64 *out,
                              ptq_err *err);

/** PTQ_E_NUMERIC with row and column of the first NaN or Inf in w[rows,
 * cols]. */
ptq_status ptq_dtype_check_finite(const float *w, int64_t rows, int64_t cols,
                                  ptq_err *err);

/**
 * Round a matrix to nearest (RTN): w[rows, cols] row-major. Prepares the dtype
 * on w unless it is prepared.
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
