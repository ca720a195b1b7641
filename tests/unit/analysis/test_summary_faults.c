/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The n-th allocation fails, for growing n until nothing fails any more: the
 * summary is either whole or an error that says what memory was for, and
 * nothing leaks (under LeakSanitizer a leak changes the exit status). The
 * counter of PTQ_FAIL_NTH is read once a process, so each n is a child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ptq/analysis/summary.h"
#include "tables.h"

enum { WHOLE = 0, TOLD = 3, WRONG = 4 };

static tables table;
static ptq_summary summary;
static const synthetic_law law = {.intercept = 6.0,
                                  .params = -0.25,
                                  .bits = -1.3,
                                  .noise = 0.1,
                                  .floor = 0.002};

static int child(long n) {
  char text[32];
  (void)snprintf(text, sizeof text, "%ld", n);
  (void)setenv("PTQ_FAIL_NTH", text, 1);
  ptq_frame frame = {0};
  ptq_err err = {0};
  const ptq_summary_options options = {.no_comparison = true};
  const ptq_frame_source source = tables_source(&table);
  ptq_status rc = ptq_frame_build(&source, &frame, &err);
  if (rc == PTQ_OK) rc = ptq_summary_build(&frame, &options, &summary, &err);
  ptq_text out = {0};
  if (rc == PTQ_OK) {
    ptq_summary_text(&summary, "x.h5", &out);
    rc = out.rc;
    ptq_summary_release(&summary);
  }
  ptq_text_release(&out);
  ptq_frame_release(&frame);
  if (rc == PTQ_OK) return WHOLE;
  return rc == PTQ_E_NOMEM ? TOLD : WRONG;
}

static void every_failed_allocation_is_told_and_leaks_nothing(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 4);
  table.n_points = 96; /* three models */
  int told = 0;
  for (long n = 1; n < 1000000; n += 1 + n / 4) {
    int status = 0;
    (void)fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) exit(child(n));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) ||
        (WEXITSTATUS(status) != WHOLE && WEXITSTATUS(status) != TOLD))
      fail_msg("allocation %ld: status %x", n, (unsigned)status);
    if (WEXITSTATUS(status) == WHOLE) {
      assert_true(told > 20);
      return;
    }
    told++;
  }
  fail_msg("never whole");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_failed_allocation_is_told_and_leaks_nothing),
  };
  return cmocka_run_group_tests_name("analysis/summary_faults", tests, NULL,
                                     NULL);
}
