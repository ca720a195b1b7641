/* SPDX-License-Identifier: GPL-3.0-or-later */
/* precisions: 64 */
/* The whole Hessian of a model of 2,016 parameters, built column by column,
 * and what the tools for larger ones say of it. */
#include "grad_fixture.h"

#include "ptq/num/lanczos.h"

enum { N = 2016, WINDOWS = 3, LENGTH = 24, AT_ONCE = 8, LAYERS = 18 };
enum { VOCAB = 20, ALL = PTQ_FORMS_GRADIENT | PTQ_FORMS_FISHER };

typedef struct subject {
  fx_model files;
  ptq_model *m;
  uint32_t *ids;
  ptq_grad *g;
  double *h;      /* [N, N] */
  double *values; /* [N] eigenvalues, descending */
} subject;

static subject s;

/* H by its products with unit vectors. */
static int start(void **state) {
  (void)state;
  FX_MUST(ptq_blas_init(&e_));
  gf_small(&s.files);
  fx_write(&s.files);
  FX_MUST(ptq_model_open(s.files.dir, &s.m, &e_));
  s.ids = gf_ids(WINDOWS * LENGTH, 20);
  const ptq_grad_setup setup = {.model = s.m,
                                .ids = s.ids,
                                .n_windows = WINDOWS,
                                .length = LENGTH,
                                .max_tangents = AT_ONCE,
                                .budget_bytes = 1 << 28};
  FX_MUST(ptq_grad_create(&setup, &s.g, &e_));
  assert_int_equal(ptq_flat_size(ptq_model_get_info(s.m)), N);
  s.h = gf_doubles((int64_t)N * N);
  s.values = gf_doubles(N);
  double *unit = gf_doubles((int64_t)AT_ONCE * N);
  const ptq_operator h = ptq_hessian_operator(s.g);
  assert_int_equal(h.width, AT_ONCE);
  for (int64_t i = 0; i < N; i += AT_ONCE) {
    const double *x[AT_ONCE];
    double *y[AT_ONCE];
    for (int64_t j = 0; j < AT_ONCE; j++) {
      x[j] = unit + j * N;
      y[j] = s.h + (i + j) * N;
      unit[j * N + i + j] = 1.0;
    }
    FX_MUST(h.apply(h.ctx, AT_ONCE, x, y, &e_));
    for (int64_t j = 0; j < AT_ONCE; j++) unit[j * N + i + j] = 0.0;
  }
  double *copy = gf_doubles((int64_t)N * N);
  memcpy(copy, s.h, (size_t)N * N * sizeof *copy);
  FX_MUST(ptq_eigenvalues(copy, N, s.values, &e_));
  ptq_free(copy);
  ptq_free(unit);
  return 0;
}

static int end(void **state) {
  (void)state;
  ptq_grad_free(s.g);
  ptq_free(s.h);
  ptq_free(s.values);
  ptq_free(s.ids);
  ptq_model_close(s.m);
  fx_end(&s.files);
  return 0;
}

static void it_is_symmetric_and_indefinite(void **state) {
  (void)state;
  double worst = 0.0;
  for (int64_t i = 0; i < N; i++)
    for (int64_t j = 0; j < i; j++)
      worst = fmax(worst, fabs(s.h[i * N + j] - s.h[j * N + i]));
  assert_true(worst <= 1e-14 * s.values[0] * 100.0);
  assert_true(s.values[0] > 0.0 && s.values[N - 1] < 0.0);
}

static void lanczos_finds_its_ends(void **state) {
  (void)state;
  const ptq_operator h = ptq_hessian_operator(s.g);
  const ptq_lanczos_setup setup = {.n = N, .max_steps = 120};
  ptq_ritz r;
  FX_MUST(ptq_lanczos_run(&h, &setup, 1, 5, 2, 1e-9, &r, &e_));
  assert_true(r.steps < 120);
  for (int i = 0; i < 5; i++)
    assert_true(fabs(r.value[i] - s.values[i]) <= 1e-8 * s.values[0]);
  for (int i = 1; i <= 2; i++)
    assert_true(fabs(r.value[r.steps - i] - s.values[N - i]) <=
                1e-8 * s.values[0]);
  ptq_ritz_release(&r);
}

/* A vector as a direction. */
static ptq_status load_vector(void *ctx, int64_t block, int64_t j,
                              ptq_real *const *e, ptq_err *err) {
  const ptq_model_info *info = ptq_model_get_info(s.m);
  const double *x = (const double *)ctx + j * N;
  (void)err;
  for (int l = 0; l < ptq_layer_count(info); l++) {
    const int64_t from = ptq_flat_at(info, block, l);
    for (int64_t i = from; e[l] != NULL && i < ptq_flat_at(info, block, l + 1);
         i++)
      e[l][i - from] = (ptq_real)x[i];
  }
  return PTQ_OK;
}

/* e' H e and g' H e by layer, of two directions at once. */
static void forms_are_those_of_the_matrix(void **state) {
  (void)state;
  const ptq_model_info *info = ptq_model_get_info(s.m);
  double *e = gf_doubles(2 * (int64_t)N), *g = gf_doubles(N), nll = 0.0;
  ptq_rng rng;
  ptq_forms f;
  ptq_rng_init(&rng, 5);
  for (int64_t i = 0; i < 2 * N; i++) e[i] = ptq_rng_unit(&rng) - 0.5;
  FX_MUST(ptq_flat_gradient(s.g, &nll, g, &e_));
  const ptq_directions d = {.k = 2, .ctx = e, .load = load_vector};
  FX_MUST(ptq_forms_run(s.g, &d, ALL, &f, &e_));
  assert_true(f.nll == nll);
  for (int64_t l = 0; l < LAYERS; l++)
    for (int64_t j = 0; j < 2; j++) {
      double ghe = 0.0, ehe = 0.0, size = 0.0;
      for (int64_t i =
               ptq_flat_at(info, l / PTQ_ROLE_COUNT, (int)(l % PTQ_ROLE_COUNT));
           i <
           ptq_flat_at(info, l / PTQ_ROLE_COUNT, (int)(l % PTQ_ROLE_COUNT) + 1);
           i++) {
        const double he = gf_dot(s.h + i * N, e + j * N, N);
        ghe += g[i] * he;
        ehe += e[j * N + i] * he;
        size += fabs(g[i] * he);
      }
      assert_true(fabs(f.ghe[l * 2 + j] - ghe) <= 1e-10 * size);
      assert_true(fabs(f.ehe[(l * 2 + j) * 2 + j] - ehe) <=
                  1e-10 * s.values[0] * N);
    }
  ptq_forms_release(&f);
  ptq_free(e);
  ptq_free(g);
}

/* e' diag(F) e by layer, from gradients of the windows one by one. */
static void the_fishers_diagonal_is_of_windows(void **state) {
  (void)state;
  const ptq_model_info *info = ptq_model_get_info(s.m);
  double *e = gf_doubles(2 * (int64_t)N), *g = gf_doubles(N), nll = 0.0;
  double expected[LAYERS * 2] = {0};
  ptq_rng rng;
  ptq_forms f;
  ptq_rng_init(&rng, 6);
  for (int64_t i = 0; i < 2 * N; i++) e[i] = ptq_rng_unit(&rng) - 0.5;
  for (int64_t w = 0; w < WINDOWS; w++) {
    const ptq_grad_setup setup = {.model = s.m,
                                  .ids = s.ids + w * LENGTH,
                                  .n_windows = 1,
                                  .length = LENGTH};
    ptq_grad *one = NULL;
    FX_MUST(ptq_grad_create(&setup, &one, &e_));
    FX_MUST(ptq_flat_gradient(one, &nll, g, &e_));
    ptq_grad_free(one);
    for (int64_t l = 0; l < LAYERS; l++) {
      const int64_t b = l / PTQ_ROLE_COUNT;
      const int r = (int)(l % PTQ_ROLE_COUNT);
      for (int64_t i = ptq_flat_at(info, b, r); i < ptq_flat_at(info, b, r + 1);
           i++)
        for (int64_t j = 0; j < 2; j++) {
          const double of_window = (LENGTH - 1) * g[i] * e[j * N + i];
          expected[l * 2 + j] +=
              of_window * of_window / (WINDOWS * (LENGTH - 1));
        }
    }
  }
  const ptq_directions d = {.k = 2, .ctx = e, .load = load_vector};
  FX_MUST(ptq_forms_run(s.g, &d, ALL, &f, &e_));
  for (int64_t i = 0; i < LAYERS * 2; i++)
    assert_true(fabs(f.efe[i] - expected[i]) <= 1e-12 * expected[i]);
  ptq_forms_release(&f);
  FX_MUST(ptq_forms_run(s.g, &d, 0, &f, &e_));
  assert_null(f.efe);
  ptq_forms_release(&f);
  ptq_free(e);
  ptq_free(g);
}

/* Of the token at `at` of window w, predicted as `label`: its NLL and gradient.
 */
static double token_gradient(int64_t w, int64_t at, uint32_t label, double *g) {
  ptq_grad *one = NULL;
  double nll = 0.0;
  uint32_t labels[LENGTH] = {0};
  labels[at] = label;
  const ptq_grad_setup setup = {.model = s.m,
                                .ids = s.ids + w * LENGTH,
                                .labels = labels,
                                .n_windows = 1,
                                .length = at + 1,
                                .first = at};
  FX_MUST(ptq_grad_create(&setup, &one, &e_));
  FX_MUST(ptq_flat_gradient(one, &nll, g, &e_));
  ptq_grad_free(one);
  return nll;
}

/* G e = sum over tokens and labels v of p_v (g_v' e) g_v: the Fisher matrix of
 * labels drawn from the model. */
static void gauss_newton_is_the_fisher_of_the_models_own_tokens(void **state) {
  (void)state;
  enum { K = 2 };
  double *e = gf_doubles(K * (int64_t)N), *y = gf_doubles(K * (int64_t)N);
  double *expected = gf_doubles(K * (int64_t)N), *g = gf_doubles(N);
  ptq_rng rng;
  ptq_rng_init(&rng, 9);
  for (int64_t i = 0; i < K * N; i++) e[i] = ptq_rng_unit(&rng) - 0.5;
  for (int64_t w = 0; w < WINDOWS; w++)
    for (int64_t at = 1; at < LENGTH; at++)
      for (uint32_t v = 0; v < VOCAB; v++) {
        const double p = exp(-token_gradient(w, at, v, g));
        for (int64_t j = 0; j < K; j++) {
          const double along = p * gf_dot(g, e + j * N, N);
          for (int64_t i = 0; i < N; i++)
            expected[j * N + i] += along * g[i] / (WINDOWS * (LENGTH - 1));
        }
      }
  const ptq_operator a = ptq_gauss_newton_operator(s.g);
  const double *const x[K] = {e, e + N};
  double *const to[K] = {y, y + N};
  FX_MUST(a.apply(a.ctx, K, x, to, &e_));
  for (int64_t j = 0; j < K; j++) {
    const double size = sqrt(gf_dot(expected + j * N, expected + j * N, N));
    for (int64_t i = 0; i < N; i++)
      assert_true(fabs(to[j][i] - expected[j * N + i]) <= 1e-12 * size);
  }
  /* and by layer, each with itself */
  ptq_forms f;
  const ptq_model_info *info = ptq_model_get_info(s.m);
  const ptq_directions d = {.k = K, .ctx = e, .load = load_vector};
  FX_MUST(ptq_forms_run(s.g, &d, PTQ_FORMS_GAUSS_NEWTON, &f, &e_));
  for (int64_t l = 0; l < LAYERS; l++)
    for (int64_t j = 0; j < K; j++) {
      const int64_t b = l / PTQ_ROLE_COUNT;
      const int r = (int)(l % PTQ_ROLE_COUNT);
      const int64_t from = ptq_flat_at(info, b, r);
      const double form = gf_dot(e + j * N + from, to[j] + from,
                                 ptq_flat_at(info, b, r + 1) - from);
      assert_true(fabs(f.ege[l * K + j] - form) <= 1e-13 * fabs(form));
    }
  assert_null(f.ghe);
  assert_null(f.eke);
  ptq_forms_release(&f);
  ptq_free(e);
  ptq_free(y);
  ptq_free(expected);
  ptq_free(g);
}

/* It has no negative eigenvalue, and Hutchinson's trace is its diagonal's. */
static void gauss_newton_is_positive(void **state) {
  (void)state;
  double *all = gf_doubles((int64_t)N * N), *unit = gf_doubles(N);
  double *values = gf_doubles(N), trace = 0.0;
  ptq_estimate whole, by_layer[LAYERS];
  const ptq_operator a = ptq_gauss_newton_operator(s.g);
  for (int64_t i = 0; i < N; i++) {
    const double *const x[1] = {unit};
    double *const y[1] = {all + i * N};
    unit[i] = 1.0;
    FX_MUST(a.apply(a.ctx, 1, x, y, &e_));
    unit[i] = 0.0;
    trace += all[i * N + i];
  }
  FX_MUST(ptq_curvature_trace(s.g, PTQ_CURVATURE_GAUSS_NEWTON, 4, 60, &whole,
                              by_layer, &e_));
  assert_true(fabs(whole.mean - trace) <= 4.0 * whole.se);
  assert_true(whole.se < 0.1 * trace);
  for (int64_t l = 0; l < LAYERS; l++) assert_true(by_layer[l].mean >= 0.0);
  FX_MUST(ptq_eigenvalues(all, N, values, &e_));
  assert_true(values[0] > 0.0 && values[N - 1] >= -1e-13 * values[0]);
  ptq_free(all);
  ptq_free(unit);
  ptq_free(values);
}

/* Every layer's inputs and derivatives, window by window. */
typedef struct seen {
  double x[LAYERS][WINDOWS * LENGTH * 16], dy[LAYERS][WINDOWS * LENGTH * 16];
} seen;

static ptq_status see(void *ctx, const ptq_grad_window *w, ptq_err *err) {
  seen *all = ctx;
  const ptq_model_info *info = ptq_model_get_info(s.m);
  const int64_t l = w->block * PTQ_ROLE_COUNT + w->layer;
  const int64_t in = ptq_role_inputs(info, ptq_layer_role(w->layer));
  const int64_t out = ptq_role_outputs(info, ptq_layer_role(w->layer));
  (void)err;
  for (int64_t i = 0; i < w->n * in; i++)
    all->x[l][w->window * LENGTH * in + i] = (double)w->x[i];
  for (int64_t i = 0; i < w->n * out; i++)
    all->dy[l][w->window * LENGTH * out + i] = (double)w->dy[i];
  return PTQ_OK;
}

/* tr(B E A E') = sum over pairs of tokens of (dy_s' E x_t)^2. */
static void kronecker_forms_pair_all_tokens(void **state) {
  (void)state;
  enum { TOKENS = WINDOWS * LENGTH };
  const ptq_model_info *info = ptq_model_get_info(s.m);
  double *e = gf_doubles(N), nll = 0.0;
  seen *all = NULL;
  FX_MUST(ptq_alloc(&all, 1, sizeof *all, "a test's array", &e_));
  ptq_rng rng;
  ptq_rng_init(&rng, 10);
  for (int64_t i = 0; i < N; i++) e[i] = ptq_rng_unit(&rng) - 0.5;
  const ptq_grad_sink sink = {.ctx = all, .window = see};
  FX_MUST(ptq_grad_run(s.g, 0, 1, NULL, &sink, &nll, NULL, &e_));
  ptq_forms f;
  const ptq_directions d = {.k = 1, .ctx = e, .load = load_vector};
  FX_MUST(ptq_forms_run(s.g, &d, PTQ_FORMS_FISHER, &f, &e_));
  for (int64_t l = 0; l < LAYERS; l++) {
    const int64_t b = l / PTQ_ROLE_COUNT;
    const int r = (int)(l % PTQ_ROLE_COUNT);
    if (!ptq_role_present(info, (ptq_role)r)) continue;
    const int64_t in = ptq_role_inputs(info, (ptq_role)r);
    const int64_t out = ptq_role_outputs(info, (ptq_role)r);
    const double *w = e + ptq_flat_at(info, b, r);
    double expected = 0.0;
    for (int64_t t = 0; t < TOKENS; t++) {
      double moved[16];
      for (int64_t i = 0; i < out; i++)
        moved[i] = gf_dot(w + i * in, all->x[l] + t * in, in);
      for (int64_t u = 0; u < TOKENS; u++) {
        const double both = gf_dot(moved, all->dy[l] + u * out, out);
        expected += both * both / (TOKENS * WINDOWS * (LENGTH - 1));
      }
    }
    assert_true(expected > 0.0);
    assert_true(fabs(f.eke[l] - expected) <= 1e-12 * expected);
  }
  ptq_forms_release(&f);
  ptq_free(all);
  ptq_free(e);
}

static void traces_are_within_their_errors(void **state) {
  (void)state;
  ptq_estimate whole, by_layer[LAYERS], flat;
  double trace = 0.0;
  const ptq_operator h = ptq_hessian_operator(s.g);
  FX_MUST(ptq_curvature_trace(s.g, PTQ_CURVATURE_HESSIAN, 4, 100, &whole,
                              by_layer, &e_));
  FX_MUST(ptq_trace(&h, 4, 100, &flat, &e_));
  const ptq_model_info *info = ptq_model_get_info(s.m);
  assert_int_equal(ptq_flat_layers(info), LAYERS);
  double sum = 0.0;
  for (int64_t l = 0; l < LAYERS; l++) {
    const int64_t block = l / PTQ_ROLE_COUNT;
    const int layer = (int)(l % PTQ_ROLE_COUNT);
    double exact = 0.0;
    for (int64_t i = ptq_flat_at(info, block, layer);
         i < ptq_flat_at(info, block, layer + 1); i++)
      exact += s.h[i * N + i];
    trace += exact;
    sum += by_layer[l].mean;
    if (exact == 0.0)
      assert_true(by_layer[l].mean == 0.0);
    else
      assert_true(fabs(by_layer[l].mean - exact) <= 4.0 * by_layer[l].se);
  }
  assert_true(fabs(sum - whole.mean) <= 1e-12 * fabs(whole.mean));
  assert_true(fabs(whole.mean - trace) <= 4.0 * whole.se);
  assert_true(fabs(flat.mean - trace) <= 4.0 * flat.se);
  /* With signs the variance is twice the sum of squares off the diagonal. */
  double off = 0.0;
  for (int64_t i = 0; i < N; i++)
    for (int64_t j = 0; j < N; j++)
      if (i != j) off += s.h[i * N + j] * s.h[i * N + j];
  const double se = sqrt(2.0 * off / 100.0);
  assert_true(whole.se > 0.7 * se && whole.se < 1.4 * se);
}

/* Share of eigenvalues up to x: exact, and by the quadrature. */
static double exact_share(double x) {
  int64_t n = 0;
  for (int64_t i = 0; i < N; i++) n += s.values[i] <= x;
  return (double)n / N;
}

typedef struct limit {
  double x;
} limit;

static double up_to(double x, void *ctx) {
  return x <= ((const limit *)ctx)->x ? 1.0 : 0.0;
}

static double itself(double x, void *ctx) {
  (void)ctx;
  return x;
}

static double its_square(double x, void *ctx) {
  (void)ctx;
  return x * x;
}

static void quadrature_has_the_spectral_distribution(void **state) {
  (void)state;
  const ptq_operator h = ptq_hessian_operator(s.g);
  const ptq_lanczos_setup setup = {.n = N, .max_steps = 80};
  ptq_quadrature q;
  FX_MUST(ptq_quadrature_run(&h, &setup, 8, AT_ONCE, &q, &e_));
  double first = 0.0, second = 0.0;
  for (int64_t i = 0; i < N; i++) {
    first += s.values[i] / N;
    second += s.values[i] * s.values[i] / N;
  }
  const ptq_estimate m1 = ptq_quadrature_mean(&q, itself, NULL);
  const ptq_estimate m2 = ptq_quadrature_mean(&q, its_square, NULL);
  assert_true(fabs(m1.mean - first) <= 4.0 * m1.se);
  assert_true(fabs(m2.mean - second) <= 4.0 * m2.se);
  assert_true(m1.se < 0.1 * sqrt(second) && m2.se < 0.2 * second);
  /* Where eigenvalues are sparse the distribution comes out by itself. */
  for (int step = 1; step < 20; step++) {
    limit l = {s.values[0] * step / 20.0};
    const double got = ptq_quadrature_mean(&q, up_to, &l).mean;
    if (!(fabs(got - exact_share(l.x)) <= 0.005))
      fail_msg("up to %g: %g of all eigenvalues, not %g", l.x, got,
               exact_share(l.x));
  }
  enum { GRID = 400 };
  const double low = 1.2 * s.values[N - 1], high = 1.2 * s.values[0];
  const double sigma = (high - low) / 60.0, width = (high - low) / GRID;
  double x[GRID], density[GRID], off = 0.0;
  for (int i = 0; i < GRID; i++) x[i] = low + width * (i + 0.5);
  ptq_quadrature_density(&q, sigma, x, GRID, density);
  for (int i = 0; i < GRID; i++) {
    double exact = 0.0;
    for (int64_t k = 0; k < N; k++)
      exact += exp(-0.5 * pow((x[i] - s.values[k]) / sigma, 2.0));
    exact /= N * sigma * sqrt(8.0 * atan(1.0));
    off += fabs(density[i] - exact) * width;
  }
  /* Of an integral of 1. */
  if (!(off <= 0.03)) fail_msg("densities are %g apart", off);
  ptq_quadrature_release(&q);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_symmetric_and_indefinite),
      cmocka_unit_test(lanczos_finds_its_ends),
      cmocka_unit_test(forms_are_those_of_the_matrix),
      cmocka_unit_test(the_fishers_diagonal_is_of_windows),
      cmocka_unit_test(gauss_newton_is_the_fisher_of_the_models_own_tokens),
      cmocka_unit_test(gauss_newton_is_positive),
      cmocka_unit_test(kronecker_forms_pair_all_tokens),
      cmocka_unit_test(traces_are_within_their_errors),
      cmocka_unit_test(quadrature_has_the_spectral_distribution),
  };
  return cmocka_run_group_tests_name("grad/hessian", tests, start, end);
}
