/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "pack.h"

static void a_row_is_its_members_without_padding(void **state) {
  (void)state;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_WINDOWS);
  assert_int_equal(ptq_pack_size(t), 40);
  const ptq_window_row row = {258, -1, 1.0, -2.0, 0.0};
  unsigned char out[40];
  ptq_pack_rows(t, &row, 1, out);
  const unsigned char expect[40] = {
      2,    1,    0,    0,    0,    0,    0,    0,     /* 258 */
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  /* -1 */
      0,    0,    0,    0,    0,    0,    0xf0, 0x3f,  /* 1.0 */
      0,    0,    0,    0,    0,    0,    0,    0xc0}; /* -2.0 */
  assert_memory_equal(out, expect, 40);
}

static void rows_come_back_as_they_were(void **state) {
  (void)state;
  for (int id = 0; id < PTQ_TABLE_COUNT; id++) {
    const ptq_table *t = ptq_table_get((ptq_table_id)id);
    unsigned char packed[2 * 2048], rows[2 * 2048], back[2 * 2048];
    ptq_pack_column columns[64];
    assert_true(t->row_size <= 2048 && t->n_fields <= 64);
    for (int r = 0; r < 2; r++) {
      unsigned char *row = rows + (size_t)r * t->row_size;
      ptq_row_clear(t, row);
      for (size_t i = 0; i < t->n_fields; i++) {
        const ptq_field *f = &t->fields[i];
        const size_t used = f->kind == PTQ_KIND_TEXT ? f->size - 1 : f->size;
        memset(row + f->offset, (int)(0x21 + i + (size_t)r), used);
      }
    }
    ptq_pack_columns(t, columns);
    ptq_pack_rows(t, rows, 2, packed);
    ptq_row_clear(t, back);
    ptq_row_clear(t, back + t->row_size);
    ptq_unpack_rows(t, columns, ptq_pack_size(t), packed, 2, back);
    assert_memory_equal(back, rows, 2 * t->row_size);
  }
}

static void bytes_behind_a_text_do_not_reach_the_file(void **state) {
  (void)state;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_LAYERS);
  ptq_layer_row a, b;
  unsigned char pa[512], pb[512];
  assert_true(ptq_pack_size(t) <= sizeof pa);
  ptq_row_clear(t, &a);
  memset(&b, 0xaa, sizeof b);
  b.point = b.layer_group = b.weights = b.calib_tokens = a.point;
  b.layer[0] = b.layer_dtype[0] = b.codes[0] = '\0';
  b.layer_bits = b.sqnr_weight = b.sqnr_output = b.sqnr_output_prop =
      b.err_hessian = b.damp = a.damp;
  ptq_pack_rows(t, &a, 1, pa);
  ptq_pack_rows(t, &b, 1, pb);
  assert_memory_equal(pa, pb, ptq_pack_size(t));
}

static void a_longer_text_of_another_file_is_cut_and_ended(void **state) {
  (void)state;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_LAYERS);
  ptq_pack_column columns[16];
  assert_true(t->n_fields <= 16);
  unsigned char in[512];
  ptq_layer_row row;
  memset(in, 'x', sizeof in);
  for (size_t i = 0; i < t->n_fields; i++) {
    columns[i].offset = 0;
    columns[i].size = t->fields[i].kind == PTQ_KIND_TEXT ? 300 : 8;
  }
  ptq_unpack_rows(t, columns, 512, in, 1, &row);
  assert_int_equal(strlen(row.layer), sizeof row.layer - 1);
}

static void what_a_file_lacks_is_empty_or_what_it_meant(void **state) {
  (void)state;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_POINTS);
  ptq_pack_column columns[64] = {{0, 0}};
  const unsigned char in[8] = {0};
  ptq_point_row row;
  memset(&row, 'x', sizeof row);
  ptq_unpack_rows(t, columns, 8, in, 1, &row);
  assert_string_equal(row.model, "");
  assert_string_equal(row.compute, "f32"); /* before there was a choice */
  assert_int_equal(row.group, 0);
  assert_true(row.nll != row.nll);
}

static void integers_keep_their_sign(void **state) {
  (void)state;
  const int64_t values[] = {0, 1, -1, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    unsigned char raw[8];
    ptq_pack_i64(raw, values[i]);
    assert_true(ptq_unpack_i64(raw) == values[i]);
  }
}

/* The check value of CRC-32/ISO-HDLC. */
static void checksums_are_those_of_zlib(void **state) {
  (void)state;
  assert_int_equal(ptq_crc(0, "123456789", 9), 0xcbf43926U);
  assert_int_equal(ptq_crc(ptq_crc(0, "1234", 4), "56789", 5), 0xcbf43926U);
  assert_int_not_equal(ptq_crc_stored(0), 0);
  assert_int_equal(ptq_crc_stored(7), 7);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_row_is_its_members_without_padding),
      cmocka_unit_test(rows_come_back_as_they_were),
      cmocka_unit_test(bytes_behind_a_text_do_not_reach_the_file),
      cmocka_unit_test(a_longer_text_of_another_file_is_cut_and_ended),
      cmocka_unit_test(what_a_file_lacks_is_empty_or_what_it_meant),
      cmocka_unit_test(integers_keep_their_sign),
      cmocka_unit_test(checksums_are_those_of_zlib),
  };
  return cmocka_run_group_tests_name("store/pack", tests, NULL, NULL);
}
