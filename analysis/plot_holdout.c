/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Predicted against measured loss of models that the law has not seen. */
#include <math.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"

static bool drawable(const ptq_holdout *h) {
  return h->obs->point->dnll > 0.0 && h->law.dnll > 0.0;
}

/* Models and families, and what is held out for good if there is any; the
 * tables have the other splits. */
static bool shown(const ptq_law_result *r, int s) {
  const ptq_validation *v = &r->splits[s];
  return s < 2 || (v->split->held && v->n_groups > 0);
}

static void range(const ptq_law_result *r, double *low, double *high) {
  *low = INFINITY;
  *high = 0.0;
  for (int s = 0; s < r->n_splits; s++)
    for (int64_t i = 0; i < r->splits[s].n_points; i++) {
      const ptq_holdout *h = &r->splits[s].points[i];
      if (!shown(r, s) || !drawable(h)) continue;
      *low = fmin(*low, fmin(h->obs->point->dnll, h->law.dnll));
      *high = fmax(*high, fmax(h->obs->point->dnll, h->law.dnll));
    }
  if (!(*low <= *high)) { /* nothing was held out yet */
    *low = 1e-3;
    *high = 1.0;
  }
  *low = fmax(*low, *high * 1e-4) / 1.5;
  *high *= 1.5;
}

static void write_data(const ptq_plot_data *d, const ptq_validation *v,
                       int split, ptq_picture *p) {
  for (int f = 0; f < d->families.n; f++) {
    ptq_text_addf(&p->script, "$h%d_%d << EOD\n", split, f);
    for (int64_t i = 0; i < v->n_points; i++) {
      const ptq_holdout *h = &v->points[i];
      if (!drawable(h) || ptq_family_of(d, h->obs) != f) continue;
      const double y = h->obs->point->dnll;
      const double se =
          isfinite(h->obs->point->dnll_se) ? h->obs->point->dnll_se : 0.0;
      ptq_text_addf(&p->script, "%.6g %.6g %.6g %.6g %.6g %.6g\n", y,
                    h->law.dnll, fmax(y - 2.0 * se, 0.05 * y), y + 2.0 * se,
                    h->law.low, h->law.high);
    }
    ptq_text_add(&p->script, "NaN NaN NaN NaN NaN NaN\nEOD\n");
  }
}

static void panel(const ptq_plot_data *d, const ptq_validation *v, int split,
                  bool last, ptq_picture *p) {
  ptq_text *s = &p->script;
  ptq_plot_title(s, v->split->name);
  ptq_text_add(s, "unset label\n");
  if (v->n_groups < v->split->least)
    ptq_text_addf(s, "set label 'needs two of them' at graph 0.5,0.5 center tc "
                     "rgb '#475467'\n");
  else if (isfinite(v->all.median))
    ptq_text_addf(s,
                  "set label 'off by a factor of %.2f (median)' at graph "
                  "0.04,0.95 left tc rgb '#344054' font ',12'\n"
                  "set label 'baseline: %.2f' at graph 0.04,0.89 left tc rgb "
                  "'#667085' font ',12'\n",
                  exp(v->all.median), exp(v->all.median_base));
  if (last) ptq_plot_key(s, 0.865);
  if (split > 0) ptq_text_add(s, "set format y ''\nunset ylabel\n");
  ptq_text_add(s,
               "plot x with lines lw 1.2 lc rgb '#344054' notitle, 2*x with "
               "lines lw 1 dt 3 lc rgb '#98A2B3' notitle, x/2 with lines lw 1 "
               "dt 3 lc rgb '#98A2B3' notitle");
  /* many bars darken one another, few would hardly be seen */
  for (int f = 0; f < d->families.n; f++)
    ptq_text_addf(s,
                  ", $h%d_%d using 1:2:3:4:5:6 with xyerrorbars pt 0 lw 0.7 "
                  "lc rgb '#%s98A2B3' notitle",
                  split, f, v->n_points > 100 ? "A0" : "20");
  for (int f = 0; f < d->families.n; f++)
    ptq_text_addf(s,
                  ", $h%d_%d using 1:2 with points pt %d ps 0.5 lc rgb "
                  "'%s' notitle",
                  split, f, ptq_plot_mark(f), ptq_plot_color(f));
  for (int f = 0; last && f < d->families.n; f++) {
    ptq_text_addf(s, ", keyentry with points pt %d ps 0.8 lc rgb '%s' title ",
                  ptq_plot_mark(f), ptq_plot_color(f));
    ptq_gnuplot_quote(s, d->families.text[f]);
    ptq_text_add(s, " noenhanced");
  }
  if (last)
    ptq_text_add(s, ", keyentry with lines lw 1.2 lc rgb '#344054' title "
                    "'equal', keyentry with lines dt 3 lc rgb '#667085' title "
                    "'factor of two', keyentry with lines lw 0.8 lc rgb "
                    "'#B0B7C3' title 'intervals'");
  ptq_text_add(s, "\n");
}

static void write_csv(const ptq_law_result *r, ptq_picture *p) {
  ptq_text_add(&p->csv, "split," PTQ_CSV_POINT
                        "dnll,dnll_se,predicted,low90,high90,baseline\n");
  for (int s = 0; s < r->n_splits; s++)
    for (int64_t i = 0; i < r->splits[s].n_points; i++) {
      const ptq_holdout *h = &r->splits[s].points[i];
      ptq_csv_text(&p->csv, r->splits[s].split->name, ',');
      ptq_csv_point(&p->csv, h->obs);
      ptq_csv_number(&p->csv, h->obs->point->dnll, ',');
      ptq_csv_number(&p->csv, h->obs->point->dnll_se, ',');
      ptq_csv_number(&p->csv, h->law.dnll, ',');
      ptq_csv_number(&p->csv, h->law.low, ',');
      ptq_csv_number(&p->csv, h->law.high, ',');
      ptq_csv_number(&p->csv, h->base, '\n');
    }
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  (void)err;
  double low = 0.0, high = 0.0;
  if (d->summary != NULL) range(&d->summary->law, &low, &high);
  p->empty = d->summary == NULL || !(high > low);
  if (p->empty) {
    ptq_text_add(&p->caption,
                 "No law could be validated on held-out models yet.");
    return PTQ_OK;
  }
  const ptq_law_result *r = &d->summary->law;
  int panels = 0, last = 0;
  for (int s = 0; s < r->n_splits; s++)
    if (shown(r, s)) {
      panels++;
      last = s;
    }
  p->width = panels > 2 ? 1300 : 960;
  p->height = 470;
  ptq_plot_style(&p->script);
  for (int s = 0; s < r->n_splits; s++)
    if (shown(r, s)) write_data(d, &r->splits[s], s, p);
  ptq_text_addf(&p->script,
                "set logscale xy\nset xrange [%.6g:%.6g]\n"
                "set yrange [%.6g:%.6g]\n"
                "set format xy '10^{%%L}'\n"
                "set xlabel 'measured ΔNLL, nats a token'\n"
                "set ylabel 'predicted ΔNLL, nats a token'\n",
                low, high, low, high);
  ptq_plot_panels(&p->script, 1, panels, 0.03, 0.14);
  for (int s = 0; s < r->n_splits; s++)
    if (shown(r, s)) panel(d, &r->splits[s], s, s == last, p);
  ptq_text_add(&p->script, "unset multiplot\n");
  ptq_text_addf(&p->caption,
                "Every configuration predicted by a law fitted without its "
                "%s. Upright "
                "bars are 90&nbsp;%% prediction intervals, level bars two "
                "standard errors of the measurement. The median factor "
                "counts points with %g &lt; ΔNLL &lt; %g; the baseline "
                "predicts the median of the same format over the other "
                "models.",
                panels > 2 ? "model (left), without its whole family (middle) "
                             "or, of models held out for good, without them "
                             "(right)"
                           : "model (left) or without its whole family (right)",
                PTQ_BAND_LOW, PTQ_BAND_HIGH);
  write_csv(r, p);
  return PTQ_OK;
}

const ptq_plot ptq_plot_holdout = {
    "predicted-measured", "Predicted against measured, on held-out models",
    "Prediction", draw, NULL};
