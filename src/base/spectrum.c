/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/spectrum.h"

#include <math.h>

/* Least-squares slope of ln v by ln(rank + 1), first <= rank < last. */
static double slope(const double *v, int64_t first, int64_t last) {
  double n = 0.0, sx = 0.0, sy = 0.0, sxx = 0.0, sxy = 0.0;
  for (int64_t i = first; i < last; i++) {
    const double x = log((double)(i + 1)), y = log(v[i]);
    n += 1.0;
    sx += x;
    sy += y;
    sxx += x * x;
    sxy += x * y;
  }
  const double spread = n * sxx - sx * sx;
  return n >= 2.0 && spread > 0.0 ? (n * sxy - sx * sy) / spread : (double)NAN;
}

ptq_spectrum_summary ptq_spectrum_summary_of(const double *values, int64_t d) {
  const double none = (double)NAN;
  ptq_spectrum_summary s = {.max = none, .condition = none, .tail = none};
  double entropy = 0.0;
  while (s.n < d && values[s.n] > 0.0 && isfinite(values[s.n]))
    s.trace += values[s.n++];
  if (s.n == 0) return s;
  for (int64_t i = 0; i < s.n; i++) {
    const double p = values[i] / s.trace;
    entropy -= p * log(p);
  }
  const int64_t low = 9 * d / 10 < s.n ? 9 * d / 10 : s.n - 1;
  s.max = values[0];
  s.rank = exp(entropy);
  s.condition = values[0] / values[low];
  s.tail = -slope(values, d / 10, d / 2 < s.n ? d / 2 : s.n);
  return s;
}
