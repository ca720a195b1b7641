/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Residuals of the law: against the prediction, as quantiles, by model. */
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"
#include "ptq/base/mem.h"

enum { NAMES = 14 }; /* of models, below the axis */

/* Every so many-th of n points is drawn. */
static int64_t stride(int64_t n) {
  enum { DRAWN = 4000 };
  return 1 + n / DRAWN;
}

static double log_ratio(const ptq_fit *f, int64_t i) {
  const double y = f->matrix.obs[i]->point->dnll;
  return y > 0.0 && f->matrix.obs[i]->use == PTQ_USE_OK ? log(y / f->fitted[i])
                                                        : NAN;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Standardized residuals, sorted, beside normal quantiles. */
static ptq_status quantiles(const ptq_fit *f, ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *e = NULL, sum = 0.0;
  int64_t n = 0;
  PTQ_TRY(ptq_alloc(&e, f->matrix.n, sizeof *e, "residuals", err));
  for (int64_t i = 0; i < f->matrix.n; i++) {
    double c = NAN;
    if (f->weight == NULL &&
        ptq_obs_censoring(f->matrix.obs[i], &c) != PTQ_CENSORED_NOT)
      continue;
    const double w = f->weight != NULL ? sqrt(f->weight[i]) : 1.0;
    e[n] = w * f->residual[i];
    sum += e[n] * e[n];
    n++;
  }
  const double scale = n > 0 && sum > 0.0 ? sqrt(sum / (double)n) : 1.0;
  qsort(e, (size_t)n, sizeof *e, compare_doubles);
  ptq_text_add(&p->script, "$q << EOD\n");
  for (int64_t i = 0; i < n; i += stride(n))
    ptq_text_addf(&p->script, "%.6g %.6g\n",
                  gsl_cdf_ugaussian_Pinv(((double)i + 0.5) / (double)n),
                  e[i] / scale);
  ptq_text_add(&p->script, "NaN NaN\nEOD\n");
done:
  ptq_free(e);
  return rc;
}

/* place[n_models] of every model on the axis: those with points of the fit, by
 * family and size. models[*n] are they. */
static ptq_status place_models(const ptq_plot_data *d, const ptq_fit *f,
                               int64_t *place, int64_t *models, int64_t *n,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t *order = NULL;
  *n = 0;
  PTQ_TRY(ptq_alloc(&order, d->frame->n_models, sizeof *order, "models", err));
  ptq_models_by_size(d->frame, order);
  for (int64_t i = 0; i < d->frame->n_models; i++) place[i] = -1;
  for (int64_t i = 0; i < f->matrix.n; i++)
    place[f->matrix.obs[i]->subject] = 0;
  for (int64_t i = 0; i < d->frame->n_models; i++)
    if (place[order[i]] == 0) {
      models[*n] = order[i];
      place[order[i]] = (*n)++;
    }
done:
  ptq_free(order);
  return rc;
}

static void write_data(const ptq_plot_data *d, const ptq_fit *f,
                       const int64_t *place, ptq_picture *p) {
  for (int k = 0; k < d->families.n; k++) {
    ptq_text_addf(&p->script, "$r%d << EOD\n", k);
    for (int64_t i = 0; i < f->matrix.n; i += stride(f->matrix.n)) {
      const ptq_obs *o = f->matrix.obs[i];
      const double r = log_ratio(f, i);
      if (!isfinite(r) || ptq_family_of(d, o) != k) continue;
      /* spread a model's points by their number, so that they do not hide
       * one another */
      const double x =
          (double)place[o->subject] + 0.6 * ((double)(i * 7 % 32) / 31.0 - 0.5);
      ptq_text_addf(&p->script, "%.6g %.6g %.6g\n", f->fitted[i], r, x);
    }
    ptq_text_add(&p->script, "NaN NaN NaN\nEOD\n");
  }
}

static void points(const ptq_plot_data *d, const char *columns, bool key,
                   ptq_picture *p) {
  for (int k = 0; k < d->families.n; k++)
    ptq_text_addf(&p->script,
                  ", $r%d using %s with points pt %d ps 0.4 lc rgb '%s' "
                  "notitle",
                  k, columns, ptq_plot_mark(k), ptq_plot_color(k));
  for (int k = 0; key && k < d->families.n; k++) {
    ptq_text_addf(&p->script,
                  ", keyentry with points pt %d ps 0.8 lc rgb '%s' title ",
                  ptq_plot_mark(k), ptq_plot_color(k));
    ptq_gnuplot_quote(&p->script, d->families.text[k]);
    ptq_text_add(&p->script, " noenhanced");
  }
  ptq_text_add(&p->script, "\n");
}

/* "llama-25k-s21-p0…": names longer than their place are cut. */
static void short_name(const char *name, char *text, size_t size) {
  enum { SHOWN = 16 };
  const bool cut = strlen(name) > SHOWN;
  int n = cut ? SHOWN - 1 : SHOWN;
  while (cut && n > 0 && ((unsigned char)name[n] & 0xc0u) == 0x80u) n--;
  (void)snprintf(text, size, "%.*s%s", n, name, cut ? "…" : "");
}

static void panels(const ptq_plot_data *d, const int64_t *models, int64_t n,
                   ptq_picture *p) {
  ptq_text *s = &p->script;
  ptq_text_add(s, "set multiplot\nset tmargin screen 0.91\n"
                  "set bmargin screen 0.26\n"
                  "set lmargin screen 0.07\nset rmargin screen 0.32\n"
                  "set title 'against the prediction'\n"
                  "set logscale x\nset format x '10^{%L}'\n"
                  "set xlabel 'predicted ΔNLL, nats a token'\n"
                  "set ylabel 'ln(measured / predicted)'\n"
                  "plot 0 with lines lw 1 lc rgb '#344054' notitle");
  points(d, "1:2", false, p);
  ptq_text_add(s, "set lmargin screen 0.395\nset rmargin screen 0.605\n"
                  "set title 'against normal quantiles'\n"
                  "unset logscale x\nset format x '%g'\n"
                  "set xlabel 'normal quantile'\n"
                  "set ylabel 'standardized residual'\n"
                  "plot x with lines lw 1 lc rgb '#344054' notitle, $q using "
                  "1:2 with points pt 7 ps 0.35 lc rgb '#0072B2' notitle\n"
                  "set lmargin screen 0.665\nset rmargin screen 0.875\n"
                  "set title 'by model'\nunset xlabel\n"
                  "set ylabel 'ln(measured / predicted)'\n"
                  "set xtics rotate by -40 font ',10' noenhanced (");
  for (int64_t i = 0; i < n; i += (n + NAMES - 1) / NAMES) {
    char name[32];
    short_name(d->frame->models[models[i]].model, name, sizeof name);
    ptq_text_add(s, i > 0 ? ", " : "");
    ptq_gnuplot_quote(s, name);
    ptq_text_addf(s, " %lld", (long long)i);
  }
  ptq_text_addf(s, ")\nset xrange [-0.6:%.6g]\n", (double)n - 0.4);
  ptq_plot_key(s, 0.89);
  ptq_text_add(s, "plot 0 with lines lw 1 lc rgb '#344054' notitle");
  points(d, "3:2", true, p);
  ptq_text_add(s, "unset multiplot\n");
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t *place = NULL, *models = NULL, n_models = 0;
  p->empty = d->summary == NULL;
  if (p->empty) {
    ptq_text_add(&p->caption, "No law could be fitted yet.");
    goto done;
  }
  const ptq_fit *f = &d->summary->law.fit;
  p->width = 960;
  p->height = 430;
  ptq_plot_style(&p->script);
  PTQ_TRY(ptq_alloc(&place, d->frame->n_models, sizeof *place, "models", err));
  PTQ_TRY(
      ptq_alloc(&models, d->frame->n_models, sizeof *models, "models", err));
  PTQ_TRY(place_models(d, f, place, models, &n_models, err));
  write_data(d, f, place, p);
  PTQ_TRY(quantiles(f, p, err));
  panels(d, models, n_models, p);
  ptq_text_add(&p->csv, PTQ_CSV_POINT "dnll,dnll_se,fitted,log_ratio\n");
  for (int64_t i = 0; i < f->matrix.n; i += stride(f->matrix.n)) {
    const ptq_obs *o = f->matrix.obs[i];
    ptq_csv_point(&p->csv, o);
    ptq_csv_number(&p->csv, o->point->dnll, ',');
    ptq_csv_number(&p->csv, o->point->dnll_se, ',');
    ptq_csv_number(&p->csv, f->fitted[i], ',');
    ptq_csv_number(&p->csv, log_ratio(f, i), '\n');
  }
  ptq_text_add(&p->caption,
               "What the law leaves unexplained, on the points it was fitted "
               "to. A bend in the first panel says that the formula lacks "
               "something; a model that lies off zero in the last one is why "
               "errors are clustered by model. Points without a logarithm "
               "are only in the middle panel.");
  if (n_models > NAMES)
    ptq_text_add(&p->caption, " Models stand by family and size; some are "
                              "named.");
done:
  ptq_free(place);
  ptq_free(models);
  return rc;
}

const ptq_plot ptq_plot_residuals = {"residuals", "Residuals of the law",
                                     "Residuals", draw, NULL};
