/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mixed precision: predicted against measured, what it gains over uniform
 * formats, and which layers got which bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "page.h"
#include "plot.h"

static bool has_prediction(const ptq_mixed_row *r) {
  return r->obs->use == PTQ_USE_OK && r->obs->point->dnll > 0.0 &&
         r->predicted.dnll > 0.0;
}

static bool has_rival(const ptq_mixed_row *r) {
  return r->obs->use == PTQ_USE_OK && r->uniform != NULL &&
         r->uniform->use == PTQ_USE_OK && r->uniform->point->dnll > 0.0;
}

/* dnll over the uniform one's, and two errors of the difference on it. */
static double ratio_of(const ptq_mixed_row *r, double *error) {
  const double u = r->uniform->point->dnll;
  *error = r->difference_se > 0.0 ? 2.0 * r->difference_se / u : 0.0;
  return r->obs->point->dnll / u;
}

static void write_data(const ptq_plot_data *d, ptq_picture *p) {
  const ptq_mixed *m = d->mixed;
  for (int k = 0; k < d->methods.n; k++) {
    ptq_text_addf(&p->script, "$p%d << EOD\n", k);
    for (int64_t i = 0; i < m->n; i++) {
      const ptq_mixed_row *r = &m->row[i];
      if (!has_prediction(r) || ptq_method_of(d, r->obs) != k) continue;
      const double y = r->obs->point->dnll;
      const double se =
          r->obs->point->dnll_se > 0.0 ? 2.0 * r->obs->point->dnll_se : 0.0;
      ptq_text_addf(
          &p->script, "%.6g %.6g %.6g %.6g %.6g %.6g %lld\n", y,
          r->predicted.dnll, fmax(y - se, 0.05 * y), y + se,
          isfinite(r->predicted.low) ? r->predicted.low : r->predicted.dnll,
          isfinite(r->predicted.high) ? r->predicted.high : r->predicted.dnll,
          (long long)r->obs->model->params_nonembedding);
    }
    ptq_text_addf(&p->script, "NaN NaN NaN NaN NaN NaN NaN\nEOD\n$r%d << EOD\n",
                  k);
    for (int64_t i = 0; i < m->n; i++) {
      const ptq_mixed_row *r = &m->row[i];
      if (!has_rival(r) || ptq_method_of(d, r->obs) != k) continue;
      double error = 0.0;
      const double ratio = ratio_of(r, &error);
      /* budgets are shared: spread the points, so that none hides another */
      const double x = r->obs->point->bits_per_weight +
                       0.2 * ((double)(i * 7 % 32) / 31.0 - 0.5);
      ptq_text_addf(&p->script, "%.6g %.6g %.6g %.6g %lld\n", x, ratio,
                    fmax(ratio - error, 0.2 * ratio), ratio + error,
                    (long long)r->obs->model->params_nonembedding);
    }
    ptq_text_add(&p->script, "NaN NaN NaN NaN NaN\nEOD\n");
  }
}

/* Range of the ratios, at least from a half to two. */
static void ratios(const ptq_mixed *m, double *low, double *high) {
  *low = 0.5;
  *high = 2.0;
  for (int64_t i = 0; i < m->n; i++) {
    double error = 0.0;
    if (!has_rival(&m->row[i])) continue;
    const double ratio = ratio_of(&m->row[i], &error);
    if (!(ratio > 0.0)) continue;
    *low = fmin(*low, ratio / 1.2);
    *high = fmax(*high, ratio * 1.2);
  }
}

static void panels(const ptq_plot_data *d, double low, double high,
                   ptq_picture *p) {
  ptq_text *s = &p->script;
  double least = 0.0, most = 0.0;
  ratios(d->mixed, &least, &most);
  const bool near = ptq_plot_log_tics(s, "x", low, high) &&
                    ptq_plot_log_tics(s, "y", low, high);
  ptq_plot_panels(s, 1, 2, 0.085, 0.17);
  ptq_text_addf(s,
                "set title 'predicted'\nset logscale xy\n"
                "set xrange [%.6g:%.6g]\nset yrange [%.6g:%.6g]\n"
                "set format xy '%s'\n"
                "set xlabel 'measured ΔNLL, nats a token'\n"
                "set ylabel 'predicted ΔNLL, nats a token'\n"
                "plot x with lines lw 1.2 lc rgb '#344054' notitle, 2*x with "
                "lines lw 1 dt 3 lc rgb '#98A2B3' notitle, x/2 with lines lw 1 "
                "dt 3 lc rgb '#98A2B3' notitle",
                low, high, low, high, near ? "%g" : "10^{%L}");
  for (int k = 0; k < d->methods.n; k++)
    ptq_text_addf(s,
                  ", $p%d using 1:2:3:4:5:6 with xyerrorbars pt 0 lw 0.7 lc "
                  "rgb '#A098A2B3' notitle, '' using 1:2:7 with points pt %d "
                  "lc palette notitle",
                  k, ptq_plot_mark(k));
  ptq_text_addf(s,
                "\nset title 'beside the uniform format'\n"
                "unset logscale x\nset format xy '%%g'\nset xtics autofreq\n"
                "set xrange [*:*]\nset yrange [%.6g:%.6g]\n"
                "set offsets graph 0.05, graph 0.05, 0, 0\n"
                "set ytics (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10)\n"
                "set xlabel 'bits a weight'\n"
                "set ylabel 'ΔNLL over the uniform format’s'\n",
                least, most);
  ptq_plot_key(s, 0.85);
  ptq_text_add(s, "set colorbox vertical user origin screen 0.858,0.16 size "
                  "screen 0.015,0.45\n"
                  "set cblabel 'parameters without embeddings' offset 0.3,0 tc "
                  "rgb '#344054' font ',12'\n"
                  "plot 1 with lines lw 1.2 lc rgb '#344054' notitle");
  for (int k = 0; k < d->methods.n; k++)
    ptq_text_addf(s,
                  ", $r%d using 1:2:3:4 with yerrorbars pt 0 lw 0.8 lc rgb "
                  "'#98A2B3' notitle, '' using 1:2:5 with points pt %d lc "
                  "palette notitle",
                  k, ptq_plot_mark(k));
  ptq_plot_method_keys(d, s);
  ptq_text_add(s, "\nunset multiplot\n");
}

static void write_csv(const ptq_mixed *m, ptq_picture *p) {
  ptq_text_add(&p->csv, PTQ_CSV_POINT
               "bits_per_weight,dnll,dnll_se,predicted,predicted_low,"
               "predicted_high,predicted_ahead,uniform_dtype,uniform_group,"
               "uniform_bits,uniform_dnll,difference,difference_se,"
               "uniform_at_equal_bits\n");
  for (int64_t i = 0; i < m->n; i++) {
    const ptq_mixed_row *r = &m->row[i];
    const ptq_point_row *u = r->uniform != NULL ? r->uniform->point : NULL;
    ptq_csv_point(&p->csv, r->obs);
    ptq_csv_number(&p->csv, r->obs->point->bits_per_weight, ',');
    ptq_csv_number(&p->csv, r->obs->point->dnll, ',');
    ptq_csv_number(&p->csv, r->obs->point->dnll_se, ',');
    ptq_csv_number(&p->csv, r->predicted.dnll, ',');
    ptq_csv_number(&p->csv, r->predicted.low, ',');
    ptq_csv_number(&p->csv, r->predicted.high, ',');
    ptq_text_addf(&p->csv, "%d,", r->ahead ? 1 : 0);
    ptq_csv_text(&p->csv, u != NULL ? u->dtype : "", ',');
    ptq_csv_number(&p->csv, u != NULL ? (double)u->group : (double)NAN, ',');
    ptq_csv_number(&p->csv, u != NULL ? u->bits_per_weight : (double)NAN, ',');
    ptq_csv_number(&p->csv, u != NULL ? u->dnll : (double)NAN, ',');
    ptq_csv_number(&p->csv, r->difference, ',');
    ptq_csv_number(&p->csv, r->difference_se, ',');
    ptq_csv_number(&p->csv, r->equal_bits, '\n');
  }
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  const ptq_mixed *m = d->mixed;
  double low = INFINITY, high = 0.0;
  int64_t rivals = 0;
  (void)err;
  p->width = 960;
  p->height = 440;
  for (int64_t i = 0; i < m->n; i++) {
    const ptq_mixed_row *r = &m->row[i];
    rivals += has_rival(r);
    if (!has_prediction(r)) continue;
    low = fmin(low, fmin(r->obs->point->dnll, r->predicted.dnll));
    high = fmax(high, fmax(r->obs->point->dnll, r->predicted.dnll));
  }
  p->empty = rivals == 0 && !(high > 0.0);
  if (p->empty) return PTQ_OK;
  if (!(high > 0.0)) low = high = 1.0;
  ptq_plot_style(&p->script);
  ptq_plot_sizes(d, &p->script);
  write_data(d, p);
  panels(d, fmax(low, high * 1e-4) / 1.5, high * 1.5, p);
  write_csv(m, p);
  ptq_text_add(&p->caption,
               "Points of mixed precision. Left: predicted before they were "
               "run, where the sweep file says so, with 90&nbsp;% intervals, "
               "against measured, with two standard errors. Right: the loss "
               "over that of the best uniform format of the same model and "
               "method with at most as many bits, which may have "
               "fewer; below the line, the mixture is better. Bars are two "
               "standard errors of the paired difference.");
  return PTQ_OK;
}

static bool applies(const ptq_plot_data *d) {
  return d->mixed != NULL && d->mixed->n > 0;
}

const ptq_plot ptq_plot_mixed = {"mixed-precision",
                                 "Mixed precision: predicted and measured",
                                 "Mixed precision", draw, applies};

enum { PANELS = 3 };

static int by_bits(const void *a, const void *b) {
  const ptq_obs *x = (*(const ptq_mixed_row *const *)a)->obs;
  const ptq_obs *y = (*(const ptq_mixed_row *const *)b)->obs;
  if (x->point->bits_per_weight != y->point->bits_per_weight)
    return x->point->bits_per_weight < y->point->bits_per_weight ? -1 : 1;
  return (x > y) - (x < y);
}

/* Points of the largest model, by one method, from few bits to many; of more
 * than fit, the ends and the middle. */
static int choose(const ptq_mixed *m, const ptq_mixed_row *out[PANELS]) {
  enum { MOST = 64 };
  const ptq_mixed_row *all[MOST], *best = NULL;
  int n = 0;
  for (int64_t i = 0; i < m->n; i++)
    if (best == NULL || m->row[i].obs->model->params_nonembedding >
                            best->obs->model->params_nonembedding)
      best = &m->row[i];
  for (int64_t i = 0; i < m->n && n < MOST; i++)
    if (m->row[i].obs->subject == best->obs->subject &&
        strcmp(m->row[i].obs->point->method, best->obs->point->method) == 0)
      all[n++] = &m->row[i];
  qsort(all, (size_t)n, sizeof *all, by_bits);
  const int shown = n < PANELS ? n : PANELS;
  for (int k = 0; k < shown; k++)
    out[k] = all[shown > 1 ? k * (n - 1) / (shown - 1) : 0];
  return shown;
}

static ptq_status draw_layers(const ptq_plot_data *d, ptq_picture *p,
                              ptq_err *err) {
  const ptq_mixed_row *shown[PANELS];
  ptq_heat heat = {.label = "bits a weight", .kinds = {.n = 0}};
  (void)err;
  const int n = d->layers != NULL ? choose(d->mixed, shown) : 0;
  p->width = 960;
  p->height = 380;
  p->empty = n == 0;
  if (p->empty) return PTQ_OK;
  ptq_plot_style(&p->script);
  ptq_text_add(&p->csv, PTQ_CSV_POINT
               "layer,layer_dtype,layer_group,layer_bits,sqnr_output\n");
  for (int k = 0; k < n; k++) {
    const int64_t at = shown[k]->obs - d->whole->obs;
    ptq_text_addf(&p->script, "$l%d << EOD\n", k);
    for (int64_t i = d->first_layer[at]; i < d->first_layer[at + 1]; i++) {
      const ptq_layer_row *l = &d->layers[i];
      ptq_heat_cell(&heat, l->layer, l->layer_bits, &p->script);
      ptq_csv_point(&p->csv, shown[k]->obs);
      ptq_csv_text(&p->csv, l->layer, ',');
      ptq_csv_text(&p->csv, l->layer_dtype, ',');
      ptq_text_addf(&p->csv, "%lld,", (long long)l->layer_group);
      ptq_csv_number(&p->csv, l->layer_bits, ',');
      ptq_csv_number(&p->csv, l->sqnr_output, '\n');
    }
    ptq_text_add(&p->script, "EOD\n");
  }
  ptq_heat_begin(&heat, n, &p->script);
  for (int k = 0; k < n; k++) {
    ptq_text title = {0};
    ptq_text_addf(&title, "%.3f bits", shown[k]->obs->point->bits_per_weight);
    ptq_heat_panel(&heat, k, n, ptq_text_str(&title), &p->script);
    ptq_text_release(&title);
  }
  ptq_text_add(&p->script, "unset multiplot\n");
  ptq_text_add(&p->caption, "Bits that each layer of ");
  ptq_html_text(&p->caption, shown[0]->obs->point->model);
  ptq_text_add(&p->caption, " got, scales included, by ");
  ptq_html_text(&p->caption, shown[0]->obs->point->method);
  ptq_text_add(&p->caption, ": the largest model that has points of mixed "
                            "precision.");
  return PTQ_OK;
}

const ptq_plot ptq_plot_mixed_layers = {
    "mixed-layers", "Mixed precision: which layers get the bits", "Its layers",
    draw_layers, applies};
