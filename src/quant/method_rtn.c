/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Round to nearest: each weight on its own. */
#include <math.h>
#include <string.h>

#include "option_table.h"
#include "round_rows.h"
#include "tiles.h"

typedef struct rtn_options {
  int scales;
} rtn_options;

_Static_assert(sizeof(rtn_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

enum { ABSMAX, MSE };
enum { TILE = 16 /* rows */ };

static const char *const scales_names[] = {"absmax", "mse", NULL};
static const rtn_options defaults = {.scales = ABSMAX};
static const ptq_option_row rows[] = {
    {"scales", PTQ_OPTION_CHOICE, offsetof(rtn_options, scales), 0.0, 0.0,
     scales_names},
    {NULL, PTQ_OPTION_BOOL, 0, 0.0, 0.0, NULL},
};
static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static rtn_options options_of(const ptq_method *m) {
  rtn_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  rtn_options o;
  const ptq_status rc =
      ptq_options_parse(&table, options, n, &o, sizeof o, m, err);
  if (rc == PTQ_OK) memcpy(m->own.bytes, &o, sizeof o);
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  (void)m;
  return PTQ_CALIB_NONE;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)m, (void)dt, (void)group, (void)err;
  return PTQ_OK;
}

/* A layer whose scales are searched for. */
typedef struct search {
  const ptq_quant_input *in;
  const ptq_quant_output *out;
} search;

/* The group of n weights at (row, col), the g-th of the layer. */
static ptq_status search_group(const search *s, int64_t row, int64_t col,
                               int64_t n, int64_t g, ptq_err *err) {
  const ptq_dtype *dt = s->in->dtype;
  const int64_t at = row * s->in->cols + col;
  ptq_group_params *p = s->out->params + g;
  const ptq_status rc =
      ptq_dtype_search(dt, s->in->w + at, n, 1, row, col, p, err);
  if (rc == PTQ_OK)
    dt->family->round(dt, s->in->w + at, n, p, 0, s->out->y + at,
                      s->out->q + at);
  return rc;
}

static ptq_status search_tile(void *ctx, int64_t index, ptq_err *err) {
  const search *s = ctx;
  const ptq_quant_input *in = s->in;
  const int64_t groups = ptq_dtype_groups(in->cols, in->group);
  const int64_t width = in->group > 0 ? in->group : in->cols;
  ptq_status rc = PTQ_OK;
  for (int64_t r = index * TILE; r < in->rows && r < (index + 1) * TILE; r++)
    for (int64_t g = 0; g < groups; g++) {
      const int64_t col = g * width;
      const int64_t n = in->cols - col < width ? in->cols - col : width;
      PTQ_TRY(search_group(s, r, col, n, r * groups + g, err));
    }
done:
  return rc;
}

static ptq_status round_searched(const ptq_quant_input *in,
                                 ptq_quant_output *out, ptq_err *err) {
  search s = {.in = in, .out = out};
  const ptq_status rc = ptq_dtype_check_finite(in->w, in->rows, in->cols, err);
  if (rc != PTQ_OK) return rc;
  if (in->group == PTQ_GROUP_TENSOR)
    return search_group(&s, 0, 0, in->rows * in->cols, 0, err);
  const size_t cols = (size_t)in->cols;
  const size_t groups = (size_t)ptq_dtype_groups(in->cols, in->group);
  const ptq_tile_split split = {
      .team = in->team,
      .threads = in->threads,
      .rows = in->rows,
      .tile = TILE,
      .out = {{out->y, cols * sizeof *out->y},
              {out->q, cols * sizeof *out->q},
              {out->params, groups * sizeof *out->params}}};
  return ptq_tiles_split(&split, search_tile, &s, err);
}

static ptq_status quantize(const ptq_method *m, const ptq_quant_input *in,
                           ptq_quant_output *out, ptq_err *err) {
  out->damp = (double)NAN;
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group);
  if (options_of(m).scales == MSE) return round_searched(in, out, err);
  return ptq_round_rows(in->dtype, in, in->w, out->y, out->q, out->params, err);
}

/* A division, a rounding and a range a weight, in units of the cost model;
 * 80 candidates, each with a power, where scales are searched for. */
static double flops(const ptq_method *m, int64_t n_rows, int64_t cols) {
  const double each = options_of(m).scales == MSE ? 80.0 * 200.0 : 60.0;
  return each * (double)n_rows * (double)cols;
}

const ptq_method_family ptq_method_rtn = {
    .name = "rtn",
    .summary = "round to nearest, each weight on its own",
    .source = "the dtype's reference; scales=mse: IST-DASLab/gptq 2d65066 "
              "quant.py",
    .options_help = "scales=absmax|mse",
    .parse = parse,
    .mode = mode,
    .accepts = accepts,
    .quantize = quantize,
    .flops = flops,
    .lean = true,
};
