/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the random forest leans on: permutation importance. */
#include <math.h>
#include <string.h>

#include "gnuplot.h"
#include "plot.h"
#include "ptq/analysis/trees.h"
#include "ptq/base/mem.h"

enum { SHOWN = 15 };

static const ptq_trees *forest(void) {
  for (size_t i = 0; ptq_trees_at(i) != NULL; i++)
    if (strcmp(ptq_trees_at(i)->name, "forest") == 0) return ptq_trees_at(i);
  return ptq_trees_at(0);
}

static void script(const ptq_importance *rows, int n, ptq_picture *p) {
  ptq_text *s = &p->script;
  ptq_text_add(s, "$g << EOD\n");
  for (int i = 0; i < n; i++)
    ptq_text_addf(s, "%d %.6g\n", n - i, rows[i].growth);
  ptq_text_add(s, "EOD\nset ytics (");
  for (int i = 0; i < n; i++)
    ptq_text_addf(s, "%s'%s' %d", i > 0 ? ", " : "", rows[i].name, n - i);
  ptq_text_addf(
      s,
      ") noenhanced\nset lmargin screen 0.2\nset rmargin screen 0.97\n"
      "set yrange [0.4:%d.6]\nset xlabel 'growth of the mean |ln(p/m)| when "
      "shuffled'\nset style fill solid 1.0 noborder\n"
      "plot $g using ($2/2):1:($2/2):(0.34) with boxxyerror lc rgb '%s' "
      "notitle\n",
      n, ptq_plot_color(0));
}

static ptq_status draw(const ptq_plot_data *d, ptq_picture *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **obs = NULL;
  ptq_importance *rows = NULL;
  int64_t n = 0;
  double error = NAN;
  const ptq_frame *f = d->summary != NULL ? &d->summary->sample : d->frame;
  p->width = 960;
  p->height = 440;
  PTQ_TRY(ptq_alloc(&obs, f->n, sizeof *obs, "points", err));
  for (int64_t i = 0; i < f->n; i++) obs[i] = &f->obs[i];
  PTQ_TRY(ptq_trees_importance(forest(), obs, f->n, &rows, &n, &error, err));
  p->empty = n == 0;
  if (p->empty) {
    ptq_text_add(&p->caption, "Importance needs ten finished points of two "
                              "models.");
    goto done;
  }
  ptq_plot_style(&p->script);
  script(rows, n < SHOWN ? (int)n : SHOWN, p);
  ptq_text_add(&p->csv, "feature,growth\n");
  for (int64_t i = 0; i < n; i++) {
    ptq_csv_text(&p->csv, rows[i].name, ',');
    ptq_csv_number(&p->csv, rows[i].growth, '\n');
  }
  ptq_text_addf(&p->caption,
                "How much worse the random forest predicts models it has not "
                "seen (mean |ln(predicted/measured)| %.2f) when one of its "
                "features is shuffled among their points. Features that say "
                "the same thing share their importance.",
                error);
done:
  ptq_free(obs);
  ptq_free(rows);
  return rc;
}

const ptq_plot ptq_plot_importance = {"importance", "What the forest leans on",
                                      "Importance", draw, NULL};
