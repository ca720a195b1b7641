/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which tokens go to which experts, as transformers' mixtures choose: the
 * largest of softmax(router x); of equals the first expert. The choice is a
 * constant of the derivatives: what moves are the weights of the chosen. These
 * are probabilities of a softmax over all experts, or over the chosen, and
 * either way their derivatives are a softmax's, by rows of `odds` that are 0
 * where no expert counts. */
#include <math.h>
#include <string.h>

#include "op.h"
#include "ptq/num/kernels.h"

/* The k likeliest of a token, likeliest first. Odds are taken out as they are
 * chosen: none is below 0. */
static void choose(const ptq_model_info *info, ptq_real *odds, int32_t *chosen,
                   ptq_real *share) {
  ptq_real sum = 0.0F;
  for (int64_t k = 0; k < info->experts_used; k++) {
    int64_t best = 0;
    share[k] = PTQ_VEC(max, odds, info->n_experts, &best);
    chosen[k] = (int32_t)best;
    odds[best] = -1.0F;
    sum += share[k];
  }
  if (info->experts_share_one) {
    for (int64_t k = 0; k < info->experts_used; k++) share[k] /= sum;
    memset(odds, 0, (size_t)info->n_experts * sizeof *odds);
  }
  for (int64_t k = 0; k < info->experts_used; k++) odds[chosen[k]] = share[k];
}

/* NaN goes on to the output, by experts that are as good as any. */
static void choose_any(const ptq_model_info *info, int32_t *chosen,
                       ptq_real *share) {
  for (int64_t k = 0; k < info->experts_used; k++) {
    chosen[k] = (int32_t)k;
    share[k] = NAN;
  }
}

void ptq_route_scores(const ptq_model_info *info, int64_t n,
                      ptq_workspace *ws) {
  const int64_t e = info->n_experts, used = info->experts_used;
  for (int64_t i = 0; i < n; i++) {
    ptq_real *odds = ws->odds + i * e;
    const double sum = PTQ_VEC(exp, odds, e, PTQ_VEC(max, odds, e, NULL), odds);
    int32_t *chosen = ws->chosen + i * used;
    ptq_real *share = ws->share + i * used;
    if (!PTQ_VEC(all_finite, odds, e) || !isfinite(sum)) {
      choose_any(info, chosen, share);
      continue;
    }
    PTQ_VEC(scale, (ptq_real)(1.0 / sum), e, odds);
    choose(info, odds, chosen, share);
  }
}

ptq_status ptq_route(const ptq_model_info *info, const ptq_linear *router,
                     const ptq_real *x, int64_t n, ptq_workspace *ws,
                     ptq_err *err) {
  const ptq_status rc = ptq_linear_product(router, x, n, ws, ws->odds, err);
  if (rc == PTQ_OK) ptq_route_scores(info, n, ws);
  return rc;
}

void ptq_route_jvp(const ptq_linear *router, const ptq_real *odds,
                   const ptq_real *xd, int64_t n, ptq_real *oddsd) {
  const int64_t e = router->out;
  ptq_linear_apply(router, xd, n, oddsd);
  for (int64_t i = 0; i < n; i++) {
    const ptq_real *p = odds + i * e;
    ptq_real *pd = oddsd + i * e;
    const ptq_real mean = (ptq_real)PTQ_DIFF(soft_jvp, p, e, pd);
    for (int64_t k = 0; k < e; k++) pd[k] -= mean * p[k];
  }
}

/* dx += ds W */
static void leave(const ptq_linear *router, const ptq_real *ds, int64_t n,
                  ptq_real *dx) {
  const int64_t e = router->out, d = router->in;
  PTQ_GEMM(nn, n, d, e, 1.0F, ds, e, router->weight, d, 1.0F, dx, d);
}

void ptq_route_vjp(const ptq_linear *router, const ptq_real *odds, int64_t n,
                   ptq_real *dodds, ptq_real *dx) {
  const int64_t e = router->out;
  for (int64_t i = 0; i < n; i++) {
    const ptq_real *p = odds + i * e;
    ptq_real *dp = dodds + i * e;
    const ptq_real mean = (ptq_real)PTQ_VEC(dot, p, dp, e);
    PTQ_DIFF(soft, p, dp, e, mean, NULL, dp);
  }
  leave(router, dodds, n, dx);
}

void ptq_route_tangent(const ptq_linear *router, const ptq_real *odds,
                       const ptq_real *oddsd, const ptq_real *xd,
                       const ptq_real *dodds, int64_t n, ptq_real *doddsd,
                       ptq_real *scratch, ptq_real *dxd) {
  const int64_t e = router->out;
  ptq_real *t = scratch + n * e;
  ptq_linear_apply(router, xd, n, scratch);
  for (int64_t i = 0; i < n; i++) {
    const ptq_real *p = odds + i * e, *pd = oddsd + i * e;
    const ptq_real *dp = dodds + i * e;
    ptq_real *sd = scratch + i * e, *dpd = doddsd + i * e;
    const ptq_real mean = (ptq_real)PTQ_VEC(dot, p, dp, e);
    const ptq_real drift = (ptq_real)PTQ_VEC(dot, p, sd, e);
    const ptq_real meand =
        (ptq_real)(PTQ_VEC(dot, pd, dp, e) + PTQ_VEC(dot, p, dpd, e));
    for (int64_t k = 0; k < e; k++) t[k] = dp[k] - mean;
    PTQ_DIFF(soft_tangent, p, t, e, drift, meand, sd, dpd);
  }
  leave(router, doddsd, n, dxd);
}

int64_t ptq_route_members(const ptq_model_info *info, int expert, int64_t n,
                          ptq_workspace *ws) {
  const int64_t used = info->experts_used;
  int64_t m = 0;
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < used; k++) {
      if (ws->chosen[i * used + k] != expert) continue;
      ws->members[m] = (int32_t)i;
      ws->member_share[m] = ws->share[i * used + k];
      m++;
    }
  return m;
}

void ptq_rows_gather(const ptq_real *x, int64_t width, const int32_t *members,
                     int64_t m, ptq_real *rows) {
  for (int64_t i = 0; i < m; i++)
    memcpy(rows + i * width, x + members[i] * width,
           (size_t)width * sizeof *rows);
}

void ptq_rows_add(const ptq_real *rows, int64_t width, const int32_t *members,
                  int64_t m, ptq_real *x) {
  for (int64_t i = 0; i < m; i++)
    PTQ_VEC(add, rows + i * width, width, x + members[i] * width);
}
