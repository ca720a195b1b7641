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
  return ptq_collected_error(&p->r->calib_inputs, p->site, p->error, l->out,
                             p->r->product, loss, err);
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

/* The module of a dense site with other weights of the site. */
static ptq_status module_loss(const ptq_module_probe *p, float *const *w,
                              double *loss, ptq_err *err) {
  const ptq_reference *r = p->r;
  const ptq_site kind = (ptq_site)p->site;
  ptq_linear linear[PTQ_ROLE_COUNT];
  ptq_status rc = PTQ_OK;
  ptq_block block = r->block; /* borrows all but the site's weights */
  block.linear = linear;
  for (int l = 0, i = 0; l < PTQ_ROLE_COUNT; l++) {
    linear[l] = r->block.linear[l];
    if (ptq_layer_site(l) == p->site && linear[l].weight != NULL)
      PTQ_TRY(ptq_linear_replace(&linear[l], w[i++],
                                 p->packed != NULL ? p->packed[l] : NULL, p->ws,
                                 err));
  }
  compared c = {.layer = kind == PTQ_SITE_ATTN_IN ? PTQ_ROLE_O : PTQ_ROLE_DOWN};
  const ptq_forward_hook hook = {.ctx = &c, .output = compare};
  const int64_t n = r->calib.length, size = n * r->calib.d;
  for (int64_t i = 0; i < r->module_windows; i++) {
    c.expected = r->module_out[kind] + i * size;
    PTQ_TRY(ptq_module_forward(r->setup->info, &block, kind,
                               r->module_in[kind] + i * size, n, p->ws, &hook,
                               err));
  }
  *loss = c.sum / (double)(r->module_windows * n);
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
