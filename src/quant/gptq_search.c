/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gptq_search.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/num/moment.h"

static const double dampings[] = {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0};
_Static_assert(sizeof dampings / sizeof dampings[0] == PTQ_GPTQ_DAMPINGS,
               "the header's number");

typedef struct search {
  float *h;     /* owned; [cols, cols] of the holdout */
  float *error; /* owned; largest [rows, cols] */
  float *product;
  double *best; /* owned; [n] least loss so far */
} search;

static void search_release(search *s) {
  ptq_free(s->h);
  ptq_free(s->error);
  ptq_free(s->product);
  ptq_free(s->best);
}

static ptq_status search_init(search *s, const ptq_quant_input *in, int n,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t cols = in->cols;
  int64_t rows = 0;
  const char *what = "a search for damping";
  *s = (search){0};
  for (int i = 0; i < n; i++) rows = in[i].rows > rows ? in[i].rows : rows;
  PTQ_TRY(ptq_alloc(&s->h, cols * cols, sizeof *s->h, what, err));
  PTQ_TRY(ptq_alloc(&s->error, rows * cols, sizeof *s->error, what, err));
  PTQ_TRY(ptq_alloc(&s->product, rows * cols, sizeof *s->product, what, err));
  PTQ_TRY(ptq_alloc(&s->best, n, sizeof *s->best, what, err));
  for (int64_t i = 0; i < cols * cols; i++) s->h[i] = (float)in->h_holdout[i];
  for (int i = 0; i < n; i++) s->best[i] = (double)INFINITY;
done:
  if (rc != PTQ_OK) search_release(s);
  return rc;
}

static double loss_of(const search *s, const ptq_gptq_job *job) {
  for (int64_t i = 0; i < job->rows * job->cols; i++)
    s->error[i] = job->w[i] - job->y[i];
  return ptq_moment_quadratic(s->error, job->rows, s->h, job->cols, s->product);
}

/* All layers with one damping; a numerical failure is a loss of infinity. */
static ptq_status try_damping(const search *s, const ptq_quant_input *in,
                              ptq_gptq_job *jobs, int n, int64_t run,
                              double asked, double *damp, ptq_err *err) {
  ptq_gptq_factor *f = NULL;
  ptq_err why = {0};
  ptq_status rc = ptq_gptq_factor_create(in->h_train, in->cols, asked, run,
                                         in->threads, &f, &why);
  if (rc == PTQ_OK && f->damp > asked) rc = PTQ_E_NUMERIC; /* tried later */
  for (int i = 0; i < n && rc == PTQ_OK; i++) {
    jobs[i].factor = f;
    const ptq_status ran = ptq_gptq_run(&jobs[i], &why);
    jobs[i].factor = NULL;
    if (ran != PTQ_OK && ran != PTQ_E_NUMERIC) rc = ran;
    if (ran != PTQ_OK) continue;
    const double loss = loss_of(s, &jobs[i]);
    if (!(loss < s->best[i])) continue;
    s->best[i] = loss;
    damp[i] = asked;
  }
  ptq_gptq_factor_free(f);
  if (rc == PTQ_OK || rc == PTQ_E_NUMERIC) return PTQ_OK;
  if (err != NULL && err->code == PTQ_OK) *err = why;
  return rc;
}

ptq_status ptq_gptq_search(const ptq_quant_input *in, ptq_gptq_job *jobs, int n,
                           int64_t run, double *damp, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  search s;
  PTQ_TRY(search_init(&s, in, n, err));
  for (int i = 0; i < n; i++) damp[i] = 1.0;
  for (int k = 0; k < PTQ_GPTQ_DAMPINGS && rc == PTQ_OK; k++)
    rc = try_damping(&s, in, jobs, n, run, dampings[k], damp, err);
  search_release(&s);
done:
  return rc;
}
