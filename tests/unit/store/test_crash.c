/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writers that kill themselves. The program runs itself under mpirun: three
 * ranks create or go on with a store and write it, and each ends itself with
 * SIGKILL at a random moment of the first second, creation included. After
 * every round the file is absent or opens, nothing marked done is bad, and
 * nothing that was done is lost.
 *
 *   test_crash             the test
 *   test_crash --write F   one writing rank (under mpirun)
 *   test_crash --make F    a small finished store, for other tests
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/rng.h"
#include "ptq/comm/startup.h"
#include "store_fixture.h"

enum { N = 200, ROUNDS = 20, RANKS = 3 };

static const char *self;
static char dir[4200], path[4300]; /* absolute: mpirun wants it */

static void sleep_us(uint64_t us) {
  const struct timespec t = {(time_t)(us / 1000000),
                             (long)(us % 1000000) * 1000};
  nanosleep(&t, NULL);
}

/* A child of this rank shoots it after `us`: at any instruction, also inside
 * a system call of HDF5 or MPI. */
static void die_after(uint64_t us) {
  const pid_t victim = getpid();
  if (fork() != 0) return;
  for (int fd = 3; fd < 1024; fd++) close(fd);
  sleep_us(us);
  if (getppid() == victim) kill(victim, SIGKILL);
  _exit(0);
}

static int write_rank(int argc, char **argv, const char *store) {
  const char *fuse = getenv("PTQ_TEST_FUSE_US");
  ptq_rng rng;
  ptq_store *st = NULL;
  ptq_err err = {0};
  int rank = 0, size = 0, state[N], subject_state[FX_SUBJECTS];
  int64_t attempts[N], bad = 0;
  fixture fx = fixture_create(N);
  ptq_startup_begin(30.0); /* ends an mpirun that outlives its ranks */
  MPI_Init(&argc, &argv);
  ptq_startup_mpi_runs();
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  ptq_rng_init(&rng, (uint64_t)getpid() * 2654435761U + (uint64_t)time(NULL));
  if (fuse != NULL)
    die_after(ptq_rng_below(&rng, strtoull(fuse, NULL, 10) + 1));
  if (ptq_store_open(MPI_COMM_WORLD, store, fixture_layout(&fx, N), &st,
                     &err) != PTQ_OK ||
      ptq_store_states(st, state, attempts, subject_state, &bad, &err) !=
          PTQ_OK) {
    fprintf(stderr, "rank %d: %s\n", rank, err.msg);
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  /* Bad rows after a kill would mean a wrong order of writes. */
  if (bad != 0) MPI_Abort(MPI_COMM_WORLD, 3);
  for (int64_t s = rank; s < FX_SUBJECTS; s += size)
    if (subject_state[s] != PTQ_STATE_DONE &&
        fixture_put_subject(&fx, st, s, &err) != PTQ_OK)
      MPI_Abort(MPI_COMM_WORLD, 4);
  for (int64_t p = rank; p < N; p += size) {
    if (state[p] == PTQ_STATE_DONE) continue;
    if (ptq_store_begin(st, &p, 1, &err) != PTQ_OK ||
        fixture_put_point(&fx, st, p, &err) != PTQ_OK)
      MPI_Abort(MPI_COMM_WORLD, 5);
    if (fuse != NULL) sleep_us(ptq_rng_below(&rng, 8000));
  }
  const ptq_status rc = ptq_store_close(st, &err);
  fixture_free(&fx);
  ptq_store_shutdown();
  ptq_startup_end();
  MPI_Finalize();
  return rc == PTQ_OK ? 0 : 6;
}

/* Run RANKS writers to their end; their exit status, -1 when killed. */
static int run_writers(const char *fuse_us) {
  const pid_t pid = fork();
  if (pid == 0) {
    const char *mpirun = getenv("MPIEXEC");
    if (mpirun == NULL) mpirun = "mpirun";
    if (fuse_us != NULL) setenv("PTQ_TEST_FUSE_US", fuse_us, 1);
    /* What killed ranks leave behind stays in our own directory. */
    setenv("OMPI_MCA_btl_vader_backing_directory", dir, 1);
    setenv("OMPI_MCA_orte_tmpdir_base", dir, 1);
    const int null = open("/dev/null", O_WRONLY);
    if (null >= 0 && fuse_us != NULL) {
      dup2(null, STDERR_FILENO); /* mpirun on its killed ranks, at length */
      dup2(null, STDOUT_FILENO);
    }
    execlp(mpirun, mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "3",
           self, "--write", path, (char *)NULL);
    _exit(127);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void say(void *ctx, const char *line) {
  (void)ctx;
  fprintf(stderr, "%s\n", line);
}

/* Every row marked done is right, and those done before still are. */
static int check_file(int before[N]) {
  fixture fx = fixture_create(N);
  ptq_view *v = NULL;
  ptq_err err = {0};
  const int *state, *models;
  int64_t n, m, checked = 0, bad = -1;
  int done = 0;
  if (ptq_view_open(path, &v, &err) != PTQ_OK) fail_msg("%s", err.msg);
  assert_int_equal(ptq_view_verify(v, say, NULL, &checked, &bad, &err), PTQ_OK);
  assert_int_equal(bad, 0);
  assert_int_equal(ptq_view_states(v, &state, &n, &models, &m, &err), PTQ_OK);
  assert_int_equal(n, N);
  for (int64_t p = 0; p < N; p++) {
    if (before[p] == PTQ_STATE_DONE && state[p] != PTQ_STATE_DONE)
      fail_msg("point %d was done, now %s", (int)p, ptq_state_name(state[p]));
    if (state[p] == PTQ_STATE_DONE && !fixture_point_is_right(v, &fx, p))
      fail_msg("point %d is marked done and wrong", (int)p);
    done += state[p] == PTQ_STATE_DONE;
    before[p] = state[p];
  }
  ptq_view_close(v);
  fixture_free(&fx);
  return done;
}

static void no_kill_loses_a_file_or_a_row(void **unused) {
  (void)unused;
  /* From the start of creation up to well into the writing. */
  static const char *const fuses[] = {"15000", "250000", "1000000"};
  int before[N] = {0}, created = 0, grew = 0, done = 0;
  for (int round = 0; round < ROUNDS; round++) {
    const int status = run_writers(fuses[round % 3]);
    if (status >= 2 && status <= 6) fail_msg("writer failed: %d", status);
    if (access(path, F_OK) != 0) continue;
    created++;
    const int now = check_file(before);
    grew += now > done;
    done = now;
    if (done == N) { /* start again, creation included */
      unlink(path);
      memset(before, 0, sizeof before);
      done = 0;
    }
  }
  printf("%d rounds, %d with a file, %d with new results\n", ROUNDS, created,
         grew);
  /* The test has seen something. */
  assert_true(created > 0);
  assert_true(grew > 0);
  assert_int_equal(run_writers(NULL), 0);
  assert_int_equal(check_file(before), N);
}

/* A finished store in one process, for tests of its readers. */
static int make_store(int argc, char **argv, const char *store) {
  enum { SMALL = 6 };
  ptq_err err = {0};
  ptq_store *st = NULL;
  fixture fx = fixture_create(SMALL);
  MPI_Init(&argc, &argv);
  ptq_status rc = ptq_store_open(MPI_COMM_WORLD, store,
                                 fixture_layout(&fx, SMALL), &st, &err);
  for (int64_t p = 0; rc == PTQ_OK && p < 4; p++) {
    rc = ptq_store_begin(st, &p, 1, &err);
    if (rc == PTQ_OK) rc = fixture_put_point(&fx, st, p, &err);
  }
  for (int64_t s = 0; rc == PTQ_OK && s < FX_SUBJECTS; s++)
    rc = fixture_put_subject(&fx, st, s, &err);
  if (rc == PTQ_OK)
    rc = ptq_store_mark(st, 4, PTQ_STATE_FAILED, "NaN in \"blocks.0\", block 0",
                        &err);
  if (rc == PTQ_OK) rc = ptq_store_log(st, "made", &err);
  if (rc == PTQ_OK) rc = ptq_store_close(st, &err);
  if (rc != PTQ_OK) fprintf(stderr, "%s\n", err.msg);
  fixture_free(&fx);
  ptq_store_shutdown();
  MPI_Finalize();
  return rc == PTQ_OK ? 0 : 1;
}

/* The writers' leftovers go with the directory. */
static void remove_tree(const char *name) {
  const pid_t pid = fork();
  if (pid == 0) {
    execlp("rm", "rm", "-rf", "--", name, (char *)NULL);
    _exit(127);
  }
  waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--write") == 0)
    return write_rank(argc, argv, argv[2]);
  if (argc == 3 && strcmp(argv[1], "--make") == 0)
    return make_store(argc, argv, argv[2]);
  self = argv[0];
  char here[4096];
  if (getcwd(here, sizeof here) == NULL) return 1;
  snprintf(dir, sizeof dir, "%s/ptqcrash-XXXXXX", here);
  if (mkdtemp(dir) == NULL) return 1;
  snprintf(path, sizeof path, "%s/s.h5", dir);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_kill_loses_a_file_or_a_row),
  };
  const int failed =
      cmocka_run_group_tests_name("store/crash", tests, NULL, NULL);
  remove_tree(dir);
  return failed;
}
