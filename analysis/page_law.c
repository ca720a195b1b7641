/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The law, its coefficients, its validation: the report's tables. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "page.h"

static void coefficient_rows(const ptq_fit *f, ptq_text *out) {
  for (int64_t j = 0; j < f->matrix.k; j++) {
    const ptq_coefficient *c = &f->coef[j];
    ptq_text_add(out, "<tr><th scope=\"row\"><code>");
    ptq_html_text(out, f->matrix.columns[j].name);
    ptq_text_add(out, "</code></th>");
    ptq_html_cell(out, c->estimate, 4);
    ptq_html_cell(out, c->std_error, 3);
    ptq_html_cell(out, c->std_error_cluster, 3);
    ptq_html_cell(out, c->df, 3);
    ptq_html_cell(out, c->t, 3);
    ptq_html_cell(out, c->p, 2);
    ptq_html_cell(out, c->ci_low, 3);
    ptq_html_cell(out, c->ci_high, 3);
    ptq_html_cell(out, c->vif, 3);
    ptq_text_add(out, "</tr>\n");
  }
}

static void coefficient_table(const ptq_law_result *r, ptq_text *out) {
  const ptq_fit *f = &r->fit;
  ptq_text_add(out, "<p class=\"note\">");
  ptq_html_text(out, r->estimator->title);
  ptq_text_addf(out, ": %lld points of %d models", (long long)f->matrix.n,
                f->matrix.n_models);
  if (f->matrix.n_clusters < f->matrix.n_models)
    ptq_text_addf(out, " from %d training runs", f->matrix.n_clusters);
  ptq_text_addf(
      out,
      " in %d families; R² %.3f of "
      "ln(ΔNLL), %.3f of ΔNLL in nats. Intervals and p are from "
      "the clustered errors.</p><div class=\"scroll\"><table "
      "class=\"sortable\"><thead><tr>"
      "<th class=\"t\">coefficient</th><th>estimate</th>"
      "<th>standard<br>error</th><th>clustered<br>error</th>"
      "<th>df</th><th>t</th><th>p</th>"
      "<th>from</th><th>to (95 %%)</th><th>VIF</th></tr></thead><tbody>\n",
      f->matrix.n_families, f->r2, f->r2_nats);
  coefficient_rows(f, out);
  ptq_text_add(out, "</tbody></table></div>\n");
}

static void account(const ptq_fit *f, ptq_text *out) {
  ptq_text_add(out, "<p class=\"note\">");
  if (f->n_left > 0)
    ptq_text_addf(out,
                  "%lld points lie within noise (ΔNLL below two standard "
                  "errors, or not positive) and are %s. ",
                  (long long)f->n_left,
                  f->estimator->on_log ? "left-censored" : "taken as measured");
  if (f->power_lowered)
    ptq_text_addf(out, "Its variance is %.3g mean^%g%s%s. ", f->scale, f->power,
                  f->noise ? " + dnll_se^2" : "", PTQ_POWER_LOWERED);
  if (f->n_right > 0)
    ptq_text_addf(out, "%lld collapsed points are right-censored. ",
                  (long long)f->n_right);
  if (f->n_excluded > 0)
    ptq_text_addf(out, "%lld points are left out: %s. ",
                  (long long)f->n_excluded, f->estimator->excludes);
  if (f->n_unbounded > 0)
    ptq_text_addf(out, "%lld points have no bound for a logarithm. ",
                  (long long)f->n_unbounded);
  if (f->matrix.n_lost > 0)
    ptq_text_addf(out, "%lld points lack a value of the formula. ",
                  (long long)f->matrix.n_lost);
  for (int64_t i = 0; i < f->matrix.n_dropped; i++) {
    ptq_text_add(out, "Column <code>");
    ptq_html_text(out, f->matrix.dropped[i].name);
    ptq_text_add(out, "</code> is dropped: ");
    ptq_html_text(out, f->matrix.dropped[i].why);
    ptq_text_add(out, ". ");
  }
  const ptq_diagnostics *d = &f->diagnostics;
  if (!isnan(d->jarque_bera))
    ptq_text_addf(out, "Residuals: Jarque–Bera %.3g (p %.2g)", d->jarque_bera,
                  d->jarque_bera_p);
  if (!isnan(d->jarque_bera) && !isnan(d->breusch_pagan))
    ptq_text_addf(out, ", Breusch–Pagan %.3g (p %.2g)", d->breusch_pagan,
                  d->breusch_pagan_p);
  if (!isnan(d->jarque_bera))
    ptq_text_addf(out, "; condition of the columns %.3g. ", d->condition);
  for (int i = 0; i < d->n_cook && i < 3; i++) {
    char name[256];
    ptq_obs_name(f->matrix.obs[d->cook[i].row], name, sizeof name);
    ptq_text_add(out, i == 0 ? "Largest Cook’s distances: " : "; ");
    ptq_html_text(out, name);
    ptq_text_addf(out, " (%.2g)%s", d->cook[i].distance,
                  i == 2 || i + 1 == d->n_cook ? "." : "");
  }
  ptq_text_add(out, "</p>\n");
}

/* " x " as a multiplication sign. */
static void multiplied(ptq_text *out, const char *text) {
  const char *at = NULL;
  while ((at = strstr(text, " x ")) != NULL) {
    char part[256];
    (void)snprintf(part, sizeof part, "%.*s", (int)(at - text), text);
    ptq_html_text(out, part);
    ptq_text_add(out, " × ");
    text = at + 3;
  }
  ptq_html_text(out, text);
}

void ptq_page_law(const ptq_report *r, ptq_text *out) {
  ptq_text_add(out, "<h2 id=\"law\">The law</h2>\n");
  if (r->summary == NULL) {
    const char *why = r->why_not != NULL ? r->why_not : "unknown reason";
    ptq_text_add(out, "<p>No law could be fitted: ");
    ptq_html_text(out, why);
    ptq_text_add(out, ".");
    if (strstr(why, "--power") != NULL)
      ptq_text_add(out, " A report has no such option; the command is <code>"
                        "ptqsweep fit STORE --power 1</code>.");
    ptq_text_add(out, "</p>\n");
    return;
  }
  const ptq_law_result *law = &r->summary->law;
  ptq_text equation = {0};
  ptq_fit_equation(&law->fit, &equation);
  ptq_text_add(out,
               "<p>The loss that quantization adds, in nats a token, as a "
               "function of what is known of the model, the format and the "
               "method:</p>\n<p class=\"law\">");
  ptq_html_text(out, ptq_text_str(&equation));
  ptq_text_add(out, "</p>\n<p>Read one at a time, all else equal:</p>\n<ul>");
  for (int64_t j = 1; j < law->fit.matrix.k; j++) {
    char effect[256];
    ptq_fit_effect(&law->fit, j, effect, sizeof effect);
    if (effect[0] == '\0') continue;
    ptq_text_add(out, "<li>");
    multiplied(out, effect);
    ptq_text_add(out, "</li>\n");
  }
  ptq_text_add(out, "</ul>\n");
  coefficient_table(law, out);
  account(&law->fit, out);
  ptq_text_release(&equation);
  if (!r->summary->beside.fitted) {
    ptq_text_addf(out, "<p class=\"note\">%s, beside it, could not be fitted: ",
                  r->summary->beside.estimator->title);
    ptq_html_text(out, r->summary->beside.failure);
    ptq_text_add(out, ".</p>\n");
    return;
  }
  ptq_text_add(out, "<h3>The same formula, fitted another way</h3>\n");
  coefficient_table(&r->summary->beside, out);
  account(&r->summary->beside.fit, out);
}

static void accuracy_row(ptq_text *out, const char *css,
                         const ptq_validation *v, const char *bits,
                         const ptq_accuracy *a) {
  ptq_text_addf(out,
                "<tr class=\"%s\"><th scope=\"row\">%s (%lld)</th>"
                "<td>%s</td><td>%lld</td>",
                css, v->split->name, (long long)v->n_groups, bits,
                (long long)a->n);
  ptq_html_cell(out, a->median, 3);
  ptq_html_cell(out, a->median_base, 3);
  ptq_html_cell(out, a->r2, 3);
  ptq_html_cell(out, a->r2_base, 3);
  ptq_html_cell(out, a->mae, 3);
  ptq_html_cell(out, a->mae_base, 3);
  ptq_html_cell(out, 100.0 * a->coverage, 3);
  ptq_text_add(out, "</tr>\n");
}

/* Every row names its split, so that rows may be sorted. */
static void split_rows(ptq_text *out, const ptq_validation *v) {
  char bits[16];
  if (v->n_groups < v->split->least) return;
  accuracy_row(out, "sum", v, "all", &v->all);
  for (int b = 0; b < PTQ_BITS_MAX; b++) {
    (void)snprintf(bits, sizeof bits, "%d", b);
    if (v->by_bits[b].n > 0) accuracy_row(out, "part", v, bits, &v->by_bits[b]);
  }
}

/* What the rows leave out, behind the table. */
static void split_notes(ptq_text *out, const ptq_validation *v) {
  if (v->split->held && v->n_groups == 0) return;
  if (v->n_groups < v->split->least)
    ptq_text_addf(out,
                  "<p class=\"note\">%s needs at least %d; the store has "
                  "%lld.</p>\n",
                  v->split->name, v->split->least, (long long)v->n_groups);
  if (v->n_unpredicted > 0)
    ptq_text_addf(out,
                  "<p class=\"note\">%s: %lld points have a level or value "
                  "unseen in training.</p>\n",
                  v->split->name, (long long)v->n_unpredicted);
  if (v->n_failed > 0) {
    ptq_text_addf(
        out, "<p class=\"note\">%s: %lld of %lld fits failed: ", v->split->name,
        (long long)v->n_failed, (long long)v->n_folds);
    ptq_html_text(out, v->failure);
    ptq_text_add(out, ".</p>\n");
  }
}

void ptq_page_validation(const ptq_report *r, ptq_text *out) {
  if (r->summary == NULL) return; /* nor does the page refer to it */
  const ptq_law_result *law = &r->summary->law;
  ptq_text_add(out, "<h2 id=\"validation\">How far to trust it</h2>\n");
  if (ptq_matrix_tier(&law->fit.matrix) == PTQ_TIER_DISPLACED)
    ptq_text_add(out, "<p><strong>The formula has a column of tier "
                      "“displaced”: it knows the loss along quantization’s "
                      "own displacements, so it describes and does not "
                      "predict.</strong></p>\n");
  ptq_text_addf(
      out,
      "<p>Each model, or each whole family, is left out of the fit and then "
      "predicted. The baseline is the dumbest prediction that could be made: "
      "the median of the same format over the other models. Only points with "
      "%g &lt; ΔNLL &lt; %g count.</p>\n"
      "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
      "<th class=\"t\">held out</th><th>bits</th><th>points</th>"
      "<th>median |ln(p/m)|</th><th>of the baseline</th>"
      "<th>R² of ln(ΔNLL)</th><th>of the baseline</th>"
      "<th>mean error, nats</th><th>of the baseline</th>"
      "<th>90 %% interval<br>covers, %%</th></tr></thead><tbody>\n",
      PTQ_BAND_LOW, PTQ_BAND_HIGH);
  for (int i = 0; i < law->n_splits; i++) split_rows(out, &law->splits[i]);
  ptq_text_add(out, "</tbody></table></div>\n");
  for (int i = 0; i < law->n_splits; i++) split_notes(out, &law->splits[i]);
  ptq_page_contest(&r->summary->contest, out);
  ptq_page_statements(&r->summary->statements, out);
  ptq_page_seeds(&r->summary->seeds, out);
}
