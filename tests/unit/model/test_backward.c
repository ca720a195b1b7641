/* SPDX-License-Identifier: GPL-3.0-or-later */
/* precisions: 32 64 */
/* Blocks of every architecture: what must hold of derivatives whatever their
 * values, and finite differences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "architectures.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/model/backward.h"
#include "ptq/num/blas.h"

enum { TOKENS = 37, LAYERS = PTQ_ROLE_GATE + 8 * PTQ_EXPERT_LAYERS, LANES = 2 };

/* Of sums of thousands of products, each rounded. */
#ifdef PTQ_REAL64
static const double NEAR = 1e-12;
#else
static const double NEAR = 2e-5;
#endif

#define MUST(call)                                \
  do {                                            \
    ptq_err e_ = {0};                             \
    if ((call) != PTQ_OK) fail_msg("%s", e_.msg); \
  } while (0)

/* A direction: a displacement of the weights and one of the input; and a place
 * for what belongs to it in the result. */
typedef struct direction {
  ptq_real *e[LAYERS], *g[LAYERS]; /* owned */
  ptq_real *hd, *dhd, *tape;       /* owned */
} direction;

/* A block with an input, a derivative by its output, and directions. */
typedef struct subject {
  const ptq_model_info *info;
  ptq_block b;
  ptq_backspace *bs;
  int64_t size;                    /* of a stream */
  ptq_real *h;                     /* owned; input */
  ptq_real *c;                     /* owned; derivative by the output */
  ptq_real *g[LAYERS], *dh, *tape; /* owned; results */
  direction d[LANES];
} subject;

static ptq_real *reals(int64_t n) {
  ptq_real *x = NULL;
  MUST(ptq_alloc(&x, n, sizeof *x, "a test's array", &e_));
  return x;
}

static ptq_real *draw(ptq_rng *rng, int64_t n, double scale) {
  ptq_real *x = reals(n);
  for (int64_t i = 0; i < n; i++)
    x[i] = (ptq_real)(scale * (2.0 * ptq_rng_unit(rng) - 1.0));
  return x;
}

static void begin(subject *s, ptq_model *m, int64_t block) {
  ptq_rng rng;
  ptq_rng_init(&rng, 7);
  *s = (subject){.info = ptq_model_get_info(m)};
  MUST(ptq_model_load_block(m, block, &s->b, &e_));
  MUST(ptq_backspace_create(s->info, TOKENS + 3, LANES, &s->bs, &e_));
  s->size = TOKENS * s->info->d_model;
  const int64_t tape = ptq_tape_size(s->info, TOKENS, PTQ_KEEP_ALL);
  s->h = draw(&rng, s->size, 2.0);
  s->c = draw(&rng, s->size, 1.0);
  s->dh = reals(s->size);
  s->tape = reals(tape);
  for (int j = 0; j < LANES; j++) {
    s->d[j].hd = draw(&rng, s->size, 0.5);
    s->d[j].dhd = reals(s->size);
    s->d[j].tape = reals(tape);
  }
  assert_true(ptq_layer_count(s->info) <= LAYERS);
  for (int l = 0; l < ptq_layer_count(s->info); l++) {
    const ptq_linear *w = &s->b.linear[l];
    if (w->weight == NULL) continue;
    s->g[l] = reals(w->out * w->in);
    for (int j = 0; j < LANES; j++) {
      s->d[j].g[l] = reals(w->out * w->in);
      s->d[j].e[l] = draw(&rng, w->out * w->in, 0.1);
    }
  }
}

static void end(subject *s) {
  ptq_block_release(&s->b);
  ptq_backspace_free(s->bs);
  ptq_free(s->h);
  ptq_free(s->c);
  ptq_free(s->dh);
  ptq_free(s->tape);
  for (int l = 0; l < LAYERS; l++) ptq_free(s->g[l]);
  for (int j = 0; j < LANES; j++) {
    ptq_free(s->d[j].hd);
    ptq_free(s->d[j].dhd);
    ptq_free(s->d[j].tape);
    for (int l = 0; l < LAYERS; l++) {
      ptq_free(s->d[j].e[l]);
      ptq_free(s->d[j].g[l]);
    }
  }
}

static void copy(const ptq_real *from, int64_t n, ptq_real *to) {
  if (n > 0) memcpy(to, from, (size_t)n * sizeof *to);
}

static double dot(const ptq_real *x, const ptq_real *y, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
  return sum;
}

static int64_t count(const subject *s, int l) {
  return s->g[l] != NULL ? s->b.linear[l].out * s->b.linear[l].in : 0;
}

/* Products over all layers and the input. */
static double dot_all(const subject *s, ptq_real *const *x, const ptq_real *xh,
                      ptq_real *const *y, const ptq_real *yh) {
  double sum = dot(xh, yh, s->size);
  for (int l = 0; l < LAYERS; l++) sum += dot(x[l], y[l], count(s, l));
  return sum;
}

/* Forward and backward with k directions: out[0] becomes the block's output,
 * out[1..] its tangents. */
static void differentiate(subject *s, ptq_keep keep, int64_t k,
                          ptq_real *const *out) {
  ptq_tangent t[LANES];
  ptq_tape tape;
  ptq_tape_at(s->info, TOKENS, keep, s->tape, &tape);
  copy(s->h, s->size, out[0]);
  copy(s->c, s->size, s->dh);
  for (int l = 0; l < LAYERS; l++)
    if (s->g[l] != NULL)
      memset(s->g[l], 0, (size_t)count(s, l) * sizeof(ptq_real));
  for (int64_t j = 0; j < k; j++) {
    direction *d = &s->d[j];
    t[j] = (ptq_tangent){.e = (const ptq_real *const *)d->e,
                         .hd = out[1 + j],
                         .dhd = d->dhd,
                         .g = d->g};
    ptq_tape_at(s->info, TOKENS,
                keep == PTQ_KEEP_ALL ? PTQ_KEEP_ALL : PTQ_KEEP_INPUT, d->tape,
                &t[j].tape);
    copy(d->hd, s->size, out[1 + j]);
    memset(d->dhd, 0, (size_t)s->size * sizeof(ptq_real));
    for (int l = 0; l < LAYERS; l++)
      if (s->g[l] != NULL)
        memset(d->g[l], 0, (size_t)count(s, l) * sizeof(ptq_real));
  }
  MUST(ptq_block_record_tangents(s->info, &s->b, out[0], TOKENS, s->bs, &tape,
                                 k, t, &e_));
  MUST(ptq_block_backward(s->info, &s->b, TOKENS, s->bs, &tape, s->dh, s->g, k,
                          t, NULL, &e_));
}

static void fill_out(const subject *s, ptq_real **out) {
  for (int i = 0; i <= LANES; i++) out[i] = reals(s->size);
}

static void free_out(ptq_real **out) {
  for (int i = 0; i <= LANES; i++) ptq_free(out[i]);
}

static void expect_near(const char *name, const char *what, double a, double b,
                        double size) {
  if (!(fabs(a - b) <= NEAR * size))
    fail_msg("%s: %s: %.17g and %.17g, of size %g", name, what, a, b, size);
}

/* <c, J u> = <J' c, u>, and u' H v = v' H u for the Hessian H of <c, block>. */
static void check_symmetry(const char *name, ptq_model *m) {
  subject s;
  ptq_real *out[1 + LANES];
  begin(&s, m, 0);
  fill_out(&s, out);
  differentiate(&s, PTQ_KEEP_ALL, 2, out);
  const direction *u = &s.d[0], *v = &s.d[1];
  for (int j = 0; j < LANES; j++)
    expect_near(
        name, "a tangent and the derivative", dot(s.c, out[1 + j], s.size),
        dot_all(&s, s.g, s.dh, s.d[j].e, s.d[j].hd),
        sqrt(dot(s.c, s.c, s.size) * dot(out[1 + j], out[1 + j], s.size)));
  const double size = sqrt(dot_all(&s, u->e, u->hd, u->e, u->hd) *
                           dot_all(&s, v->g, v->dhd, v->g, v->dhd));
  expect_near(name, "the Hessian's two sides",
              dot_all(&s, u->e, u->hd, v->g, v->dhd),
              dot_all(&s, v->e, v->hd, u->g, u->dhd), size);
  free_out(out);
  end(&s);
}

static void tangents_and_derivatives_are_adjoint(void **state) {
  (void)state;
  assert_true(each_architecture(check_symmetry) >= 30);
}

static void expect_same(const char *name, const char *what, const ptq_real *x,
                        const ptq_real *y, int64_t n) {
  if (memcmp(x, y, (size_t)n * sizeof *x) != 0)
    fail_msg("%s: other bits: %s", name, what);
}

/* Everything that differentiate leaves, of one direction. */
static ptq_real *snapshot(const subject *s, ptq_real *const *out, int64_t *n) {
  int64_t layers = 0, at = 0;
  for (int l = 0; l < LAYERS; l++) layers += count(s, l);
  *n = 4 * s->size + 2 * layers;
  ptq_real *all = reals(*n);
  const ptq_real *streams[4] = {out[0], out[1], s->dh, s->d[0].dhd};
  for (int i = 0; i < 4; i++, at += s->size)
    copy(streams[i], s->size, all + at);
  for (int l = 0; l < LAYERS; l++) {
    copy(s->g[l], count(s, l), all + at);
    at += count(s, l);
    copy(s->d[0].g[l], count(s, l), all + at);
    at += count(s, l);
  }
  return all;
}

static void check_bits(const char *name, ptq_model *m) {
  subject s;
  ptq_real *out[1 + LANES];
  int64_t n = 0;
  begin(&s, m, 1);
  fill_out(&s, out);
  differentiate(&s, PTQ_KEEP_ALL, 1, out);
  ptq_real *first = snapshot(&s, out, &n);
  for (int keep = 0; keep < PTQ_KEEP_COUNT; keep++)
    for (int k = 1; k <= LANES; k++) {
      differentiate(&s, (ptq_keep)keep, k, out);
      ptq_real *again = snapshot(&s, out, &n);
      expect_same(name, "with another tape, or another direction", first, again,
                  n);
      ptq_free(again);
    }
  /* The forward pass alone, and the gradient alone. */
  ptq_real *h = reals(s.size);
  copy(s.h, s.size, h);
  MUST(ptq_block_forward(s.info, &s.b, h, TOKENS, ptq_backspace_workspace(s.bs),
                         NULL, PTQ_SITE_COUNT, &e_));
  expect_same(name, "the forward pass", first, h, s.size);
  differentiate(&s, PTQ_KEEP_STREAMS, 0, out);
  expect_same(name, "the derivative by the input", first + 2 * s.size, s.dh,
              s.size);
  ptq_free(h);
  ptq_free(first);
  free_out(out);
  end(&s);
}

static void bits_depend_on_the_window_alone(void **state) {
  (void)state;
  assert_true(each_architecture(check_bits) >= 30);
}

#ifdef PTQ_REAL64
/* The subject moved by t along direction 0. */
static void move(subject *s, double t) {
  for (int64_t i = 0; i < s->size; i++) s->h[i] += t * s->d[0].hd[i];
  for (int l = 0; l < LAYERS; l++)
    for (int64_t i = 0; i < count(s, l); i++)
      s->b.linear[l].weight[i] += t * s->d[0].e[l][i];
}

/* Tangents of the output and of derivatives against central differences. */
static void check_differences(const char *name, ptq_model *m) {
  const double step = 1e-5;
  subject s;
  ptq_real *out[1 + LANES];
  ptq_real *at[2];
  int64_t n = 0;
  begin(&s, m, 0);
  fill_out(&s, out);
  for (int side = 0; side < 2; side++) {
    move(&s, side == 0 ? step : -2.0 * step);
    differentiate(&s, PTQ_KEEP_ALL, 1, out);
    at[side] = snapshot(&s, out, &n);
  }
  move(&s, step);
  differentiate(&s, PTQ_KEEP_ALL, 1, out);
  ptq_real *middle = snapshot(&s, out, &n);
  /* A snapshot: output, its tangent, dh, its tangent, then for each layer g
   * and its tangent. A kink within the step would show: step is small. */
  int64_t from = 0;
  double off = 0.0, size = 0.0;
  for (int part = -2; part < LAYERS; part++) {
    const int64_t width = part < 0 ? s.size : count(&s, part);
    for (int64_t i = from; i < from + width; i++) {
      const double want = (at[0][i] - at[1][i]) / (2.0 * step);
      off += pow(middle[i + width] - want, 2.0);
      size += want * want;
    }
    from += 2 * width;
  }
  /* A third derivative's h^2 / 6 and rounding's 1e-16 / h: 1e-9 or so. */
  if (!(sqrt(off) <= 1e-7 * sqrt(size)))
    fail_msg("%s: off by %g of %g", name, sqrt(off), sqrt(size));
  for (int side = 0; side < 2; side++) ptq_free(at[side]);
  ptq_free(middle);
  free_out(out);
  end(&s);
}

static void tangents_are_the_limits_of_differences(void **state) {
  (void)state;
  assert_true(each_architecture(check_differences) >= 30);
}

/* A loss on a block's own output, as methods that tune one block have it. */
static void a_block_can_have_a_loss_of_its_own(void **state) {
  (void)state;
  const double step = 1e-6;
  ptq_model *m = NULL;
  subject s;
  ptq_real *out[1 + LANES];
  double loss[2] = {0.0, 0.0};
  MUST(ptq_model_open(ARCHITECTURES "llama", &m, &e_));
  begin(&s, m, 1);
  fill_out(&s, out);
  ptq_real *target = reals(s.size);
  copy(s.c, s.size, target);
  differentiate(&s, PTQ_KEEP_ALL, 0, out);
  for (int64_t i = 0; i < s.size; i++) s.c[i] = 2.0 * (out[0][i] - target[i]);
  differentiate(&s, PTQ_KEEP_ALL, 0, out);
  const double slope = dot_all(&s, s.g, s.dh, s.d[0].e, s.d[0].hd);
  for (int side = 0; side < 2; side++) {
    move(&s, side == 0 ? step : -2.0 * step);
    differentiate(&s, PTQ_KEEP_ALL, 0, out);
    for (int64_t i = 0; i < s.size; i++)
      loss[side] += pow(out[0][i] - target[i], 2.0);
  }
  const double want = (loss[0] - loss[1]) / (2.0 * step);
  assert_true(fabs(slope - want) <= 1e-7 * fabs(want));
  ptq_free(target);
  free_out(out);
  end(&s);
  ptq_model_close(m);
}
#endif

/* What the hook saw. */
typedef struct watcher {
  const subject *s;
  ptq_real *g[LAYERS];
  int calls, fail_at;
} watcher;

static ptq_status watch(void *ctx, int layer, const ptq_real *x,
                        const ptq_real *dy, int64_t n, ptq_err *err) {
  watcher *w = ctx;
  const ptq_linear *l = &w->s->b.linear[layer];
  if (w->calls++ == w->fail_at)
    return PTQ_FAIL(err, PTQ_E_NUMERIC, "seen enough");
  for (int64_t t = 0; t < n; t++)
    for (int64_t o = 0; o < l->out; o++)
      for (int64_t i = 0; i < l->in; i++)
        w->g[layer][o * l->in + i] += dy[t * l->out + o] * x[t * l->in + i];
  return PTQ_OK;
}

static ptq_status watched(subject *s, watcher *w, ptq_err *err) {
  ptq_tape tape;
  const ptq_backward_hook hook = {.ctx = w, .layer = watch};
  ptq_tape_at(s->info, TOKENS, PTQ_KEEP_INPUT, s->tape, &tape);
  copy(s->h, s->size, tape.h);
  copy(s->c, s->size, s->dh);
  return ptq_block_backward(s->info, &s->b, TOKENS, s->bs, &tape, s->dh, NULL,
                            0, NULL, &hook, err);
}

static void check_hook(const char *name, ptq_model *m) {
  subject s;
  ptq_real *out[1 + LANES];
  ptq_err err = {0};
  begin(&s, m, 0);
  fill_out(&s, out);
  differentiate(&s, PTQ_KEEP_ALL, 0, out);
  watcher w = {.s = &s, .fail_at = -1};
  for (int l = 0; l < LAYERS; l++)
    if (s.g[l] != NULL) w.g[l] = reals(count(&s, l));
  MUST(watched(&s, &w, &e_));
  int layers = 0;
  for (int l = 0; l < LAYERS; l++) {
    layers += s.g[l] != NULL;
    for (int64_t i = 0; i < count(&s, l); i++)
      expect_near(name, "outer products", (double)w.g[l][i], (double)s.g[l][i],
                  sqrt(dot(s.g[l], s.g[l], count(&s, l))));
    ptq_free(w.g[l]);
  }
  assert_int_equal(w.calls, layers);
  w.calls = w.fail_at = 0;
  assert_int_equal(watched(&s, &w, &err), PTQ_E_NUMERIC);
  assert_string_equal(err.msg, "seen enough");
  assert_int_equal(w.calls, 1);
  free_out(out);
  end(&s);
}

static void the_hook_sees_each_layer_once(void **state) {
  (void)state;
  assert_true(each_architecture(check_hook) >= 30);
}

static void tapes_and_scratch_know_their_size(void **state) {
  (void)state;
  ptq_model *m = NULL;
  MUST(ptq_model_open(ARCHITECTURES "llama", &m, &e_));
  const ptq_model_info *info = ptq_model_get_info(m);
  const int64_t a = ptq_tape_size(info, 64, PTQ_KEEP_INPUT);
  const int64_t b = ptq_tape_size(info, 64, PTQ_KEEP_STREAMS);
  const int64_t c = ptq_tape_size(info, 64, PTQ_KEEP_ALL);
  assert_int_equal(a, 64 * info->d_model);
  assert_true(b > a && c >= b + 64 * 2 * info->d_ff);
  const int64_t none = ptq_backspace_bytes(info, 64, 0);
  const int64_t three = ptq_backspace_bytes(info, 64, 3);
  assert_true(none > ptq_workspace_bytes(info, 64));
  assert_true(three > none + 3 * c * (int64_t)sizeof(ptq_real));
  ptq_model_close(m);
}

/* Derivatives are float32's; the library of float64 has no such products at
 * all. */
static void products_of_bf16_have_no_derivatives(void **state) {
  (void)state;
  ptq_model *m = NULL;
  ptq_backspace *bs = NULL;
  ptq_err err = {0};
  MUST(ptq_model_open(ARCHITECTURES "llama", &m, &e_));
  const ptq_status rc = ptq_model_set_compute(m, PTQ_COMPUTE_BF16, &err);
#ifdef PTQ_REAL64
  assert_int_equal(rc, PTQ_E_UNSUPPORTED);
  assert_non_null(strstr(err.msg, "no products of bf16 in float64"));
  assert_int_equal(ptq_model_get_info(m)->compute, PTQ_COMPUTE_F32);
#else
  assert_int_equal(rc, PTQ_OK);
  assert_int_equal(ptq_backspace_create(ptq_model_get_info(m), 8, 0, &bs, &err),
                   PTQ_E_UNSUPPORTED);
  assert_non_null(strstr(err.msg, "products take bf16"));
#endif
  assert_null(bs);
  ptq_model_close(m);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK && ptq_bf16_init(NULL) == PTQ_OK ? 0
                                                                        : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tangents_and_derivatives_are_adjoint),
      cmocka_unit_test(bits_depend_on_the_window_alone),
#ifdef PTQ_REAL64
      cmocka_unit_test(tangents_are_the_limits_of_differences),
      cmocka_unit_test(a_block_can_have_a_loss_of_its_own),
#endif
      cmocka_unit_test(the_hook_sees_each_layer_once),
      cmocka_unit_test(tapes_and_scratch_know_their_size),
      cmocka_unit_test(products_of_bf16_have_no_derivatives),
  };
  return cmocka_run_group_tests_name("model/backward", tests, start, NULL);
}
