/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "dtype_lanes.h"

#include <math.h>
#include <string.h>

static void spread(ptq_lanes *c, const ptq_group_params *params) {
  for (int j = 0; j < PTQ_LANES; j++) {
    c->scale[j] = params->scale;
    c->zero[j] = params->zero;
  }
}

static void gather(ptq_lanes *c, const ptq_group_params *params, int count) {
  for (int j = 0; j < count; j++) {
    c->scale[j] = params[j].scale;
    c->zero[j] = params[j].zero;
  }
}

static void put_codes(const float *code, int count, int16_t *q) {
  for (int j = 0; j < count; j++) q[j] = (int16_t)code[j];
}

void ptq_lanes_round(ptq_lanes_kernel *kernel, const ptq_dtype *dt,
                     const float *x, int64_t n, const ptq_group_params *params,
                     int64_t params_inc, float *y, int16_t *q) {
  ptq_lanes c;
  if (n <= 0) return;
  spread(&c, params);
  int64_t i = 0;
  for (; i + PTQ_LANES <= n; i += PTQ_LANES) {
    memcpy(c.x, x + i, sizeof c.x);
    if (params_inc != 0) gather(&c, params + i, PTQ_LANES);
    kernel(dt, &c);
    if (y != NULL) memcpy(y + i, c.y, sizeof c.y);
    if (q != NULL) put_codes(c.code, PTQ_LANES, q + i);
  }
  const int rest = (int)(n - i);
  if (rest == 0) return;
  /* the idle lanes repeat a valid parameter on zero */
  memset(c.x, 0, sizeof c.x);
  memcpy(c.x, x + i, (size_t)rest * sizeof(float));
  if (params_inc != 0) {
    spread(&c, params + i);
    gather(&c, params + i, rest);
  }
  kernel(dt, &c);
  if (y != NULL) memcpy(y + i, c.y, (size_t)rest * sizeof(float));
  if (q != NULL) put_codes(c.code, rest, q + i);
}

void ptq_lanes_range(const float *x, int64_t n, int64_t inc, float *lo,
                     float *hi) {
  float least[PTQ_LANES], most[PTQ_LANES];
  for (int j = 0; j < PTQ_LANES; j++) least[j] = most[j] = x[0];
  int64_t i = 0;
  if (inc == 1) {
    for (; i + PTQ_LANES <= n; i += PTQ_LANES) {
      const float *chunk = x + i;
      for (int j = 0; j < PTQ_LANES; j++) {
        least[j] = chunk[j] < least[j] ? chunk[j] : least[j];
        most[j] = chunk[j] > most[j] ? chunk[j] : most[j];
      }
    }
  }
  for (; i < n; i++) {
    const float v = x[i * inc];
    if (v < least[0]) least[0] = v;
    if (v > most[0]) most[0] = v;
  }
  for (int j = 1; j < PTQ_LANES; j++) {
    if (least[j] < least[0]) least[0] = least[j];
    if (most[j] > most[0]) most[0] = most[j];
  }
  *lo = least[0];
  *hi = most[0];
}

float ptq_nearest_power(float v, int lo, int hi) {
  int e;
  const float m = frexpf(v, &e); /* [0.5, 1) */
  if (m < 0.70710678F) e--;
  return ldexpf(1.0F, e < lo ? lo : e > hi ? hi : e);
}

/* All ones in the exponent: NaN or Inf. */
static uint32_t not_finite(float v) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return (bits & 0x7F800000U) == 0x7F800000U ? 1U : 0U;
}

bool ptq_lanes_finite(const float *x, int64_t n) {
  int64_t i = 0;
  uint32_t bad[PTQ_LANES] = {0};
  for (; i + PTQ_LANES <= n; i += PTQ_LANES)
    for (int j = 0; j < PTQ_LANES; j++) bad[j] |= not_finite(x[i + j]);
  for (; i < n; i++) bad[0] |= not_finite(x[i]);
  for (int j = 1; j < PTQ_LANES; j++) bad[0] |= bad[j];
  return bad[0] == 0;
}
