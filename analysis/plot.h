/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file plot.h
 * The report's plots: each is a row with a function that writes a gnuplot
 * script, the data behind it as CSV, and a caption. Private to the module.
 */
#ifndef PTQ_ANALYSIS_PLOT_H
#define PTQ_ANALYSIS_PLOT_H

#include "ptq/analysis/mixed.h"
#include "ptq/analysis/summary.h"
#include "ptq/store/view.h"

enum { PTQ_LABELS_MAX = 12 };

/** Distinct texts in order of first appearance; further ones share the last
 * place. Borrowed from rows, or stored. */
typedef struct ptq_labels {
  char text[PTQ_LABELS_MAX][PTQ_LEVEL_MAX];
  int n;
} ptq_labels;

/** What plots are drawn from; all borrowed. */
typedef struct ptq_plot_data {
  const ptq_frame *frame; /* what is drawn: the store's points, or a sample */
  const ptq_frame *whole; /* every point, in the order of first_layer */
  const ptq_summary *summary; /* NULL: the law could not be fitted */
  const ptq_view_spectrum *spectra;
  int64_t n_spectra;
  const ptq_layer_row *layers; /* NULL: none */
  const int64_t *first_layer;  /* [whole->n + 1] */
  const ptq_mixed *mixed;      /* of the whole frame */
  ptq_labels families, methods;
  double size_low, size_high; /* non-embedding parameters, widened if equal */
  double bits_low, bits_high; /* bits a weight of finished points */
} ptq_plot_data;

/** A plot being made. */
typedef struct ptq_picture {
  ptq_text script;  /* owned; gnuplot, without its terminal */
  ptq_text csv;     /* owned */
  ptq_text caption; /* owned; HTML, escaped */
  int width, height;
  bool empty; /* nothing to draw: caption says why */
} ptq_picture;

typedef struct ptq_plot {
  const char *id, *title, *link; /* `link` is the title in two words */
  ptq_status (*draw)(const ptq_plot_data *d, ptq_picture *p, ptq_err *err);
  /** Has the page a section of it? NULL: always, if only to say that there is
   * nothing to show yet. */
  bool (*applies)(const ptq_plot_data *d);
} ptq_plot;

extern const ptq_plot ptq_plot_nll, ptq_plot_dnll, ptq_plot_gain, ptq_plot_sqnr,
    ptq_plot_holdout, ptq_plot_residuals, ptq_plot_spectra, ptq_plot_importance,
    ptq_plot_pareto, ptq_plot_layers, ptq_plot_mixed, ptq_plot_mixed_layers,
    ptq_plot_profiles, ptq_plot_density, ptq_plot_quadratic;

/** Labels and ranges of the frame. */
void ptq_plot_data_init(ptq_plot_data *d, const ptq_frame *frame,
                        const ptq_summary *summary,
                        const ptq_view_spectrum *spectra, int64_t n_spectra);

/** Number of a text; it is added when new. */
int ptq_label(ptq_labels *l, const char *text);
int ptq_family_of(const ptq_plot_data *d, const ptq_obs *o);
int ptq_method_of(const ptq_plot_data *d, const ptq_obs *o);
/** Was the point finished, with a loss to show? */
bool ptq_obs_shown(const ptq_obs *o);

/** Rows of frame->models by family in order of appearance, then by size:
 * order[n_models]. */
void ptq_models_by_size(const ptq_frame *f, int64_t *order);

/** Okabe and Ito's colours, for what has no order. */
const char *ptq_plot_color(int i);
/** Filled point types by number. */
int ptq_plot_mark(int i);

/** Borders, grid, fonts: the start of every script. */
void ptq_plot_style(ptq_text *script);
/** Colours by model size, and their bar at the right edge. */
void ptq_plot_sizes(const ptq_plot_data *d, ptq_text *script);
/** Marks at 1, 2 and 5 times powers of ten, or where that is no two at all
 * digits, for the logarithmic axis ("x", "y", "cb") from low to high, if it
 * spans less than two decades; else gnuplot's own. Were they set? Then
 * "10^{%L}" does not fit them. */
bool ptq_plot_log_tics(ptq_text *script, const char *axis, double low,
                       double high);
/** A grid of panels, `gap` of the width apart, that leaves `right` of it for
 * legends. */
void ptq_plot_panels(ptq_text *script, int rows, int columns, double gap,
                     double right);
/** The key at the right edge, from the top. */
void ptq_plot_key(ptq_text *script, double x);
/** Entries that explain the methods' marks, each after ", ". */
void ptq_plot_method_keys(const ptq_plot_data *d, ptq_text *script);
/** A title that is a name, not markup. */
void ptq_plot_title(ptq_text *script, const char *name);

/** A number of every layer as a map of block by kind of layer, a panel a
 * point. Data first, a cell a layer between "$l<panel> << EOD" and "EOD"; then
 * begin, then the panels. */
typedef struct ptq_heat {
  const char *label; /* of the colours */
  ptq_labels kinds;
  double low, high; /* of the cells so far */
  bool any;
} ptq_heat;
void ptq_heat_cell(ptq_heat *h, const char *layer, double value,
                   ptq_text *script);
void ptq_heat_begin(ptq_heat *h, int n_panels, ptq_text *script);
void ptq_heat_panel(const ptq_heat *h, int panel, int n_panels,
                    const char *title, ptq_text *script);

/** One CSV cell, quoted where it must be; then a comma or newline. */
void ptq_csv_text(ptq_text *csv, const char *text, char end);
void ptq_csv_number(ptq_text *csv, double v, char end);
/** model,family,dtype,method,group of a point: cells and their header. */
void ptq_csv_point(ptq_text *csv, const ptq_obs *o);
#define PTQ_CSV_POINT "model,family,params_nonembedding,dtype,method,group,"

#endif /* PTQ_ANALYSIS_PLOT_H */
