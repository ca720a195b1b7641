/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/eval/answers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static ptq_scored_choice choice(double logp, int64_t characters, int64_t bytes,
                                int64_t tokens) {
  return (ptq_scored_choice){.logp = logp,
                             .length = {1, characters, bytes, tokens}};
}

static void each_length_has_its_choice(void **state) {
  (void)state;
  /*                                   a character, a byte, a token */
  const ptq_scored_choice c[] = {choice(-3.0, 2, 2, 1),     /* -1.5 -1.5 -3 */
                                 choice(-8.0, 10, 12, 2),   /* -.8 -.67 -4 */
                                 choice(-9.0, 12, 12, 2),   /* -.75 -.75 -4.5 */
                                 choice(-10.0, 11, 13, 5)}; /* -.91 -.77 -2 */
  const ptq_answer a = ptq_answer_of(c, 4, 2);
  assert_int_equal(a.choice[PTQ_PER_CHOICE], 0);
  assert_int_equal(a.choice[PTQ_PER_CHARACTER], 2);
  assert_int_equal(a.choice[PTQ_PER_BYTE], 1);
  assert_int_equal(a.choice[PTQ_PER_TOKEN], 3);
  assert_int_equal(a.right, 2);
  assert_true(a.logp == -9.0 && a.margin == -6.0);
  const ptq_answer b = ptq_answer_of(c, 4, 0);
  assert_true(b.logp == -3.0 && b.margin == 5.0);
}

static void ties_go_to_the_first(void **state) {
  (void)state;
  const ptq_scored_choice c[] = {choice(-2.0, 1, 1, 1), choice(-1.0, 1, 1, 1),
                                 choice(-1.0, 1, 1, 1)};
  assert_int_equal(ptq_answer_of(c, 3, 2).choice[PTQ_PER_CHOICE], 1);
}

static void a_single_choice_is_right_where_greedy(void **state) {
  (void)state;
  ptq_scored_choice c = choice(-1.0, 3, 3, 2);
  ptq_answer a = ptq_answer_of(&c, 1, 0);
  assert_int_equal(a.choice[PTQ_PER_CHOICE], 1);
  assert_true(isnan(a.margin) && a.logp == -1.0);
  c.greedy = true;
  a = ptq_answer_of(&c, 1, 0);
  for (int per = 0; per < PTQ_PER_COUNT; per++)
    assert_int_equal(a.choice[per], 0);
}

static void one_that_is_not_finite_spoils_the_answer(void **state) {
  (void)state;
  const ptq_scored_choice c[] = {choice(-2.0, 1, 1, 1), choice(NAN, 1, 1, 1)};
  assert_true(isnan(ptq_answer_of(c, 2, 0).logp));
}

static ptq_answer taken(int64_t choice_taken, int64_t right) {
  return (ptq_answer){.choice = {choice_taken, 0, 0, 0}, .right = right};
}

static void shares_have_their_errors(void **state) {
  (void)state;
  enum { N = 5 };
  /* right: yes yes no no yes; the other's: yes no no yes yes */
  const ptq_answer a[N] = {taken(1, 1), taken(2, 2), taken(0, 1), taken(3, 0),
                           taken(0, 0)};
  const ptq_answer b[N] = {taken(1, 1), taken(0, 2), taken(2, 1), taken(0, 0),
                           taken(0, 0)};
  ptq_share s = ptq_share_right(a, N, PTQ_PER_CHOICE);
  assert_true(fabs(s.value - 0.6) < 1e-15);
  assert_true(fabs(s.se - sqrt(0.6 * 0.4 / 4.0)) < 1e-15);
  /* differences 0 1 0 -1 0: mean 0, variance 2 / 4 */
  s = ptq_share_right_difference(a, b, N, PTQ_PER_CHOICE);
  assert_true(s.value == 0.0);
  assert_true(fabs(s.se - sqrt(0.5 / 5.0)) < 1e-15);
  s = ptq_share_flipped(a, b, N, PTQ_PER_CHOICE);
  assert_true(fabs(s.value - 0.6) < 1e-15);
  s = ptq_share_flipped(a, a, N, PTQ_PER_CHOICE);
  assert_true(s.value == 0.0 && s.se == 0.0);
  s = ptq_share_right(a, N,
                      PTQ_PER_TOKEN); /* always 0: right in the last two */
  assert_true(fabs(s.value - 0.4) < 1e-15);
}

static void too_few_questions_have_no_error(void **state) {
  (void)state;
  const ptq_answer a = taken(1, 1);
  ptq_share s = ptq_share_right(&a, 1, PTQ_PER_CHOICE);
  assert_true(s.value == 1.0 && isnan(s.se));
  s = ptq_share_right(&a, 0, PTQ_PER_CHOICE);
  assert_true(isnan(s.value) && isnan(s.se));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_length_has_its_choice),
      cmocka_unit_test(ties_go_to_the_first),
      cmocka_unit_test(a_single_choice_is_right_where_greedy),
      cmocka_unit_test(one_that_is_not_finite_spoils_the_answer),
      cmocka_unit_test(shares_have_their_errors),
      cmocka_unit_test(too_few_questions_have_no_error),
  };
  return cmocka_run_group_tests_name("eval/answers", tests, NULL, NULL);
}
