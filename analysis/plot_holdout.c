/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Predicted against measured loss of models that the law has not seen. */
#include <math.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"

static bool drawable(const ptq_holdout *h) {
  return h->obs->point->dnll > 0.0 && h->law.dnll > 0.0;
}

/* Of both axes, which are the same. */
typedef struct axis {
  double low, high;
} axis;

static bool within(const axis *a, double v) {
  return v >= a->low && v <= a->high;
}

/* Points that stand in no panel, by reason. */
typedef struct hidden {
  int64_t all, measured, predicted, beyond;
} hidden;

/* Models and families, and what is held out for good if there is any; the
 * tables have the other splits. */
static bool shown(const ptq_law_result *r, int s) {
  const ptq_validation *v = &r->splits[s];
  return s < 2 || (v->split->held && v->n_groups > 0);
}

/* Measured losses of four decades, and predictions up to a decade beyond: one
 * law that explodes must not squeeze all points into a corner. */
static axis range(const ptq_law_result *r) {
  axis measured = {INFINITY, 0.0}, predicted = {INFINITY, 0.0};
  for (int s = 0; s < r->n_splits; s++)
    for (int64_t i = 0; i < r->splits[s].n_points; i++) {
      const ptq_holdout *h = &r->splits[s].points[i];
      if (!shown(r, s) || !drawable(h)) continue;
      measured.low = fmin(measured.low, h->obs->point->dnll);
      measured.high = fmax(measured.high, h->obs->point->dnll);
      predicted.low = fmin(predicted.low, h->law.dnll);
      predicted.high = fmax(predicted.high, h->law.dnll);
    }
  if (!(measured.low <= measured.high)) /* nothing was held out yet */
    return (axis){1e-3, 1.0};
  const double low = fmax(measured.low, measured.high * 1e-4);
  const double high = measured.high;
  return (axis){fmin(low, fmax(predicted.low, low / 10.0)) / 1.5,
                fmax(high, fmin(predicted.high, high * 10.0)) * 1.5};
}

static hidden count_hidden(const ptq_law_result *r, const axis *a) {
  hidden n = {0};
  for (int s = 0; s < r->n_splits; s++)
    for (int64_t i = 0; shown(r, s) && i < r->splits[s].n_points; i++) {
      const ptq_holdout *h = &r->splits[s].points[i];
      const double y = h->obs->point->dnll, p = h->law.dnll;
      n.all++;
      if (!(y > 0.0))
        n.measured++;
      else if (!(p > 0.0))
        n.predicted++;
      else if (!within(a, y) || !within(a, p))
        n.beyond++;
    }
  return n;
}

static void tell_hidden(const hidden *n, const axis *a, ptq_text *out) {
  const int64_t sum = n->measured + n->predicted + n->beyond;
  if (sum == 0) return;
  ptq_text_addf(out,
                " Of %lld predictions %lld are not drawn:", (long long)n->all,
                (long long)sum);
  if (n->measured > 0)
    ptq_text_addf(out, " %lld of losses measured at or below zero",
                  (long long)n->measured);
  if (n->predicted > 0)
    ptq_text_addf(out, "%s %lld that are not above zero themselves",
                  n->measured > 0 ? "," : "", (long long)n->predicted);
  if (n->beyond > 0)
    ptq_text_addf(out,
                  "%s %lld that lie beyond the axes (%.2g to %.2g nats) as "
                  "measured or as predicted",
                  n->measured + n->predicted > 0 ? "," : "",
                  (long long)n->beyond, a->low, a->high);
  ptq_text_add(out, "; the data have them.");
}

static void write_data(const ptq_plot_data *d, const ptq_validation *v,
                       int split, const axis *a, ptq_picture *p) {
  for (int f = 0; f < d->families.n; f++) {
    ptq_text_addf(&p->script, "$h%d_%d << EOD\n", split, f);
    for (int64_t i = 0; i < v->n_points; i++) {
      const ptq_holdout *h = &v->points[i];
      const double y = h->obs->point->dnll;
      if (!within(a, y) || !within(a, h->law.dnll) ||
          ptq_family_of(d, h->obs) != f)
        continue;
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
  p->empty = d->summary == NULL;
  if (p->empty) {
    ptq_text_add(&p->caption,
                 "No law could be validated on held-out models yet.");
    return PTQ_OK;
  }
  const ptq_law_result *r = &d->summary->law;
  const axis a = range(r);
  const hidden n = count_hidden(r, &a);
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
    if (shown(r, s)) write_data(d, &r->splits[s], s, &a, p);
  ptq_text_addf(&p->script,
                "set logscale xy\nset xrange [%.6g:%.6g]\n"
                "set yrange [%.6g:%.6g]\n"
                "set xlabel 'measured ΔNLL, nats a token'\n"
                "set ylabel 'predicted ΔNLL, nats a token'\n",
                a.low, a.high, a.low, a.high);
  const bool near = ptq_plot_log_tics(&p->script, "x", a.low, a.high) &&
                    ptq_plot_log_tics(&p->script, "y", a.low, a.high);
  ptq_text_addf(&p->script, "set format xy '%s'\n", near ? "%g" : "10^{%L}");
  ptq_plot_panels(&p->script, 1, panels, 0.03, 0.14);
  for (int s = 0; s < r->n_splits; s++)
    if (shown(r, s)) panel(d, &r->splits[s], s, s == last, p);
  ptq_text_add(&p->script, "unset multiplot\n");
  ptq_text_addf(&p->caption,
                "Configurations, each predicted by a law fitted without its "
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
  tell_hidden(&n, &a, &p->caption);
  write_csv(r, p);
  return PTQ_OK;
}

const ptq_plot ptq_plot_holdout = {
    "predicted-measured", "Predicted against measured, on held-out models",
    "Prediction", draw, NULL};
