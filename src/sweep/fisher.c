/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fisher.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/blas.h"
#include "ptq/num/moment.h"
#include "ptq/num/vec.h"

typedef struct layer {
  ptq_moment output; /* owned */
  double fisher;     /* sum over windows of the squared gradient */
} layer;

typedef struct run {
  const ptq_model_info *info;
  layer *layers; /* owned; [ptq_flat_layers] */
  float *moment; /* owned; scratch of a window's moment */
  float *weight; /* owned; [largest layer] a window's gradient */
} run;

typedef struct sizes {
  int64_t outputs, weights; /* most of a layer */
} sizes;

static sizes sizes_of(const ptq_model_info *info) {
  sizes s = {0};
  for (int l = 0; l < ptq_layer_count(info); l++) {
    if (!ptq_layer_present(info, l)) continue;
    const int64_t out = ptq_role_outputs(info, ptq_layer_role(l));
    const int64_t n = out * ptq_role_inputs(info, ptq_layer_role(l));
    if (out > s.outputs) s.outputs = out;
    if (n > s.weights) s.weights = n;
  }
  return s;
}

static int64_t outputs_of(const ptq_model_info *info, int64_t flat) {
  const int l = (int)(flat % ptq_layer_count(info));
  return ptq_layer_present(info, l) ? ptq_role_outputs(info, ptq_layer_role(l))
                                    : 0;
}

static ptq_status run_open(run *r, const ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const sizes s = sizes_of(info);
  const int64_t n = ptq_flat_layers(info);
  *r = (run){.info = info};
  PTQ_TRY(ptq_alloc(&r->layers, n, sizeof *r->layers, "moments", err));
  for (int64_t i = 0; i < n; i++)
    if (outputs_of(info, i) > 0)
      PTQ_TRY(ptq_moment_init(&r->layers[i].output, outputs_of(info, i), err));
  PTQ_TRY(ptq_alloc(&r->moment, ptq_moment_scratch(s.outputs), sizeof(float),
                    "moment of a window", err));
  PTQ_TRY(ptq_alloc(&r->weight, s.weights, sizeof(float),
                    "gradient of a window", err));
done:
  return rc;
}

static void run_close(run *r) {
  for (int64_t i = 0; r->layers != NULL && i < ptq_flat_layers(r->info); i++)
    ptq_moment_release(&r->layers[i].output);
  ptq_free(r->layers);
  ptq_free(r->moment);
  ptq_free(r->weight);
}

/* Windows come in their order. */
static ptq_status take_window(void *ctx, const ptq_grad_window *w,
                              ptq_err *err) {
  run *r = ctx;
  layer *to = &r->layers[w->block * ptq_layer_count(r->info) + w->layer];
  const int64_t out = ptq_role_outputs(r->info, ptq_layer_role(w->layer));
  const int64_t in = ptq_role_inputs(r->info, ptq_layer_role(w->layer));
  (void)err;
  ptq_moment_add(&to->output, w->dy, w->n, r->moment);
  ptq_sgemm_tn(out, in, w->n, 1.0F, w->dy, out, w->x, in, 0.0F, r->weight, in);
  to->fisher += ptq_vec_sum_sq(r->weight, out * in);
  return PTQ_OK;
}

/* A moment's sum over tokens as numbers a token. */
static ptq_status sum_up(ptq_moment *m, double tokens, double *values,
                         ptq_direction_layer_row *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double trace = 0.0, entropy = 0.0;
  for (int64_t i = 0; i < m->d * m->d; i++) m->sum[i] /= tokens;
  PTQ_TRY(ptq_eigenvalues(m->sum, m->d, values, err));
  for (int64_t i = 0; i < m->d; i++) trace += fmax(0.0, values[i]);
  for (int64_t i = 0; i < m->d && values[i] > 0.0; i++)
    entropy -= values[i] / trace * log(values[i] / trace);
  r->output_trace = trace;
  r->output_max = values[0];
  r->output_rank = trace > 0.0 ? exp(entropy) : 0.0;
done:
  return rc;
}

ptq_status ptq_fisher_run(ptq_grad *g, const ptq_model_info *info,
                          ptq_direction_layer_row *rows, ptq_direction_row *row,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  run r = {0};
  double *values = NULL;
  const double tokens = (double)ptq_grad_tokens(g);
  const ptq_grad_sink sink = {.ctx = &r, .window = take_window};
  int64_t n = 0;
  PTQ_TRY(run_open(&r, info, err));
  PTQ_TRY(ptq_alloc(&values, sizes_of(info).outputs, sizeof *values,
                    "eigenvalues", err));
  for (int64_t c = 0; c < ptq_grad_chunks(g); c++) {
    double nll = 0.0;
    PTQ_TRY(ptq_grad_run(g, c, c + 1, NULL, &sink, &nll, NULL, err));
  }
  row->fisher = 0.0;
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    if (outputs_of(info, i) == 0) continue;
    rows[n].fisher = r.layers[i].fisher / tokens;
    row->fisher += rows[n].fisher;
    PTQ_TRY(sum_up(&r.layers[i].output, tokens, values, &rows[n++], err));
  }
done:
  ptq_free(values);
  run_close(&r);
  return rc;
}

int64_t ptq_fisher_bytes(const ptq_model_info *info) {
  const sizes s = sizes_of(info);
  int64_t bytes =
      (ptq_moment_scratch(s.outputs) + s.weights) * (int64_t)sizeof(float);
  for (int64_t i = 0; i < ptq_flat_layers(info); i++)
    bytes +=
        outputs_of(info, i) * outputs_of(info, i) * (int64_t)sizeof(double);
  return bytes;
}

void ptq_fisher_work(const ptq_model_info *info, double *a_token, double *cubes,
                     double *squares) {
  *a_token = *cubes = *squares = 0.0;
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    const double out = (double)outputs_of(info, i);
    const ptq_role role = ptq_layer_role((int)(i % ptq_layer_count(info)));
    if (out == 0.0) continue;
    *a_token += out * (out + 2.0 * (double)ptq_role_inputs(info, role));
    *cubes += out * out * out;
    *squares += out * out;
  }
}
