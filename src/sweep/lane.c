/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lane.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

double ptq_decibel(double signal, double noise) {
  if (noise == 0.0) return signal > 0.0 ? (double)INFINITY : (double)NAN;
  return 10.0 * log10(signal / noise);
}

static bool is_sequential(ptq_calibration_mode mode) {
  return mode == PTQ_CALIB_SEQUENTIAL || mode == PTQ_CALIB_TRUE_SEQUENTIAL;
}

ptq_status ptq_lane_open(ptq_lane *l, const ptq_grid *g, int64_t point,
                         const ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_point *p = &g->points[point];
  *l = (ptq_lane){.point = point,
                  .dtype = &g->spec->dtypes[p->dtype],
                  .method = &g->spec->methods[p->method],
                  .group = p->group};
  l->mode = l->method->family->mode(l->method);
  PTQ_TRY(ptq_alloc(&l->layers, ptq_subject_layers(&g->subjects[p->subject]),
                    sizeof *l->layers, "layer results", err));
  PTQ_TRY(ptq_stream_copy(&l->select, &r->select, err));
  PTQ_TRY(ptq_stream_copy(&l->eval, &r->eval, err));
  if (is_sequential(l->mode))
    PTQ_TRY(ptq_stream_copy(&l->calib, &r->calib, err));
done:
  if (rc != PTQ_OK) ptq_lane_close(l);
  return rc;
}

void ptq_lane_close(ptq_lane *l) {
  ptq_stream_release(&l->calib);
  ptq_stream_release(&l->select);
  ptq_stream_release(&l->eval);
  ptq_free(l->layers);
  *l = (ptq_lane){0};
}

static void hash_codes(const ptq_workbench *b, const ptq_linear *w,
                       int64_t n_params, char text[17]) {
  const uint64_t parts[2] = {
      ptq_hash64(b->codes, (size_t)(w->out * w->in) * sizeof *b->codes),
      ptq_hash64(b->params, (size_t)n_params * sizeof *b->params)};
  snprintf(text, 17, "%016" PRIx64, ptq_hash64(parts, sizeof parts));
}

/* The layer's row but for the propagated error, which the selection pass
 * adds. */
static void record_layer(ptq_lane *l, const ptq_reference *r, ptq_workbench *b,
                         ptq_role role, const ptq_quant_output *out) {
  const ptq_linear *w = &r->block.linear[role];
  const ptq_site site = ptq_role_site(role);
  const int64_t n = w->out * w->in;
  ptq_layer_row *row = &l->layers[l->n_layers++];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_LAYERS), row);
  row->point = l->point;
  ptq_role_tensor_name(r->setup->model, r->block.index, role, row->layer);
  for (int64_t i = 0; i < n; i++) b->error[i] = w->weight[i] - out->y[i];
  const double noise = ptq_vec_sum_sq(b->error, n);
  row->sqnr_weight = ptq_decibel(r->weight_energy[role], noise);
  row->sqnr_output =
      ptq_decibel(r->select_energy[role],
                  ptq_moment_quadratic(b->error, w->out, r->h_select32[site],
                                       w->in, r->product));
  row->err_hessian = ptq_moment_quadratic(b->error, w->out, r->h_calib32[site],
                                          w->in, r->product) /
                     r->calib_energy[role];
  row->damp = out->damp;
  const int64_t n_params = l->group == PTQ_GROUP_TENSOR
                               ? 1
                               : w->out * ptq_dtype_groups(w->in, l->group);
  hash_codes(b, w, n_params, row->codes);
  l->weight_energy += r->weight_energy[role];
  l->weight_noise += noise;
  l->storage_bits += out->storage_bits;
}

static ptq_status quantize_role(ptq_lane *l, const ptq_reference *r,
                                ptq_workbench *b, ptq_role role,
                                const double *h, ptq_factor_cache *cache,
                                ptq_err *err) {
  const ptq_linear *w = &r->block.linear[role];
  const ptq_quant_input in = {.w = w->weight,
                              .rows = w->out,
                              .cols = w->in,
                              .dtype = l->dtype,
                              .group = l->group,
                              .h = h,
                              .cache_site = (int)ptq_role_site(role),
                              .cache = cache,
                              .threads = 1};
  ptq_quant_output out = {.y = b->role_weights[role],
                          .q = b->codes,
                          .params = b->params,
                          .damp = (double)NAN};
  const ptq_status rc = l->method->family->quantize(l->method, &in, &out, err);
  if (rc != PTQ_OK) return rc;
  b->block.linear[role].weight = b->role_weights[role];
  record_layer(l, r, b, role, &out);
  return PTQ_OK;
}

static ptq_status quantize_site(ptq_lane *l, const ptq_reference *r,
                                ptq_workbench *b, ptq_site site,
                                const double *h, ptq_factor_cache *cache,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int role = 0; role < PTQ_ROLE_COUNT && rc == PTQ_OK; role++)
    if (ptq_role_site((ptq_role)role) == site &&
        r->block.linear[role].weight != NULL)
      rc = quantize_role(l, r, b, (ptq_role)role, h, cache, err);
  return rc;
}

/* Second moments of the sites first..last over the lane's own calibration
 * stream through the block as quantized so far. */
static ptq_status collect(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                          ptq_workspace *ws, ptq_site first, ptq_site last,
                          ptq_err *err) {
  const ptq_forward_hook hook = {.ctx = r->moment, .input = ptq_collect_input};
  const size_t bytes =
      (size_t)(l->calib.length * l->calib.d) * sizeof *b->hidden;
  ptq_status rc = PTQ_OK;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) ptq_moment_reset(&r->moment[s]);
  for (int64_t i = 0; i < l->calib.n; i++) {
    memcpy(b->hidden, ptq_stream_window(&l->calib, i), bytes);
    PTQ_TRY(ptq_block_forward(r->setup->info, &b->block, b->hidden,
                              l->calib.length, ws, &hook, last, err));
  }
  for (ptq_site s = first; s <= last; s++)
    ptq_moment_get(&r->moment[s], b->h[s]);
done:
  return rc;
}

static ptq_status quantize_block(ptq_lane *l, ptq_reference *r,
                                 ptq_workbench *b, ptq_workspace *ws,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool sequential = is_sequential(l->mode);
  ptq_factor_cache_reset(b->own);
  if (l->mode == PTQ_CALIB_SEQUENTIAL)
    PTQ_TRY(collect(l, r, b, ws, (ptq_site)0, PTQ_SITE_MLP_OUT, err));
  for (ptq_site s = (ptq_site)0; s < PTQ_SITE_COUNT; s++) {
    if (l->mode == PTQ_CALIB_TRUE_SEQUENTIAL)
      PTQ_TRY(collect(l, r, b, ws, s, s, err));
    const double *h = sequential ? b->h[s] : r->h_calib[s];
    PTQ_TRY(quantize_site(l, r, b, s, l->mode == PTQ_CALIB_NONE ? NULL : h,
                          sequential ? b->own : b->shared, err));
  }
done:
  return rc;
}

/* Hook of the lane's selection pass: how far its outputs are from the
 * reference's. */
typedef struct propagated {
  const ptq_reference *r;
  int64_t window;
  double noise[PTQ_ROLE_COUNT];
} propagated;

static ptq_status compare_output(void *ctx, ptq_role role, const float *y,
                                 int64_t n, int64_t out, ptq_err *err) {
  propagated *p = ctx;
  (void)err;
  p->noise[role] += ptq_vec_sum_sq_diff(
      p->r->outputs[role] + p->window * n * out, y, n * out);
  return PTQ_OK;
}

static ptq_status advance(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                          ptq_workspace *ws, int64_t first_layer,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = r->setup->info;
  propagated pass = {.r = r};
  const ptq_forward_hook hook = {.ctx = &pass, .output = compare_output};
  for (pass.window = 0; pass.window < l->select.n; pass.window++)
    PTQ_TRY(ptq_block_forward(
        info, &b->block, ptq_stream_window(&l->select, pass.window),
        l->select.length, ws, &hook, PTQ_SITE_COUNT, err));
  ptq_layer_row *row = &l->layers[first_layer];
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    if (r->block.linear[role].weight != NULL)
      (row++)->sqnr_output_prop =
          ptq_decibel(r->output_energy[role], pass.noise[role]);
  PTQ_TRY(ptq_stream_advance(&l->eval, info, &b->block, ws, err));
  if (l->calib.n > 0)
    PTQ_TRY(ptq_stream_advance(&l->calib, info, &b->block, ws, err));
done:
  return rc;
}

void ptq_lane_block(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                    ptq_workspace *ws) {
  if (l->status != PTQ_OK) return;
  const double start = ptq_clock();
  const int64_t first_layer = l->n_layers;
  b->block = r->block;
  b->block.memory = NULL; /* borrowed from the reference */
  l->status = quantize_block(l, r, b, ws, &l->err);
  if (l->status == PTQ_OK)
    l->status = advance(l, r, b, ws, first_layer, &l->err);
  l->seconds += ptq_clock() - start;
}
