/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <stdio.h>

#include "ptq/analysis/mixed.h"
#include "ptq/analysis/summary.h"

static void add_row(const ptq_mixed_row *r, ptq_text *out) {
  char name[256];
  ptq_obs_name(r->obs, name, sizeof name);
  ptq_text_addf(out, "  %-52s %7.4f %9.4g %9.2g", name,
                r->obs->point->bits_per_weight, r->obs->point->dnll,
                r->obs->point->dnll_se);
  if (isfinite(r->predicted.dnll))
    ptq_text_addf(out, "  %9.4g [%.3g, %.3g]%s", r->predicted.dnll,
                  r->predicted.low, r->predicted.high, r->ahead ? "" : " *");
  else
    ptq_text_addf(out, "  %9s", "-");
  if (r->uniform == NULL) {
    ptq_text_add(out, "  no uniform format within its bits\n");
    return;
  }
  const ptq_point_row *u = r->uniform->point;
  char group[24];
  ptq_group_text(u->group, group);
  ptq_text_addf(out, "  %s %s, %.4f bits: %.4g, difference %+.3g (%.2g)",
                u->dtype, group, u->bits_per_weight, u->dnll, r->difference,
                r->difference_se);
  if (isfinite(r->equal_bits))
    ptq_text_addf(out, "; at equal bits %.4g", r->equal_bits);
  ptq_text_add(out, "\n");
}

static void add_ratio(const ptq_mixed_ratio *r, const char *what,
                      ptq_text *out) {
  ptq_text_addf(out, "  dnll over %s: %.3f", what, r->ratio);
  if (isnan(r->low))
    ptq_text_add(out, " of one model, so without an interval");
  else
    ptq_text_addf(out, " [%.3f, %.3f] over %d models", r->low, r->high,
                  r->n_models);
  ptq_text_addf(out, " (%lld pairs)", (long long)r->n_pairs);
}

void ptq_mixed_text(const ptq_mixed *m, ptq_text *out) {
  bool behind = false;
  if (m->n == 0) return;
  ptq_text_addf(out,
                "mixed precision, beside the best uniform format of the same "
                "method with at most its bits\n  %-52s %7s %9s %9s  %s\n",
                "point", "bits/w", "dnll", "error",
                "predicted [90 % interval], uniform: dnll, paired difference "
                "(its error)");
  for (int64_t i = 0; i < m->n; i++) {
    add_row(&m->row[i], out);
    behind = behind || (!m->row[i].ahead && isfinite(m->row[i].predicted.dnll));
  }
  if (behind)
    ptq_text_add(out, "  * not of the sweep file: from the errors of the "
                      "point's layers\n");
  if (m->within.n_pairs > 0) {
    add_ratio(&m->within,
              "that of the best uniform format with at most its bits, both "
              "above noise",
              out);
    ptq_text_addf(out,
                  ", which has %.3f bits fewer on average; better by more than "
                  "two errors %lld times, worse %lld times\n",
                  m->fewer, (long long)m->n_better, (long long)m->n_worse);
  }
  if (m->equal.n_pairs > 0) {
    add_ratio(&m->equal,
              "that of uniform formats at equal bits, all above noise", out);
    ptq_text_add(out, ", interpolated on their lower envelope\n");
    if (m->any.n_pairs > m->equal.n_pairs) {
      add_ratio(&m->any, "the same, where the envelope may rest on noise", out);
      ptq_text_add(out, "\n");
    }
  }
  if (m->n_predicted > 0)
    ptq_text_addf(
        out, "  predictions are off by a factor of %.2f (median of %lld)\n",
        exp(m->median_error), (long long)m->n_predicted);
  ptq_text_add(out, "\n");
}
