/* SPDX-License-Identifier: GPL-3.0-or-later */
/* precisions: 32 64 */
/* Gradients and Hessian-vector products of every architecture against
 * PyTorch's in float64 (tests/golden/gradients), and what must not change
 * them. */
#include "grad_fixture.h"

#include "ptq/base/npy.h"
#include "unit/model/architectures.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/gradients/"

enum { PROBES = 4 };

#ifdef PTQ_REAL64
static const double NEAR = 1e-9;
#else
static const double NEAR = 1e-4;
#endif

static double hashed(int64_t i, int64_t salt) {
  const uint64_t at = (uint64_t)i + UINT64_C(1000003) * (uint64_t)salt;
  return (double)(at * UINT64_C(2654435761) % (UINT64_C(1) << 32)) * 0x1p-32 -
         0.5;
}

/* Norm and products with hashed vectors. */
static void compare_part(const char *name, const char *what, const double *x,
                         int64_t n, const double *want) {
  double got[1 + PROBES] = {0.0};
  for (int64_t i = 0; i < n; i++) {
    got[0] += x[i] * x[i];
    for (int k = 0; k < PROBES; k++) got[1 + k] += x[i] * hashed(i, 1 + k);
  }
  got[0] = sqrt(got[0]);
  for (int k = 0; k <= PROBES; k++)
    if (!(fabs(got[k] - want[k]) <= NEAR * want[0] * sqrt((double)n / 12.0)))
      fail_msg("%s, %s: number %d is %.17g, not %.17g", name, what, k, got[k],
               want[k]);
}

static void expect_near(const char *name, const char *what, double got,
                        double want, double size) {
  if (!(fabs(got - want) <= NEAR * size))
    fail_msg("%s: %s is %.17g, not %.17g", name, what, got, want);
}

static void read_npy(const char *path, ptq_npy_type type, ptq_npy *out) {
  FX_MUST(ptq_npy_read(path, type, 1, out, &e_));
}

static void check_golden(const char *name, ptq_model *m) {
  char path[ARCH_PATH];
  ptq_npy ids, golden;
  ptq_grad *g = NULL;
  const ptq_model_info *info = ptq_model_get_info(m);
  snprintf(path, sizeof path, ARCHITECTURES "%s/ids.npy", name);
  read_npy(path, PTQ_NPY_U32, &ids);
  snprintf(path, sizeof path, GOLDEN "%s.npy", name);
  if (!ptq_path_exists(path))
    fail_msg("no golden gradient of '%s': run make_gradients.py", name);
  read_npy(path, PTQ_NPY_F64, &golden);
  const ptq_grad_setup setup = {.model = m,
                                .ids = ids.data,
                                .n_windows = 1,
                                .length = ids.n,
                                .max_tangents = 1};
  FX_MUST(ptq_grad_create(&setup, &g, &e_));
  const int64_t n = ptq_flat_size(info);
  double *gradient = gf_doubles(n), *e = gf_doubles(n), *he = gf_doubles(n);
  double nll = 0.0, slope = 0.0;
  for (int64_t i = 0; i < n; i++) e[i] = hashed(i, 0);
  const ptq_operator h = ptq_hessian_operator(g);
  FX_MUST(ptq_flat_gradient(g, &nll, gradient, &e_));
  FX_MUST(ptq_flat_slopes(g, 1, (const double *const *)&e, &slope, &e_));
  FX_MUST(h.apply(h.ctx, 1, (const double *const *)&e, &he, &e_));
  const double *want = golden.data;
  const double long_e = sqrt(gf_dot(e, e, n));
  expect_near(name, "the NLL", nll, want[0], want[0]);
  expect_near(name, "the slope", slope, want[1],
              long_e * sqrt(gf_dot(gradient, gradient, n)));
  expect_near(name, "the curvature", gf_dot(e, he, n), want[2],
              long_e * sqrt(gf_dot(he, he, n)));
  int64_t at = 3;
  for (int64_t l = 0; l < ptq_flat_layers(info); l++) {
    const int64_t block = l / ptq_layer_count(info);
    const int layer = (int)(l % ptq_layer_count(info));
    const int64_t from = ptq_flat_at(info, block, layer);
    const int64_t size = ptq_flat_at(info, block, layer + 1) - from;
    if (size == 0) continue;
    compare_part(name, "gradient", gradient + from, size, want + at);
    compare_part(name, "product", he + from, size, want + at + 1 + PROBES);
    at += 2 * (1 + PROBES);
  }
  assert_int_equal(at, golden.n);
  ptq_free(gradient);
  ptq_free(e);
  ptq_free(he);
  ptq_grad_free(g);
  ptq_npy_release(&ids);
  ptq_npy_release(&golden);
}

static void every_architecture_has_the_derivatives_of_pytorch(void **state) {
  (void)state;
  assert_true(each_architecture(check_golden) >= 30);
}

/* A text of 6 windows of 19 tokens: a chunk and a half. */
enum { WINDOWS = 6, LENGTH = 19, TANGENTS = 3 };

typedef struct text {
  fx_model files;
  ptq_model *m;
  uint32_t *ids;
  int64_t n;
} text;

static void begin(text *t) {
  gf_small(&t->files);
  fx_write(&t->files);
  FX_MUST(ptq_model_open(t->files.dir, &t->m, &e_));
  t->ids = gf_ids(WINDOWS * LENGTH, 20);
  t->n = ptq_flat_size(ptq_model_get_info(t->m));
  assert_int_equal(t->n, 2016);
}

static void end(text *t) {
  ptq_free(t->ids);
  ptq_model_close(t->m);
  fx_end(&t->files);
}

static ptq_grad *open_threads(const text *t, int64_t windows, int64_t budget,
                              int threads) {
  ptq_grad *g = NULL;
  const ptq_grad_setup setup = {.model = t->m,
                                .ids = t->ids,
                                .n_windows = windows,
                                .length = LENGTH,
                                .max_tangents = TANGENTS,
                                .threads = threads,
                                .budget_bytes = budget};
  FX_MUST(ptq_grad_create(&setup, &g, &e_));
  return g;
}

static ptq_grad *open(const text *t, int64_t windows, int64_t budget) {
  return open_threads(t, windows, budget, 1);
}

/* Everything a sink is given, one after the other. */
typedef struct record {
  double *all; /* owned */
  int64_t at, room, windows;
} record;

static void note(record *r, const ptq_real *x, int64_t n) {
  assert_true(r->at + n <= r->room);
  for (int64_t i = 0; i < n; i++) r->all[r->at++] = (double)x[i];
}

static ptq_status take(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  (void)err;
  if (l->g != NULL) note(ctx, l->g, l->out * l->in);
  for (int64_t j = 0; j < l->k && l->he != NULL; j++)
    note(ctx, l->he[j], l->out * l->in);
  return PTQ_OK;
}

static ptq_status see(void *ctx, const ptq_grad_window *w, ptq_err *err) {
  record *r = ctx;
  (void)err;
  assert_true(w->window >= 0 && w->window < WINDOWS && w->n == LENGTH);
  assert_true(w->block == 0 || w->block == 1);
  r->windows++;
  return PTQ_OK;
}

/* Chunks c0..c1 with k directions of number `first` on. */
static record run(ptq_grad *g, int64_t c0, int64_t c1, int64_t first, int64_t k,
                  double *nll, double *nlld) {
  ptq_random_directions random;
  record r = {.room = 2 * 2016 * (1 + TANGENTS)};
  r.all = gf_doubles(r.room);
  const ptq_grad_sink sink = {.ctx = &r,
                              .gradient = true,
                              .products = true,
                              .layer = take,
                              .window = see};
  FX_MUST(ptq_random_directions_init(ptq_grad_info(g), 3, PTQ_PROBE_GAUSSIAN,
                                     &random, &e_));
  const ptq_directions d = ptq_random_directions_at(&random, first, k);
  FX_MUST(ptq_grad_run(g, c0, c1, &d, &sink, nll, nlld, &e_));
  ptq_random_directions_release(&random);
  return r;
}

static void expect_same(const record *a, const record *b) {
  assert_int_equal(a->at, b->at);
  assert_memory_equal(a->all, b->all, (size_t)a->at * sizeof *a->all);
}

static void budgets_and_shares_of_chunks_change_no_bit(void **state) {
  (void)state;
  text t;
  begin(&t);
  double nll[2], nlld[2 * TANGENTS], nll1[2], nlld1[2 * TANGENTS];
  int64_t kept[PTQ_KEEP_COUNT], seen[PTQ_KEEP_COUNT] = {0};
  ptq_grad *g = open(&t, WINDOWS, 0);
  assert_int_equal(ptq_grad_chunks(g), 2);
  assert_int_equal(ptq_grad_tokens(g), WINDOWS * (LENGTH - 1));
  assert_int_equal(ptq_grad_chunk_tokens(g, 1), 2 * (LENGTH - 1));
  record whole = run(g, 0, 2, 0, TANGENTS, nll, nlld);
  assert_int_equal(whole.windows, WINDOWS * 14);
  ptq_grad_free(g);
  for (int64_t budget = 1 << 16; budget <= 1 << 22; budget += budget / 4) {
    g = open(&t, WINDOWS, budget);
    ptq_grad_kept(g, kept);
    for (int i = 0; i < PTQ_KEEP_COUNT; i++) seen[i] += kept[i];
    record again = run(g, 0, 2, 0, TANGENTS, nll1, nlld1);
    expect_same(&whole, &again);
    assert_memory_equal(nll, nll1, sizeof nll);
    assert_memory_equal(nlld, nlld1, sizeof nlld);
    ptq_free(again.all);
    /* The second chunk alone. */
    again = run(g, 1, 2, 0, TANGENTS, nll1, nlld1);
    assert_int_equal(2 * again.at, whole.at);
    assert_memory_equal(again.all, whole.all + again.at,
                        (size_t)again.at * sizeof *again.all);
    assert_true(nll1[0] == nll[1]);
    ptq_free(again.all);
    ptq_grad_free(g);
  }
  for (int i = 0; i < PTQ_KEEP_COUNT; i++) assert_true(seen[i] > 0);
  ptq_free(whole.all);
  end(&t);
}

/* What a sink is given without watching windows, which threads share out. */
static record run_shared(ptq_grad *g, double *nll, double *nlld) {
  ptq_random_directions random;
  record r = {.room = 2 * 2016 * (1 + TANGENTS)};
  r.all = gf_doubles(r.room);
  const ptq_grad_sink sink = {
      .ctx = &r, .gradient = true, .products = true, .layer = take};
  FX_MUST(ptq_random_directions_init(ptq_grad_info(g), 3, PTQ_PROBE_GAUSSIAN,
                                     &random, &e_));
  const ptq_directions d = ptq_random_directions_at(&random, 0, TANGENTS);
  FX_MUST(ptq_grad_run(g, 0, 2, &d, &sink, nll, nlld, &e_));
  ptq_random_directions_release(&random);
  return r;
}

static void threads_change_no_bit(void **state) {
  (void)state;
  text t;
  begin(&t);
  double nll[2], nlld[2 * TANGENTS], nll1[2], nlld1[2 * TANGENTS];
  ptq_grad *g = open(&t, WINDOWS, 1 << 18);
  record whole = run_shared(g, nll, nlld);
  ptq_grad_free(g);
  for (int threads = 2; threads <= 7; threads++)
    for (int again = 0; again < 20; again++) {
      g = open_threads(&t, WINDOWS, 1 << 18, threads);
      record r = run_shared(g, nll1, nlld1);
      expect_same(&whole, &r);
      assert_memory_equal(nll, nll1, sizeof nll);
      assert_memory_equal(nlld, nlld1, sizeof nlld);
      ptq_free(r.all);
      /* A sink that watches windows sees them one by one. */
      r = run(g, 0, 2, 0, TANGENTS, nll1, nlld1);
      expect_same(&whole, &r);
      assert_int_equal(r.windows, WINDOWS * 14);
      ptq_free(r.all);
      ptq_grad_free(g);
    }
  ptq_free(whole.all);
  end(&t);
}

static void directions_do_not_see_each_other(void **state) {
  (void)state;
  text t;
  begin(&t);
  double nll, nlld[TANGENTS];
  ptq_grad *g = open(&t, 2, 1 << 22);
  record all = run(g, 0, 1, 0, TANGENTS, &nll, nlld);
  for (int64_t j = 0; j < TANGENTS; j++) {
    double nll1, nlld1;
    record one = run(g, 0, 1, j, 1, &nll1, &nlld1);
    assert_true(nll1 == nll && nlld1 == nlld[j]);
    /* One layer: g, then each product. */
    int64_t from = 0, mine = 0;
    for (int64_t l = 2 * PTQ_ROLE_COUNT - 1; l >= 0; l--) {
      /* Blocks from the last, layers from the first. */
      const int layer = PTQ_ROLE_COUNT - 1 - (int)(l % PTQ_ROLE_COUNT);
      const ptq_model_info *info = ptq_grad_info(g);
      const int64_t size =
          ptq_flat_at(info, 0, layer + 1) - ptq_flat_at(info, 0, layer);
      const size_t bytes = (size_t)size * sizeof *one.all;
      assert_memory_equal(one.all + mine, all.all + from, bytes);
      assert_memory_equal(one.all + mine + size,
                          all.all + from + (1 + j) * size, bytes);
      mine += 2 * size;
      from += (1 + TANGENTS) * size;
    }
    assert_int_equal(mine, one.at);
    ptq_free(one.all);
  }
  ptq_free(all.all);
  ptq_grad_free(g);
  end(&t);
}

static void derivatives_by_both_ways_agree(void **state) {
  (void)state;
  text t;
  begin(&t);
  ptq_grad *g = open(&t, WINDOWS, 0);
  ptq_random_directions random;
  ptq_forms f;
  double nll = 0.0, *gradient = gf_doubles(t.n);
  const int64_t k = TANGENTS;
  FX_MUST(ptq_random_directions_init(ptq_grad_info(g), 3, PTQ_PROBE_SIGNS,
                                     &random, &e_));
  const ptq_directions d = ptq_random_directions_at(&random, 0, k);
  FX_MUST(ptq_forms_run(g, &d, 0, &f, &e_));
  assert_null(f.ghe);
  FX_MUST(ptq_flat_gradient(g, &nll, gradient, &e_));
  assert_true(f.nll == nll && f.layers == 2 * PTQ_ROLE_COUNT && f.k == k);
  const double size = sqrt(gf_dot(gradient, gradient, t.n) * (double)t.n);
  for (int64_t j = 0; j < k; j++) {
    double ge = 0.0, ee = 0.0;
    for (int64_t l = 0; l < f.layers; l++) {
      ge += f.ge[l * k + j];
      ee += f.ee[l * k + j];
    }
    expect_near("forms", "the slope by the backward pass", ge, f.nlld[j], size);
    assert_true(ee == (double)t.n); /* signs */
  }
  for (int64_t i = 0; i < k; i++)
    for (int64_t j = 0; j < i; j++) {
      double ij = 0.0, ji = 0.0, norm = 0.0;
      for (int64_t l = 0; l < f.layers; l++) {
        ij += f.ehe[(l * k + i) * k + j];
        ji += f.ehe[(l * k + j) * k + i];
        norm += fabs(f.ehe[(l * k + i) * k + i]);
      }
      expect_near("forms", "e_i' H e_j", ij, ji, norm);
    }
  ptq_forms_release(&f);
  ptq_random_directions_release(&random);
  ptq_free(gradient);
  ptq_grad_free(g);
  end(&t);
}

/* H (2 x - 3 y) = 2 H x - 3 H y. */
static void products_are_linear(void **state) {
  (void)state;
  text t;
  begin(&t);
  ptq_grad *g = open(&t, 2, 1 << 22);
  double *x[3], *y[3];
  for (int i = 0; i < 3; i++) {
    x[i] = gf_doubles(t.n);
    y[i] = gf_doubles(t.n);
    ptq_probe_fill(ptq_probe_seed(9, i, 0), PTQ_PROBE_GAUSSIAN, t.n, x[i]);
  }
  for (int64_t i = 0; i < t.n; i++) x[2][i] = 2.0 * x[0][i] - 3.0 * x[1][i];
  const ptq_operator h = ptq_hessian_operator(g);
  FX_MUST(h.apply(h.ctx, 3, (const double *const *)x, y, &e_));
  const double size = sqrt(gf_dot(y[2], y[2], t.n));
  for (int64_t i = 0; i < t.n; i++)
    expect_near("products", "one of a sum", y[2][i],
                2.0 * y[0][i] - 3.0 * y[1][i], size);
  for (int i = 0; i < 3; i++) {
    ptq_free(x[i]);
    ptq_free(y[i]);
  }
  ptq_grad_free(g);
  end(&t);
}

/* The gradient is of the weights that are given. */
static void weights_of_the_caller_count(void **state) {
  (void)state;
  text t;
  begin(&t);
  ptq_grad *g = open(&t, 2, 0);
  double *own = gf_doubles(t.n), *other = gf_doubles(t.n), nll, nll1;
  ptq_block blocks[2];
  FX_MUST(ptq_flat_gradient(g, &nll, own, &e_));
  ptq_grad_free(g);
  for (int i = 0; i < 2; i++)
    FX_MUST(ptq_model_load_block(t.m, i, &blocks[i], &e_));
  const ptq_grad_setup setup = {.model = t.m,
                                .blocks = blocks,
                                .ids = t.ids,
                                .n_windows = 2,
                                .length = LENGTH};
  FX_MUST(ptq_grad_create(&setup, &g, &e_));
  FX_MUST(ptq_flat_gradient(g, &nll1, other, &e_));
  assert_true(nll1 == nll);
  assert_memory_equal(own, other, (size_t)t.n * sizeof *own);
  for (int64_t i = 0; i < 144; i++) blocks[1].linear[PTQ_ROLE_O].weight[i] = 0;
  FX_MUST(ptq_flat_gradient(g, &nll1, other, &e_));
  assert_true(nll1 != nll);
  for (int i = 0; i < 2; i++) ptq_block_release(&blocks[i]);
  ptq_free(own);
  ptq_free(other);
  ptq_grad_free(g);
  end(&t);
}

static void refuse(const text *t, ptq_grad_setup setup, const char *words) {
  ptq_grad *g = NULL;
  ptq_err err = {0};
  setup.model = t->m;
  if (setup.ids == NULL) setup.ids = t->ids;
  assert_int_equal(ptq_grad_create(&setup, &g, &err), PTQ_E_ARG);
  if (strstr(err.msg, words) == NULL) fail_msg("'%s'", err.msg);
  assert_null(g);
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  text t;
  begin(&t);
  refuse(&t, (ptq_grad_setup){.n_windows = 0, .length = 9}, "one window");
  refuse(&t, (ptq_grad_setup){.n_windows = 1, .length = 1}, "2 to 64 fit");
  refuse(&t, (ptq_grad_setup){.n_windows = 1, .length = 65}, "2 to 64 fit");
  refuse(&t, (ptq_grad_setup){.n_windows = 1, .length = 9, .first = 9},
         "scored from token 9");
  uint32_t ids[18];
  for (int i = 0; i < 18; i++) ids[i] = 3;
  ids[13] = 20;
  refuse(&t, (ptq_grad_setup){.ids = ids, .n_windows = 2, .length = 9},
         "token 4 of window 1 is 20");
  end(&t);
}

/* Scoring from token 5 on is leaving the others out. */
static void only_scored_tokens_count(void **state) {
  (void)state;
  text t;
  begin(&t);
  ptq_grad *g = NULL;
  ptq_grad_setup setup = {
      .model = t.m, .ids = t.ids, .n_windows = 1, .length = LENGTH};
  double part[3], *x[3];
  static const int64_t first[3] = {0, 5, 0}, length[3] = {LENGTH, LENGTH, 5};
  for (int i = 0; i < 3; i++) {
    double tokens;
    x[i] = gf_doubles(t.n);
    setup.first = first[i];
    setup.length = length[i];
    FX_MUST(ptq_grad_create(&setup, &g, &e_));
    tokens = (double)ptq_grad_tokens(g);
    FX_MUST(ptq_flat_gradient(g, &part[i], x[i], &e_));
    part[i] *= tokens;
    for (int64_t k = 0; k < t.n; k++) x[i][k] *= tokens;
    ptq_grad_free(g);
  }
  expect_near("scoring", "NLL", part[1] + part[2], part[0], part[0]);
  const double size = sqrt(gf_dot(x[0], x[0], t.n));
  for (int64_t k = 0; k < t.n; k++)
    expect_near("scoring", "gradient", x[1][k] + x[2][k], x[0][k], size);
  for (int i = 0; i < 3; i++) ptq_free(x[i]);
  end(&t);
}

/* Other tokens to predict: the loss is theirs, the way to it the window's. */
static void labels_take_the_place_of_tokens(void **state) {
  (void)state;
  text t;
  begin(&t);
  ptq_grad *g = NULL;
  uint32_t labels[LENGTH];
  double nll[2], *x = gf_doubles(t.n);
  for (int i = 0; i < LENGTH; i++) labels[i] = (t.ids[i] + 7) % 20;
  ptq_grad_setup setup = {
      .model = t.m, .ids = t.ids, .n_windows = 1, .length = LENGTH};
  for (int i = 0; i < 2; i++) {
    setup.labels = i == 0 ? t.ids : labels;
    FX_MUST(ptq_grad_create(&setup, &g, &e_));
    FX_MUST(ptq_flat_gradient(g, &nll[i], x, &e_));
    ptq_grad_free(g);
  }
  setup.labels = NULL;
  FX_MUST(ptq_grad_create(&setup, &g, &e_));
  double plain = 0.0;
  FX_MUST(ptq_flat_gradient(g, &plain, x, &e_));
  assert_true(plain == nll[0] && plain != nll[1]);
  ptq_grad_free(g);
  ptq_free(x);
  end(&t);
}

static ptq_status stop_here(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  (void)ctx;
  return PTQ_FAIL(err, PTQ_E_IO, "no room for block %lld", (long long)l->block);
}

static void a_failing_sink_ends_the_run(void **state) {
  (void)state;
  text t;
  begin(&t);
  ptq_grad *g = open(&t, 2, 0);
  double nll = 0.0;
  ptq_err err = {0};
  const ptq_grad_sink sink = {.gradient = true, .layer = stop_here};
  assert_int_equal(ptq_grad_run(g, 0, 1, NULL, &sink, &nll, NULL, &err),
                   PTQ_E_IO);
  assert_string_equal(err.msg, "no room for block 1");
  ptq_grad_free(g);
  end(&t);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_architecture_has_the_derivatives_of_pytorch),
      cmocka_unit_test(budgets_and_shares_of_chunks_change_no_bit),
      cmocka_unit_test(threads_change_no_bit),
      cmocka_unit_test(directions_do_not_see_each_other),
      cmocka_unit_test(derivatives_by_both_ways_agree),
      cmocka_unit_test(products_are_linear),
      cmocka_unit_test(weights_of_the_caller_count),
      cmocka_unit_test(what_cannot_be_is_refused),
      cmocka_unit_test(only_scored_tokens_count),
      cmocka_unit_test(labels_take_the_place_of_tokens),
      cmocka_unit_test(a_failing_sink_ends_the_run),
  };
  return cmocka_run_group_tests_name("grad/gradient", tests, start, NULL);
}
