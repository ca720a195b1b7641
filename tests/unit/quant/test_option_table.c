/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "option_table.h"

typedef struct own {
  double damp;
  int64_t rank;
  int mode;
  bool fast;
} own;

static const char *const modes[] = {"first", "second", NULL};
static const own defaults = {.damp = 0.5, .rank = 8};
/* clang-format off */
static const ptq_option_row rows[] = {
  {"damp", PTQ_OPTION_DOUBLE, offsetof(own, damp), 0.0, 1.0,  NULL},
  {"fast", PTQ_OPTION_BOOL,   offsetof(own, fast), 0.0, 0.0,  NULL},
  {"mode", PTQ_OPTION_CHOICE, offsetof(own, mode), 0.0, 0.0,  modes},
  {"rank", PTQ_OPTION_INT,    offsetof(own, rank), 1.0, 64.0, NULL},
  {NULL,   PTQ_OPTION_BOOL,   0,                   0.0, 0.0,  NULL},
};
/* clang-format on */
static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static ptq_status parse(const ptq_method_option *options, size_t n, own *o,
                        ptq_method *m, ptq_err *err) {
  *m = (ptq_method){.name = "toy"};
  return ptq_options_parse(&table, options, n, o, sizeof *o, m, err);
}

static void values_are_read_and_spelled_in_order(void **state) {
  (void)state;
  const ptq_method_option options[] = {
      {"rank", "16"}, {"fast", "true"}, {"mode", "second"}, {"damp", "0.25"}};
  own o;
  ptq_method m;
  assert_int_equal(parse(options, 4, &o, &m, NULL), PTQ_OK);
  assert_true(o.damp == 0.25 && o.fast && o.mode == 1 && o.rank == 16);
  assert_string_equal(m.options, "damp=0.25,fast=true,mode=second,rank=16");
}

static void defaults_are_left_out(void **state) {
  (void)state;
  const ptq_method_option options[] = {
      {"rank", "8"}, {"fast", "false"}, {"mode", "first"}, {"damp", "5e-1"}};
  own o;
  ptq_method m;
  assert_int_equal(parse(options, 4, &o, &m, NULL), PTQ_OK);
  assert_string_equal(m.options, "");
  assert_int_equal(parse(NULL, 0, &o, &m, NULL), PTQ_OK);
  assert_true(o.damp == 0.5 && !o.fast && o.mode == 0 && o.rank == 8);
}

static void spelling_sorts_among_what_is_there(void **state) {
  (void)state;
  ptq_method m = {.options = "base=gptq,modern=1,zeal=2"};
  const own o = {.damp = 0.5, .rank = 9, .mode = 1};
  assert_int_equal(ptq_option_spell(&table, &o, &m, NULL), PTQ_OK);
  assert_string_equal(m.options,
                      "base=gptq,mode=second,modern=1,rank=9,zeal=2");
}

static void bad_options_are_refused(void **state) {
  (void)state;
  static const struct {
    ptq_method_option option;
    const char *says;
  } cases[] = {
      {{"rank", "0"}, "'rank' is an integer from 1 to 64, not '0'"},
      {{"damp", "2"}, "'damp' is a number from 0 to 1, not '2'"},
      {{"mode", "third"}, "one of first, second, not 'third'"},
      {{"fast", "1"}, "true or false"},
      {{"rnk", "1"}, "did you mean 'rank'; known: damp, fast, mode, rank"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    own o;
    ptq_method m;
    ptq_err err = {0};
    assert_int_equal(parse(&cases[i].option, 1, &o, &m, &err), PTQ_E_ARG);
    if (strstr(err.msg, cases[i].says) == NULL) fail_msg("%s", err.msg);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_are_read_and_spelled_in_order),
      cmocka_unit_test(defaults_are_left_out),
      cmocka_unit_test(spelling_sorts_among_what_is_there),
      cmocka_unit_test(bad_options_are_refused),
  };
  return cmocka_run_group_tests_name("quant/option_table", tests, NULL, NULL);
}
