/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file layer.h
 * A layer to quantize in tests: weights, a second moment, and room for the
 * results. Include after cmocka.h; failures end the test.
 */
#ifndef PTQ_TESTS_QUANT_LAYER_H
#define PTQ_TESTS_QUANT_LAYER_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/quant/method.h"

typedef struct layer {
  int64_t rows, cols;
  float *w, *y, *kept_y;    /* owned; [rows, cols] */
  int16_t *q, *kept_q;      /* owned; [rows, cols] */
  ptq_group_params *params; /* owned; [rows, cols], enough for any group */
  double *h;                /* owned; [cols, cols] */
  double *mean_abs;         /* owned; [cols] */
  double storage_bits, damp;
  uint64_t extra_hash;
  ptq_quant_input more; /* what else the layer is quantized with */
  int threads;
  ptq_factor_cache *cache; /* borrowed, nullable */
} layer;

static inline void *layer_room(int64_t n, size_t size) {
  void *p = NULL;
  if (ptq_alloc(&p, n, size, "a test's layer", NULL) != PTQ_OK)
    fail_msg("out of memory");
  return p;
}

static inline layer layer_room_for(int64_t rows, int64_t cols) {
  const int64_t n = rows * cols;
  return (layer){.rows = rows,
                 .cols = cols,
                 .w = layer_room(n, sizeof(float)),
                 .y = layer_room(n, sizeof(float)),
                 .kept_y = layer_room(n, sizeof(float)),
                 .q = layer_room(n, sizeof(int16_t)),
                 .kept_q = layer_room(n, sizeof(int16_t)),
                 .params = layer_room(n, sizeof(ptq_group_params)),
                 .h = layer_room(cols * cols, sizeof(double)),
                 .mean_abs = layer_room(cols, sizeof(double)),
                 .threads = 1};
}

static inline double layer_gaussian(ptq_rng *r) {
  double v = -6.0;
  for (int k = 0; k < 12; k++) v += ptq_rng_unit(r);
  return v;
}

/* Gaussian weights; inputs that are running sums, so strongly correlated. */
static inline layer layer_random(int64_t rows, int64_t cols, uint64_t seed) {
  layer l = layer_room_for(rows, cols);
  ptq_rng r;
  ptq_rng_init(&r, seed);
  for (int64_t i = 0; i < rows * cols; i++)
    l.w[i] = (float)(0.05 * layer_gaussian(&r));
  const int64_t tokens = 4 * cols;
  double *x = layer_room(cols, sizeof *x);
  for (int64_t t = 0; t < tokens; t++) {
    double now = layer_gaussian(&r);
    for (int64_t j = 0; j < cols; j++) {
      now = 0.9 * now + 0.4 * layer_gaussian(&r);
      x[j] = now;
    }
    for (int64_t i = 0; i < cols; i++)
      for (int64_t j = 0; j < cols; j++)
        l.h[i * cols + j] += x[i] * x[j] / (double)tokens;
  }
  ptq_free(x);
  for (int64_t i = 0; i < cols; i++)
    l.mean_abs[i] = 0.8 * sqrt(l.h[i * cols + i]);
  return l;
}

static inline void layer_release(layer *l) {
  ptq_free(l->w);
  ptq_free(l->y);
  ptq_free(l->kept_y);
  ptq_free(l->q);
  ptq_free(l->kept_q);
  ptq_free(l->params);
  ptq_free(l->h);
  ptq_free(l->mean_abs);
  *l = (layer){0};
}

/* `options` is a method's canonical text: "block=32,damp=0.1". */
static inline ptq_status layer_try(layer *l, const char *method,
                                   const char *options, const char *dtype,
                                   int64_t group, ptq_err *err) {
  char text[256];
  ptq_method_option list[8];
  size_t n = 0;
  snprintf(text, sizeof text, "%s", options);
  for (char *s = text[0] != '\0' ? text : NULL; s != NULL && n < 8;) {
    char *next = strchr(s, ',');
    if (next != NULL) *next++ = '\0';
    char *equals = strchr(s, '=');
    if (equals == NULL) fail_msg("'%s' is not key=value", s);
    *equals = '\0';
    list[n++] = (ptq_method_option){.key = s, .value = equals + 1};
    s = next;
  }
  ptq_method m;
  ptq_dtype dt;
  ptq_status rc = ptq_method_parse(method, list, n, &m, err);
  if (rc == PTQ_OK) rc = ptq_dtype_parse(dtype, &dt, err);
  if (rc != PTQ_OK) return rc;
  ptq_quant_input in = l->more;
  in.w = l->w;
  in.rows = l->rows;
  in.cols = l->cols;
  in.dtype = &dt;
  in.group = group;
  in.h = l->h;
  in.mean_abs = l->mean_abs;
  in.cache = l->cache;
  in.threads = l->threads;
  ptq_quant_output out = {.y = l->y, .q = l->q, .params = l->params};
  rc = ptq_method_quantize(&m, &in, &out, err);
  l->storage_bits = out.storage_bits;
  l->damp = out.damp;
  l->extra_hash = out.extra_hash;
  return rc;
}

static inline void layer_quantize(layer *l, const char *method,
                                  const char *options, const char *dtype,
                                  int64_t group) {
  ptq_err err = {0};
  if (layer_try(l, method, options, dtype, group, &err) != PTQ_OK)
    fail_msg("%s %s %s: %s", method, options, dtype, err.msg);
}

/* The results at hand become kept_y and kept_q. */
static inline void layer_keep(layer *l) {
  memcpy(l->kept_y, l->y, (size_t)(l->rows * l->cols) * sizeof *l->y);
  memcpy(l->kept_q, l->q, (size_t)(l->rows * l->cols) * sizeof *l->q);
}

/* tr(E H E') of the weights' error, in float64. */
static inline double layer_error(const layer *l) {
  double sum = 0.0;
  double *e = layer_room(l->cols, sizeof *e);
  for (int64_t r = 0; r < l->rows; r++) {
    for (int64_t c = 0; c < l->cols; c++)
      e[c] = (double)l->w[r * l->cols + c] - (double)l->y[r * l->cols + c];
    for (int64_t i = 0; i < l->cols; i++)
      for (int64_t j = 0; j < l->cols; j++)
        sum += e[i] * l->h[i * l->cols + j] * e[j];
  }
  ptq_free(e);
  return sum;
}

static inline int layer_set_up(void **state) {
  (void)state;
  ptq_err err = {0};
  if (ptq_blas_init(&err) == PTQ_OK) return 0;
  fprintf(stderr, "%s\n", err.msg);
  return 1;
}

#endif /* PTQ_TESTS_QUANT_LAYER_H */
