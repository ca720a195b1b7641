/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/bf16.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"
#ifdef PTQ_ONEDNN
#include "onednn.h"
#endif

static const struct {
  const char *name, *summary;
} computes[] = {
    [PTQ_COMPUTE_F32] = {"f32", "float32 products by OpenBLAS"},
    [PTQ_COMPUTE_BF16] = {"bf16",
                          "operands rounded to bfloat16 before each product, "
                          "sums in float32"},
};
_Static_assert(sizeof computes / sizeof computes[0] == PTQ_COMPUTE_COUNT,
               "one row an arithmetic");

const char *ptq_compute_name(ptq_compute c) {
  PTQ_ASSERT((unsigned)c < PTQ_COMPUTE_COUNT);
  return computes[c].name;
}

const char *ptq_compute_summary(ptq_compute c) {
  PTQ_ASSERT((unsigned)c < PTQ_COMPUTE_COUNT);
  return computes[c].summary;
}

bool ptq_compute_parse(const char *name, ptq_compute *out) {
  for (int c = 0; c < PTQ_COMPUTE_COUNT; c++)
    if (strcmp(name, computes[c].name) == 0) {
      *out = (ptq_compute)c;
      return true;
    }
  return false;
}

/* Written once by ptq_bf16_init; empty before. */
static char library[64] = "";
static bool is_fast;

struct ptq_multiplier {
  ptq_bf16 *rows; /* owned; operands of products that take float32 */
  int64_t n_rows; /* room in rows */
  float *a, *b;   /* owned; operands of OpenBLAS */
  int64_t n_a, n_b;
#ifdef PTQ_ONEDNN
  ptq_onednn *onednn; /* owned; NULL where OpenBLAS multiplies */
#endif
};

struct ptq_packed {
  int64_t n, k;
  void *data; /* owned; oneDNN's order, or float32 [n, k] for OpenBLAS */
};

ptq_status ptq_multiplier_create(ptq_multiplier **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_multiplier *mul = NULL;
  *out = NULL;
  PTQ_ASSERT(library[0] != '\0'); /* ptq_bf16_init chose one */
  PTQ_TRY(ptq_alloc(&mul, 1, sizeof *mul, "a multiplier", err));
#ifdef PTQ_ONEDNN
  if (is_fast) PTQ_TRY(ptq_onednn_create(&mul->onednn, err));
#endif
  *out = mul;
  mul = NULL;
done:
  ptq_multiplier_free(mul);
  return rc;
}

void ptq_multiplier_free(ptq_multiplier *mul) {
  if (mul == NULL) return;
#ifdef PTQ_ONEDNN
  ptq_onednn_free(mul->onednn);
#endif
  ptq_free(mul->rows);
  ptq_free(mul->a);
  ptq_free(mul->b);
  ptq_free(mul);
}

int64_t ptq_multiplier_bytes(int64_t most) {
  /* Kernels of some twenty shapes, or both operands in float32. */
  const int64_t fixed = is_fast ? 8 << 20 : 2 * most * (int64_t)sizeof(float);
  return most * (int64_t)sizeof(ptq_bf16) + fixed;
}

/* Scratch of n elements; its contents may be lost. */
static ptq_status make_room(void *block, int64_t *have, int64_t n, size_t size,
                            ptq_err *err) {
  if (*have >= n) return PTQ_OK;
  void *old = NULL;
  memcpy(&old, block, sizeof old);
  ptq_free(old);
  *have = 0;
  const ptq_status rc = ptq_alloc(block, n, size, "operands of a product", err);
  if (rc == PTQ_OK) *have = n;
  return rc;
}

ptq_status ptq_packed_create(ptq_multiplier *mul, int64_t n, int64_t k,
                             ptq_packed **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_packed *p = NULL;
  int64_t bytes = n * k * (int64_t)sizeof(float);
  *out = NULL;
#ifdef PTQ_ONEDNN
  if (mul->onednn != NULL)
    PTQ_TRY(ptq_onednn_packed_bytes(mul->onednn, n, k, &bytes, err));
#else
  (void)mul;
#endif
  PTQ_TRY(ptq_alloc(&p, 1, sizeof *p, "packed weights", err));
  p->n = n;
  p->k = k;
  PTQ_TRY(ptq_alloc(&p->data, bytes, 1, "packed weights", err));
  *out = p;
  p = NULL;
done:
  ptq_packed_free(p);
  return rc;
}

void ptq_packed_free(ptq_packed *p) {
  if (p == NULL) return;
  ptq_free(p->data);
  ptq_free(p);
}

int64_t ptq_packed_bytes(int64_t n, int64_t k) {
  /* oneDNN pads to blocks of 64 x 32 */
  const int64_t rows = (n + 63) / 64 * 64, cols = (k + 31) / 32 * 32;
  return is_fast ? rows * cols * (int64_t)sizeof(ptq_bf16)
                 : n * k * (int64_t)sizeof(float);
}

ptq_status ptq_packed_set(ptq_packed *p, ptq_multiplier *mul, const float *w,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t size = p->n * p->k;
  PTQ_TRY(make_room(&mul->rows, &mul->n_rows, size, sizeof *mul->rows, err));
  ptq_vec_to_bf16(w, size, mul->rows);
#ifdef PTQ_ONEDNN
  if (mul->onednn != NULL)
    return ptq_onednn_pack(mul->onednn, p->n, p->k, mul->rows, p->data, err);
#endif
  ptq_vec_from_bf16(mul->rows, size, p->data);
done:
  return rc;
}

/* A matrix as float32, for OpenBLAS. */
static ptq_status widen(const ptq_bf16 *x, int64_t n, float **out,
                        int64_t *have, ptq_err *err) {
  const ptq_status rc = make_room(out, have, n, sizeof **out, err);
  if (rc == PTQ_OK) ptq_vec_from_bf16(x, n, *out);
  return rc;
}

ptq_status ptq_bf16_apply(ptq_multiplier *mul, int64_t m, const float *x,
                          const ptq_packed *w, float *y, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = w->n, k = w->k;
  PTQ_TRY(make_room(&mul->rows, &mul->n_rows, m * k, sizeof *mul->rows, err));
  ptq_vec_to_bf16(x, m * k, mul->rows);
#ifdef PTQ_ONEDNN
  if (mul->onednn != NULL) {
    const ptq_onednn_shape shape = {PTQ_ONEDNN_PACKED, m, n, k, 1.0F, false};
    return ptq_onednn_multiply(mul->onednn, &shape, mul->rows, w->data, y, err);
  }
#endif
  PTQ_TRY(widen(mul->rows, m * k, &mul->a, &mul->n_a, err));
  ptq_sgemm_nt(m, n, k, 1.0F, mul->a, k, w->data, k, 0.0F, y, n);
done:
  return rc;
}

ptq_status ptq_bf16_nt(ptq_multiplier *mul, int64_t m, int64_t n, int64_t k,
                       float alpha, const ptq_bf16 *a, const ptq_bf16 *b,
                       float *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
#ifdef PTQ_ONEDNN
  if (mul->onednn != NULL) {
    const ptq_onednn_shape shape = {PTQ_ONEDNN_NT, m, n, k, alpha, false};
    return ptq_onednn_multiply(mul->onednn, &shape, a, b, c, err);
  }
#endif
  PTQ_TRY(widen(a, m * k, &mul->a, &mul->n_a, err));
  PTQ_TRY(widen(b, n * k, &mul->b, &mul->n_b, err));
  ptq_sgemm_nt(m, n, k, alpha, mul->a, k, mul->b, k, 0.0F, c, n);
done:
  return rc;
}

ptq_status ptq_bf16_nn(ptq_multiplier *mul, int64_t m, int64_t n, int64_t k,
                       const ptq_bf16 *a, const ptq_bf16 *b, bool add, float *c,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
#ifdef PTQ_ONEDNN
  if (mul->onednn != NULL) {
    const ptq_onednn_shape shape = {PTQ_ONEDNN_NN, m, n, k, 1.0F, add};
    return ptq_onednn_multiply(mul->onednn, &shape, a, b, c, err);
  }
#endif
  PTQ_TRY(widen(a, m * k, &mul->a, &mul->n_a, err));
  PTQ_TRY(widen(b, k * n, &mul->b, &mul->n_b, err));
  ptq_sgemm_nn(m, n, k, 1.0F, mul->a, k, mul->b, n, add ? 1.0F : 0.0F, c, n);
done:
  return rc;
}

/* Rounded uniform numbers in [-1/2, 1/2), as float32 too. */
static void fill(float *x, int64_t n, ptq_rng *rng, ptq_bf16 *rounded) {
  for (int64_t i = 0; i < n; i++) x[i] = (float)ptq_rng_unit(rng) - 0.5F;
  ptq_vec_to_bf16(x, n, rounded);
  ptq_vec_from_bf16(rounded, n, x);
}

enum { CHECK_M = 97, CHECK_N = 83, CHECK_K = 61 };

/* One kind of product against a plain loop in float64. */
static ptq_status compare(const char *kind, const float *a, const float *b,
                          bool transposed, double base, double alpha,
                          const float *c, ptq_err *err) {
  for (int i = 0; i < CHECK_M; i++)
    for (int j = 0; j < CHECK_N; j++) {
      double sum = base;
      for (int p = 0; p < CHECK_K; p++)
        sum += alpha * (double)a[i * CHECK_K + p] *
               (double)b[transposed ? j * CHECK_K + p : p * CHECK_N + j];
      /* Products of at most 1/4 are exact; each sum is rounded to 2^-24 of at
       * most K / 4 + 1, and so is the factor's. */
      const double bound = (CHECK_K + 2) * (CHECK_K * 0.25 + 1.0) * 0x1p-24;
      if (!(fabs(sum - (double)c[i * CHECK_N + j]) <= bound))
        return PTQ_FAIL(
            err, PTQ_E_UNSUPPORTED,
            "%s multiplies bfloat16 wrongly: element (%d, %d) of a test "
            "product (%s) is %g, not %g; set ONEDNN_MAX_CPU_ISA=AVX512_CORE "
            "to have OpenBLAS multiply, or use 'compute: f32'",
            library, i, j, kind, (double)c[i * CHECK_N + j], sum);
    }
  return PTQ_OK;
}

static ptq_status check_products(ptq_err *err) {
  enum { A = CHECK_M * CHECK_K, B = CHECK_N * CHECK_K, C = CHECK_M * CHECK_N };
  ptq_status rc = PTQ_OK;
  ptq_multiplier *mul = NULL;
  ptq_packed *packed = NULL;
  float *a = NULL, *b = NULL, *c = NULL;
  ptq_bf16 *ra = NULL, *rb = NULL;
  ptq_rng rng;
  ptq_rng_init(&rng, 1);
  PTQ_TRY(ptq_alloc(&a, A + B + C, sizeof *a, "a check", err));
  PTQ_TRY(ptq_alloc(&ra, A + B, sizeof *ra, "a check", err));
  b = a + A;
  c = b + B;
  rb = ra + A;
  fill(a, A, &rng, ra);
  fill(b, B, &rng, rb);
  PTQ_TRY(ptq_multiplier_create(&mul, err));
  PTQ_TRY(ptq_packed_create(mul, CHECK_N, CHECK_K, &packed, err));
  PTQ_TRY(ptq_packed_set(packed, mul, b, err));
  PTQ_TRY(ptq_bf16_apply(mul, CHECK_M, a, packed, c, err));
  PTQ_TRY(compare("packed", a, b, true, 0.0, 1.0, c, err));
  PTQ_TRY(ptq_bf16_nt(mul, CHECK_M, CHECK_N, CHECK_K, 0.125F, ra, rb, c, err));
  PTQ_TRY(compare("nt", a, b, true, 0.0, 0.125, c, err));
  for (int i = 0; i < C; i++) c[i] = 1.0F;
  PTQ_TRY(ptq_bf16_nn(mul, CHECK_M, CHECK_N, CHECK_K, ra, rb, true, c, err));
  PTQ_TRY(compare("nn, added", a, b, false, 1.0, 1.0, c, err));
done:
  ptq_packed_free(packed);
  ptq_multiplier_free(mul);
  ptq_free(a);
  ptq_free(ra);
  return rc;
}

ptq_status ptq_bf16_init(ptq_err *err) {
  is_fast = false;
#ifdef PTQ_ONEDNN
  is_fast = ptq_onednn_usable(library, sizeof library);
#endif
  if (!is_fast) (void)snprintf(library, sizeof library, "openblas");
  return check_products(err);
}

const char *ptq_bf16_name(void) {
  return library;
}

bool ptq_bf16_is_fast(void) {
  return is_fast;
}
