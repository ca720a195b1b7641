/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/quant/method.h"

static ptq_status parse(const char *name, const ptq_method_option *options,
                        ptq_method *m, ptq_err *err) {
  size_t n = 0;
  while (options != NULL && options[n].key != NULL) n++;
  return ptq_method_parse(name, options, n, m, err);
}

static void every_family_is_complete_and_parses_without_options(void **state) {
  (void)state;
  int n = 0;
  for (const ptq_method_family *const *f = ptq_method_families(); *f;
       f++, n++) {
    assert_true(strlen((*f)->summary) > 0 && strlen((*f)->source) > 0);
    assert_non_null((*f)->options_help);
    ptq_method m;
    assert_int_equal(ptq_method_parse((*f)->name, NULL, 0, &m, NULL), PTQ_OK);
    assert_ptr_equal(m.family, *f);
    assert_string_equal(m.name, (*f)->name);
    assert_string_equal(m.options, "");
    assert_true((*f)->flops(&m, 64, 64) > 0.0);
    ptq_dtype dt;
    assert_int_equal(ptq_dtype_parse("int4:asym", &dt, NULL), PTQ_OK);
    assert_int_equal((*f)->accepts(&m, &dt, 32, NULL), PTQ_OK);
  }
  assert_true(n >= 2);
}

static void options_are_sorted_and_defaults_left_out(void **state) {
  (void)state;
  static const struct {
    ptq_method_option options[8];
    const char *expected;
  } cases[] = {
      {{{"damp", "0.01"}, {"block", "128"}, {"hessian", "sequential"}}, ""},
      {{{"hessian", "static"}, {"damp", "5e-2"}}, "damp=0.05,hessian=static"},
      {{{"static_groups", "true"}, {"act_order", "true"}, {"block", "0256"}},
       "act_order=true,block=256,static_groups=true"},
      {{{"true_sequential", "true"}, {"group_params", "fresh"}},
       "group_params=fresh,true_sequential=true"},
      {{{"damp", "0.1"}}, "damp=0.1"},
      {{{"damp", "0.012345678901234567"}}, "damp=0.012345678901234567"},
      {{{"damp", "0"}, {"act_order", "false"}}, "damp=0"},
      {{{"mx", "joint"}, {"damp", "search"}, {"hessian", "static"}},
       "damp=search,hessian=static,mx=joint"},
      {{{"act_order", "true"},
        {"block", "65536"},
        {"damp", "0.012345678901234567"},
        {"static_groups", "true"},
        {"hessian", "static"}},
       "act_order=true,block=65536,damp=0.012345678901234567,"
       "hessian=static,static_groups=true"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_method m;
    ptq_err err = {0};
    if (parse("gptq", cases[i].options, &m, &err) != PTQ_OK)
      fail_msg("%s", err.msg);
    assert_string_equal(m.options, cases[i].expected);
  }
}

static void calibration_follows_the_options(void **state) {
  (void)state;
  static const struct {
    const char *name;
    ptq_method_option options[2];
    ptq_calibration_mode mode;
  } cases[] = {
      {"rtn", {{NULL, NULL}}, PTQ_CALIB_NONE},
      {"gptq", {{NULL, NULL}}, PTQ_CALIB_SEQUENTIAL},
      {"gptaq", {{NULL, NULL}}, PTQ_CALIB_SEQUENTIAL},
      {"awq", {{NULL, NULL}}, PTQ_CALIB_STATIC},
      {"autoround", {{NULL, NULL}}, PTQ_CALIB_NONE},
      {"gptaq", {{"true_sequential", "true"}}, PTQ_CALIB_TRUE_SEQUENTIAL},
      {"gptq", {{"hessian", "static"}}, PTQ_CALIB_STATIC},
      {"gptq", {{"true_sequential", "true"}}, PTQ_CALIB_TRUE_SEQUENTIAL}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_method m;
    assert_int_equal(parse(cases[i].name, cases[i].options, &m, NULL), PTQ_OK);
    assert_int_equal(m.family->mode(&m), cases[i].mode);
  }
}

static void bad_methods_and_options_say_what_is_known(void **state) {
  (void)state;
  static const struct {
    const char *name;
    ptq_method_option options[8];
    const char *says;
  } cases[] = {
      {"gtpq", {{NULL, NULL}}, "did you mean 'gptq'; known: rtn, gptq"},
      {"awq2000", {{NULL, NULL}}, "unknown method 'awq2000'"},
      {"rtn", {{"damp", "1"}}, "'rtn' has no option 'damp'; known: scales"},
      {"gptq", {{"dampp", "1"}}, "did you mean 'damp'; known: act_order"},
      {"gptq", {{"damp", "-1"}}, "'damp' is a number from 0 to 1, not '-1'"},
      {"gptq", {{"damp", "nan"}}, "from 0 to 1"},
      {"gptq", {{"damp", "much"}}, "not 'much'"},
      {"gptq", {{"damp", ""}}, "not ''"},
      {"gptq", {{"block", "0"}}, "'block' is an integer from 1 to 65536"},
      {"gptq", {{"block", "1.5"}}, "not '1.5'"},
      {"gptq", {{"block", "99999999999999999999"}}, "integer"},
      {"gptq", {{"act_order", "yes"}}, "one of false, true, group, not 'yes'"},
      {"gptq", {{"hessian", "dynamic"}}, "one of sequential, static"},
      {"gptq", {{"group_params", "old"}}, "one of stale, fresh"},
      {"gptq", {{"damp", "0.1"}, {"damp", "0.2"}}, "'damp' is given twice"},
      {"gptq", {{"damp", "serach"}}, "nor is that 'search'"},
      {"gptq", {{"mx", "rows"}}, "one of columns, joint"},
      {"gptq", {{"mx", "joint"}, {"static_groups", "true"}}, "choose one"},
      {"gptq", {{"mx", "joint"}, {"group_params", "fresh"}}, "leave"},
      {"gptaq", {{"hessian", "static"}}, "always sequential"},
      {"awq", {{"scaling", "none"}, {"clip", "false"}}, "nothing but rtn"},
      {"awq", {{"scaling", "none"}, {"objective", "site"}}, "leave it out"},
      {"awq", {{"scaling", "weights"}}, "one of inputs, duo, none"},
      {"awq", {{"clipping", "true"}}, "did you mean 'clip'"},
      {"gptaq", {{"alhpa", "1"}}, "did you mean 'alpha'"},
      {"gptaq", {{"alpha", "0"}}, "from 1e-06 to 1"},
      {"autoround", {{"iters", "0"}}, "from 1 to 100000"},
      {"autoround", {{"lr", "fast"}}, "nor is that 'auto'"},
      {"gptq",
       {{"hessian", "static"}, {"true_sequential", "true"}},
       "choose one"},
      {"gptq",
       {{"static_groups", "true"}, {"group_params", "fresh"}},
       "choose one"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_method m;
    ptq_err err = {0};
    assert_int_equal(parse(cases[i].name, cases[i].options, &m, &err),
                     PTQ_E_ARG);
    if (strstr(err.msg, cases[i].says) == NULL)
      fail_msg("case %d says: %s", (int)i, err.msg);
    assert_null(m.family);
  }
}

static void joint_blocks_are_for_formats_that_have_them(void **state) {
  (void)state;
  const ptq_method_option joint[] = {{"mx", "joint"}, {NULL, NULL}};
  ptq_method m;
  ptq_dtype dt;
  ptq_err err = {0};
  assert_int_equal(parse("gptq", joint, &m, &err), PTQ_OK);
  assert_int_equal(ptq_dtype_parse("mxfp4", &dt, &err), PTQ_OK);
  assert_int_equal(m.family->accepts(&m, &dt, 32, &err), PTQ_OK);
  assert_int_equal(ptq_dtype_parse("int4", &dt, &err), PTQ_OK);
  assert_int_equal(m.family->accepts(&m, &dt, 32, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "'int4' has none"));
  err = (ptq_err){0};
  assert_int_equal(parse("awq", NULL, &m, &err), PTQ_OK);
  assert_int_equal(m.family->accepts(&m, &dt, PTQ_GROUP_TENSOR, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "say clip=false"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_family_is_complete_and_parses_without_options),
      cmocka_unit_test(options_are_sorted_and_defaults_left_out),
      cmocka_unit_test(calibration_follows_the_options),
      cmocka_unit_test(bad_methods_and_options_say_what_is_known),
      cmocka_unit_test(joint_blocks_are_for_formats_that_have_them),
  };
  return cmocka_run_group_tests_name("quant/method", tests, NULL, NULL);
}
