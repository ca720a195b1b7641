/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "module_loss.h"

#include "ptq/num/vec.h"

/* The layer that is inspected by itself, or PTQ_ROLE_COUNT. */
static ptq_role alone(const ptq_module_probe *p) {
  switch (p->site) {
    case PTQ_SITE_ATTN_OUT:
      return PTQ_ROLE_O;
    case PTQ_SITE_MLP_OUT:
      return PTQ_ROLE_DOWN;
    case PTQ_SITE_MLP_IN:
      return p->r->setup->info->has_gate ? PTQ_ROLE_COUNT : PTQ_ROLE_UP;
    default:
      return PTQ_ROLE_COUNT;
  }
}

/* A linear layer's own output: x (W - w)' summed over all tokens is a trace
 * with the second moment. */
static double layer_loss(const ptq_module_probe *p, ptq_role role,
                         const float *w) {
  const ptq_linear *l = &p->r->block.linear[role];
  for (int64_t i = 0; i < l->out * l->in; i++)
    p->error[i] = l->weight[i] - w[i];
  return ptq_moment_quadratic(p->error, l->out, p->r->h_calib32[p->site], l->in,
                              p->r->product);
}

/* Hook: what the module gives, beside what it gave unquantized. */
typedef struct compared {
  ptq_role role;
  const float *expected; /* borrowed; [n, out] */
  double sum;
} compared;

static ptq_status compare(void *ctx, ptq_role role, const float *y, int64_t n,
                          int64_t out, ptq_err *err) {
  compared *c = ctx;
  (void)err;
  if (role == c->role) c->sum += ptq_vec_sum_sq_diff(c->expected, y, n * out);
  return PTQ_OK;
}

ptq_status ptq_module_probe_eval(void *probe, float *const *w, double *loss,
                                 ptq_err *err) {
  const ptq_module_probe *p = probe;
  const ptq_reference *r = p->r;
  ptq_status rc = PTQ_OK;
  const ptq_role one = alone(p);
  if (one != PTQ_ROLE_COUNT) {
    *loss = layer_loss(p, one, w[0]);
    return PTQ_OK;
  }
  ptq_block block = r->block; /* borrows all but the site's weights */
  for (int role = 0, i = 0; role < PTQ_ROLE_COUNT; role++)
    if (ptq_role_site((ptq_role)role) == p->site &&
        block.linear[role].weight != NULL)
      PTQ_TRY(ptq_linear_replace(&block.linear[role], w[i++], p->packed[role],
                                 p->ws, err));
  compared c = {.role =
                    p->site == PTQ_SITE_ATTN_IN ? PTQ_ROLE_O : PTQ_ROLE_DOWN};
  const ptq_forward_hook hook = {.ctx = &c, .output = compare};
  const int64_t n = r->calib.length, size = n * r->calib.d;
  for (int64_t i = 0; i < r->module_windows; i++) {
    c.expected = r->module_out[p->site] + i * size;
    PTQ_TRY(ptq_module_forward(r->setup->info, &block, p->site,
                               r->module_in[p->site] + i * size, n, p->ws,
                               &hook, err));
  }
  *loss = c.sum / (double)(r->module_windows * n);
done:
  return rc;
}
