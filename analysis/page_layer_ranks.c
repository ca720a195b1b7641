/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>

#include "page.h"

static void sum_row(const ptq_frame *f, const ptq_interaction *s,
                    ptq_text *out) {
  const ptq_direction_row *d = s->row;
  ptq_text_add(out, "<tr><th scope=\"row\">");
  ptq_html_subject(out, f, d->subject);
  ptq_text_add(out, "</th><td class=\"t\">");
  ptq_html_text(out, d->dtype);
  ptq_text_addf(out, "</td><td>%lld</td>", (long long)s->layers);
  ptq_html_cell(out, d->dnll, 3);
  ptq_html_cell(out, d->dnll_se, 2);
  ptq_html_cell(out, s->alone, 3);
  ptq_html_cell(out, s->restored, 3);
  ptq_html_cell(out, s->whole ? d->dnll - s->alone : (double)NAN, 3);
  ptq_html_cell(out, s->whole ? 1.0 - s->alone / d->dnll : (double)NAN, 2);
  ptq_text_add(out, "</tr>\n");
}

static void rank_row(const ptq_sensitivities *s, int proxy, ptq_text *out) {
  const ptq_field *f = ptq_layer_proxy(proxy);
  ptq_text_add(out, "<tr><th scope=\"row\">");
  ptq_html_text(out, f->name);
  ptq_text_add(out, "</th><td class=\"t\">");
  ptq_html_text(out, f->text);
  ptq_text_add(out, "</td>");
  for (int t = 0; t < PTQ_RANK_TARGETS; t++) {
    const ptq_rank *r = &s->rank[proxy][t];
    ptq_html_cell(out, r->rho, 2);
    ptq_html_cell(out, r->low, 2);
    ptq_html_cell(out, r->high, 2);
  }
  ptq_text_addf(out, "<td>%d</td></tr>\n",
                s->rank[proxy][PTQ_RANK_ALONE].n_models);
}

void ptq_page_sensitivity(const ptq_frame *f, const ptq_sensitivities *s,
                          ptq_text *out) {
  if (s->n == 0) return;
  ptq_text_add(
      out,
      "<h2 id=\"sensitivity\">What each layer costs</h2>\n<p>Each layer "
      "rounded alone, and each left out where all others are rounded. What "
      "the sum of layers alone lacks of the whole is their interaction: above "
      "0 errors build on one another.</p>\n<div class=\"scroll\"><table "
      "class=\"sortable\"><thead><tr><th class=\"t\">model</th>"
      "<th class=\"t\">dtype</th><th>layers</th><th>ΔNLL of all</th>"
      "<th>error</th><th>sum of alone</th><th>sum of restored</th>"
      "<th>interaction</th><th>over ΔNLL</th></tr></thead><tbody>\n");
  for (int64_t i = 0; i < s->n_sums; i++)
    if (s->sums[i].layers > 0) sum_row(f, &s->sums[i], out);
  ptq_text_add(
      out,
      "</tbody></table></div>\n<p>How well cheaper numbers rank the layers: "
      "Spearman’s correlation over a model’s layers, a mean over dtypes, texts "
      "and models, with its 95 % interval over models (cut off at -1 and 1); "
      "with what a layer costs "
      "alone, beside all others, and with the size of the difference of the "
      "two.</p>\n<div class=\"scroll\"><table "
      "class=\"sortable\"><thead><tr><th class=\"t\">number</th>"
      "<th class=\"t\">what</th><th>alone</th><th>from</th><th>to</th>"
      "<th>restored</th><th>from</th><th>to</th><th>|interaction|</th>"
      "<th>from</th><th>to</th><th>models</th></tr></thead><tbody>\n");
  for (int p = 0; p < PTQ_LAYER_PROXIES; p++) rank_row(s, p, out);
  ptq_text_add(out, "</tbody></table></div>\n");
}
