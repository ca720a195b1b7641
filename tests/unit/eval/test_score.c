/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scores against plain float64 loops over a small random head. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/eval/score.h"
#include "ptq/num/blas.h"

enum { WIDTH = 16, TOKENS = 9, VOCAB = 2 * PTQ_HEAD_SLICE + 905, CANDS = 3 };

typedef struct fixture {
  ptq_model_info info;
  ptq_head head;
  uint32_t ids[TOKENS];
  float ref[TOKENS * WIDTH];
  float cand[CANDS][TOKENS * WIDTH];
  const float *cands[CANDS];
  ptq_scorer *scorer;
} fixture;

/** Roughly normal: the sum of twelve uniforms. */
static double normal(ptq_rng *r) {
  double sum = -6.0;
  for (int i = 0; i < 12; i++) sum += ptq_rng_unit(r);
  return sum;
}

/** Logits spread by about 3 nats; candidate k is the reference moved so that
 * its logits move by about `moves[k]`. */
static int setup(void **state) {
  static const double moves[CANDS] = {1.0, 1.4e-3, 0.1};
  fixture *f = NULL;
  ptq_err err = {0};
  if (ptq_blas_init(&err) != PTQ_OK) return -1;
  if (ptq_alloc(&f, 1, sizeof *f, "fixture", &err) != PTQ_OK) return -1;
  ptq_rng rng;
  ptq_rng_init(&rng, 7);
  f->info = (ptq_model_info){.d_model = WIDTH, .vocab = VOCAB};
  if (ptq_alloc(&f->head.weight, (int64_t)VOCAB * WIDTH, sizeof(float), "head",
                &err) != PTQ_OK)
    return -1;
  for (int64_t i = 0; i < (int64_t)VOCAB * WIDTH; i++)
    f->head.weight[i] = (float)(3.0 / sqrt(WIDTH) * normal(&rng));
  for (int i = 0; i < TOKENS; i++)
    f->ids[i] = (uint32_t)ptq_rng_below(&rng, VOCAB);
  f->ids[1] = 0; /* the ends of the vocabulary and of a slice */
  f->ids[2] = VOCAB - 1;
  f->ids[3] = PTQ_HEAD_SLICE;
  for (int i = 0; i < TOKENS * WIDTH; i++) f->ref[i] = (float)normal(&rng);
  for (int k = 0; k < CANDS; k++) {
    f->cands[k] = f->cand[k];
    for (int i = 0; i < TOKENS * WIDTH; i++)
      f->cand[k][i] = f->ref[i] + (float)(moves[k] / 3.0 * normal(&rng));
  }
  if (ptq_scorer_create(&f->info, TOKENS, CANDS, &f->scorer, &err) != PTQ_OK)
    return -1;
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  ptq_scorer_free(f->scorer);
  ptq_free(f->head.weight);
  ptq_free(f);
  return 0;
}

/** ln p over the vocabulary at one position, and the most probable token. */
static int64_t log_probabilities(const fixture *f, const float *h, double *lp) {
  int64_t top = 0;
  for (int64_t v = 0; v < VOCAB; v++) {
    lp[v] = 0.0;
    for (int64_t j = 0; j < WIDTH; j++)
      lp[v] += (double)h[j] * (double)f->head.weight[v * WIDTH + j];
    if (lp[v] > lp[top]) top = v;
  }
  const double max = lp[top];
  double sum = 0.0;
  for (int64_t v = 0; v < VOCAB; v++) sum += exp(lp[v] - max);
  for (int64_t v = 0; v < VOCAB; v++) lp[v] -= max + log(sum);
  return top;
}

static ptq_window_score dense_score(const fixture *f, const float *cand,
                                    double *ref_nll) {
  static double p[VOCAB], q[VOCAB];
  ptq_window_score sum = {0};
  *ref_nll = 0.0;
  for (int i = 0; i + 1 < TOKENS; i++) {
    const int64_t top_p = log_probabilities(f, f->ref + i * WIDTH, p);
    const int64_t top_q = log_probabilities(f, cand + i * WIDTH, q);
    *ref_nll -= p[f->ids[i + 1]];
    sum.nll -= q[f->ids[i + 1]];
    sum.top1 += top_p == top_q;
    for (int64_t v = 0; v < VOCAB; v++) {
      sum.kl += exp(p[v]) * (p[v] - q[v]);
      sum.kl_rev += exp(q[v]) * (q[v] - p[v]);
    }
  }
  return sum;
}

static void score(const fixture *f, const float *const *cand, int64_t n,
                  double *ref_nll, ptq_window_score *out) {
  ptq_err err = {0};
  if (ptq_score_window(f->scorer, &f->head, f->ids, TOKENS, f->ref, cand, n,
                       ref_nll, out, NULL, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void assert_close(const char *what, double got, double want,
                         double relative) {
  if (!(fabs(got - want) <= relative * fabs(want)))
    fail_msg("%s: %.12g, expected %.12g", what, got, want);
}

/* Logits are float32 sums of 16 products: off by about 1e-6 of their size.
 * KL moves by the square root of (2 KL) times that a position. */
static void sums_equal_dense_float64_loops(void **state) {
  const fixture *f = *state;
  double ref_nll, want_nll;
  ptq_window_score got[CANDS];
  score(f, f->cands, CANDS, &ref_nll, got);
  for (int k = 0; k < CANDS; k++) {
    const ptq_window_score want = dense_score(f, f->cand[k], &want_nll);
    assert_close("reference nll", ref_nll, want_nll, 2e-6);
    assert_close("nll", got[k].nll, want.nll, 2e-6);
    assert_close("kl", got[k].kl, want.kl, 2e-2);
    assert_close("kl_rev", got[k].kl_rev, want.kl_rev, 2e-2);
    assert_int_equal(got[k].top1, want.top1);
  }
  /* The second candidate is the case that cancellation would spoil. */
  const double kl = got[1].kl / (TOKENS - 1);
  assert_true(kl > 3e-7 && kl < 3e-6);
  assert_true(got[0].top1 < TOKENS - 1); /* agreement is not vacuous */
}

static void a_model_equal_to_the_reference_differs_by_exactly_zero(
    void **state) {
  const fixture *f = *state;
  const float *same[2] = {f->cand[0], f->ref};
  double ref_nll;
  ptq_window_score got[2];
  score(f, same, 2, &ref_nll, got);
  assert_true(got[1].nll == ref_nll);
  assert_true(got[1].kl == 0.0);
  assert_true(got[1].kl_rev == 0.0);
  assert_int_equal(got[1].top1, TOKENS - 1);
}

static void bits_do_not_depend_on_the_other_candidates(void **state) {
  const fixture *f = *state;
  double nll_none, nll_all, nll_one;
  ptq_window_score all[CANDS], one;
  score(f, NULL, 0, &nll_none, NULL);
  score(f, f->cands, CANDS, &nll_all, all);
  assert_memory_equal(&nll_none, &nll_all, sizeof nll_all);
  for (int k = 0; k < CANDS; k++) {
    score(f, &f->cands[k], 1, &nll_one, &one);
    assert_memory_equal(&nll_one, &nll_all, sizeof nll_all);
    assert_memory_equal(&one, &all[k], sizeof one);
  }
}

static void a_nan_spoils_its_own_candidate_only(void **state) {
  const fixture *f = *state;
  float bad[TOKENS * WIDTH];
  memcpy(bad, f->cand[0], sizeof bad);
  bad[3 * WIDTH + 5] = NAN;
  const float *cands[2] = {bad, f->cand[2]};
  float kl_bad[TOKENS - 1], kl_good[TOKENS - 1];
  float *const kl[2] = {kl_bad, kl_good};
  double ref_nll, clean_nll;
  ptq_window_score got[2], clean;
  ptq_err err = {0};
  assert_int_equal(ptq_score_window(f->scorer, &f->head, f->ids, TOKENS, f->ref,
                                    cands, 2, &ref_nll, got, kl, &err),
                   PTQ_OK);
  assert_true(isnan(got[0].nll) && isnan(got[0].kl) && isnan(got[0].kl_rev));
  for (int i = 0; i < TOKENS - 1; i++)
    assert_int_equal(!!isnan(kl_bad[i]), i == 3);
  score(f, &cands[1], 1, &clean_nll, &clean);
  assert_memory_equal(&clean, &got[1], sizeof clean);
  assert_memory_equal(&clean_nll, &ref_nll, sizeof ref_nll);
}

static void per_position_kl_adds_up_to_the_window(void **state) {
  const fixture *f = *state;
  float kl_row[TOKENS - 1];
  float *const kl[1] = {kl_row};
  double ref_nll, sum = 0.0;
  ptq_window_score got;
  ptq_err err = {0};
  assert_int_equal(ptq_score_window(f->scorer, &f->head, f->ids, TOKENS, f->ref,
                                    f->cands, 1, &ref_nll, &got, kl, &err),
                   PTQ_OK);
  for (int i = 0; i < TOKENS - 1; i++) sum += (double)kl_row[i];
  assert_close("sum of positions", sum, got.kl, 1e-6); /* float32 values */
}

/* Equal logits everywhere: token 0 is everyone's most probable one. */
static void ties_go_to_the_lower_id(void **state) {
  fixture *f = *state;
  float zero[TOKENS * WIDTH] = {0}, up[TOKENS * WIDTH] = {0};
  ptq_head head = {0};
  ptq_err err = {0};
  assert_int_equal(ptq_alloc(&head.weight, (int64_t)VOCAB * WIDTH,
                             sizeof(float), "head", &err),
                   PTQ_OK);
  for (int i = 0; i < TOKENS; i++) up[i * WIDTH] = 1.0F;
  const float *cand[1] = {up};
  double ref_nll;
  ptq_window_score got;
  for (int64_t winner = 0; winner < 3; winner++) {
    /* One logit above the rest, in each slice in turn: token 0 only agrees
     * with the tie of the reference. */
    const int64_t v = winner * PTQ_HEAD_SLICE;
    head.weight[v * WIDTH] = 2.0F;
    assert_int_equal(ptq_score_window(f->scorer, &head, f->ids, TOKENS, zero,
                                      cand, 1, &ref_nll, &got, NULL, &err),
                     PTQ_OK);
    assert_int_equal(got.top1, winner == 0 ? TOKENS - 1 : 0);
    assert_close("uniform nll", ref_nll, (TOKENS - 1) * log(VOCAB), 1e-6);
    head.weight[v * WIDTH] = 0.0F;
  }
  ptq_free(head.weight);
}

static void misuse_is_refused(void **state) {
  const fixture *f = *state;
  double ref_nll;
  ptq_window_score got[CANDS];
  uint32_t ids[TOKENS];
  memcpy(ids, f->ids, sizeof ids);
  ids[5] = VOCAB;
  ptq_err err = {0};
  assert_int_equal(ptq_score_window(f->scorer, &f->head, ids, TOKENS, f->ref,
                                    f->cands, 1, &ref_nll, got, NULL, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "token 5 of the window is 5001"));
  assert_int_equal(ptq_score_window(f->scorer, &f->head, ids, 1, f->ref,
                                    f->cands, 1, &ref_nll, got, NULL, NULL),
                   PTQ_E_ARG);
  assert_int_equal(
      ptq_score_window(f->scorer, &f->head, ids, TOKENS + 1, f->ref, f->cands,
                       1, &ref_nll, got, NULL, NULL),
      PTQ_E_ARG);
  assert_int_equal(
      ptq_score_window(f->scorer, &f->head, f->ids, TOKENS, f->ref, f->cands,
                       CANDS + 1, &ref_nll, got, NULL, NULL),
      PTQ_E_ARG);
  ptq_scorer *none = NULL;
  assert_int_equal(ptq_scorer_create(&f->info, 1, 0, &none, NULL), PTQ_E_ARG);
  assert_null(none);
  assert_true(ptq_scorer_bytes(&f->info, TOKENS, 1) <
              ptq_scorer_bytes(&f->info, TOKENS, 2));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sums_equal_dense_float64_loops),
      cmocka_unit_test(a_model_equal_to_the_reference_differs_by_exactly_zero),
      cmocka_unit_test(bits_do_not_depend_on_the_other_candidates),
      cmocka_unit_test(a_nan_spoils_its_own_candidate_only),
      cmocka_unit_test(per_position_kl_adds_up_to_the_window),
      cmocka_unit_test(ties_go_to_the_lower_id),
      cmocka_unit_test(misuse_is_refused),
  };
  return cmocka_run_group_tests_name("eval/score", tests, setup, teardown);
}
