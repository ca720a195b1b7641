/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Size of the whole model against its loss, and what nothing else beats. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"
#include "ptq/base/mem.h"

static int compare_size(const void *a, const void *b) {
  const ptq_obs *x = *(const ptq_obs *const *)a;
  const ptq_obs *y = *(const ptq_obs *const *)b;
  if (x->point->bits_model != y->point->bits_model)
    return x->point->bits_model < y->point->bits_model ? -1 : 1;
  return (x->point->nll > y->point->nll) - (x->point->nll < y->point->nll);
}

/* Points of a family by size; *on[i] is whether none before is as good. */
static int64_t family_points(const ptq_plot_data *d, int family,
                             const ptq_obs **out) {
  int64_t n = 0;
  for (int64_t i = 0; i < d->frame->n; i++) {
    const ptq_obs *o = &d->frame->obs[i];
    if (o->use == PTQ_USE_OK && isfinite(o->point->bits_model) &&
        ptq_family_of(d, o) == family)
      out[n++] = o;
  }
  qsort(out, (size_t)n, sizeof *out, compare_size);
  return n;
}

static void write_family(ptq_picture *p, int family, const ptq_obs **points,
                         int64_t n) {
  double least = INFINITY;
  ptq_text_addf(&p->script, "$p%d << EOD\n", family);
  for (int64_t i = 0; i < n; i++)
    ptq_text_addf(&p->script, "%.8g %.8g %lld\n",
                  points[i]->point->bits_model / 8.0, points[i]->point->nll,
                  (long long)points[i]->model->params_nonembedding);
  ptq_text_addf(&p->script, "NaN NaN NaN\nEOD\n$f%d << EOD\n", family);
  for (int64_t i = 0; i < n; i++) {
    const ptq_point_row *q = points[i]->point;
    const bool on = q->nll < least;
    least = fmin(least, q->nll);
    if (on)
      ptq_text_addf(&p->script, "%.8g %.8g %.6g\n", q->bits_model / 8.0, q->nll,
                    isfinite(q->dnll_se) ? 2.0 * q->dnll_se : 0.0);
    ptq_csv_point(&p->csv, points[i]);
    ptq_csv_number(&p->csv, q->bits_model, ',');
    ptq_csv_number(&p->csv, q->nll, ',');
    ptq_csv_number(&p->csv, q->dnll_se, ',');
    ptq_text_addf(&p->csv, "%d\n", on ? 1 : 0);
  }
  ptq_text_add(&p->script, "NaN NaN NaN\nEOD\n");
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **points = NULL;
  ptq_text *s = &p->script;
  int64_t shown = 0;
  p->width = 960;
  p->height = 480;
  PTQ_TRY(ptq_alloc(&points, d->frame->n, sizeof *points, "points", err));
  ptq_plot_style(s);
  ptq_text_add(&p->csv, PTQ_CSV_POINT "bits_model,nll,dnll_se,on_frontier\n");
  for (int f = 0; f < d->families.n; f++) {
    const int64_t n = family_points(d, f, points);
    write_family(p, f, points, n);
    shown += n;
  }
  p->empty = shown == 0;
  if (p->empty) goto done;
  ptq_text_add(s, "set logscale x\nset format x '%.0s%cB'\n"
                  "set lmargin screen 0.085\nset rmargin screen 0.84\n"
                  "set xlabel 'whole model, bytes'\n"
                  "set ylabel 'NLL, nats a token'\n");
  ptq_plot_key(s, 0.86);
  ptq_text_add(s, "plot NaN notitle");
  for (int f = 0; f < d->families.n; f++)
    ptq_text_addf(s,
                  ", $p%d using 1:2 with points pt %d ps 0.45 lc rgb '#98A2B3' "
                  "notitle, $f%d using 1:2 with steps lw 1.6 lc rgb '%s' "
                  "notitle, $f%d using 1:2:3 with yerrorbars pt %d ps 0.7 lc "
                  "rgb '%s' notitle",
                  f, ptq_plot_mark(f), f, ptq_plot_color(f), f,
                  ptq_plot_mark(f), ptq_plot_color(f));
  for (int f = 0; f < d->families.n; f++) {
    ptq_text_addf(s, ", keyentry with linespoints pt %d lc rgb '%s' title ",
                  ptq_plot_mark(f), ptq_plot_color(f));
    ptq_gnuplot_quote(s, d->families.text[f]);
    ptq_text_add(s, " noenhanced");
  }
  ptq_text_add(s, "\n");
  ptq_text_add(&p->caption,
               "Every configuration by the size of the whole checkpoint; "
               "coloured are those that no smaller or equal one of the family "
               "beats, with two standard errors of ΔNLL. Frontiers of families "
               "with different tokenizers cannot be compared: a token is not "
               "the same text.");
done:
  ptq_free(points);
  return rc;
}

const ptq_plot ptq_plot_pareto = {"pareto", "What size buys", "Pareto", draw,
                                  NULL};
