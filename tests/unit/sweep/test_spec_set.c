/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spec_fixture.h"

static void values_can_be_set_on_the_command_line(void **state) {
  (void)state;
  ptq_spec s;
  const char *const sets[] = {
      "grid.group=[16, row]", "name=other",
      "data.evaluation.windows=9", /* one value of a mapping */
      "measure.spectra=off",       /* a section that was not there */
      "models=[zoo/b, {path: zoo/c}]"};
  read_good(HEAD DATA GRID, sets, 5, &s);
  assert_int_equal(s.n_groups, 2);
  assert_int_equal(s.groups[1], PTQ_GROUP_ROW);
  assert_string_equal(s.name, "other");
  assert_int_equal(s.evaluations[0].windows, 9);
  assert_int_equal(s.evaluations[0].length, 8);
  assert_int_equal(s.spectra, PTQ_SPECTRA_OFF);
  assert_int_equal(s.n_models, 2);
  assert_string_equal(s.models[1].name, "c");
  assert_non_null(strstr(s.text, GRID "# --set grid.group=[16, row]\n"));
  ptq_spec_release(&s);
}

static void bad_overrides_are_refused(void **state) {
  (void)state;
  /* clang-format off */
  static const struct { const char *set, *message; } rows[] = {
    {"grid.gruop=[3]", "s.yaml (--set): unknown key 'gruop' in grid, did you "
     "mean 'group'?"},
    {"gird.group=[3]", "(--set): unknown key 'gird' in a sweep file, did you "
     "mean 'grid'?"},
    {"grid.group=[x]", "(--set): a group is a number"},
    {"grid.group", "--set 'grid.group' is not KEY=VALUE"},
    {"=3", "is not KEY=VALUE"},
    {"grid..group=3", "a key between dots is empty"},
    {"grid.=3", "a key between dots is empty"},
    {"grid.group=[3", "--set grid.group:2: did not find"},
    {"grid.group=", "--set grid.group:1: the document is empty"},
    {"grid.group.x=3", "'group' is a list in the sweep file"},
    {"grid=3", "(--set): grid must be a mapping"},
  };
  /* clang-format on */
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    refused(HEAD DATA GRID, rows[i].set, rows[i].message);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_can_be_set_on_the_command_line),
      cmocka_unit_test(bad_overrides_are_refused),
  };
  return cmocka_run_group_tests_name("sweep/spec_set", tests, make_files,
                                     remove_files);
}
