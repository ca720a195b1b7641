/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scales as they are stored.
 *
 * keep=f16, keep=bf16: rounded to that, ties to even; never 0.
 * dq=fp8: E4M3 times one float32 a matrix, the largest scale over 448; from
 * 2^-9 up, so never 0. What exceeds 448 saturates (scales fitted later, on
 * weights that have taken up errors, may).
 * dq=bnb: as bitsandbytes nests absmax: the mean over the matrix is taken off,
 * and runs of 256 scales, counted row by row, share the largest magnitude of
 * what is left, times a value of its signed dynamic map of 8 bits; the lowest
 * values of the map are passed over where they would not leave a positive
 * scale, but for codebooks, whose tool lets a scale be negative. dq=bnb has the
 * codes of its GPU kernels; those of dq=bnb_cpu are its CPU library's, which
 * rounds to 2^16 steps first. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "dtype_core.h"
#include "dtype_lanes.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"

enum { MAP = 256, RUN = 256 }; /* values of the map; scales that share one */

static unsigned storage_of(const ptq_dtype *dt) {
  return dt->options & PTQ_OPTION_STORE;
}

static bool nests_bnb(const ptq_dtype *dt) {
  return storage_of(dt) == PTQ_DQ_BNB || storage_of(dt) == PTQ_DQ_BNB_CPU;
}

static bool nests(const ptq_dtype *dt) {
  return storage_of(dt) == PTQ_DQ_FP8 || nests_bnb(dt);
}

bool ptq_dtype_shares(const ptq_dtype *dt) {
  return nests(dt) || dt->family->prepare != NULL;
}

bool ptq_dtype_stores(const ptq_dtype *dt) {
  return storage_of(dt) != 0;
}

static float keep_bf16(float v) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  bits += 0x7FFFU + (bits >> 16 & 1U);
  bits &= 0xFFFF0000U;
  if (bits >= 0x7F800000U) bits = 0x7F7F0000U;
  if (bits == 0) bits = 0x00010000U;
  memcpy(&v, &bits, sizeof v);
  return v;
}

static float at_least(float v, float least) {
  return v > least ? v : least;
}

static float keep_f16(float v) {
  return at_least(ptq_near_float(v, 10, -14, 65504.0F), 0x1p-24F);
}

static float keep_e4m3(float v) {
  return at_least(ptq_near_e4m3(v), 0x1p-9F);
}

/* bitsandbytes' create_dynamic_map(signed=True), 256 values, ascending: for
 * i = 0..6 the midpoints of 2^i + 1 points from 0.1 to 1, times 10^(i - 6),
 * both signs; and 0 and 1. In float32 with fused sums, as PyTorch's linspace
 * has them on x86; where it has not, 42 values differ in their last bit. */
static void fill_map(float map[MAP]) {
  int n = 0;
  for (int i = 0; i < 7; i++) {
    const int items = 1 << i;
    const float step = (1.0F - 0.1F) / (float)items;
    const float power = (float)pow(10.0, i - 6);
    for (int k = 0; k < items; k++) {
      float end[2];
      for (int j = 0; j < 2; j++)
        end[j] = k + j < (items + 1) / 2
                     ? fmaf(step, (float)(k + j), 0.1F)
                     : fmaf(-step, (float)(items - k - j), 1.0F);
      map[128 + n++] = power * ((end[0] + end[1]) / 2.0F);
    }
  }
  for (int k = 0; k < n; k++) map[n - 1 - k] = -map[128 + k];
  map[n] = 0.0F;
  map[MAP - 1] = 1.0F;
}

/* The value of the map nearest to v, the lower one on a tie of float32: the
 * first whose midpoint to the next is not below v. */
static int nearest(const float *map, float v) {
  int at = 0;
  for (int step = MAP / 2; step > 0; step /= 2) {
    const int k = at + step; /* below MAP: steps add up to MAP - 1 */
    at = v > (map[k - 1] + map[k]) / 2.0F ? k : at;
  }
  return at;
}

/* v of -1 .. 1 as the table of 2^16 entries has it by which bitsandbytes'
 * library for CPUs looks its codes up. */
static float tabled(float v) {
  const float last = 65535.0F;
  v = fminf(fmaxf(v, -1.0F), 1.0F);
  const float at = floorf((v + 1.0F) * 0.5F * last + 0.5F);
  return -1.0F + 2.0F * at / last;
}

static float nested(const ptq_dtype_matrix *m, int64_t index, float scale,
                    bool by_table, bool positive) {
  const float *map = m->second;
  const float most = m->second[MAP + index / RUN];
  if (!(most > 0.0F)) return m->mean;
  float v = (scale - m->mean) * (1.0F / (most > 1e-38F ? most : 1e-38F));
  if (by_table) v = tabled(v);
  int k = nearest(map, v);
  while (positive && k < MAP - 1 && !(map[k] * most + m->mean >= FLT_MIN)) k++;
  return map[k] * most + m->mean;
}

int64_t ptq_dtype_index(const ptq_dtype *dt, int64_t row, int64_t col) {
  const ptq_dtype_matrix *m = dt->matrix;
  if (m == NULL || m->whole) return 0;
  return row * m->groups + col / m->width;
}

/* A positive scale as it is stored. */
static inline float stored_as(unsigned storage, const ptq_dtype *dt,
                              int64_t index, float v) {
  switch (storage) {
    case PTQ_KEEP_F16:
      return keep_f16(v);
    case PTQ_KEEP_BF16:
      return keep_bf16(v);
    case PTQ_DQ_FP8:
      return keep_e4m3(v / dt->matrix->tensor) * dt->matrix->tensor;
    case PTQ_DQ_BNB:
    case PTQ_DQ_BNB_CPU:
      return nested(dt->matrix, index, v, storage == PTQ_DQ_BNB_CPU,
                    !dt->family->encodes_by_zero);
    default:
      return v;
  }
}

static float stored(const ptq_dtype *dt, int64_t index, float v) {
  return stored_as(storage_of(dt), dt, index, v);
}

/* True where groups of zeros have a second level's scale too, as in the tool.
 */
static bool nests_zeros(const ptq_dtype *dt) {
  return nests_bnb(dt) && dt->family->encodes_by_zero;
}

/* True where no stored scale comes near. */
static bool too_large(const ptq_dtype *dt, double v) {
  if (!(v <= (double)FLT_MAX)) return true;
  return storage_of(dt) == PTQ_KEEP_F16 && v >= 65520.0;
}

void ptq_dtype_store64(const ptq_dtype *dt, int64_t index, double lo, double hi,
                       ptq_group_params64 *p) {
  const ptq_dtype_family *f = dt->family;
  const double size = fabs(p->scale);
  if (storage_of(dt) == 0 || !(size > 0.0 || nests_zeros(dt))) return;
  if (too_large(dt, size)) {
    p->scale = (double)INFINITY;
    return;
  }
  const double scale = (double)stored(dt, index, (float)size);
  p->scale = p->scale < 0.0 ? -scale : scale;
  if (f->encodes_by_zero && !nests_bnb(dt)) p->zero = p->scale;
  if (f->encodes_by_zero) return;
  if (f->zero_at != NULL) p->zero = f->zero_at(dt, lo, hi, p->scale);
}

void ptq_dtype_store(const ptq_dtype *dt, int64_t index, double lo, double hi,
                     ptq_group_params *p) {
  if (storage_of(dt) == 0 || !isfinite(p->scale)) return;
  ptq_group_params64 wide = {(double)p->scale, (double)p->zero};
  ptq_dtype_store64(dt, index, lo, hi, &wide);
  *p = (ptq_group_params){(float)wide.scale, (float)wide.zero};
  if (dt->family->snap != NULL) dt->family->snap(dt, index, p);
}

/* True where the zero point is a group's own. */
static bool zero_varies(const ptq_dtype *dt) {
  const ptq_dtype_family *f = dt->family;
  return f->zero_at != NULL &&
         f->zero_at(dt, -1.0, 0.0, 1.0) != f->zero_at(dt, 0.0, 1.0, 1.0);
}

/* Scales of groups; one that is 0 stays, one beyond the format becomes
 * infinite. */
static inline void store_scales(unsigned storage, const ptq_dtype *dt,
                                int64_t index, int64_t groups,
                                ptq_group_params *p) {
  const float most = storage == PTQ_KEEP_F16 ? 65519.996F : FLT_MAX;
  const bool zeros_too = nests_zeros(dt);
  for (int64_t g = 0; g < groups; g++) {
    const float size = fabsf(p[g].scale);
    float v = stored_as(storage, dt, index + g, size);
    v = size > 0.0F || zeros_too ? v : 0.0F;
    v = size <= most ? v : INFINITY;
    p[g].scale = p[g].scale < 0.0F ? -v : v; /* v may be negative: dq=bnb */
  }
}

void ptq_dtype_store_all(const ptq_dtype *dt, int64_t index, const ptq_range *r,
                         int64_t groups, ptq_group_params *p) {
  const ptq_dtype_family *f = dt->family;
  if (f->snap != NULL) {
    for (int64_t g = 0; g < groups; g++)
      ptq_dtype_store(dt, index + g, (double)r[g].lo, (double)r[g].hi, &p[g]);
    return;
  }
  switch (storage_of(dt)) { /* one loop each */
    case PTQ_KEEP_F16:
      store_scales(PTQ_KEEP_F16, dt, index, groups, p);
      break;
    case PTQ_KEEP_BF16:
      store_scales(PTQ_KEEP_BF16, dt, index, groups, p);
      break;
    case PTQ_DQ_FP8:
      store_scales(PTQ_DQ_FP8, dt, index, groups, p);
      break;
    default:
      store_scales(storage_of(dt), dt, index, groups, p);
  }
  if (f->encodes_by_zero && !nests_bnb(dt))
    for (int64_t g = 0; g < groups; g++) p[g].zero = p[g].scale;
  if (!f->encodes_by_zero && zero_varies(dt))
    for (int64_t g = 0; g < groups; g++)
      p[g].zero = (float)f->zero_at(dt, (double)r[g].lo, (double)r[g].hi,
                                    (double)p[g].scale);
}

void ptq_dtype_snap(const ptq_dtype *dt, int64_t row, int64_t col,
                    ptq_group_params *p) {
  const ptq_dtype_family *f = dt->family;
  const float nothing = 0.0F;
  const int64_t index = ptq_dtype_index(dt, row, col);
  PTQ_ASSERT(dt->matrix != NULL || !ptq_dtype_shares(dt));
  const ptq_group_params zeros = f->fit(dt, &nothing, 1, 1);
  const bool both_signs = f->snap != NULL || (dt->options & PTQ_OPTION_SIGNED);
  if (!isfinite(p->scale) || p->scale == 0.0F ||
      (p->scale < 0.0F && !both_signs))
    *p = zeros;
  if (p->scale != 0.0F && storage_of(dt) != 0) {
    const float v = stored(dt, index, fabsf(p->scale));
    p->scale = p->scale < 0.0F ? -v : v;
  }
  if (f->snap != NULL) {
    f->snap(dt, index, p);
    return;
  }
  if (f->encodes_by_zero) {
    p->zero = p->scale;
  } else if (!zero_varies(dt)) {
    p->zero = zeros.zero;
  } else {
    const float top = (float)(f->levels(dt) - 1);
    p->zero = rintf(fminf(fmaxf(p->zero, 0.0F), top)) + 0.0F;
  }
}

/* Fits all groups of w, as they are before they are stored. */
static ptq_status fit_all(const ptq_dtype *dt, const float *w, int64_t rows,
                          int64_t cols, const ptq_dtype_matrix *m,
                          ptq_group_params *p, ptq_err *err) {
  ptq_dtype plain = *dt;
  plain.options &= ~(unsigned)PTQ_OPTION_STORE;
  const int64_t runs = m->whole ? 1 : rows;
  const int64_t n = m->whole ? rows * cols : cols;
  const int64_t width = m->whole ? n : m->width;
  for (int64_t r = 0; r < runs; r++) {
    const int64_t done =
        ptq_dtype_fit_run(&plain, 0, w + r * n, n, width, p + r * m->groups);
    if (done == m->groups) continue;
    const int64_t c = done * width;
    const ptq_status rc = ptq_dtype_check_finite(w, rows, cols, err);
    if (rc != PTQ_OK) return rc;
    return ptq_dtype_fit(&plain, w + r * n + c, n - c < width ? n - c : width,
                         1, r, c, &p[r * m->groups + done], err);
  }
  return PTQ_OK;
}

static void share_fp8(const ptq_group_params *p, int64_t n,
                      ptq_dtype_matrix *m) {
  float most = 0.0F;
  for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(p[i].scale));
  m->tensor = most / 448.0F;
  /* the least scale, 2^-9 of it, must be one to divide by */
  if (!(m->tensor >= FLT_MIN * 0x1p9F)) m->tensor = 1.0F;
}

static void share_bnb(const ptq_group_params *p, int64_t n,
                      ptq_dtype_matrix *m) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += (double)p[i].scale;
  m->mean = (float)(sum / (double)n);
  fill_map(m->second);
  for (int64_t i = 0; i < n; i++) {
    float *most = &m->second[MAP + i / RUN];
    const float d = fabsf(p[i].scale - m->mean);
    if (d > *most) *most = d;
  }
}

/* The second level of dq=. */
static ptq_status share_scales(const ptq_dtype *dt, const float *w,
                               int64_t rows, int64_t cols, ptq_dtype_matrix *m,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = m->whole ? 1 : rows * m->groups;
  ptq_group_params *p = NULL;
  PTQ_TRY(ptq_alloc(&p, n, sizeof *p, "parameters of groups", err));
  PTQ_TRY(fit_all(dt, w, rows, cols, m, p, err));
  if (storage_of(dt) == PTQ_DQ_FP8) {
    share_fp8(p, n, m);
  } else {
    PTQ_TRY(ptq_alloc(&m->second, MAP + (n + RUN - 1) / RUN, sizeof *m->second,
                      "scales of scales", err));
    share_bnb(p, n, m);
  }
done:
  ptq_free(p);
  return rc;
}

ptq_status ptq_dtype_prepare(const ptq_dtype *dt, const float *w, int64_t rows,
                             int64_t cols, int64_t group,
                             ptq_dtype_matrix *state, ptq_dtype *out,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *state = (ptq_dtype_matrix){.width = group > 0 ? group : cols,
                              .groups = ptq_dtype_groups(cols, group),
                              .whole = group == PTQ_GROUP_TENSOR,
                              .tensor = 1.0F};
  *out = *dt;
  out->matrix = NULL;
  if (!ptq_dtype_shares(dt) || rows <= 0 || cols <= 0) return PTQ_OK;
  if (dt->family->prepare != NULL)
    PTQ_TRY(dt->family->prepare(out, w, rows, cols, state, err));
  if (nests(dt)) PTQ_TRY(share_scales(out, w, rows, cols, state, err));
  out->matrix = state;
done:
  if (rc != PTQ_OK) ptq_dtype_matrix_release(state);
  return rc;
}

void ptq_dtype_matrix_release(ptq_dtype_matrix *state) {
  ptq_free(state->second);
  state->second = NULL;
}

double ptq_dtype_param_bits(const ptq_dtype *dt) {
  const double bits = dt->family->param_bits(dt);
  switch (storage_of(dt)) {
    case PTQ_KEEP_F16:
    case PTQ_KEEP_BF16:
      return bits - 16.0;
    case PTQ_DQ_FP8:
    case PTQ_DQ_BNB:
    case PTQ_DQ_BNB_CPU:
      return bits - 24.0;
    default:
      return bits;
  }
}

double ptq_dtype_storage_bits(const ptq_dtype *dt, int64_t rows, int64_t cols,
                              int64_t group) {
  const ptq_dtype_family *f = dt->family;
  const double groups =
      group == PTQ_GROUP_TENSOR
          ? 1.0
          : (double)rows * (double)ptq_dtype_groups(cols, group);
  const double code = f->code_bits != NULL ? f->code_bits(dt) : dt->bits;
  double shared = f->matrix_bits != NULL ? f->matrix_bits(dt) : 0.0;
  if (nests(dt)) shared += 32.0; /* the tensor's scale, or the mean */
  if (nests_bnb(dt)) shared += 32.0 * ceil(groups / RUN);
  return (double)rows * (double)cols * code +
         groups * ptq_dtype_param_bits(dt) + shared;
}
