/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pack.h"

#include <math.h>
#include <string.h>
#include <zlib.h>

static void put_u64(unsigned char out[8], uint64_t v) {
  for (int i = 0; i < 8; i++) out[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t get_u64(const unsigned char in[8]) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v |= (uint64_t)in[i] << (8 * i);
  return v;
}

void ptq_pack_i64(unsigned char out[8], int64_t v) {
  put_u64(out, (uint64_t)v);
}

int64_t ptq_unpack_i64(const unsigned char in[8]) {
  return (int64_t)get_u64(in);
}

size_t ptq_pack_size(const ptq_table *t) {
  size_t size = 0;
  for (size_t i = 0; i < t->n_fields; i++) size += t->fields[i].size;
  return size;
}

static size_t text_length(const char *s, size_t size) {
  const char *end = memchr(s, 0, size);
  return end != NULL ? (size_t)(end - s) : size;
}

void ptq_pack_rows(const ptq_table *t, const void *rows, int64_t n,
                   unsigned char *out) {
  for (int64_t r = 0; r < n; r++) {
    const char *row = (const char *)rows + (size_t)r * t->row_size;
    for (size_t i = 0; i < t->n_fields; i++) {
      const ptq_field *f = &t->fields[i];
      if (f->kind == PTQ_KIND_TEXT) {
        const size_t used = text_length(row + f->offset, f->size);
        memcpy(out, row + f->offset, used);
        memset(out + used, 0, f->size - used);
      } else { /* F64 and I64: eight bytes either way */
        uint64_t bits;
        memcpy(&bits, row + f->offset, sizeof bits);
        put_u64(out, bits);
      }
      out += f->size;
    }
  }
}

void ptq_pack_columns(const ptq_table *t, ptq_pack_column *out) {
  size_t at = 0;
  for (size_t i = 0; i < t->n_fields; i++) {
    out[i] = (ptq_pack_column){at, t->fields[i].size};
    at += t->fields[i].size;
  }
}

/* A column that the file has not. */
static void unpack_nothing(const ptq_field *f, char *member) {
  const double nothing = (double)NAN;
  memset(member, 0, f->size);
  if (f->kind == PTQ_KIND_F64) memcpy(member, &nothing, sizeof nothing);
  /* Before there was a choice. */
  if (strcmp(f->name, "compute") == 0) memcpy(member, "f32", sizeof "f32");
}

void ptq_unpack_rows(const ptq_table *t, const ptq_pack_column *columns,
                     size_t stride, const unsigned char *in, int64_t n,
                     void *rows) {
  for (int64_t r = 0; r < n; r++, in += stride) {
    char *row = (char *)rows + (size_t)r * t->row_size;
    for (size_t i = 0; i < t->n_fields; i++) {
      const ptq_field *f = &t->fields[i];
      const unsigned char *from = in + columns[i].offset;
      if (columns[i].size == 0) {
        unpack_nothing(f, row + f->offset);
        continue;
      }
      if (f->kind == PTQ_KIND_TEXT) {
        size_t used = text_length((const char *)from, columns[i].size);
        if (used >= f->size) used = f->size - 1;
        memcpy(row + f->offset, from, used);
        memset(row + f->offset + used, 0, f->size - used);
      } else {
        const uint64_t bits = get_u64(from);
        memcpy(row + f->offset, &bits, sizeof bits);
      }
    }
  }
}

uint32_t ptq_crc(uint32_t crc, const void *data, size_t n) {
  return (uint32_t)crc32_z(crc, data, n);
}

uint32_t ptq_crc_stored(uint32_t crc) {
  return crc != 0 ? crc : UINT32_MAX;
}

uint32_t ptq_crc_guarded(uint32_t crc) {
  return (crc & (crc - 1)) == 0 ? ~crc : crc;
}
