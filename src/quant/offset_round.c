/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "offset_round.h"

#include <math.h>
#include <string.h>

static bool is(const ptq_dtype *dt, const char *family) {
  return strcmp(dt->family->name, family) == 0;
}

bool ptq_offset_clips(const ptq_dtype *dt) {
  return is(dt, "int");
}

bool ptq_offset_takes(const ptq_dtype *dt) {
  return is(dt, "int") || is(dt, "mxint") || is(dt, "bfp");
}

static float clipped_lo(const ptq_offset_group *g) {
  return g->range.lo < 0.0F ? g->clip_lo * g->range.lo : 0.0F;
}

static float clipped_hi(const ptq_offset_group *g) {
  return g->range.hi > 0.0F ? g->clip_hi * g->range.hi : 0.0F;
}

ptq_status ptq_offset_params(const ptq_offset_group *g, ptq_group_params *p,
                             ptq_err *err) {
  const ptq_dtype *dt = g->dtype;
  if (!ptq_offset_clips(dt))
    return ptq_dtype_fit(dt, g->w, g->n, 1, g->row, g->col, p, err);
  const float lo = clipped_lo(g), hi = clipped_hi(g);
  *p = dt->family->shrink(dt, lo, hi, 1.0F);
  const float plain = p->scale;
  if (isfinite(plain)) ptq_dtype_snap(dt, g->row, g->col, p);
  if (!isfinite(plain) || !isfinite(p->scale))
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "the scale of the group at row %lld, column %lld "
                    "overflows: its weights go from %g to %g",
                    (long long)g->row, (long long)g->col, (double)g->range.lo,
                    (double)g->range.hi);
  /* The zero point goes with the scale as it is stored. */
  if (p->scale != plain)
    p->zero = (float)dt->family->zero_at(dt, (double)lo, (double)hi,
                                         (double)p->scale);
  return PTQ_OK;
}

/* What round(w / scale + v) is asked for in a format whose scale is a power of
 * two. */
static void round_moved(const ptq_offset_group *g, const ptq_group_params *p,
                        float *y, int16_t *q) {
  for (int64_t i = 0; i < g->n; i++)
    y[i] = g->v != NULL ? g->w[i] + p->scale * g->v[i] : g->w[i];
  g->dtype->family->round(g->dtype, y, g->n, p, 0, y, q);
}

static float top_code(const ptq_dtype *dt) {
  return (float)(dt->family->levels(dt) - 1);
}

void ptq_offset_round(const ptq_offset_group *g, const ptq_group_params *p,
                      float *y, int16_t *q) {
  const float top = top_code(g->dtype), scale = p->scale, zero = p->zero;
  if (!ptq_offset_clips(g->dtype)) {
    round_moved(g, p, y, q);
    return;
  }
  for (int64_t i = 0; i < g->n; i++) {
    const float x = g->w[i] / scale + (g->v != NULL ? g->v[i] : 0.0F);
    const float k = fminf(fmaxf(rintf(x) + zero, 0.0F), top);
    y[i] = scale * (k - zero);
    if (q != NULL) q[i] = (int16_t)k;
  }
}

static bool has_zero(const ptq_dtype *dt) {
  return dt->family->zero_at(dt, -1.0, 0.0, 1.0) !=
         dt->family->zero_at(dt, 0.0, 1.0, 1.0); /* asym */
}

/* Derivatives of the scale by the clipped ends. Where both ends give it, each
 * takes half, as torch.max has it. */
static void scale_slopes(const ptq_offset_group *g, const ptq_group_params *p,
                         double *by_lo, double *by_hi) {
  const ptq_dtype *dt = g->dtype;
  const double top = (double)top_code(dt);
  const double lo = (double)clipped_lo(g), hi = (double)clipped_hi(g);
  const bool full = (dt->options & PTQ_OPTION_SIGNED) != 0;
  *by_lo = *by_hi = 0.0;
  if (hi - lo <= 0.0) return; /* a group of zeros has a scale of its own */
  if (full && fmax(-lo, hi) * 2.0 / (top + 1.0) <= (double)1e-5F)
    return; /* the least scale */
  if (!full && has_zero(dt)) {
    *by_lo = -1.0 / top;
    *by_hi = 1.0 / top;
    return;
  }
  const double steps = full ? (top + 1.0) / 2.0 : lo < 0.0 ? top / 2.0 : top;
  const double sign = p->scale < 0.0F ? -1.0 : 1.0;
  const double share = -lo == hi ? 0.5 : 1.0;
  if (-lo >= hi) *by_lo = -sign * share / steps;
  if (hi >= -lo) *by_hi = sign * share / steps;
}

/* Sums over the group of the derivatives by its scale and its zero point. A
 * weight at an end of the codes is beyond the clamp, as in PyTorch 2.15: by
 * that the clips feel it. As one within (PyTorch's way before), tuning the
 * clips loses what it should gain. */
typedef struct group_slopes {
  double scale, zero;
} group_slopes;

static group_slopes back_ints(const ptq_offset_group *g,
                              const ptq_group_params *p, const float *dy,
                              float *dv) {
  const float top = top_code(g->dtype), scale = p->scale, zero = p->zero;
  group_slopes sum = {0};
  for (int64_t i = 0; i < g->n; i++) {
    const float d = dy[i], ratio = g->w[i] / scale;
    const float x = ratio + (g->v != NULL ? g->v[i] : 0.0F);
    const float k = rintf(x) + zero;
    const bool in = k > 0.0F && k < top;
    const float code = fminf(fmaxf(k, 0.0F), top);
    sum.scale += (double)d * (double)(code - zero - (in ? ratio : 0.0F));
    sum.zero -= in ? 0.0 : (double)d * (double)scale;
    dv[i] = in ? d * scale : 0.0F;
  }
  return sum;
}

/* Codes of these formats mirror each other around 0. */
static void back_moved(const ptq_offset_group *g, const ptq_group_params *p,
                       const float *dy, float *dv) {
  const float most = 0.5F * top_code(g->dtype) + 0.5F;
  for (int64_t i = 0; i < g->n; i++) {
    const float x = p->scale != 0.0F ? g->w[i] / p->scale : 0.0F;
    const float moved = x + (g->v != NULL ? g->v[i] : 0.0F);
    dv[i] = fabsf(moved) <= most ? dy[i] * p->scale : 0.0F;
  }
}

void ptq_offset_back(const ptq_offset_group *g, const ptq_group_params *p,
                     const float *dy, float *dv, double *dclip_lo,
                     double *dclip_hi) {
  double by_lo, by_hi;
  *dclip_lo = *dclip_hi = 0.0;
  if (!ptq_offset_clips(g->dtype)) {
    back_moved(g, p, dy, dv);
    return;
  }
  const group_slopes sum = back_ints(g, p, dy, dv);
  scale_slopes(g, p, &by_lo, &by_hi);
  const ptq_dtype *dt = g->dtype;
  const double scale = (double)p->scale, lo = (double)clipped_lo(g);
  double dlo = sum.scale * by_lo, dhi = sum.scale * by_hi;
  /* zero = -lo / scale */
  if (has_zero(dt)) {
    const double by_scale = lo / (scale * scale);
    dlo += sum.zero * (by_scale * by_lo - 1.0 / scale);
    dhi += sum.zero * by_scale * by_hi;
  }
  *dclip_lo = g->range.lo < 0.0F ? dlo * (double)g->range.lo : 0.0;
  *dclip_hi = g->range.hi > 0.0F ? dhi * (double)g->range.hi : 0.0;
}
