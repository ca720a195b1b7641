/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Eigenvalues of the second moments of layer inputs, by site and family. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"
#include "ptq/base/mem.h"

enum { SITES_MAX = 6, SAMPLES = 160 };
static const char suffix[] = "_nofirst";

static bool without_first(const char *site) {
  const size_t n = strlen(site), m = strlen(suffix);
  return n > m && strcmp(site + n - m, suffix) == 0;
}

static bool finished(const ptq_view_spectrum *s) {
  return s->values != NULL && s->n_blocks > 0 && s->d > 0 &&
         isfinite(s->values[0]);
}

/* Mean over blocks of the r-th eigenvalue over its block's trace. */
static double share(const ptq_view_spectrum *s, const double *trace,
                    int64_t r) {
  double sum = 0.0;
  for (int64_t b = 0; b < s->n_blocks; b++)
    sum += fmax(s->values[b * s->d + r], 0.0) / trace[b];
  return sum / (double)s->n_blocks;
}

/* Ranks 1, 2, ... spread evenly on a logarithmic axis. */
static int64_t next_rank(int64_t r, int64_t d) {
  const double step = pow((double)d, 1.0 / SAMPLES);
  const int64_t n = (int64_t)ceil((double)r * step);
  return n > r ? n : r + 1;
}

static ptq_status write_one(const ptq_plot_data *d, int64_t k, double *least,
                            ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_view_spectrum *s = &d->spectra[k];
  const ptq_model_row *m = &d->frame->models[s->subject];
  double *trace = NULL;
  PTQ_TRY(ptq_alloc(&trace, s->n_blocks, sizeof *trace, "traces", err));
  for (int64_t b = 0; b < s->n_blocks; b++) {
    for (int64_t r = 0; r < s->d; r++)
      trace[b] += fmax(s->values[b * s->d + r], 0.0);
    if (!(trace[b] > 0.0)) trace[b] = 1.0;
  }
  ptq_text_addf(&p->script, "$s%lld << EOD\n", (long long)k);
  for (int64_t r = 1; r <= s->d; r = next_rank(r, s->d)) {
    const double y = share(s, trace, r - 1);
    if (y > 0.0) {
      ptq_text_addf(&p->script, "%lld %.6g\n", (long long)r, y);
      *least = fmin(*least, y);
    }
    ptq_csv_text(&p->csv, m->model, ',');
    ptq_csv_text(&p->csv, m->family, ',');
    ptq_text_addf(&p->csv, "%lld,%s,%lld,%lld,",
                  (long long)m->params_nonembedding, s->site, (long long)s->d,
                  (long long)r);
    ptq_csv_number(&p->csv, y, '\n');
  }
  ptq_text_add(&p->script, "NaN NaN\nEOD\n");
done:
  ptq_free(trace);
  return rc;
}

static void panel(const ptq_plot_data *d, const char *site, int family,
                  bool last, ptq_picture *p) {
  ptq_text *s = &p->script;
  char title[PTQ_LEVEL_MAX + 40];
  (void)snprintf(title, sizeof title, "%s: %s", d->families.text[family], site);
  ptq_plot_title(s, title);
  if (last) {
    ptq_plot_key(s, 0.87);
    ptq_text_add(s,
                 "set colorbox vertical user origin screen 0.878,0.12 size "
                 "screen 0.014,0.5\n"
                 "set cblabel 'parameters without embeddings' offset 0.3,0 tc "
                 "rgb '#344054' font ',12'\n");
  }
  ptq_text_add(s, "plot NaN with points lc palette notitle");
  for (int64_t k = 0; k < d->n_spectra; k++) {
    const ptq_view_spectrum *v = &d->spectra[k];
    const size_t n = strlen(site);
    const ptq_model_row *m = &d->frame->models[v->subject];
    const bool same = strcmp(v->site, site) == 0;
    const bool bare = without_first(v->site) &&
                      strncmp(v->site, site, n) == 0 &&
                      strlen(v->site) == n + strlen(suffix);
    if (!finished(v) || !(same || bare) ||
        strcmp(m->family, d->families.text[family]) != 0)
      continue;
    ptq_text_addf(s,
                  ", $s%lld with lines lw %s dt %d lc palette cb %lld notitle",
                  (long long)k, same ? "1.5" : "1", same ? 1 : 3,
                  (long long)m->params_nonembedding);
  }
  if (last)
    ptq_text_add(s,
                 ", keyentry with lines lw 1.5 lc rgb '#475467' title 'all "
                 "positions', keyentry with lines lw 1 dt 3 lc rgb '#475467' "
                 "title 'without first'");
  ptq_text_add(s, "\n");
}

/* Decades, but none at a panel's right end, where the next one begins. */
static void rank_tics(int64_t widest, ptq_text *s) {
  ptq_text_add(s, "set xtics (");
  for (double r = 1.0; r < 0.5 * (double)widest || r < 2.0; r *= 10.0)
    ptq_text_addf(s, "%s'%.0f' %.0f", r > 1.0 ? "," : "", r, r);
  ptq_text_add(s, ")\n");
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_labels sites = {.n = 0};
  int64_t n = 0, widest = 1;
  double least = 0.1;
  ptq_text_add(&p->csv, "model,family,params_nonembedding,site,d,rank,share\n");
  ptq_plot_style(&p->script);
  ptq_plot_sizes(d, &p->script);
  for (int64_t k = 0; k < d->n_spectra; k++) {
    const ptq_view_spectrum *s = &d->spectra[k];
    if (!finished(s) || s->subject < 0 || s->subject >= d->frame->n_models)
      continue;
    n++;
    if (s->d > widest) widest = s->d;
    if (!without_first(s->site) && sites.n < SITES_MAX)
      (void)ptq_label(&sites, s->site);
    PTQ_TRY(write_one(d, k, &least, p, err));
  }
  p->empty = n == 0 || sites.n == 0;
  if (p->empty) {
    ptq_text_add(&p->caption,
                 "The store holds no finished spectra; \"measure: {spectra: "
                 "full}\" in the sweep file asks for them.");
    goto done;
  }
  p->width = 960;
  p->height = 60 + 250 * d->families.n;
  ptq_text_addf(&p->script,
                "set logscale xy\nset xrange [1:%lld]\n"
                "set yrange [%.3g:1]\n"
                "set title font ',13'\nset xtics font ',11'\n"
                "set ytics font ',11'\n",
                (long long)widest, pow(10.0, floor(log10(fmax(least, 1e-9)))));
  rank_tics(widest, &p->script);
  ptq_plot_panels(&p->script, d->families.n, sites.n, 0.02, 0.15);
  for (int f = 0; f < d->families.n; f++)
    for (int k = 0; k < sites.n; k++) {
      ptq_text_addf(&p->script,
                    "set ylabel '%s'\nset format y '%s'\n"
                    "set xlabel '%s'\n",
                    k == 0 ? "share of the trace" : "", k == 0 ? "10^{%L}" : "",
                    f + 1 == d->families.n ? "rank" : "");
      panel(d, sites.text[k], f, f + 1 == d->families.n && k + 1 == sites.n, p);
    }
  ptq_text_add(&p->script, "unset multiplot\n");
  ptq_text_add(&p->caption,
               "Eigenvalues of the second moment of each site's inputs, as "
               "shares of their sum and averaged over blocks. A curve that "
               "falls steeply means that few directions carry the activations, "
               "which is what GPTQ exploits. Dotted: without the first "
               "position of each window, which alone can own the largest "
               "eigenvalue.");
done:
  return rc;
}

const ptq_plot ptq_plot_spectra = {"spectra", "Spectra of layer inputs",
                                   "Spectra", draw, NULL};
