/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AutoRound: offsets of rounding and clips of ranges of all layers of a block
 * by signed gradient descent on the error of the block's output. */
#include <math.h>
#include <string.h>

#include "offset_round.h"
#include "option_table.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "tiles.h"

typedef struct autoround_options {
  double lr, minmax_lr; /* below 0: auto */
  int64_t iters, batch, seed;
  bool minmax;
} autoround_options;

_Static_assert(sizeof(autoround_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

enum { TILE = 32 /* rows */ };

static const char *const automatic[] = {"auto", NULL};
static const autoround_options defaults = {
    .lr = -1.0, .minmax_lr = -1.0, .iters = 200, .batch = 8, .minmax = true};

/* clang-format off */
#define AT(field) offsetof(autoround_options, field)
static const ptq_option_row rows[] = {
  {"batch",     PTQ_OPTION_INT,    AT(batch),     1.0,  4096.0, NULL},
  {"iters",     PTQ_OPTION_INT,    AT(iters),     1.0,  1e5,    NULL},
  {"lr",        PTQ_OPTION_DOUBLE, AT(lr),        1e-6, 1.0,    automatic},
  {"minmax",    PTQ_OPTION_BOOL,   AT(minmax),    0.0,  0.0,    NULL},
  {"minmax_lr", PTQ_OPTION_DOUBLE, AT(minmax_lr), 1e-6, 1.0,    automatic},
  {"seed",      PTQ_OPTION_INT,    AT(seed),      0.0,  2e9,    NULL},
  {NULL,        PTQ_OPTION_BOOL,   0,             0.0,  0.0,    NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static autoround_options options_of(const ptq_method *m) {
  autoround_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  if (o.lr < 0.0) o.lr = 1.0 / (double)o.iters;
  if (o.minmax_lr < 0.0) o.minmax_lr = o.lr;
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  autoround_options o;
  const ptq_status rc =
      ptq_options_parse(&table, options, n, &o, sizeof o, m, err);
  if (rc == PTQ_OK) memcpy(m->own.bytes, &o, sizeof o);
  return rc;
}

static ptq_calibration_mode mode(const ptq_method *m) {
  (void)m;
  return PTQ_CALIB_NONE;
}

static unsigned needs(const ptq_method *m) {
  (void)m;
  return PTQ_NEED_BLOCK_LOSS;
}

static ptq_status accepts(const ptq_method *m, const ptq_dtype *dt,
                          int64_t group, ptq_err *err) {
  (void)m, (void)group;
  if (!ptq_offset_takes(dt))
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "autoround adds offsets to codes before they are rounded; "
                    "it takes int2 to int8, and MXINT and BFP without clips");
  if ((dt->options & PTQ_OPTION_SEARCH) != 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "autoround tunes the clips of a range that scale=mse "
                    "would search for: leave scale=mse out");
  if (ptq_offset_clips(dt) && ptq_dtype_shares(dt))
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "autoround tunes scales that dq= would nest by those of "
                    "the untouched weights: leave dq= out");
  return PTQ_OK;
}

/* The groups of a layer, each a run of its weights. */
typedef struct layout {
  int64_t lines, length; /* runs of groups: rows, or the whole matrix */
  int64_t width, groups; /* of a group; groups of a line */
} layout;

static layout layout_of(const ptq_quant_input *in) {
  if (in->group == PTQ_GROUP_TENSOR)
    return (layout){1, in->rows * in->cols, in->rows * in->cols, 1};
  const int64_t width =
      in->group > 0 && in->group < in->cols ? in->group : in->cols;
  return (layout){in->rows, in->cols, width,
                  ptq_dtype_groups(in->cols, in->group)};
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static int64_t tiles_of(const layout *l) {
  return (l->lines + TILE - 1) / TILE;
}

static ptq_range range_of(const float *w, int64_t n) {
  ptq_range r = {w[0], w[0]};
  for (int64_t i = 1; i < n; i++) {
    r.lo = w[i] < r.lo ? w[i] : r.lo;
    r.hi = w[i] > r.hi ? w[i] : r.hi;
  }
  return r;
}

/* Group `at` of line `line`; its first weight is *from. */
static ptq_offset_group group_of(const ptq_quant_input *in, const layout *l,
                                 const ptq_tuning *t, int64_t line, int64_t at,
                                 int64_t *from) {
  const int64_t first = at * l->width, index = line * l->groups + at;
  *from = line * l->length + first;
  ptq_offset_group g = {.dtype = in->dtype,
                        .w = in->w + *from,
                        .n = least(l->width, l->length - first),
                        .row = in->group == PTQ_GROUP_TENSOR ? 0 : line,
                        .col = in->group == PTQ_GROUP_TENSOR ? 0 : first,
                        .clip_lo = 1.0F,
                        .clip_hi = 1.0F};
  g.range = range_of(g.w, g.n);
  if (t == NULL) return g;
  g.v = t->offset + *from;
  g.clip_lo = t->clip_lo[index];
  g.clip_hi = t->clip_hi[index];
  return g;
}

/* Layers on their way: values at the offsets so far, and derivatives. */
typedef struct descent {
  const autoround_options *o; /* borrowed, as all */
  const ptq_quant_input *in;
  layout l;
  ptq_tuning *now;
  float *y, *g;
  double rate, minmax_rate;
} descent;

static ptq_status round_tile(void *ctx, int64_t index, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const descent *d = ctx;
  const int64_t end = least((index + 1) * TILE, d->l.lines);
  for (int64_t line = index * TILE; line < end; line++)
    for (int64_t at = 0; at < d->l.groups; at++) {
      int64_t from;
      ptq_group_params p;
      const ptq_offset_group g =
          group_of(d->in, &d->l, d->now, line, at, &from);
      PTQ_TRY(ptq_offset_params(&g, &p, err));
      ptq_offset_round(&g, &p, d->y + from, NULL);
    }
done:
  return rc;
}

static float against(float x, double slope, double rate) {
  if (slope == 0.0) return x;
  return x - (float)(slope > 0.0 ? rate : -rate);
}

static float clip(float x) {
  return fminf(fmaxf(x, 0.0F), 1.0F);
}

static ptq_status step_tile(void *ctx, int64_t index, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const descent *d = ctx;
  const int64_t end = least((index + 1) * TILE, d->l.lines);
  for (int64_t line = index * TILE; line < end; line++)
    for (int64_t at = 0; at < d->l.groups; at++) {
      int64_t from;
      ptq_group_params p;
      double by_lo, by_hi;
      const int64_t i = line * d->l.groups + at;
      const ptq_offset_group g =
          group_of(d->in, &d->l, d->now, line, at, &from);
      PTQ_TRY(ptq_offset_params(&g, &p, err));
      ptq_offset_back(&g, &p, d->g + from, d->g + from, &by_lo, &by_hi);
      for (int64_t k = from; k < from + g.n; k++)
        d->now->offset[k] =
            against(d->now->offset[k], (double)d->g[k], d->rate);
      if (!d->o->minmax) continue;
      d->now->clip_lo[i] =
          clip(against(d->now->clip_lo[i], by_lo, d->minmax_rate));
      d->now->clip_hi[i] =
          clip(against(d->now->clip_hi[i], by_hi, d->minmax_rate));
    }
done:
  return rc;
}

/* Batches of the calibration windows, each window once before any comes
 * again. */
typedef struct sampler {
  int64_t *order; /* owned; [n] */
  int64_t n, batch, at;
  ptq_rng rng;
} sampler;

static const int64_t *next_batch(sampler *s) {
  if (s->at + s->batch > s->n) {
    for (int64_t i = s->n - 1; i > 0; i--) {
      const int64_t j = (int64_t)ptq_rng_below(&s->rng, (uint64_t)i + 1);
      const int64_t kept = s->order[i];
      s->order[i] = s->order[j];
      s->order[j] = kept;
    }
    s->at = 0;
  }
  const int64_t *batch = s->order + s->at;
  s->at += s->batch;
  return batch;
}

static ptq_status sampler_open(sampler *s, const autoround_options *o,
                               const ptq_quant_input *in, int64_t windows,
                               ptq_err *err) {
  *s = (sampler){.n = windows, .batch = least(o->batch, windows)};
  const ptq_status rc =
      ptq_alloc(&s->order, windows, sizeof *s->order, "windows", err);
  for (int64_t i = 0; rc == PTQ_OK && i < windows; i++) s->order[i] = i;
  s->at = windows;
  const uint64_t of[2] = {
      (uint64_t)o->seed,
      in->layer != NULL ? ptq_hash64(in->layer, strlen(in->layer)) : 0};
  ptq_rng_init(&s->rng, ptq_hash64(of, sizeof of));
  return rc;
}

static int64_t params_of(const layout *l) {
  return l->lines * l->groups;
}

static ptq_status tuning_open(const ptq_quant_input *in, ptq_tuning *t,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const layout l = layout_of(in);
  const int64_t n = params_of(&l);
  *t = (ptq_tuning){0};
  PTQ_TRY(ptq_alloc(&t->offset, in->rows * in->cols, sizeof(float),
                    "offsets of rounding", err));
  PTQ_TRY(ptq_alloc(&t->clip_lo, n, sizeof(float), "clips", err));
  PTQ_TRY(ptq_alloc(&t->clip_hi, n, sizeof(float), "clips", err));
  for (int64_t i = 0; i < n; i++) t->clip_lo[i] = t->clip_hi[i] = 1.0F;
done:
  return rc;
}

static void tuning_copy(const ptq_quant_input *in, const ptq_tuning *from,
                        ptq_tuning *to) {
  const layout l = layout_of(in);
  const size_t n = (size_t)params_of(&l) * sizeof(float);
  memcpy(to->offset, from->offset,
         (size_t)(in->rows * in->cols) * sizeof(float));
  memcpy(to->clip_lo, from->clip_lo, n);
  memcpy(to->clip_hi, from->clip_hi, n);
}

/* A block's descent. */
typedef struct tuner {
  autoround_options o;
  const ptq_quant_input *in; /* borrowed; [n] */
  int n;
  ptq_tuning *now; /* owned; [n] */
  float **g;       /* owned, of owned; [n] */
  sampler sampler; /* owned */
} tuner;

static ptq_status tuner_open(tuner *t, const ptq_method *m,
                             const ptq_quant_input *in, int n, int64_t windows,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *t = (tuner){.o = options_of(m), .in = in, .n = n};
  PTQ_TRY(ptq_alloc(&t->now, n, sizeof *t->now, "offsets of a block", err));
  PTQ_TRY(ptq_alloc(&t->g, n, sizeof *t->g, "derivatives", err));
  for (int i = 0; i < n; i++) {
    PTQ_TRY(ptq_dtype_check_finite(in[i].w, in[i].rows, in[i].cols, err));
    PTQ_TRY(tuning_open(&in[i], &t->now[i], err));
    PTQ_TRY(ptq_alloc(&t->g[i], in[i].rows * in[i].cols, sizeof(float),
                      "derivatives", err));
  }
  PTQ_TRY(sampler_open(&t->sampler, &t->o, &in[0], windows, err));
done:
  return rc;
}

static void tuner_close(tuner *t) {
  for (int i = 0; i < t->n; i++) {
    if (t->now != NULL) ptq_tuning_release(&t->now[i]);
    if (t->g != NULL) ptq_free(t->g[i]);
  }
  ptq_free(t->now);
  ptq_free(t->g);
  ptq_free(t->sampler.order);
}

/* All layers, tile by tile. */
static ptq_status each_layer(tuner *t, float *const *y, double decay,
                             ptq_tile_fn *fn, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int i = 0; i < t->n; i++) {
    const ptq_quant_input *in = &t->in[i];
    descent d = {.o = &t->o,
                 .in = in,
                 .l = layout_of(in),
                 .now = &t->now[i],
                 .y = y[i],
                 .g = t->g[i],
                 .rate = t->o.lr * decay,
                 .minmax_rate = t->o.minmax_lr * decay};
    PTQ_TRY(ptq_tiles_run(tiles_of(&d.l), in->threads, fn, &d, err));
  }
done:
  return rc;
}

static ptq_status tune_block(const ptq_method *m, const ptq_quant_input *in,
                             float *const *y, int n, const ptq_block_loss *loss,
                             ptq_tuning *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double best = (double)INFINITY;
  tuner t;
  PTQ_TRY(tuner_open(&t, m, in, n, loss->windows, err));
  for (int i = 0; i < n; i++) PTQ_TRY(tuning_open(&in[i], &out[i], err));
  for (int64_t i = 0; i < t.o.iters; i++) {
    double now = 0.0;
    const int64_t *batch = next_batch(&t.sampler);
    PTQ_TRY(each_layer(&t, y, 0.0, round_tile, err));
    PTQ_TRY(loss->eval(loss->ctx, batch, t.sampler.batch, y, t.g, &now, err));
    if (!isfinite(now))
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC,
                       "the error of the block's output is %g at iteration "
                       "%lld; look for NaN or Inf in the activations",
                       now, (long long)i));
    if (now < best) {
      best = now;
      for (int k = 0; k < n; k++) tuning_copy(&in[k], &t.now[k], &out[k]);
    }
    const double decay = 1.0 - (double)i / (double)t.o.iters;
    PTQ_TRY(each_layer(&t, y, decay, step_tile, err));
  }
done:
  tuner_close(&t);
  return rc;
}

static ptq_status quantize(const ptq_method *m, const ptq_quant_input *in,
                           ptq_quant_output *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const layout l = layout_of(in);
  (void)m;
  PTQ_TRY(ptq_dtype_check_finite(in->w, in->rows, in->cols, err));
  for (int64_t line = 0; line < l.lines; line++)
    for (int64_t at = 0; at < l.groups; at++) {
      int64_t from;
      ptq_group_params *p = &out->params[line * l.groups + at];
      const ptq_offset_group g = group_of(in, &l, in->tuning, line, at, &from);
      PTQ_TRY(ptq_offset_params(&g, p, err));
      ptq_offset_round(&g, p, out->y + from, out->q + from);
    }
  out->storage_bits =
      ptq_dtype_storage_bits(in->dtype, in->rows, in->cols, in->group);
done:
  return rc;
}

/* Rounding and stepping a weight, beside the passes over windows. */
static double flops(const ptq_method *m, int64_t n_rows, int64_t cols) {
  return (60.0 + 300.0 * (double)options_of(m).iters) * (double)n_rows *
         (double)cols;
}

static double block_windows(const ptq_method *m, int64_t windows) {
  const autoround_options o = options_of(m);
  return (double)o.iters * (double)least(o.batch, windows);
}

/* Offsets, the best of them, and derivatives, of a block's weights. */
static double tuning_bytes(const ptq_method *m, int64_t weights) {
  (void)m;
  return 3.0 * (double)sizeof(float) * (double)weights * 1.25;
}

const ptq_method_family ptq_method_autoround = {
    .name = "autoround",
    .summary = "offsets of rounding and clips of ranges by signed gradient "
               "descent on a block's output",
    .source = "arXiv 2309.05516, PyPI auto-round 0.16.1 (its SignRound)",
    .options_help = "batch=8 iters=200 lr=auto minmax=true minmax_lr=auto "
                    "seed=0",
    .parse = parse,
    .mode = mode,
    .needs = needs,
    .accepts = accepts,
    .quantize = quantize,
    .tune_block = tune_block,
    .flops = flops,
    .block_windows = block_windows,
    .tuning_bytes = tuning_bytes,
    .lean = true,
};
