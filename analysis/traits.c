/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/traits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/spectrum.h"

static const ptq_spectrum_traits unknown = {
    (double)NAN, (double)NAN, (double)NAN, (double)NAN, (double)NAN};

ptq_spectrum_traits ptq_spectrum_traits_of(const double *values, int64_t d) {
  const ptq_spectrum_summary s = ptq_spectrum_summary_of(values, d);
  if (s.n == 0 || s.n < d / 2) return unknown;
  return (ptq_spectrum_traits){.log_trace = log(s.trace / (double)d),
                               .top_share = s.max / s.trace,
                               .rank = s.rank / (double)d,
                               .log_cond = log(s.condition),
                               .tail = s.tail};
}

static void add(ptq_spectrum_traits *sum, const ptq_spectrum_traits *t,
                double weight) {
  sum->log_trace += weight * t->log_trace;
  sum->top_share += weight * t->top_share;
  sum->rank += weight * t->rank;
  sum->log_cond += weight * t->log_cond;
  sum->tail += weight * t->tail;
}

static bool without_first(const char *site) {
  static const char end[] = "_nofirst";
  const size_t n = strlen(site), m = sizeof end - 1;
  return n >= m && strcmp(site + n - m, end) == 0;
}

void ptq_model_traits_of(const ptq_view_spectrum *spectra, int64_t n,
                         ptq_model_traits *out, int64_t n_models) {
  for (int64_t m = 0; m < n_models; m++)
    out[m] = (ptq_model_traits){unknown, unknown};
  for (int64_t m = 0; m < n_models; m++)
    for (int kind = 0; kind < 2; kind++) {
      ptq_spectrum_traits sum = {0};
      double count = 0.0;
      for (int64_t k = 0; k < n; k++) {
        const ptq_view_spectrum *s = &spectra[k];
        if (s->subject != m || s->n_tokens == 0 ||
            without_first(s->site) != (kind == 1))
          continue;
        for (int64_t b = 0; b < s->n_blocks; b++) {
          const ptq_spectrum_traits t =
              ptq_spectrum_traits_of(s->values + b * s->d, s->d);
          if (!isfinite(t.tail)) continue;
          add(&sum, &t, 1.0);
          count += 1.0;
        }
      }
      if (count == 0.0) continue;
      ptq_spectrum_traits *mean = kind == 1 ? &out[m].nofirst : &out[m].all;
      *mean = (ptq_spectrum_traits){0};
      add(mean, &sum, 1.0 / count);
    }
}

typedef struct moments {
  double n, sum, square, min, max;
} moments;

static void take(moments *m, double v) {
  m->min = m->n > 0.0 ? fmin(m->min, v) : v;
  m->max = m->n > 0.0 ? fmax(m->max, v) : v;
  m->n += 1.0;
  m->sum += v;
  m->square += v * v;
}

static double deviation(const moments *m) {
  const double mean = m->sum / m->n;
  return sqrt(fmax(0.0, m->square / m->n - mean * mean));
}

double ptq_name_bits(const char *dtype, double storage) {
  for (const char *c = dtype; *c != '\0' && *c != ':'; c++)
    if (*c >= '0' && *c <= '9') {
      const long bits = strtol(c, NULL, 10);
      if (bits >= 1 && bits <= 16) return (double)bits;
      break;
    }
  return storage >= 0.5 && storage < 16.5 ? storage : 0.0;
}

/* Formats of the layers, by weight. */
static void formats_of(const ptq_layer_row *layers, int64_t n,
                       ptq_layer_traits *t) {
  double weights = 0.0, bits = 0.0, log_group = 0.0, rows = 0.0;
  for (int64_t i = 0; i < n; i++) {
    const double w = (double)layers[i].weights;
    weights += w;
    bits +=
        w * ptq_name_bits(layers[i].layer_dtype, rint(layers[i].layer_bits));
    if (layers[i].layer_group < 0)
      rows += w;
    else
      log_group +=
          w *
          log(layers[i].layer_group > 0 ? (double)layers[i].layer_group : w);
  }
  if (!(weights > 0.0)) return;
  t->bits = bits / weights;
  t->row_share = rows / weights;
  t->log_group = rows < weights ? log_group / (weights - rows) : 0.0;
}

ptq_layer_traits ptq_layer_traits_of(const ptq_layer_row *layers, int64_t n) {
  const double none = (double)NAN;
  moments err = {0}, weight = {0}, output = {0};
  ptq_layer_traits t = {none, none, none, none, none, none,
                        none, none, none, none, none};
  for (int64_t i = 0; i < n; i++) {
    take(&err, log(layers[i].err_hessian));
    take(&weight, layers[i].sqnr_weight);
    take(&output, layers[i].sqnr_output);
  }
  if (n == 0) return t;
  t.log_err_mean = err.sum / err.n;
  t.log_err_max = err.max;
  t.weight_min = weight.min;
  t.weight_max = weight.max;
  t.weight_sd = deviation(&weight);
  t.output_min = output.min;
  t.output_max = output.max;
  t.output_sd = deviation(&output);
  formats_of(layers, n, &t);
  return t;
}
