/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The forward pass against plain loops in float64. */
#include "model_fixture.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/model/forward.h"
#include "ptq/num/blas.h"

enum { N_MAX = 1100 };
static const double ROPE_THETA = 500.0; /* of the fixture */

static void *block(int64_t n, size_t size) {
  void *p = NULL;
  assert_int_equal(ptq_alloc(&p, n, size, "test", NULL), PTQ_OK);
  return p;
}

/* y[n, out] = x[n, in] W', without bias. */
static void plain_linear(const ptq_linear *l, const double *x, int64_t n,
                         double *y) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t o = 0; o < l->out; o++) {
      double s = 0.0;
      for (int64_t k = 0; k < l->in; k++)
        s += x[i * l->in + k] * (double)l->weight[o * l->in + k];
      y[i * l->out + o] = s;
    }
}

static void plain_bias(const ptq_linear *l, int64_t n, double *y) {
  for (int64_t i = 0; l->bias != NULL && i < n * l->out; i++)
    y[i] += (double)l->bias[i % l->out];
}

static void plain_norm(const ptq_model_info *info, const float *w,
                       const float *b, const double *x, int64_t n, double *y) {
  const int64_t d = info->d_model;
  for (int64_t i = 0; i < n; i++) {
    double mean = 0.0, var = 0.0;
    for (int64_t k = 0; b != NULL && k < d; k++)
      mean += x[i * d + k] / (double)d;
    for (int64_t k = 0; k < d; k++)
      var += pow(x[i * d + k] - mean, 2.0) / (double)d;
    for (int64_t k = 0; k < d; k++)
      y[i * d + k] =
          (x[i * d + k] - mean) / sqrt(var + info->norm_eps) * (double)w[k] +
          (b != NULL ? (double)b[k] : 0.0);
  }
}

static void plain_rotate(const ptq_model_info *info, double *x, int64_t n,
                         int64_t heads) {
  const int64_t d = info->d_head, half = d / 2;
  for (int64_t t = 0; t < n; t++)
    for (int64_t h = 0; h < heads; h++)
      for (int64_t i = 0; i < half; i++) {
        double *v = x + (t * heads + h) * d;
        const double angle =
            (double)t / pow(ROPE_THETA, 2.0 * (double)i / (double)d);
        const double a = v[i], b = v[half + i];
        v[i] = a * cos(angle) - b * sin(angle);
        v[half + i] = b * cos(angle) + a * sin(angle);
      }
}

static void plain_attention(const ptq_model_info *info, const double *q,
                            const double *k, const double *v, int64_t n,
                            double *mix) {
  const int64_t d = info->d_head, hq = info->n_heads, hk = info->n_kv_heads;
  double *p = block(n, sizeof *p);
  for (int64_t t = 0; t < n; t++)
    for (int64_t h = 0; h < hq; h++) {
      const int64_t kv = h / (hq / hk);
      double sum = 0.0;
      for (int64_t s = 0; s <= t; s++) {
        double score = 0.0;
        for (int64_t i = 0; i < d; i++)
          score += q[(t * hq + h) * d + i] * k[(s * hk + kv) * d + i];
        p[s] = exp(score / sqrt((double)d));
        sum += p[s];
      }
      for (int64_t i = 0; i < d; i++) {
        double m = 0.0;
        for (int64_t s = 0; s <= t; s++)
          m += p[s] / sum * v[(s * hk + kv) * d + i];
        mix[(t * hq + h) * d + i] = m;
      }
    }
  ptq_free(p);
}

/* What the hook must be shown, and the block's result. */
typedef struct plain {
  double *site[PTQ_SITE_COUNT];
  double *out[PTQ_ROLE_COUNT]; /* before the bias */
  double *h;
} plain;

static double *plain_role(const ptq_block *b, plain *p, ptq_role role,
                          int64_t n) {
  const ptq_linear *l = &b->linear[role];
  p->out[role] = block(n * l->out, sizeof(double));
  double *y = block(n * l->out, sizeof(double));
  plain_linear(l, p->site[ptq_role_site(role)], n, p->out[role]);
  memcpy(y, p->out[role], (size_t)(n * l->out) * sizeof *y);
  plain_bias(l, n, y);
  return y;
}

static void plain_mlp(const ptq_model_info *info, const ptq_block *b, int64_t n,
                      plain *p) {
  double *up = plain_role(b, p, PTQ_ROLE_UP, n);
  double *gate = info->has_gate ? plain_role(b, p, PTQ_ROLE_GATE, n) : NULL;
  for (int64_t i = 0; i < n * info->d_ff; i++)
    up[i] = gate != NULL ? up[i] * gate[i] / (1.0 + exp(-gate[i]))
                         : fmax(up[i], 0.0);
  p->site[PTQ_SITE_MLP_OUT] = up;
  double *y = plain_role(b, p, PTQ_ROLE_DOWN, n);
  for (int64_t i = 0; i < n * info->d_model; i++) p->h[i] += y[i];
  ptq_free(gate);
  ptq_free(y);
}

static void plain_block(const ptq_model_info *info, const ptq_block *b,
                        const float *h, int64_t n, plain *p) {
  const int64_t d = info->d_model;
  *p = (plain){.h = block(n * d, sizeof(double))};
  for (int64_t i = 0; i < n * d; i++) p->h[i] = (double)h[i];
  double *x = p->site[PTQ_SITE_ATTN_IN] = block(n * d, sizeof *x);
  plain_norm(info, b->norm[PTQ_NORM_ATTN_IN].w, b->norm[PTQ_NORM_ATTN_IN].b,
             p->h, n, x);
  double *q = plain_role(b, p, PTQ_ROLE_Q, n);
  double *k = plain_role(b, p, PTQ_ROLE_K, n);
  double *v = plain_role(b, p, PTQ_ROLE_V, n);
  if (info->positions == PTQ_POSITIONS_ROTARY) {
    plain_rotate(info, q, n, info->n_heads);
    plain_rotate(info, k, n, info->n_kv_heads);
  }
  p->site[PTQ_SITE_ATTN_OUT] =
      block(n * info->n_heads * info->d_head, sizeof(double));
  plain_attention(info, q, k, v, n, p->site[PTQ_SITE_ATTN_OUT]);
  double *y = plain_role(b, p, PTQ_ROLE_O, n);
  for (int64_t i = 0; i < n * d; i++) p->h[i] += y[i];
  x = p->site[PTQ_SITE_MLP_IN] = block(n * d, sizeof *x);
  plain_norm(info, b->norm[PTQ_NORM_MLP_IN].w, b->norm[PTQ_NORM_MLP_IN].b, p->h,
             n, x);
  plain_mlp(info, b, n, p);
  ptq_free(q);
  ptq_free(k);
  ptq_free(v);
  ptq_free(y);
}

static void plain_free(plain *p) {
  for (int s = 0; s < PTQ_SITE_COUNT; s++) ptq_free(p->site[s]);
  for (int r = 0; r < PTQ_ROLE_COUNT; r++) ptq_free(p->out[r]);
  ptq_free(p->h);
}

/* Sums of at most some hundred terms of size 1: within 2e-5 of the largest. */
static void compare(const char *what, const float *got, const double *want,
                    int64_t n) {
  double top = 1.0;
  for (int64_t i = 0; i < n; i++) top = fmax(top, fabs(want[i]));
  for (int64_t i = 0; i < n; i++)
    if (!(fabs((double)got[i] - want[i]) <= 2e-5 * top))
      fail_msg("%s: element %d of %d is %g, plain %g", what, (int)i, (int)n,
               (double)got[i], want[i]);
}

typedef struct watcher {
  const plain *want;
  unsigned inputs, outputs; /* bit sets of what was shown */
  int fail_site;            /* site at which to fail, or -1 */
} watcher;

static ptq_status see_input(void *ctx, int site, const float *x, int64_t n,
                            int64_t width, ptq_err *err) {
  watcher *w = ctx;
  if ((int)site == w->fail_site)
    return PTQ_FAIL(err, PTQ_E_NUMERIC, "seen enough");
  compare(ptq_site_name((ptq_site)site), x, w->want->site[site], n * width);
  w->inputs |= 1U << site;
  return PTQ_OK;
}

static ptq_status see_output(void *ctx, int role, const float *y, int64_t n,
                             int64_t out, ptq_err *err) {
  (void)err;
  watcher *w = ctx;
  compare("output", y, w->want->out[role], n * out);
  w->outputs |= 1U << role;
  return PTQ_OK;
}

typedef struct subject {
  fx_model files;
  ptq_model *model;
  const ptq_model_info *info;
  ptq_block b;
  float *start; /* [N_MAX, d_model] */
} subject;

static void add_biases(fx_model *m) {
  fx_config_add(m, "\"attention_bias\": true, \"mlp_bias\": true");
  for (int b = 0; b < 2; b++) {
    fx_add_in_block(m, "model.", b, "self_attn.q_proj.bias", 60, 0, 0.0F);
    fx_add_in_block(m, "model.", b, "self_attn.k_proj.bias", 20, 0, 0.0F);
    fx_add_in_block(m, "model.", b, "self_attn.v_proj.bias", 20, 0, 0.0F);
    fx_add_in_block(m, "model.", b, "self_attn.o_proj.bias", 24, 0, 0.0F);
    fx_add_in_block(m, "model.", b, "mlp.gate_proj.bias", 40, 0, 0.0F);
    fx_add_in_block(m, "model.", b, "mlp.up_proj.bias", 40, 0, 0.0F);
    fx_add_in_block(m, "model.", b, "mlp.down_proj.bias", 24, 0, 0.0F);
  }
}

enum { KINDS = 3 }; /* LLaMA, LLaMA with biases, OPT */

static void begin(subject *s, int kind) {
  if (kind == 2)
    fx_opt(&s->files);
  else
    fx_llama(&s->files);
  if (kind == 1) add_biases(&s->files);
  fx_write(&s->files);
  FX_MUST(ptq_model_open(s->files.dir, &s->model, &e_));
  s->info = ptq_model_get_info(s->model);
  FX_MUST(ptq_model_load_block(s->model, 1, &s->b, &e_));
  ptq_rng rng;
  ptq_rng_init(&rng, 99);
  s->start = block(N_MAX * s->info->d_model, sizeof *s->start);
  for (int64_t i = 0; i < N_MAX * s->info->d_model; i++)
    s->start[i] = 4.0F * ((float)ptq_rng_unit(&rng) - 0.5F);
}

static void end(subject *s) {
  ptq_free(s->start);
  ptq_block_release(&s->b);
  ptq_model_close(s->model);
  fx_end(&s->files);
}

/* The block's result for the first n tokens, in a workspace for `room`. */
static float *run(const subject *s, int64_t n, int64_t room,
                  const ptq_forward_hook *hook, ptq_site stop) {
  ptq_workspace *ws = NULL;
  float *h = block(n * s->info->d_model, sizeof *h);
  memcpy(h, s->start, (size_t)(n * s->info->d_model) * sizeof *h);
  FX_MUST(ptq_workspace_create(s->info, room, &ws, &e_));
  FX_MUST(ptq_block_forward(s->info, &s->b, h, n, ws, hook, stop, &e_));
  ptq_workspace_free(ws);
  return h;
}

/* Lengths on both sides of query tiles (64 and 96) and of the key tile (512),
 * which cuts a query tile of 96. */
static void blocks_equal_plain_loops_at_any_length(void **state) {
  (void)state;
  static const int64_t lengths[] = {1, 2, 63, 64, 65, 97, 511, 512, 545, 1100};
  for (int kind = 0; kind < KINDS; kind++) {
    subject s;
    begin(&s, kind);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
      const int64_t n = lengths[i];
      plain p;
      plain_block(s.info, &s.b, s.start, n, &p);
      watcher w = {.want = &p, .fail_site = -1};
      const ptq_forward_hook hook = {
          .ctx = &w, .input = see_input, .output = see_output};
      float *h = run(&s, n, n, &hook, PTQ_SITE_COUNT);
      compare("block", h, p.h, n * s.info->d_model);
      assert_int_equal(w.inputs, (1U << PTQ_SITE_COUNT) - 1U);
      unsigned roles = 0;
      for (int r = 0; r < PTQ_ROLE_COUNT; r++)
        if (ptq_role_present(s.info, (ptq_role)r)) roles |= 1U << r;
      assert_int_equal(w.outputs, roles);
      ptq_free(h);
      plain_free(&p);
    }
    end(&s);
  }
}

static void bits_depend_on_the_window_alone(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    subject s;
    begin(&s, kind);
    const int64_t n = 545;
    const size_t bytes = (size_t)(n * s.info->d_model) * sizeof(float);
    plain p;
    plain_block(s.info, &s.b, s.start, n, &p);
    watcher w = {.want = &p, .fail_site = -1};
    const ptq_forward_hook hook = {
        .ctx = &w, .input = see_input, .output = see_output};
    float *alone = run(&s, n, n, NULL, PTQ_SITE_COUNT);
    float *watched = run(&s, n, n, &hook, PTQ_SITE_COUNT);
    float *roomy = run(&s, n, N_MAX, NULL, PTQ_SITE_COUNT);
    assert_memory_equal(alone, watched, bytes);
    assert_memory_equal(alone, roomy, bytes);
    ptq_free(alone);
    ptq_free(watched);
    ptq_free(roomy);
    plain_free(&p);
    end(&s);
  }
}

static void later_tokens_do_not_reach_earlier_ones(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    subject s;
    begin(&s, kind);
    const int64_t n = 130, cut = 70, d = s.info->d_model;
    float *before = run(&s, n, n, NULL, PTQ_SITE_COUNT);
    for (int64_t i = cut * d; i < n * d; i++) s.start[i] = 50.0F;
    float *after = run(&s, n, n, NULL, PTQ_SITE_COUNT);
    assert_memory_equal(before, after, (size_t)(cut * d) * sizeof *before);
    assert_memory_not_equal(before + cut * d, after + cut * d,
                            (size_t)((n - cut) * d) * sizeof *before);
    ptq_free(before);
    ptq_free(after);
    end(&s);
  }
}

static void a_stop_shows_its_site_and_none_after_it(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    subject s;
    begin(&s, kind);
    plain p;
    plain_block(s.info, &s.b, s.start, 33, &p);
    for (int stop = 0; stop < PTQ_SITE_COUNT; stop++) {
      watcher w = {.want = &p, .fail_site = -1};
      const ptq_forward_hook hook = {
          .ctx = &w, .input = see_input, .output = see_output};
      ptq_free(run(&s, 33, 33, &hook, (ptq_site)stop));
      assert_int_equal(w.inputs, (2U << stop) - 1U);
      for (int r = 0; r < PTQ_ROLE_COUNT; r++)
        if ((int)ptq_role_site((ptq_role)r) >= stop)
          assert_int_equal(w.outputs & 1U << r, 0);
    }
    plain_free(&p);
    end(&s);
  }
}

static void a_failing_hook_ends_the_pass(void **state) {
  (void)state;
  subject s;
  begin(&s, 0);
  plain p;
  plain_block(s.info, &s.b, s.start, 5, &p);
  for (int site = 0; site < PTQ_SITE_COUNT; site++) {
    watcher w = {.want = &p, .fail_site = site};
    const ptq_forward_hook hook = {.ctx = &w, .input = see_input};
    ptq_workspace *ws = NULL;
    ptq_err err = {0};
    float *h = block(5 * s.info->d_model, sizeof *h);
    memcpy(h, s.start, (size_t)(5 * s.info->d_model) * sizeof *h);
    FX_MUST(ptq_workspace_create(s.info, 5, &ws, &e_));
    assert_int_equal(
        ptq_block_forward(s.info, &s.b, h, 5, ws, &hook, PTQ_SITE_COUNT, &err),
        PTQ_E_NUMERIC);
    assert_string_equal(err.msg, "seen enough");
    assert_int_equal(w.inputs, (1U << site) - 1U);
    ptq_workspace_free(ws);
    ptq_free(h);
  }
  plain_free(&p);
  end(&s);
}

static void large_scores_stay_finite(void **state) {
  (void)state;
  subject s;
  begin(&s, 0);
  for (int64_t i = 0; i < 60 * 24; i++)
    s.b.linear[PTQ_ROLE_Q].weight[i] *= 1e4F;
  float *h = run(&s, 600, 600, NULL, PTQ_SITE_COUNT);
  for (int64_t i = 0; i < 600 * 24; i++) assert_true(isfinite(h[i]));
  ptq_free(h);
  end(&s);
}

static void nan_in_a_token_reaches_all_its_followers(void **state) {
  (void)state;
  subject s;
  begin(&s, 2);
  s.start[100 * s.info->d_model] = NAN;
  float *h = run(&s, 130, 130, NULL, PTQ_SITE_COUNT);
  /* Nothing is promised to earlier tokens: zero times NaN is NaN. */
  for (int64_t i = 100 * s.info->d_model; i < 130 * s.info->d_model; i++)
    assert_true(isnan(h[i]));
  ptq_free(h);
  end(&s);
}

static void head_slices_join_to_the_whole(void **state) {
  (void)state;
  subject s;
  ptq_head head;
  begin(&s, 2);
  FX_MUST(ptq_model_load_head(s.model, &head, &e_));
  enum { N = 7, V = 50, D = 30 };
  double h[N * D], normed[N * D];
  float hn[N * D], slice[N * 20];
  for (int i = 0; i < N * D; i++) {
    h[i] = (double)s.start[i];
    hn[i] = s.start[i];
  }
  plain_norm(s.info, head.norm.w, head.norm.b, h, N, normed);
  ptq_head_norm(s.info, &head, hn, N);
  compare("final norm", hn, normed, N * D);
  for (int v = 0; v < V; v += 20) {
    const int width = V - v < 20 ? V - v : 20;
    FX_MUST(
        ptq_head_logits(s.info, &head, NULL, hn, N, v, v + width, slice, &e_));
    for (int i = 0; i < N; i++)
      for (int j = 0; j < width; j++) {
        double want = 0.0;
        for (int k = 0; k < D; k++)
          want += normed[i * D + k] * (double)head.weight[(v + j) * D + k];
        assert_true(fabs((double)slice[i * width + j] - want) <= 2e-5);
      }
  }
  ptq_head_release(&head);
  end(&s);
}

static void flops_and_bytes_are_counted(void **state) {
  (void)state;
  subject s;
  begin(&s, 0);
  /* per token: all linears once; 10 tokens have 55 pairs */
  const double linear = 2.0 * (double)s.info->params_quantizable;
  const double attention = 2.0 * 4.0 * 55.0 * 60.0;
  const double head = 2.0 * 50.0 * 24.0;
  assert_true(ptq_forward_flops(s.info, 10, false) ==
              10.0 * linear + attention);
  assert_true(ptq_forward_flops(s.info, 10, true) ==
              10.0 * (linear + head) + attention);
  const int64_t bytes = ptq_workspace_bytes(s.info, 100);
  const int64_t least = 100 * (2 * 24 + 2 * 60 + 2 * 20 + 2 * 40) * 4;
  assert_true(bytes > least && bytes < least + 4 * 200 * (512 + 200));
  assert_true(ptq_model_block_bytes(s.info) >=
              4 * (s.info->params_quantizable / 2));
  assert_true(ptq_model_embedding_bytes(s.info) >= 4 * 50 * 24);
  assert_true(ptq_model_head_bytes(s.info) >= 4 * 50 * 24);
  end(&s);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(blocks_equal_plain_loops_at_any_length),
      cmocka_unit_test(bits_depend_on_the_window_alone),
      cmocka_unit_test(later_tokens_do_not_reach_earlier_ones),
      cmocka_unit_test(a_stop_shows_its_site_and_none_after_it),
      cmocka_unit_test(a_failing_hook_ends_the_pass),
      cmocka_unit_test(large_scores_stay_finite),
      cmocka_unit_test(nan_in_a_token_reaches_all_its_followers),
      cmocka_unit_test(head_slices_join_to_the_whole),
      cmocka_unit_test(flops_and_bytes_are_counted),
  };
  return cmocka_run_group_tests_name("model/forward", tests, start, NULL);
}
