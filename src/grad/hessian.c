/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/grad/hessian.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/num/kernels.h"

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

/* A run that leaves vectors. */
typedef struct flat {
  const ptq_model_info *info; /* borrowed, as all */
  double scale;               /* 1 / scored tokens */
  double *gradient;           /* or NULL */
  const double *const *x;     /* [k] */
  double *const *y;           /* [k] */
} flat;

static ptq_status load_flat(void *ctx, int64_t block, int64_t j,
                            ptq_real *const *e, ptq_err *err) {
  const flat *f = ctx;
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

static ptq_status take_flat(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  const flat *f = ctx;
  (void)err;
  const int64_t at = ptq_flat_at(f->info, l->block, l->layer);
  const int64_t size = l->out * l->in;
  if (f->gradient != NULL) add_scaled(l->g, size, f->scale, f->gradient + at);
  for (int64_t j = 0; j < l->k; j++)
    add_scaled(l->he[j], size, f->scale, f->y[j] + at);
  return PTQ_OK;
}

/* All chunks; the mean NLL and its derivatives along directions. */
static ptq_status run_all(ptq_grad *g, const ptq_directions *d,
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

ptq_status ptq_flat_gradient(ptq_grad *g, double *nll, double *gradient,
                             ptq_err *err) {
  const ptq_model_info *info = ptq_grad_info(g);
  flat f = {.info = info,
            .scale = 1.0 / (double)ptq_grad_tokens(g),
            .gradient = gradient};
  const ptq_grad_sink sink = {.ctx = &f, .gradient = true, .layer = take_flat};
  for (int64_t i = 0; i < ptq_flat_size(info); i++) gradient[i] = 0.0;
  return run_all(g, NULL, &sink, nll, NULL, err);
}

ptq_status ptq_flat_slopes(ptq_grad *g, int64_t k, const double *const *x,
                           double *slopes, ptq_err *err) {
  flat f = {.info = ptq_grad_info(g), .x = x};
  double nll = 0.0;
  const ptq_directions d = {.k = k, .ctx = &f, .load = load_flat};
  const ptq_grad_sink sink = {.ctx = &f};
  return run_all(g, &d, &sink, &nll, slopes, err);
}

static ptq_status apply_hessian(void *ctx, int64_t count,
                                const double *const *x, double *const *y,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_grad *g = ctx;
  const ptq_model_info *info = ptq_grad_info(g);
  double nll = 0.0, *nlld = NULL;
  flat f = {
      .info = info, .scale = 1.0 / (double)ptq_grad_tokens(g), .x = x, .y = y};
  const ptq_directions d = {.k = count, .ctx = &f, .load = load_flat};
  const ptq_grad_sink sink = {.ctx = &f, .products = true, .layer = take_flat};
  for (int64_t j = 0; j < count; j++)
    for (int64_t i = 0; i < ptq_flat_size(info); i++) y[j][i] = 0.0;
  PTQ_TRY(ptq_alloc(&nlld, count, sizeof *nlld, "derivatives", err));
  PTQ_TRY(run_all(g, &d, &sink, &nll, nlld, err));
done:
  ptq_free(nlld);
  return rc;
}

ptq_operator ptq_hessian_operator(ptq_grad *g) {
  return (ptq_operator){.n = ptq_flat_size(ptq_grad_info(g)),
                        .width = ptq_grad_max_tangents(g),
                        .ctx = g,
                        .apply = apply_hessian};
}

/* A run that leaves numbers by layer. */
typedef struct forming {
  ptq_forms *out; /* borrowed */
  int64_t blocks;
  double scale; /* 1 / scored tokens */
  flat held;    /* gradient and products, where they are asked for */
  double **y;   /* owned; [k] of owned: the products */
  /* owned; a window's gradient of a layer, and that times a direction */
  ptq_real *gradient, *product;
} forming;

static double dot(const ptq_real *x, const ptq_real *y, int64_t n) {
  return PTQ_VEC(dot, x, y, n);
}

static ptq_status take_forms(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  forming *f = ctx;
  ptq_forms *o = f->out;
  const int64_t k = l->k, size = l->out * l->in;
  const int64_t at = l->block * (o->layers / f->blocks) + l->layer;
  for (int64_t j = 0; j < k; j++) {
    o->ge[at * k + j] += f->scale * dot(l->g, l->e[j], size);
    o->ee[at * k + j] = dot(l->e[j], l->e[j], size);
    for (int64_t i = 0; i < k; i++)
      o->ehe[(at * k + i) * k + j] += f->scale * dot(l->e[i], l->he[j], size);
  }
  return f->held.gradient != NULL ? take_flat(&f->held, l, err) : PTQ_OK;
}

/* A window's gradient is dy' x: its squares times those of the directions. */
static ptq_status take_fisher(void *ctx, const ptq_grad_window *w,
                              ptq_err *err) {
  forming *f = ctx;
  const ptq_model_info *info = f->held.info;
  const int64_t out = ptq_role_outputs(info, ptq_layer_role(w->layer));
  const int64_t in = ptq_role_inputs(info, ptq_layer_role(w->layer));
  double *to =
      f->out->efe + (w->block * ptq_layer_count(info) + w->layer) * w->k;
  (void)err;
  PTQ_GEMM(tn, out, in, w->n, 1, w->dy, out, w->x, in, 0, f->gradient, in);
  for (int64_t j = 0; j < w->k; j++) {
    for (int64_t i = 0; i < out * in; i++)
      f->product[i] = f->gradient[i] * w->e[j][i];
    to[j] += f->scale * dot(f->product, f->product, out * in);
  }
  return PTQ_OK;
}

static int64_t largest_layer(const ptq_model_info *info) {
  int64_t most = 0;
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    if (role_sizes(info, r, r + 1) > most) most = role_sizes(info, r, r + 1);
  return most;
}

static ptq_status hold(forming *f, const ptq_model_info *info, int64_t k,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = ptq_flat_size(info);
  f->held.info = info;
  f->held.scale = f->scale;
  PTQ_TRY(ptq_alloc(&f->y, k, sizeof *f->y, "products", err));
  f->held.y = f->y;
  for (int64_t j = 0; j < k; j++)
    PTQ_TRY(ptq_alloc(&f->y[j], n, sizeof(double), "a product", err));
  PTQ_TRY(ptq_alloc(&f->held.gradient, n, sizeof(double), "a gradient", err));
  PTQ_TRY(ptq_alloc(&f->out->efe, f->out->layers * k, sizeof *f->out->efe,
                    "forms", err));
  PTQ_TRY(ptq_alloc(&f->gradient, largest_layer(info), sizeof *f->gradient,
                    "gradient of a window", err));
  PTQ_TRY(ptq_alloc(&f->product, largest_layer(info), sizeof *f->product,
                    "gradient of a window", err));
done:
  return rc;
}

static void let_go(forming *f, int64_t k) {
  for (int64_t j = 0; f->y != NULL && j < k; j++) ptq_free(f->y[j]);
  ptq_free(f->y);
  ptq_free(f->held.gradient);
  ptq_free(f->gradient);
  ptq_free(f->product);
}

/* The gradient times the products, by layer. */
static ptq_status multiply_held(const forming *f, ptq_err *err) {
  ptq_forms *o = f->out;
  const int count = ptq_layer_count(f->held.info);
  const ptq_status rc =
      ptq_alloc(&o->ghe, o->layers * o->k, sizeof *o->ghe, "forms", err);
  for (int64_t l = 0; rc == PTQ_OK && l < o->layers; l++) {
    const int64_t from = ptq_flat_at(f->held.info, l / count, (int)(l % count));
    const int64_t to =
        ptq_flat_at(f->held.info, l / count, (int)(l % count) + 1);
    for (int64_t j = 0; j < o->k; j++)
      for (int64_t i = from; i < to; i++)
        o->ghe[l * o->k + j] += f->held.gradient[i] * f->held.y[j][i];
  }
  return rc;
}

static ptq_status run_forms(ptq_grad *g, const ptq_directions *d, bool held,
                            ptq_forms *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t layers = ptq_flat_layers(ptq_grad_info(g)), k = d->k;
  forming f = {.out = out,
               .blocks = ptq_grad_info(g)->n_blocks,
               .scale = 1.0 / (double)ptq_grad_tokens(g)};
  const ptq_grad_sink sink = {.ctx = &f,
                              .gradient = true,
                              .products = true,
                              .layer = take_forms,
                              .window = held ? take_fisher : NULL};
  *out = (ptq_forms){.layers = layers, .k = k};
  PTQ_TRY(ptq_alloc(&out->nlld, k, sizeof *out->nlld, "forms", err));
  PTQ_TRY(ptq_alloc(&out->ge, layers * k, sizeof *out->ge, "forms", err));
  PTQ_TRY(ptq_alloc(&out->ehe, layers * k * k, sizeof *out->ehe, "forms", err));
  PTQ_TRY(ptq_alloc(&out->ee, layers * k, sizeof *out->ee, "forms", err));
  if (held) PTQ_TRY(hold(&f, ptq_grad_info(g), k, err));
  PTQ_TRY(run_all(g, d, &sink, &out->nll, out->nlld, err));
  if (!isfinite(out->nll))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "the loss is not finite"));
  if (held) PTQ_TRY(multiply_held(&f, err));
done:
  let_go(&f, k);
  if (rc != PTQ_OK) ptq_forms_release(out);
  return rc;
}

ptq_status ptq_forms_run(ptq_grad *g, const ptq_directions *d, ptq_forms *out,
                         ptq_err *err) {
  return run_forms(g, d, false, out, err);
}

ptq_status ptq_forms_run_held(ptq_grad *g, const ptq_directions *d,
                              ptq_forms *out, ptq_err *err) {
  return run_forms(g, d, true, out, err);
}

int64_t ptq_forms_held_bytes(const ptq_model_info *info, int64_t k) {
  return (1 + k) * ptq_flat_size(info) * (int64_t)sizeof(double) +
         2 * largest_layer(info) * (int64_t)sizeof(ptq_real);
}

void ptq_forms_release(ptq_forms *f) {
  ptq_free(f->nlld);
  ptq_free(f->ge);
  ptq_free(f->ehe);
  ptq_free(f->ee);
  ptq_free(f->ghe);
  ptq_free(f->efe);
  *f = (ptq_forms){0};
}
