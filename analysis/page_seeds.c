/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "page.h"

void ptq_page_seeds(const ptq_seeds *s, ptq_text *out) {
  if (s->n == 0) return;
  ptq_text_add(
      out,
      "<h3 id=\"seeds\">Seeds of calibration</h3>\n<p>Points that differ in "
      "which windows of the calibration text were drawn, and in nothing else: "
      "standard deviations, pooled over sets of such points. The text they "
      "are evaluated on is the same, so the error over its windows comes on "
      "top.</p>\n<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
      "<th class=\"t\">method</th><th>bits</th><th>sets</th><th>points</th>"
      "<th>of ln ΔNLL</th><th>from</th><th>to (95 %)</th>"
      "<th>of ΔNLL, nats</th><th>windows’ error, nats</th></tr></thead>"
      "<tbody>\n");
  for (int64_t i = 0; i < s->n; i++) {
    const ptq_seed_spread *r = &s->row[i];
    ptq_text_add(out, "<tr><th scope=\"row\">");
    ptq_html_text(out, r->method);
    if (r->options[0] != '\0') {
      ptq_text_add(out, "(");
      ptq_html_text(out, r->options);
      ptq_text_add(out, ")");
    }
    ptq_text_add(out, "</th>");
    if (r->bits > 0.0)
      ptq_text_addf(out, "<td>%g</td>", r->bits);
    else
      ptq_text_add(out, "<td>mixed</td>");
    ptq_text_addf(out, "<td>%lld</td><td>%lld</td>", (long long)r->n_sets,
                  (long long)r->n_points);
    ptq_html_cell(out, r->sd_log, 3);
    ptq_html_cell(out, r->low, 3);
    ptq_html_cell(out, r->high, 3);
    ptq_html_cell(out, r->sd_nats, 3);
    ptq_html_cell(out, r->rms_se, 3);
    ptq_text_add(out, "</tr>\n");
  }
  ptq_text_add(out, "</tbody></table></div>\n");
}
