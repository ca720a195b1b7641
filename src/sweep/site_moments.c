/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "site_moments.h"

#include <string.h>

#include "ptq/num/moment.h"
#include "ptq/quant/method.h"

ptq_status ptq_site_moments_make(ptq_team *team, ptq_site_moments *s,
                                 unsigned needs, int64_t d, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const size_t size = sizeof(double);
  if (s->h != NULL) return PTQ_OK;
  PTQ_TRY(ptq_team_alloc(team, &s->h, d * d, size, "H", err));
  if (needs & PTQ_NEED_HOLDOUT) {
    PTQ_TRY(ptq_team_alloc(team, &s->h_train, d * d, size, "H", err));
    PTQ_TRY(ptq_team_alloc(team, &s->h_holdout, d * d, size, "H", err));
  }
  if (needs & PTQ_NEED_CROSS)
    PTQ_TRY(ptq_team_alloc(team, &s->cross, d * d, size, "cross moment", err));
  if (needs & PTQ_NEED_MEAN_ABS)
    PTQ_TRY(ptq_team_alloc(team, &s->mean_abs, d, size, "mean inputs", err));
done:
  return rc;
}

void ptq_site_moments_release(ptq_team *team, ptq_site_moments *s) {
  ptq_team_free(team, s->h);
  ptq_team_free(team, s->h_train);
  ptq_team_free(team, s->h_holdout);
  ptq_team_free(team, s->cross);
  ptq_team_free(team, s->mean_abs);
  *s = (ptq_site_moments){0};
}

void ptq_site_moments_clear(const ptq_team *team, ptq_site_moments *s,
                            int64_t d) {
  const size_t size = sizeof(double);
  s->n_tokens = s->n_train = 0;
  if (!ptq_team_leads(team)) return;
  memset(s->h, 0, (size_t)(d * d) * size);
  if (s->cross != NULL) memset(s->cross, 0, (size_t)(d * d) * size);
  if (s->mean_abs != NULL) memset(s->mean_abs, 0, (size_t)d * size);
}

static void identity(double *h, int64_t d) {
  memset(h, 0, (size_t)(d * d) * sizeof *h);
  for (int64_t i = 0; i < d; i++) h[i * (d + 1)] = 1.0;
}

/* Sums of n tokens in full storage, divided by n. */
static void get(double *sum, int64_t n, int64_t d, double *h) {
  const ptq_moment m = {.d = d, .n_tokens = n, .sum = sum};
  if (n > 0)
    ptq_moment_get(&m, h);
  else
    identity(h, d);
}

void ptq_site_moments_close_train(ptq_site_moments *s, int64_t d) {
  get(s->h, s->n_train, d, s->h_train);
}

void ptq_site_moments_close(ptq_site_moments *s, int64_t d) {
  const int64_t held = s->n_tokens - s->n_train;
  const double n = (double)s->n_tokens, train = (double)s->n_train;
  get(s->h, s->n_tokens, d, s->h);
  if (s->h_holdout != NULL && held == 0)
    identity(s->h_holdout, d);
  else if (s->h_holdout != NULL)
    for (int64_t k = 0; k < d * d; k++)
      s->h_holdout[k] = (n * s->h[k] - train * s->h_train[k]) / (n - train);
  for (int64_t k = 0; s->mean_abs != NULL && k < d; k++)
    s->mean_abs[k] = n > 0.0 ? s->mean_abs[k] / n : 1.0;
  for (int64_t k = 0; s->cross != NULL && n > 0.0 && k < d * d; k++)
    s->cross[k] /= n;
}

int64_t ptq_site_moments_bytes(unsigned needs, int64_t d) {
  const int64_t square = d * d * (int64_t)sizeof(double);
  int64_t bytes = square;
  if (needs & PTQ_NEED_HOLDOUT) bytes += 2 * square;
  if (needs & PTQ_NEED_CROSS) bytes += square;
  if (needs & PTQ_NEED_MEAN_ABS) bytes += d * (int64_t)sizeof(double);
  return bytes;
}
