/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Paley's Hadamard matrices (1933). In a field of q elements, q odd, chi(a) is
 * 1 for squares, -1 for others, 0 for 0, and Q the matrix of chi(a - b). With
 * S = [0 1; -1 Q] for q = 3 (mod 4), I + S is one of order q + 1. With the
 * symmetric C = [0 1; 1 Q] for q = 1 (mod 4), one of order 2 (q + 1) has the
 * 2 x 2 blocks C_ij [1 1; 1 -1] and, on the diagonal, [1 -1; -1 -1].
 *
 * The field of p^e elements is polynomials over the integers modulo p, a
 * number's digits in base p their coefficients. Its elements but 0 are the
 * powers of x modulo a primitive polynomial, which is found by trying: its
 * powers of x return to 1 after q - 1 steps and no sooner. Squares are the even
 * powers.
 */
#include "ptq/base/mem.h"
#include "rotation.h"

typedef struct field {
  int64_t p, e, q;
} field;

/* q = p^e with p an odd prime; false where it is none. */
static bool prime_power(int64_t q, field *f) {
  if (q < 3 || q % 2 == 0) return false;
  int64_t p = 3;
  while (p * p <= q && q % p != 0) p += 2;
  if (q % p != 0) p = q;
  *f = (field){.p = p, .e = 0, .q = q};
  for (; q % p == 0; q /= p) f->e++;
  return q == 1;
}

/* The order m is q + 1, or 2 (q + 1). */
static bool paley_first(int64_t m, field *f) {
  return prime_power(m - 1, f) && f->q % 4 == 3;
}

static bool paley_second(int64_t m, field *f) {
  return m % 2 == 0 && prime_power(m / 2 - 1, f) && f->q % 4 == 1;
}

int64_t ptq_rotation_block(int64_t n, bool *hadamard) {
  int64_t odd = n;
  field f;
  *hadamard = true;
  while (odd % 2 == 0) odd /= 2;
  for (int64_t m = odd; m <= n; m *= 2)
    if (m == 1 || paley_first(m, &f) || paley_second(m, &f)) return m;
  *hadamard = false;
  return odd;
}

/* x times a, modulo x^e - (c_0 + c_1 x + ...), c the digits of `poly`. */
static int64_t times_x(const field *f, int64_t a, int64_t poly) {
  int64_t high = f->q / f->p, top = a / high, rest = a % high * f->p;
  int64_t out = 0;
  for (int64_t at = 1; at < f->q; at *= f->p) {
    const int64_t digit = rest / at % f->p + top * (poly / at % f->p);
    out += digit % f->p * at;
  }
  return out;
}

static int64_t minus(const field *f, int64_t a, int64_t b) {
  int64_t out = 0;
  for (int64_t at = 1; at < f->q; at *= f->p)
    out += (a / at % f->p - b / at % f->p + f->p) % f->p * at;
  return out;
}

/* chi of all elements, from the first primitive polynomial. */
static void characters(const field *f, signed char *chi) {
  for (int64_t poly = 1; poly < f->q; poly++) {
    if (poly % f->p == 0) continue; /* x divides it */
    int64_t a = 1, steps = 0;
    chi[0] = 0;
    do {
      chi[a] = steps % 2 == 0 ? 1 : -1;
      a = times_x(f, a, poly);
      steps++;
    } while (a != 1 && steps < f->q);
    if (a == 1 && steps == f->q - 1) return;
  }
}

static void fill_first(const field *f, const signed char *chi, double *h) {
  const int64_t m = f->q + 1;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < m; j++) {
      double s = 0.0;
      if (i > 0 && j > 0)
        s = chi[minus(f, i - 1, j - 1)];
      else if (i != j)
        s = i == 0 ? 1.0 : -1.0;
      h[i * m + j] = i == j ? 1.0 : s;
    }
}

static void fill_second(const field *f, const signed char *chi, double *h) {
  const int64_t half = f->q + 1, m = 2 * half;
  for (int64_t i = 0; i < half; i++)
    for (int64_t j = 0; j < half; j++) {
      double *at = h + 2 * i * m + 2 * j;
      if (i == j) {
        at[0] = 1.0;
        at[1] = at[m] = at[m + 1] = -1.0;
        continue;
      }
      const double c =
          i > 0 && j > 0 ? (double)chi[minus(f, i - 1, j - 1)] : 1.0;
      at[0] = at[1] = at[m] = c;
      at[m + 1] = -c;
    }
}

ptq_status ptq_hadamard(int64_t m, double *h, ptq_err *err) {
  field f;
  signed char *chi = NULL;
  if (m == 1) {
    h[0] = 1.0;
    return PTQ_OK;
  }
  const bool first = paley_first(m, &f);
  if (!first && !paley_second(m, &f))
    return PTQ_FAIL(err, PTQ_E_ARG, "no Hadamard matrix of order %lld here",
                    (long long)m);
  const ptq_status rc = ptq_alloc(&chi, f.q, 1, "squares of a field", err);
  if (rc != PTQ_OK) return rc;
  characters(&f, chi);
  if (first)
    fill_first(&f, chi, h);
  else
    fill_second(&f, chi, h);
  ptq_free(chi);
  return PTQ_OK;
}
