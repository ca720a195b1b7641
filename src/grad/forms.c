/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Numbers by layer along directions. */
#include <math.h>

#include "flat.h"
#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"
#include "ptq/grad/kronecker.h"
#include "ptq/num/kernels.h"

/* A run that leaves numbers by layer. */
typedef struct forming {
  ptq_forms *out;             /* borrowed */
  const ptq_model_info *info; /* borrowed */
  unsigned want;
  double scale;  /* 1 / scored tokens */
  ptq_flat held; /* of PTQ_FORMS_GRADIENT: gradient (owned) and products */
  double **y;    /* owned; [k] of owned: the products */
  /* Of PTQ_FORMS_FISHER. */
  ptq_kronecker factors; /* owned */
  /* owned; a window's gradient of a layer, and that times a direction */
  ptq_real *gradient, *product;
} forming;

static double dot(const ptq_real *x, const ptq_real *y, int64_t n) {
  return PTQ_VEC(dot, x, y, n);
}

static int64_t flat_layer(const ptq_model_info *info, int64_t block,
                          int layer) {
  return block * ptq_layer_count(info) + layer;
}

static ptq_status take_forms(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  forming *f = ctx;
  ptq_forms *o = f->out;
  const int64_t k = l->k, size = l->out * l->in;
  const int64_t at = flat_layer(f->info, l->block, l->layer);
  for (int64_t j = 0; j < k; j++) {
    o->ge[at * k + j] += f->scale * dot(l->g, l->e[j], size);
    o->ee[at * k + j] = dot(l->e[j], l->e[j], size);
    for (int64_t i = 0; i < k; i++)
      o->ehe[(at * k + i) * k + j] += f->scale * dot(l->e[i], l->he[j], size);
  }
  return f->held.gradient != NULL ? ptq_flat_take(&f->held, l, err) : PTQ_OK;
}

/* A window's gradient is dy' x: its squares times those of the directions. */
static ptq_status take_fisher(void *ctx, const ptq_grad_window *w,
                              ptq_err *err) {
  forming *f = ctx;
  const int64_t out = ptq_role_outputs(f->info, ptq_layer_role(w->layer));
  const int64_t in = ptq_role_inputs(f->info, ptq_layer_role(w->layer));
  double *to = f->out->efe + flat_layer(f->info, w->block, w->layer) * w->k;
  (void)err;
  ptq_kronecker_add(&f->factors, w);
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
  for (int l = 0; l < ptq_layer_count(info); l++) {
    const int64_t n = ptq_flat_at(info, 0, l + 1) - ptq_flat_at(info, 0, l);
    if (n > most) most = n;
  }
  return most;
}

static ptq_status hold_vectors(forming *f, int64_t k, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = ptq_flat_size(f->info);
  f->held = (ptq_flat){.info = f->info, .scale = f->scale};
  PTQ_TRY(ptq_alloc(&f->y, k, sizeof *f->y, "products", err));
  f->held.y = f->y;
  for (int64_t j = 0; j < k; j++)
    PTQ_TRY(ptq_alloc(&f->y[j], n, sizeof(double), "a product", err));
  PTQ_TRY(ptq_alloc(&f->held.gradient, n, sizeof(double), "a gradient", err));
done:
  return rc;
}

static ptq_status hold_fisher(forming *f, int64_t k, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t most = largest_layer(f->info), layers = f->out->layers;
  PTQ_TRY(ptq_kronecker_init(f->info, &f->factors, err));
  PTQ_TRY(ptq_alloc(&f->out->efe, layers * k, sizeof(double), "forms", err));
  PTQ_TRY(ptq_alloc(&f->out->eke, layers * k, sizeof(double), "forms", err));
  PTQ_TRY(ptq_alloc(&f->gradient, most, sizeof *f->gradient,
                    "gradient of a window", err));
  PTQ_TRY(ptq_alloc(&f->product, most, sizeof *f->product,
                    "gradient of a window", err));
done:
  return rc;
}

static void drop_vectors(forming *f, int64_t k) {
  for (int64_t j = 0; f->y != NULL && j < k; j++) ptq_free(f->y[j]);
  ptq_free(f->y);
  ptq_free(f->held.gradient);
  f->y = NULL;
  f->held.gradient = NULL;
}

static void let_go(forming *f, int64_t k) {
  drop_vectors(f, k);
  ptq_kronecker_release(&f->factors);
  ptq_free(f->gradient);
  ptq_free(f->product);
}

/* The gradient times the products, by layer. */
static ptq_status multiply_held(const forming *f, ptq_err *err) {
  ptq_forms *o = f->out;
  const int count = ptq_layer_count(f->info);
  const ptq_status rc =
      ptq_alloc(&o->ghe, o->layers * o->k, sizeof *o->ghe, "forms", err);
  for (int64_t l = 0; rc == PTQ_OK && l < o->layers; l++) {
    const int64_t from = ptq_flat_at(f->info, l / count, (int)(l % count));
    const int64_t to = ptq_flat_at(f->info, l / count, (int)(l % count) + 1);
    for (int64_t j = 0; j < o->k; j++)
      for (int64_t i = from; i < to; i++)
        o->ghe[l * o->k + j] += f->held.gradient[i] * f->held.y[j][i];
  }
  return rc;
}

/* Directions of a block once more, for the factors of all windows. */
static ptq_status form_factors(forming *f, const ptq_directions *d,
                               int64_t tokens, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int count = ptq_layer_count(f->info);
  ptq_real *memory = NULL, **e = NULL;
  ptq_kronecker_finish(&f->factors, tokens);
  PTQ_TRY(ptq_alloc(&memory, ptq_flat_at(f->info, 1, 0), sizeof *memory,
                    "a direction", err));
  PTQ_TRY(ptq_alloc(&e, count, sizeof *e, "a direction", err));
  for (int l = 0; l < count; l++)
    if (ptq_layer_present(f->info, l))
      e[l] = memory + ptq_flat_at(f->info, 0, l);
  for (int64_t b = 0; b < f->info->n_blocks; b++)
    for (int64_t j = 0; j < d->k; j++) {
      PTQ_TRY(d->load(d->ctx, b, j, e, err));
      for (int l = 0; l < count; l++) {
        const int64_t i = flat_layer(f->info, b, l);
        if (e[l] == NULL) continue;
        PTQ_TRY(ptq_kronecker_form(&f->factors, i, e[l],
                                   &f->out->eke[i * d->k + j], err));
      }
    }
done:
  ptq_free(memory);
  ptq_free(e);
  return rc;
}

static ptq_status begin(forming *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_forms *o = f->out;
  const int64_t n = o->layers * o->k;
  PTQ_TRY(ptq_alloc(&o->nlld, o->k, sizeof *o->nlld, "forms", err));
  PTQ_TRY(ptq_alloc(&o->ge, n, sizeof *o->ge, "forms", err));
  PTQ_TRY(ptq_alloc(&o->ehe, n * o->k, sizeof *o->ehe, "forms", err));
  PTQ_TRY(ptq_alloc(&o->ee, n, sizeof *o->ee, "forms", err));
  if (f->want & PTQ_FORMS_GRADIENT) PTQ_TRY(hold_vectors(f, o->k, err));
  if (f->want & PTQ_FORMS_FISHER) PTQ_TRY(hold_fisher(f, o->k, err));
done:
  return rc;
}

ptq_status ptq_forms_run(ptq_grad *g, const ptq_directions *d, unsigned want,
                         ptq_forms *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t layers = ptq_flat_layers(ptq_grad_info(g)), k = d->k;
  forming f = {.out = out,
               .info = ptq_grad_info(g),
               .want = want,
               .scale = 1.0 / (double)ptq_grad_tokens(g)};
  const ptq_grad_sink sink = {
      .ctx = &f,
      .gradient = true,
      .products = true,
      .layer = take_forms,
      .window = want & PTQ_FORMS_FISHER ? take_fisher : NULL};
  *out = (ptq_forms){.layers = layers, .k = k};
  PTQ_TRY(begin(&f, err));
  PTQ_TRY(ptq_flat_run(g, d, &sink, &out->nll, out->nlld, err));
  if (!isfinite(out->nll))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "the loss is not finite"));
  if (want & PTQ_FORMS_GRADIENT) PTQ_TRY(multiply_held(&f, err));
  drop_vectors(&f, k);
  if (want & PTQ_FORMS_FISHER)
    PTQ_TRY(form_factors(&f, d, ptq_grad_tokens(g), err));
  if (!(want & PTQ_FORMS_GAUSS_NEWTON)) goto done;
  PTQ_TRY(ptq_alloc(&out->ege, layers * k, sizeof *out->ege, "forms", err));
  PTQ_TRY(ptq_gauss_newton_forms(g, d, out->ege, err));
done:
  let_go(&f, k);
  if (rc != PTQ_OK) ptq_forms_release(out);
  return rc;
}

/* A run along the Gauss-Newton matrix. */
typedef struct gauss_newton {
  const ptq_model_info *info; /* borrowed */
  double scale;
  double *ege; /* borrowed */
} gauss_newton;

static ptq_status take_products(void *ctx, const ptq_grad_layer *l,
                                ptq_err *err) {
  const gauss_newton *f = ctx;
  const int64_t at = flat_layer(f->info, l->block, l->layer);
  (void)err;
  for (int64_t j = 0; j < l->k; j++)
    f->ege[at * l->k + j] += f->scale * dot(l->e[j], l->he[j], l->out * l->in);
  return PTQ_OK;
}

ptq_status ptq_gauss_newton_forms(ptq_grad *g, const ptq_directions *d,
                                  double *ege, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  gauss_newton f = {.info = ptq_grad_info(g),
                    .scale = 1.0 / (double)ptq_grad_tokens(g),
                    .ege = ege};
  const ptq_grad_sink sink = {.ctx = &f,
                              .products = true,
                              .curvature = PTQ_CURVATURE_GAUSS_NEWTON,
                              .layer = take_products};
  double nll = 0.0, *nlld = NULL;
  for (int64_t i = 0; i < ptq_flat_layers(f.info) * d->k; i++) ege[i] = 0.0;
  PTQ_TRY(ptq_alloc(&nlld, d->k, sizeof *nlld, "forms", err));
  PTQ_TRY(ptq_flat_run(g, d, &sink, &nll, nlld, err));
  if (!isfinite(nll))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "the loss is not finite"));
done:
  ptq_free(nlld);
  return rc;
}

int64_t ptq_forms_bytes(const ptq_model_info *info, int64_t k, unsigned want) {
  const int64_t doubles = (int64_t)sizeof(double),
                largest = largest_layer(info);
  int64_t bytes = 0;
  if (want & PTQ_FORMS_GRADIENT)
    bytes += (1 + k) * ptq_flat_size(info) * doubles;
  if (want & PTQ_FORMS_FISHER)
    bytes +=
        ptq_kronecker_bytes(info) + 3 * largest * doubles +
        (2 * largest + ptq_flat_at(info, 1, 0)) * (int64_t)sizeof(ptq_real);
  return bytes;
}

void ptq_forms_release(ptq_forms *f) {
  ptq_free(f->nlld);
  ptq_free(f->ge);
  ptq_free(f->ehe);
  ptq_free(f->ee);
  ptq_free(f->ege);
  ptq_free(f->ghe);
  ptq_free(f->efe);
  ptq_free(f->eke);
  *f = (ptq_forms){0};
}
