/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "reference.h"

#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

static ptq_status open_sites(ptq_reference *r, const ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    const int64_t d = ptq_site_width(info, (ptq_site)s);
    PTQ_TRY(ptq_moment_init(&r->moment[s], d, err));
    PTQ_TRY(ptq_alloc(&r->h_calib32[s], d * d, sizeof(float), "H", err));
    PTQ_TRY(ptq_alloc(&r->h_select32[s], d * d, sizeof(float), "H", err));
  }
done:
  return rc;
}

static ptq_status open_modules(ptq_reference *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_stream *calib = &r->calib;
  r->module_windows =
      calib->n < PTQ_MODULE_WINDOWS ? calib->n : PTQ_MODULE_WINDOWS;
  const int64_t size = r->module_windows * calib->length * calib->d;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    if (s != PTQ_SITE_ATTN_IN && s != PTQ_SITE_MLP_IN) continue;
    PTQ_TRY(ptq_alloc(&r->module_in[s], size, sizeof(float),
                      "inputs of a module", err));
    PTQ_TRY(ptq_alloc(&r->module_out[s], size, sizeof(float),
                      "outputs of a module", err));
  }
done:
  return rc;
}

static ptq_status open_roles(ptq_reference *r, const ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t rows = r->setup->select.n * r->setup->select.length;
  int64_t largest = 0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    const int64_t out = ptq_role_outputs(info, (ptq_role)role);
    const int64_t size = out * ptq_role_inputs(info, (ptq_role)role);
    if (size > largest) largest = size;
    PTQ_TRY(ptq_alloc(&r->outputs[role], rows * out, sizeof(float),
                      "reference outputs", err));
  }
  PTQ_TRY(ptq_alloc(&r->product, largest, sizeof(float), "a product", err));
done:
  return rc;
}

ptq_status ptq_reference_open(ptq_reference *r, const ptq_setup *setup,
                              unsigned needs, unsigned own_needs,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_embedding e = {0};
  const ptq_model_info *info = setup->info;
  *r = (ptq_reference){.setup = setup};
  PTQ_TRY(ptq_model_load_embedding(setup->model, &e, err));
  PTQ_TRY(ptq_stream_embed(&r->calib, info, &e, &setup->calib, err));
  PTQ_TRY(ptq_stream_embed(&r->select, info, &e, &setup->select, err));
  PTQ_TRY(ptq_stream_embed(&r->eval, info, &e, &setup->eval, err));
  PTQ_TRY(
      ptq_request_states_embed(&r->requests, info, &e, &setup->requests, err));
  PTQ_TRY(open_sites(r, info, err));
  PTQ_TRY(open_roles(r, info, err));
  /* Only behind quantized blocks does the reference's input differ. */
  PTQ_TRY(ptq_collected_open(&r->inputs, info,
                             needs & ~(unsigned)PTQ_NEED_CROSS,
                             setup->calib.length, err));
  if (own_needs & PTQ_NEED_CROSS)
    PTQ_TRY(ptq_stream_copy(&r->before, &r->calib, err));
  if ((needs | own_needs) & PTQ_NEED_MODULE_LOSS) PTQ_TRY(open_modules(r, err));
done:
  ptq_embedding_release(&e);
  if (rc != PTQ_OK) ptq_reference_close(r);
  return rc;
}

void ptq_reference_close(ptq_reference *r) {
  ptq_stream_release(&r->calib);
  ptq_stream_release(&r->select);
  ptq_stream_release(&r->eval);
  ptq_stream_release(&r->before);
  ptq_request_states_release(&r->requests);
  ptq_collected_close(&r->inputs);
  ptq_block_release(&r->block);
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    ptq_moment_release(&r->moment[s]);
    ptq_free(r->module_in[s]);
    ptq_free(r->module_out[s]);
    ptq_free(r->h_calib32[s]);
    ptq_free(r->h_select32[s]);
  }
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) ptq_free(r->outputs[role]);
  ptq_free(r->product);
  *r = (ptq_reference){0};
}

/* Hook of the calibration pass. */
typedef struct calibration_pass {
  ptq_reference *r;
  ptq_collector collector;
  int64_t window;
} calibration_pass;

static void keep(const ptq_reference *r, float *const *to, ptq_site site,
                 int64_t window, const float *x, int64_t n, int64_t width) {
  if (to[site] != NULL && window < r->module_windows)
    memcpy(to[site] + window * n * width, x, (size_t)(n * width) * sizeof *x);
}

static ptq_status calibrate_input(void *ctx, ptq_site site, const float *x,
                                  int64_t n, int64_t width, ptq_err *err) {
  calibration_pass *p = ctx;
  keep(p->r, p->r->module_in, site, p->window, x, n, width);
  return ptq_collect_input(&p->collector, site, x, n, width, err);
}

static ptq_status calibrate_output(void *ctx, ptq_role role, const float *y,
                                   int64_t n, int64_t out, ptq_err *err) {
  const calibration_pass *p = ctx;
  (void)err;
  if (role == PTQ_ROLE_O)
    keep(p->r, p->r->module_out, PTQ_SITE_ATTN_IN, p->window, y, n, out);
  if (role == PTQ_ROLE_DOWN)
    keep(p->r, p->r->module_out, PTQ_SITE_MLP_IN, p->window, y, n, out);
  return PTQ_OK;
}

/* The pass over the calibration text. */
static ptq_status calibrate(ptq_reference *r, ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  calibration_pass pass = {
      .r = r,
      .collector = ptq_collect_begin(&r->inputs, r->moment, (ptq_site)0,
                                     PTQ_SITE_MLP_OUT, r->calib.n)};
  const ptq_forward_hook hook = {
      .ctx = &pass, .input = calibrate_input, .output = calibrate_output};
  if (r->before.n > 0)
    memcpy(r->before.h, r->calib.h,
           (size_t)(r->calib.n * r->calib.length * r->calib.d) *
               sizeof *r->calib.h);
  for (pass.window = 0; pass.window < r->calib.n; pass.window++) {
    PTQ_TRY(ptq_block_forward(r->setup->info, &r->block,
                              ptq_stream_window(&r->calib, pass.window),
                              r->calib.length, ws, &hook, PTQ_SITE_COUNT, err));
    ptq_collect_window(&pass.collector, pass.window);
  }
  for (int s = 0; s < PTQ_SITE_COUNT; s++)
    ptq_moment_get_f32(&r->moment[s], r->h_calib32[s]);
done:
  return rc;
}

/* Hook of the selection pass. */
typedef struct selection_pass {
  ptq_reference *r;
  int64_t window;
} selection_pass;

static ptq_status select_input(void *ctx, ptq_site site, const float *x,
                               int64_t n, int64_t width, ptq_err *err) {
  const selection_pass *p = ctx;
  (void)width;
  (void)err;
  ptq_moment_add(&p->r->moment[site], x, n);
  return PTQ_OK;
}

static ptq_status select_output(void *ctx, ptq_role role, const float *y,
                                int64_t n, int64_t out, ptq_err *err) {
  selection_pass *p = ctx;
  (void)err;
  memcpy(p->r->outputs[role] + p->window * n * out, y,
         (size_t)(n * out) * sizeof *y);
  p->r->output_energy[role] += ptq_vec_sum_sq(y, n * out);
  return PTQ_OK;
}

static ptq_status select_pass(ptq_reference *r, ptq_workspace *ws,
                              ptq_err *err) {
  selection_pass pass = {.r = r};
  const ptq_forward_hook hook = {
      .ctx = &pass, .input = select_input, .output = select_output};
  ptq_status rc = PTQ_OK;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) ptq_moment_reset(&r->moment[s]);
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    r->output_energy[role] = 0.0;
  for (pass.window = 0; pass.window < r->select.n; pass.window++)
    PTQ_TRY(ptq_block_forward(
        r->setup->info, &r->block, ptq_stream_window(&r->select, pass.window),
        r->select.length, ws, &hook, PTQ_SITE_COUNT, err));
  for (int s = 0; s < PTQ_SITE_COUNT; s++)
    ptq_moment_get_f32(&r->moment[s], r->h_select32[s]);
done:
  return rc;
}

static void measure_energies(ptq_reference *r) {
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    const ptq_linear *l = &r->block.linear[role];
    if (l->weight == NULL) continue;
    const ptq_site s = ptq_role_site((ptq_role)role);
    r->weight_energy[role] = ptq_vec_sum_sq(l->weight, l->out * l->in);
    r->calib_energy[role] = ptq_moment_quadratic(
        l->weight, l->out, r->h_calib32[s], l->in, r->product);
    r->select_energy[role] = ptq_moment_quadratic(
        l->weight, l->out, r->h_select32[s], l->in, r->product);
  }
}

ptq_status ptq_reference_block(ptq_reference *r, int64_t index,
                               ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_block_release(&r->block);
  PTQ_TRY(ptq_model_load_block(r->setup->model, index, &r->block, err));
  PTQ_TRY(calibrate(r, ws, err));
  PTQ_TRY(select_pass(r, ws, err));
  PTQ_TRY(ptq_stream_advance(&r->eval, r->setup->info, &r->block, ws, err));
  PTQ_TRY(ptq_request_states_advance(&r->requests, r->setup->info, &r->block,
                                     ws, err));
  measure_energies(r);
done:
  return rc;
}
