/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file rng.h
 * xoshiro256** (Blackman and Vigna 2018), seeded through SplitMix64: explicit
 * state, same stream on every machine.
 */
#ifndef PTQ_BASE_RNG_H
#define PTQ_BASE_RNG_H

#include <stdint.h>

typedef struct ptq_rng {
  uint64_t s[4];
} ptq_rng;

void ptq_rng_init(ptq_rng *r, uint64_t seed);
uint64_t ptq_rng_u64(ptq_rng *r);
/** Uniform in [0, n), unbiased (rejection); n > 0. */
uint64_t ptq_rng_below(ptq_rng *r, uint64_t n);
/** Uniform in [0, 1), 53 bits. */
double ptq_rng_unit(ptq_rng *r);

#endif /* PTQ_BASE_RNG_H */
