/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "reference.h"

#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

/* A mixture's experts have no module of their own: what feeds them feeds the
 * router too. */
bool ptq_reference_has_module(const ptq_model_info *info, int site) {
  return site == PTQ_SITE_ATTN_IN ||
         (site == PTQ_SITE_MLP_IN && info->n_experts == 0);
}

static ptq_status open_modules(ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_stream *calib = &r->calib;
  r->module_windows =
      calib->n < PTQ_MODULE_WINDOWS ? calib->n : PTQ_MODULE_WINDOWS;
  const int64_t own = ptq_room_share(calib->room, r->module_windows);
  const int64_t size = own * calib->length * calib->d;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    if (!ptq_reference_has_module(r->setup->info, s)) continue;
    PTQ_TRY(ptq_alloc(&r->module_in[s], size, sizeof(float),
                      "inputs of a module", err));
    PTQ_TRY(ptq_alloc(&r->module_out[s], size, sizeof(float),
                      "outputs of a module", err));
  }
done:
  return rc;
}

static ptq_status open_outputs(ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = r->setup->info;
  const ptq_windows *select = &r->setup->select;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    PTQ_TRY(ptq_kept_open(&r->outputs[role], r->setup->room, info,
                          ptq_role_site((ptq_role)role), select->n,
                          select->length,
                          ptq_role_outputs(info, (ptq_role)role), err));
  }
done:
  return rc;
}

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* Floats of tr(A H A') over either text. */
static int64_t product_size(const ptq_model_info *info, int64_t calib_n,
                            int64_t calib_length, int64_t select_n,
                            int64_t select_length) {
  return larger(
      ptq_collected_scratch(info, calib_n * calib_length, calib_length),
      ptq_collected_scratch(info, select_n * select_length, select_length));
}

/* Where no point wants them of the unquantized model, its moments serve errors
 * alone. */
static unsigned calib_uses(const ptq_load *load) {
  return PTQ_COLLECT_ERRORS |
         (load->statics > 0 ? (unsigned)PTQ_COLLECT_MOMENTS : 0U);
}

/* Only behind quantized blocks does the reference's input differ. */
static unsigned calib_needs(const ptq_load *load) {
  return load->needs & ~(unsigned)PTQ_NEED_CROSS;
}

static ptq_status open_inputs(ptq_reference *r, const ptq_load *load,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_setup *s = r->setup;
  PTQ_TRY(ptq_collected_open(&r->calib_inputs, s->info, s->room,
                             calib_uses(load), calib_needs(load), s->calib.n,
                             s->calib.length, err));
  PTQ_TRY(ptq_collected_open(&r->select_inputs, s->info, s->room,
                             PTQ_COLLECT_ERRORS, 0, s->select.n,
                             s->select.length, err));
done:
  return rc;
}

static ptq_status embed(ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_embedding e = {0};
  const ptq_setup *s = r->setup;
  PTQ_TRY(ptq_model_load_embedding(s->model, &e, err));
  PTQ_TRY(ptq_stream_embed(&r->calib, s->room, s->info, &e, &s->calib, err));
  PTQ_TRY(ptq_stream_embed(&r->select, s->room, s->info, &e, &s->select, err));
  PTQ_TRY(ptq_stream_embed(&r->eval, s->room, s->info, &e, &s->eval, err));
  PTQ_TRY(ptq_request_states_embed(&r->requests, s->room.team, s->info, &e,
                                   &s->requests, err));
done:
  ptq_embedding_release(&e);
  return rc;
}

static ptq_status open_products(ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_windows *calib = &r->setup->calib, *select = &r->setup->select;
  const int hands = r->setup->room.hands;
  PTQ_TRY(ptq_alloc(&r->product, hands, sizeof *r->product, "products", err));
  for (int h = 0; h < hands; h++)
    PTQ_TRY(ptq_alloc(&r->product[h],
                      product_size(r->setup->info, calib->n, calib->length,
                                   select->n, select->length),
                      sizeof(float), "a product", err));
done:
  return rc;
}

ptq_status ptq_reference_open(ptq_reference *r, const ptq_setup *setup,
                              const ptq_load *load, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *r = (ptq_reference){.setup = setup};
  PTQ_TRY(embed(r, err));
  PTQ_TRY(open_inputs(r, load, err));
  PTQ_TRY(open_outputs(r, err));
  PTQ_TRY(ptq_alloc(&r->energy, ptq_layer_count(setup->info), sizeof *r->energy,
                    "energies", err));
  PTQ_TRY(open_products(r, err));
  if (load->own_needs & PTQ_NEED_CROSS)
    PTQ_TRY(ptq_stream_copy(&r->before, &r->calib, err));
  if ((load->needs | load->own_needs) & PTQ_NEED_MODULE_LOSS)
    PTQ_TRY(open_modules(r, err));
done:
  if (rc != PTQ_OK) ptq_reference_close(r);
  return rc;
}

void ptq_reference_end(ptq_reference *r) {
  ptq_stream_release(&r->calib);
  ptq_stream_release(&r->select);
  ptq_stream_release(&r->before);
  ptq_collected_close(&r->calib_inputs);
  ptq_collected_close(&r->select_inputs);
  ptq_block_release(&r->block);
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    ptq_free(r->module_in[s]);
    ptq_free(r->module_out[s]);
    r->module_in[s] = r->module_out[s] = NULL;
  }
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    ptq_kept_close(&r->outputs[role]);
  ptq_free(r->energy);
  for (int h = 0; r->product != NULL && h < r->setup->room.hands; h++)
    ptq_free(r->product[h]);
  ptq_free(r->product);
  r->energy = NULL;
  r->product = NULL;
}

void ptq_reference_close(ptq_reference *r) {
  ptq_reference_end(r);
  ptq_stream_release(&r->eval);
  ptq_request_states_release(&r->requests);
  *r = (ptq_reference){0};
}

/* A pass of the reference over a text. */
typedef struct pass {
  ptq_reference *r;
  const ptq_hands *hands;
} pass;

/* A hook's context: the reference on a window of a text. */
typedef struct watch {
  ptq_reference *r;
  ptq_collector in;
} watch;

static void keep_module(const ptq_reference *r, float *const *to, int site,
                        int64_t window, const float *x, int64_t size) {
  if (site < PTQ_SITE_COUNT && to[site] != NULL && window < r->module_windows)
    memcpy(to[site] + ptq_spool_place(&r->calib.h, window) * size, x,
           (size_t)size * sizeof *x);
}

static ptq_status calibrate_input(void *ctx, int site, const float *x,
                                  int64_t n, int64_t width, ptq_err *err) {
  watch *w = ctx;
  keep_module(w->r, w->r->module_in, site, w->in.window, x, n * width);
  return ptq_collect_input(&w->in, site, x, n, width, err);
}

static ptq_status see_routed(void *ctx, int expert, const int32_t *tokens,
                             int64_t n, ptq_err *err) {
  watch *w = ctx;
  return ptq_collect_routed(&w->in, expert, tokens, n, err);
}

static ptq_status calibrate_output(void *ctx, int layer, const float *y,
                                   int64_t n, int64_t out, ptq_err *err) {
  const watch *w = ctx;
  (void)err;
  if (layer == PTQ_ROLE_O)
    keep_module(w->r, w->r->module_out, PTQ_SITE_ATTN_IN, w->in.window, y,
                n * out);
  if (layer == PTQ_ROLE_DOWN)
    keep_module(w->r, w->r->module_out, PTQ_SITE_MLP_IN, w->in.window, y,
                n * out);
  return PTQ_OK;
}

static ptq_status calibrate_window(void *ctx, int hand, int64_t i,
                                   ptq_order *order, ptq_err *err) {
  const pass *p = ctx;
  ptq_reference *r = p->r;
  ptq_status rc = PTQ_OK;
  watch w = {.r = r,
             .in = ptq_collect_window(&r->calib_inputs, hand, i, order)};
  const ptq_forward_hook hook = {.ctx = &w,
                                 .input = calibrate_input,
                                 .output = calibrate_output,
                                 .routed = see_routed};
  PTQ_TRY(ptq_stream_push(&r->calib, p->hands, hand, i, &r->block, &hook, err));
  PTQ_TRY(ptq_collect_window_end(&w.in, err));
done:
  return rc;
}

/* The pass over the calibration text. */
static ptq_status calibrate(ptq_reference *r, const ptq_hands *hands,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  pass p = {.r = r, .hands = hands};
  if (r->before.n > 0) PTQ_TRY(ptq_stream_assign(&r->before, &r->calib, err));
  PTQ_TRY(ptq_collect_pass(&r->calib_inputs, (ptq_site)0, PTQ_SITE_MLP_OUT,
                           calibrate_window, &p, err));
done:
  return rc;
}

static ptq_status select_input(void *ctx, int site, const float *x, int64_t n,
                               int64_t width, ptq_err *err) {
  watch *w = ctx;
  return ptq_collect_input(&w->in, site, x, n, width, err);
}

static ptq_status select_output(void *ctx, int layer, const float *y, int64_t n,
                                int64_t out, ptq_err *err) {
  const watch *w = ctx;
  (void)out, (void)err;
  ptq_kept_add(&w->r->outputs[ptq_layer_role(layer)], w->in.hand,
               ptq_layer_expert(layer), y, w->in.tokens, n);
  return PTQ_OK;
}

static bool has_outputs(const ptq_reference *r, int role) {
  return ptq_role_present(r->setup->info, (ptq_role)role);
}

static ptq_status select_window(void *ctx, int hand, int64_t i,
                                ptq_order *order, ptq_err *err) {
  const pass *p = ctx;
  ptq_reference *r = p->r;
  ptq_status rc = PTQ_OK;
  watch w = {.r = r,
             .in = ptq_collect_window(&r->select_inputs, hand, i, order)};
  const ptq_forward_hook hook = {.ctx = &w,
                                 .input = select_input,
                                 .output = select_output,
                                 .routed = see_routed};
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    if (has_outputs(r, role)) ptq_kept_begin(&r->outputs[role], hand, i);
  PTQ_TRY(
      ptq_stream_push(&r->select, p->hands, hand, i, &r->block, &hook, err));
  PTQ_TRY(ptq_collect_window_end(&w.in, err));
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    if (has_outputs(r, role))
      PTQ_TRY(ptq_kept_end(&r->outputs[role], hand, err));
done:
  return rc;
}

/* The pass over the selection text. */
static ptq_status select_pass(ptq_reference *r, const ptq_hands *hands,
                              ptq_err *err) {
  pass p = {.r = r, .hands = hands};
  return ptq_collect_pass(&r->select_inputs, (ptq_site)0, PTQ_SITE_MLP_OUT,
                          select_window, &p, err);
}

static ptq_status weigh_layer(void *ctx, int hand, int64_t layer,
                              ptq_order *order, ptq_err *err) {
  ptq_reference *r = ctx;
  const ptq_linear *l = &r->block.linear[layer];
  (void)hand, (void)order, (void)err;
  if (l->weight != NULL)
    r->energy[layer].weight = ptq_vec_sum_sq(l->weight, l->out * l->in);
  return PTQ_OK;
}

static ptq_status measure_energies(ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int layers = ptq_layer_count(r->setup->info);
  ptq_error_job *jobs = NULL;
  int n = 0;
  PTQ_TRY(ptq_alloc(&jobs, 2 * layers, sizeof *jobs, "energies", err));
  const ptq_room *room = &r->setup->room;
  PTQ_TRY(ptq_team_run(room->team, room->hands, layers, weigh_layer, r, err));
  PTQ_TRY(
      ptq_team_share(room->team, r->energy, layers, sizeof *r->energy, 1, err));
  for (int layer = 0; layer < layers; layer++) {
    const ptq_linear *l = &r->block.linear[layer];
    ptq_energies *e = &r->energy[layer];
    if (l->weight == NULL) continue;
    ptq_error_job job = {.c = &r->calib_inputs,
                         .site = ptq_layer_site(layer),
                         .e = l->weight,
                         .rows = l->out,
                         .out = &e->calib};
    jobs[n++] = job;
    job.c = &r->select_inputs;
    job.out = &e->select;
    jobs[n++] = job;
  }
  PTQ_TRY(ptq_collected_errors(jobs, n, r->product, err));
done:
  ptq_free(jobs);
  return rc;
}

ptq_status ptq_reference_block(ptq_reference *r, int64_t index,
                               const ptq_hands *hands, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_block_release(&r->block);
  PTQ_TRY(ptq_model_load_block(r->setup->model, index, &r->block, err));
  PTQ_TRY(calibrate(r, hands, err));
  PTQ_TRY(select_pass(r, hands, err));
  PTQ_TRY(ptq_stream_advance(&r->eval, hands, &r->block, err));
  PTQ_TRY(ptq_request_states_advance(&r->requests, hands, &r->block, err));
  PTQ_TRY(measure_energies(r, err));
done:
  return rc;
}

ptq_reference_size ptq_reference_bytes(const ptq_model_info *info,
                                       const ptq_texts *t,
                                       const ptq_load *load) {
  const int64_t one = sizeof(float);
  const ptq_text_spec *calib = t->calib, *select = t->select;
  ptq_reference_size size = {
      .calib =
          ptq_collected_bytes(info, t->room, calib_uses(load),
                              calib_needs(load), calib->windows, calib->length),
      .select = ptq_collected_bytes(info, t->room, PTQ_COLLECT_ERRORS, 0,
                                    select->windows, select->length)};
  size.fixed = ptq_model_block_bytes(info) +
               one * t->room.hands *
                   product_size(info, calib->windows, calib->length,
                                select->windows, select->length);
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    if (ptq_role_present(info, (ptq_role)role))
      size.fixed += ptq_kept_bytes(t->room, info, ptq_role_site((ptq_role)role),
                                   select->windows, select->length,
                                   ptq_role_outputs(info, (ptq_role)role));
  if (load->own_needs & PTQ_NEED_CROSS)
    size.fixed +=
        ptq_spool_bytes(t->room, calib->windows, calib->length * info->d_model);
  if ((load->needs | load->own_needs) & PTQ_NEED_MODULE_LOSS) {
    const int64_t n = ptq_room_share(
        t->room, calib->windows < PTQ_MODULE_WINDOWS ? calib->windows
                                                     : PTQ_MODULE_WINDOWS);
    const int modules = info->n_experts > 0 ? 1 : 2;
    size.fixed += 2 * modules * one * n * calib->length * info->d_model;
  }
  return size;
}
