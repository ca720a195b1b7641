/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gnuplot.h"

int ptq_label(ptq_labels *l, const char *text) {
  for (int i = 0; i < l->n; i++)
    if (strcmp(l->text[i], text) == 0) return i;
  if (l->n == PTQ_LABELS_MAX) return l->n - 1;
  (void)ptq_text_copy(l->text[l->n], PTQ_LEVEL_MAX, text);
  return l->n++;
}

static void method_text(const ptq_obs *o, char *text) {
  ptq_factor_find("method")->get(o, text, PTQ_LEVEL_MAX);
}

static int find(const ptq_labels *l, const char *text) {
  for (int i = 0; i < l->n; i++)
    if (strcmp(l->text[i], text) == 0) return i;
  return l->n - 1;
}

int ptq_family_of(const ptq_plot_data *d, const ptq_obs *o) {
  return find(&d->families, o->point->family);
}

int ptq_method_of(const ptq_plot_data *d, const ptq_obs *o) {
  char text[PTQ_LEVEL_MAX];
  method_text(o, text);
  return find(&d->methods, text);
}

bool ptq_obs_shown(const ptq_obs *o) {
  return o->use == PTQ_USE_OK || o->use == PTQ_USE_COLLAPSED;
}

void ptq_plot_data_init(ptq_plot_data *d, const ptq_frame *frame,
                        const ptq_summary *summary,
                        const ptq_view_spectrum *spectra, int64_t n_spectra) {
  *d = (ptq_plot_data){.frame = frame,
                       .summary = summary,
                       .spectra = spectra,
                       .n_spectra = n_spectra,
                       .size_low = INFINITY,
                       .size_high = 0.0,
                       .bits_low = INFINITY,
                       .bits_high = 0.0};
  for (int64_t i = 0; i < frame->n_models; i++) {
    const double size = (double)frame->models[i].params_nonembedding;
    d->size_low = fmin(d->size_low, size);
    d->size_high = fmax(d->size_high, size);
  }
  for (int64_t i = 0; i < frame->n; i++) {
    const ptq_obs *o = &frame->obs[i];
    char text[PTQ_LEVEL_MAX];
    method_text(o, text);
    (void)ptq_label(&d->families, o->point->family);
    (void)ptq_label(&d->methods, text);
    if (!ptq_obs_shown(o) || !isfinite(o->point->bits_per_weight)) continue;
    d->bits_low = fmin(d->bits_low, o->point->bits_per_weight);
    d->bits_high = fmax(d->bits_high, o->point->bits_per_weight);
  }
  if (!(d->size_high > d->size_low * 1.5)) {
    d->size_low = fmax(1.0, d->size_low / 2.0);
    d->size_high = fmax(10.0, d->size_high * 2.0);
  }
}

/* Does model `a` stand before `b`? `rank` is a family's first row. */
static bool before(const ptq_frame *f, int64_t a, int64_t b) {
  const ptq_model_row *p = &f->models[a], *q = &f->models[b];
  int64_t rank_a = 0, rank_b = 0;
  while (strcmp(f->models[rank_a].family, p->family) != 0) rank_a++;
  while (strcmp(f->models[rank_b].family, q->family) != 0) rank_b++;
  if (rank_a != rank_b) return rank_a < rank_b;
  if (p->params_nonembedding != q->params_nonembedding)
    return p->params_nonembedding < q->params_nonembedding;
  return a < b;
}

void ptq_models_by_size(const ptq_frame *f, int64_t *order) {
  for (int64_t i = 0; i < f->n_models; i++) {
    int64_t at = i;
    for (; at > 0 && before(f, i, order[at - 1]); at--)
      order[at] = order[at - 1];
    order[at] = i;
  }
}

const char *ptq_plot_color(int i) {
  static const char *const colors[] = {"#0072B2", "#E69F00", "#009E73",
                                       "#CC79A7", "#D55E00", "#56B4E9",
                                       "#000000", "#999999"};
  const int n = (int)(sizeof colors / sizeof colors[0]);
  return colors[i < 0 ? 0 : i % n];
}

int ptq_plot_mark(int i) {
  static const int marks[] = {7, 9, 5, 13, 11, 15};
  const int n = (int)(sizeof marks / sizeof marks[0]);
  return marks[i < 0 ? 0 : i % n];
}

void ptq_plot_style(ptq_text *s) {
  ptq_text_add(s, "set border 3 lw 1 lc rgb '#98A2B3'\n"
                  "set tics nomirror out scale 0.5 textcolor rgb '#475467'\n"
                  "set grid xtics ytics lt 1 lw 1 lc rgb '#EAECF0'\n"
                  "set xlabel tc rgb '#344054' offset 0,0.2\n"
                  "set ylabel tc rgb '#344054' offset 1.2,0\n"
                  "set title tc rgb '#101828' font ',14' offset 0,-0.5\n"
                  "unset key\n"
                  "set bars 0\n"
                  "set pointsize 0.55\n");
}

/* Viridis without its palest tenth; larger models are darker. */
void ptq_plot_sizes(const ptq_plot_data *d, ptq_text *s) {
  ptq_text_addf(
      s,
      "set palette defined (0 '#90D743', 1 '#5EC962', 2 '#35B779', "
      "3 '#1F9E89', 4 '#26828E', 5 '#31688E', 6 '#3E4A89', 7 '#482878', "
      "8 '#440154')\n"
      "set logscale cb\nset cbrange [%.6g:%.6g]\n"
      "set format cb '%%.0s%%c'\n"
      "set cbtics scale 0.4 textcolor rgb '#475467' offset -0.5,0\n"
      "unset colorbox\n",
      d->size_low, d->size_high);
  (void)ptq_plot_log_tics(s, "cb", d->size_low, d->size_high);
}

/* Marks at the `n` steps times powers of ten; how many lie on the axis. */
static int log_tics(double low, double high, const double *steps, size_t n,
                    ptq_text *s) {
  int count = 0;
  const int top = (int)floor(log10(high));
  for (int e = (int)floor(log10(low)); e <= top; e++)
    for (size_t i = 0; i < n; i++) {
      const double at = steps[i] * pow(10.0, e);
      if (at < low * (1.0 - 1e-9) || at > high * (1.0 + 1e-9)) continue;
      ptq_text_addf(s, "%s%.6g", count > 0 ? ", " : "", at);
      count++;
    }
  return count;
}

bool ptq_plot_log_tics(ptq_text *s, const char *axis, double low, double high) {
  static const double few[] = {1.0, 2.0, 5.0};
  static const double all[] = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0};
  ptq_text marks = {0};
  if (!(low > 0.0 && high > low && high < 100.0 * low)) return false;
  int n = log_tics(low, high, few, sizeof few / sizeof *few, &marks);
  if (n < 2) { /* within less than a factor of five */
    ptq_text_release(&marks);
    n = log_tics(low, high, all, sizeof all / sizeof *all, &marks);
  }
  if (n >= 2) ptq_text_addf(s, "set %stics (%s)\n", axis, ptq_text_str(&marks));
  if (marks.rc != PTQ_OK) s->rc = marks.rc;
  ptq_text_release(&marks);
  return n >= 2;
}

void ptq_plot_panels(ptq_text *s, int rows, int columns, double gap,
                     double right) {
  const double bottom = rows > 1 ? 0.22 / (double)rows : 0.15;
  ptq_text_addf(s,
                "set multiplot layout %d,%d margins screen 0.085,%.4g,%.4g,"
                "%.4g spacing screen %.4g,%.4g\n",
                rows, columns, 1.0 - right, bottom, 1.0 - 0.13 / (double)rows,
                columns > 1 ? gap : 0.0, rows > 1 ? 0.24 / (double)rows : 0.0);
}

void ptq_plot_key(ptq_text *s, double x) {
  ptq_text_addf(s,
                "set key at screen %.4g,0.92 left top Left reverse samplen "
                "1.2 spacing 1.25 width 0 textcolor rgb '#344054' font ',12'\n",
                x);
}

void ptq_plot_method_keys(const ptq_plot_data *d, ptq_text *s) {
  for (int m = 0; m < d->methods.n; m++) {
    ptq_text_addf(s,
                  ", keyentry with points pt %d ps 0.8 lc rgb '#475467' "
                  "title ",
                  ptq_plot_mark(m));
    ptq_gnuplot_quote(s, d->methods.text[m]);
    ptq_text_add(s, " noenhanced");
  }
}

void ptq_plot_title(ptq_text *s, const char *name) {
  ptq_text_add(s, "set title ");
  ptq_gnuplot_quote(s, name);
  ptq_text_add(s, " noenhanced\n");
}

void ptq_csv_text(ptq_text *csv, const char *text, char end) {
  if (strpbrk(text, ",\"\r\n") == NULL) {
    ptq_text_addf(csv, "%s%c", text, end);
    return;
  }
  ptq_text_add(csv, "\"");
  for (const char *c = text; *c != '\0'; c++)
    ptq_text_addf(csv, *c == '"' ? "\"\"" : "%c", *c);
  ptq_text_addf(csv, "\"%c", end);
}

void ptq_csv_number(ptq_text *csv, double v, char end) {
  if (isfinite(v))
    ptq_text_addf(csv, "%.9g%c", v, end);
  else
    ptq_text_addf(csv, "%c", end);
}

void ptq_csv_point(ptq_text *csv, const ptq_obs *o) {
  char method[PTQ_LEVEL_MAX];
  method_text(o, method);
  ptq_csv_text(csv, o->point->model, ',');
  ptq_csv_text(csv, o->point->family, ',');
  ptq_text_addf(csv, "%lld,", (long long)o->model->params_nonembedding);
  ptq_csv_text(csv, o->point->dtype, ',');
  ptq_csv_text(csv, method, ',');
  ptq_text_addf(csv, "%lld,", (long long)o->point->group);
}
