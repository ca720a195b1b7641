/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ptq/comm/guard.h"
#include "peers.h"
#include <stdbool.h>

static void sleep_ms(long ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  (void)nanosleep(&t, NULL);
}

/* What a rank does once its guard is there. */
typedef enum rank_does { DIES, RELEASES, LIVES, STOPS, CALMS } rank_does;

static void rank(pid_t launcher, rank_does what) {
  ptq_guard g;
  ptq_guard_begin(&g, launcher, 300);
  if (g.pid <= 0) _exit(1);
  if (what == RELEASES) ptq_guard_end(&g);
  if (what == CALMS) ptq_guard_calm(&g);
  if (what == LIVES) sleep_ms(1500);
  if (what == STOPS) raise(SIGSTOP);
  _exit(0);
}

/* A launcher called `name` that starts a rank and never hears of its end. */
static pid_t launch(const char *name, rank_does what) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  FILE *f = fopen("/proc/self/comm", "w");
  if (f == NULL || fputs(name, f) == EOF || fclose(f) != 0) _exit(1);
  const pid_t self = getpid();
  const pid_t child = fork();
  if (child == 0) rank(self, what);
  sleep_ms(what == RELEASES ? 3000 : 60000);
  _exit(7);
}

static void is_ended_by(pid_t launcher, int signal_number) {
  int status = 0;
  assert_int_equal(waitpid(launcher, &status, 0), launcher);
  if (signal_number == 0) {
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
  } else {
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal_number);
  }
}

static void a_launcher_that_outlives_its_ranks_is_ended(void **state) {
  (void)state;
  is_ended_by(launch("mpirun", DIES), SIGKILL);
}

static void a_calm_one_has_more_patience_and_stays(void **state) {
  (void)state;
  const pid_t launcher = launch("mpirun", CALMS);
  sleep_ms(700); /* 300 would do if it were not */
  assert_int_equal(waitpid(launcher, &(int){0}, WNOHANG), 0);
  is_ended_by(launcher, SIGKILL);
}

static void a_released_guard_leaves_the_launcher_alone(void **state) {
  (void)state;
  is_ended_by(launch("mpirun", RELEASES), 0);
}

static void a_launcher_with_a_living_rank_is_left_alone(void **state) {
  (void)state;
  const pid_t launcher = launch("mpirun", LIVES);
  sleep_ms(1200);
  assert_int_equal(waitpid(launcher, &(int){0}, WNOHANG), 0);
  is_ended_by(launcher, SIGKILL); /* once that rank has gone too */
}

static void a_launcher_with_a_stopped_rank_is_ended_later(void **state) {
  (void)state;
  is_ended_by(launch("mpirun", STOPS), SIGKILL);
}

static void only_launchers_are_guarded(void **state) {
  (void)state;
  ptq_guard g;
  assert_false(ptq_peers_is_launcher(getpid()));
  ptq_guard_begin(&g, getpid(), 300);
  assert_int_equal(g.pid, 0);
  ptq_guard_end(&g);
}

static void living_children_are_found_and_zombies_not(void **state) {
  (void)state;
  pid_t found[4];
  assert_int_equal(ptq_peers_find(getpid(), true, NULL, 0), 0);
  const pid_t child = fork();
  if (child == 0) {
    sleep_ms(5000);
    _exit(0);
  }
  assert_int_equal(ptq_peers_find(getpid(), true, NULL, 0), 1);
  assert_int_equal(ptq_peers_find(getpid(), false, found, 4), 1);
  assert_int_equal(found[0], child);
  (void)kill(child, SIGKILL);
  siginfo_t info;
  assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
  assert_int_equal(ptq_peers_find(getpid(), true, NULL, 0), 0);
  (void)waitpid(child, NULL, 0);
  assert_int_equal(ptq_peers_find(-1, true, NULL, 0), -1);
}

/* A launcher that nothing but a signal ends, and that may not heed it. */
static pid_t stubborn(const char *name, bool deaf) {
  int ready[2];
  char word = 0;
  assert_int_equal(pipe(ready), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    FILE *f = fopen("/proc/self/comm", "w");
    if (f == NULL || fputs(name, f) == EOF || fclose(f) != 0) _exit(1);
    if (deaf) (void)signal(SIGTERM, SIG_IGN);
    if (write(ready[1], "", 1) != 1) _exit(1);
    sleep_ms(60000);
    _exit(7);
  }
  assert_int_equal(read(ready[0], &word, 1), 1);
  (void)close(ready[0]);
  (void)close(ready[1]);
  return pid;
}

static void who_stays_behind_ends_ranks_and_launcher(void **state) {
  (void)state;
  const pid_t one = stubborn("rank", false), other = stubborn("rank", false);
  const pid_t pids[2] = {one, other};
  ptq_guard_orders now = {.pids = pids, .n = 1};
  ptq_guard_stay(&now); /* at once, by this process */
  is_ended_by(one, SIGKILL);
  const pid_t launcher = stubborn("mpirun", false);
  ptq_guard_orders later = {.pids = pids + 1,
                            .n = 1,
                            .kill_after_ms = 300,
                            .launcher = launcher,
                            .end_launcher_after_ms = 300};
  ptq_guard_stay(&later);
  is_ended_by(other, SIGKILL);
  is_ended_by(launcher, SIGTERM);
}

static void a_launcher_that_does_not_heed_is_killed(void **state) {
  (void)state;
  const pid_t launcher = stubborn("orterun", true);
  ptq_guard_orders o = {.launcher = launcher, .end_launcher_after_ms = 100};
  ptq_guard_stay(&o);
  is_ended_by(launcher, SIGKILL);
}

/* It need not wait for what its orders say. */
static void who_stays_behind_goes_with_the_launcher(void **state) {
  (void)state;
  const pid_t launcher = stubborn("mpirun", false);
  const pid_t one = stubborn("rank", false);
  ptq_guard_orders o = {.pids = &one,
                        .n = 1,
                        .kill_after_ms = 50000,
                        .launcher = launcher,
                        .end_launcher_after_ms = 1000};
  ptq_guard_stay(&o);
  (void)kill(launcher, SIGKILL);
  is_ended_by(launcher, SIGKILL);
  is_ended_by(one, SIGKILL);
}

static void stopped_ranks_are_ended_and_others_not(void **state) {
  (void)state;
  const pid_t one = stubborn("rank", false), other = stubborn("rank", false);
  (void)kill(one, SIGSTOP);
  for (int i = 0; i < 500 && !ptq_peers_is_stopped(one); i++) sleep_ms(10);
  ptq_guard_end_stopped(getpid());
  is_ended_by(one, SIGKILL);
  assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
  (void)kill(other, SIGKILL);
  is_ended_by(other, SIGKILL);
}

/* Another program has taken the number. */
static void other_programs_are_left_alone(void **state) {
  (void)state;
  const pid_t pid = fork();
  if (pid == 0) {
    execlp("sleep", "sleep", "2", (char *)NULL);
    _exit(1);
  }
  while (ptq_peers_is_rank(pid)) sleep_ms(10); /* until it is sleep */
  ptq_guard_orders o = {.pids = &pid, .n = 1};
  ptq_guard_stay(&o);
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_launcher_that_outlives_its_ranks_is_ended),
      cmocka_unit_test(a_calm_one_has_more_patience_and_stays),
      cmocka_unit_test(a_released_guard_leaves_the_launcher_alone),
      cmocka_unit_test(a_launcher_with_a_living_rank_is_left_alone),
      cmocka_unit_test(a_launcher_with_a_stopped_rank_is_ended_later),
      cmocka_unit_test(only_launchers_are_guarded),
      cmocka_unit_test(living_children_are_found_and_zombies_not),
      cmocka_unit_test(who_stays_behind_ends_ranks_and_launcher),
      cmocka_unit_test(a_launcher_that_does_not_heed_is_killed),
      cmocka_unit_test(who_stays_behind_goes_with_the_launcher),
      cmocka_unit_test(stopped_ranks_are_ended_and_others_not),
      cmocka_unit_test(other_programs_are_left_alone),
  };
  return cmocka_run_group_tests_name("comm/guard", tests, NULL, NULL);
}
