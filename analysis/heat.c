/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layers of a model as a map of block by kind. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"

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

void ptq_heat_cell(ptq_heat *h, const char *layer, double value,
                   ptq_text *script) {
  char kind[64];
  int64_t block = 0;
  if (!place(layer, &block, kind, sizeof kind)) return;
  ptq_text_addf(script, "%lld %d %.6g\n", (long long)block,
                ptq_label(&h->kinds, kind), value);
  if (!isfinite(value)) return;
  h->low = h->any ? fmin(h->low, value) : value;
  h->high = h->any ? fmax(h->high, value) : value;
  h->any = true;
}

/* Share of the picture's width (960) that the rows' labels need beside each
 * panel: about 7 a letter, the tics and some air. */
static double label_room(const ptq_heat *h) {
  size_t longest = 0;
  for (int k = 0; k < h->kinds.n; k++) {
    const size_t n = strlen(h->kinds.text[k]);
    longest = n > longest ? n : longest;
  }
  return fmax(0.08, fmin(0.2, (24.0 + 7.2 * (double)longest) / 960.0));
}

void ptq_heat_begin(ptq_heat *h, int n_panels, ptq_text *s) {
  ptq_text_addf(s,
                "set palette defined (0 '#440154', 1 '#3B528B', 2 '#21918C', "
                "3 '#5EC962', 4 '#FDE725')\nunset grid\n"
                "set yrange [%d.5:-0.5] noextend\nset xrange [-0.5:*] "
                "noextend\n"
                "set xlabel 'block'\nset cblabel '%s' tc rgb '#344054'\n"
                "set xtics 1\nset ytics (",
                h->kinds.n - 1, h->label);
  for (int k = 0; k < h->kinds.n; k++) {
    if (k > 0) ptq_text_add(s, ", ");
    ptq_gnuplot_quote(s, h->kinds.text[k]);
    ptq_text_addf(s, " %d", k);
  }
  /* one scale of colours for all panels */
  ptq_text_addf(s, ") noenhanced\nset cbrange [%.6g:%.6g]\n", h->low,
                h->high > h->low ? h->high : h->low + 1.0);
  const double room = label_room(h);
  ptq_text_addf(s,
                "set multiplot layout 1,%d margins screen %.4g,0.88,0.15,0.87 "
                "spacing screen %.4g,0\n",
                n_panels, room + 0.005, n_panels > 1 ? room : 0.0);
}

void ptq_heat_panel(const ptq_heat *h, int panel, int n_panels,
                    const char *title, ptq_text *s) {
  (void)h;
  ptq_plot_title(s, title);
  ptq_text_add(s, panel + 1 < n_panels
                      ? "unset colorbox\n"
                      : "set colorbox vertical user origin screen 0.9,0.2 size "
                        "screen 0.015,0.6\n");
  ptq_text_addf(s,
                "plot $l%d using 1:2:(0.48):(0.46):3 with boxxyerror fs solid "
                "1.0 noborder lc palette notitle\n",
                panel);
}
