/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <string.h>

#include "page.h"

static void row(const ptq_mixed_row *r, ptq_text *out) {
  const ptq_point_row *p = r->obs->point;
  ptq_text_add(out, "<tr><th scope=\"row\">");
  ptq_html_text(out, p->model);
  ptq_text_add(out, "</th><td class=\"t\">");
  ptq_html_text(out, p->dtype + strlen("mixed:"));
  ptq_text_add(out, "</td><td class=\"t\">");
  ptq_html_text(out, p->method);
  ptq_text_add(out, "</td>");
  ptq_html_cell(out, p->bits_per_weight, 4);
  ptq_html_cell(out, r->predicted.dnll, 3);
  ptq_html_cell(out, p->dnll, 3);
  ptq_html_cell(out, p->dnll_se, 2);
  ptq_text_add(out, "<td class=\"t\">");
  if (r->uniform != NULL) {
    char group[24];
    ptq_group_text(r->uniform->point->group, group);
    ptq_html_text(out, r->uniform->point->dtype);
    ptq_text_addf(out, " %s", group);
  }
  ptq_text_add(out, "</td>");
  ptq_html_cell(
      out,
      r->uniform != NULL ? r->uniform->point->bits_per_weight : (double)NAN, 4);
  ptq_html_cell(out, r->uniform != NULL ? r->uniform->point->dnll : (double)NAN,
                3);
  ptq_html_cell(out, r->difference, 3);
  ptq_html_cell(out, r->difference_se, 2);
  ptq_html_cell(out, r->equal_bits, 3);
  ptq_text_add(out, "</tr>\n");
}

/* "(95 % interval 0.6 to 0.8 over 5 models, 30 pairs above noise)" */
static void interval(const ptq_mixed_ratio *r, ptq_text *out) {
  if (isnan(r->low))
    ptq_text_add(out, " (one model: no interval");
  else
    ptq_text_addf(out, " (95&nbsp;%% interval %.2f to %.2f over %d models",
                  r->low, r->high, r->n_models);
  ptq_text_addf(out, ", %lld pairs)", (long long)r->n_pairs);
}

static void headline(const ptq_mixed *m, ptq_text *out) {
  if (m->equal.n_pairs > 0) {
    ptq_text_addf(out,
                  "<p><b>The added loss is %.2f times that of uniform formats "
                  "at equal bits</b>",
                  m->equal.ratio);
    interval(&m->equal, out);
    if (m->any.n_pairs > m->equal.n_pairs) {
      ptq_text_addf(out,
                    "; %.2f times, where the envelope may rest on a point "
                    "within noise",
                    m->any.ratio);
      interval(&m->any, out);
    }
    ptq_text_add(out, ".</p>\n");
  }
  if (m->within.n_pairs > 0) {
    ptq_text_addf(out,
                  "<p><b>%s %.2f times that of the best uniform format with "
                  "at most as many bits</b>",
                  m->equal.n_pairs > 0 ? "It is" : "The added loss is",
                  m->within.ratio);
    interval(&m->within, out);
    ptq_text_addf(out,
                  ", which has %.2f bits a weight fewer on average, as formats "
                  "leave gaps; it is less by more than two standard errors "
                  "%lld times, and more %lld times.</p>\n",
                  m->fewer, (long long)m->n_better, (long long)m->n_worse);
  }
  if (m->n_predicted > 0)
    ptq_text_addf(out,
                  "<p>Predictions are off by a factor of %.2f (median of "
                  "%lld).</p>\n",
                  exp(m->median_error), (long long)m->n_predicted);
}

void ptq_page_mixed(const ptq_mixed *m, ptq_text *out) {
  if (m->n == 0) return;
  ptq_text_add(
      out,
      "<h2 id=\"mixed\">Mixed precision</h2>\n<p>Points that give each layer a "
      "number format of its own, beside what was predicted of them and the "
      "best uniform format of the same model and method with at most as many "
      "bits (to within a hundredth), which may have fewer. Differences are "
      "paired over the windows of the evaluation text; “at equal bits” is "
      "interpolated on the lower envelope of the uniform formats, straight in "
      "ln(ΔNLL). Ratios are of points above noise that have not "
      "collapsed.</p>\n");
  headline(m, out);
  ptq_text_add(out,
               "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
               "<th class=\"t\">model</th><th class=\"t\">mixture</th>"
               "<th class=\"t\">method</th><th>bits a weight</th>"
               "<th>predicted ΔNLL</th><th>measured ΔNLL</th><th>error</th>"
               "<th class=\"t\">uniform format</th><th>its bits</th>"
               "<th>its ΔNLL</th><th>difference</th><th>error</th>"
               "<th>uniform, at equal bits</th></tr></thead><tbody>\n");
  for (int64_t i = 0; i < m->n; i++) row(&m->row[i], out);
  ptq_text_add(out, "</tbody></table></div>\n");
}
