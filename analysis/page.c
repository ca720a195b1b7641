/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"
#include "ptq/base/mem.h"

void ptq_html_text(ptq_text *out, const char *text) {
  for (const char *c = text; *c != '\0'; c++) {
    const unsigned char u = (unsigned char)*c;
    if (*c == '<')
      ptq_text_add(out, "&lt;");
    else if (*c == '>')
      ptq_text_add(out, "&gt;");
    else if (*c == '&')
      ptq_text_add(out, "&amp;");
    else if (*c == '"')
      ptq_text_add(out, "&quot;");
    else if (*c == '\'')
      ptq_text_add(out, "&#39;");
    else
      ptq_text_addf(out, "%c", u < 32 || u == 127 ? ' ' : *c);
  }
}

void ptq_html_cell(ptq_text *out, double v, int digits) {
  char text[64];
  if (isnan(v)) {
    ptq_text_add(out, "<td>–</td>");
    return;
  }
  if (isinf(v)) {
    ptq_text_add(out, v > 0.0 ? "<td data-v=\"1e308\">∞</td>"
                              : "<td data-v=\"-1e308\">−∞</td>");
    return;
  }
  (void)snprintf(text, sizeof text, "%.*e", digits - 1, v);
  const int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
  const char *sign = v < 0.0 ? "−" : "";
  const double size = fabs(v);
  if (v == 0.0) {
    ptq_text_add(out, "<td>0</td>");
  } else if (exponent >= -4 && exponent < 6) {
    const int decimals = digits - 1 - exponent;
    ptq_text_addf(out, "<td>%s%.*f</td>", sign, decimals > 0 ? decimals : 0,
                  size);
  } else {
    *strchr(text, 'e') = '\0';
    ptq_text_addf(out, "<td data-v=\"%.6g\">%s%s × 10<sup>%s%d</sup></td>", v,
                  sign, text + (v < 0.0 ? 1 : 0), exponent < 0 ? "−" : "",
                  exponent < 0 ? -exponent : exponent);
  }
}

void ptq_html_count(ptq_text *out, int64_t n) {
  char digits[32];
  (void)snprintf(digits, sizeof digits, "%lld", (long long)n);
  const size_t len = strlen(digits);
  for (size_t i = 0; i < len; i++)
    ptq_text_addf(
        out, "%s%c",
        i > 0 && (len - i) % 3 == 0 && digits[0] != '-' ? "\u202f" : "",
        digits[i]);
}

static void tile(ptq_text *out, const char *value, const char *what) {
  ptq_text_add(out, "<li><b>");
  ptq_html_text(out, value);
  ptq_text_add(out, "</b><span>");
  ptq_html_text(out, what);
  ptq_text_add(out, "</span></li>\n");
}

static bool any_mixed(const ptq_tally *t) {
  for (int64_t i = 0; i < t->n; i++)
    if (strcmp(t->row[i].format, "mixed") == 0) return true;
  return false;
}

void ptq_page_numbers(const ptq_report *r, const ptq_tally *t, ptq_text *out) {
  const ptq_frame *f = r->frame;
  char value[64];
  const int64_t done = f->count[PTQ_USE_OK] + f->count[PTQ_USE_COLLAPSED] +
                       f->count[PTQ_USE_DEQUANTIZED] + f->count[PTQ_USE_PROBE] +
                       f->count[PTQ_USE_INCOMPLETE];
  ptq_text_add(out, "<ul class=\"tiles\">\n");
  (void)snprintf(value, sizeof value, "%lld / %lld", (long long)done,
                 (long long)f->n);
  tile(out, value, "configurations finished");
  ptq_labels families = {.n = 0};
  for (int64_t i = 0; i < f->n_models; i++)
    (void)ptq_label(&families, f->models[i].family);
  (void)snprintf(value, sizeof value, "%lld", (long long)f->n_models);
  char what[64];
  (void)snprintf(what, sizeof what, "models in %d %s", families.n,
                 families.n == 1 ? "family" : "families");
  tile(out, value, what);
  (void)snprintf(value, sizeof value, "%lld", (long long)t->n);
  tile(out, value,
       any_mixed(t) ? "number formats, mixtures as one" : "number formats");
  (void)snprintf(value, sizeof value, "%lld",
                 (long long)f->count[PTQ_USE_COLLAPSED]);
  tile(out, value, "collapsed: no better than word frequencies");
  (void)snprintf(value, sizeof value, "%lld",
                 (long long)f->count[PTQ_USE_FAILED]);
  tile(out, value, "failed");
  if (r->summary != NULL && r->summary->law.splits[0].all.n > 0) {
    const ptq_accuracy *a = &r->summary->law.splits[0].all;
    (void)snprintf(value, sizeof value, "× %.2f", exp(a->median));
    tile(out, value, "median error of the law on models it has not seen");
    (void)snprintf(value, sizeof value, "× %.2f", exp(a->median_base));
    tile(out, value, "the same for the median of the format");
  }
  ptq_text_add(out, "</ul>\n");
}

static void left_out_row(const ptq_tally_row *r, ptq_text *out) {
  ptq_text_add(out, "<tr><th scope=\"row\">");
  ptq_html_text(out, r->format);
  ptq_text_addf(out, "</th><td>%lld</td>", (long long)r->all);
  for (int u = 0; u < PTQ_USE_COUNT; u++)
    ptq_text_addf(out, "<td>%lld</td>", (long long)r->count[u]);
  ptq_text_add(out, "</tr>\n");
}

static void failures(const ptq_report *r, ptq_text *out) {
  const void *rows = NULL;
  int64_t n = 0, shown = 0;
  if (r->frame->count[PTQ_USE_FAILED] == 0) return;
  ptq_text_add(out, "<h3>Why points failed</h3>\n<ul>\n");
  const bool known =
      r->view != NULL &&
      ptq_view_table(r->view, PTQ_TABLE_ATTEMPTS, &rows, &n, NULL) == PTQ_OK;
  const ptq_attempt_row *attempts = rows;
  for (int64_t i = 0; i < r->frame->n && shown < 20; i++) {
    if (r->frame->obs[i].use != PTQ_USE_FAILED) continue;
    char name[256];
    ptq_obs_name(&r->frame->obs[i], name, sizeof name);
    ptq_text_add(out, "<li>");
    ptq_html_text(out, name);
    ptq_text_add(out, ": ");
    ptq_html_text(out, known && i < n ? attempts[i].message : "no message");
    ptq_text_add(out, "</li>\n");
    shown++;
  }
  ptq_text_add(out, "</ul>\n");
  if (r->frame->count[PTQ_USE_FAILED] > shown)
    ptq_text_addf(out,
                  "<p class=\"note\">And %lld more; <code>ptqsweep "
                  "status</code> lists them.</p>\n",
                  (long long)(r->frame->count[PTQ_USE_FAILED] - shown));
}

void ptq_page_left_out(const ptq_report *r, const ptq_tally *t, ptq_text *out) {
  const ptq_frame *f = r->frame;
  ptq_text_add(out,
               "<h2 id=\"left-out\">What takes part</h2>\n"
               "<p>Every configuration of the sweep, by number format. Only "
               "used ones enter the law as measured; what happens to the "
               "others is said here and in the law's account, never decided "
               "in silence.</p>\n<div class=\"scroll\"><table "
               "class=\"sortable\"><thead><tr>"
               "<th class=\"t\">format</th><th>all</th>");
  for (int u = 0; u < PTQ_USE_COUNT; u++)
    ptq_text_addf(out, "<th>%s</th>", ptq_use_name((ptq_use)u));
  ptq_text_add(out, "</tr></thead><tbody>\n");
  for (int64_t i = 0; i < t->n; i++) left_out_row(&t->row[i], out);
  ptq_text_addf(out,
                "</tbody><tfoot><tr class=\"sum\"><th scope=\"row\">all</th>"
                "<td>%lld</td>",
                (long long)f->n);
  for (int u = 0; u < PTQ_USE_COUNT; u++)
    ptq_text_addf(out, "<td>%lld</td>", (long long)f->count[u]);
  ptq_text_add(out, "</tr></tfoot></table></div>\n<dl>\n");
  for (int u = 1; u < PTQ_USE_COUNT; u++)
    if (f->count[u] > 0)
      ptq_text_addf(out, "<dt>%s</dt><dd>%s</dd>\n", ptq_use_name((ptq_use)u),
                    ptq_use_text((ptq_use)u));
  ptq_text_add(out, "</dl>\n");
  failures(r, out);
}

ptq_status ptq_page_models(const ptq_report *r, ptq_text *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t *order = NULL;
  PTQ_TRY(ptq_alloc(&order, r->frame->n_models, sizeof *order, "models", err));
  ptq_models_by_size(r->frame, order);
  ptq_text_add(
      out,
      "<h2 id=\"models\">Models</h2>\n<div class=\"scroll\"><table "
      "class=\"sortable\"><thead><tr>"
      "<th class=\"t\">model</th><th class=\"t\">family</th>"
      "<th>parameters</th><th>without<br>embeddings</th><th>width</th>"
      "<th>blocks</th><th>NLL,<br>nats/token</th><th>NLL,<br>nats/byte</th>"
      "<th>unigram<br>NLL</th></tr></thead><tbody>\n");
  for (int64_t i = 0; i < r->frame->n_models; i++) {
    const ptq_model_row *m = &r->frame->models[order[i]];
    ptq_text_add(out, "<tr><th scope=\"row\">");
    ptq_html_text(out, m->model);
    if (strcmp(m->provenance, "native") != 0) {
      ptq_text_add(out, " (");
      ptq_html_text(out, m->provenance);
      ptq_text_add(out, ")");
    }
    ptq_text_add(out, "</th><td class=\"t\">");
    ptq_html_text(out, m->family);
    ptq_text_add(out, "</td><td>");
    ptq_html_count(out, m->params);
    ptq_text_add(out, "</td><td>");
    ptq_html_count(out, m->params_nonembedding);
    ptq_text_addf(out, "</td><td>%lld</td><td>%lld</td>", (long long)m->d_model,
                  (long long)m->n_blocks);
    ptq_html_cell(out, m->nll, 5);
    ptq_html_cell(out, m->nll_byte, 4);
    ptq_html_cell(out, m->nll_unigram, 4);
    ptq_text_add(out, "</tr>\n");
  }
  ptq_text_add(out, "</tbody></table></div>\n");
done:
  ptq_free(order);
  return rc;
}

void ptq_page_words(ptq_text *out) {
  ptq_text_add(
      out,
      "<h2 id=\"words\">Words</h2>\n<dl>\n"
      "<dt>NLL</dt><dd>mean negative log-likelihood of a token of the "
      "evaluation text, in nats; its exponential is the perplexity</dd>\n"
      "<dt>ΔNLL, dnll</dt><dd>NLL of the quantized model minus that of the "
      "unquantized one, on the same tokens</dd>\n"
      "<dt>bits a weight</dt><dd>storage of the quantized weights, scales "
      "and zero points included, over their number</dd>\n"
      "<dt>group</dt><dd>weights that share a scale</dd>\n"
      "<dt>SQNR</dt><dd>signal to quantization noise ratio, in decibels, of "
      "the weights or of the layers' outputs</dd>\n"
      "<dt>RTN, GPTQ</dt><dd>round-to-nearest; rounding column by column "
      "with the error compensated on later columns</dd>\n"
      "<dt>clustered</dt><dd>errors that allow for points of one model being "
      "alike (CR2 with Satterthwaite's degrees of freedom): the sample is "
      "models, not points</dd>\n"
      "<dt>collapsed</dt><dd>NLL not below that of a model that knows only "
      "the calibration text's word frequencies</dd>\n</dl>\n");
}
