/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/eval/answers.h"

#include <math.h>

/* The first of the largest, as NumPy's argmax. */
static int64_t best(const ptq_scored_choice *choices, int64_t n, ptq_per per) {
  int64_t at = 0;
  double top = -INFINITY;
  for (int64_t i = 0; i < n; i++) {
    const double v = choices[i].logp / (double)choices[i].length[per];
    if (v > top) {
      top = v;
      at = i;
    }
  }
  return at;
}

ptq_answer ptq_answer_of(const ptq_scored_choice *choices, int64_t n,
                         int64_t right) {
  ptq_answer a = {
      .right = right, .logp = choices[right].logp, .margin = (double)NAN};
  double other = -INFINITY;
  for (int per = 0; per < PTQ_PER_COUNT; per++)
    a.choice[per] =
        n > 1 ? best(choices, n, (ptq_per)per) : (choices[0].greedy ? 0 : 1);
  for (int64_t i = 0; i < n; i++) {
    if (!isfinite(choices[i].logp)) a.logp = (double)NAN;
    if (i != right && choices[i].logp > other) other = choices[i].logp;
  }
  if (n > 1) a.margin = a.logp - other;
  return a;
}

/* Mean and standard error of integers with sum s and sum of squares q: exact
 * but for the last operations. */
static ptq_share share_of(int64_t s, int64_t q, int64_t n) {
  ptq_share out = {(double)NAN, (double)NAN};
  if (n < 1) return out;
  out.value = (double)s / (double)n;
  if (n < 2) return out;
  const double spread = (double)q - (double)s * out.value;
  out.se = sqrt(fmax(spread, 0.0) / (double)(n - 1) / (double)n);
  return out;
}

static int64_t is_right(const ptq_answer *a, ptq_per per) {
  return a->choice[per] == a->right;
}

ptq_share ptq_share_right(const ptq_answer *a, int64_t n, ptq_per per) {
  int64_t s = 0;
  for (int64_t i = 0; i < n; i++) s += is_right(&a[i], per);
  return share_of(s, s, n);
}

ptq_share ptq_share_right_difference(const ptq_answer *a, const ptq_answer *b,
                                     int64_t n, ptq_per per) {
  int64_t s = 0, q = 0;
  for (int64_t i = 0; i < n; i++) {
    const int64_t d = is_right(&a[i], per) - is_right(&b[i], per);
    s += d;
    q += d * d;
  }
  return share_of(s, q, n);
}

ptq_share ptq_share_flipped(const ptq_answer *a, const ptq_answer *b, int64_t n,
                            ptq_per per) {
  int64_t s = 0;
  for (int64_t i = 0; i < n; i++) s += a[i].choice[per] != b[i].choice[per];
  return share_of(s, s, n);
}
