/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/rng.h"

#include "ptq/base/check.h"

static uint64_t rotl(uint64_t x, int k) {
  return (x << k) | (x >> (64 - k));
}

void ptq_rng_init(ptq_rng *r, uint64_t seed) {
  for (int i = 0; i < 4; i++) {
    seed += UINT64_C(0x9e3779b97f4a7c15); /* SplitMix64 */
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    r->s[i] = z ^ (z >> 31);
  }
}

uint64_t ptq_rng_u64(ptq_rng *r) {
  const uint64_t result = rotl(r->s[1] * 5, 7) * 9;
  const uint64_t t = r->s[1] << 17;
  r->s[2] ^= r->s[0];
  r->s[3] ^= r->s[1];
  r->s[1] ^= r->s[2];
  r->s[0] ^= r->s[3];
  r->s[2] ^= t;
  r->s[3] = rotl(r->s[3], 45);
  return result;
}

uint64_t ptq_rng_below(ptq_rng *r, uint64_t n) {
  PTQ_ASSERT(n > 0);
  const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
  uint64_t v = ptq_rng_u64(r);
  while (v >= limit) v = ptq_rng_u64(r);
  return v % n;
}

double ptq_rng_unit(ptq_rng *r) {
  return (double)(ptq_rng_u64(r) >> 11) * 0x1.0p-53;
}
