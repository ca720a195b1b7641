/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lookout.h"
#include "peers.h"
#include "ptq/comm/finish.h"

static void sleep_ms(long ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  (void)nanosleep(&t, NULL);
}

/* A rank of this host: a child of this program that sleeps. */
static pid_t sleeper(void) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  for (;;) sleep_ms(1000);
}

static void end(pid_t pid) {
  (void)kill(pid, SIGKILL);
  (void)waitpid(pid, NULL, 0);
}

/* The child's first look is over. */
static int told[2];

typedef int (*work)(ptq_lookout *l, pid_t other);

/* A child that looks at its brother; its answer is its exit status. */
static pid_t start(pid_t other, double silence_s, work w) {
  static ptq_lookout l;
  char word = 0;
  assert_int_equal(pipe(told), 0);
  const pid_t pid = fork();
  if (pid == 0) _exit(ptq_lookout_init(&l, silence_s) ? w(&l, other) : 9);
  assert_int_equal(close(told[1]), 0);
  assert_int_equal(read(told[0], &word, 1), 1);
  assert_int_equal(close(told[0]), 0);
  return pid;
}

static int answer(pid_t pid) {
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

enum { NOTHING = 20, LOST, ANOTHER, BLIND };

/* Until a rank is missed; a minute at most. */
static int misses(ptq_lookout *l, pid_t other) {
  double step_s = 0.0;
  for (double left_s = 60.0; left_s > 0.0; left_s -= step_s) {
    ptq_sight s;
    if (!ptq_lookout_look(l, step_s, &s)) return BLIND;
    if (s.lost != 0) return s.lost == other && s.n == 1 ? LOST : ANOTHER;
    if (step_s == 0.0 && write(told[1], "", 1) != 1) return BLIND;
    step_s = ptq_lookout_pause(l);
  }
  return NOTHING;
}

/* For six seconds of its own. */
static int looks_on(ptq_lookout *l, pid_t other) {
  double step_s = 0.0;
  (void)other;
  for (double left_s = 6.0; left_s > 0.0; left_s -= step_s) {
    ptq_sight s;
    if (!ptq_lookout_look(l, step_s, &s)) return BLIND;
    if (s.lost != 0) return LOST;
    if (step_s == 0.0 && write(told[1], "", 1) != 1) return BLIND;
    step_s = ptq_lookout_pause(l);
  }
  return NOTHING;
}

static void a_rank_that_dies_is_missed(void **state) {
  (void)state;
  const pid_t other = sleeper();
  const pid_t watcher = start(other, 3600.0, misses);
  end(other);
  assert_int_equal(answer(watcher), LOST);
}

static void a_rank_that_stays_stopped_is_ended(void **state) {
  (void)state;
  int status = 0;
  const pid_t other = sleeper();
  (void)kill(other, SIGSTOP);
  assert_int_equal(answer(start(other, 0.5, misses)), LOST);
  assert_int_equal(waitpid(other, &status, 0), other);
  assert_true(WIFSIGNALED(status));
  assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* Stopped for as long together, but never at a stretch; nor is the time that
 * the watcher itself was stopped held against others. */
static void a_rank_that_wakes_is_left_alone(void **state) {
  (void)state;
  const pid_t other = sleeper();
  const pid_t watcher = start(other, 2.0, looks_on);
  for (int i = 0; i < 5; i++) {
    (void)kill(other, SIGSTOP);
    sleep_ms(500);
    (void)kill(other, SIGCONT);
    sleep_ms(400);
  }
  (void)kill(watcher, SIGSTOP);
  (void)kill(other, SIGSTOP);
  sleep_ms(2500);
  (void)kill(other, SIGCONT);
  (void)kill(watcher, SIGCONT);
  assert_int_equal(answer(watcher), NOTHING);
  assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
  end(other);
}

static void alone_there_is_nobody_to_look_after(void **state) {
  static ptq_lookout l;
  (void)state;
  assert_int_equal(unsetenv("OMPI_COMM_WORLD_LOCAL_SIZE"), 0);
  assert_false(ptq_lookout_init(&l, 1.0));
  assert_int_equal(setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1), 0);
  assert_true(ptq_lookout_init(&l, 1.0));
}

static void a_stopped_process_is_told_from_others(void **state) {
  (void)state;
  const pid_t other = sleeper();
  assert_false(ptq_peers_is_stopped(other));
  (void)kill(other, SIGSTOP);
  for (int i = 0; i < 500 && !ptq_peers_is_stopped(other); i++) sleep_ms(10);
  assert_true(ptq_peers_is_stopped(other));
  end(other);
  assert_false(ptq_peers_is_stopped(other));
  assert_false(ptq_peers_is_stopped(-1));
}

/* A process in a call that takes long. */
static pid_t stuck(bool ended) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  ptq_finish_begin(0.5, 42);
  if (ended) ptq_finish_end();
  sleep_ms(ended ? 2000 : 60000);
  _exit(0);
}

static void an_end_that_does_not_come_is_made(void **state) {
  (void)state;
  assert_int_equal(answer(stuck(false)), 42);
}

static void an_end_that_came_is_left_alone(void **state) {
  (void)state;
  assert_int_equal(answer(stuck(true)), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_rank_that_dies_is_missed),
      cmocka_unit_test(a_rank_that_stays_stopped_is_ended),
      cmocka_unit_test(a_rank_that_wakes_is_left_alone),
      cmocka_unit_test(alone_there_is_nobody_to_look_after),
      cmocka_unit_test(a_stopped_process_is_told_from_others),
      cmocka_unit_test(an_end_that_does_not_come_is_made),
      cmocka_unit_test(an_end_that_came_is_left_alone),
  };
  if (setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1) != 0) return 1;
  return cmocka_run_group_tests_name("comm/lookout", tests, NULL, NULL);
}
