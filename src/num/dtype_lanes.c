/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "dtype_lanes.h"

#include <math.h>

#include "round_table.h"

void ptq_lanes_range(const float *x, int64_t n, int64_t inc, float *lo,
                     float *hi) {
  ptq_range r = {x[0], x[0]};
  if (inc == 1)
    (void)ptq_rounding()->ranges(x, n, n, &r);
  else
    for (int64_t i = 1; i < n; i++) {
      const float v = x[i * inc];
      r.lo = v < r.lo ? v : r.lo;
      r.hi = v > r.hi ? v : r.hi;
    }
  *lo = r.lo;
  *hi = r.hi;
}

float ptq_nearest_power(float v, int lo, int hi) {
  int e;
  const float m = frexpf(v, &e); /* [0.5, 1) */
  if (m < 0.70710678F) e--;
  return ldexpf(1.0F, e < lo ? lo : e > hi ? hi : e);
}

bool ptq_lanes_finite(const float *x, int64_t n) {
  ptq_range r;
  return n <= 0 || ptq_rounding()->ranges(x, n, n, &r) == 1;
}
