/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layer by layer: output SQNR of the largest model, a panel a method. */
#include <stdlib.h>
#include <string.h>

#include "page.h"
#include "plot.h"

enum { PANELS = 2 };

/* Points of the model with the most parameters at the width nearest to four
 * bits: the one that rounds, and the first other method's of its dtype and
 * group. */
static int choose(const ptq_plot_data *d, int64_t out[PANELS]) {
  int64_t best = -1;
  const ptq_frame *f = d->whole;
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_obs *o = &f->obs[i];
    if (!ptq_obs_shown(o) || o->n_layers == 0 ||
        strcmp(o->point->method, "rtn") != 0)
      continue;
    const ptq_obs *b = best >= 0 ? &f->obs[best] : NULL;
    const int far = abs(ptq_nominal_bits(o) - 4);
    if (b == NULL ||
        o->model->params_nonembedding > b->model->params_nonembedding ||
        (o->model == b->model && far < abs(ptq_nominal_bits(b) - 4)))
      best = i;
  }
  if (best < 0) return 0;
  out[0] = best;
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_point_row *p = f->obs[i].point, *r = f->obs[best].point;
    if (f->obs[i].subject != f->obs[best].subject ||
        !ptq_obs_shown(&f->obs[i]) || p->group != r->group ||
        strcmp(p->dtype, r->dtype) != 0 || strcmp(p->method, "rtn") == 0)
      continue;
    out[1] = i;
    return 2;
  }
  return 1;
}

static void write_panel(const ptq_plot_data *d, int64_t point, int panel,
                        ptq_heat *heat, ptq_picture *p) {
  ptq_text_addf(&p->script, "$l%d << EOD\n", panel);
  for (int64_t i = d->first_layer[point]; i < d->first_layer[point + 1]; i++) {
    const ptq_layer_row *l = &d->layers[i];
    ptq_heat_cell(heat, l->layer, l->sqnr_output, &p->script);
    ptq_csv_point(&p->csv, &d->whole->obs[point]);
    ptq_csv_text(&p->csv, l->layer, ',');
    ptq_csv_number(&p->csv, l->sqnr_weight, ',');
    ptq_csv_number(&p->csv, l->sqnr_output, ',');
    ptq_csv_number(&p->csv, l->err_hessian, '\n');
  }
  ptq_text_add(&p->script, "EOD\n");
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  (void)err;
  int64_t point[PANELS];
  ptq_heat heat = {.label = "output SQNR, dB", .kinds = {.n = 0}};
  const int n = d->layers != NULL ? choose(d, point) : 0;
  p->width = 960;
  p->height = 380;
  p->empty = n == 0;
  if (p->empty) {
    ptq_text_add(&p->caption, "No finished point that rounds has layers yet.");
    return PTQ_OK;
  }
  ptq_plot_style(&p->script);
  ptq_text_add(&p->csv,
               PTQ_CSV_POINT "layer,sqnr_weight,sqnr_output,err_hessian\n");
  for (int k = 0; k < n; k++) write_panel(d, point[k], k, &heat, p);
  ptq_heat_begin(&heat, n, &p->script);
  for (int k = 0; k < n; k++)
    ptq_heat_panel(&heat, k, n, d->whole->obs[point[k]].point->method,
                   &p->script);
  ptq_text_add(&p->script, "unset multiplot\n");
  char name[256];
  ptq_obs_name(&d->whole->obs[point[0]], name, sizeof name);
  ptq_text_add(&p->caption, "Output SQNR of every linear layer of ");
  ptq_html_text(&p->caption, name);
  ptq_text_add(&p->caption,
               n > 1 ? ", and of another method at the same format: where a "
                       "block or a kind of layer suffers, and where the method "
                       "helps."
                     : ": where a block or a kind of layer suffers.");
  return PTQ_OK;
}

const ptq_plot ptq_plot_layers = {"layers", "Layer by layer", "Layers", draw,
                                  NULL};
