/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * bench_laws [STORE]: regressions on 40 columns and a forest over 100,000
 * synthetic points of 100 models. With STORE the points are written there,
 * for `ptqsweep report`.
 */
#include <stdio.h>
#include <time.h>

#include "ptq/analysis/fit.h"
#include "ptq/analysis/trees.h"
#include "ptq/num/blas.h"
#include "synthetic_store.h"

enum { MODELS = 100, POINTS = 1000 };

static tables table;

/* Of this process: what else the machine does is not measured. */
static double now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static ptq_model_row *make_model(int k, ptq_rng *r) {
  char name[32];
  (void)snprintf(name, sizeof name, "model-%d", k);
  ptq_model_row *m = tables_model(&table, name, k % 2 == 0 ? "even" : "odd");
  m->params_nonembedding = (int64_t)(3e4 * exp(6.0 * ptq_rng_unit(r)));
  m->params_quantizable = m->params_nonembedding - 1000;
  m->params = m->params_nonembedding + (int64_t)ptq_rng_below(r, 900000);
  m->n_blocks = 2 + (int64_t)ptq_rng_below(r, 30);
  m->d_model = 32 * (1 + (int64_t)ptq_rng_below(r, 20));
  m->d_ff = 32 * (1 + (int64_t)ptq_rng_below(r, 60));
  m->n_heads = 1 + (int64_t)ptq_rng_below(r, 16);
  m->n_kv_heads = 1 + (int64_t)ptq_rng_below(r, 8);
  m->vocab = 1000 + (int64_t)ptq_rng_below(r, 50000);
  m->calib_tokens = 4096 + (int64_t)ptq_rng_below(r, 9000);
  m->nll = 3.0 + ptq_rng_unit(r);
  m->nll_se = 0.02;
  m->nll_byte = 1.0 + 0.1 * ptq_rng_unit(r);
  m->nll_unigram = 6.0 + ptq_rng_unit(r);
  return m;
}

static void make_point(ptq_model_row *m, int i, ptq_rng *r) {
  static const char *const kinds[] = {"mxint", "int", "fp", "nf"};
  static const char *const methods[] = {"rtn", "gptq", "awq", "hqq", "quip"};
  char dtype[16];
  const int bits = 2 + i / 4 % 5;
  (void)snprintf(dtype, sizeof dtype, "%s%d", kinds[i % 4], bits);
  ptq_point_row *p = tables_point(&table, m, dtype, methods[i / 20 % 5],
                                  16LL << (i / 100 % 10));
  p->bits_per_weight = bits + 0.5 * ptq_rng_unit(r);
  p->bits_model = p->bits_per_weight * (double)m->params_quantizable +
                  16.0 * (double)(m->params - m->params_quantizable);
  p->sqnr_weight = 6.0 * bits - 4.0 + tables_normal(r);
  p->sqnr_output = p->sqnr_weight + 2.0 * tables_normal(r);
  p->sqnr_output_prop = p->sqnr_output - 1.0;
  p->dnll = exp(4.0 - 0.2 * log((double)m->params_nonembedding) -
                0.21 * p->sqnr_output + 0.2 * tables_normal(r));
  p->dnll_se = 0.002 + 0.02 * p->dnll;
  p->nll = m->nll + p->dnll;
}

/* 40 columns with the intercept and four methods. */
static const char formula_text[] =
    "log(params) + log(params_nonembedding) + n_blocks + log(n_blocks) + "
    "log(d_model) + d_model + log(d_ff) + d_ff + n_heads + log(n_heads) + "
    "n_kv_heads + log(n_kv_heads) + log(vocab) + vocab + log(calib_tokens) + "
    "nll_model + square(nll_model) + nll_byte_model + headroom + "
    "square(headroom) + bits + square(bits) + bits_per_weight + "
    "square(bits_per_weight) + log(group) + group + sqnr_weight + "
    "square(sqnr_weight) + sqnr_output + square(sqnr_output) + "
    "bits:sqnr_output + bits_per_weight:sqnr_weight + "
    "log(group):sqnr_output + log(params_nonembedding):sqnr_output + "
    "log(params_nonembedding):bits_per_weight + method";

static ptq_status time_fit(const char *name, const ptq_frame *frame,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_estimator *estimator = NULL;
  const ptq_fit_options options = {0};
  ptq_formula formula;
  ptq_fit fit = {0};
  PTQ_TRY(ptq_estimator_find(name, &estimator, err));
  PTQ_TRY(ptq_formula_parse(formula_text, &formula, err));
  const double start = now();
  PTQ_TRY(ptq_fit_frame(estimator, &formula, &options, frame, &fit, err));
  printf("%-8s %lld points, %lld columns, %d models: %.2f s of CPU\n", name,
         (long long)fit.matrix.n, (long long)fit.matrix.k,
         fit.matrix.n_clusters, now() - start);
done:
  ptq_fit_release(&fit);
  return rc;
}

static ptq_status time_forest(const ptq_frame *frame, ptq_err *err) {
  static const char *const features[] = {"params",
                                         "params_nonembedding",
                                         "params_quantizable",
                                         "n_blocks",
                                         "d_model",
                                         "d_ff",
                                         "n_heads",
                                         "n_kv_heads",
                                         "vocab",
                                         "aspect",
                                         "share_quantized",
                                         "bits",
                                         "bits_per_weight",
                                         "bits_model",
                                         "group",
                                         "calib_tokens",
                                         "sqnr_rtn",
                                         "sqnr_weight",
                                         "sqnr_output",
                                         "nll_model",
                                         "nll_byte_model",
                                         "headroom",
                                         "log_params",
                                         "tokens_per_param",
                                         NULL};
  static const char *const factors[] = {"element", "method", "dtype", NULL};
  ptq_status rc = PTQ_OK;
  ptq_grove *grove = NULL;
  const ptq_obs **obs = NULL;
  ptq_trees kind = *ptq_trees_at(0);
  kind.features = features;
  kind.factors = factors;
  PTQ_TRY(ptq_alloc(&obs, frame->n, sizeof *obs, "points", err));
  for (int64_t i = 0; i < frame->n; i++) obs[i] = &frame->obs[i];
  const double start = now();
  PTQ_TRY(ptq_trees_learn(&kind, obs, frame->n, &grove, err));
  printf("%-8s %lld points, 23 features and 3 factors (52 columns), %d "
         "trees: %.1f s of CPU\n",
         kind.name, (long long)ptq_grove_n_points(grove),
         ptq_grove_n_trees(grove), now() - start);
done:
  ptq_grove_free(grove);
  ptq_free(obs);
  return rc;
}

int main(int argc, char **argv) {
  ptq_status rc = PTQ_OK;
  ptq_err err = {0};
  ptq_frame frame = {0};
  ptq_rng rng;
  ptq_rng_init(&rng, 1);
  MPI_Init(&argc, &argv);
  PTQ_TRY(ptq_blas_init(&err));
  for (int m = 0; m < MODELS; m++) {
    ptq_model_row *model = make_model(m, &rng);
    for (int i = 0; i < POINTS; i++) make_point(model, i, &rng);
  }
  if (argc > 1) PTQ_TRY(synthetic_store(&table, argv[1], &err));
  const ptq_frame_source source = tables_source(&table);
  PTQ_TRY(ptq_frame_build(&source, &frame, &err));
  PTQ_TRY(time_fit("ols", &frame, &err));
  PTQ_TRY(time_fit("quasi", &frame, &err));
  PTQ_TRY(time_forest(&frame, &err));
done:
  if (rc != PTQ_OK) fprintf(stderr, "bench_laws: %s\n", err.msg);
  ptq_frame_release(&frame);
  MPI_Finalize();
  return rc == PTQ_OK ? 0 : 1;
}
