/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/vec.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/log.h"
#include "vec_table.h"

/* The table in use; written once by choose(). */
static _Atomic(const ptq_vec_table *) chosen;

/* Instruction sets of this build, the best first. */
static const ptq_vec_table *const tables[] = {
#ifdef PTQ_VEC_X86
    &ptq_vec_avx512,
    &ptq_vec_avx2,
#endif
    &ptq_vec_generic,
};
enum { N_TABLES = sizeof tables / sizeof tables[0] };

static int cpu_has(const ptq_vec_table *t) {
#ifdef PTQ_VEC_X86
  if (t == &ptq_vec_avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
  if (t == &ptq_vec_avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return t == &ptq_vec_generic;
}

static ptq_status choose(const char *want, const ptq_vec_table **out,
                         ptq_err *err) {
  *out = NULL;
  for (int i = 0; i < N_TABLES; i++) {
    if (want != NULL && strcmp(want, tables[i]->isa) != 0) continue;
    if (cpu_has(tables[i])) {
      *out = tables[i];
      return PTQ_OK;
    }
    if (want != NULL)
      return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                      "PTQ_ISA is '%s', which this CPU lacks; unset it", want);
  }
  return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                  "PTQ_ISA is '%s', which this build does not have; known: "
                  "generic, and on x86-64 avx2 and avx512",
                  want);
}

ptq_status ptq_vec_init(ptq_err *err) {
  const char *want = getenv("PTQ_ISA");
  if (want != NULL && want[0] == '\0') want = NULL;
  const ptq_vec_table *t = NULL;
  const ptq_status rc = choose(want, &t, err);
  if (rc == PTQ_OK) atomic_store(&chosen, t);
  return rc;
}

static const ptq_vec_table *table(void) {
  const ptq_vec_table *t = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (t == NULL) {
    ptq_err err = {0};
    if (ptq_vec_init(&err) != PTQ_OK) {
      ptq_log(PTQ_LOG_ERROR, "%s", err.msg);
      abort();
    }
    t = atomic_load(&chosen);
  }
  return t;
}

const char *ptq_vec_isa(void) {
  return table()->isa;
}

const ptq_round_table *ptq_rounding(void) {
  return table()->rounding;
}

const ptq_diff_table *ptq_diffs(void) {
  return table()->diff;
}

double ptq_vec_exp(const float *x, int64_t n, float shift, float *y) {
  return table()->exp(x, n, shift, y);
}

double ptq_vec_exp_bf16(const float *x, int64_t n, float shift, uint16_t *y) {
  return table()->exp_bf16(x, n, shift, y);
}

double ptq_vec_sum_exp(const float *x, int64_t n, float shift) {
  return table()->sum_exp(x, n, shift);
}

float ptq_vec_max(const float *x, int64_t n, int64_t *at) {
  return table()->max(x, n, at);
}

double ptq_vec_sum(const float *x, int64_t n) {
  return table()->sum(x, n);
}

double ptq_vec_dot(const float *x, const float *y, int64_t n) {
  return table()->dot(x, y, n);
}

double ptq_vec_sum_sq(const float *x, int64_t n) {
  return table()->sum_sq(x, n);
}

double ptq_vec_sum_sq_diff(const float *x, const float *y, int64_t n) {
  return table()->sum_sq_diff(x, y, n);
}

void ptq_vec_add(const float *x, int64_t n, float *y) {
  table()->add(x, n, y);
}

void ptq_vec_scale(float s, int64_t n, float *y) {
  table()->scale(s, n, y);
}

void ptq_vec_accumulate(const float *x, int64_t n, double s, double *acc) {
  table()->accumulate(x, n, s, acc);
}

void ptq_vec_silu_mul(const float *up, int64_t n, float *gate) {
  table()->silu_mul(up, n, gate);
}

void ptq_vec_relu(int64_t n, float *x) {
  table()->relu(n, x);
}

void ptq_vec_silu(int64_t n, float *x) {
  table()->silu(n, x);
}

void ptq_vec_gelu(int64_t n, float *x) {
  table()->gelu(n, x);
}

void ptq_vec_gelu_tanh(int64_t n, float *x) {
  table()->gelu_tanh(n, x);
}

void ptq_vec_soft_cap(float cap, int64_t n, float *x) {
  table()->soft_cap(cap, n, x);
}

void ptq_vec_multiply(const float *x, int64_t n, float *y) {
  table()->multiply(x, n, y);
}

void ptq_vec_normalize(const float *x, int64_t n, float mean, float scale,
                       const float *w, const float *b, float *y) {
  table()->normalize(x, n, mean, scale, w, b, y);
}

void ptq_vec_rotate(const float *x, const float *cosines, const float *sines,
                    int64_t half, float *y) {
  table()->rotate(x, cosines, sines, half, y);
}

int ptq_vec_all_finite(const float *x, int64_t n) {
  return table()->all_finite(x, n);
}

void ptq_vec_kl_slice(const float *r, const float *c, int64_t n, float mr,
                      float mc, double sums[4]) {
  table()->kl_slice(r, c, n, mr, mc, sums);
}

void ptq_vec_to_bf16(const float *x, int64_t n, uint16_t *y) {
  table()->to_bf16(x, n, y);
}

void ptq_vec_from_bf16(const uint16_t *x, int64_t n, float *y) {
  table()->from_bf16(x, n, y);
}

void ptq_vec_round_bf16(const float *x, int64_t n, float *y) {
  table()->round_bf16(x, n, y);
}
