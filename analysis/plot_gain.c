/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a method gains over round-to-nearest with the same dtype and group. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"
#include "ptq/base/mem.h"

enum { BITS = PTQ_BITS_MAX };

/* One pair: a method's point beside its RTN point. */
typedef struct pair {
  const ptq_obs *rtn, *other;
  int method, bits;
  double db, nats;
} pair;

static int compare_obs(const void *a, const void *b) {
  const ptq_obs *p = *(const ptq_obs *const *)a;
  const ptq_obs *q = *(const ptq_obs *const *)b;
  if (p->subject != q->subject) return p->subject < q->subject ? -1 : 1;
  const int c = strcmp(p->point->dtype, q->point->dtype);
  if (c != 0) return c;
  if (p->point->group != q->point->group)
    return p->point->group < q->point->group ? -1 : 1;
  const int rp = strcmp(p->point->method, "rtn") != 0;
  const int rq = strcmp(q->point->method, "rtn") != 0;
  if (rp != rq) return rp - rq;
  return (p > q) - (p < q); /* grid order */
}

static ptq_status collect(const ptq_plot_data *d, pair *pairs, int64_t *n,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **sorted = NULL, *rtn = NULL;
  int64_t m = 0;
  *n = 0;
  PTQ_TRY(ptq_alloc(&sorted, d->frame->n, sizeof *sorted, "points", err));
  for (int64_t i = 0; i < d->frame->n; i++)
    if (ptq_obs_shown(&d->frame->obs[i])) sorted[m++] = &d->frame->obs[i];
  qsort(sorted, (size_t)m, sizeof *sorted, compare_obs);
  for (int64_t i = 0; i < m; i++) {
    const ptq_obs *o = sorted[i];
    if (strcmp(o->point->method, "rtn") == 0) {
      rtn = o;
      continue;
    }
    if (rtn == NULL || rtn->subject != o->subject ||
        rtn->point->group != o->point->group ||
        strcmp(rtn->point->dtype, o->point->dtype) != 0)
      continue;
    pairs[(*n)++] = (pair){rtn,
                           o,
                           ptq_method_of(d, o),
                           ptq_nominal_bits(o),
                           o->point->sqnr_output - rtn->point->sqnr_output,
                           rtn->point->dnll - o->point->dnll};
  }
done:
  ptq_free(sorted);
  return rc;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Median, least and greatest gain over dtypes and groups, of all models of
 * one family and size: checkpoints of runs are many of one. */
static bool spread(const pair *pairs, int64_t n, const ptq_model_row *like,
                   int method, int bits, bool db, double *buffer,
                   double out[3]) {
  int64_t m = 0;
  for (int64_t i = 0; i < n; i++) {
    const pair *q = &pairs[i];
    const double v = db ? q->db : q->nats;
    const ptq_model_row *model = q->other->model;
    if (model->params_nonembedding == like->params_nonembedding &&
        strcmp(model->family, like->family) == 0 && q->method == method &&
        q->bits == bits && isfinite(v) &&
        (db || (q->other->use == PTQ_USE_OK && q->rtn->use == PTQ_USE_OK)))
      buffer[m++] = v;
  }
  if (m == 0) return false;
  qsort(buffer, (size_t)m, sizeof *buffer, compare_doubles);
  out[0] = 0.5 * (buffer[(m - 1) / 2] + buffer[m / 2]);
  out[1] = buffer[0];
  out[2] = buffer[m - 1];
  return true;
}

static int compare_models(const void *a, const void *b) {
  const ptq_model_row *p = *(const ptq_model_row *const *)a;
  const ptq_model_row *q = *(const ptq_model_row *const *)b;
  if (p->params_nonembedding != q->params_nonembedding)
    return p->params_nonembedding < q->params_nonembedding ? -1 : 1;
  return (p > q) - (p < q);
}

static ptq_status write_data(const ptq_plot_data *d, const pair *pairs,
                             int64_t n, const bool *has_bits, bool db,
                             ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *buffer = NULL, out[3];
  const ptq_model_row **models = NULL;
  PTQ_TRY(ptq_alloc(&buffer, n, sizeof *buffer, "gains", err));
  PTQ_TRY(
      ptq_alloc(&models, d->frame->n_models, sizeof *models, "models", err));
  for (int64_t i = 0; i < d->frame->n_models; i++)
    models[i] = &d->frame->models[i];
  qsort(models, (size_t)d->frame->n_models, sizeof *models, compare_models);
  for (int m = 0; m < d->methods.n; m++)
    for (int f = 0; f < d->families.n; f++)
      for (int b = 0; b < BITS; b++) {
        if (!has_bits[b]) continue;
        ptq_text_addf(&p->script, "$%c%d_%d_%d << EOD\n", db ? 'd' : 'n', m, f,
                      b);
        int64_t last = -1; /* size */
        for (int64_t i = 0; i < d->frame->n_models; i++) {
          if (strcmp(models[i]->family, d->families.text[f]) != 0 ||
              models[i]->params_nonembedding == last)
            continue;
          last = models[i]->params_nonembedding;
          if (spread(pairs, n, models[i], m, b, db, buffer, out))
            ptq_text_addf(&p->script, "%lld %.6g %.6g %.6g\n",
                          (long long)models[i]->params_nonembedding, out[0],
                          out[1], out[2]);
        }
        ptq_text_add(&p->script, "NaN NaN NaN NaN\nEOD\n");
      }
done:
  ptq_free(buffer);
  ptq_free(models);
  return rc;
}

static const double linear_below = 0.005; /* nats */

/* Of the axis of nats: all pairs, with room at both ends. */
static void nats_range(const pair *pairs, int64_t n, ptq_text *s) {
  double low = 0.0, high = 0.0;
  for (int64_t i = 0; i < n; i++) {
    if (pairs[i].other->use != PTQ_USE_OK || pairs[i].rtn->use != PTQ_USE_OK ||
        !isfinite(pairs[i].nats))
      continue;
    low = fmin(low, pairs[i].nats);
    high = fmax(high, pairs[i].nats);
  }
  low = linear_below * sinh(asinh(low / linear_below) - 0.3);
  high = linear_below * sinh(asinh(high / linear_below) + 0.3);
  ptq_text_addf(s, "nats_low = %.6g\nnats_high = %.6g\n", low, high);
}

static void panel(const ptq_plot_data *d, int m, bool db, const bool *has_bits,
                  bool last, ptq_picture *p) {
  ptq_text *s = &p->script;
  ptq_plot_title(s, d->methods.text[m]);
  if (db)
    ptq_text_add(s, "unset nonlinear y\nset yrange [*:*]\nset ytics auto\n"
                    "set format y '%g'\n"
                    "set ylabel 'output SQNR gained, dB' offset -1,0\n");
  else
    ptq_text_addf(s,
                  "set nonlinear y via asinh(y/%g) inverse %g*sinh(y)\n"
                  "set yrange [nats_low:nats_high]\n"
                  "set ytics (-3,-1,-0.3,-0.1,-0.03,-0.01,0,0.01,0.03,0.1,"
                  "0.3,1,3)\n"
                  "set ylabel 'ΔNLL avoided, nats a token' offset 0,0\n",
                  linear_below, linear_below);
  if (last) ptq_plot_key(s, 0.88);
  ptq_text_add(s, "plot 0 with lines lw 1 lc rgb '#98A2B3' notitle");
  int color = 0;
  for (int b = 0; b < BITS; b++) {
    if (!has_bits[b]) continue;
    for (int f = 0; f < d->families.n; f++)
      ptq_text_addf(s,
                    ", $%c%d_%d_%d using 1:2:3:4 with yerrorbars pt 0 lw 0.9 "
                    "lc rgb '#90%s' notitle, '' using 1:2 with linespoints "
                    "pt %d ps 0.6 lw 1.6 dt %d lc rgb '%s' notitle",
                    db ? 'd' : 'n', m, f, b, ptq_plot_color(color) + 1,
                    ptq_plot_mark(f), f + 1, ptq_plot_color(color));
    color++;
  }
  color = 0;
  for (int b = 0; last && b < BITS; b++) {
    if (!has_bits[b]) continue;
    ptq_text_addf(s, ", keyentry with lines lw 2 lc rgb '%s' title '%d bits'",
                  ptq_plot_color(color++), b);
  }
  for (int f = 0; last && f < d->families.n; f++) {
    ptq_text_addf(s,
                  ", keyentry with linespoints lw 1.4 dt %d pt %d ps 0.7 lc "
                  "rgb '#475467' title ",
                  f + 1, ptq_plot_mark(f));
    ptq_gnuplot_quote(s, d->families.text[f]);
    ptq_text_add(s, " noenhanced");
  }
  ptq_text_add(s, "\n");
}

static void caption(const ptq_plot_data *d, const pair *pairs, int64_t n,
                    ptq_picture *p) {
  double sum = 0.0;
  int64_t m = 0, worse = 0, both = 0;
  for (int64_t i = 0; i < n; i++) {
    if (isfinite(pairs[i].db)) {
      sum += pairs[i].db;
      m++;
    }
    if (pairs[i].other->use != PTQ_USE_OK || pairs[i].rtn->use != PTQ_USE_OK)
      continue;
    both++;
    worse += pairs[i].nats < 0.0;
  }
  (void)d;
  ptq_text_addf(&p->caption,
                "Each method beside round-to-nearest (RTN) with the same "
                "model, format and group: marks are medians over formats and "
                "groups of that width, bars their range. Left: output SQNR "
                "on reference inputs, %.2f dB better on average over %lld "
                "pairs. Right: the added loss it avoids, linear near zero "
                "and logarithmic beyond; below zero RTN was better, as in "
                "%lld of %lld pairs that have not collapsed.",
                m > 0 ? sum / (double)m : 0.0, (long long)m, (long long)worse,
                (long long)both);
}

static void write_csv(const pair *pairs, int64_t n, ptq_picture *p) {
  ptq_text_add(&p->csv, PTQ_CSV_POINT
               "bits,sqnr_output_gain_db,dnll_avoided_nats,dnll_rtn,dnll\n");
  for (int64_t i = 0; i < n; i++) {
    ptq_csv_point(&p->csv, pairs[i].other);
    ptq_text_addf(&p->csv, "%d,", pairs[i].bits);
    ptq_csv_number(&p->csv, pairs[i].db, ',');
    ptq_csv_number(&p->csv, pairs[i].nats, ',');
    ptq_csv_number(&p->csv, pairs[i].rtn->point->dnll, ',');
    ptq_csv_number(&p->csv, pairs[i].other->point->dnll, '\n');
  }
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  pair *pairs = NULL;
  int64_t n = 0;
  bool has_bits[BITS] = {false}, has_method[PTQ_LABELS_MAX] = {false};
  int rows = 0, drawn = 0;
  PTQ_TRY(ptq_alloc(&pairs, d->frame->n, sizeof *pairs, "pairs", err));
  PTQ_TRY(collect(d, pairs, &n, err));
  for (int64_t i = 0; i < n; i++) {
    has_bits[pairs[i].bits] = true;
    if (!has_method[pairs[i].method]) rows++;
    has_method[pairs[i].method] = true;
  }
  p->empty = n == 0;
  if (p->empty) {
    ptq_text_add(&p->caption,
                 "No format and group was run both with RTN and with another "
                 "method, so there is no gain to show.");
    goto done;
  }
  p->width = 960;
  p->height = rows == 1 ? 420 : 60 + 320 * rows;
  ptq_plot_style(&p->script);
  ptq_text_addf(&p->script,
                "set logscale x\nset xrange [%.6g:%.6g]\n"
                "set format x '%%.0s%%c'\n"
                "set xlabel 'parameters without embeddings'\n",
                d->size_low / 1.3, d->size_high * 1.3);
  (void)ptq_plot_log_tics(&p->script, "x", d->size_low / 1.3,
                          d->size_high * 1.3);
  PTQ_TRY(write_data(d, pairs, n, has_bits, true, p, err));
  PTQ_TRY(write_data(d, pairs, n, has_bits, false, p, err));
  nats_range(pairs, n, &p->script);
  ptq_plot_panels(&p->script, rows, 2, 0.09, 0.13);
  for (int m = 0; m < d->methods.n; m++) {
    if (!has_method[m]) continue;
    drawn++;
    panel(d, m, true, has_bits, false, p);
    panel(d, m, false, has_bits, drawn == rows, p);
  }
  ptq_text_add(&p->script, "unset multiplot\n");
  caption(d, pairs, n, p);
  write_csv(pairs, n, p);
done:
  ptq_free(pairs);
  return rc;
}

const ptq_plot ptq_plot_gain = {"gptq-gain", "Gain over round-to-nearest",
                                "GPTQ gain", draw, NULL};
