/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What hooks see of a mixture of experts; its numbers are test_logits.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/model/forward.h"
#include "ptq/num/blas.h"
#include "workspace.h"

#define MODEL PTQ_SOURCE_DIR "/tests/golden/architectures/qwen3-moe"

enum { N = 24, EXPERTS = 5, USED = 2 };

typedef struct fixture {
  ptq_model *model;           /* owned */
  const ptq_model_info *info; /* borrowed */
  ptq_block b;                /* owned */
  ptq_workspace *ws;          /* owned */
  float h[N * 64];
} fixture;

static void begin(fixture *f) {
  ptq_err err = {0};
  ptq_rng r;
  *f = (fixture){0};
  if (ptq_model_open(MODEL, &f->model, &err) != PTQ_OK ||
      ptq_model_load_block(f->model, 0, &f->b, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  f->info = ptq_model_get_info(f->model);
  assert_int_equal(f->info->n_experts, EXPERTS);
  assert_int_equal(f->info->experts_used, USED);
  assert_int_equal(ptq_workspace_create(f->info, N, &f->ws, &err), PTQ_OK);
  ptq_rng_init(&r, 5);
  for (int64_t i = 0; i < N * f->info->d_model; i++)
    f->h[i] = (float)ptq_rng_unit(&r) - 0.5F;
}

static void end(fixture *f) {
  ptq_workspace_free(f->ws);
  ptq_block_release(&f->b);
  ptq_model_close(f->model);
}

/* Everything a pass shows. */
typedef struct seen {
  const fixture *f;
  float router[N * 64];
  int64_t times[N]; /* experts that a token went to */
  int expert;       /* at hand */
  int32_t tokens[N];
  int64_t n; /* of the expert at hand */
  int inputs[2 + 2 * EXPERTS];
  int outputs[5 + 4 * EXPERTS];
} seen;

static ptq_status see_router(void *ctx, const float *x, int64_t n,
                             ptq_err *err) {
  seen *s = ctx;
  (void)err;
  assert_int_equal(n, N);
  memcpy(s->router, x, (size_t)(n * s->f->info->d_model) * sizeof *x);
  return PTQ_OK;
}

static ptq_status see_routed(void *ctx, int expert, const int32_t *tokens,
                             int64_t n, ptq_err *err) {
  seen *s = ctx;
  (void)err;
  assert_true(expert > s->expert && n > 0);
  s->expert = expert;
  s->n = n;
  memcpy(s->tokens, tokens, (size_t)n * sizeof *tokens);
  for (int64_t i = 0; i < n; i++) {
    assert_true(i == 0 || tokens[i] > tokens[i - 1]);
    s->times[tokens[i]]++;
  }
  return PTQ_OK;
}

static ptq_status see_input(void *ctx, int site, const float *x, int64_t n,
                            int64_t width, ptq_err *err) {
  seen *s = ctx;
  (void)err;
  s->inputs[site]++;
  assert_int_equal(width, ptq_site_width(s->f->info, site));
  if (ptq_site_kind(site) < PTQ_SITE_MLP_IN) return PTQ_OK;
  assert_int_equal(ptq_site_expert(site), s->expert);
  assert_int_equal(n, s->n);
  if (ptq_site_kind(site) != PTQ_SITE_MLP_IN) return PTQ_OK;
  for (int64_t i = 0; i < n; i++)
    assert_memory_equal(x + i * width, s->router + s->tokens[i] * width,
                        (size_t)width * sizeof *x);
  return PTQ_OK;
}

static ptq_status see_output(void *ctx, int layer, const float *y, int64_t n,
                             int64_t out, ptq_err *err) {
  seen *s = ctx;
  (void)y, (void)out, (void)err;
  s->outputs[layer]++;
  if (ptq_layer_role(layer) > PTQ_ROLE_O) assert_int_equal(n, s->n);
  return PTQ_OK;
}

static void run(fixture *f, ptq_site stop, seen *s) {
  ptq_err err = {0};
  const ptq_forward_hook hook = {.ctx = s,
                                 .input = see_input,
                                 .output = see_output,
                                 .router = see_router,
                                 .routed = see_routed};
  float h[N * 64];
  *s = (seen){.f = f, .expert = -1};
  memcpy(h, f->h, sizeof h);
  if (ptq_block_forward(f->info, &f->b, h, N, f->ws, &hook, stop, &err) !=
      PTQ_OK)
    fail_msg("%s", err.msg);
}

static void numbers_of_layers_and_sites_go_expert_by_expert(void **state) {
  (void)state;
  fixture f;
  begin(&f);
  char name[PTQ_TENSOR_NAME_MAX];
  assert_int_equal(ptq_layer_count(f.info), 5 + 4 * EXPERTS);
  assert_int_equal(ptq_site_count(f.info), 2 + 2 * EXPERTS);
  const int down = ptq_layer_of(PTQ_ROLE_DOWN, 3);
  assert_int_equal(ptq_layer_role(down), PTQ_ROLE_DOWN);
  assert_int_equal(ptq_layer_expert(down), 3);
  assert_int_equal(ptq_layer_site(down), ptq_site_of(PTQ_SITE_MLP_OUT, 3));
  assert_int_equal(ptq_site_kind(ptq_layer_site(down)), PTQ_SITE_MLP_OUT);
  assert_int_equal(ptq_layer_of(PTQ_ROLE_DOWN, 0), PTQ_ROLE_DOWN);
  ptq_layer_tensor_name(f.model, 1, down, name);
  assert_string_equal(name, "model.layers.1.mlp.experts.3.down_proj.weight");
  assert_true(ptq_layer_present(f.info, ptq_layer_of(PTQ_ROLE_UP, 4)));
  assert_false(ptq_layer_present(f.info, ptq_layer_of(PTQ_ROLE_GATE_UP, 4)));
  /* The router and the norms are parameters, but not quantizable. */
  const int64_t router = EXPERTS * f.info->d_model * f.info->n_blocks;
  assert_true(f.info->params_nonembedding >=
              f.info->params_quantizable + router);
  end(&f);
}

static void each_token_goes_to_its_experts(void **state) {
  (void)state;
  fixture f;
  seen s;
  begin(&f);
  run(&f, PTQ_SITE_COUNT, &s);
  for (int i = 0; i < N; i++) assert_int_equal(s.times[i], USED);
  for (int e = 0; e < EXPERTS; e++) {
    const int ran = s.inputs[ptq_site_of(PTQ_SITE_MLP_IN, e)];
    assert_int_equal(s.inputs[ptq_site_of(PTQ_SITE_MLP_OUT, e)], ran);
    assert_int_equal(s.outputs[ptq_layer_of(PTQ_ROLE_GATE, e)], ran);
    assert_int_equal(s.outputs[ptq_layer_of(PTQ_ROLE_DOWN, e)], ran);
  }
  end(&f);
}

static void a_stop_shows_a_kind_of_all_experts(void **state) {
  (void)state;
  fixture f;
  seen all, s;
  begin(&f);
  run(&f, PTQ_SITE_COUNT, &all);
  for (int stop = 0; stop < PTQ_SITE_COUNT; stop++) {
    run(&f, (ptq_site)stop, &s);
    for (int site = 0; site < ptq_site_count(f.info); site++)
      assert_int_equal(s.inputs[site],
                       (int)ptq_site_kind(site) <= stop ? all.inputs[site] : 0);
    for (int l = 0; l < ptq_layer_count(f.info); l++)
      if ((int)ptq_site_kind(ptq_layer_site(l)) >= stop)
        assert_int_equal(s.outputs[l], 0);
  }
  end(&f);
}

/* With a router of one row above all others and one expert used, the others
 * see nothing. */
static void an_expert_without_tokens_is_left_out(void **state) {
  (void)state;
  fixture f;
  seen s;
  begin(&f);
  const int64_t d = f.info->d_model;
  memset(f.b.router.weight, 0, (size_t)(EXPERTS * d) * sizeof(float));
  run(&f, PTQ_SITE_COUNT, &s); /* all odds equal: the first experts */
  for (int e = 0; e < EXPERTS; e++)
    assert_int_equal(s.inputs[ptq_site_of(PTQ_SITE_MLP_IN, e)], e < USED);
  end(&f);
}

static void nan_stays_within_its_token_and_the_workspace(void **state) {
  (void)state;
  fixture f;
  begin(&f);
  float h[N * 64];
  ptq_err err = {0};
  const int64_t d = f.info->d_model;
  memcpy(h, f.h, sizeof h);
  for (int64_t i = 5 * d; i < N * d; i++) h[i] = NAN;
  assert_int_equal(
      ptq_module_forward(f.info, &f.b, PTQ_SITE_MLP_IN, h, N, f.ws, NULL, &err),
      PTQ_OK);
  for (int64_t i = 0; i < N * d; i++)
    assert_int_equal(isnan(f.ws->y[i]) != 0, i >= 5 * d);
  end(&f);
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_of_layers_and_sites_go_expert_by_expert),
      cmocka_unit_test(each_token_goes_to_its_experts),
      cmocka_unit_test(a_stop_shows_a_kind_of_all_experts),
      cmocka_unit_test(an_expert_without_tokens_is_left_out),
      cmocka_unit_test(nan_stays_within_its_token_and_the_workspace),
  };
  return cmocka_run_group_tests_name("model/experts", tests, blas, NULL);
}
