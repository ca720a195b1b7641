/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layer by layer: output SQNR of the largest model, a panel a method. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "page.h"
#include "plot.h"

enum { PANELS = 2 };

/* "model.layers.3.self_attn.q_proj.weight": block 3, kind "q_proj". */
static bool place(const char *name, int64_t *block, char *kind, size_t size) {
  const char *at = name;
  while (*at != '\0' &&
         !(isdigit((unsigned char)*at) && (at == name || at[-1] == '.')))
    at++;
  if (*at == '\0') return false;
  *block = strtoll(at, NULL, 10);
  const char *end = strrchr(name, '.');
  if (end == NULL || strcmp(end, ".weight") != 0) end = name + strlen(name);
  const char *start = end;
  while (start > name && start[-1] != '.') start--;
  const size_t n = (size_t)(end - start);
  if (n == 0 || n >= size) return false;
  memcpy(kind, start, n);
  kind[n] = '\0';
  return true;
}

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
                        ptq_labels *kinds, ptq_picture *p) {
  ptq_text_addf(&p->script, "$l%d << EOD\n", panel);
  for (int64_t i = d->first_layer[point]; i < d->first_layer[point + 1]; i++) {
    const ptq_layer_row *l = &d->layers[i];
    char kind[64];
    int64_t block = 0;
    if (!place(l->layer, &block, kind, sizeof kind)) continue;
    ptq_text_addf(&p->script, "%lld %d %.6g\n", (long long)block,
                  ptq_label(kinds, kind), l->sqnr_output);
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
  ptq_labels kinds = {.n = 0};
  ptq_text *s = &p->script;
  const int n = d->layers != NULL ? choose(d, point) : 0;
  p->width = 960;
  p->height = 380;
  p->empty = n == 0;
  if (p->empty) {
    ptq_text_add(&p->caption, "No finished point that rounds has layers yet.");
    return PTQ_OK;
  }
  ptq_plot_style(s);
  ptq_text_add(&p->csv,
               PTQ_CSV_POINT "layer,sqnr_weight,sqnr_output,err_hessian\n");
  for (int k = 0; k < n; k++) write_panel(d, point[k], k, &kinds, p);
  ptq_text_addf(s,
                "set palette defined (0 '#440154', 1 '#3B528B', 2 '#21918C', "
                "3 '#5EC962', 4 '#FDE725')\nunset grid\n"
                "set yrange [%d.5:-0.5] noextend\nset xrange [-0.5:*] "
                "noextend\n"
                "set xlabel 'block'\nset cblabel 'output SQNR, dB' tc rgb "
                "'#344054'\nset xtics 1\nset ytics (",
                kinds.n - 1);
  for (int k = 0; k < kinds.n; k++) {
    if (k > 0) ptq_text_add(s, ", ");
    ptq_gnuplot_quote(s, kinds.text[k]);
    ptq_text_addf(s, " %d", k);
  }
  ptq_text_add(s, ") noenhanced\n");
  /* one scale of colours for all panels */
  double low = INFINITY, high = -INFINITY;
  for (int k = 0; k < n; k++)
    for (int64_t i = d->first_layer[point[k]]; i < d->first_layer[point[k] + 1];
         i++) {
      low = fmin(low, d->layers[i].sqnr_output);
      high = fmax(high, d->layers[i].sqnr_output);
    }
  if (!(high > low)) high = low + 1.0;
  ptq_text_addf(s, "set cbrange [%.6g:%.6g]\n", low, high);
  ptq_plot_panels(s, 1, n, 0.08, 0.12);
  for (int k = 0; k < n; k++) {
    ptq_plot_title(s, d->whole->obs[point[k]].point->method);
    if (k + 1 < n)
      ptq_text_add(s, "unset colorbox\n");
    else
      ptq_text_add(s, "set colorbox vertical user origin screen 0.9,0.2 size "
                      "screen 0.015,0.6\n");
    ptq_text_addf(
        s,
        "plot $l%d using 1:2:(0.48):(0.46):3 with boxxyerror fs solid "
        "1.0 noborder lc palette notitle\n",
        k);
  }
  ptq_text_add(s, "unset multiplot\n");
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

const ptq_plot ptq_plot_layers = {"layers", "Layer by layer", "Layers", draw};
