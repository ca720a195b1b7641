/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "awq_clip.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "tiles.h"

enum {
  TILE = 256, /* rows: fixed, since it shapes the products */
  GRID = 20,
  STEPS = 10 /* half of the grid: the reference's max_shrink is 0.5 */
};

typedef struct clip {
  const ptq_dtype *dt; /* borrowed, as all pointers here */
  float *w;
  int64_t rows, cols, width;
  const double *h;
  const float *scale;
} clip;

/* One tile's rows of one group. */
typedef struct patch {
  int64_t row, rows, col, n;
  float *h;       /* owned; [n, n] of the widest group, inputs over scale */
  float *clamped; /* owned; [n] */
  float *error;   /* owned; [TILE, n] */
  float *product; /* owned; [TILE, n] */
  float *most;    /* owned; [TILE] largest magnitudes */
  float *best;    /* owned; [TILE] the limit that erred least so far */
  double *least;  /* owned; [TILE] and its error */
} patch;

static int64_t least_of(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static void patch_release(patch *p) {
  ptq_free(p->h);
  ptq_free(p->clamped);
  ptq_free(p->error);
  ptq_free(p->product);
  ptq_free(p->most);
  ptq_free(p->best);
  ptq_free(p->least);
}

static ptq_status patch_init(patch *p, const clip *c, int64_t index,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = c->width;
  const char *what = "AWQ's clipping";
  *p = (patch){.row = index * TILE};
  p->rows = least_of(TILE, c->rows - p->row);
  PTQ_TRY(ptq_alloc(&p->h, n * n, sizeof *p->h, what, err));
  PTQ_TRY(ptq_alloc(&p->clamped, n, sizeof *p->clamped, what, err));
  PTQ_TRY(ptq_alloc(&p->error, TILE * n, sizeof *p->error, what, err));
  PTQ_TRY(ptq_alloc(&p->product, TILE * n, sizeof *p->product, what, err));
  PTQ_TRY(ptq_alloc(&p->most, TILE, sizeof *p->most, what, err));
  PTQ_TRY(ptq_alloc(&p->best, TILE, sizeof *p->best, what, err));
  PTQ_TRY(ptq_alloc(&p->least, TILE, sizeof *p->least, what, err));
done:
  return rc;
}

static float clamp(float x, float limit) {
  const float low = x < -limit ? -limit : x;
  return low > limit ? limit : low;
}

/* The group at col: its block of the moment and its largest magnitudes. */
static void start_group(const clip *c, patch *p, int64_t col) {
  p->col = col;
  p->n = least_of(c->width, c->cols - col);
  for (int64_t i = 0; i < p->n; i++)
    for (int64_t j = 0; j < p->n; j++)
      p->h[i * p->n + j] =
          (float)(c->h[(col + i) * c->cols + col + j] /
                  ((double)c->scale[col + i] * (double)c->scale[col + j]));
  for (int64_t r = 0; r < p->rows; r++) {
    const float *w = c->w + (p->row + r) * c->cols + col;
    float most = 0.0F;
    for (int64_t i = 0; i < p->n; i++)
      if (fabsf(w[i]) > most) most = fabsf(w[i]);
    p->most[r] = p->best[r] = most;
    p->least[r] = (double)INFINITY;
  }
}

/* Errors of the tile's rows with weights beyond `share` of the largest cut. */
static ptq_status try_share(const clip *c, patch *p, float share,
                            ptq_err *err) {
  const int64_t n = p->n;
  for (int64_t r = 0; r < p->rows; r++) {
    const float *w = c->w + (p->row + r) * c->cols + p->col;
    const float limit = p->most[r] * share;
    float *e = p->error + r * n;
    ptq_group_params params;
    for (int64_t i = 0; i < n; i++) p->clamped[i] = clamp(w[i], limit);
    const ptq_status rc = ptq_dtype_fit(c->dt, p->clamped, n, 1, p->row + r,
                                        p->col, &params, err);
    if (rc != PTQ_OK) return rc;
    c->dt->family->round(c->dt, p->clamped, n, &params, 0, e, NULL);
    for (int64_t i = 0; i < n; i++) e[i] -= w[i];
  }
  ptq_sgemm_nt(p->rows, n, n, 1.0F, p->error, n, p->h, n, 0.0F, p->product, n);
  for (int64_t r = 0; r < p->rows; r++) {
    double sum = 0.0;
    for (int64_t i = r * n; i < (r + 1) * n; i++)
      sum += (double)p->error[i] * (double)p->product[i];
    if (!(sum < p->least[r])) continue;
    p->least[r] = sum;
    p->best[r] = p->most[r] * share;
  }
  return PTQ_OK;
}

static ptq_status clip_tile(void *ctx, int64_t index, ptq_err *err) {
  const clip *c = ctx;
  ptq_status rc = PTQ_OK;
  patch p;
  PTQ_TRY(patch_init(&p, c, index, err));
  for (int64_t col = 0; col < c->cols; col += c->width) {
    start_group(c, &p, col);
    for (int i = 0; i < STEPS; i++)
      PTQ_TRY(try_share(c, &p, (float)(1.0 - (double)i / GRID), err));
    for (int64_t r = 0; r < p.rows; r++) {
      float *w = c->w + (p.row + r) * c->cols + col;
      for (int64_t i = 0; i < p.n; i++) w[i] = clamp(w[i], p.best[r]);
    }
  }
done:
  patch_release(&p);
  return rc;
}

ptq_status ptq_awq_clip(const ptq_dtype *dt, float *w, int64_t rows,
                        int64_t cols, int64_t group, const double *h,
                        const float *scale, int threads, ptq_team *team,
                        ptq_err *err) {
  clip c = {.dt = dt,
            .w = w,
            .rows = rows,
            .cols = cols,
            .width = group > 0 ? least_of(group, cols) : cols,
            .h = h,
            .scale = scale};
  const ptq_tile_split split = {.team = team,
                                .threads = threads,
                                .rows = rows,
                                .tile = TILE,
                                .out = {{w, (size_t)cols * sizeof *w}}};
  return ptq_tiles_split(&split, clip_tile, &c, err);
}
