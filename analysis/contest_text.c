/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <stdio.h>

#include "ptq/analysis/summary.h"

static void row(const ptq_entry *e, const ptq_validation *v, ptq_text *out) {
  const ptq_accuracy *a = &v->all;
  ptq_text_addf(out, "    %-18s %-11s %5lld ", e->recipe.name,
                ptq_tier_name(e->recipe.tier), (long long)a->n);
  ptq_text_column(out, 7, 3, a->median);
  ptq_text_addf(out, " %7.3f ", a->median_base);
  ptq_text_column(out, 8, 3, a->r2);
  ptq_text_add(out, " ");
  ptq_text_column(out, 8, 4, a->mae);
  ptq_text_addf(out, " %6.3f %5.0f%s", a->rank, 100.0 * a->coverage,
                v->n_outside > 0 ? " *" : "");
  if (v->n_failed > 0)
    ptq_text_addf(out, "  not without %lld of %lld", (long long)v->n_failed,
                  (long long)v->n_folds);
  ptq_text_add(out, "\n");
}

static void table(const ptq_contest *c, int s, ptq_text *out) {
  const ptq_split *split = ptq_split_at((size_t)s);
  int64_t n_groups = 0;
  bool outside = false;
  for (int i = 0; i < c->n; i++)
    if (s < c->entry[i].n_splits) n_groups = c->entry[i].splits[s].n_groups;
  if (split->held && n_groups == 0) return;
  ptq_text_addf(out, "  %s", split->name);
  if (n_groups < split->least) {
    ptq_text_addf(out, ": needs %d, the store has %lld\n", split->least,
                  (long long)n_groups);
    return;
  }
  ptq_text_addf(out, " (%lld)\n    %-18s %-11s %5s %7s %7s %8s %8s %6s %5s\n",
                (long long)n_groups, "law", "features", "n", "median", "base",
                "R2", "MAE", "rank", "cov %");
  for (int i = 0; i < c->n; i++) {
    const ptq_entry *e = &c->entry[c->order[s][i]];
    if (!e->learned || e->splits[s].all.n == 0) continue;
    outside = outside || e->splits[s].n_outside > 0;
    row(e, &e->splits[s], out);
  }
  if (outside)
    ptq_text_add(out, "    * some points lie outside of the range that was "
                      "learned from\n");
  for (int i = 0; i < c->n; i++) {
    const ptq_entry *e = &c->entry[i];
    if (e->learned && e->splits[s].all.n == 0)
      ptq_text_addf(out, "    %-18s predicts none of them: %s\n",
                    e->recipe.name,
                    e->splits[s].n_failed > 0
                        ? e->splits[s].failure
                        : "levels or values unseen in training, or none in "
                          "the band");
  }
}

void ptq_contest_text(const ptq_contest *c, ptq_text *out) {
  if (c->n == 0) return;
  ptq_text_addf(
      out,
      "all laws under each split, best first: median |ln(predicted/measured)| "
      "for %g < dnll < %g,\nthe baseline's, R2 of ln(dnll), MAE in nats, rank "
      "correlation, coverage of the 90 %% interval\n",
      PTQ_BAND_LOW, PTQ_BAND_HIGH);
  for (int s = 0; s < c->n_splits; s++) table(c, s, out);
  for (int i = 0; i < c->n; i++)
    if (!c->entry[i].learned)
      ptq_text_addf(out, "  %-18s %s\n", c->entry[i].recipe.name,
                    c->entry[i].failure);
  ptq_text_add(out, "\nnonlinear laws (clustered errors in parentheses)\n");
  for (int i = 0; i < c->n; i++) {
    const ptq_entry *e = &c->entry[i];
    const ptq_curve_fit *f = &e->curve;
    if (e->recipe.curve == NULL || !e->learned) continue;
    ptq_text_addf(out, "  %-18s %s:", e->recipe.name, f->curve->equation);
    for (int j = 0; j < ptq_curve_n_params(f->curve); j++)
      ptq_text_addf(out, "%s %s %.4g (%.2g)", j > 0 ? "," : "",
                    f->curve->params[j].name, f->q[j], f->std_error_cluster[j]);
    ptq_text_addf(out, "; R2 %.3f, %d of %d starts agree", f->r2, f->n_agree,
                  f->n_starts);
    if (f->n_left + f->n_right > 0)
      ptq_text_addf(out, "; %lld points censored below, %lld collapsed above",
                    (long long)f->n_left, (long long)f->n_right);
    ptq_text_add(out, "\n");
  }
  ptq_text_add(out, "\n");
}
