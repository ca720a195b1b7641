/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Loss profiles by size, the Hessian's spectral density, and the quadratic
 * prediction beside the measured loss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"
#include "ptq/base/mem.h"

static const ptq_landscape *landscape(const ptq_plot_data *d) {
  return &d->whole->landscape;
}

static bool applies(const ptq_plot_data *d) {
  return d->whole != NULL && landscape(d)->n > 0;
}

static const ptq_model_row *model_of(const ptq_plot_data *d,
                                     const ptq_direction_row *r) {
  return &d->whole->models[r->subject];
}

/* Number of a model's family; -1: it has no point on the page. */
static int family_of(const ptq_plot_data *d, const ptq_model_row *m) {
  for (int f = 0; f < d->families.n; f++)
    if (strcmp(d->families.text[f], m->family) == 0) return f;
  return -1;
}

static void size_bar(ptq_text *s) {
  ptq_plot_key(s, 0.87);
  ptq_text_add(s, "set colorbox vertical user origin screen 0.878,0.14 size "
                  "screen 0.014,0.45\n"
                  "set cblabel 'parameters without embeddings' offset 0.3,0 tc "
                  "rgb '#344054' font ',12'\n");
}

/* --- Profiles ----------------------------------------------------------- */

static void profile_csv(const ptq_plot_data *d, const ptq_direction_traits *t,
                        ptq_text *csv) {
  const ptq_model_row *m = model_of(d, t->row);
  for (int64_t i = 0; i < t->n; i++) {
    const ptq_profile_row *s = &t->steps[i];
    ptq_csv_text(csv, m->model, ',');
    ptq_csv_text(csv, m->family, ',');
    ptq_csv_text(csv, t->row->calibration, ',');
    ptq_csv_text(csv, t->row->evaluation, ',');
    ptq_text_addf(csv, "%lld,%s,%s,%lld,", (long long)m->params_nonembedding,
                  t->row->kind, t->row->scaling, (long long)t->row->number);
    ptq_csv_text(csv, t->row->dtype, ',');
    ptq_csv_number(csv, s->factor, ',');
    ptq_csv_number(csv, s->radius, ',');
    ptq_csv_number(csv, s->dnll, ',');
    ptq_csv_number(csv, s->dnll_se, '\n');
  }
}

/* Data blocks of every direction, and where RTN points stand. */
static int64_t profile_data(const ptq_plot_data *d, ptq_picture *p) {
  const ptq_landscape *l = landscape(d);
  int64_t drawn = 0;
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_traits *t = &l->directions[i];
    if (t->n == 0) continue;
    ptq_text_addf(&p->script, "$d%lld << EOD\n", (long long)i);
    for (int64_t k = 1; k < t->n; k++)
      if (isfinite(t->steps[k].dnll))
        ptq_text_addf(&p->script, "%.6g %.6g\n", t->steps[k].radius,
                      t->steps[k].dnll);
    ptq_text_add(&p->script, "NaN NaN\nEOD\n");
    profile_csv(d, t, &p->csv);
    drawn++;
  }
  ptq_text_add(&p->script, "$rtn << EOD\n");
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_traits *t = &l->directions[i];
    const int family = family_of(d, model_of(d, t->row));
    if (isfinite(t->dnll_at_one))
      ptq_text_addf(
          &p->script, "%.6g %.6g %lld %d\n", t->row->size, t->dnll_at_one,
          (long long)model_of(d, t->row)->params_nonembedding, family);
  }
  ptq_text_add(&p->script, "NaN NaN NaN NaN\nEOD\n");
  return drawn;
}

/* Has a finished profile that shows? Of a half-finished sweep not every family
 * has. */
static bool has_profile(const ptq_plot_data *d, int family) {
  const ptq_landscape *l = landscape(d);
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_traits *t = &l->directions[i];
    if (strcmp(model_of(d, t->row)->family, d->families.text[family]) != 0)
      continue;
    for (int64_t k = 0; k < t->n; k++)
      if (t->steps[k].radius > 0.0 && isfinite(t->steps[k].dnll)) return true;
  }
  return false;
}

static void profile_panel(const ptq_plot_data *d, int family, bool first,
                          bool last, ptq_picture *p) {
  const ptq_landscape *l = landscape(d);
  ptq_text *s = &p->script;
  ptq_plot_title(s, d->families.text[family]);
  ptq_text_addf(s, "set ylabel '%s'\n", first ? "ΔNLL, nats a token" : "");
  if (last) size_bar(s);
  ptq_text_add(s, "plot NaN with points lc palette notitle");
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_traits *t = &l->directions[i];
    const ptq_model_row *m = model_of(d, t->row);
    if (t->n == 0 || strcmp(m->family, d->families.text[family]) != 0) continue;
    const bool random = ptq_direction_is_random(t->row);
    ptq_text_addf(s,
                  ", $d%lld with lines lw %s dt %d lc palette cb %lld notitle",
                  (long long)i, random ? "1.4" : "0.8", random ? 1 : 3,
                  (long long)m->params_nonembedding);
  }
  ptq_text_addf(s,
                ", $rtn using 1:($4 == %d ? $2 : NaN):3 with points pt 7 ps "
                "0.6 lc palette notitle",
                family);
  if (last)
    ptq_text_add(
        s, ", keyentry with lines lw 1.4 lc rgb '#475467' title 'random', "
           "keyentry with lines lw 0.8 dt 3 lc rgb '#475467' title 'along "
           "rounding', keyentry with points pt 7 ps 0.6 lc rgb '#475467' "
           "title 'rounded'");
  ptq_text_add(s, "\n");
}

static ptq_status draw_profiles(const ptq_plot_data *d, ptq_picture *p,
                                ptq_err *err) {
  int shown = 0, drawn = 0;
  (void)err;
  ptq_text_add(&p->csv, "model,family,calibration,evaluation,"
                        "params_nonembedding,kind,scaling,number,dtype,factor,"
                        "radius,dnll,dnll_se\n");
  ptq_plot_style(&p->script);
  ptq_plot_sizes(d, &p->script);
  p->width = 960;
  p->height = 420;
  for (int f = 0; f < d->families.n; f++) shown += has_profile(d, f);
  p->empty = profile_data(d, p) == 0 || shown == 0;
  if (p->empty) return PTQ_OK;
  ptq_text_add(&p->script, "set logscale x\nset format x '10^{%L}'\n"
                           "set xlabel 'displacement over weights'\n"
                           "set title font ',13'\n");
  ptq_plot_panels(&p->script, 1, shown, 0.06, 0.15);
  for (int f = 0; f < d->families.n; f++) {
    if (!has_profile(d, f)) continue;
    drawn++;
    profile_panel(d, f, drawn == 1, drawn == shown, p);
  }
  ptq_text_add(&p->script, "unset multiplot\n");
  ptq_text_add(&p->caption,
               "The loss that a displacement of all linear layers' weights "
               "adds, by its length over theirs: along random directions, "
               "along what rounding to each number format does, and the "
               "rounded models themselves.");
  return PTQ_OK;
}

const ptq_plot ptq_plot_profiles = {"profiles",
                                    "Profiles of the loss around the weights",
                                    "Profiles", draw_profiles, applies};

/* --- Spectral density --------------------------------------------------- */

/* A node of the quadrature, its weight over all starts. */
typedef struct node {
  double value, weight;
} node;

static int by_size(const void *a, const void *b) {
  const double x = fabs(((const node *)a)->value);
  const double y = fabs(((const node *)b)->value);
  return (x < y) - (x > y);
}

/* Share of eigenvalues beyond each value, of one sign, from the largest; their
 * number. Values of 0 have no place on a logarithm: they are in the data alone.
 */
static int64_t tail(const node *nodes, int64_t n, double sign,
                    const ptq_model_row *m, int64_t block, ptq_picture *p) {
  double share = 0.0;
  int64_t drawn = 0;
  ptq_text_addf(&p->script, "$%s%lld << EOD\n", sign > 0.0 ? "u" : "n",
                (long long)block);
  for (int64_t i = 0; i < n; i++) {
    const bool zero = nodes[i].value == 0.0;
    if (!(sign * nodes[i].value > 0.0 || (zero && sign > 0.0))) continue;
    share += nodes[i].weight;
    if (!zero)
      ptq_text_addf(&p->script, "%.6g %.6g\n", fabs(nodes[i].value), share);
    drawn += !zero;
    ptq_csv_text(&p->csv, m->model, ',');
    ptq_csv_text(&p->csv, m->family, ',');
    ptq_csv_text(&p->csv, m->calibration, ',');
    ptq_csv_text(&p->csv, m->evaluation, ',');
    ptq_text_addf(&p->csv, "%lld,", (long long)m->params_nonembedding);
    ptq_csv_number(&p->csv, nodes[i].value, ',');
    ptq_csv_number(&p->csv, nodes[i].weight, ',');
    ptq_csv_number(&p->csv, share, '\n');
  }
  ptq_text_add(&p->script, "NaN NaN\nEOD\n");
  return drawn;
}

/* The nodes of direction `row`'s model; their number. */
static int64_t nodes_of(const ptq_landscape *l, int64_t from, node *out) {
  const int64_t direction = l->ritz[from].direction;
  int64_t n = 0, starts = 0;
  for (int64_t i = from; i < l->n_ritz && l->ritz[i].direction == direction;
       i++) {
    const ptq_ritz_row *r = &l->ritz[i];
    if (r->start + 1 > starts) starts = r->start + 1;
    if (isfinite(r->value)) out[n++] = (node){r->value, r->weight};
  }
  for (int64_t i = 0; i < n; i++) out[i].weight /= (double)starts;
  qsort(out, (size_t)n, sizeof *out, by_size);
  return n;
}

/* The finished direction that row `direction` of the store is. */
static const ptq_direction_row *find_row(const ptq_plot_data *d,
                                         int64_t direction) {
  const ptq_landscape *l = landscape(d);
  return l->rows != NULL && direction >= 0 && direction < l->n_rows
             ? &l->rows[direction]
             : NULL;
}

static ptq_status draw_density(const ptq_plot_data *d, ptq_picture *p,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_landscape *l = landscape(d);
  ptq_text lines = {0};
  node *nodes = NULL;
  int64_t flat = 0;
  p->empty = true;
  ptq_text_add(&p->csv, "model,family,calibration,evaluation,"
                        "params_nonembedding,value,weight,share_beyond\n");
  ptq_plot_style(&p->script);
  ptq_plot_sizes(d, &p->script);
  PTQ_TRY(ptq_alloc(&nodes, l->n_ritz, sizeof *nodes, "Ritz values", err));
  for (int64_t i = 0; i < l->n_ritz; i++) {
    const ptq_direction_row *row = find_row(d, l->ritz[i].direction);
    if (i > 0 && l->ritz[i].direction == l->ritz[i - 1].direction) continue;
    if (row == NULL || !isfinite(row->eigen_max)) continue;
    const ptq_model_row *m = model_of(d, row);
    const int64_t n = nodes_of(l, i, nodes);
    const int64_t drawn =
        tail(nodes, n, 1.0, m, i, p) + tail(nodes, n, -1.0, m, i, p);
    if (drawn == 0) {
      flat++;
      continue;
    }
    ptq_text_addf(&lines,
                  ", $u%lld with steps lw 1.4 lc palette cb %lld notitle, "
                  "$n%lld with steps lw 1 dt 3 lc palette cb %lld notitle",
                  (long long)i, (long long)m->params_nonembedding, (long long)i,
                  (long long)m->params_nonembedding);
    p->empty = false;
  }
  if (p->empty) {
    if (flat > 0)
      ptq_text_add(&p->caption,
                   "Every eigenvalue that was found is 0: nothing bends.");
    goto done;
  }
  p->width = 960;
  p->height = 420;
  ptq_plot_panels(&p->script, 1, 1, 0.06, 0.15);
  ptq_text_add(&p->script, "set logscale xy\nset format xy '10^{%L}'\n"
                           "set xlabel 'size of the eigenvalue, nats'\n"
                           "set ylabel 'share of eigenvalues beyond'\n");
  size_bar(&p->script);
  ptq_text_addf(&p->script,
                "plot NaN with points lc palette notitle%s, keyentry with "
                "lines lw 1.4 lc rgb '#475467' title 'positive', keyentry with "
                "lines lw 1 dt 3 lc rgb '#475467' title 'negative'\n"
                "unset multiplot\n",
                ptq_text_str(&lines));
  ptq_text_add(&p->caption,
               "The spectral density of the Hessian of the calibration text's "
               "loss by the linear layers' weights, as the share of "
               "eigenvalues beyond each size, by stochastic Lanczos "
               "quadrature: the ends are eigenvalues, what lies between are "
               "nodes that stand for many.");
  if (flat > 0)
    ptq_text_addf(&p->caption,
                  " Of %lld every eigenvalue is 0: in the data alone.",
                  (long long)flat);
done:
  ptq_free(nodes);
  ptq_text_release(&lines);
  return rc;
}

static bool has_spectra(const ptq_plot_data *d) {
  return applies(d) && landscape(d)->n_ritz > 0;
}

const ptq_plot ptq_plot_density = {"hessian-density",
                                   "Spectral density of the Hessian", "Hessian",
                                   draw_density, has_spectra};

/* --- Quadratic prediction ------------------------------------------------ */

static bool has_quadratic(const ptq_plot_data *d) {
  for (int64_t i = 0; applies(d) && i < landscape(d)->n; i++)
    if (isfinite(landscape(d)->directions[i].calib_at_one)) return true;
  return false;
}

static void quadratic_row(const ptq_direction_row *r, const ptq_model_row *m,
                          double predicted, double measured, ptq_text *csv) {
  ptq_csv_text(csv, m->model, ',');
  ptq_csv_text(csv, m->family, ',');
  ptq_csv_text(csv, r->calibration, ',');
  ptq_csv_text(csv, r->evaluation, ',');
  ptq_text_addf(csv, "%lld,%s,", (long long)m->params_nonembedding, r->kind);
  ptq_csv_text(csv, r->dtype, ',');
  ptq_text_addf(csv, "%lld,", (long long)r->group);
  ptq_csv_number(csv, r->size, ',');
  ptq_csv_number(csv, r->slope, ',');
  ptq_csv_number(csv, r->curvature, ',');
  ptq_csv_number(csv, r->gauss_newton, ',');
  ptq_csv_number(csv, predicted, ',');
  ptq_csv_number(csv, measured, '\n');
}

static ptq_status draw_quadratic(const ptq_plot_data *d, ptq_picture *p,
                                 ptq_err *err) {
  const ptq_landscape *l = landscape(d);
  double low = INFINITY, high = 0.0;
  int64_t shown = 0, hidden = 0;
  (void)err;
  ptq_text_add(&p->csv, "model,family,calibration,evaluation,"
                        "params_nonembedding,method,dtype,group,size,slope,"
                        "curvature,gauss_newton,quadratic,dnll_calib\n");
  ptq_plot_style(&p->script);
  ptq_plot_sizes(d, &p->script);
  ptq_text_add(&p->script, "$q << EOD\n");
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_traits *t = &l->directions[i];
    const ptq_direction_row *r = t->row;
    const ptq_model_row *m = model_of(d, r);
    if (!isfinite(t->calib_at_one) || !isfinite(r->curvature)) continue;
    const double x = ptq_landscape_quadratic(r, r->size);
    quadratic_row(r, m, x, t->calib_at_one, &p->csv);
    if (!(x > 0.0) || !(t->calib_at_one > 0.0)) {
      hidden++;
      continue;
    }
    low = fmin(low, fmin(x, t->calib_at_one));
    high = fmax(high, fmax(x, t->calib_at_one));
    ptq_text_addf(&p->script, "%.6g %.6g %lld\n", x, t->calib_at_one,
                  (long long)m->params_nonembedding);
    shown++;
  }
  ptq_text_add(&p->script, "NaN NaN NaN\nEOD\n");
  p->empty = shown == 0;
  if (p->empty) {
    if (hidden > 0)
      ptq_text_addf(&p->caption,
                    "Nothing to draw on logarithms: of %lld displacements "
                    "none has both a prediction and a loss above 0.",
                    (long long)hidden);
    return PTQ_OK;
  }
  p->width = 960;
  p->height = 480;
  const bool near = ptq_plot_log_tics(&p->script, "x", low / 1.5, high * 1.5) &&
                    ptq_plot_log_tics(&p->script, "y", low / 1.5, high * 1.5);
  ptq_plot_panels(&p->script, 1, 1, 0.06, 0.15);
  ptq_text_addf(&p->script,
                "set logscale xy\nset format xy '%s'\n"
                "set xrange [%.6g:%.6g]\nset yrange [%.6g:%.6g]\n"
                "set xlabel 'g’e + e’He/2, nats a token'\n"
                "set ylabel 'measured ΔNLL, nats a token'\n"
                "set colorbox vertical user origin screen 0.878,0.14 size "
                "screen 0.014,0.45\n"
                "set cblabel 'parameters without embeddings' offset 0.3,0 tc "
                "rgb '#344054' font ',12'\n"
                "plot x with lines lw 1.2 lc rgb '#344054' notitle, $q using "
                "1:2:3 with points pt 7 ps 0.7 lc palette notitle\n"
                "unset multiplot\n",
                near ? "%g" : "10^{%L}", low / 1.5, high * 1.5, low / 1.5,
                high * 1.5);
  ptq_text_add(
      &p->caption,
      "The loss that a method adds on the calibration text, as gradient "
      "and Hessian at the unquantized weights predict it, and as it "
      "is: a point a model, number format and method.");
  if (hidden > 0)
    ptq_text_addf(&p->caption,
                  " %lld with a prediction or loss that is not positive are in "
                  "the data alone.",
                  (long long)hidden);
  return PTQ_OK;
}

const ptq_plot ptq_plot_quadratic = {
    "quadratic", "Quadratic prediction and measured loss", "Quadratic",
    draw_quadratic, has_quadratic};
