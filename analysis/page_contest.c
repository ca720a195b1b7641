/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>

#include "page.h"

static void row(const ptq_entry *e, const ptq_validation *v, ptq_text *out) {
  ptq_text_add(out, "<tr><th scope=\"row\" title=\"");
  ptq_html_text(out, e->recipe.text);
  ptq_text_add(out, "\">");
  ptq_html_text(out, e->recipe.name);
  ptq_text_addf(out, "</th><td class=\"t\">%s</td><td>%lld</td>",
                ptq_tier_name(e->recipe.tier), (long long)v->all.n);
  ptq_html_cell(out, v->all.median, 3);
  ptq_html_cell(out, v->all.median_base, 3);
  ptq_html_cell(out, v->all.r2, 3);
  ptq_html_cell(out, v->all.mae, 3);
  ptq_html_cell(out, v->all.rank, 3);
  ptq_html_cell(out, 100.0 * v->all.coverage, 3);
  ptq_text_addf(out, "<td>%lld</td></tr>\n", (long long)v->n_outside);
}

/* Laws that predict no held-out point of the split. */
static void silent(const ptq_contest *c, int s, ptq_text *out) {
  int n = 0;
  for (int i = 0; i < c->n; i++) {
    const ptq_entry *e = &c->entry[i];
    if (!e->learned || e->splits[s].all.n > 0) continue;
    ptq_text_add(out, n++ == 0 ? "<p class=\"note\">No prediction of these "
                                 "points, for their levels or values were not "
                                 "seen in training: "
                               : ", ");
    ptq_html_text(out, e->recipe.name);
    if (e->splits[s].n_failed == 0) continue;
    ptq_text_add(out, " (");
    ptq_html_text(out, e->splits[s].failure);
    ptq_text_add(out, ")");
  }
  if (n > 0) ptq_text_add(out, ".</p>\n");
}

static void table(const ptq_contest *c, int s, ptq_text *out) {
  const ptq_split *split = ptq_split_at((size_t)s);
  int shown = 0;
  int64_t n_groups = 0;
  for (int i = 0; i < c->n; i++) {
    shown += c->entry[i].learned && c->entry[i].splits[s].all.n > 0;
    if (s < c->entry[i].n_splits) n_groups = c->entry[i].splits[s].n_groups;
  }
  if (split->held && n_groups == 0) return;
  ptq_text_addf(out, "<h4>%s</h4>\n", split->name);
  if (shown == 0) {
    ptq_text_add(out, "<p class=\"note\">Nothing to compare: too few groups, "
                      "or no held-out point between the bounds.</p>\n");
    return;
  }
  ptq_text_add(out,
               "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
               "<th class=\"t\">law</th><th class=\"t\">features</th>"
               "<th>points</th><th>median</th><th>baseline</th><th>R²</th>"
               "<th>MAE, nats</th><th>rank corr.</th><th>coverage, %</th>"
               "<th>outside hull</th></tr></thead><tbody>\n");
  for (int i = 0; i < c->n; i++) {
    const ptq_entry *e = &c->entry[c->order[s][i]];
    if (e->learned && e->splits[s].all.n > 0) row(e, &e->splits[s], out);
  }
  ptq_text_add(out, "</tbody></table></div>\n");
  silent(c, s, out);
}

static void curves(const ptq_contest *c, ptq_text *out) {
  ptq_text_add(
      out, "<h4>Laws of the literature on these points</h4>\n"
           "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
           "<th class=\"t\">law</th><th class=\"t\">equation and source</th>"
           "<th class=\"t\">parameters (errors clustered by model)</th>"
           "<th>R²</th></tr></thead><tbody>\n");
  for (int i = 0; i < c->n; i++) {
    const ptq_entry *e = &c->entry[i];
    const ptq_curve_fit *f = &e->curve;
    if (e->recipe.curve == NULL) continue;
    ptq_text_addf(out, "<tr><th scope=\"row\">%s</th><td class=\"t\"><code>",
                  e->recipe.name);
    ptq_html_text(out, e->recipe.curve->equation);
    ptq_text_add(out, "</code><br>");
    ptq_html_text(out, e->recipe.curve->source);
    ptq_text_add(out, "</td><td class=\"t\">");
    for (int j = 0; e->learned && j < ptq_curve_n_params(f->curve); j++)
      ptq_text_addf(out, "%s%s = %.4g (%.2g)", j > 0 ? ", " : "",
                    f->curve->params[j].name, f->q[j], f->std_error_cluster[j]);
    if (!e->learned) ptq_html_text(out, e->failure);
    ptq_text_add(out, "</td>");
    ptq_html_cell(out, e->learned ? f->r2 : (double)NAN, 3);
    ptq_text_add(out, "</tr>\n");
  }
  ptq_text_add(out, "</tbody></table></div>\n");
}

void ptq_page_contest(const ptq_contest *c, ptq_text *out) {
  if (c->n == 0) return;
  ptq_text_add(
      out,
      "<h3 id=\"laws\">All laws, under each split</h3>\n<p>Best first: the "
      "median of |ln(predicted / measured)| over held-out points. “Features” "
      "is the dearest thing a law must know of a point before it is run. "
      "“Outside hull” counts held-out points beyond the range of the numbers "
      "learned from. The law called <em>chosen</em> is the formula that does "
      "best inside of the training points, with the same kind of thing held "
      "out of them where there are two or more, else models; so its figures "
      "owe nothing to luck in choosing.</p>\n");
  for (int s = 0; s < c->n_splits; s++) table(c, s, out);
  curves(c, out);
}
