/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/analysis/summary.h"
#include "tables.h"

static tables table;
static ptq_summary summary;
static const synthetic_law law = {.intercept = 6.0,
                                  .params = -0.25,
                                  .bits = -1.3,
                                  .group = 0.15,
                                  .gptq = -0.4,
                                  .noise = 0.1,
                                  .noise_model = 0.1,
                                  .floor = 0.002};

static void frame_of_table(ptq_frame *f) {
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, f, NULL), PTQ_OK);
}

static void text_accounts_for_every_point_and_ends_with_the_law(void **state) {
  (void)state;
  ptq_frame f;
  ptq_err err = {0};
  tables_synthetic(&table, &law, 4);
  table.states[200] = PTQ_STATE_FAILED;
  table.states[201] = PTQ_STATE_PENDING;
  frame_of_table(&f);
  const ptq_summary_options options = {.no_comparison = true};
  if (ptq_summary_build(&f, &options, &summary, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_text text = {0};
  ptq_summary_text(&summary, "x.h5", &text);
  const char *s = ptq_text_str(&text);
  if (getenv("PTQ_SHOW") != NULL) puts(s);
  assert_non_null(strstr(s, "x.h5: 320 points: "));
  assert_non_null(strstr(s, "1 failed (1 mxint"));
  assert_non_null(strstr(s, "1 pending"));
  assert_non_null(strstr(s, "leave-one-model-out (10)"));
  assert_non_null(strstr(s, "leave-one-family-out (2)"));
  assert_non_null(strstr(s, "by censored log-linear least squares"));
  const char *last = strstr(s, "The law, in nats");
  assert_non_null(last);
  assert_non_null(strstr(last, "dnll = exp("));
  assert_non_null(strstr(last, "gptq instead of rtn: dnll x 0."));
  /* the same again gives the same bytes */
  ptq_summary_release(&summary);
  ptq_text again = {0};
  assert_int_equal(ptq_summary_build(&f, &options, &summary, &err), PTQ_OK);
  ptq_summary_text(&summary, "x.h5", &again);
  assert_string_equal(s, ptq_text_str(&again));
  ptq_text_release(&text);
  ptq_text_release(&again);
  ptq_summary_release(&summary);
  ptq_frame_release(&f);
}

static void laws_are_ordered_by_held_out_error(void **state) {
  (void)state;
  ptq_frame f;
  tables_synthetic(&table, &law, 4);
  frame_of_table(&f);
  const ptq_summary_options options = {.estimator = "censored",
                                       .no_trees = true};
  assert_int_equal(ptq_summary_build(&f, &options, &summary, NULL), PTQ_OK);
  assert_string_equal(summary.beside.estimator->name, "quasi");
  const ptq_contest *c = &summary.contest;
  assert_true(c->n >= 15);
  assert_int_equal(c->n_splits, 6);
  for (int k = 0; k < c->n_splits; k++)
    for (int i = 1; i < c->n; i++) {
      const ptq_entry *a = &c->entry[c->order[k][i - 1]];
      const ptq_entry *b = &c->entry[c->order[k][i]];
      if (a->learned && b->learned && b->splits[k].all.n > 0)
        assert_true(a->splits[k].all.median <= b->splits[k].all.median);
    }
  /* what the points cannot tell is said, and the rest still compared */
  const ptq_entry *kumar = ptq_contest_find(c, "kumar");
  assert_false(kumar->learned);
  assert_non_null(strstr(kumar->failure, "'train_tokens' is absent"));
  assert_true(ptq_contest_find(c, "kumar-fixed-D")->learned);
  assert_true(ptq_contest_find(c, "chosen")->splits[0].all.median < 0.3);
  assert_null(ptq_contest_find(c, "forest"));
  ptq_summary_release(&summary);
  ptq_frame_release(&f);
}

static void law_that_cannot_be_fitted_is_an_error_with_its_reason(
    void **state) {
  (void)state;
  ptq_frame f;
  ptq_err err = {0};
  tables_synthetic(&table, &law, 4);
  for (int64_t i = 0; i < table.n_points; i++)
    table.states[i] = PTQ_STATE_PENDING;
  frame_of_table(&f);
  const ptq_summary_options options = {.no_comparison = true};
  assert_int_equal(ptq_summary_build(&f, &options, &summary, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "ptqsweep status"));
  err = (ptq_err){0};
  const ptq_summary_options unknown = {.formula = "size"};
  assert_int_equal(ptq_summary_build(&f, &unknown, &summary, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "unknown column 'size'"));
  ptq_frame_release(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_accounts_for_every_point_and_ends_with_the_law),
      cmocka_unit_test(laws_are_ordered_by_held_out_error),
      cmocka_unit_test(law_that_cannot_be_fitted_is_an_error_with_its_reason),
  };
  return cmocka_run_group_tests_name("analysis/summary", tests, NULL, NULL);
}
