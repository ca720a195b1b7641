/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage.h"

#include <string.h>

static uint32_t u16_at(const unsigned char *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static void f32_to_f32(const void *raw, int64_t n, float *out) {
  const unsigned char *p = raw;
  for (int64_t i = 0; i < n; i++) {
    const uint32_t bits = u16_at(p + 4 * i) | u16_at(p + 4 * i + 2) << 16;
    memcpy(&out[i], &bits, sizeof bits);
  }
}

/* bfloat16 is the upper half of a float32. */
static void bf16_to_f32(const void *raw, int64_t n, float *out) {
  const unsigned char *p = raw;
  for (int64_t i = 0; i < n; i++) {
    const uint32_t bits = u16_at(p + 2 * i) << 16;
    memcpy(&out[i], &bits, sizeof bits);
  }
}

/* The exponent of a float16 is moved to float32's place and scaled by a
 * multiplication, which also normalizes subnormals: the value with bias 15
 * read under bias 127 is 2^-112 too small. */
static float half_to_float(uint32_t h) {
  const uint32_t magnitude = (h & 0x7fffU) << 13, sign = (h & 0x8000U) << 16;
  float v = 0.0F;
  memcpy(&v, &magnitude, sizeof v);
  v *= 0x1p112F;
  uint32_t bits = 0;
  memcpy(&bits, &v, sizeof bits);
  if (magnitude >= 0x7c00U << 13) bits = 0x7f800000U | magnitude;
  bits |= sign;
  memcpy(&v, &bits, sizeof v);
  return v;
}

static void f16_to_f32(const void *raw, int64_t n, float *out) {
  const unsigned char *p = raw;
  for (int64_t i = 0; i < n; i++) out[i] = half_to_float(u16_at(p + 2 * i));
}

/* Rounded; what float32 cannot hold becomes infinite, which readers refuse. */
static void f64_to_f32(const void *raw, int64_t n, float *out) {
  const unsigned char *p = raw;
  for (int64_t i = 0; i < n; i++) {
    uint64_t bits = 0;
    double v = 0.0;
    for (int b = 7; b >= 0; b--) bits = bits << 8 | p[8 * i + b];
    memcpy(&v, &bits, sizeof v);
    out[i] = (float)v;
  }
}

static const ptq_storage storages[] = {
    {"F32", 4, f32_to_f32}, {"F16", 2, f16_to_f32}, {"BF16", 2, bf16_to_f32},
    {"F64", 8, f64_to_f32}, {"I64", 8, NULL},       {"I32", 4, NULL},
    {"I16", 2, NULL},       {"I8", 1, NULL},        {"U64", 8, NULL},
    {"U32", 4, NULL},       {"U16", 2, NULL},       {"U8", 1, NULL},
    {"BOOL", 1, NULL},      {"F8_E4M3", 1, NULL},   {"F8_E5M2", 1, NULL},
    {"F8_E8M0", 1, NULL},
};

const ptq_storage *ptq_storage_find(const char *name) {
  for (size_t i = 0; i < sizeof storages / sizeof storages[0]; i++)
    if (strcmp(storages[i].name, name) == 0) return &storages[i];
  return NULL;
}

const char *ptq_storage_readable(void) {
  return "F64, F32, F16, BF16";
}
