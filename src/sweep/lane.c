/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lane.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "module_loss.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

double ptq_decibel(double signal, double noise) {
  if (noise == 0.0) return signal > 0.0 ? (double)INFINITY : (double)NAN;
  return 10.0 * log10(signal / noise);
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
  if (ptq_method_is_sequential(l->method))
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

static void hash_codes(const ptq_quant_output *out, const ptq_linear *w,
                       int64_t n_params, char text[17]) {
  const uint64_t parts[3] = {
      ptq_hash64(out->q, (size_t)(w->out * w->in) * sizeof *out->q),
      ptq_hash64(out->params, (size_t)n_params * sizeof *out->params),
      out->extra_hash};
  const size_t n = out->extra_hash != 0 ? 3 : 2;
  snprintf(text, 17, "%016" PRIx64, ptq_hash64(parts, n * sizeof parts[0]));
}

/* The layer's row but for the propagated error, which the selection pass
 * adds. */
static void record_layer(ptq_lane *l, const ptq_reference *r, ptq_workbench *b,
                         ptq_role role, const ptq_quant_output *out) {
  const ptq_linear *w = &r->block.linear[role];
  const ptq_site site = ptq_role_site(role);
  const int64_t n = w->out * w->in;
  /* Rows stand in the order of the roles, whatever that of the sites. */
  int64_t at = l->first_layer;
  for (int before = 0; before < (int)role; before++)
    at += r->block.linear[before].weight != NULL;
  ptq_layer_row *row = &l->layers[at];
  l->n_layers++;
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
  hash_codes(out, w, n_params, row->codes);
  l->weight_energy += r->weight_energy[role];
  l->weight_noise += noise;
  l->storage_bits += out->storage_bits;
}

/* The layers of one site on their way through a method. */
typedef struct site_work {
  int n;
  ptq_role role[PTQ_ROLE_COUNT];
  ptq_quant_input in[PTQ_ROLE_COUNT];
  ptq_quant_output out[PTQ_ROLE_COUNT];
  char name[PTQ_ROLE_COUNT][PTQ_TENSOR_NAME_MAX];
  ptq_module_probe probe;
  ptq_module_loss loss;
} site_work;

/* Whether what comes before a site can take the inverse of scales of its
 * inputs. */
static bool can_fold(const ptq_reference *r, ptq_site site) {
  const ptq_model_info *info = r->setup->info;
  const bool shared = info->parallel && !info->has_norm[PTQ_NORM_MLP_IN];
  if (site == PTQ_SITE_ATTN_OUT)
    return r->block.linear[PTQ_ROLE_V].weight != NULL &&
           r->block.linear[PTQ_ROLE_V].out == r->block.linear[PTQ_ROLE_O].in;
  if (site == PTQ_SITE_MLP_OUT)
    return info->has_gate || info->act == PTQ_ACT_RELU;
  return !shared && !info->norm_plain &&
         ptq_site_norm(info, &r->block, site) != NULL;
}

/* Scales of the next site's inputs by which the rows of `role` are divided;
 * NULL: none. */
static const float *row_divisor(const ptq_reference *r, const ptq_workbench *b,
                                ptq_role role) {
  const bool up = role == PTQ_ROLE_UP || role == PTQ_ROLE_GATE_UP;
  if (role == PTQ_ROLE_V && can_fold(r, PTQ_SITE_ATTN_OUT))
    return b->fold[PTQ_SITE_ATTN_OUT];
  if (!up || !can_fold(r, PTQ_SITE_MLP_OUT)) return NULL;
  if (role == PTQ_ROLE_UP) return b->fold[PTQ_SITE_MLP_OUT];
  const int64_t half = r->block.linear[role].out / 2; /* the gate */
  for (int64_t i = 0; i < half; i++) b->divisor[i] = 1.0F;
  memcpy(b->divisor + half, b->fold[PTQ_SITE_MLP_OUT],
         (size_t)half * sizeof *b->divisor);
  return b->divisor;
}

/* What a layer is given beside its weights. */
static void give(const ptq_lane *l, const ptq_reference *r, ptq_site site,
                 const ptq_collected *c, ptq_quant_input *in) {
  const ptq_model_info *info = r->setup->info;
  const bool attention = site == PTQ_SITE_ATTN_IN;
  in->dtype = l->dtype;
  in->group = l->group;
  in->cache_site = (int)site;
  in->threads = 1;
  /* A norm of the sum stands between any two blocks: no stream of its own. */
  const bool stream =
      !info->has_norm[PTQ_NORM_ATTN_SUM] && !info->has_norm[PTQ_NORM_MLP_SUM];
  const bool reads = attention || site == PTQ_SITE_MLP_IN;
  in->reads_stream = stream && reads;
  in->writes_stream =
      stream && !reads &&
      !info->has_norm[site == PTQ_SITE_ATTN_OUT ? PTQ_NORM_ATTN_ADD
                                                : PTQ_NORM_MLP_ADD];
  in->stream_centred = stream && info->norm == PTQ_NORM_LAYER;
  in->foldable = can_fold(r, site);
  const ptq_norm *norm = ptq_site_norm(info, &r->block, site);
  if (norm != NULL) {
    in->norm_w = norm->w;
    in->norm_b = norm->b;
  }
  if (l->mode == PTQ_CALIB_NONE) return;
  const unsigned needs = ptq_method_needs(l->method);
  in->h = c->h[site];
  if (needs & PTQ_NEED_MEAN_ABS) in->mean_abs = c->mean_abs[site];
  if (needs & PTQ_NEED_CROSS) in->cross = c->cross[site];
  if (needs & PTQ_NEED_HOLDOUT) {
    in->h_train = c->h_train[site];
    in->h_holdout = c->h_holdout[site];
  }
}

static void lay_out(const ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                    ptq_site site, const ptq_collected *c,
                    ptq_factor_cache *cache, site_work *work) {
  int16_t *codes = b->codes;
  ptq_group_params *params = b->params;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    const ptq_linear *w = &r->block.linear[role];
    if (ptq_role_site((ptq_role)role) != site || w->weight == NULL) continue;
    const int i = work->n++;
    work->role[i] = (ptq_role)role;
    ptq_role_tensor_name(r->setup->model, r->block.index, (ptq_role)role,
                         work->name[i]);
    work->in[i] = (ptq_quant_input){.w = w->weight,
                                    .rows = w->out,
                                    .cols = w->in,
                                    .cache = cache,
                                    .layer = work->name[i]};
    give(l, r, site, c, &work->in[i]);
    work->in[i].makes_scores = role == PTQ_ROLE_Q || role == PTQ_ROLE_K;
    if (l->method->family->backward)
      work->in[i].row_divisor = row_divisor(r, b, (ptq_role)role);
    if (ptq_method_needs(l->method) & PTQ_NEED_MODULE_LOSS)
      work->in[i].module = &work->loss;
    work->out[i] = (ptq_quant_output){
        .y = b->role_weights[role],
        .q = codes,
        .params = params,
        .fold = l->method->family->backward ? b->fold[site] : NULL};
    codes += w->out * w->in;
    params += w->out * ptq_dtype_groups(w->in, l->group);
  }
}

static ptq_status quantize_site(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                                ptq_workspace *ws, ptq_site site,
                                const ptq_collected *c, ptq_factor_cache *cache,
                                ptq_err *err) {
  site_work work = {.probe = {.r = r,
                              .ws = ws,
                              .error = b->error,
                              .packed = b->packed,
                              .site = site}};
  work.loss =
      (ptq_module_loss){.ctx = &work.probe, .eval = ptq_module_probe_eval};
  lay_out(l, r, b, site, c, cache, &work);
  ptq_status rc =
      ptq_method_quantize_site(l->method, work.in, work.out, work.n, err);
  for (int i = 0; i < work.n && rc == PTQ_OK; i++) {
    const ptq_role role = work.role[i];
    rc = ptq_linear_replace(&b->block.linear[role], b->role_weights[role],
                            b->packed[role], ws, err);
    record_layer(l, r, b, role, &work.out[i]);
  }
  return rc;
}

/* The unquantized model's inputs on window i of the calibration text. */
static ptq_status keep_reference(ptq_collector *c, ptq_reference *r,
                                 ptq_workbench *b, ptq_workspace *ws, int64_t i,
                                 ptq_err *err) {
  const ptq_forward_hook hook = {.ctx = c, .input = ptq_collect_reference};
  memcpy(b->hidden, ptq_stream_window(&r->before, i),
         (size_t)(r->before.length * r->before.d) * sizeof *b->hidden);
  return ptq_block_forward(r->setup->info, &r->block, b->hidden,
                           r->before.length, ws, &hook, c->last, err);
}

/* The inputs of sites first..last over the lane's own calibration stream
 * through the block as quantized so far. */
static ptq_status collect(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                          ptq_workspace *ws, ptq_site first, ptq_site last,
                          ptq_err *err) {
  ptq_collector c =
      ptq_collect_begin(&b->inputs, r->moment, first, last, l->calib.n);
  const ptq_forward_hook hook = {.ctx = &c, .input = ptq_collect_input};
  const size_t bytes =
      (size_t)(l->calib.length * l->calib.d) * sizeof *b->hidden;
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < l->calib.n; i++) {
    if (b->inputs.needs & PTQ_NEED_CROSS)
      PTQ_TRY(keep_reference(&c, r, b, ws, i, err));
    memcpy(b->hidden, ptq_stream_window(&l->calib, i), bytes);
    PTQ_TRY(ptq_block_forward(r->setup->info, &b->block, b->hidden,
                              l->calib.length, ws, &hook, last, err));
    ptq_collect_window(&c, i);
  }
done:
  return rc;
}

static ptq_status quantize_block(ptq_lane *l, ptq_reference *r,
                                 ptq_workbench *b, ptq_workspace *ws,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool sequential = ptq_method_is_sequential(l->method);
  ptq_factor_cache_reset(b->own);
  if (l->mode == PTQ_CALIB_SEQUENTIAL)
    PTQ_TRY(collect(l, r, b, ws, (ptq_site)0, PTQ_SITE_MLP_OUT, err));
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    const ptq_site s =
        (ptq_site)(l->method->family->backward ? PTQ_SITE_COUNT - 1 - i : i);
    if (l->mode == PTQ_CALIB_TRUE_SEQUENTIAL)
      PTQ_TRY(collect(l, r, b, ws, s, s, err));
    PTQ_TRY(quantize_site(l, r, b, ws, s, sequential ? &b->inputs : &r->inputs,
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
                          ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = r->setup->info;
  propagated pass = {.r = r};
  const ptq_forward_hook hook = {.ctx = &pass, .output = compare_output};
  for (pass.window = 0; pass.window < l->select.n; pass.window++)
    PTQ_TRY(ptq_block_forward(
        info, &b->block, ptq_stream_window(&l->select, pass.window),
        l->select.length, ws, &hook, PTQ_SITE_COUNT, err));
  ptq_layer_row *row = &l->layers[l->first_layer];
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
  l->first_layer = l->n_layers;
  b->block = r->block;
  b->block.memory = NULL; /* borrowed from the reference */
  l->status = quantize_block(l, r, b, ws, &l->err);
  if (l->status == PTQ_OK) l->status = advance(l, r, b, ws, &l->err);
  l->seconds += ptq_clock() - start;
}
