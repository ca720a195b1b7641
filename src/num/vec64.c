/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/vec64.h"

#include <math.h>
#include <stddef.h>

double ptq_vec64_exp(const double *x, int64_t n, double shift, double *y) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += y[i] = exp(x[i] - shift);
  return sum;
}

double ptq_vec64_max(const double *x, int64_t n, int64_t *at) {
  double best = -INFINITY;
  int64_t where = 0;
  for (int64_t i = 0; i < n; i++)
    if (x[i] > best) {
      best = x[i];
      where = i;
    }
  if (at != NULL) *at = where;
  return best;
}

double ptq_vec64_sum(const double *x, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += x[i];
  return sum;
}

double ptq_vec64_dot(const double *x, const double *y, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}

double ptq_vec64_sum_sq(const double *x, int64_t n) {
  return ptq_vec64_dot(x, x, n);
}

double ptq_vec64_sum_sq_diff(const double *x, const double *y, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return sum;
}

void ptq_vec64_add(const double *x, int64_t n, double *y) {
  for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

void ptq_vec64_scale(double s, int64_t n, double *y) {
  for (int64_t i = 0; i < n; i++) y[i] *= s;
}

void ptq_vec64_accumulate(const double *x, int64_t n, double s, double *acc) {
  for (int64_t i = 0; i < n; i++) acc[i] += s * x[i];
}

void ptq_vec64_silu_mul(const double *up, int64_t n, double *gate) {
  ptq_vec64_silu(n, gate);
  ptq_vec64_multiply(up, n, gate);
}

void ptq_vec64_relu(int64_t n, double *x) {
  for (int64_t i = 0; i < n; i++)
    if (x[i] < 0.0) x[i] = 0.0;
}

void ptq_vec64_silu(int64_t n, double *x) {
  for (int64_t i = 0; i < n; i++) x[i] /= 1.0 + exp(-x[i]);
}

void ptq_vec64_gelu(int64_t n, double *x) {
  for (int64_t i = 0; i < n; i++) x[i] *= 0.5 * erfc(-x[i] * sqrt(0.5));
}

void ptq_vec64_gelu_tanh(int64_t n, double *x) {
  const double root = sqrt(8.0 * atan(1.0)) / 2.0; /* sqrt(pi / 2) */
  for (int64_t i = 0; i < n; i++) {
    const double u = (x[i] + 0.044715 * x[i] * x[i] * x[i]) / root;
    x[i] *= 0.5 * (1.0 + tanh(u));
  }
}

void ptq_vec64_soft_cap(double cap, int64_t n, double *x) {
  for (int64_t i = 0; i < n; i++) x[i] = cap * tanh(x[i] / cap);
}

void ptq_vec64_multiply(const double *x, int64_t n, double *y) {
  for (int64_t i = 0; i < n; i++) y[i] *= x[i];
}

void ptq_vec64_normalize(const double *x, int64_t n, double mean, double scale,
                         const double *w, const double *b, double *y) {
  for (int64_t i = 0; i < n; i++)
    y[i] = (x[i] - mean) * scale * w[i] + (b != NULL ? b[i] : 0.0);
}

void ptq_vec64_rotate(const double *x, const double *cosines,
                      const double *sines, int64_t half, double *y) {
  for (int64_t i = 0; i < half; i++) {
    const double a = x[i], b = x[half + i];
    y[i] = a * cosines[i] - b * sines[i];
    y[half + i] = b * cosines[i] + a * sines[i];
  }
}

int ptq_vec64_all_finite(const double *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return 0;
  return 1;
}
