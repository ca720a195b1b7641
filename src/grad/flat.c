/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "flat.h"

#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"

/* Elements of roles first .. last - 1. */
static int64_t role_sizes(const ptq_model_info *info, int first, int last) {
  int64_t n = 0;
  for (int r = first; r < last; r++)
    if (ptq_role_present(info, (ptq_role)r))
      n += ptq_role_outputs(info, (ptq_role)r) *
           ptq_role_inputs(info, (ptq_role)r);
  return n;
}

int64_t ptq_flat_at(const ptq_model_info *info, int64_t block, int layer) {
  const int64_t expert = role_sizes(info, PTQ_ROLE_GATE, PTQ_ROLE_COUNT);
  const int64_t attention = role_sizes(info, 0, PTQ_ROLE_GATE);
  const int64_t whole = attention + ptq_mlp_count(info) * expert;
  if (layer >= ptq_layer_count(info)) return (block + 1) * whole;
  return block * whole + ptq_layer_expert(layer) * expert +
         role_sizes(info, 0, (int)ptq_layer_role(layer));
}

int64_t ptq_flat_size(const ptq_model_info *info) {
  return ptq_flat_at(info, info->n_blocks, 0);
}

int64_t ptq_flat_layers(const ptq_model_info *info) {
  return info->n_blocks * ptq_layer_count(info);
}

ptq_status ptq_flat_load(void *ctx, int64_t block, int64_t j,
                         ptq_real *const *e, ptq_err *err) {
  const ptq_flat *f = ctx;
  (void)err;
  for (int l = 0; l < ptq_layer_count(f->info); l++) {
    if (e[l] == NULL) continue;
    const int64_t from = ptq_flat_at(f->info, block, l);
    const int64_t size = ptq_flat_at(f->info, block, l + 1) - from;
    for (int64_t i = 0; i < size; i++) e[l][i] = (ptq_real)f->x[j][from + i];
  }
  return PTQ_OK;
}

static void add_scaled(const ptq_real *x, int64_t n, double scale, double *y) {
  for (int64_t i = 0; i < n; i++) y[i] += scale * (double)x[i];
}

ptq_status ptq_flat_take(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  const ptq_flat *f = ctx;
  (void)err;
  const int64_t at = ptq_flat_at(f->info, l->block, l->layer);
  const int64_t size = l->out * l->in;
  if (f->gradient != NULL) add_scaled(l->g, size, f->scale, f->gradient + at);
  for (int64_t j = 0; j < l->k; j++)
    add_scaled(l->he[j], size, f->scale, f->y[j] + at);
  return PTQ_OK;
}

ptq_status ptq_flat_run(ptq_grad *g, const ptq_directions *d,
                        const ptq_grad_sink *sink, double *nll, double *nlld,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = d != NULL ? d->k : 0;
  const double tokens = (double)ptq_grad_tokens(g);
  double *of_chunk = NULL;
  PTQ_TRY(ptq_alloc(&of_chunk, k, sizeof *of_chunk, "derivatives", err));
  *nll = 0.0;
  for (int64_t j = 0; j < k; j++) nlld[j] = 0.0;
  for (int64_t c = 0; c < ptq_grad_chunks(g); c++) {
    double sum = 0.0;
    PTQ_TRY(ptq_grad_run(g, c, c + 1, d, sink, &sum, of_chunk, err));
    *nll += sum / tokens;
    for (int64_t j = 0; j < k; j++) nlld[j] += of_chunk[j] / tokens;
  }
done:
  ptq_free(of_chunk);
  return rc;
}
