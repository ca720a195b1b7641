/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "block_loss.h"

#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

static ptq_status hand_open(const ptq_block_probe *p, ptq_block_hand *h,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = p->r->setup->info;
  const int64_t length = p->input->length;
  PTQ_TRY(ptq_backspace_create(info, length, 0, &h->bs, err));
  PTQ_TRY(ptq_alloc(&h->h, length * info->d_model, sizeof(float),
                    "hidden states", err));
  PTQ_TRY(ptq_alloc(&h->tape, ptq_tape_size(info, length, PTQ_KEEP_ALL),
                    sizeof(float), "a window in a block", err));
done:
  return rc;
}

ptq_status ptq_block_probe_open(ptq_block_probe *p, ptq_reference *r,
                                ptq_stream *input, int threads, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int layers = ptq_layer_count(r->setup->info);
  *p = (ptq_block_probe){
      .r = r, .input = input, .n_hands = threads, .block = r->block};
  PTQ_TRY(ptq_alloc(&p->linear, layers, sizeof *p->linear, "a block's layers",
                    err));
  PTQ_TRY(ptq_alloc(&p->g, layers, sizeof *p->g, "a block's layers", err));
  PTQ_TRY(ptq_alloc(&p->sums, input->n, sizeof *p->sums, "errors", err));
  PTQ_TRY(ptq_alloc(&p->hands, threads, sizeof *p->hands, "threads", err));
  for (int i = 0; i < threads; i++) PTQ_TRY(hand_open(p, &p->hands[i], err));
  memcpy(p->linear, r->block.linear, (size_t)layers * sizeof *p->linear);
  p->block.linear = p->linear;
  p->block.memory = NULL;
done:
  return rc;
}

void ptq_block_probe_close(ptq_block_probe *p) {
  for (int i = 0; p->hands != NULL && i < p->n_hands; i++) {
    ptq_backspace_free(p->hands[i].bs);
    ptq_free(p->hands[i].h);
    ptq_free(p->hands[i].tape);
  }
  ptq_free(p->hands);
  ptq_free(p->linear);
  ptq_free(p->g);
  ptq_free(p->sums);
  *p = (ptq_block_probe){0};
}

int64_t ptq_block_probe_bytes(const ptq_model_info *info, int threads,
                              int64_t length) {
  const int64_t one = sizeof(float);
  return threads * (ptq_backspace_bytes(info, length, 0) +
                    one * (length * info->d_model +
                           ptq_tape_size(info, length, PTQ_KEEP_ALL)));
}

/* One evaluation. */
typedef struct evaluation {
  const ptq_block_probe *p;
  const int64_t *at; /* [count] */
  int64_t count;
} evaluation;

/* What of a window's output counts: all positions but the last, from which
 * nothing is predicted. */
static int64_t counted(const ptq_block_probe *p) {
  const int64_t n = p->input->length;
  return (n > 1 ? n - 1 : n) * p->input->d;
}

static ptq_status eval_window(void *ctx, int hand, int64_t i, ptq_order *order,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const evaluation *e = ctx;
  const ptq_block_probe *p = e->p;
  const ptq_model_info *info = p->r->setup->info;
  const int64_t n = p->input->length, size = n * info->d_model;
  const int64_t counts = counted(p);
  const float by = 2.0F / (float)(e->count * counts);
  const ptq_block_hand *mine = &p->hands[hand];
  float *h = mine->h, *x = NULL;
  const ptq_backward_hook hook = {.order = order, .index = i};
  ptq_tape tape;
  ptq_tape_at(info, n, PTQ_KEEP_ALL, mine->tape, &tape);
  PTQ_TRY(ptq_stream_window(p->input, hand, e->at[i], &x, err));
  memcpy(h, x, (size_t)size * sizeof *h);
  PTQ_TRY(ptq_block_record(info, &p->block, h, n,
                           ptq_backspace_workspace(mine->bs), &tape, NULL,
                           err));
  PTQ_TRY(ptq_stream_window(&p->r->calib, hand, e->at[i], &x, err));
  p->sums[i] = ptq_vec_sum_sq_diff(x, h, counts);
  for (int64_t k = 0; k < counts; k++) h[k] = by * (h[k] - x[k]);
  memset(h + counts, 0, (size_t)(size - counts) * sizeof *h);
  PTQ_TRY(ptq_block_backward(info, &p->block, n, mine->bs, &tape, h, p->g, 0,
                             NULL, &hook, err));
done:
  return rc;
}

ptq_status ptq_block_probe_eval(void *probe, const int64_t *at, int64_t count,
                                float *const *w, float *const *g, double *loss,
                                ptq_err *err) {
  ptq_block_probe *p = probe;
  const int layers = ptq_layer_count(p->r->setup->info);
  evaluation e = {.p = p, .at = at, .count = count};
  double sum = 0.0;
  for (int l = 0, i = 0; l < layers; l++) {
    ptq_linear *of = &p->linear[l];
    p->g[l] = NULL;
    if (of->weight == NULL) continue;
    of->weight = w[i];
    p->g[l] = g[i++];
    memset(p->g[l], 0, (size_t)(of->out * of->in) * sizeof(float));
  }
  const ptq_status rc =
      ptq_crew_run_ordered(p->n_hands, 0, count, layers, eval_window, &e, err);
  for (int64_t i = 0; i < count; i++) sum += p->sums[i];
  *loss = sum / (double)(count * counted(p));
  return rc;
}
