/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SQNR against the loss added, weights' and outputs' side by side. */
#include <math.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"

static double sqnr(const ptq_obs *o, bool output) {
  return output ? o->point->sqnr_output : o->point->sqnr_weight;
}

static bool drawable(const ptq_obs *o, bool output) {
  return o->use == PTQ_USE_OK && o->point->dnll > 0.0 &&
         isfinite(sqnr(o, output));
}

static void panel(const ptq_plot_data *d, bool output, ptq_picture *p) {
  ptq_text *s = &p->script;
  ptq_text_addf(s, "set title '%s'\nset xlabel '%s, dB'\n",
                output ? "outputs" : "weights",
                output ? "output SQNR, mean over layers"
                       : "weight SQNR, pooled over layers");
  if (output) {
    ptq_text_add(s, "set format y ''\nunset ylabel\n");
    ptq_plot_key(s, 0.85);
    ptq_text_add(s,
                 "set colorbox vertical user origin screen 0.858,0.16 size "
                 "screen 0.015,0.45\n"
                 "set cblabel 'parameters without embeddings' offset 0.3,0 tc "
                 "rgb '#344054' font ',12'\n");
  }
  ptq_text_add(s, "plot NaN with points lc palette notitle");
  for (int m = 0; m < d->methods.n; m++)
    ptq_text_addf(s,
                  ", $%c%d using 1:2:3 with points pt %d lc palette "
                  "notitle",
                  output ? 'o' : 'w', m, ptq_plot_mark(m));
  if (output) ptq_plot_method_keys(d, s);
  ptq_text_add(s, "\n");
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  (void)err;
  int64_t n = 0, below = 0;
  p->width = 960;
  p->height = 440;
  ptq_plot_style(&p->script);
  ptq_plot_sizes(d, &p->script);
  for (int side = 0; side < 2; side++)
    for (int m = 0; m < d->methods.n; m++) {
      ptq_text_addf(&p->script, "$%c%d << EOD\n", side == 1 ? 'o' : 'w', m);
      for (int64_t i = 0; i < d->frame->n; i++) {
        const ptq_obs *o = &d->frame->obs[i];
        if (!drawable(o, side == 1) || ptq_method_of(d, o) != m) continue;
        n++;
        ptq_text_addf(&p->script, "%.6g %.6g %lld\n", sqnr(o, side == 1),
                      o->point->dnll, (long long)o->model->params_nonembedding);
      }
      ptq_text_add(&p->script, "NaN NaN NaN\nEOD\n");
    }
  ptq_text_add(&p->csv, PTQ_CSV_POINT "sqnr_weight,sqnr_output,dnll,dnll_se\n");
  for (int64_t i = 0; i < d->frame->n; i++) {
    const ptq_obs *o = &d->frame->obs[i];
    if (o->use != PTQ_USE_OK) continue;
    below += !(o->point->dnll > 0.0);
    ptq_csv_point(&p->csv, o);
    ptq_csv_number(&p->csv, o->point->sqnr_weight, ',');
    ptq_csv_number(&p->csv, o->point->sqnr_output, ',');
    ptq_csv_number(&p->csv, o->point->dnll, ',');
    ptq_csv_number(&p->csv, o->point->dnll_se, '\n');
  }
  p->empty = n == 0;
  if (p->empty) return PTQ_OK;
  ptq_text_add(&p->script, "set logscale y\nset format y '10^{%L}'\n"
                           "set ylabel 'ΔNLL, nats a token'\n");
  ptq_plot_panels(&p->script, 1, 2, 0.03, 0.17);
  panel(d, false, p);
  panel(d, true, p);
  ptq_text_add(&p->script, "unset multiplot\n");
  ptq_text_add(&p->caption,
               "Signal to quantization noise against the loss added. A "
               "predictor is good where the marks of all models and methods "
               "fall on one curve: GPTQ lowers the SQNR of the weights and "
               "raises that of the outputs, so the two panels tell different "
               "stories.");
  if (below > 0)
    ptq_text_addf(&p->caption,
                  " %lld configurations with a loss not above the "
                  "unquantized model's are not on the logarithmic axis.",
                  (long long)below);
  return PTQ_OK;
}

const ptq_plot ptq_plot_sqnr = {"sqnr-dnll", "Quantization noise against loss",
                                "Noise", draw, NULL};
