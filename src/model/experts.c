/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which tokens go to which experts, as transformers' mixtures choose: the
 * largest of softmax(router x), in float32; of equals the first expert. */
#include <math.h>
#include <string.h>

#include "ptq/num/blas.h"
#include "ptq/num/vec.h"
#include "workspace.h"

/* The k likeliest of a token, likeliest first. Odds are taken out as they are
 * chosen: none is below 0. */
static void choose(const ptq_model_info *info, float *odds, int32_t *chosen,
                   float *share) {
  float sum = 0.0F;
  for (int64_t k = 0; k < info->experts_used; k++) {
    int64_t best = 0;
    share[k] = ptq_vec_max(odds, info->n_experts, &best);
    chosen[k] = (int32_t)best;
    odds[best] = -1.0F;
    sum += share[k];
  }
  if (info->experts_share_one)
    for (int64_t k = 0; k < info->experts_used; k++) share[k] /= sum;
}

/* NaN goes on to the output, by experts that are as good as any. */
static void choose_any(const ptq_model_info *info, int32_t *chosen,
                       float *share) {
  for (int64_t k = 0; k < info->experts_used; k++) {
    chosen[k] = (int32_t)k;
    share[k] = NAN;
  }
}

void ptq_route(const ptq_model_info *info, const ptq_linear *router,
               const float *x, int64_t n, ptq_workspace *ws) {
  const int64_t e = info->n_experts, used = info->experts_used;
  ptq_sgemm_nt(n, e, info->d_model, 1.0F, x, info->d_model, router->weight,
               info->d_model, 0.0F, ws->odds, e);
  for (int64_t i = 0; i < n; i++) {
    float *odds = ws->odds + i * e;
    const double sum = ptq_vec_exp(odds, e, ptq_vec_max(odds, e, NULL), odds);
    int32_t *chosen = ws->chosen + i * used;
    float *share = ws->share + i * used;
    if (!ptq_vec_all_finite(odds, e) || !isfinite(sum)) {
      choose_any(info, chosen, share);
      continue;
    }
    ptq_vec_scale((float)(1.0 / sum), e, odds);
    choose(info, odds, chosen, share);
  }
}

int64_t ptq_route_gather(const ptq_model_info *info, int expert, const float *x,
                         int64_t n, ptq_workspace *ws) {
  const int64_t used = info->experts_used, d = info->d_model;
  int64_t m = 0;
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < used; k++) {
      if (ws->chosen[i * used + k] != expert) continue;
      ws->members[m] = (int32_t)i;
      ws->member_share[m] = ws->share[i * used + k];
      memcpy(ws->member_x + m * d, x + i * d, (size_t)d * sizeof *x);
      m++;
    }
  return m;
}

void ptq_route_scatter(const ptq_model_info *info, int64_t m, ptq_workspace *ws,
                       float *y) {
  const int64_t d = info->d_model;
  for (int64_t i = 0; i < m; i++) {
    ptq_vec_scale(ws->member_share[i], d, ws->member_y + i * d);
    ptq_vec_add(ws->member_y + i * d, d, y + ws->members[i] * d);
  }
}
