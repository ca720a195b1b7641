/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lane.h"

#include <math.h>
#include <string.h>

#include "clock.h"
#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

double ptq_decibel(double signal, double noise) {
  if (noise == 0.0) return signal > 0.0 ? (double)INFINITY : (double)NAN;
  return 10.0 * log10(signal / noise);
}

ptq_status ptq_lane_open(ptq_lane *l, const ptq_grid *g, int64_t point,
                         ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_point *p = &g->points[point];
  *l = (ptq_lane){
      .grid = g, .point = point, .method = &g->spec->methods[p->method]};
  l->mode = l->method->family->mode(l->method);
  PTQ_TRY(ptq_alloc(&l->layers, ptq_subject_layers(&g->subjects[p->subject]),
                    sizeof *l->layers, "layer results", err));
  PTQ_TRY(ptq_stream_copy(&l->select, &r->select, err));
  PTQ_TRY(ptq_stream_copy(&l->eval, &r->eval, err));
  PTQ_TRY(
      ptq_request_states_copy(&l->requests, r->setup->info, &r->requests, err));
  if (ptq_method_is_sequential(l->method))
    PTQ_TRY(ptq_stream_copy(&l->calib, &r->calib, err));
done:
  if (rc != PTQ_OK) ptq_lane_close(l);
  return rc;
}

void ptq_lane_end(ptq_lane *l) {
  ptq_stream_release(&l->calib);
  ptq_stream_release(&l->select);
}

void ptq_lane_close(ptq_lane *l) {
  ptq_lane_end(l);
  ptq_stream_release(&l->eval);
  ptq_request_states_release(&l->requests);
  ptq_free(l->layers);
  *l = (ptq_lane){0};
}

/* The unquantized model's inputs on window i of the calibration text. */
static ptq_status keep_reference(ptq_reference *r, ptq_workbench *b,
                                 ptq_workspace *ws, int64_t i, ptq_site last,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  float *h = NULL;
  const ptq_forward_hook hook = {.ctx = &b->inputs,
                                 .input = ptq_collect_reference,
                                 .routed = ptq_collect_routed};
  PTQ_TRY(ptq_stream_window(&r->before, i, &h, err));
  memcpy(b->hidden, h,
         (size_t)(r->before.length * r->before.d) * sizeof *b->hidden);
  PTQ_TRY(ptq_block_forward(r->setup->info, &r->block, b->hidden,
                            r->before.length, ws, &hook, last, err));
  PTQ_TRY(ptq_collect_reference_end(&b->inputs, err));
done:
  return rc;
}

/* The inputs of kinds first..last over the lane's own calibration stream
 * through the block as quantized so far. */
static ptq_status collect(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                          ptq_workspace *ws, ptq_site first, ptq_site last,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_forward_hook hook = {.ctx = &b->inputs,
                                 .input = ptq_collect_input,
                                 .routed = ptq_collect_routed};
  const size_t bytes =
      (size_t)(l->calib.length * l->calib.d) * sizeof *b->hidden;
  PTQ_TRY(ptq_collect_begin(&b->inputs, first, last, err));
  for (int64_t i = 0; i < l->calib.n; i++) {
    float *h = NULL;
    ptq_collect_window(&b->inputs, i);
    if (b->inputs.needs & PTQ_NEED_CROSS)
      PTQ_TRY(keep_reference(r, b, ws, i, last, err));
    PTQ_TRY(ptq_stream_window(&l->calib, i, &h, err));
    memcpy(b->hidden, h, bytes);
    PTQ_TRY(ptq_block_forward(r->setup->info, &b->block, b->hidden,
                              l->calib.length, ws, &hook, last, err));
    PTQ_TRY(ptq_collect_window_end(&b->inputs, err));
  }
done:
  return rc;
}

/* The rows of a kind that the batch's only point is done with. */
static void drop(ptq_reference *r, ptq_workbench *b, ptq_site kind) {
  if (!b->alone) return;
  ptq_collected_drop(&r->calib_inputs, kind);
  ptq_collected_drop(&r->select_inputs, kind);
  if (b->inputs.info != NULL) ptq_collected_drop(&b->inputs, kind);
}

/* Kind by kind: experts see nothing of each other. */
static ptq_status quantize_block(ptq_lane *l, ptq_reference *r,
                                 ptq_workbench *b, ptq_workspace *ws,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = r->setup->info;
  if (l->mode == PTQ_CALIB_SEQUENTIAL)
    PTQ_TRY(collect(l, r, b, ws, (ptq_site)0, PTQ_SITE_MLP_OUT, err));
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    const ptq_site kind =
        (ptq_site)(l->method->family->backward ? PTQ_SITE_COUNT - 1 - i : i);
    const int experts = kind >= PTQ_SITE_MLP_IN ? ptq_mlp_count(info) : 1;
    if (l->mode == PTQ_CALIB_TRUE_SEQUENTIAL)
      PTQ_TRY(collect(l, r, b, ws, kind, kind, err));
    for (int e = 0; e < experts; e++)
      PTQ_TRY(ptq_lane_site(l, r, b, ws, ptq_site_of(kind, e), err));
    drop(r, b, kind);
  }
done:
  return rc;
}

/* Hook of the lane's selection pass: how far its outputs are from the
 * reference's. */
typedef struct propagated {
  ptq_reference *r;
  ptq_workbench *b;
  int64_t window;
  const int32_t *tokens; /* borrowed; of the expert at hand */
} propagated;

static ptq_status see_routed(void *ctx, int expert, const int32_t *tokens,
                             int64_t n, ptq_err *err) {
  propagated *p = ctx;
  (void)expert, (void)n, (void)err;
  p->tokens = tokens;
  return PTQ_OK;
}

/* An expert's outputs are compared on the tokens that both models give it. */
static ptq_status compare_output(void *ctx, int layer, const float *y,
                                 int64_t n, int64_t out, ptq_err *err) {
  const propagated *p = ctx;
  ptq_kept *outputs = &p->r->outputs[ptq_layer_role(layer)];
  double *noise = &p->b->noise[layer], *signal = &p->b->signal[layer];
  ptq_kept_part ref;
  const ptq_status rc =
      ptq_kept_get(outputs, p->window, ptq_layer_expert(layer), &ref, err);
  if (rc != PTQ_OK) return rc;
  if (ref.tokens == NULL) {
    *noise += ptq_vec_sum_sq_diff(ref.x, y, n * out);
    *signal += ptq_vec_sum_sq(ref.x, n * out);
    return PTQ_OK;
  }
  const ptq_kept_part own = {.x = y, .tokens = p->tokens, .n = n};
  int64_t i = -1, j = -1;
  while (ptq_kept_next(&own, &ref, &i, &j)) {
    *noise += ptq_vec_sum_sq_diff(ref.x + j * out, y + i * out, out);
    *signal += ptq_vec_sum_sq(ref.x + j * out, out);
  }
  return PTQ_OK;
}

static ptq_status advance(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                          ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = r->setup->info;
  const int layers = ptq_layer_count(info);
  propagated pass = {.r = r, .b = b};
  const ptq_forward_hook hook = {
      .ctx = &pass, .output = compare_output, .routed = see_routed};
  for (int i = 0; i < layers; i++) b->noise[i] = b->signal[i] = 0.0;
  for (pass.window = 0; pass.window < l->select.n; pass.window++)
    PTQ_TRY(ptq_stream_push(&l->select, pass.window, info, &b->block, ws, &hook,
                            err));
  ptq_layer_row *row = &l->layers[l->first_layer];
  for (int i = 0; i < layers; i++)
    if (ptq_layer_present(info, i))
      (row++)->sqnr_output_prop = ptq_decibel(b->signal[i], b->noise[i]);
  PTQ_TRY(ptq_stream_advance(&l->eval, info, &b->block, ws, err));
  PTQ_TRY(ptq_request_states_advance(&l->requests, info, &b->block, ws, err));
  if (l->calib.n > 0)
    PTQ_TRY(ptq_stream_advance(&l->calib, info, &b->block, ws, err));
done:
  return rc;
}

void ptq_lane_block(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                    ptq_workspace *ws) {
  if (l->status != PTQ_OK) return;
  const double start = ptq_clock();
  l->first_layer = l->n_layers;
  ptq_workbench_begin(b, r->setup->info, &r->block);
  l->status = quantize_block(l, r, b, ws, &l->err);
  if (l->status == PTQ_OK) l->status = advance(l, r, b, ws, &l->err);
  l->seconds += ptq_clock() - start;
}
