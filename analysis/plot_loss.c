/* SPDX-License-Identifier: GPL-3.0-or-later */
/* NLL and delta NLL against bits, a panel a family, colours by size. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"
#include "ptq/base/mem.h"

enum { COLUMNS_MAX = 3 };

typedef struct dot {
  const ptq_obs *o;
  double x, y;
} dot;

static int compare_dots(const void *a, const void *b) {
  const dot *p = a, *q = b;
  if (p->x != q->x) return (p->x > q->x) - (p->x < q->x);
  return (p->y > q->y) - (p->y < q->y);
}

/* What is plotted upwards: which value of a point, and where it is cut. */
typedef struct axis {
  bool difference; /* dnll on a logarithmic axis, else nll */
  double low, high;
} axis;

static double value(const axis *a, const ptq_obs *o) {
  return a->difference ? o->point->dnll : o->point->nll;
}

static axis range(const ptq_plot_data *d, int family, bool difference) {
  axis a = {difference, INFINITY, -INFINITY};
  for (int64_t i = 0; i < d->frame->n; i++) {
    const ptq_obs *o = &d->frame->obs[i];
    if (!ptq_obs_shown(o) || (family >= 0 && ptq_family_of(d, o) != family))
      continue;
    const double top = o->model->nll_unigram;
    if (difference) {
      if (o->point->dnll > 0.0) a.low = fmin(a.low, o->point->dnll);
      a.high = fmax(a.high, fmin(o->point->dnll, top - o->model->nll));
    } else {
      a.low = fmin(a.low, fmin(o->model->nll, o->point->nll));
      a.high = fmax(a.high, fmin(o->point->nll, top));
    }
  }
  if (!isfinite(a.high)) return (axis){difference, 1e-3, 1.0}; /* none yet */
  if (difference) {
    a.low = fmax(isfinite(a.low) ? a.low : 1e-4, 1e-4) / 1.5;
    a.high = fmax(a.high, 10.0 * a.low) * 1.5;
  } else {
    const double pad = 0.05 * fmax(a.high - a.low, 0.1);
    a.low -= pad;
    a.high += pad;
  }
  return a;
}

/* The subject's finished points, sorted by bits; collapsed and tiny values
 * are moved to the edge. */
static int64_t collect(const ptq_plot_data *d, int64_t subject, const axis *a,
                       dot *dots) {
  int64_t n = 0;
  for (int64_t i = 0; i < d->frame->n; i++) {
    const ptq_obs *o = &d->frame->obs[i];
    if (o->subject != subject || !ptq_obs_shown(o)) continue;
    const double y = fmin(fmax(value(a, o), a->low), a->high);
    dots[n++] = (dot){o, o->point->bits_per_weight, y};
  }
  qsort(dots, (size_t)n, sizeof *dots, compare_dots);
  return n;
}

static void write_data(const ptq_plot_data *d, int64_t subject, const dot *dots,
                       int64_t n, const axis *a, ptq_picture *p) {
  /* points, a method after the other: x y */
  for (int m = 0; m < d->methods.n; m++) {
    ptq_text_addf(&p->script, "$p%lld_%d << EOD\n", (long long)subject, m);
    for (int64_t i = 0; i < n; i++)
      if (ptq_method_of(d, dots[i].o) == m &&
          dots[i].o->use != PTQ_USE_COLLAPSED)
        ptq_text_addf(&p->script, "%.6g %.6g\n", dots[i].x, dots[i].y);
    ptq_text_add(&p->script, "NaN NaN\nEOD\n");
  }
  ptq_text_addf(&p->script, "$c%lld << EOD\n", (long long)subject);
  for (int64_t i = 0; i < n; i++)
    if (dots[i].o->use == PTQ_USE_COLLAPSED)
      ptq_text_addf(&p->script, "%.6g %.6g\n", dots[i].x, a->high);
  ptq_text_addf(&p->script, "NaN NaN\nEOD\n$e%lld << EOD\n",
                (long long)subject);
  /* the best loss with at most these bits, as steps */
  double best = INFINITY;
  for (int64_t i = 0; i < n; i++)
    if (dots[i].y < best && dots[i].y > a->low &&
        dots[i].o->use != PTQ_USE_COLLAPSED) {
      best = dots[i].y;
      ptq_text_addf(&p->script, "%.6g %.6g\n", dots[i].x, best);
    }
  if (isfinite(best))
    ptq_text_addf(&p->script, "%.6g %.6g\n", d->bits_high, best);
  ptq_text_add(&p->script, "NaN NaN\nEOD\n");
}

static void plot_family(const ptq_plot_data *d, int family, const axis *a,
                        bool last, double key_x, ptq_picture *p) {
  ptq_text *s = &p->script;
  ptq_plot_title(s, d->families.text[family]);
  ptq_text_addf(s, "set yrange [%.6g:%.6g]\n", a->low, a->high);
  if (last) {
    ptq_plot_key(s, key_x);
    ptq_text_addf(s,
                  "set colorbox vertical user origin screen %.4g,0.16 size "
                  "screen 0.015,0.38\n"
                  "set cblabel 'parameters without embeddings' offset 0.3,0 "
                  "tc rgb '#344054' font ',12'\n",
                  key_x + 0.008);
  }
  ptq_text_add(s, "plot NaN notitle");
  for (int64_t i = 0; i < d->frame->n_models; i++) {
    const ptq_model_row *m = &d->frame->models[i];
    if (strcmp(m->family, d->families.text[family]) != 0) continue;
    const double size = (double)m->params_nonembedding;
    const long long k = (long long)i;
    if (!a->difference && isfinite(m->nll))
      ptq_text_addf(s,
                    ", %.6g with lines dt 3 lw 1 lc palette cb %.6g "
                    "notitle",
                    m->nll, size);
    ptq_text_addf(s, ", $e%lld with steps lw 1.6 lc palette cb %.6g notitle", k,
                  size);
    for (int q = 0; q < d->methods.n; q++)
      ptq_text_addf(s,
                    ", $p%lld_%d with points pt %d lc palette cb %.6g "
                    "notitle",
                    k, q, ptq_plot_mark(q), size);
    ptq_text_addf(s,
                  ", $c%lld with points pt 2 ps 0.5 lc palette cb %.6g "
                  "notitle",
                  k, size);
  }
  /* one point with the palette, so that the bar is drawn */
  ptq_text_add(s, ", NaN with points lc palette notitle");
  if (last) {
    ptq_plot_method_keys(d, s);
    ptq_text_add(s, ", keyentry with points pt 2 ps 0.7 lc rgb '#475467' title "
                    "'collapsed'"
                    ", keyentry with lines lw 1.6 lc rgb '#475467' title "
                    "'best so far'");
    if (!a->difference)
      ptq_text_add(s, ", keyentry with lines dt 3 lc rgb '#475467' title "
                      "'unquantized'");
  }
  ptq_text_add(s, "\n");
}

static ptq_status draw(const ptq_plot_data *d, bool difference, ptq_picture *p,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  dot *dots = NULL;
  const int n = d->families.n;
  const int columns = n < COLUMNS_MAX ? n : COLUMNS_MAX;
  const int rows = columns > 0 ? (n + columns - 1) / columns : 0;
  const axis whole = range(d, -1, difference);
  p->empty = !(d->bits_high > 0.0);
  if (p->empty) goto done;
  PTQ_TRY(ptq_alloc(&dots, d->frame->n, sizeof *dots, "points", err));
  p->width = 960;
  p->height = rows == 1 ? 440 : 60 + 330 * rows;
  ptq_plot_style(&p->script);
  ptq_plot_sizes(d, &p->script);
  ptq_text_addf(&p->script,
                "set xrange [%.6g:%.6g]\nset xtics 1\n"
                "set xlabel 'bits a weight'\n%s",
                floor(d->bits_low * 4.0) / 4.0 - 0.25, d->bits_high + 0.25,
                difference ? "set logscale y\nset ylabel 'ΔNLL, nats a token'\n"
                           : "set ylabel 'NLL, nats a token'\n");
  const bool near =
      difference && ptq_plot_log_tics(&p->script, "y", whole.low, whole.high);
  for (int64_t i = 0; i < d->frame->n_models; i++) {
    int family = -1;
    for (int f = 0; f < n; f++)
      if (strcmp(d->frame->models[i].family, d->families.text[f]) == 0)
        family = f;
    const axis a = difference ? whole : range(d, family, false);
    const int64_t m = collect(d, i, &a, dots);
    write_data(d, i, dots, m, &a, p);
  }
  ptq_plot_panels(&p->script, rows, columns, difference ? 0.03 : 0.08, 0.19);
  for (int f = 0; f < n; f++) {
    const axis a = difference ? whole : range(d, f, false);
    if (difference)
      ptq_text_addf(&p->script, "set format y '%s'\nset ylabel '%s'\n",
                    f % columns != 0 ? ""
                    : near           ? "%g"
                                     : "10^{%L}",
                    f % columns == 0 ? "ΔNLL, nats a token" : "");
    plot_family(d, f, &a, f + 1 == n, 0.83, p);
  }
  ptq_text_add(&p->script, "unset multiplot\n");
  ptq_text_addf(&p->csv, PTQ_CSV_POINT "bits_per_weight,%s,state\n",
                difference ? "dnll,dnll_se" : "nll,nll_model");
  for (int64_t i = 0; i < d->frame->n; i++) {
    const ptq_obs *o = &d->frame->obs[i];
    if (!ptq_obs_shown(o)) continue;
    ptq_csv_point(&p->csv, o);
    ptq_csv_number(&p->csv, o->point->bits_per_weight, ',');
    ptq_csv_number(&p->csv, value(&whole, o), ',');
    ptq_csv_number(&p->csv, difference ? o->point->dnll_se : o->model->nll,
                   ',');
    ptq_csv_text(&p->csv, ptq_use_name(o->use), '\n');
  }
done:
  ptq_free(dots);
  return rc;
}

static ptq_status draw_nll(const ptq_plot_data *d, ptq_picture *p,
                           ptq_err *err) {
  const ptq_status rc = draw(d, false, p, err);
  if (rc != PTQ_OK || p->empty) return rc;
  ptq_text_add(&p->caption,
               "Mean negative log-likelihood of the evaluation text, a token. "
               "Each mark is one configuration; the line is the best loss "
               "reached with at most these bits, the dotted line the "
               "unquantized model. Crosses at the upper edge have collapsed: "
               "they predict no better than word frequencies. Families have "
               "different tokenizers, so their axes are not comparable.");
  return PTQ_OK;
}

static ptq_status draw_dnll(const ptq_plot_data *d, ptq_picture *p,
                            ptq_err *err) {
  const ptq_status rc = draw(d, true, p, err);
  if (rc != PTQ_OK || p->empty) return rc;
  int64_t below = 0;
  const axis a = range(d, -1, true);
  for (int64_t i = 0; i < d->frame->n; i++)
    below += ptq_obs_shown(&d->frame->obs[i]) &&
             d->frame->obs[i].point->dnll < a.low;
  ptq_text_add(&p->caption,
               "The loss added by quantization, on a logarithmic axis. The "
               "line is the least added with at most these bits. ");
  if (below > 0)
    ptq_text_addf(&p->caption,
                  "%lld configurations at or below zero, or too small for "
                  "the axis, lie on its lower edge.",
                  (long long)below);
  return PTQ_OK;
}

const ptq_plot ptq_plot_nll = {"nll-bits", "Loss against bits a weight", "Loss",
                               draw_nll, NULL};
const ptq_plot ptq_plot_dnll = {
    "dnll-bits", "Loss added by quantization against bits a weight",
    "Added loss", draw_dnll, NULL};
