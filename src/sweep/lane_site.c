/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The layers of one site through a method. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lane.h"
#include "module_loss.h"
#include "ptq/base/check.h"
#include "ptq/base/text.h"
#include "ptq/num/vec.h"

enum { SITE_LAYERS = 4 }; /* q, k and v at most */

typedef struct site_work {
  int n;
  int layer[SITE_LAYERS];
  ptq_quant_input in[SITE_LAYERS];
  ptq_quant_output out[SITE_LAYERS];
  char name[SITE_LAYERS][PTQ_TENSOR_NAME_MAX];
  int64_t n_tokens; /* behind the moments, or those of the unquantized model */
  ptq_module_probe probe;
  ptq_module_loss loss;
} site_work;

ptq_layer_row *ptq_lane_row(const ptq_lane *l, const ptq_model_info *info,
                            int layer) {
  /* Rows stand in the order of the layers, whatever that of the sites. */
  int64_t at = l->first_layer;
  for (int before = 0; before < layer; before++)
    at += ptq_layer_present(info, before);
  return &l->layers[at];
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

/* Errors under the two texts' inputs. Where no calibration token came, every
 * input counts alike, as in the method's own moment; where no selection token
 * did, there is no output to speak of. */
static ptq_status output_errors(ptq_reference *r, const ptq_workbench *b,
                                int layer, double noise, ptq_layer_row *row,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_linear *w = &r->block.linear[layer];
  const ptq_energies *e = &r->energy[layer];
  const int site = ptq_layer_site(layer);
  double select = 0.0, calib = 0.0;
  const ptq_error_job jobs[] = {{.c = &r->select_inputs,
                                 .site = site,
                                 .e = b->error,
                                 .rows = w->out,
                                 .out = &select},
                                {.c = &r->calib_inputs,
                                 .site = site,
                                 .e = b->error,
                                 .rows = w->out,
                                 .out = &calib}};
  PTQ_TRY(ptq_collected_errors(jobs, 2, r->product, err));
  row->sqnr_output = ptq_decibel(e->select, select);
  row->err_hessian = ptq_collected_tokens(&r->calib_inputs, site) > 0
                         ? calib / e->calib
                         : noise / e->weight;
done:
  return rc;
}

/* The layer's row but for the propagated error, which the selection pass
 * adds. */
static ptq_status record_layer(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                               const site_work *work, int i, ptq_err *err) {
  const int layer = work->layer[i];
  const ptq_quant_input *in = &work->in[i];
  const ptq_quant_output *out = &work->out[i];
  const ptq_linear *w = &r->block.linear[layer];
  const double energy = r->energy[layer].weight;
  const int64_t n = w->out * w->in;
  ptq_layer_row *row = ptq_lane_row(l, r->setup->info, layer);
  l->n_layers++;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_LAYERS), row);
  row->point = l->point;
  ptq_layer_tensor_name(r->setup->model, r->block.index, layer, row->layer);
  row->calib_tokens = work->n_tokens;
  for (int64_t k = 0; k < n; k++) b->error[k] = w->weight[k] - out->y[k];
  const double noise = ptq_vec_sum_sq(b->error, n);
  row->sqnr_weight = ptq_decibel(energy, noise);
  row->damp = out->damp;
  (void)ptq_text_copy(row->layer_dtype, sizeof row->layer_dtype,
                      in->dtype->name);
  row->layer_group = in->group;
  row->weights = n;
  row->layer_bits = out->storage_bits / (double)n;
  const int64_t n_params = in->group == PTQ_GROUP_TENSOR
                               ? 1
                               : w->out * ptq_dtype_groups(w->in, in->group);
  hash_codes(out, w, n_params, row->codes);
  l->weight_energy += energy;
  l->weight_noise += noise;
  l->storage_bits += out->storage_bits;
  return output_errors(r, b, layer, noise, row, err);
}

/* Whether what comes before a site can take the inverse of scales of its
 * inputs. The norm before a mixture feeds the router and all experts. */
static bool can_fold(const ptq_reference *r, int site) {
  const ptq_model_info *info = r->setup->info;
  const ptq_site kind = ptq_site_kind(site);
  const ptq_linear *v = &r->block.linear[PTQ_ROLE_V];
  const bool shared = info->parallel && !info->has_norm[PTQ_NORM_MLP_IN];
  if (kind == PTQ_SITE_ATTN_OUT)
    return v->weight != NULL && v->out == r->block.linear[PTQ_ROLE_O].in &&
           info->qkv_clip == 0.0;
  if (kind == PTQ_SITE_MLP_OUT)
    return info->has_gate || info->act == PTQ_ACT_RELU;
  if (kind == PTQ_SITE_MLP_IN && info->n_experts > 0) return false;
  return !shared && !info->norm_plain &&
         ptq_site_norm(info, &r->block, site) != NULL;
}

/* Scales of the next site's inputs by which the rows of a layer are divided;
 * NULL: none. */
static const float *row_divisor(const ptq_reference *r, const ptq_workbench *b,
                                int layer) {
  const ptq_role role = ptq_layer_role(layer);
  const int out = ptq_site_of(PTQ_SITE_MLP_OUT, ptq_layer_expert(layer));
  const bool up = role == PTQ_ROLE_UP || role == PTQ_ROLE_GATE_UP;
  if (role == PTQ_ROLE_V && can_fold(r, PTQ_SITE_ATTN_OUT))
    return b->fold[PTQ_SITE_ATTN_OUT];
  if (!up || !can_fold(r, out)) return NULL;
  if (role == PTQ_ROLE_UP) return b->fold[out];
  const int64_t half = r->block.linear[layer].out / 2; /* the gate */
  for (int64_t i = 0; i < half; i++) b->divisor[i] = 1.0F;
  memcpy(b->divisor + half, b->fold[out], (size_t)half * sizeof *b->divisor);
  return b->divisor;
}

/* What a layer is given of the model around it. */
static void give_place(const ptq_reference *r, int site, ptq_quant_input *in) {
  const ptq_model_info *info = r->setup->info;
  const ptq_site kind = ptq_site_kind(site);
  /* A norm of the sum stands between any two blocks: no stream of its own. */
  const bool stream =
      !info->has_norm[PTQ_NORM_ATTN_SUM] && !info->has_norm[PTQ_NORM_MLP_SUM];
  const bool reads = kind == PTQ_SITE_ATTN_IN || kind == PTQ_SITE_MLP_IN;
  in->reads_stream = stream && reads;
  in->writes_stream =
      stream && !reads &&
      !info->has_norm[kind == PTQ_SITE_ATTN_OUT ? PTQ_NORM_ATTN_ADD
                                                : PTQ_NORM_MLP_ADD];
  in->stream_centred = stream && info->norm == PTQ_NORM_LAYER;
  in->foldable = can_fold(r, site);
  const ptq_norm *norm = ptq_site_norm(info, &r->block, site);
  if (norm == NULL) return;
  in->norm_w = norm->w;
  in->norm_b = norm->b;
}

/* What a layer is given of its inputs. */
static void give_moments(const ptq_lane *l, const ptq_site_moments *m,
                         bool spare, ptq_quant_input *in) {
  const unsigned needs = ptq_method_needs(l->method);
  in->h = m->h;
  if (spare) in->spare = m->h;
  if (needs & PTQ_NEED_MEAN_ABS) in->mean_abs = m->mean_abs;
  if (needs & PTQ_NEED_CROSS) in->cross = m->cross;
  if (needs & PTQ_NEED_HOLDOUT) {
    in->h_train = m->h_train;
    in->h_holdout = m->h_holdout;
  }
}

static void lay_out(const ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                    int site, ptq_factor_cache *cache, site_work *work) {
  int16_t *codes = b->codes;
  ptq_group_params *params = b->params;
  float *y = b->site_weights;
  for (int layer = 0; layer < ptq_layer_count(r->setup->info); layer++) {
    const ptq_linear *w = &r->block.linear[layer];
    if (ptq_layer_site(layer) != site || w->weight == NULL) continue;
    const ptq_role role = ptq_layer_role(layer);
    PTQ_ASSERT(work->n < SITE_LAYERS);
    const int i = work->n++;
    work->layer[i] = layer;
    ptq_layer_tensor_name(r->setup->model, r->block.index, layer,
                          work->name[i]);
    work->in[i] = (ptq_quant_input){.w = w->weight,
                                    .rows = w->out,
                                    .cols = w->in,
                                    .cache_site = site,
                                    .cache = cache,
                                    .threads = r->setup->room.hands,
                                    .team = r->setup->room.team,
                                    .layer = work->name[i]};
    ptq_point_format(l->grid, l->point, work->name[i], &work->in[i].dtype,
                     &work->in[i].group);
    give_place(r, site, &work->in[i]);
    work->in[i].makes_scores = role == PTQ_ROLE_Q || role == PTQ_ROLE_K;
    if (l->method->family->backward)
      work->in[i].row_divisor = row_divisor(r, b, layer);
    if (ptq_method_needs(l->method) & PTQ_NEED_MODULE_LOSS)
      work->in[i].module = &work->loss;
    if (l->tuning != NULL) work->in[i].tuning = &l->tuning[layer];
    work->out[i] = (ptq_quant_output){
        .y = b->in_place ? y : b->layer_weights[layer],
        .q = codes,
        .params = params,
        .fold = l->method->family->backward ? b->fold[site] : NULL};
    y += w->out * w->in;
    codes += w->out * w->in;
    params += w->out * ptq_dtype_groups(w->in, work->in[i].group);
  }
}

/* The moments of the inputs, from the lane's own or the reference's. */
static ptq_status calibrate(const ptq_lane *l, ptq_reference *r,
                            ptq_workbench *b, int site, site_work *work,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_method_family *f = l->method->family;
  const bool own = ptq_method_is_sequential(l->method);
  const ptq_site_moments *m = NULL;
  ptq_collected *c = own ? &b->inputs : &r->calib_inputs;
  work->n_tokens = ptq_collected_tokens(c, site);
  if (l->mode == PTQ_CALIB_NONE) return PTQ_OK;
  PTQ_TRY(ptq_collected_site(c, site, &m, err));
  /* What ranks share none of them may overwrite. */
  const bool spare = (own || b->alone) && r->setup->room.team == NULL &&
                     f->spends_h != NULL && f->spends_h(l->method);
  for (int i = 0; i < work->n; i++) give_moments(l, m, spare, &work->in[i]);
  if (spare) ptq_collected_spoil(c, site);
done:
  return rc;
}

/* Where a layer's quantized weights stay. */
static ptq_status put(ptq_reference *r, ptq_workbench *b, ptq_workspace *ws,
                      const site_work *work, int i, ptq_err *err) {
  const int layer = work->layer[i];
  ptq_linear *w = &r->block.linear[layer];
  if (b->in_place)
    memcpy(w->weight, work->out[i].y,
           (size_t)(w->out * w->in) * sizeof *w->weight);
  ptq_packed *packed = b->packed != NULL ? b->packed[layer] : NULL;
  if (b->in_place)
    return ptq_linear_replace(&b->block.linear[layer], w->weight, w->packed, ws,
                              err);
  return ptq_linear_replace(&b->block.linear[layer], b->layer_weights[layer],
                            packed, ws, err);
}

ptq_status ptq_lane_site(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                         const ptq_hands *hands, int site, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool own = ptq_method_is_sequential(l->method);
  ptq_factor_cache *cache = own ? b->own : b->shared;
  site_work work = {
      .probe = {.r = r, .hands = hands, .packed = b->packed, .site = site}};
  work.loss =
      (ptq_module_loss){.ctx = &work.probe, .eval = ptq_module_probe_eval};
  PTQ_TRY(ptq_workbench_begin_site(b, r->setup->info, site, err));
  work.probe.error = b->error;
  lay_out(l, r, b, site, cache, &work);
  PTQ_TRY(calibrate(l, r, b, site, &work, err));
  PTQ_TRY(ptq_method_quantize_site(l->method, work.in, work.out, work.n, err));
  if (own || b->alone) ptq_factor_cache_reset(cache);
  for (int i = 0; i < work.n; i++) {
    PTQ_TRY(record_layer(l, r, b, &work, i, err));
    PTQ_TRY(put(r, b, hands->ws[0], &work, i, err));
  }
done:
  ptq_workbench_end_site(b);
  return rc;
}
