/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "page.h"

void ptq_page_statements(const ptq_statements *all, ptq_text *out) {
  ptq_text_add(
      out,
      "<h3 id=\"statements\">What the paper states, on these points</h3>\n"
      "<p>Tests that were named before the data were seen; p is corrected for "
      "their number (Holm), and models are the sample. “Shown” and “refuted” "
      "mean a corrected p below 0.05 in the stated or the other direction; "
      "“open” is neither, or what the row says.</p>\n<div "
      "class=\"scroll\"><table "
      "class=\"sortable\"><thead><tr><th class=\"t\">verdict</th>"
      "<th class=\"t\">statement</th><th class=\"t\">test</th>"
      "<th>estimate</th><th>from</th><th>to</th><th>p</th>"
      "<th>p, Holm</th><th>models</th></tr></thead><tbody>\n");
  for (int i = 0; i < all->n; i++) {
    const ptq_statement *s = &all->row[i];
    ptq_text_addf(out, "<tr><th scope=\"row\">%s</th><td class=\"t\">",
                  ptq_verdict_name(s->verdict));
    ptq_html_text(out, s->text);
    ptq_text_add(out, "</td><td class=\"t\">");
    const bool tested = s->verdict != PTQ_VERDICT_UNTESTED;
    if (tested) ptq_html_text(out, s->test);
    if (tested && s->why[0] != '\0') ptq_text_add(out, "; ");
    ptq_html_text(out, s->why);
    ptq_text_add(out, "</td>");
    ptq_html_cell(out, s->estimate, 3);
    ptq_html_cell(out, s->low, 3);
    ptq_html_cell(out, s->high, 3);
    ptq_html_cell(out, s->p, 2);
    ptq_html_cell(out, s->p_holm, 2);
    ptq_text_addf(out, "<td>%d</td></tr>\n", s->n_models);
  }
  ptq_text_add(out, "</tbody></table></div>\n");
}
