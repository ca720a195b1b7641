/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>

#include "ptq/num/vec.h"
#include "workspace.h"

void ptq_norm_rows(const ptq_model_info *info, const ptq_norm *norm,
                   const float *x, int64_t rows, int64_t width, float *y) {
  for (int64_t i = 0; i < rows; i++) {
    const float *row = x + i * width;
    const double square = ptq_vec_sum_sq(row, width) / (double)width;
    double mean = 0.0, variance = square;
    if (info->norm == PTQ_NORM_LAYER) {
      mean = ptq_vec_sum(row, width) / (double)width;
      variance = square - mean * mean;
    }
    const double scale = 1.0 / sqrt(variance + info->norm_eps);
    ptq_vec_normalize(row, width, (float)mean, (float)scale, norm->w, norm->b,
                      y + i * width);
  }
}
