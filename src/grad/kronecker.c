/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/grad/kronecker.h"

#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/kernels.h"

typedef struct shape {
  int64_t out, in;
} shape;

/* Of a flat layer; absent ones {0, 0}. */
static shape shape_of(const ptq_model_info *info, int64_t flat) {
  const int layer = (int)(flat % ptq_layer_count(info));
  if (!ptq_layer_present(info, layer)) return (shape){0, 0};
  const ptq_role role = ptq_layer_role(layer);
  return (shape){ptq_role_outputs(info, role), ptq_role_inputs(info, role)};
}

/* The first layer that takes this one's input. */
static int64_t first_of_site(const ptq_model_info *info, int64_t flat) {
  const int count = ptq_layer_count(info);
  const int layer = (int)(flat % count);
  for (int l = 0; l < layer; l++)
    if (ptq_layer_present(info, l) &&
        ptq_layer_site(l) == ptq_layer_site(layer))
      return flat - layer + l;
  return flat;
}

/* The widest side of a layer. */
static int64_t widest(const ptq_model_info *info) {
  int64_t most = 0;
  for (int l = 0; l < ptq_layer_count(info); l++) {
    const shape s = shape_of(info, l);
    if (s.out > most) most = s.out;
    if (s.in > most) most = s.in;
  }
  return most;
}

ptq_status ptq_kronecker_init(const ptq_model_info *info, ptq_kronecker *k,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t most = widest(info);
  *k = (ptq_kronecker){.info = info, .n = ptq_flat_layers(info)};
  PTQ_TRY(ptq_alloc(&k->layers, k->n, sizeof *k->layers, "factors", err));
  PTQ_TRY(ptq_alloc(&k->scratch, most * most, sizeof *k->scratch,
                    "a window's factor", err));
  for (int64_t i = 0; i < k->n; i++) {
    const shape s = shape_of(info, i);
    ptq_kronecker_layer *l = &k->layers[i];
    if (s.out == 0) continue;
    PTQ_TRY(ptq_alloc(&l->output, s.out * s.out, sizeof(double),
                      "a factor of the output side", err));
    if (first_of_site(info, i) == i)
      PTQ_TRY(ptq_alloc(&l->input, s.in * s.in, sizeof(double),
                        "a factor of the input side", err));
  }
done:
  if (rc != PTQ_OK) ptq_kronecker_release(k);
  return rc;
}

void ptq_kronecker_release(ptq_kronecker *k) {
  for (int64_t i = 0; k->layers != NULL && i < k->n; i++) {
    ptq_free(k->layers[i].input);
    ptq_free(k->layers[i].output);
  }
  ptq_free(k->layers);
  ptq_free(k->scratch);
  *k = (ptq_kronecker){0};
}

int64_t ptq_kronecker_bytes(const ptq_model_info *info) {
  const int64_t most = widest(info);
  int64_t doubles = 0;
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    const shape s = shape_of(info, i);
    doubles += s.out * s.out;
    if (first_of_site(info, i) == i) doubles += s.in * s.in;
  }
  return doubles * (int64_t)sizeof(double) +
         most * most * (int64_t)sizeof(ptq_real);
}

double ptq_kronecker_flops(const ptq_model_info *info) {
  double flops = 0.0;
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    const shape s = shape_of(info, i);
    flops += 2.0 * (double)s.out * (double)s.out;
    if (first_of_site(info, i) == i) flops += 2.0 * (double)s.in * (double)s.in;
  }
  return flops;
}

double ptq_kronecker_form_flops(const ptq_model_info *info) {
  double flops = 0.0;
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    const shape s = shape_of(info, i);
    flops += 2.0 * (double)s.out * (double)s.in * (double)(s.out + s.in);
  }
  return flops;
}

/* sum += x' x of x[n, d] */
static void add(ptq_kronecker *k, const ptq_real *x, int64_t n, int64_t d,
                double *sum) {
  PTQ_GEMM(tn, d, d, n, 1, x, d, x, d, 0, k->scratch, d);
  for (int64_t i = 0; i < d * d; i++) sum[i] += (double)k->scratch[i];
}

void ptq_kronecker_add(ptq_kronecker *k, const ptq_grad_window *w) {
  const int64_t flat = w->block * ptq_layer_count(k->info) + w->layer;
  const shape s = shape_of(k->info, flat);
  ptq_kronecker_layer *l = &k->layers[flat];
  if (w->n == 0) return;
  l->tokens += w->n;
  add(k, w->dy, w->n, s.out, l->output);
  if (l->input != NULL) add(k, w->x, w->n, s.in, l->input);
}

static void divide(double *sum, int64_t d, double by) {
  for (int64_t i = 0; i < d * d; i++) sum[i] /= by;
}

void ptq_kronecker_finish(ptq_kronecker *k, int64_t scored_tokens) {
  for (int64_t i = 0; i < k->n; i++) {
    const shape s = shape_of(k->info, i);
    ptq_kronecker_layer *l = &k->layers[i];
    if (l->tokens == 0) continue;
    divide(l->output, s.out, (double)scored_tokens);
    if (l->input != NULL) divide(l->input, s.in, (double)l->tokens);
  }
}

const double *ptq_kronecker_input(const ptq_kronecker *k, int64_t layer) {
  return k->layers[first_of_site(k->info, layer)].input;
}

const double *ptq_kronecker_output(const ptq_kronecker *k, int64_t layer) {
  return k->layers[layer].output;
}

ptq_status ptq_kronecker_form(const ptq_kronecker *k, int64_t layer,
                              const ptq_real *e, double *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const shape s = shape_of(k->info, layer);
  const int64_t n = s.out * s.in;
  double *wide = NULL, *by_input = NULL, *by_output = NULL;
  PTQ_TRY(ptq_alloc(&wide, 3 * n, sizeof *wide, "a form", err));
  by_input = wide + n;
  by_output = wide + 2 * n;
  for (int64_t i = 0; i < n; i++) wide[i] = (double)e[i];
  ptq_dgemm_nn(s.out, s.in, s.in, 1.0, wide, s.in,
               ptq_kronecker_input(k, layer), s.in, 0.0, by_input, s.in);
  ptq_dgemm_nn(s.out, s.in, s.out, 1.0, ptq_kronecker_output(k, layer), s.out,
               wide, s.in, 0.0, by_output, s.in);
  *out = 0.0;
  for (int64_t i = 0; i < n; i++) *out += by_input[i] * by_output[i];
done:
  ptq_free(wide);
  return rc;
}
