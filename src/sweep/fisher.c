/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fisher.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/base/spectrum.h"
#include "ptq/grad/hessian.h"
#include "ptq/grad/kronecker.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

typedef struct run {
  const ptq_model_info *info;
  ptq_kronecker factors; /* owned */
  double *fisher; /* owned; [flat layers] sums over windows of the squared
                     gradient */
  float *weight;  /* owned; [largest layer] a window's gradient */
} run;

typedef struct sizes {
  int64_t side, weights; /* most of a layer */
} sizes;

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static sizes sizes_of(const ptq_model_info *info) {
  sizes s = {0};
  for (int l = 0; l < ptq_layer_count(info); l++) {
    if (!ptq_layer_present(info, l)) continue;
    const int64_t out = ptq_role_outputs(info, ptq_layer_role(l));
    const int64_t in = ptq_role_inputs(info, ptq_layer_role(l));
    s.side = larger(s.side, larger(out, in));
    s.weights = larger(s.weights, out * in);
  }
  return s;
}

static ptq_status run_open(run *r, const ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *r = (run){.info = info};
  PTQ_TRY(ptq_kronecker_init(info, &r->factors, err));
  PTQ_TRY(ptq_alloc(&r->fisher, ptq_flat_layers(info), sizeof *r->fisher,
                    "Fisher traces", err));
  PTQ_TRY(ptq_alloc(&r->weight, sizes_of(info).weights, sizeof(float),
                    "gradient of a window", err));
done:
  return rc;
}

static void run_close(run *r) {
  ptq_kronecker_release(&r->factors);
  ptq_free(r->fisher);
  ptq_free(r->weight);
}

/* Windows come in their order. */
static ptq_status take_window(void *ctx, const ptq_grad_window *w,
                              ptq_err *err) {
  run *r = ctx;
  const int64_t out = ptq_role_outputs(r->info, ptq_layer_role(w->layer));
  const int64_t in = ptq_role_inputs(r->info, ptq_layer_role(w->layer));
  (void)err;
  ptq_kronecker_add(&r->factors, w);
  ptq_sgemm_tn(out, in, w->n, 1.0F, w->dy, out, w->x, in, 0.0F, r->weight, in);
  r->fisher[w->block * ptq_layer_count(r->info) + w->layer] +=
      ptq_vec_sum_sq(r->weight, out * in);
  return PTQ_OK;
}

/* Eigenvalues of one factor, which eats `scratch`[d, d + 1]. */
static ptq_status find_values(const double *factor, int64_t d, double *scratch,
                              ptq_spectrum_summary *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *values = scratch + d * d;
  for (int64_t i = 0; i < d * d; i++) scratch[i] = factor[i];
  PTQ_TRY(ptq_eigenvalues(scratch, d, values, err));
  *out = ptq_spectrum_summary_of(values, d);
done:
  return rc;
}

/* Layers of a site have the same input side: `last` is that of the layer
 * before. */
typedef struct side {
  const double *factor;
  ptq_spectrum_summary s;
} side;

/* Losses may be finite whose derivatives are not. */
static ptq_status check_finite(const double *factor, int64_t d,
                               const char *what, const char *layer,
                               ptq_err *err) {
  for (int64_t i = 0; i < d; i++)
    if (!isfinite(factor[i * (d + 1)]))
      return PTQ_FAIL(err, PTQ_E_NUMERIC,
                      "layer '%s': the second moment of its %s is not finite: "
                      "they overflow float32, or are NaN",
                      layer, what);
  return PTQ_OK;
}

static ptq_status sum_up(const run *r, int64_t flat, double *scratch,
                         side *last, ptq_direction_layer_row *row,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_role role = ptq_layer_role((int)(flat % ptq_layer_count(r->info)));
  const double *input = ptq_kronecker_input(&r->factors, flat);
  const double *back = ptq_kronecker_output(&r->factors, flat);
  const int64_t in = ptq_role_inputs(r->info, role);
  const int64_t out = ptq_role_outputs(r->info, role);
  ptq_spectrum_summary output;
  PTQ_TRY(check_finite(input, in, "inputs", row->layer, err));
  PTQ_TRY(check_finite(back, out, "outputs' derivatives", row->layer, err));
  if (last->factor != input)
    PTQ_TRY(find_values(input, in, scratch, &last->s, err));
  last->factor = input;
  row->input_trace = last->s.trace;
  row->input_max = last->s.max;
  row->input_rank = last->s.rank;
  row->input_condition = last->s.condition;
  row->input_tail = last->s.tail;
  PTQ_TRY(find_values(back, out, scratch, &output, err));
  row->output_trace = output.trace;
  row->output_max = output.max;
  row->output_rank = output.rank;
done:
  return rc;
}

ptq_status ptq_fisher_run(ptq_grad *g, const ptq_model_info *info,
                          ptq_direction_layer_row *rows, ptq_direction_row *row,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  run r = {0};
  side last = {0};
  double *scratch = NULL;
  const int64_t tokens = ptq_grad_tokens(g), widest = sizes_of(info).side;
  const ptq_grad_sink sink = {.ctx = &r, .window = take_window};
  int64_t n = 0;
  PTQ_TRY(run_open(&r, info, err));
  PTQ_TRY(ptq_alloc(&scratch, widest * (widest + 1), sizeof *scratch,
                    "eigenvalues", err));
  for (int64_t c = 0; c < ptq_grad_chunks(g); c++) {
    double nll = 0.0;
    PTQ_TRY(ptq_grad_run(g, c, c + 1, NULL, &sink, &nll, NULL, err));
  }
  ptq_kronecker_finish(&r.factors, tokens);
  row->fisher = 0.0;
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    if (!ptq_layer_present(info, (int)(i % ptq_layer_count(info)))) continue;
    rows[n].fisher = r.fisher[i] / (double)tokens;
    row->fisher += rows[n].fisher;
    PTQ_TRY(sum_up(&r, i, scratch, &last, &rows[n++], err));
  }
done:
  ptq_free(scratch);
  run_close(&r);
  return rc;
}

int64_t ptq_fisher_bytes(const ptq_model_info *info) {
  const sizes s = sizes_of(info);
  return ptq_kronecker_bytes(info) +
         (ptq_flat_layers(info) + s.side * (s.side + 1)) *
             (int64_t)sizeof(double) +
         s.weights * (int64_t)sizeof(float);
}

void ptq_fisher_work(const ptq_model_info *info, double *a_token, double *cubes,
                     double *squares) {
  int site = -1;
  *a_token = ptq_kronecker_flops(info);
  *cubes = *squares = 0.0;
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    const int layer = (int)(i % ptq_layer_count(info));
    const ptq_role role = ptq_layer_role(layer);
    if (!ptq_layer_present(info, layer)) continue;
    const double out = (double)ptq_role_outputs(info, role);
    const double in = (double)ptq_role_inputs(info, role);
    *a_token += 2.0 * out * in;
    *cubes += out * out * out;
    *squares += out * out;
    if (ptq_layer_site(layer) == site) continue;
    site = ptq_layer_site(layer);
    *cubes += in * in * in;
    *squares += in * in;
  }
}
