/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file layers.h
 * A model's loss as a sum over its layers: what adaptive precision is chosen
 * by.
 *
 * The error of a layer, e, is the noise over the signal of its outputs on the
 * unquantized model's inputs, 10^(-sqnr_output / 10), measured on the selection
 * text. What all layers together add is
 *
 *   dnll = exp(a) (sum over layers of s e)^b
 *
 * with a sensitivity s a layer: nats that a unit of its error costs. Measured
 * ones come from probes, points of mixed precision that are evaluated on the
 * selection text: their KL divergences are sums of s e, solved for s >= 0.
 * Without probes every layer is taken to be as sensitive as any other. a and b
 * are those of the model's uniform points, on the evaluation text.
 */
#ifndef PTQ_ANALYSIS_LAYERS_H
#define PTQ_ANALYSIS_LAYERS_H

#include "ptq/analysis/fit.h"

/** Points with their layers; borrowed, as a frame's tables are. */
typedef struct ptq_layer_source {
  const ptq_frame *frame;
  const ptq_layer_row *layers;
  const int64_t *first_layer; /* [frame->n + 1] */
} ptq_layer_source;

/** The same from a store, beside its frame. PTQ_E_ARG: it has no layers. */
ptq_status ptq_layer_source_of(ptq_view *view, const ptq_frame *frame,
                               ptq_layer_source *out, ptq_err *err);

/** Are two labels "text:windows x length[@seed]" of the same text? */
bool ptq_same_text(const char *a, const char *b);
/** Label of the evaluation text that a model's losses are counted on: the first
 * that is not its selection text too, else the first; "" without a point. */
const char *ptq_result_text(const ptq_frame *f, const char *model);

/** Which points of a store make up a table. */
typedef struct ptq_layer_query {
  const char *model, *method, *options; /* options "" for none */
  const char *const *formats; /* [n_formats] dtypes to choose from; NULL: all */
  int64_t n_formats;
  int64_t group; /* only this one; PTQ_ANY_GROUP: all */
} ptq_layer_query;
enum { PTQ_ANY_GROUP = -2 };

/** A format that a model was run in as a whole. */
typedef struct ptq_layer_option {
  const char *dtype; /* borrowed */
  int64_t group;
  int64_t n; /* points behind it: calibrations, evaluations */
} ptq_layer_option;

/** The layers of a model, and what each format would do to each. */
typedef struct ptq_layer_table {
  int64_t n_layers, n_options;
  const char **name;        /* owned, borrowed each; [n_layers] tensors */
  double *weights;          /* owned; [n_layers] */
  ptq_layer_option *option; /* owned; [n_options] in the store's order */
  double *bits;             /* owned; [n_layers, n_options] a weight */
  double *error;            /* owned; [n_layers, n_options] e */
  double *sensitivity;      /* owned; [n_layers] s, 1 until measured */
  bool *probed;             /* owned; [n_layers] by probes of its own */
  int64_t n_probes;         /* points behind the sensitivities */
  int64_t n_probed;         /* layers */
} ptq_layer_table;

/** From the uniform points that `query` asks for. PTQ_E_ARG where there are
 * none, with what there is; or where layers have no sizes (a store of an older
 * program). */
ptq_status ptq_layer_table_build(const ptq_layer_source *s,
                                 const ptq_layer_query *query,
                                 ptq_layer_table *out, ptq_err *err);
void ptq_layer_table_release(ptq_layer_table *t);

/**
 * Sensitivities from the probes of `s`, which may be another store's: all
 * probes of the model. Least squares of (KL - sum s e) / (KL's error and a
 * tenth of it) with s >= 0, drawn to the mean with three times its size as
 * error, so that layers without a probe are average; each s gets its standard
 * error on top, at most the mean: a layer is not taken for insensitive because
 * it was not measured. Without probes nothing changes.
 */
ptq_status ptq_layer_sensitivities(const ptq_layer_source *s, const char *model,
                                   ptq_layer_table *t, ptq_err *err);

/** sum of s e of a point's layers; NaN where one is not in the table. */
double ptq_layer_sum(const ptq_layer_source *s, int64_t point,
                     const ptq_layer_table *t);

/** The law of one model. */
typedef struct ptq_layer_law {
  double a, b, sigma;  /* of ln(dnll); NaN with fewer than three points */
  int64_t n;           /* uniform points behind it */
  double mean, spread; /* of ln(sum): for intervals */
} ptq_layer_law;

/** Least squares of ln(dnll) over the model's uniform points above noise that
 * have not collapsed, all methods; on the model's ptq_result_text. */
ptq_status ptq_layer_law_fit(const ptq_layer_source *s, const char *model,
                             const ptq_layer_table *t, ptq_layer_law *out,
                             ptq_err *err);
/** dnll of a sum, with its 90 % interval. */
ptq_prediction ptq_layer_law_predict(const ptq_layer_law *law, double sum);

#endif /* PTQ_ANALYSIS_LAYERS_H */
