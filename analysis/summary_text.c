/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/analysis/summary.h"
#include "ptq/analysis/tally.h"

void ptq_group_text(int64_t group, char text[24]) {
  if (group > 0)
    (void)snprintf(text, 24, "%lld", (long long)group);
  else
    (void)snprintf(text, 24, "%s", group < 0 ? "row" : "tensor");
}

void ptq_obs_name(const ptq_obs *o, char *text, size_t size) {
  const ptq_point_row *p = o->point;
  char group[24];
  ptq_group_text(p->group, group);
  (void)snprintf(text, size, "%s %s %s%s%s %s", p->model, p->dtype, p->method,
                 p->options[0] != '\0' ? " " : "", p->options, group);
}

/* "2 mxint2, 1 int3": points of one use by format. */
static void account_formats(const ptq_tally *t, ptq_use use, ptq_text *out) {
  bool first = true;
  for (int64_t i = 0; i < t->n; i++) {
    if (t->row[i].count[use] == 0) continue;
    ptq_text_addf(out, "%s%lld %s", first ? "" : ", ",
                  (long long)t->row[i].count[use], t->row[i].format);
    first = false;
  }
}

void ptq_frame_account(const ptq_frame *f, ptq_text *out) {
  ptq_tally tally;
  const ptq_status rc = ptq_tally_formats(f, &tally, NULL);
  if (rc != PTQ_OK) {
    out->rc = rc;
    return;
  }
  ptq_text_addf(out, "%lld points: ", (long long)f->n);
  bool first = true;
  for (int u = 0; u < PTQ_USE_COUNT; u++) {
    if (f->count[u] == 0) continue;
    ptq_text_addf(out, "%s%lld %s", first ? "" : ", ", (long long)f->count[u],
                  ptq_use_name((ptq_use)u));
    first = false;
    if (u != PTQ_USE_COLLAPSED && u != PTQ_USE_FAILED) continue;
    ptq_text_add(out, " (");
    account_formats(&tally, (ptq_use)u, out);
    ptq_text_add(out, ")");
  }
  if (first) ptq_text_add(out, "none");
  ptq_tally_release(&tally);
  if (f->n_held > 0)
    ptq_text_addf(out, "; %lld of them of models held out for good",
                  (long long)f->n_held);
}

void ptq_fit_equation(const ptq_fit *f, ptq_text *out) {
  ptq_text_add(out, "dnll = exp(");
  for (int64_t j = 0; j < f->matrix.k; j++) {
    const double b = f->coef[j].estimate;
    if (j == 0)
      ptq_text_addf(out, "%.4g", b);
    else
      ptq_text_addf(out, " %c %.4g %s", b < 0.0 ? '-' : '+', fabs(b),
                    f->matrix.columns[j].name);
  }
  ptq_text_add(out, ")");
}

void ptq_fit_effect(const ptq_fit *f, int64_t j, char *text, size_t size) {
  const ptq_column *c = &f->matrix.columns[j];
  const ptq_part *p = &c->term.parts[0];
  const double b = f->coef[j].estimate;
  text[0] = '\0';
  if (c->term.n_parts != 1) return;
  if (p->factor != NULL) {
    const char *base = "";
    for (int64_t i = 0; i < f->matrix.n_levels; i++)
      if (f->matrix.levels[i].factor == p->factor &&
          f->matrix.levels[i].reference)
        base = f->matrix.levels[i].name;
    (void)snprintf(text, size, "%s instead of %s: dnll x %.3g", c->level[0],
                   base, exp(b));
  } else if (p->transform == PTQ_TF_LOG) {
    (void)snprintf(text, size, "2 x %s: dnll x %.3g", p->feature->name,
                   exp(b * log(2.0)));
  } else if (p->transform == PTQ_TF_NONE) {
    (void)snprintf(text, size, "1 %s%smore %s: dnll x %.3g", p->feature->unit,
                   p->feature->unit[0] != '\0' ? " " : "", p->feature->name,
                   exp(b));
  }
}

static void coefficients(const ptq_fit *f, ptq_text *out) {
  int width = 12, unknown = 0;
  for (int64_t j = 0; j < f->matrix.k; j++) {
    const int n = (int)strlen(f->matrix.columns[j].name);
    if (n > width) width = n;
  }
  ptq_text_addf(out, "  %-*s %10s %10s %10s %6s %8s %9s %22s %7s\n", width, "",
                "estimate", "std.error", "clustered", "df", "t", "p",
                "95 % interval", "VIF");
  for (int64_t j = 0; j < f->matrix.k; j++) {
    const ptq_coefficient *c = &f->coef[j];
    char interval[64], vif[32] = "";
    (void)snprintf(interval, sizeof interval, "[%.4g, %.4g]", c->ci_low,
                   c->ci_high);
    if (!isnan(c->vif))
      (void)snprintf(vif, sizeof vif, c->vif < 1e5 ? "%.1f" : "%.3g", c->vif);
    ptq_text_addf(out, "  %-*s %10.4g %10.3g %10.3g %6.1f ", width,
                  f->matrix.columns[j].name, c->estimate, c->std_error,
                  c->std_error_cluster, c->df);
    ptq_text_column(out, 8, 2, c->t);
    ptq_text_addf(out, " %9.2g %22s %7s\n", c->p, interval, vif);
    unknown += isnan(c->std_error_cluster) && f->matrix.n_clusters > 1;
  }
  if (unknown > 0)
    ptq_text_addf(out,
                  "  %d without a clustered error: each is determined by one "
                  "model alone, or by too few\n",
                  unknown);
}

/* "llama-1m int3 rtn 32, ..." of the first few rows left out. */
static void name_left_out(const ptq_fit *f, ptq_text *out) {
  enum { NAMED = 4 };
  for (int64_t i = 0; i < f->n_left_out && i < NAMED; i++) {
    const ptq_left_out *l = &f->left_out[i];
    char name[256];
    ptq_obs_name(l->obs, name, sizeof name);
    ptq_text_addf(out, "%s%s (%s%s%s)", i == 0 ? "    " : ", ", name, l->why,
                  l->column[0] != '\0' ? " " : "", l->column);
  }
  if (f->n_left_out > NAMED)
    ptq_text_addf(out, " and %lld more; --json names all",
                  (long long)(f->n_left_out - NAMED));
  if (f->n_left_out > 0) ptq_text_add(out, "\n");
}

/* What did not take part, and why: never in silence. */
static void left_out(const ptq_fit *f, const ptq_frame *frame, ptq_text *out) {
  const ptq_matrix *m = &f->matrix;
  if (f->n_left > 0)
    ptq_text_addf(out,
                  "  dnll < 2 dnll_se or not positive at %lld points: %s\n",
                  (long long)f->n_left,
                  f->estimator->on_log ? "left-censored at 2 dnll_se"
                                       : "taken as measured");
  if (f->n_right > 0)
    ptq_text_addf(out,
                  "  %lld collapsed points: right-censored at the unigram "
                  "model's loss\n",
                  (long long)f->n_right);
  if (f->n_excluded > 0)
    ptq_text_addf(out, "  %lld points left out: %s\n", (long long)f->n_excluded,
                  f->estimator->excludes);
  if (f->n_unbounded > 0)
    ptq_text_addf(out,
                  "  %lld points left out: no logarithm of dnll and no "
                  "dnll_se that bounds it\n",
                  (long long)f->n_unbounded);
  if (m->n_lost > 0)
    ptq_text_addf(out, "  %lld points left out for want of a finite value:",
                  (long long)m->n_lost);
  for (int64_t i = 0; i < m->n_unusable; i++)
    ptq_text_addf(out, "%s %s (%lld)", i > 0 ? "," : "", m->unusable[i].name,
                  (long long)m->unusable[i].n);
  if (m->n_lost > 0) ptq_text_add(out, "\n");
  name_left_out(f, out);
  for (int64_t i = 0; i < m->n_dropped; i++)
    ptq_text_addf(out, "  column %s dropped: %s\n", m->dropped[i].name,
                  m->dropped[i].why);
  for (int u = PTQ_USE_DEQUANTIZED; u < PTQ_USE_COUNT; u++)
    if (frame->count[u] > 0)
      ptq_text_addf(out, "  %lld %s: %s\n", (long long)frame->count[u],
                    ptq_use_name((ptq_use)u), ptq_use_text((ptq_use)u));
  if (m->n_clusters < 2)
    ptq_text_add(out,
                 "  one model only: t, p and interval are classical, and say "
                 "nothing of other models\n");
}

static void diagnostics(const ptq_fit *f, ptq_text *out) {
  const ptq_diagnostics *d = &f->diagnostics;
  double vif = 0.0;
  for (int64_t j = 1; j < f->matrix.k; j++) vif = fmax(vif, f->coef[j].vif);
  if (!isnan(d->jarque_bera))
    ptq_text_addf(out, "  residuals: Jarque-Bera %.3g (p %.2g)%s",
                  d->jarque_bera, d->jarque_bera_p,
                  d->jarque_bera_p < 0.05 ? " not normal" : "");
  if (!isnan(d->jarque_bera) && !isnan(d->breusch_pagan))
    ptq_text_addf(out, "; Breusch-Pagan %.3g (p %.2g)%s", d->breusch_pagan,
                  d->breusch_pagan_p,
                  d->breusch_pagan_p < 0.05 ? " variance not constant" : "");
  if (!isnan(d->jarque_bera)) ptq_text_add(out, "\n");
  if (f->matrix.k > 1)
    ptq_text_addf(out, "  columns: condition %.3g, largest VIF %.3g%s\n",
                  d->condition, vif,
                  vif > 10.0 ? " (collinear: single coefficients are "
                               "uncertain, predictions are not)"
                             : "");
  for (int i = 0; i < d->n_cook && i < 3; i++) {
    char name[256];
    ptq_obs_name(f->matrix.obs[d->cook[i].row], name, sizeof name);
    ptq_text_addf(
        out, "%s%s (%.2g)%s", i == 0 ? "  largest Cook's distances: " : ", ",
        name, d->cook[i].distance, i == 2 || i + 1 == d->n_cook ? "\n" : "");
  }
}

static void accuracy_row(const char *what, const ptq_accuracy *a,
                         ptq_text *out) {
  const double thirds[] = {a->median, a->median_base, a->r2, a->r2_base};
  ptq_text_addf(out, "    %-10s %6lld", what, (long long)a->n);
  for (size_t i = 0; i < sizeof thirds / sizeof *thirds; i++) {
    ptq_text_add(out, " ");
    ptq_text_column(out, 8, 3, thirds[i]);
  }
  ptq_text_add(out, " ");
  ptq_text_column(out, 8, 4, a->mae);
  ptq_text_add(out, " ");
  ptq_text_column(out, 8, 4, a->mae_base);
  ptq_text_addf(out, " %8.0f\n", 100.0 * a->coverage);
}

static void validation(const ptq_validation *v, ptq_text *out) {
  if (v->split->held && v->n_groups == 0) return;
  if (v->n_groups < v->split->least) {
    ptq_text_addf(out, "  %s: needs %d, the store has %lld\n", v->split->name,
                  v->split->least, (long long)v->n_groups);
    return;
  }
  ptq_text_addf(out, "  %s (%lld)", v->split->name, (long long)v->n_groups);
  if (v->n_failed > 0)
    ptq_text_addf(out, "; %lld cannot be held out: %s", (long long)v->n_failed,
                  v->failure);
  if (v->n_unpredicted > 0)
    ptq_text_addf(out,
                  "; %lld points have a level or value unseen without "
                  "their %s",
                  (long long)v->n_unpredicted, v->split->what);
  if (v->n_outside > 0)
    ptq_text_addf(out, "; %lld points lie outside of what it was learned from",
                  (long long)v->n_outside);
  ptq_text_add(out, "\n");
  if (v->all.n == 0) {
    ptq_text_addf(out, "    no held-out point has %g < dnll < %g\n",
                  PTQ_BAND_LOW, PTQ_BAND_HIGH);
    return;
  }
  accuracy_row("all", &v->all, out);
  for (int b = 0; b < PTQ_BITS_MAX; b++) {
    char what[24];
    (void)snprintf(what, sizeof what, "%d bits", b);
    if (v->by_bits[b].n > 0) accuracy_row(what, &v->by_bits[b], out);
  }
}

static void validations(const ptq_law_result *r, ptq_text *out) {
  if (ptq_matrix_tier(&r->fit.matrix) == PTQ_TIER_DISPLACED)
    ptq_text_add(out,
                 "  the formula has a column of tier 'displaced': it knows the "
                 "loss along quantization's\n  own displacements, so it "
                 "describes and does not predict\n");
  ptq_text_addf(out,
                "  held-out points with %g < dnll < %g; base is the median "
                "of the dtype over the training points\n"
                "    %-10s %6s %17s %17s %17s %8s\n"
                "    %-10s %6s %8s %8s %8s %8s %8s %8s %8s\n",
                PTQ_BAND_LOW, PTQ_BAND_HIGH, "", "", "med |ln(p/m)|",
                "R2 of ln(dnll)", "MAE, nats", "90 % int.", "", "n", "law",
                "base", "law", "base", "law", "base", "covers %");
  for (int i = 0; i < r->n_splits; i++) validation(&r->splits[i], out);
}

static void law_block(const ptq_law_result *r, const ptq_frame *frame,
                      ptq_text *out) {
  ptq_text_addf(out, "%s, by %s\n", r->name, r->estimator->title);
  if (!r->fitted) {
    ptq_text_addf(out, "  not fitted: %s\n\n", r->failure);
    return;
  }
  const ptq_fit *f = &r->fit;
  ptq_text_addf(out, "  %s\n", r->formula);
  ptq_text_addf(out, "  n = %lld points of %d models", (long long)f->matrix.n,
                f->matrix.n_models);
  if (f->matrix.n_clusters < f->matrix.n_models)
    ptq_text_addf(out, " from %d training runs", f->matrix.n_clusters);
  ptq_text_addf(out, " in %d families", f->matrix.n_families);
  if (f->power > 0.0)
    ptq_text_addf(out, "; variance = %.4g mean^%g%s%s\n", f->scale, f->power,
                  f->noise ? " + dnll_se^2" : "",
                  f->power_lowered ? PTQ_POWER_LOWERED : "");
  else
    ptq_text_addf(out, "; sigma of ln(dnll) = %.4g\n", f->scale);
  left_out(f, frame, out);
  ptq_text_add(out, "\n");
  coefficients(f, out);
  ptq_text_addf(out,
                "\n  R2 = %.4f (adjusted %.4f) of ln(dnll) above noise, %.4f "
                "of dnll in nats",
                f->r2, f->r2_adjusted, f->r2_nats);
  if (isfinite(f->aic))
    ptq_text_addf(out, "; AIC %.1f, BIC %.1f", f->aic, f->bic);
  ptq_text_add(out, "\n");
  diagnostics(f, out);
  ptq_text_add(out, "\n");
  validations(r, out);
  ptq_text_add(out, "\n");
}

/* The law's coefficients by every estimator, side by side. */
static void estimators(const ptq_summary *s, ptq_text *out) {
  const ptq_law_result *all[PTQ_ALSO_MAX + 2] = {&s->law, &s->beside};
  int n = 2;
  for (int i = 0; i < s->n_also; i++) all[n++] = &s->also[i];
  ptq_text_add(out, "the same formula by every estimator (clustered errors in "
                    "parentheses)\n");
  for (int i = 0; i < n; i++) {
    const ptq_law_result *r = all[i];
    if (!r->fitted) {
      ptq_text_addf(out, "  %-9s not fitted: %s\n", r->estimator->name,
                    r->failure);
      continue;
    }
    ptq_text_addf(out, "  %-9s n %lld", r->estimator->name,
                  (long long)r->fit.matrix.n);
    for (int64_t j = 0; j < r->fit.matrix.k; j++)
      ptq_text_addf(out, "%s %s %.4g (%.2g)", j == 0 ? ":" : ",",
                    r->fit.matrix.columns[j].name, r->fit.coef[j].estimate,
                    r->fit.coef[j].std_error_cluster);
    if (r->fit.tau2 >= 0.0) ptq_text_addf(out, "; tau^2 %.3g", r->fit.tau2);
    if (r->fit.lambda > 0.0)
      ptq_text_addf(out, "; lambda %.3g, %.2f effective slopes", r->fit.lambda,
                    r->fit.edf);
    if (r->fit.n_rejected > 0)
      ptq_text_addf(out, "; %lld points rejected",
                    (long long)r->fit.n_rejected);
    ptq_text_add(out, "\n");
  }
  ptq_text_add(out, "\n");
}

static void resampled(const ptq_summary *s, ptq_text *out) {
  ptq_text_addf(out,
                "the law by cluster bootstrap: %lld resamples of models (seed "
                "1), %lld could not be fitted\n",
                (long long)s->n_resamples, (long long)s->n_resamples_failed);
  for (int64_t j = 0; j < s->law.fit.matrix.k; j++)
    ptq_text_addf(out, "  %-26s std.error %.3g, 95 %% interval [%.4g, %.4g]\n",
                  s->law.fit.matrix.columns[j].name, s->resampled[j].std_error,
                  s->resampled[j].low, s->resampled[j].high);
  ptq_text_add(out, "\n");
}

static void statements(const ptq_statements *all, ptq_text *out) {
  ptq_text_add(out, "what the paper states, tested here (p corrected for "
                    "their number by Holm)\n");
  for (int i = 0; i < all->n; i++) {
    const ptq_statement *s = &all->row[i];
    ptq_text_addf(out, "  %-10s %s: ", ptq_verdict_name(s->verdict), s->text);
    if (s->verdict == PTQ_VERDICT_UNTESTED)
      ptq_text_addf(out, "%s\n", s->why);
    else
      ptq_text_addf(out,
                    "%s %.3g [%.3g, %.3g], p %.2g, Holm %.2g, %lld points of "
                    "%d models%s%s\n",
                    s->test, s->estimate, s->low, s->high, s->p, s->p_holm,
                    (long long)s->n, s->n_models, s->why[0] != '\0' ? "; " : "",
                    s->why);
  }
  ptq_text_add(out, "\n");
}

void ptq_summary_text(const ptq_summary *s, const char *store, ptq_text *out) {
  ptq_text_addf(out, "%s: ", store);
  ptq_frame_account(s->frame, out);
  ptq_text_add(out, "\n\n");
  law_block(&s->law, s->frame, out);
  law_block(&s->beside, s->frame, out);
  if (s->resampled != NULL) resampled(s, out);
  estimators(s, out);
  statements(&s->statements, out);
  ptq_seeds_text(&s->seeds, out);
  if (s->sample.n < s->frame->n)
    ptq_text_addf(out,
                  "validation and comparison use %lld of %lld points, drawn "
                  "at random (seed 1)\n",
                  (long long)s->sample.n, (long long)s->frame->n);
  ptq_contest_text(&s->contest, out);
  ptq_text_add(out, "The law, in nats a token added by quantization:\n  ");
  ptq_fit_equation(&s->law.fit, out);
  ptq_text_add(out, "\n");
  for (int64_t j = 1; j < s->law.fit.matrix.k; j++) {
    char effect[256];
    ptq_fit_effect(&s->law.fit, j, effect, sizeof effect);
    if (effect[0] != '\0') ptq_text_addf(out, "  %s\n", effect);
  }
}
