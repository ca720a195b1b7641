/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a method finds for a whole block before its sites are quantized. */
#include "block_loss.h"
#include "lane.h"
#include "ptq/base/mem.h"

/* The block's layers as a method sees them. */
typedef struct members {
  int n;
  int *layer;                        /* owned; [n] */
  char (*name)[PTQ_TENSOR_NAME_MAX]; /* owned; [n] */
  ptq_quant_input *in;               /* owned; [n] */
  float **y;                         /* owned; [n] scratch */
  ptq_tuning *tuning;                /* owned, of owned; [n] */
} members;

static ptq_status open_members(members *m, int layers, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char what[] = "a block's layers";
  PTQ_TRY(ptq_alloc(&m->layer, layers, sizeof *m->layer, what, err));
  PTQ_TRY(ptq_alloc(&m->name, layers, sizeof *m->name, what, err));
  PTQ_TRY(ptq_alloc(&m->in, layers, sizeof *m->in, what, err));
  PTQ_TRY(ptq_alloc(&m->y, layers, sizeof *m->y, what, err));
  PTQ_TRY(ptq_alloc(&m->tuning, layers, sizeof *m->tuning, what, err));
done:
  return rc;
}

static void close_members(members *m) {
  for (int i = 0; m->tuning != NULL && i < m->n; i++)
    ptq_tuning_release(&m->tuning[i]);
  ptq_free(m->layer);
  ptq_free(m->name);
  ptq_free(m->in);
  ptq_free(m->y);
  ptq_free(m->tuning);
}

static void lay_out(const ptq_lane *l, const ptq_reference *r,
                    const ptq_workbench *b, members *m) {
  for (int layer = 0; layer < ptq_layer_count(r->setup->info); layer++) {
    const ptq_linear *w = &r->block.linear[layer];
    if (w->weight == NULL) continue;
    const int i = m->n++;
    m->layer[i] = layer;
    m->y[i] = b->layer_weights[layer];
    ptq_layer_tensor_name(r->setup->model, r->block.index, layer, m->name[i]);
    m->in[i] = (ptq_quant_input){.w = w->weight,
                                 .rows = w->out,
                                 .cols = w->in,
                                 .threads = r->setup->room.hands,
                                 .layer = m->name[i]};
    ptq_point_format(l->grid, l->point, m->name[i], &m->in[i].dtype,
                     &m->in[i].group);
  }
}

ptq_status ptq_lane_tune(ptq_lane *l, ptq_reference *r, const ptq_workbench *b,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int layers = ptq_layer_count(r->setup->info);
  members m = {0};
  ptq_block_probe probe = {0};
  const ptq_block_loss loss = {
      .ctx = &probe, .windows = l->calib.n, .eval = ptq_block_probe_eval};
  PTQ_TRY(open_members(&m, layers, err));
  PTQ_TRY(ptq_alloc(&l->tuning, layers, sizeof *l->tuning, "offsets of a block",
                    err));
  lay_out(l, r, b, &m);
  PTQ_TRY(
      ptq_block_probe_open(&probe, r, &l->calib, r->setup->room.hands, err));
  PTQ_TRY(
      ptq_method_tune_block(l->method, m.in, m.y, m.n, &loss, m.tuning, err));
  for (int i = 0; i < m.n; i++) {
    l->tuning[m.layer[i]] = m.tuning[i];
    m.tuning[i] = (ptq_tuning){0}; /* handed over */
  }
done:
  ptq_block_probe_close(&probe);
  close_members(&m);
  return rc;
}

void ptq_lane_untune(ptq_lane *l, const ptq_model_info *info) {
  for (int i = 0; l->tuning != NULL && i < ptq_layer_count(info); i++)
    ptq_tuning_release(&l->tuning[i]);
  ptq_free(l->tuning);
  l->tuning = NULL;
}
