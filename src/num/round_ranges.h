/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file round_ranges.h
 * Ranges of groups, over an instruction set's vector type; included by
 * round_kernels.h.
 *
 * Where groups are whole vectors, LANES of them are reduced together: a tree of
 * LANES - 1 steps takes the place of one a group.
 */
#ifndef PTQ_NUM_ROUND_RANGES_H
#define PTQ_NUM_ROUND_RANGES_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#include "round_table.h"

/* Bits of magnitudes are ordered like magnitudes; those of NaN and Inf come
 * last. */
static inline vi magnitude_bits(vf x) {
  return vi_and(v_bits(x), vi_set(0x7FFFFFFF));
}

static inline int is_finite(vi most) {
  return vi_most(most) < 0x7F800000;
}

static inline vf v_most_bits(vf a, vf b) {
  return v_float(vi_max(v_bits(a), v_bits(b)));
}

#define FOLD_STEP(k, op)                       \
  for (int i = 0; i < LANES >> (k + 1); i++) { \
    vf p, q;                                   \
    v_fold##k(v[2 * i], v[2 * i + 1], &p, &q); \
    v[i] = op(p, q);                           \
  }

/* Lane j becomes op over all lanes of v[j]. */
#define FOLD(name, op)                 \
  static inline vf name(vf v[LANES]) { \
    FOLD_STEP(0, op)                   \
    FOLD_STEP(1, op)                   \
    if (LANES > 4) FOLD_STEP(2, op)    \
    if (LANES > 8) FOLD_STEP(3, op)    \
    return v[0];                       \
  }

FOLD(fold_least, v_min)
FOLD(fold_most, v_max)
FOLD(fold_bits, v_most_bits)

static inline void range_of(const float *x, int64_t n, ptq_range *r, vi *most) {
  vi bits = *most, more = bits;
  if (n < LANES) {
    const vf v = v_load_n(x, n, x[0]);
    *most = vi_max(bits, magnitude_bits(v));
    v_ends(v, v, r);
    return;
  }
  vf lo = v_load(x), hi = lo;
  bits = vi_max(bits, magnitude_bits(lo));
  vf lower = lo, higher = hi;
  int64_t i = LANES;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    const vf v = v_load(x + i), u = v_load(x + i + LANES);
    lo = v_min(v, lo);
    lower = v_min(u, lower);
    hi = v_max(v, hi);
    higher = v_max(u, higher);
    bits = vi_max(bits, magnitude_bits(v));
    more = vi_max(more, magnitude_bits(u));
  }
  for (; i < n; i += LANES) {
    const vf v = i + LANES <= n ? v_load(x + i) : v_load_n(x + i, n - i, x[0]);
    lo = v_min(v, lo);
    hi = v_max(v, hi);
    bits = vi_max(bits, magnitude_bits(v));
  }
  *most = vi_max(bits, more);
  v_ends(v_min(lo, lower), v_max(hi, higher), r);
}

/* LANES groups of whole vectors. */
static inline void ranges_of(const float *x, int64_t width, ptq_range *r,
                             vi *most) {
  vf lo[LANES], hi[LANES];
  vi all = *most;
  for (int g = 0; g < LANES; g++, x += width) {
    lo[g] = hi[g] = v_load(x);
    all = vi_max(all, magnitude_bits(lo[g]));
    for (int64_t i = LANES; i < width; i += LANES) {
      const vf v = v_load(x + i);
      lo[g] = v_min(v, lo[g]);
      hi[g] = v_max(v, hi[g]);
      all = vi_max(all, magnitude_bits(v));
    }
  }
  *most = all;
  v_store_pairs(&r->lo, fold_least(lo), fold_most(hi));
}

static int64_t k_ranges(const float *x, int64_t n, int64_t width,
                        ptq_range *r) {
  vi most = vi_set(0);
  int64_t g = 0;
  if (width == LANES)
    for (; (g + LANES) * LANES <= n; g += LANES)
      ranges_of(x + g * LANES, LANES, r + g, &most);
  else if (width == 2 * LANES)
    for (; (g + LANES) * 2 * LANES <= n; g += LANES)
      ranges_of(x + g * 2 * LANES, 2 * LANES, r + g, &most);
  else if (width % LANES == 0)
    for (; (g + LANES) * width <= n; g += LANES)
      ranges_of(x + g * width, width, r + g, &most);
  for (int64_t i = g * width; i < n; i += width, g++)
    range_of(x + i, n - i < width ? n - i : width, &r[g], &most);
  if (is_finite(most)) return g;
  most = vi_set(0); /* which one was it? */
  for (g = 0; is_finite(most); g++)
    range_of(x + g * width, n - g * width < width ? n - g * width : width,
             &r[g], &most);
  return g - 1;
}

static inline vi peak_of(const float *x, int64_t n) {
  vi a = vi_set(0), b = a;
  int64_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    a = vi_max(a, magnitude_bits(v_load(x + i)));
    b = vi_max(b, magnitude_bits(v_load(x + i + LANES)));
  }
  for (; i + LANES <= n; i += LANES)
    a = vi_max(a, magnitude_bits(v_load(x + i)));
  if (i < n) a = vi_max(a, magnitude_bits(v_load_n(x + i, n - i, 0.0F)));
  return vi_max(a, b);
}

/* LANES groups of whole vectors: their largest magnitudes. */
static inline vf peaks_of(const float *x, int64_t width) {
  vf v[LANES];
  for (int g = 0; g < LANES; g++, x += width) {
    vi a = magnitude_bits(v_load(x));
    for (int64_t i = LANES; i < width; i += LANES)
      a = vi_max(a, magnitude_bits(v_load(x + i)));
    v[g] = v_float(a);
  }
  return fold_bits(v);
}

/* Ranges from minus the largest magnitude to that. */
static inline vi put_peaks(const float *x, int64_t width, ptq_range *r) {
  const vf hi = peaks_of(x, width);
  v_store_pairs(&r->lo, v_float(vi_or(v_bits(hi), vi_set(INT32_MIN))), hi);
  return v_bits(hi);
}

static int64_t k_peaks(const float *x, int64_t n, int64_t width, ptq_range *r) {
  vi most = vi_set(0);
  int64_t g = 0;
  if (width == LANES)
    for (; (g + LANES) * LANES <= n; g += LANES)
      most = vi_max(most, put_peaks(x + g * LANES, LANES, r + g));
  else if (width == 2 * LANES)
    for (; (g + LANES) * 2 * LANES <= n; g += LANES)
      most = vi_max(most, put_peaks(x + g * 2 * LANES, 2 * LANES, r + g));
  else if (width % LANES == 0)
    for (; (g + LANES) * width <= n; g += LANES)
      most = vi_max(most, put_peaks(x + g * width, width, r + g));
  for (int64_t i = g * width; i < n; i += width, g++) {
    const vi a = peak_of(x + i, n - i < width ? n - i : width);
    const int32_t bits = vi_most(a);
    most = vi_max(most, a);
    memcpy(&r[g].hi, &bits, sizeof bits);
    r[g].lo = -r[g].hi;
  }
  if (is_finite(most)) return g;
  for (g = 0; r[g].hi <= FLT_MAX;) g++; /* which one was it? */
  return g;
}

#endif /* PTQ_NUM_ROUND_RANGES_H */
