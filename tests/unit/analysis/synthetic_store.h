/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file synthetic_store.h  A store of a synthetic study, for tests of what
 * reads stores. MPI is initialized. */
#ifndef PTQ_TEST_ANALYSIS_SYNTHETIC_STORE_H
#define PTQ_TEST_ANALYSIS_SYNTHETIC_STORE_H

#include "ptq/base/mem.h"
#include "ptq/store/store.h"
#include "tables.h"

/* The sweep file of the stores that are written. */
static const char *synthetic_spec = "name: synthetic\n";

enum { SITES = 4, SITE_BLOCKS = 2, LAYERS = 4, ANSWERS = 3 };
static const char *const synthetic_sites[2 * SITES] = {
    "attn_in",         "attn_out",         "mlp_in",         "mlp_mid",
    "attn_in_nofirst", "attn_out_nofirst", "mlp_in_nofirst", "mlp_mid_nofirst"};

static const synthetic_law synthetic_default = {.intercept = 5.2,
                                                .params = -0.2,
                                                .bits = -1.35,
                                                .group = 0.15,
                                                .gptq = -0.4,
                                                .noise = 0.12,
                                                .noise_model = 0.12,
                                                .floor = 0.002};

/* A power law of eigenvalues, steeper for larger models. */
static inline void synthetic_spectrum(double *v, int64_t d, int k, int s) {
  for (int64_t r = 0; r < d; r++) {
    v[r] = pow((double)(r + 1), -0.8 - 0.08 * s - 0.1 * (k % SITES));
    if (r == 0 && k < SITES) v[r] *= 8.0; /* the first position's sink */
  }
}

static inline ptq_status synthetic_subjects(ptq_store *st, const tables *t,
                                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  static double values[2 * SITES][SITE_BLOCKS * 1024];
  for (int64_t s = 0; s < t->n_models && rc == PTQ_OK; s++) {
    const int64_t d = t->models[s].d_model;
    ptq_spectrum spectra[2 * SITES];
    for (int k = 0; k < 2 * SITES; k++) {
      for (int b = 0; b < SITE_BLOCKS; b++)
        synthetic_spectrum(values[k] + b * d, d, k, (int)(s % 5));
      spectra[k] =
          (ptq_spectrum){synthetic_sites[k], SITE_BLOCKS, d, values[k], 4096};
    }
    const ptq_baseline_row windows[2] = {{s, 0, 0, 255, 900, 800.0},
                                         {s, 1, 256, 255, 900, 810.0}};
    ptq_baseline_answer_row answers[ANSWERS];
    for (int k = 0; k < ANSWERS; k++)
      answers[k] = (ptq_baseline_answer_row){s, k, 3, 1,         k % 2,
                                             0, 1, 2, -1.25 - k, 0.25};
    const ptq_subject_result r = {.subject = s,
                                  .state = PTQ_STATE_DONE,
                                  .row = t->models[s],
                                  .windows = windows,
                                  .n_windows = 2,
                                  .answers = answers,
                                  .n_answers = ANSWERS,
                                  .spectra = spectra,
                                  .n_spectra = 2 * SITES,
                                  .seconds = 1.0};
    rc = ptq_store_put_subject(st, &r, err);
  }
  return rc;
}

/* Points whose state is DONE or FAILED; others stay pending. */
static inline ptq_status synthetic_points(ptq_store *st, const tables *t,
                                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < t->n_points && rc == PTQ_OK; i++) {
    ptq_point_result r = {.point = i,
                          .state = (ptq_state)t->states[i],
                          .row = t->points[i],
                          .seconds = 0.5};
    ptq_layer_row layers[LAYERS];
    /* The baseline's windows, with dnll in the mean. */
    const double added = 255.0 * r.row.dnll, more = added * (double)(i % 7);
    const ptq_window_row windows[2] = {
        {i, 0, 800.0 + added + 0.05 * more, 0.1, 200.0},
        {i, 1, 810.0 + added - 0.05 * more, 0.1, 200.0}};
    for (int k = 0; k < LAYERS; k++) {
      ptq_row_clear(ptq_table_get(PTQ_TABLE_LAYERS), &layers[k]);
      layers[k].point = i;
      (void)snprintf(layers[k].layer, sizeof layers[k].layer, "layer.%d", k);
      memcpy(layers[k].layer_dtype, r.row.dtype, sizeof r.row.dtype);
      layers[k].layer_group = r.row.group;
      layers[k].weights = 1024 * (k + 1);
      layers[k].layer_bits = r.row.bits_per_weight;
      layers[k].sqnr_weight = r.row.sqnr_weight + k;
      layers[k].sqnr_output = r.row.sqnr_output + k;
      layers[k].err_hessian = pow(10.0, -r.row.sqnr_output / 10.0);
    }
    ptq_answer_row answers[ANSWERS];
    for (int k = 0; k < ANSWERS; k++)
      answers[k] = (ptq_answer_row){i, k, k % 3, 0, 1, 2, -1.5 - k, k - 0.5};
    if (r.state == PTQ_STATE_PENDING || r.state == PTQ_STATE_STARTED) continue;
    if (r.state == PTQ_STATE_FAILED) {
      (void)snprintf(r.message, sizeof r.message,
                     "layer.2: <Hessian> is not positive & definite");
    } else {
      r.layers = layers;
      r.n_layers = LAYERS;
      r.windows = windows;
      r.n_windows = 2;
      r.answers = answers;
      r.n_answers = ANSWERS;
    }
    rc = ptq_store_put_point(st, &r, err);
  }
  return rc;
}

/** Write `t` as a new store at `path`. */
static inline ptq_status synthetic_store(const tables *t, const char *path,
                                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_store *st = NULL;
  static int64_t layers[TABLE_MAX], windows[TABLE_MAX], answers[TABLE_MAX];
  static int64_t subject_windows[TABLE_MODELS], subject_answers[TABLE_MODELS];
  static ptq_point_row blank[TABLE_MAX];
  static ptq_model_row models[TABLE_MODELS];
  static ptq_spectrum_slot slots[TABLE_MODELS * 2 * SITES];
  int64_t n_slots = 0;
  for (int64_t i = 0; i < t->n_points; i++) {
    layers[i] = LAYERS;
    windows[i] = 2;
    answers[i] = ANSWERS;
    const ptq_point_row *p = &t->points[i];
    ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), &blank[i]);
    memcpy(blank[i].key, p->key, sizeof p->key);
    memcpy(blank[i].model, p->model, sizeof p->model);
    memcpy(blank[i].family, p->family, sizeof p->family);
    memcpy(blank[i].dtype, p->dtype, sizeof p->dtype);
    memcpy(blank[i].method, p->method, sizeof p->method);
    memcpy(blank[i].options, p->options, sizeof p->options);
    blank[i].group = p->group;
  }
  for (int64_t s = 0; s < t->n_models; s++) {
    subject_windows[s] = 2;
    subject_answers[s] = ANSWERS;
    models[s] = t->models[s];
    models[s].nll = models[s].nll_se = models[s].nll_byte =
        models[s].nll_unigram = NAN;
    for (int k = 0; k < 2 * SITES; k++) {
      ptq_spectrum_slot *slot = &slots[n_slots++];
      *slot = (ptq_spectrum_slot){
          .subject = s, .n_blocks = SITE_BLOCKS, .d = t->models[s].d_model};
      (void)snprintf(slot->group, sizeof slot->group, "model-%d", (int)s);
      (void)snprintf(slot->site, sizeof slot->site, "%s", synthetic_sites[k]);
    }
  }
  const ptq_store_layout layout = {
      .spec_text = synthetic_spec,
      .program_version = "test",
      .numerics = "synthetic numbers",
      .fingerprint = "00000000000000000000000000000000",
      .n_points = t->n_points,
      .points = blank,
      .point_subject = t->subject,
      .point_layers = layers,
      .point_windows = windows,
      .point_answers = answers,
      .n_subjects = t->n_models,
      .subjects = models,
      .subject_windows = subject_windows,
      .subject_answers = subject_answers,
      .n_spectra = n_slots,
      .spectra = slots};
  PTQ_TRY(ptq_store_open(MPI_COMM_SELF, path, &layout, &st, err));
  PTQ_TRY(synthetic_subjects(st, t, err));
  PTQ_TRY(synthetic_points(st, t, err));
done:
  if (st != NULL) {
    const ptq_status closed = ptq_store_close(st, err);
    if (rc == PTQ_OK) rc = closed;
  }
  return rc;
}

#endif /* PTQ_TEST_ANALYSIS_SYNTHETIC_STORE_H */
