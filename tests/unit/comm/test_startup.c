/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ranks that die or are stopped while a run gets ready: the program runs itself
 * under `mpirun --enable-recovery`, where nothing else ends the others. Ranks 2
 * and 3 may be as if on another host: they do not look for the others.
 *
 *   test_startup                          the test
 *   test_startup --rank STAGE RANK SIGNAL FAR   a rank, under mpirun
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ptq/comm/finish.h"
#include "ptq/comm/meet.h"
#include "ptq/comm/startup.h"

static const char *self;

/* A rank that nothing ended within this time is a failure of the test. */
enum { LIMIT_S = 90, SILENCE_S = 2 };

static int run_rank(char **argv) {
  const char *text = getenv("OMPI_COMM_WORLD_RANK");
  const int rank = text != NULL ? atoi(text) : -1;
  const int victim = atoi(argv[3]), signal_number = atoi(argv[4]);
  int v = 0;
  if (strcmp(argv[5], "far") == 0 &&
      setenv("OMPI_COMM_WORLD_LOCAL_SIZE", rank < 2 ? "2" : "1", 1) != 0)
    return 1;
  (void)alarm(LIMIT_S);
  ptq_startup_begin(SILENCE_S);
  if (strcmp(argv[2], "init") == 0 && rank == victim) raise(signal_number);
  if (MPI_Init(NULL, NULL) != MPI_SUCCESS) return 1;
  ptq_startup_mpi_runs();
  for (int i = 0; i < 3; i++) {
    if (strcmp(argv[2], "meet") == 0 && i == 1 && rank == victim)
      raise(signal_number);
    if (ptq_meet_allreduce(MPI_COMM_WORLD, &v, 1, MPI_INT, MPI_MAX, "a test",
                           NULL) != PTQ_OK)
      return 1;
  }
  ptq_startup_end();
  if (strcmp(argv[2], "end") == 0 && rank == victim) raise(signal_number);
  ptq_finish_begin(SILENCE_S, 0);
  MPI_Finalize();
  ptq_finish_end();
  return 0;
}

/* Seconds until mpirun ended; it is killed after LIMIT_S. */
static double run(const char *stage, int victim, int signal_number,
                  const char *where) {
  char rank[16], number[16];
  struct timespec start, end;
  int status = 0;
  (void)snprintf(rank, sizeof rank, "%d", victim);
  (void)snprintf(number, sizeof number, "%d", signal_number);
  (void)clock_gettime(CLOCK_MONOTONIC, &start);
  const pid_t pid = fork();
  if (pid == 0) {
    const int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && getenv("PTQ_TEST_LOUD") == NULL; fd++)
      if (dup2(null, fd) < 0) _exit(127);
    (void)alarm(LIMIT_S); /* which exec keeps */
    execlp("mpirun", "mpirun", "--allow-run-as-root", "--oversubscribe",
           "--bind-to", "none", "--enable-recovery", "-n", "4", self, "--rank",
           stage, rank, number, where, (char *)NULL);
    _exit(127);
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  (void)clock_gettime(CLOCK_MONOTONIC, &end);
  if (WIFEXITED(status)) assert_int_not_equal(WEXITSTATUS(status), 127);
  const double took = (double)(end.tv_sec - start.tv_sec) +
                      1e-9 * (double)(end.tv_nsec - start.tv_nsec);
  printf("%s, rank %d, signal %d, %s: %.1f s\n", stage, victim, signal_number,
         where, took);
  return took;
}

static void a_rank_that_dies_ends_all(void **state) {
  (void)state;
  assert_true(run("init", 3, SIGKILL, "near") < LIMIT_S / 2);
  assert_true(run("meet", 2, SIGKILL, "near") < LIMIT_S / 2);
}

static void ranks_of_other_hosts_are_told(void **state) {
  (void)state;
  assert_true(run("meet", 1, SIGKILL, "far") < LIMIT_S / 2);
  assert_true(run("meet", 0, SIGKILL, "far") < LIMIT_S / 2);
  assert_true(run("init", 1, SIGKILL, "far") < LIMIT_S / 2);
}

static void a_rank_that_is_stopped_ends_all(void **state) {
  (void)state;
  assert_true(run("init", 0, SIGSTOP, "near") < LIMIT_S / 2);
  assert_true(run("meet", 1, SIGSTOP, "far") < LIMIT_S / 2);
}

static void the_end_waits_for_nobody(void **state) {
  (void)state;
  assert_true(run("end", 2, SIGKILL, "near") < LIMIT_S / 2);
  assert_true(run("end", 0, SIGSTOP, "near") < LIMIT_S / 2);
  assert_true(run("none", 0, 0, "near") < LIMIT_S / 2);
}

int main(int argc, char **argv) {
  if (argc == 6 && strcmp(argv[1], "--rank") == 0) return run_rank(argv);
  self = argv[0];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_rank_that_dies_ends_all),
      cmocka_unit_test(ranks_of_other_hosts_are_told),
      cmocka_unit_test(a_rank_that_is_stopped_ends_all),
      cmocka_unit_test(the_end_waits_for_nobody),
  };
  return cmocka_run_group_tests_name("comm/startup", tests, NULL, NULL);
}
