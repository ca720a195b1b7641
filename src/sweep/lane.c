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
  if (ptq_method_is_sequential(l->method) ||
      (ptq_method_needs(l->method) & PTQ_NEED_BLOCK_LOSS) != 0)
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

/* A pass of a lane over one of its texts. */
typedef struct pass {
  ptq_lane *l;
  ptq_reference *r;
  ptq_workbench *b;
  const ptq_hands *hands;
  ptq_site last; /* where it ends */
} pass;

/* Window i of `s` through a block up to the pass's last site; the stream stays
 * where it is. */
static ptq_status look(const pass *p, ptq_stream *s, const ptq_block *block,
                       ptq_collector *w, const ptq_forward_hook *hook,
                       ptq_err *err) {
  float *h = NULL, *hidden = p->b->hidden[w->hand];
  const ptq_status rc = ptq_stream_window(s, w->hand, w->window, &h, err);
  if (rc != PTQ_OK) return rc;
  memcpy(hidden, h, (size_t)(s->length * s->d) * sizeof *hidden);
  return ptq_block_forward(p->hands->info, block, hidden, s->length,
                           p->hands->ws[w->hand], hook, p->last, err);
}

static ptq_status collect_window(void *ctx, int hand, int64_t i,
                                 ptq_order *order, ptq_err *err) {
  const pass *p = ctx;
  ptq_status rc = PTQ_OK;
  ptq_collector w = ptq_collect_window(&p->b->inputs, hand, i, order);
  const ptq_forward_hook own = {
      .ctx = &w, .input = ptq_collect_input, .routed = ptq_collect_routed};
  const ptq_forward_hook reference = {
      .ctx = &w, .input = ptq_collect_reference, .routed = ptq_collect_routed};
  if (p->b->inputs.needs & PTQ_NEED_CROSS) {
    PTQ_TRY(look(p, &p->r->before, &p->r->block, &w, &reference, err));
    PTQ_TRY(ptq_collect_reference_end(&w, err));
  }
  PTQ_TRY(look(p, &p->l->calib, &p->b->block, &w, &own, err));
  PTQ_TRY(ptq_collect_window_end(&w, err));
done:
  return rc;
}

/* The inputs of kinds first..last over the lane's own calibration stream
 * through the block as quantized so far. */
static ptq_status collect(const pass *given, ptq_site first, ptq_site last,
                          ptq_err *err) {
  pass p = *given;
  p.last = last;
  return ptq_collect_pass(&p.b->inputs, first, last, collect_window, &p, err);
}

/* The rows of a kind that the batch's only point is done with. */
static void drop(ptq_reference *r, ptq_workbench *b, ptq_site kind) {
  if (!b->alone) return;
  ptq_collected_drop(&r->calib_inputs, kind);
  ptq_collected_drop(&r->select_inputs, kind);
  if (b->inputs.info != NULL) ptq_collected_drop(&b->inputs, kind);
}

/* Kind by kind: experts see nothing of each other. */
static ptq_status quantize_block(const pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_lane *l = p->l;
  if (l->method->family->tune_block != NULL)
    PTQ_TRY(ptq_lane_tune(p->l, p->r, p->b, err));
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    const ptq_site kind =
        (ptq_site)(l->method->family->backward ? PTQ_SITE_COUNT - 1 - i : i);
    const int experts =
        kind >= PTQ_SITE_MLP_IN ? ptq_mlp_count(p->hands->info) : 1;
    if (l->mode == PTQ_CALIB_SEQUENTIAL && i == 0)
      PTQ_TRY(collect(p, (ptq_site)0, PTQ_SITE_MLP_OUT, err));
    if (l->mode == PTQ_CALIB_TRUE_SEQUENTIAL)
      PTQ_TRY(collect(p, kind, kind, err));
    for (int e = 0; e < experts; e++)
      PTQ_TRY(
          ptq_lane_site(p->l, p->r, p->b, p->hands, ptq_site_of(kind, e), err));
    drop(p->r, p->b, kind);
  }
done:
  return rc;
}

/* Hook of the lane's selection pass: how far its outputs are from the
 * reference's. */
typedef struct propagated {
  const pass *p;
  int hand;
  int64_t window;
  ptq_order *order;      /* of the windows, at layers */
  const int32_t *tokens; /* borrowed; of the expert at hand */
} propagated;

static ptq_status see_routed(void *ctx, int expert, const int32_t *tokens,
                             int64_t n, ptq_err *err) {
  propagated *p = ctx;
  (void)expert, (void)n, (void)err;
  p->tokens = tokens;
  return PTQ_OK;
}

/* A layer's sums over the tokens that both models give an expert. */
static void compare_routed(const ptq_kept_part *own, const ptq_kept_part *ref,
                           int64_t out, double *noise, double *signal) {
  int64_t i = -1, j = -1;
  while (ptq_kept_next(own, ref, &i, &j)) {
    *noise += ptq_vec_sum_sq_diff(ref->x + j * out, own->x + i * out, out);
    *signal += ptq_vec_sum_sq(ref->x + j * out, out);
  }
}

/* Sums go on in the order of windows. */
static ptq_status compare_output(void *ctx, int layer, const float *y,
                                 int64_t n, int64_t out, ptq_err *err) {
  const propagated *p = ctx;
  ptq_status rc = PTQ_OK;
  ptq_kept *outputs = &p->p->r->outputs[ptq_layer_role(layer)];
  double *noise = &p->p->b->noise[layer], *signal = &p->p->b->signal[layer];
  double own_noise = 0.0, own_signal = 0.0;
  ptq_kept_part ref;
  PTQ_TRY(ptq_kept_get(outputs, p->hand, p->window, ptq_layer_expert(layer),
                       &ref, err));
  if (ref.tokens == NULL) {
    own_noise = ptq_vec_sum_sq_diff(ref.x, y, n * out);
    own_signal = ptq_vec_sum_sq(ref.x, n * out);
  }
  PTQ_TRY(ptq_order_wait(p->order, layer, p->window, err));
  const ptq_kept_part own = {.x = y, .tokens = p->tokens, .n = n};
  if (ref.tokens != NULL) compare_routed(&own, &ref, out, noise, signal);
  *noise += own_noise;
  *signal += own_signal;
  ptq_order_pass(p->order, layer, p->window);
done:
  return rc;
}

static ptq_status select_window(void *ctx, int hand, int64_t i,
                                ptq_order *order, ptq_err *err) {
  const pass *p = ctx;
  propagated w = {.p = p, .hand = hand, .window = i, .order = order};
  const ptq_forward_hook hook = {
      .ctx = &w, .output = compare_output, .routed = see_routed};
  return ptq_stream_push(&p->l->select, p->hands, hand, i, &p->b->block, &hook,
                         err);
}

static ptq_status advance(pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_lane *l = p->l;
  const ptq_block *block = &p->b->block;
  const ptq_model_info *info = p->hands->info;
  const int layers = ptq_layer_count(info);
  for (int i = 0; i < layers && ptq_team_leads(p->hands->team); i++)
    p->b->noise[i] = p->b->signal[i] = 0.0;
  PTQ_TRY(ptq_team_run_ordered(p->hands->team, p->hands->n, 0, l->select.n,
                               layers, select_window, p, err));
  ptq_layer_row *row = &l->layers[l->first_layer];
  for (int i = 0; i < layers; i++)
    if (ptq_layer_present(info, i))
      (row++)->sqnr_output_prop = ptq_decibel(p->b->signal[i], p->b->noise[i]);
  PTQ_TRY(ptq_stream_advance(&l->eval, p->hands, block, err));
  PTQ_TRY(ptq_request_states_advance(&l->requests, p->hands, block, err));
  if (l->calib.n > 0)
    PTQ_TRY(ptq_stream_advance(&l->calib, p->hands, block, err));
done:
  return rc;
}

void ptq_lane_block(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                    const ptq_hands *hands) {
  if (l->status != PTQ_OK) return;
  const double start = ptq_clock();
  pass p = {.l = l, .r = r, .b = b, .hands = hands};
  l->first_layer = l->n_layers;
  ptq_workbench_begin(b, hands->info, &r->block);
  l->status = quantize_block(&p, &l->err);
  ptq_lane_untune(l, hands->info);
  if (l->status == PTQ_OK) l->status = advance(&p, &l->err);
  l->seconds += ptq_clock() - start;
}
