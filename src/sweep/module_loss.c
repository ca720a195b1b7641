/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "module_loss.h"

#include "ptq/base/check.h"
#include "ptq/num/vec.h"

/* The layer that is inspected by itself, or -1. */
static int alone(const ptq_module_probe *p) {
  const int expert = ptq_site_expert(p->site);
  switch (ptq_site_kind(p->site)) {
    case PTQ_SITE_ATTN_OUT:
      return PTQ_ROLE_O;
    case PTQ_SITE_MLP_OUT:
      return ptq_layer_of(PTQ_ROLE_DOWN, expert);
    case PTQ_SITE_MLP_IN:
      return p->r->setup->info->has_gate ? -1
                                         : ptq_layer_of(PTQ_ROLE_UP, expert);
    default:
      return -1;
  }
}

/* A linear layer's own output: x (W - w)' summed over all tokens. */
static ptq_status layer_loss(const ptq_module_probe *p, int layer,
                             const float *w, double *loss, ptq_err *err) {
  const ptq_linear *l = &p->r->block.linear[layer];
  for (int64_t i = 0; i < l->out * l->in; i++)
    p->error[i] = l->weight[i] - w[i];
  const ptq_error_job job = {.c = &p->r->calib_inputs,
                             .site = p->site,
                             .e = p->error,
                             .rows = l->out,
                             .out = loss};
  return ptq_collected_errors(&job, 1, p->r->product, err);
}

/* Hook: what the module gives, beside what it gave unquantized. */
typedef struct compared {
  int layer;
  const float *expected; /* borrowed; [n, out] */
  double sum;
} compared;

static ptq_status compare(void *ctx, int layer, const float *y, int64_t n,
                          int64_t out, ptq_err *err) {
  compared *c = ctx;
  (void)err;
  if (layer == c->layer) c->sum += ptq_vec_sum_sq_diff(c->expected, y, n * out);
  return PTQ_OK;
}

/* A module's way over the windows. */
typedef struct module_pass {
  const ptq_module_probe *p;
  const ptq_block *block;
  double sum[PTQ_MODULE_WINDOWS];
} module_pass;

static ptq_status module_window(void *ctx, int hand, int64_t i,
                                ptq_order *order, ptq_err *err) {
  module_pass *m = ctx;
  const ptq_reference *r = m->p->r;
  const ptq_hands *hands = m->p->hands;
  const ptq_site kind = (ptq_site)m->p->site;
  const int64_t n = r->calib.length;
  const int64_t at = ptq_spool_place(&r->calib.h, i) * n * r->calib.d;
  compared c = {.layer = kind == PTQ_SITE_ATTN_IN ? PTQ_ROLE_O : PTQ_ROLE_DOWN,
                .expected = r->module_out[kind] + at};
  const ptq_forward_hook hook = {.ctx = &c, .output = compare};
  (void)order;
  const ptq_status rc =
      ptq_module_forward(hands->info, m->block, kind, r->module_in[kind] + at,
                         n, hands->ws[hand], &hook, err);
  m->sum[i] = c.sum;
  return rc;
}

/* The module of a dense site with other weights of the site. */
static ptq_status module_loss(const ptq_module_probe *p, float *const *w,
                              double *loss, ptq_err *err) {
  const ptq_reference *r = p->r;
  ptq_linear linear[PTQ_ROLE_COUNT];
  ptq_status rc = PTQ_OK;
  ptq_block block = r->block; /* borrows all but the site's weights */
  block.linear = linear;
  for (int l = 0, i = 0; l < PTQ_ROLE_COUNT; l++) {
    linear[l] = r->block.linear[l];
    if (ptq_layer_site(l) == p->site && linear[l].weight != NULL)
      PTQ_TRY(ptq_linear_replace(&linear[l], w[i++],
                                 p->packed != NULL ? p->packed[l] : NULL,
                                 p->hands->ws[0], err));
  }
  module_pass m = {.p = p, .block = &block};
  double sum = 0.0;
  ptq_team *team = p->hands->team;
  PTQ_TRY(ptq_team_run(team, p->hands->n, r->module_windows, module_window, &m,
                       err));
  PTQ_TRY(
      ptq_team_share(team, m.sum, r->module_windows, sizeof m.sum[0], 1, err));
  for (int64_t i = 0; i < r->module_windows; i++) sum += m.sum[i];
  *loss = sum / (double)(r->module_windows * r->calib.length);
done:
  return rc;
}

ptq_status ptq_module_probe_eval(void *probe, float *const *w, double *loss,
                                 ptq_err *err) {
  const ptq_module_probe *p = probe;
  const int layer = alone(p);
  if (layer >= 0) return layer_loss(p, layer, w[0], loss, err);
  PTQ_ASSERT(ptq_reference_has_module(p->r->setup->info, p->site));
  return module_loss(p, w, loss, err);
}
