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

static void exclusions_that_match_nothing_are_refused(void **state) {
  (void)state;
  /* clang-format off */
  static const struct { const char *exclude, *message; } rows[] = {
    {"{dtype: int3}", "s.yaml:6: this exclusion matches nothing: no dtype "
     "'int3' in the sweep"},
    {"{model: zz*}", "no model 'zz*'"},
    {"{method: {name: gptq, hessian: static}}", "no method 'gptq'"},
    {"{group: 64}", "no group '64'"},
    {"{dtype: intt3}", "unknown dtype 'intt3'"},
    {"{}", "an empty exclusion would remove everything"},
  };
  /* clang-format on */
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    char text[1024];
    snprintf(text, sizeof text, HEAD DATA GRID "exclude: [%s]\n",
             rows[i].exclude);
    refused(text, NULL, rows[i].message);
  }
  refused(HEAD DATA GRID "exclude: {dtype: int4}\n", NULL,
          "s.yaml:6: 'exclude' must be a list of mappings");
  /* An override may take away what an exclusion was about. */
  ptq_spec s;
  const char *const set = "grid.dtype=int8";
  read_good(HEAD DATA GRID "exclude: [{dtype: mxint3}]\n", &set, 1, &s);
  assert_int_equal(s.n_excludes, 1);
  ptq_spec_release(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exclusions_that_match_nothing_are_refused),
  };
  return cmocka_run_group_tests_name("sweep/spec_exclude", tests, make_files,
                                     remove_files);
}
