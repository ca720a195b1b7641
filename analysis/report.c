/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "gnuplot.h"
#include "page.h"
#include "plot.h"
#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"

static const ptq_plot *const plots[] = {
    &ptq_plot_nll,        &ptq_plot_dnll,    &ptq_plot_holdout,
    &ptq_plot_gain,       &ptq_plot_sqnr,    &ptq_plot_pareto,
    &ptq_plot_layers,     &ptq_plot_spectra, &ptq_plot_residuals,
    &ptq_plot_importance, &ptq_plot_mixed,   &ptq_plot_mixed_layers,
    &ptq_plot_profiles,   &ptq_plot_density, &ptq_plot_quadratic};
enum { N_PLOTS = sizeof plots / sizeof plots[0] };
/* More points make files that no browser likes. */
enum { DRAWN_MAX = 4000 };

static ptq_status make_dir(const char *dir, ptq_err *err) {
  if (mkdir(dir, 0777) == 0 || (errno == EEXIST && ptq_path_is_dir(dir)))
    return PTQ_OK;
  return PTQ_FAIL(
      err, PTQ_E_IO, "cannot make the directory '%s': %s", dir,
      errno == EEXIST ? "a file of that name is in the way" : strerror(errno));
}

static ptq_status write_file(const char *dir, const char *id, const char *end,
                             const ptq_text *text, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char name[96];
  char *path = NULL;
  if (text->rc != PTQ_OK) {
    rc = PTQ_FAIL(err, text->rc, "%s%s", id, end);
    goto done;
  }
  (void)snprintf(name, sizeof name, "%s%s", id, end);
  PTQ_TRY(ptq_path_join(dir, name, &path, err));
  PTQ_TRY(ptq_file_write_atomic(path, ptq_text_str(text), text->len, err));
done:
  ptq_free(path);
  return rc;
}

/* A stale picture of an earlier report must not stand beside this page. */
static ptq_status remove_file(const char *dir, const char *id, const char *end,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char name[96];
  char *path = NULL;
  (void)snprintf(name, sizeof name, "%s%s", id, end);
  PTQ_TRY(ptq_path_join(dir, name, &path, err));
  if (remove(path) != 0 && errno != ENOENT)
    rc = PTQ_FAIL(err, PTQ_E_IO, "cannot remove '%s': %s", path,
                  strerror(errno));
done:
  ptq_free(path);
  return rc;
}

static void picture_release(ptq_picture *p) {
  ptq_text_release(&p->script);
  ptq_text_release(&p->csv);
  ptq_text_release(&p->caption);
}

/* Beyond the line of names. */
static bool has_rows(const ptq_text *csv) {
  const char *end = csv->len > 0 ? strchr(csv->buf, '\n') : NULL;
  return end != NULL && end[1] != '\0';
}

/* What cannot be drawn is a sentence in the picture's place, with the data
 * that there are. */
static ptq_status add_note(const ptq_plot *plot, const ptq_picture *p,
                           const char *why, const char *dir, ptq_text *page,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text_addf(page, "<p class=\"note\">%s", ptq_text_str(&p->caption));
  if (why != NULL) {
    ptq_text_add(page, p->caption.len > 0 ? " Not drawn: " : "Not drawn: ");
    ptq_html_text(page, why);
    ptq_text_add(page, ".");
  } else if (p->caption.len == 0) {
    ptq_text_add(page, "No finished point to show yet.");
  }
  PTQ_TRY(remove_file(dir, plot->id, ".svg", err));
  if (has_rows(&p->csv)) {
    PTQ_TRY(write_file(dir, plot->id, ".csv", &p->csv, err));
    ptq_text_addf(page,
                  " <span class=\"files\"><a href=\"%s.csv\">data</a></span>",
                  plot->id);
  } else {
    PTQ_TRY(remove_file(dir, plot->id, ".csv", err));
  }
  ptq_text_add(page, "</p>\n");
done:
  return rc;
}

/* Draw one plot: files into dir, a section onto the page. */
static ptq_status add_plot(const ptq_plot *plot, const ptq_plot_data *data,
                           const char *dir, ptq_text *page, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_picture p = {.width = 960, .height = 440};
  ptq_text svg = {0};
  ptq_err undrawn = {0};
  PTQ_TRY(plot->draw(data, &p, err));
  ptq_text_addf(page, "<h2 id=\"%s\">%s</h2>\n", plot->id, plot->title);
  if (p.empty) {
    PTQ_TRY(add_note(plot, &p, NULL, dir, page, err));
    goto done;
  }
  if (p.script.rc != PTQ_OK) {
    rc = PTQ_FAIL(err, p.script.rc, "script of plot '%s'", plot->id);
    goto done;
  }
  rc = ptq_gnuplot_svg(plot->id, plot->title, p.width, p.height,
                       ptq_text_str(&p.script), &svg, &undrawn);
  if (rc == PTQ_E_NUMERIC) { /* of these numbers; the page has others */
    ptq_log(PTQ_LOG_WARN, "picture '%s' is not drawn: %s", plot->id,
            undrawn.msg);
    PTQ_TRY(add_note(plot, &p, undrawn.msg, dir, page, err));
    goto done;
  }
  if (rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, rc, "%s", undrawn.msg));
  PTQ_TRY(write_file(dir, plot->id, ".svg", &svg, err));
  PTQ_TRY(write_file(dir, plot->id, ".csv", &p.csv, err));
  ptq_text_add(page, "<figure>\n");
  ptq_text_add(page, ptq_text_str(&svg));
  ptq_text_addf(page,
                "<figcaption>%s <span class=\"files\"><a href=\"%s.svg\">SVG"
                "</a> · <a href=\"%s.csv\">data</a></span></figcaption>\n"
                "</figure>\n",
                ptq_text_str(&p.caption), plot->id, plot->id);
done:
  picture_release(&p);
  ptq_text_release(&svg);
  return rc;
}

static bool has_section(const ptq_plot *plot, const ptq_plot_data *data) {
  return plot->applies == NULL || plot->applies(data);
}

static void head(const ptq_report *r, const ptq_plot_data *data,
                 const ptq_tally *tally, const char *name, ptq_text *page) {
  ptq_text_add(page,
               "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
               "<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
               "content=\"width=device-width, initial-scale=1\">\n<title>");
  ptq_html_text(page, name);
  ptq_text_addf(page,
                " – ptqsweep report</title>\n<style>\n%s</style>\n</head>\n"
                "<body>\n<header>\n<p class=\"eyebrow\">ptqsweep report</p>\n"
                "<h1>",
                ptq_page_style);
  ptq_html_text(page, name);
  ptq_text_add(page,
               "</h1>\n<p class=\"lead\">How good are language models after "
               "their weights are quantized, and can that be told before "
               "trying?</p>\n<nav><a href=\"#law\">The law</a>");
  if (r->summary != NULL)
    ptq_text_add(page, "<a href=\"#validation\">Validation</a>");
  if (data->mixed->n > 0) ptq_text_add(page, "<a href=\"#mixed\">Mixtures</a>");
  if (r->frame->landscape.n > 0)
    ptq_text_add(page, "<a href=\"#landscape\">Landscape</a>");
  for (int i = 0; i < N_PLOTS; i++)
    if (has_section(plots[i], data))
      ptq_text_addf(page, "<a href=\"#%s\">%s</a>", plots[i]->id,
                    plots[i]->link);
  ptq_text_add(page, "<a href=\"#left-out\">What takes part</a>"
                     "<a href=\"#models\">Models</a>"
                     "<a href=\"#words\">Words</a></nav>\n");
  ptq_page_numbers(r, tally, page);
  ptq_text_add(page, "</header>\n<main>\n");
}

static void foot(const ptq_report *r, ptq_text *page) {
  ptq_text_add(page, "</main>\n<footer>ptqsweep ");
  ptq_html_text(page, r->version);
  static const char *const names[] = {"uuid", "created", "fingerprint"};
  for (size_t i = 0; r->view != NULL && i < sizeof names / sizeof names[0];
       i++) {
    const char *value = ptq_view_attribute(r->view, names[i]);
    if (value == NULL || value[0] == '\0') continue;
    ptq_text_addf(page, " · store %s ", names[i]);
    ptq_html_text(page, value);
  }
  if (r->frame->n > 0 && r->frame->obs[0].point->numerics[0] != '\0') {
    ptq_text_add(page, " · numerics ");
    ptq_html_text(page, r->frame->obs[0].point->numerics);
  }
  ptq_text_addf(page, "</footer>\n<script>%s</script>\n</body>\n</html>\n",
                ptq_page_script);
}

static ptq_status read_layers(ptq_view *view, ptq_plot_data *data,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  const int64_t *subject = NULL, *first_window = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_view_table(view, PTQ_TABLE_LAYERS, &rows, &n, err));
  PTQ_TRY(
      ptq_view_index(view, &subject, &data->first_layer, &first_window, err));
  data->layers = n > 0 ? rows : NULL;
done:
  return rc;
}

ptq_status ptq_report_write(const ptq_report *report, const char *dir,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text page = {0};
  char *name = NULL;
  const ptq_view_spectrum *spectra = NULL;
  int64_t n_spectra = 0;
  ptq_plot_data data;
  ptq_mixed mixed = {0};
  ptq_tally tally = {0};
  ptq_frame drawn = {0};
  ptq_sensitivities layers = {0};
  PTQ_TRY(make_dir(dir, err));
  PTQ_TRY(ptq_path_base(ptq_view_path(report->view), &name, err));
  PTQ_TRY(ptq_view_spectra(report->view, &spectra, &n_spectra, err));
  PTQ_TRY(ptq_frame_sample(report->frame, DRAWN_MAX, 1, &drawn, err));
  PTQ_TRY(ptq_tally_formats(report->frame, &tally, err));
  PTQ_TRY(ptq_mixed_compare(report->view, report->frame, &mixed, err));
  PTQ_TRY(ptq_sensitivities_read(report->view, &layers, err));
  ptq_plot_data_init(&data, &drawn, report->summary, spectra, n_spectra);
  data.whole = report->frame;
  data.mixed = &mixed;
  PTQ_TRY(read_layers(report->view, &data, err));
  const size_t stem = strlen(name);
  if (stem > 3 && strcmp(name + stem - 3, ".h5") == 0) name[stem - 3] = '\0';
  head(report, &data, &tally, name, &page);
  ptq_page_law(report, &page);
  ptq_page_validation(report, &page);
  ptq_page_mixed(&mixed, &page);
  ptq_page_landscape(report->frame, &page);
  ptq_page_sensitivity(report->frame, &layers, &page);
  if (drawn.n < report->frame->n)
    ptq_text_addf(&page,
                  "<p class=\"note\">The pictures and their data show %lld of "
                  "%lld points, drawn at random (seed 1).</p>\n",
                  (long long)drawn.n, (long long)report->frame->n);
  for (int i = 0; i < N_PLOTS; i++) {
    if (has_section(plots[i], &data)) {
      PTQ_TRY(add_plot(plots[i], &data, dir, &page, err));
      continue;
    }
    PTQ_TRY(remove_file(dir, plots[i]->id, ".svg", err));
    PTQ_TRY(remove_file(dir, plots[i]->id, ".csv", err));
  }
  ptq_page_left_out(report, &tally, &page);
  PTQ_TRY(ptq_page_models(report, &page, err));
  ptq_page_words(&page);
  foot(report, &page);
  PTQ_TRY(write_file(dir, "index", ".html", &page, err));
done:
  ptq_frame_release(&drawn);
  ptq_mixed_release(&mixed);
  ptq_sensitivities_release(&layers);
  ptq_tally_release(&tally);
  ptq_text_release(&page);
  ptq_free(name);
  return rc;
}
