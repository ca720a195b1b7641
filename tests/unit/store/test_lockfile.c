/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lockfile.h"

static char dir[] = "ptqlock-XXXXXX", store[64], lock[80];

/* A process that takes the lock, says so, and waits to be killed. */
static pid_t holder(int owner) {
  int ready[2];
  char word = 0;
  assert_int_equal(pipe(ready), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    int fd = -1;
    word = ptq_lockfile_take(store, owner, &fd, NULL) == PTQ_OK ? 'y' : 'n';
    if (write(ready[1], &word, 1) != 1) _exit(1);
    for (;;) pause();
  }
  assert_int_equal(read(ready[0], &word, 1), 1);
  assert_int_equal(word, 'y');
  close(ready[0]);
  close(ready[1]);
  return pid;
}

static void end(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

static void a_free_store_is_taken_and_leaves_no_file(void **state) {
  (void)state;
  int fd = -1;
  ptq_err err = {0};
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, &err), PTQ_OK);
  assert_int_equal(access(lock, F_OK), 0);
  ptq_lockfile_release(store, fd);
  assert_int_not_equal(access(lock, F_OK), 0);
  ptq_lockfile_release(store, -1);
}

static void a_second_run_is_refused_and_told_who_has_it(void **state) {
  (void)state;
  const pid_t pid = holder(1);
  int fd = -1;
  long seen = 0;
  ptq_err err = {0};
  char who[32];
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, &err), PTQ_E_ARG);
  assert_int_equal(fd, -1);
  snprintf(who, sizeof who, "process %ld", (long)pid);
  assert_non_null(strstr(err.msg, who));
  assert_non_null(strstr(err.msg, "-o"));
  assert_true(ptq_lockfile_held(store, &seen));
  assert_int_equal(seen, pid);
  end(pid);
  assert_false(ptq_lockfile_held(store, &seen));
}

static void a_killed_holder_does_not_outlive_itself(void **state) {
  (void)state;
  end(holder(1));
  int fd = -1;
  ptq_err err = {0};
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, &err), PTQ_OK);
  ptq_lockfile_release(store, fd);
}

/* Rank 0 died, another rank still writes. */
static void a_surviving_rank_keeps_the_store(void **state) {
  (void)state;
  const pid_t pid = holder(0);
  int fd = -1;
  ptq_err err = {0};
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, &err), PTQ_E_ARG);
  end(pid);
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, NULL), PTQ_OK);
  ptq_lockfile_release(store, fd);
}

static void the_owner_leaves_the_file_to_other_ranks(void **state) {
  (void)state;
  int fd = -1;
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, NULL), PTQ_OK);
  const pid_t pid = holder(0); /* joins */
  ptq_lockfile_release(store, fd);
  assert_int_equal(access(lock, F_OK), 0);
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, NULL), PTQ_E_ARG);
  end(pid);
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, NULL), PTQ_OK);
  ptq_lockfile_release(store, fd);
}

static void the_last_rank_removes_the_file(void **state) {
  (void)state;
  int fd = -1;
  assert_int_equal(ptq_lockfile_take(store, 0, &fd, NULL), PTQ_OK);
  assert_int_equal(access(lock, F_OK), 0);
  ptq_lockfile_release(store, fd);
  assert_int_not_equal(access(lock, F_OK), 0);
}

static void a_place_without_room_for_a_lock_is_named(void **state) {
  (void)state;
  int fd = -1;
  ptq_err err = {0};
  assert_int_equal(ptq_lockfile_take("none/s.h5", 1, &fd, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "none/s.h5.lock"));
  assert_int_equal(fd, -1);
}

/* The word of an owner whose locks do not reach this host. */
static void write_word(int n) {
  FILE *f = fopen(lock, "w");
  assert_non_null(f);
  fprintf(f, "elsewhere process 17 beat %d\n", n);
  fclose(f);
}

static void a_run_that_beats_on_another_host_is_told(void **state) {
  (void)state;
  int fd = -1;
  ptq_err err = {0};
  write_word(0);
  const pid_t pid = fork();
  if (pid == 0) {
    for (int i = 1;; i++) {
      const struct timespec pause = {0, 200000000};
      nanosleep(&pause, NULL);
      write_word(i);
    }
  }
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, &err), PTQ_E_ARG);
  assert_int_equal(fd, -1);
  assert_non_null(strstr(err.msg, "elsewhere process 17"));
  end(pid);
}

static void a_run_that_crashed_on_another_host_is_taken_over(void **state) {
  (void)state;
  int fd = -1;
  ptq_err err = {0};
  write_word(5);
  const time_t start = time(NULL);
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, &err), PTQ_OK);
  assert_true(time(NULL) - start >= 4); /* it had time to show itself */
  ptq_lockfile_release(store, fd);
  assert_int_not_equal(access(lock, F_OK), 0);
}

/* It beats by itself, and an orderly end leaves nothing to wait for. */
static void an_owner_beats(void **state) {
  (void)state;
  int fd = -1, joined = -1;
  char first[128] = "", second[128] = "";
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, NULL), PTQ_OK);
  const pid_t rank = holder(0); /* keeps the file */
  assert_true(pread(fd, first, sizeof first - 1, 0) > 0);
  const struct timespec pause = {2, 500000000};
  nanosleep(&pause, NULL);
  assert_true(pread(fd, second, sizeof second - 1, 0) > 0);
  assert_string_not_equal(first, second);
  ptq_lockfile_release(store, fd);
  FILE *f = fopen(lock, "r");
  assert_non_null(f);
  assert_int_equal(fgetc(f), EOF);
  fclose(f);
  end(rank);
  assert_int_equal(ptq_lockfile_take(store, 0, &joined, NULL), PTQ_OK);
  ptq_lockfile_release(store, joined);
}

static void a_store_with_two_names_is_refused(void **state) {
  (void)state;
  char other[80];
  int fd = -1;
  ptq_err err = {0};
  snprintf(other, sizeof other, "%s/other.h5", dir);
  FILE *f = fopen(store, "w");
  assert_non_null(f);
  fclose(f);
  assert_int_equal(link(store, other), 0);
  assert_int_equal(ptq_lockfile_take(other, 1, &fd, &err), PTQ_E_ARG);
  assert_int_equal(fd, -1);
  assert_non_null(strstr(err.msg, other));
  assert_non_null(strstr(err.msg, "has 2 names"));
  unlink(other);
  assert_int_equal(ptq_lockfile_take(store, 1, &fd, NULL), PTQ_OK);
  ptq_lockfile_release(store, fd);
  unlink(store);
}

int main(void) {
  if (mkdtemp(dir) == NULL) return 1;
  snprintf(store, sizeof store, "%s/s.h5", dir);
  snprintf(lock, sizeof lock, "%s.lock", store);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_free_store_is_taken_and_leaves_no_file),
      cmocka_unit_test(a_second_run_is_refused_and_told_who_has_it),
      cmocka_unit_test(a_killed_holder_does_not_outlive_itself),
      cmocka_unit_test(a_surviving_rank_keeps_the_store),
      cmocka_unit_test(the_owner_leaves_the_file_to_other_ranks),
      cmocka_unit_test(the_last_rank_removes_the_file),
      cmocka_unit_test(a_run_that_beats_on_another_host_is_told),
      cmocka_unit_test(a_run_that_crashed_on_another_host_is_taken_over),
      cmocka_unit_test(an_owner_beats),
      cmocka_unit_test(a_store_with_two_names_is_refused),
      cmocka_unit_test(a_place_without_room_for_a_lock_is_named),
  };
  const int failed =
      cmocka_run_group_tests_name("store/lockfile", tests, NULL, NULL);
  unlink(lock);
  rmdir(dir);
  return failed;
}
