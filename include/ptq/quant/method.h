/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file method.h
 * Quantization methods: how the codes of one linear layer are chosen.
 *
 * A method is one file src/quant/method_<name>.c that ends in its `const
 * ptq_method_family` row, listed once in method.c. A `ptq_method` is a family
 * with its options, parsed from key-value pairs; its canonical option text
 * (sorted, defaults left out) enters the point's key.
 */
#ifndef PTQ_QUANT_METHOD_H
#define PTQ_QUANT_METHOD_H

#include <stddef.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/num/dtype.h"

/** What a method wants of the calibration text. */
typedef enum ptq_calibration_mode {
  PTQ_CALIB_NONE,           /* nothing (RTN) */
  PTQ_CALIB_STATIC,         /* H of the unquantized model */
  PTQ_CALIB_SEQUENTIAL,     /* H behind the already quantized blocks */
  PTQ_CALIB_TRUE_SEQUENTIAL /* and behind the quantized sites of the block */
} ptq_calibration_mode;

typedef struct ptq_method_family ptq_method_family;

enum { PTQ_METHOD_NAME_MAX = 32, PTQ_METHOD_OPTIONS_MAX = 96 };

typedef struct ptq_method {
  const ptq_method_family *family;      /* static */
  char name[PTQ_METHOD_NAME_MAX];       /* "gptq" */
  char options[PTQ_METHOD_OPTIONS_MAX]; /* "damp=0.05,hessian=static" */
  union {
    double align;
    unsigned char bytes[128];
  } own; /* the family's parsed options, plain data */
} ptq_method;

/** One option as spelled in the sweep file. */
typedef struct ptq_method_option {
  const char *key, *value; /* borrowed */
} ptq_method_option;

/** Work shared by layers with the same inputs and by points with the same H:
 * Cholesky factors keyed by (site, damping, order). NULL shares nothing. */
typedef struct ptq_factor_cache ptq_factor_cache;

typedef struct ptq_quant_input {
  const float *w; /* borrowed; [rows, cols] row-major, finite */
  int64_t rows, cols;
  const ptq_dtype *dtype; /* borrowed */
  int64_t group;          /* > 0, PTQ_GROUP_ROW or PTQ_GROUP_TENSOR */
  const double *h; /* borrowed; [cols, cols] full storage, uncentred second
                      moment, undamped; NULL when mode is PTQ_CALIB_NONE */
  int cache_site;  /* which H of the cache's block this is, 0.. */
  ptq_factor_cache *cache; /* borrowed, nullable */
  int threads;             /* >= 1; bits do not depend on it */
} ptq_quant_input;

typedef struct ptq_quant_output {
  float *y;                 /* caller's; [rows, cols] dequantized */
  int16_t *q;               /* caller's; [rows, cols] codes */
  ptq_group_params *params; /* caller's; [rows, n_groups] (1 for TENSOR) */
  double damp; /* damping used, relative to the mean diagonal; NaN if none */
  double storage_bits; /* codes, parameters, permutations, ... */
} ptq_quant_output;

struct ptq_method_family {
  const char *name;
  const char *summary;      /* one line for `ptqsweep list methods` */
  const char *source;       /* paper and reference implementation */
  const char *options_help; /* "damp=0.01 block=128 ..." with defaults */
  /** Fill m->own and m->options. PTQ_E_ARG names the option and what is
   * known. */
  ptq_status (*parse)(ptq_method *m, const ptq_method_option *options, size_t n,
                      ptq_err *err);
  ptq_calibration_mode (*mode)(const ptq_method *m);
  /** PTQ_OK, or why this dtype and group cannot be combined with the
   * method. */
  ptq_status (*accepts)(const ptq_method *m, const ptq_dtype *dt, int64_t group,
                        ptq_err *err);
  ptq_status (*quantize)(const ptq_method *m, const ptq_quant_input *in,
                         ptq_quant_output *out, ptq_err *err);
  /** FLOPs of quantizing one rows x cols layer, for the cost model. */
  double (*flops)(const ptq_method *m, int64_t rows, int64_t cols);
};

/** All families, NULL-terminated. */
const ptq_method_family *const *ptq_method_families(void);

ptq_status ptq_method_parse(const char *name, const ptq_method_option *options,
                            size_t n, ptq_method *out, ptq_err *err);

ptq_status ptq_factor_cache_create(ptq_factor_cache **out, ptq_err *err);
/** Forget everything: call when the H behind a site changed (next block). */
void ptq_factor_cache_reset(ptq_factor_cache *cache);
void ptq_factor_cache_free(ptq_factor_cache *cache);

#endif /* PTQ_QUANT_METHOD_H */
