/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Minimize sum c(l, o(l)) subject to sum w(l) b(l, o(l)) <= B. For a price
 * lambda of a bit, sum min over o of (c + lambda w b) - lambda B is a lower
 * bound, concave in lambda; its maximum is the bound that is reported, and the
 * choices that minimize at a price that keeps the budget are feasible ones,
 * whose slack is then spent greedily. Dynamic programming finds what lies
 * between the corners of the hull: exactly, where the bits that options take
 * beyond a layer's narrowest are multiples of one number and few enough of it
 * make up the budget; else on a grid, each option rounded up.
 */
#include "ptq/analysis/allocate.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"

/* Of the grid; of an exact program, and of it times layers. */
enum { CELLS = 1 << 15, MOST_CELLS = 1 << 20, MOST_STATES = 1 << 27 };

static double bits_of(const ptq_layer_table *t, int64_t l, int64_t k) {
  return t->weights[l] * t->bits[l * t->n_options + k];
}

static double cost_of(const ptq_layer_table *t, int64_t l, int64_t k) {
  return t->sensitivity[l] * t->error[l * t->n_options + k];
}

static double sum_of(const double *v, int64_t n) {
  double s = 0.0;
  for (int64_t i = 0; i < n; i++) s += v[i];
  return s;
}

void ptq_allocation_judge(const ptq_layer_table *t, const int *choice,
                          double *bits, double *cost) {
  *bits = *cost = 0.0;
  for (int64_t l = 0; l < t->n_layers; l++) {
    *bits += bits_of(t, l, choice[l]);
    *cost += cost_of(t, l, choice[l]);
  }
  *bits /= sum_of(t->weights, t->n_layers);
}

void ptq_allocation_release(ptq_allocation *a) {
  ptq_free(a->choice);
  *a = (ptq_allocation){0};
}

/* The minimizers at a price; returns their bits, *value the sum minimized. */
static double at_price(const ptq_layer_table *t, double price, int *choice,
                       double *value) {
  double bits = 0.0;
  *value = 0.0;
  for (int64_t l = 0; l < t->n_layers; l++) {
    double least = INFINITY;
    for (int64_t k = 0; k < t->n_options; k++) {
      const double v = cost_of(t, l, k) + price * bits_of(t, l, k);
      /* of equals the narrower, so that a price that is high enough keeps any
       * budget that can be kept */
      if (v < least ||
          (v == least && bits_of(t, l, k) < bits_of(t, l, choice[l]))) {
        least = v;
        choice[l] = (int)k;
      }
    }
    bits += bits_of(t, l, choice[l]);
    *value += least;
  }
  return bits;
}

/* The exchange of one layer's option that saves most within what is left. */
static bool improve(const ptq_layer_table *t, int *choice, double *left) {
  double best = 0.0;
  int64_t at = -1, to = -1;
  for (int64_t l = 0; l < t->n_layers; l++)
    for (int64_t k = 0; k < t->n_options; k++) {
      const double more = bits_of(t, l, k) - bits_of(t, l, choice[l]);
      const double saved = cost_of(t, l, choice[l]) - cost_of(t, l, k);
      if (more > *left || !(saved > best)) continue;
      best = saved;
      at = l;
      to = k;
    }
  if (at < 0) return false;
  *left -= bits_of(t, at, to) - bits_of(t, at, choice[at]);
  choice[at] = (int)to;
  return true;
}

/* Bisection of the price's logarithm; the feasible side's choice. */
static void relax(const ptq_layer_table *t, double budget, int *choice,
                  int *trial, double *bound) {
  enum { STEPS = 120 };
  double low = 1e-40, high = 1.0, value = 0.0;
  *bound = 0.0;
  while (at_price(t, high, choice, &value) > budget && high < 1e200)
    high *= 1e6;
  for (int i = 0; i < STEPS; i++) {
    const double price = i == 0 ? 0.0 : sqrt(low) * sqrt(high);
    const double bits = at_price(t, price, trial, &value);
    *bound = fmax(*bound, value - price * budget);
    if (bits > budget) {
      if (i > 0) low = price;
      continue;
    }
    memcpy(choice, trial, (size_t)t->n_layers * sizeof *choice);
    if (i == 0) break; /* the dearest fit */
    high = price;
  }
  double bits = 0.0, cost = 0.0;
  ptq_allocation_judge(t, choice, &bits, &cost);
  double left = budget - bits * sum_of(t->weights, t->n_layers);
  while (improve(t, choice, &left)) {
  }
}

static double narrowest(const ptq_layer_table *t, int64_t l) {
  double least = INFINITY;
  for (int64_t k = 0; k < t->n_options; k++)
    least = fmin(least, bits_of(t, l, k));
  return least;
}

/* The largest number that all bits beyond the narrowest are multiples of; 0:
 * they are no whole numbers. */
static double common_unit(const ptq_layer_table *t) {
  double unit = 0.0;
  for (int64_t l = 0; l < t->n_layers; l++)
    for (int64_t k = 0; k < t->n_options; k++) {
      const double more = bits_of(t, l, k) - narrowest(t, l);
      double a = unit, b = round(more);
      if (fabs(more - b) > 1e-6 * (1.0 + b)) return 0.0;
      while (b > 0.0) { /* Euclid's */
        const double rest = fmod(a, b);
        a = b;
        b = rest;
      }
      unit = a;
    }
  return unit;
}

/* A budget beyond the narrowest options, in cells. */
typedef struct grid {
  double cell;
  int64_t n;
} grid;

static grid grid_of(const ptq_layer_table *t, double budget) {
  double more = budget;
  for (int64_t l = 0; l < t->n_layers; l++) more -= narrowest(t, l);
  const double unit = common_unit(t);
  const double n = unit > 0.0 ? floor(more / unit + 1e-6) : 0.0;
  if (n >= 1.0 && n <= MOST_CELLS && n * (double)t->n_layers <= MOST_STATES)
    return (grid){unit, (int64_t)n};
  return (grid){fmax(more, 0.0) / CELLS, CELLS};
}

static double cells_of(const ptq_layer_table *t, const grid *g, int64_t l,
                       int64_t k) {
  const double more = bits_of(t, l, k) - narrowest(t, l);
  return more > 0.0 ? ceil(more / g->cell - 1e-6) : 0.0;
}

/* least[c]: cost of the layers so far within c cells; from[l, c]: option of
 * layer l in it. */
static ptq_status program(const ptq_layer_table *t, double budget, int *choice,
                          bool *found, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *least = NULL, *next = NULL;
  int16_t *from = NULL;
  const grid g = grid_of(t, budget);
  const int64_t room = g.n + 1;
  *found = false;
  PTQ_TRY(ptq_alloc(&least, room, sizeof *least, "a budget", err));
  PTQ_TRY(ptq_alloc(&next, room, sizeof *next, "a budget", err));
  PTQ_TRY(ptq_alloc(&from, t->n_layers * room, sizeof *from, "a budget", err));
  for (int64_t l = 0; l < t->n_layers; l++) {
    int16_t *own = from + l * room;
    for (int64_t c = 0; c < room; c++) next[c] = INFINITY;
    for (int64_t k = 0; k < t->n_options; k++) {
      const double need = cells_of(t, &g, l, k);
      const double cost = cost_of(t, l, k);
      if (need > (double)g.n) continue;
      for (int64_t c = (int64_t)need; c < room; c++) {
        const double v = least[c - (int64_t)need] + cost;
        if (!(v < next[c])) continue;
        next[c] = v;
        own[c] = (int16_t)k;
      }
    }
    memcpy(least, next, (size_t)room * sizeof *least);
  }
  int64_t at = g.n;
  *found = isfinite(least[at]);
  for (int64_t l = t->n_layers; l-- > 0 && *found;) {
    choice[l] = from[l * room + at];
    at -= (int64_t)cells_of(t, &g, l, choice[l]);
  }
done:
  ptq_free(least);
  ptq_free(next);
  ptq_free(from);
  return rc;
}

static ptq_status too_few_bits(const ptq_layer_table *t, double bits,
                               ptq_err *err) {
  double all = 0.0;
  for (int64_t l = 0; l < t->n_layers; l++) all += narrowest(t, l);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "no choice has %g bits a weight or less; the narrowest "
                  "formats of these points take %.4f",
                  bits, all / sum_of(t->weights, t->n_layers));
}

ptq_status ptq_allocate(const ptq_layer_table *t, double bits,
                        ptq_allocation *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int *other = NULL;
  bool found = false;
  /* a budget that is met to the last digit is met */
  const double budget = bits * sum_of(t->weights, t->n_layers) * (1.0 + 1e-12);
  double other_bits = 0.0, other_cost = INFINITY;
  *out = (ptq_allocation){0};
  PTQ_TRY(ptq_alloc(&out->choice, t->n_layers, sizeof(int), "a choice", err));
  PTQ_TRY(ptq_alloc(&other, t->n_layers, sizeof *other, "a choice", err));
  relax(t, budget, out->choice, other, &out->bound);
  ptq_allocation_judge(t, out->choice, &out->bits, &out->cost);
  if (!(out->bits * sum_of(t->weights, t->n_layers) <= budget))
    PTQ_TRY(too_few_bits(t, bits, err));
  PTQ_TRY(program(t, budget, other, &found, err));
  if (found) ptq_allocation_judge(t, other, &other_bits, &other_cost);
  if (other_cost < out->cost) {
    memcpy(out->choice, other, (size_t)t->n_layers * sizeof *other);
    out->bits = other_bits;
    out->cost = other_cost;
  }
done:
  ptq_free(other);
  if (rc != PTQ_OK) ptq_allocation_release(out);
  return rc;
}
