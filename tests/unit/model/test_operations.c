/* SPDX-License-Identifier: GPL-3.0-or-later */
/* precisions: 32 64 */
/* Every operation's value, tangent, derivative and tangent of its derivative
 * against PyTorch's in float64 (tests/golden/gradients; PTQ_OPERATIONS names
 * another directory of such files). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backspace.h"
#include "op.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/base/rng.h"
#include "ptq/model/loss.h"
#include "ptq/num/blas.h"

#ifdef PTQ_REAL64
static const double NEAR = 1e-9;
#else
static const double NEAR = 1e-4;
#endif

enum { PROBES = 4, ARRAYS = 40 };

#define MUST(call)                                \
  do {                                            \
    ptq_err e_ = {0};                             \
    if ((call) != PTQ_OK) fail_msg("%s", e_.msg); \
  } while (0)

static const char *directory(void) {
  const char *other = getenv("PTQ_OPERATIONS");
  return other != NULL ? other
                       : PTQ_SOURCE_DIR "/tests/golden/gradients/operations";
}

/* A case: what it draws and what it is compared with. */
typedef struct subject {
  const char *name;
  ptq_npy golden;
  int64_t at;   /* numbers of golden that are used up */
  int64_t salt; /* of the next input */
  void *memory[ARRAYS];
  int n_memory;
} subject;

static void begin(subject *s, const char *name) {
  char path[512];
  ptq_npy salt = {0};
  *s = (subject){.name = name};
  snprintf(path, sizeof path, "%s/salt.npy", directory());
  MUST(ptq_npy_read(path, PTQ_NPY_U32, 1, &salt, &e_));
  s->salt = 100 * (int64_t)((const uint32_t *)salt.data)[0];
  ptq_npy_release(&salt);
  snprintf(path, sizeof path, "%s/%s.npy", directory(), name);
  MUST(ptq_npy_read(path, PTQ_NPY_F64, 1, &s->golden, &e_));
}

static void end(subject *s) {
  if (s->at != s->golden.n)
    fail_msg("%s: %d numbers compared of %d", s->name, (int)s->at,
             (int)s->golden.n);
  ptq_npy_release(&s->golden);
  for (int i = 0; i < s->n_memory; i++) ptq_free(s->memory[i]);
}

static double hashed(int64_t i, int64_t salt) {
  const uint64_t at = (uint64_t)i + UINT64_C(1000003) * (uint64_t)salt;
  return (double)(at * UINT64_C(2654435761) % (UINT64_C(1) << 32)) * 0x1p-32 -
         0.5;
}

static ptq_real *empty(subject *s, int64_t n) {
  ptq_real *x = NULL;
  assert_true(s->n_memory < ARRAYS);
  MUST(ptq_alloc(&x, n, sizeof *x, "an array", &e_));
  s->memory[s->n_memory++] = x;
  return x;
}

/* The next input. */
static ptq_real *draw(subject *s, int64_t n, double scale, double shift) {
  ptq_real *x = empty(s, n);
  s->salt++;
  for (int64_t i = 0; i < n; i++)
    x[i] = (ptq_real)(hashed(i, s->salt) * 2.0 * scale + shift);
  return x;
}

/* The next result. */
static void compare(subject *s, const char *what, const ptq_real *x,
                    int64_t n) {
  double size = 0.0, got[1 + PROBES] = {0.0};
  for (int64_t i = 0; i < n; i++) {
    got[0] += (double)x[i] * (double)x[i];
    for (int k = 0; k < PROBES; k++)
      got[1 + k] += (double)x[i] * hashed(i, 1 + k);
  }
  got[0] = sqrt(got[0]);
  const double *want = (const double *)s->golden.data + s->at;
  s->at += 1 + PROBES;
  assert_true(s->at <= s->golden.n);
  size = want[0] * sqrt((double)n / 12.0 + 1.0);
  for (int k = 0; k <= PROBES; k++)
    if (!(fabs(got[k] - want[k]) <= NEAR * size))
      fail_msg("%s, %s: number %d is %.17g, not %.17g", s->name, what, k,
               got[k], want[k]);
}

static void linear_layers(void **state) {
  (void)state;
  enum { ROWS = 9, OUT = 7, IN = 11 };
  subject s;
  begin(&s, "linear");
  ptq_real *x = draw(&s, ROWS * IN, 1.0, 0.0);
  ptq_real *w = draw(&s, OUT * IN, 1.0, 0.0);
  ptq_real *xd = draw(&s, ROWS * IN, 1.0, 0.0);
  ptq_real *e = draw(&s, OUT * IN, 1.0, 0.0);
  ptq_real *dy = draw(&s, ROWS * OUT, 1.0, 0.0);
  ptq_real *dyd = draw(&s, ROWS * OUT, 1.0, 0.0);
  ptq_real *y = empty(&s, ROWS * OUT), *yd = empty(&s, ROWS * OUT);
  ptq_real *dx = empty(&s, ROWS * IN), *dxd = empty(&s, ROWS * IN);
  ptq_real *g = empty(&s, OUT * IN), *gd = empty(&s, OUT * IN);
  const ptq_linear l = {.weight = w, .out = OUT, .in = IN};
  ptq_linear_apply(&l, x, ROWS, y);
  ptq_linear_jvp(&l, e, x, xd, ROWS, yd);
  ptq_linear_vjp(&l, dy, ROWS, 0.0F, dx);
  ptq_linear_vjp_weight(&l, x, dy, ROWS, g);
  ptq_linear_tangent(&l, e, dy, dyd, ROWS, 0.0F, dxd);
  ptq_linear_tangent_weight(&l, x, xd, dy, dyd, ROWS, gd);
  compare(&s, "y", y, ROWS * OUT);
  compare(&s, "yd", yd, ROWS * OUT);
  compare(&s, "dx", dx, ROWS * IN);
  compare(&s, "g", g, OUT * IN);
  compare(&s, "dxd", dxd, ROWS * IN);
  compare(&s, "gd", gd, OUT * IN);
  end(&s);
}

static void norms(void **state) {
  (void)state;
  enum { ROWS = 6, WIDTH = 21, SIZE = ROWS * WIDTH };
  for (int kind = 0; kind < 2; kind++) {
    subject s;
    begin(&s, kind == 0 ? "norm-rms" : "norm-layer");
    const ptq_model_info info = {
        .norm = kind == 0 ? PTQ_NORM_RMS : PTQ_NORM_LAYER, .norm_eps = 1e-3};
    ptq_norm norm = {.w = draw(&s, WIDTH, 1.0, 1.0)};
    norm.b = draw(&s, WIDTH, 1.0, 0.0);
    ptq_real *x = draw(&s, SIZE, 3.0, 0.7), *xd = draw(&s, SIZE, 1.0, 0.0);
    ptq_real *dy = draw(&s, SIZE, 1.0, 0.0), *dyd = draw(&s, SIZE, 1.0, 0.0);
    ptq_real *y = empty(&s, SIZE);
    ptq_norm_rows(&info, &norm, x, ROWS, WIDTH, y);
    compare(&s, "y", y, SIZE);
    ptq_norm_jvp(&info, &norm, x, xd, ROWS, WIDTH, y);
    compare(&s, "yd", y, SIZE);
    ptq_norm_vjp(&info, &norm, x, dy, ROWS, WIDTH, y);
    compare(&s, "dx", y, SIZE);
    ptq_norm_tangent(&info, &norm, x, xd, dy, dyd, ROWS, WIDTH, dyd);
    compare(&s, "dxd", dyd, SIZE);
    end(&s);
  }
}

static void activation(const char *name, ptq_act_kind act, bool gate) {
  enum { ROWS = 5, WIDTH = 19, SIZE = ROWS * WIDTH };
  subject s;
  begin(&s, name);
  const ptq_model_info info = {.act = act, .has_gate = gate, .d_ff = WIDTH};
  ptq_inner x = {.row = WIDTH}, xd = {.row = WIDTH}, dx = {.row = WIDTH};
  if (gate) x.gate = draw(&s, SIZE, 4.0, 0.0);
  x.up = draw(&s, SIZE, 4.0, 0.0);
  if (gate) xd.gate = draw(&s, SIZE, 1.0, 0.0);
  xd.up = draw(&s, SIZE, 1.0, 0.0);
  ptq_real *dy = draw(&s, SIZE, 1.0, 0.0), *dyd = draw(&s, SIZE, 1.0, 0.0);
  ptq_real *y = empty(&s, SIZE);
  if (gate) dx.gate = empty(&s, SIZE);
  dx.up = empty(&s, SIZE);
  ptq_activate(&info, ROWS, &x, y);
  compare(&s, "y", y, SIZE);
  ptq_activate_jvp(&info, ROWS, &x, &xd, y);
  compare(&s, "yd", y, SIZE);
  ptq_activate_vjp(&info, ROWS, &x, dy, &dx);
  if (gate) compare(&s, "dgate", dx.gate, SIZE);
  compare(&s, "dup", dx.up, SIZE);
  ptq_activate_tangent(&info, ROWS, &x, &xd, dy, dyd, &dx);
  if (gate) compare(&s, "dgated", dx.gate, SIZE);
  compare(&s, "dupd", dx.up, SIZE);
  end(&s);
}

static void activations(void **state) {
  (void)state;
  activation("silu", PTQ_ACT_SILU, false);
  activation("silu-gate", PTQ_ACT_SILU, true);
  activation("relu", PTQ_ACT_RELU, false);
  activation("relu-gate", PTQ_ACT_RELU, true);
  activation("gelu", PTQ_ACT_GELU, false);
  activation("gelu-gate", PTQ_ACT_GELU, true);
  activation("gelu-tanh", PTQ_ACT_GELU_TANH, false);
  activation("gelu-tanh-gate", PTQ_ACT_GELU_TANH, true);
}

static void clips(void **state) {
  (void)state;
  /* 6 tokens of 10 numbers: a head of 2 with a key head, and room between. */
  enum { ROWS = 6, SIZE = 60 };
  subject s;
  begin(&s, "clip");
  const ptq_model_info info = {
      .n_heads = 1, .n_kv_heads = 1, .d_head = 4, .qkv_clip = 0.6};
  assert_true(ptq_qkv_size(&info, ROWS) >= SIZE);
  ptq_real *room = empty(&s, ptq_qkv_size(&info, ROWS));
  ptq_real *t = empty(&s, ptq_qkv_size(&info, ROWS));
  const size_t bytes = SIZE * sizeof *t;
  memcpy(room, draw(&s, SIZE, 1.2, 0.0), bytes);
  ptq_clip(&info, ROWS, room);
  compare(&s, "y", room, SIZE);
  memcpy(t, draw(&s, SIZE, 1.0, 0.0), bytes);
  ptq_clip_vjp(&info, ROWS, room, t);
  compare(&s, "yd", t, SIZE);
  memcpy(t, draw(&s, SIZE, 1.0, 0.0), bytes);
  ptq_clip_vjp(&info, ROWS, room, t);
  compare(&s, "dx", t, SIZE);
  memcpy(t, draw(&s, SIZE, 1.0, 0.0), bytes);
  ptq_clip_vjp(&info, ROWS, room, t);
  compare(&s, "dxd", t, SIZE);
  end(&s);
}

/* Where there is no derivative: 0 at ReLU's kink and at a clip's limits. */
static void at_kinks_the_derivative_is_zero(void **state) {
  (void)state;
  enum { SIZE = 37 }; /* longer than a vector */
  static const ptq_real at[5] = {(ptq_real)0.0, -(ptq_real)0.0, (ptq_real)1e-30,
                                 (ptq_real)-1e-30, (ptq_real)0.0};
  const ptq_model_info info = {.act = PTQ_ACT_RELU, .d_ff = SIZE};
  ptq_real up[SIZE], upd[SIZE], dy[SIZE], dup[SIZE], yd[SIZE];
  for (int i = 0; i < SIZE; i++) {
    up[i] = at[i % 5];
    upd[i] = dy[i] = (ptq_real)(i + 1);
  }
  ptq_inner x = {.row = SIZE, .up = up}, xd = {.row = SIZE, .up = upd};
  ptq_inner dx = {.row = SIZE, .up = dup};
  ptq_activate_jvp(&info, 1, &x, &xd, yd);
  ptq_activate_vjp(&info, 1, &x, dy, &dx);
  for (int i = 0; i < SIZE; i++) {
    const ptq_real want = i % 5 == 2 ? (ptq_real)(i + 1) : (ptq_real)0.0;
    assert_true(yd[i] == want && dup[i] == want);
  }
  const ptq_model_info clipped = {
      .n_heads = 1, .n_kv_heads = 1, .d_head = 4, .qkv_clip = 0.5};
  ptq_real room[64], d[64];
  assert_true(ptq_qkv_size(&clipped, 1) <= 64);
  for (int i = 0; i < 64; i++) {
    room[i] = (ptq_real)((i % 3 - 1) * 0.5);
    d[i] = (ptq_real)1.0;
  }
  ptq_clip(&clipped, 1, room);
  ptq_clip_vjp(&clipped, 1, room, d);
  for (int i = 0; i < 4; i++)
    assert_true(d[i] == (i % 3 == 1 ? (ptq_real)1.0 : (ptq_real)0.0));
}

typedef struct sizes {
  const char *name;
  int64_t heads, kv, head, tokens, rotated, window;
  double cap, alibi;
} sizes;

static const sizes shapes[] = {
    {"attention", 3, 3, 5, 70, 0, 0, 0.0, 0.0},
    {"attention-rotary", 6, 2, 8, 300, 6, 0, 0.0, 0.0},
    {"attention-window", 6, 2, 8, 300, 8, 50, 0.0, 0.0},
    {"attention-cap", 4, 1, 6, 300, 0, 0, 1.7, 0.0},
    {"attention-alibi", 3, 3, 4, 300, 0, 0, 0.0, 0.5},
    {"attention-all", 5, 1, 6, 290, 4, 100, 1.3, 0.25},
};

static void attention_info(const sizes *a, ptq_model_info *info) {
  memset(info, 0, sizeof *info);
  info->n_heads = a->heads;
  info->n_kv_heads = a->kv;
  info->d_head = a->head;
  info->attn_scale = 0.6;
  info->attn_cap = a->cap;
  info->window = a->window;
  info->block_flags[0] = a->window > 0 ? PTQ_BLOCK_WINDOW : 0;
  info->positions = PTQ_POSITIONS_LEARNED;
  if (a->alibi > 0.0) info->positions = PTQ_POSITIONS_ALIBI;
  info->alibi_scale = a->alibi;
  /* With angles beside ALiBi, which no model has, they are looked up as well.
   */
  info->rotary_width = a->rotated;
  if (a->rotated == 0) return;
  info->rope[PTQ_ROPE_MAIN].amplitude = 1.0;
  for (int64_t i = 0; i < a->rotated / 2; i++)
    info->rope[PTQ_ROPE_MAIN].frequency[i] =
        (float)pow(100.0, -2.0 * (double)i / (double)a->rotated);
}

/* q, k and v drawn one after the other, as the workspace wants them. */
static ptq_qkv draw_heads(subject *s, const ptq_model_info *info, int64_t n,
                          double scale) {
  ptq_qkv x = ptq_qkv_at(info, n, empty(s, ptq_qkv_size(info, n)));
  const int64_t q = n * x.q.row, k = n * x.k.row;
  memcpy(x.q.p, draw(s, q, scale, 0.0), (size_t)q * sizeof(ptq_real));
  memcpy(x.k.p, draw(s, k, scale, 0.0), (size_t)k * sizeof(ptq_real));
  memcpy(x.v.p, draw(s, k, scale, 0.0), (size_t)k * sizeof(ptq_real));
  return x;
}

static void compare_heads(subject *s, const ptq_qkv *x, int64_t n) {
  compare(s, "queries", x->q.p, n * x->q.row);
  compare(s, "keys", x->k.p, n * x->k.row);
  compare(s, "values", x->v.p, n * x->v.row);
}

static ptq_attended attended(subject *s, const ptq_model_info *info, int64_t n,
                             double scale) {
  const int64_t heads = n * info->n_heads;
  ptq_attended a = {.x = draw_heads(s, info, n, scale)};
  a.mix = empty(s, heads * info->d_head);
  a.soft = (ptq_soft){empty(s, heads), empty(s, heads)};
  a.dx = ptq_qkv_at(info, n, empty(s, ptq_qkv_size(info, n)));
  return a;
}

static void check_attention(const sizes *a) {
  subject s;
  ptq_model_info info;
  ptq_backspace *bs = NULL;
  const int64_t n = a->tokens;
  const int64_t size = n * a->heads * a->head;
  const ptq_branch whole = {.n = n};
  attention_info(a, &info);
  const unsigned flags = info.block_flags[0];
  begin(&s, a->name);
  MUST(ptq_backspace_create(&info, n, 1, &bs, &e_));
  if (a->rotated > 0) info.positions = PTQ_POSITIONS_ROTARY;
  const ptq_turns *turns = ptq_turns_of(&info, flags, n, bs->ws);
  ptq_attended own = attended(&s, &info, n, 1.5);
  ptq_attended along = attended(&s, &info, n, 1.0);
  own.dmix = draw(&s, size, 1.0, 0.0);
  along.dmix = draw(&s, size, 1.0, 0.0);
  ptq_rotate_keys(&info, turns, &whole, &own.x.k);
  ptq_rotate_keys(&info, turns, &whole, &along.x.k);
  MUST(ptq_attention(&info, flags, n, &own.x, bs->ws, own.mix, own.soft, &e_));
  ptq_attention_jvp(&info, flags, n, bs, &own, 1, &along);
  ptq_attention_vjp(&info, flags, n, bs, &own, 1, &along);
  compare(&s, "mix", own.mix, size);
  compare(&s, "its tangent", along.mix, size);
  compare_heads(&s, &own.dx, n);
  compare_heads(&s, &along.dx, n);
  ptq_backspace_free(bs);
  end(&s);
}

static void attentions(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
    check_attention(&shapes[i]);
}

static void check_loss(const char *name, double cap, ptq_norm_kind kind) {
  enum { ROWS = 9, WIDTH = 12, VOCAB = 2100, SIZE = ROWS * WIDTH };
  subject s;
  ptq_lossspace *ls = NULL;
  begin(&s, name);
  const ptq_model_info info = {.norm = kind,
                               .norm_eps = 1e-3,
                               .d_model = WIDTH,
                               .vocab = VOCAB,
                               .logit_cap = cap};
  ptq_head head = {.norm.w = draw(&s, WIDTH, 1.0, 1.0)};
  head.norm.b = draw(&s, WIDTH, 1.0, 0.0);
  head.weight = draw(&s, VOCAB * WIDTH, 2.0, 0.0);
  head.bias = draw(&s, VOCAB, 1.0, 0.0);
  ptq_real *h = draw(&s, SIZE, 2.0, 0.0), *hd = draw(&s, SIZE, 1.0, 0.0);
  uint32_t ids[ROWS];
  for (uint32_t i = 0; i < ROWS; i++) ids[i] = (1009 * i + 5) % VOCAB;
  const ptq_scored scored = {ids, ROWS, 3};
  ptq_loss_tangent t = {.hd = hd, .dhd = hd};
  double nll = 0.0, alone = 0.0;
  MUST(ptq_lossspace_create(&info, ROWS, 1, &ls, &e_));
  MUST(ptq_head_loss(&info, &head, &scored, h, ls, PTQ_CURVATURE_HESSIAN,
                     &alone, NULL, 0, NULL, &e_));
  MUST(ptq_head_loss(&info, &head, &scored, h, ls, PTQ_CURVATURE_HESSIAN, &nll,
                     h, 1, &t, &e_));
  assert_true(alone == nll);
  const ptq_real values[2] = {(ptq_real)nll, (ptq_real)t.nll};
  compare(&s, "nll", &values[0], 1);
  compare(&s, "its tangent", &values[1], 1);
  compare(&s, "dh", h, SIZE);
  compare(&s, "dhd", hd, SIZE);
  ptq_lossspace_free(ls);
  end(&s);
}

/* J' S J hd of the last position: sum over labels v of p_v (g_v' hd) g_v, g_v
 * the derivative of -ln p_v. */
static void check_half(double cap, ptq_norm_kind kind) {
  enum { ROWS = 3, WIDTH = 6, VOCAB = 1100, SIZE = ROWS * WIDTH };
  ptq_lossspace *ls = NULL;
  ptq_rng rng;
  ptq_real w[WIDTH], bias[WIDTH], weight[VOCAB * WIDTH], h[SIZE], hd[SIZE];
  ptq_real g[SIZE], got[SIZE];
  double expected[SIZE] = {0.0}, size = 0.0, nll = 0.0;
  ptq_rng_init(&rng, 3);
  for (int i = 0; i < WIDTH; i++) w[i] = (ptq_real)(0.5 + ptq_rng_unit(&rng));
  for (int i = 0; i < WIDTH; i++) bias[i] = (ptq_real)ptq_rng_unit(&rng);
  for (int i = 0; i < VOCAB * WIDTH; i++)
    weight[i] = (ptq_real)(3.0 * ptq_rng_unit(&rng) - 1.5);
  for (int i = 0; i < SIZE; i++) h[i] = (ptq_real)ptq_rng_unit(&rng);
  for (int i = 0; i < SIZE; i++) hd[i] = (ptq_real)(ptq_rng_unit(&rng) - 0.5);
  const ptq_model_info info = {.norm = kind,
                               .norm_eps = 1e-3,
                               .d_model = WIDTH,
                               .vocab = VOCAB,
                               .logit_cap = cap};
  const ptq_head head = {.norm = {.w = w, .b = bias}, .weight = weight};
  MUST(ptq_lossspace_create(&info, ROWS, 1, &ls, &e_));
  for (uint32_t v = 0; v < VOCAB; v++) {
    const uint32_t ids[ROWS] = {0, 0, v};
    const ptq_scored last = {ids, ROWS, ROWS - 1};
    MUST(ptq_head_loss(&info, &head, &last, h, ls, PTQ_CURVATURE_HESSIAN, &nll,
                       g, 0, NULL, &e_));
    double along = 0.0;
    for (int i = 0; i < SIZE; i++) along += (double)g[i] * (double)hd[i];
    for (int i = 0; i < SIZE; i++)
      expected[i] += exp(-nll) * along * (double)g[i];
  }
  const uint32_t ids[ROWS] = {0};
  const ptq_scored last = {ids, ROWS, ROWS - 1};
  ptq_loss_tangent t = {.hd = hd, .dhd = got};
  MUST(ptq_head_loss(&info, &head, &last, h, ls, PTQ_CURVATURE_GAUSS_NEWTON,
                     &nll, g, 1, &t, &e_));
  for (int i = 0; i < SIZE; i++) size += expected[i] * expected[i];
  assert_true(size > 0.0);
  for (int i = 0; i < SIZE; i++)
    assert_true(fabs((double)got[i] - expected[i]) <=
                (sizeof(ptq_real) == 8 ? 1e-12 : 1e-5) * sqrt(size));
  ptq_lossspace_free(ls);
}

static void losses(void **state) {
  (void)state;
  check_loss("loss", 0.0, PTQ_NORM_LAYER);
  check_loss("loss-cap", 2.5, PTQ_NORM_RMS);
  check_half(0.0, PTQ_NORM_LAYER);
  check_half(2.5, PTQ_NORM_RMS);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linear_layers),
      cmocka_unit_test(norms),
      cmocka_unit_test(activations),
      cmocka_unit_test(clips),
      cmocka_unit_test(at_kinks_the_derivative_is_zero),
      cmocka_unit_test(attentions),
      cmocka_unit_test(losses),
  };
  return cmocka_run_group_tests_name("model/operations", tests, start, NULL);
}
