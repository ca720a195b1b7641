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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/base/team.h"
#include "ptq/num/dtype.h"

/** What a method wants of the calibration text. */
typedef enum ptq_calibration_mode {
  PTQ_CALIB_NONE,           /* nothing (RTN) */
  PTQ_CALIB_STATIC,         /* H of the unquantized model */
  PTQ_CALIB_SEQUENTIAL,     /* H behind the already quantized blocks */
  PTQ_CALIB_TRUE_SEQUENTIAL /* and behind the quantized sites of the block */
} ptq_calibration_mode;

/** What else a method wants, a bit each. What nobody asks for is not
 * collected, and its member of ptq_quant_input is NULL. */
enum {
  PTQ_NEED_MEAN_ABS = 1,    /* mean_abs */
  PTQ_NEED_HOLDOUT = 2,     /* h_train, h_holdout */
  PTQ_NEED_CROSS = 4,       /* cross; sequential calibration only */
  PTQ_NEED_MODULE_LOSS = 8, /* module */
  PTQ_NEED_BLOCK_LOSS = 16  /* what tune_block is given */
};

typedef struct ptq_method_family ptq_method_family;

enum { PTQ_METHOD_NAME_MAX = 32, PTQ_METHOD_OPTIONS_MAX = 96 };

typedef struct ptq_method {
  const ptq_method_family *family;      /* static */
  char name[PTQ_METHOD_NAME_MAX];       /* "gptq" */
  char options[PTQ_METHOD_OPTIONS_MAX]; /* "damp=0.05,hessian=static" */
  union {
    double align;
    unsigned char bytes[256];
  } own; /* the family's parsed options, plain data */
} ptq_method;

/** One option as spelled in the sweep file. */
typedef struct ptq_method_option {
  const char *key, *value; /* borrowed */
} ptq_method_option;

/** Work shared by layers with the same inputs and by points with the same H:
 * Cholesky factors keyed by (site, damping, order). NULL shares nothing. */
typedef struct ptq_factor_cache ptq_factor_cache;

/**
 * The squared error that quantized weights make in the output of the module
 * that a site feeds, on the unquantized model's inputs: attention for q, k and
 * v, the MLP for gate and up, the layer itself for o, down and an up without
 * gate. All other
 * weights of the module are the unquantized ones.
 */
typedef struct ptq_module_loss {
  void *ctx; /* borrowed */
  /** @param w    weights [rows, cols] of the site's layers, in the order in
   *              which ptq_method_quantize_site has them; all of them
   *  @param loss sum over the first PTQ_MODULE_WINDOWS calibration windows
   *              (a layer itself: over all) of squared differences, a token */
  ptq_status (*eval)(void *ctx, float *const *w, double *loss, ptq_err *err);
} ptq_module_loss;

enum { PTQ_MODULE_WINDOWS = 16 };

/**
 * The mean squared error of a block's output: behind the point's own quantized
 * blocks, against what the unquantized model has there.
 */
typedef struct ptq_block_loss {
  void *ctx;       /* borrowed */
  int64_t windows; /* of the calibration text */
  /** @param at    [count] windows that take part, each once
   *  @param w     weights [rows, cols] of all the block's layers, in the order
   *               of ptq_method_tune_block
   *  @param g     likewise: derivatives of the loss by them, overwritten
   *  @param loss  mean over these windows' elements, their last positions
   *               left out */
  ptq_status (*eval)(void *ctx, const int64_t *at, int64_t count,
                     float *const *w, float *const *g, double *loss,
                     ptq_err *err);
} ptq_block_loss;

/** What a method found for a layer before its block is rounded. */
typedef struct ptq_tuning {
  float *offset;            /* owned; [rows, cols]: added to w / scale */
  float *clip_lo, *clip_hi; /* owned; [groups]: factors of the ends of a group's
                               range */
} ptq_tuning;
void ptq_tuning_release(ptq_tuning *t);

typedef struct ptq_quant_input {
  const float *w; /* borrowed; [rows, cols] row-major, finite */
  int64_t rows, cols;
  const ptq_dtype *dtype; /* borrowed */
  int64_t group;          /* > 0, PTQ_GROUP_ROW or PTQ_GROUP_TENSOR */
  const double *h; /* borrowed; [cols, cols] full storage, uncentred second
                      moment, undamped; NULL when mode is PTQ_CALIB_NONE */
  double *spare;   /* borrowed, nullable: h, where nobody reads it behind this
                      call, to be overwritten; only where the family spends_h */
  int cache_site;  /* which H of the cache's block this is, 0.. */
  ptq_factor_cache *cache; /* borrowed, nullable */
  int threads;             /* >= 1; bits do not depend on it */
  ptq_team *team;          /* borrowed, nullable: ranks that all quantize the
                              same, and may take tiles of rows each; likewise */

  /* The layer's place in the model; every random choice derives from an
   * option and from names, never from an order. */
  const char *layer; /* borrowed; tensor name in the checkpoint, nullable */
  bool reads_stream; /* its input is a norm of the residual stream */
  bool makes_scores; /* q or k: its output goes into a product */
  bool foldable; /* what comes before can take the inverse of a scale of each
                    input channel: a norm that feeds no other site, v before o
                    where heads match, up before down unless an activation
                    that is not ReLU stands between */
  bool writes_stream;  /* its output is added to the residual stream */
  bool stream_centred; /* whatever reads the stream takes off its mean first
                          (LayerNorm) */
  const float *norm_w; /* borrowed; [cols], gain of the norm that feeds the
                          layer; NULL where none does */
  const float *norm_b; /* borrowed; [cols], its bias; NULL if RMS or none */

  const float
      *row_divisor; /* borrowed; [rows], scales of the following
                       layer's input channels, by which this one's
                       rows are to be divided before they are rounded;
                       NULL: none. Only where the family is `backward` */

  /* What was asked for by `needs`; borrowed, NULL otherwise. Means are over
   * the text and the mode of h. */
  const double *mean_abs;  /* [cols], mean |x| */
  const double *h_train;   /* [cols, cols], as h, without the last fifth of
                              the calibration windows (at least one) */
  const double *h_holdout; /* [cols, cols], of that last fifth */
  const double *cross; /* [cols, cols], mean of (x_i^fp - x_i) x_j, i the row:
                          x^fp is the unquantized model's input */
  const ptq_module_loss *module; /* of the layer's site */
  const ptq_tuning *tuning; /* of ptq_method_tune_block; NULL: offsets are 0 and
                               clips 1 */
} ptq_quant_input;

typedef struct ptq_quant_output {
  float *y;                 /* caller's; [rows, cols] dequantized */
  int16_t *q;               /* caller's; [rows, cols] codes */
  ptq_group_params *params; /* caller's; [rows, n_groups] (1 for TENSOR) */
  double damp; /* damping used, relative to the mean diagonal; NaN if none */
  double storage_bits; /* codes, parameters, permutations, factors, ... */
  float *fold; /* caller's, nullable; [cols]: scales of the input channels,
                  for what comes before; set where the family is `backward` */
  uint64_t extra_hash; /* of what y is made of beside codes and parameters
                          (low-rank factors, scales of columns); 0: nothing */
} ptq_quant_output;

struct ptq_method_family {
  const char *name;
  const char *summary;      /* one line for `ptqsweep list methods` */
  const char *source;       /* paper and reference implementation */
  const char *options_help; /* "damp=0.01 block=128 ..." with defaults */
  bool backward; /* static only: takes a block's sites from the last to the
                    first, so that a layer can take over what `fold` asks */
  /** Fill m->own and m->options. PTQ_E_ARG names the option and what is
   * known. */
  ptq_status (*parse)(ptq_method *m, const ptq_method_option *options, size_t n,
                      ptq_err *err);
  ptq_calibration_mode (*mode)(const ptq_method *m);
  /** PTQ_NEED_... bits; NULL: nothing. */
  unsigned (*needs)(const ptq_method *m);
  /** PTQ_OK, or why this dtype and group cannot be combined with the
   * method. */
  ptq_status (*accepts)(const ptq_method *m, const ptq_dtype *dt, int64_t group,
                        ptq_err *err);
  /** One layer; NULL where quantize_site is there. Called through
   * ptq_method_quantize, which has set out's results to nothing and prepared
   * in->dtype on in->w: a method that quantizes other weights (a transformed
   * matrix) prepares it again on those. */
  ptq_status (*quantize)(const ptq_method *m, const ptq_quant_input *in,
                         ptq_quant_output *out, ptq_err *err);
  /** All n layers that share an input at once, in forward order; NULL: one
   * after the other. */
  ptq_status (*quantize_site)(const ptq_method *m, const ptq_quant_input *in,
                              ptq_quant_output *out, int n, ptq_err *err);
  /** Before the sites of a block, all its n layers together; NULL: nothing.
   * y[i] is scratch, [rows, cols]. out[n] is the caller's, zeroed, to be
   * released also after a failure. */
  ptq_status (*tune_block)(const ptq_method *m, const ptq_quant_input *in,
                           float *const *y, int n, const ptq_block_loss *loss,
                           ptq_tuning *out, ptq_err *err);
  /** FLOPs of quantizing one rows x cols layer, for the cost model. */
  double (*flops)(const ptq_method *m, int64_t rows, int64_t cols);
  /** How often a site's module loss is evaluated; NULL: never. */
  double (*module_evals)(const ptq_method *m);
  /** How many windows tune_block takes the block's loss of, repetitions
   * counted, of a text of so many; and its bytes for a block of so many
   * weights. NULL without tune_block. */
  double (*block_windows)(const ptq_method *m, int64_t windows);
  double (*tuning_bytes)(const ptq_method *m, int64_t weights);
  /** Bytes that quantizing a rows x cols layer takes beside its arguments,
   * factors of H and, unless `lean`, one float64 copy of the weights with their
   * feedback; NULL: nothing. */
  double (*bytes)(const ptq_method *m, int64_t rows, int64_t cols);
  bool lean; /* takes no such copy */
  /** Whether it factorizes H in in->spare where that is there; NULL: no. */
  bool (*spends_h)(const ptq_method *m);
};

/** All families, NULL-terminated. */
const ptq_method_family *const *ptq_method_families(void);

ptq_status ptq_method_parse(const char *name, const ptq_method_option *options,
                            size_t n, ptq_method *out, ptq_err *err);

/** What m asks for, PTQ_NEED_... bits. */
unsigned ptq_method_needs(const ptq_method *m);

/** Calibrated behind quantized layers: H is the point's own. */
bool ptq_method_is_sequential(const ptq_method *m);

/**
 * Quantize the n layers of a site, or one layer. The members of `in` that the
 * method's mode and needs ask for must be there.
 * @param[out] out caller's buffers; damp, storage_bits and extra_hash are set
 * @return PTQ_E_NUMERIC where weights, H or feedback are not finite or too
 *         large; PTQ_E_NOMEM, and what the method returns (out undefined)
 */
ptq_status ptq_method_quantize_site(const ptq_method *m,
                                    const ptq_quant_input *in,
                                    ptq_quant_output *out, int n, ptq_err *err);
ptq_status ptq_method_quantize(const ptq_method *m, const ptq_quant_input *in,
                               ptq_quant_output *out, ptq_err *err);

/** Tune all n layers of a block by its loss: members of `in` that are of H or
 * of sites are not read. Results are zeroed first. */
ptq_status ptq_method_tune_block(const ptq_method *m, const ptq_quant_input *in,
                                 float *const *y, int n,
                                 const ptq_block_loss *loss, ptq_tuning *out,
                                 ptq_err *err);

ptq_status ptq_factor_cache_create(ptq_factor_cache **out, ptq_err *err);
/** Forget everything: call when the H behind a site changed (next block). */
void ptq_factor_cache_reset(ptq_factor_cache *cache);
void ptq_factor_cache_free(ptq_factor_cache *cache);

#endif /* PTQ_QUANT_METHOD_H */
