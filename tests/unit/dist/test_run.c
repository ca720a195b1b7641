/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 2 4
 *
 * Sweeps of fake items. With arguments it is the program that
 * tests/scripts/test_dist_death.sh kills ranks of:
 *
 *   test_run DIR BATCHES WIDTH BLOCKS BLOCK_MS [KILLER]
 *
 * runs them and writes DIR/rank-<r>: its process number and MPI's number of
 * the job, then a line for each result. The point KILLER, unless -1, kills
 * its rank. And
 *
 *   test_run --empty ITEMS
 *
 * measures how many empty items a second go through rank 0.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <mpi.h>

#include "ending.h"
#include "fake.h"
#include "signals.h"

#include "ptq/comm/agree.h"
#include "ptq/comm/meet.h"

/* PTQ_FAKE_DEATH="RANK MOMENT" kills a rank "before" or "after" its first word,
 * or in its first look for one ("looking"); rank 0 looks late, when what was
 * said is of a dead rank. MPI's profiling interface is where that can be done:
 * these stand before the library's own. */
static const char *dies_at = "";
static bool hears_late;

int MPI_Isend(const void *data, int n, MPI_Datatype type, int to, int tag,
              MPI_Comm comm, MPI_Request *request) {
  int done = 0;
  if (strcmp(dies_at, "before") == 0) raise(SIGKILL);
  const int rc = PMPI_Isend(data, n, type, to, tag, comm, request);
  if (strcmp(dies_at, "after") != 0) return rc;
  while (!done && PMPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS)
    continue;
  fake_sleep(0.2); /* it leaves */
  raise(SIGKILL);
  return rc;
}

int MPI_Iprobe(int source, int tag, MPI_Comm comm, int *there, MPI_Status *s) {
  if (strcmp(dies_at, "looking") == 0) raise(SIGKILL);
  if (hears_late) fake_sleep(1.0);
  hears_late = false;
  return PMPI_Iprobe(source, tag, comm, there, s);
}

static const ptq_dist_options quick = {.heartbeat_s = 0.2,
                                       .silence_min_s = 20.0};

static ptq_status run_fake(fake *f, const ptq_dist_options *options,
                           ptq_dist_summary *out, ptq_err *err) {
  const ptq_dist_ops ops = fake_ops(f);
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  ptq_signals_forget();
  const ptq_status rc = ptq_dist_run(
      MPI_COMM_WORLD, rank == 0 ? &f->plan : NULL, &ops, options, out, err);
  ptq_ending_free(out->ending);
  out->ending = NULL;
  assert_int_equal(out->ranks_lost, 0);
  return rc;
}

/** Sum over ranks of what each did. */
static void add_up(int *counts) {
  MPI_Allreduce(MPI_IN_PLACE, counts, FAKE_MAX, MPI_INT, MPI_SUM,
                MPI_COMM_WORLD);
}

static void start(fake *f, int64_t batches, int64_t width, int64_t subjects,
                  double longest_s) {
  ptq_err err = {0};
  if (fake_init(f, batches, width, subjects, longest_s, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  MPI_Barrier(MPI_COMM_WORLD);
}

static void every_item_is_done_once(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  start(&f, 40, 3, 5, 1.0);
  f.blocks = 2;
  f.block_s = 0.002;
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  add_up(f.done);
  add_up(f.subjects_done);
  for (int i = 0; i < 120; i++) assert_int_equal(f.done[i], 1);
  for (int i = 40; i < 45; i++) assert_int_equal(f.subjects_done[i], 1);
  assert_int_equal(sum.points_done, 120); /* on every rank */
  assert_int_equal(sum.points_failed, 0);
  assert_int_equal(sum.items_done, 45);
  assert_false(sum.stopped);
  assert_true(sum.seconds > 0.0);
  fake_release(&f);
}

static void rank_0_works_only_when_alone(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  start(&f, 30, 1, 0, 1.0);
  f.blocks = 1;
  f.block_s = 0.02;
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  if (size == 1)
    assert_int_equal(f.n_items, 30);
  else if (rank == 0)
    assert_int_equal(f.n_items, 0);
  else
    assert_true(f.n_items > 0);
  fake_release(&f);
}

static void the_longest_items_start_first(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  start(&f, 60, 1, 4, 1.0);
  /* Backwards: the scheduler sorts by itself. */
  for (int64_t i = 0; i < f.plan.n_items / 2; i++) {
    const ptq_item swap = f.plan.items[i];
    f.plan.items[i] = f.plan.items[f.plan.n_items - 1 - i];
    f.plan.items[f.plan.n_items - 1 - i] = swap;
  }
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  for (int i = 1; i < f.n_items; i++)
    assert_true(f.seconds[i] < f.seconds[i - 1]);
  fake_release(&f);
}

static void a_failed_point_is_counted_and_the_rest_goes_on(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  start(&f, 10, 4, 0, 1.0);
  f.fails = 17;
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  assert_int_equal(sum.points_done, 39);
  assert_int_equal(sum.points_failed, 1);
  assert_false(sum.stopped);
  fake_release(&f);
}

static void a_batch_that_cannot_run_gives_up_its_points_only(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  start(&f, 10, 4, 2, 1.0);
  f.unreadable = 17; /* rows 16 to 19 share a batch */
  f.bad_subject = 11;
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  assert_int_equal(sum.points_done, 36);
  assert_int_equal(sum.points_failed, 4);
  assert_int_equal(sum.subjects_failed, 1);
  add_up(f.done);
  for (int i = 0; i < 40; i++) {
    const int given_up = i >= 16 && i < 20;
    assert_int_equal(f.done[i], !given_up);
    if (rank == 0) assert_int_equal(f.given_up[i], given_up);
  }
  if (rank == 0) {
    assert_int_equal(f.subjects_given_up, 1);
    assert_true(strcmp(f.why, "no text") == 0 ||
                strcmp(f.why, "weights are torn") == 0);
  }
  fake_release(&f);
}

static void a_batch_without_memory_is_done_point_by_point(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  start(&f, 4, 5, 0, 1.0);
  f.nomem = 7;
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  assert_int_equal(sum.points_done, 20);
  assert_int_equal(sum.items_done, 3 + 5);
  add_up(f.done);
  for (int i = 0; i < 20; i++) assert_int_equal(f.done[i], 1);
  fake_release(&f);
}

static void a_full_disk_ends_the_run_on_every_rank(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  start(&f, 200, 1, 0, 1.0);
  f.blocks = 2;
  f.block_s = 0.005;
  f.sink_refuses = 190; /* an early one */
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "store 'x.h5': no space left"));
  assert_true(sum.points_done < 100);
  add_up(f.done);
  int done = 0;
  for (int i = 0; i < 200; i++) done += f.done[i];
  assert_int_equal(sum.points_done, done);
  fake_release(&f);
}

static void a_signal_on_any_rank_stops_all_in_order(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  start(&f, 200, 1, 0, 1.0);
  f.blocks = 10;
  f.block_s = 0.01;
  f.raise_at = rank == size - 1 ? 2 : 0;
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  assert_true(sum.stopped);
  assert_true(sum.points_done < 100);
  assert_int_equal(sum.points_failed, 0);
  add_up(f.done);
  int done = 0;
  for (int i = 0; i < 200; i++) done += f.done[i];
  assert_int_equal(sum.points_done, done); /* what ran was dropped */
  fake_release(&f);
}

static void grace_lets_running_items_finish(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  ptq_dist_options options = quick;
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  options.grace_s = 30.0;
  start(&f, 50, 1, 0, 1.0);
  f.blocks = 10;
  f.block_s = 0.01;
  f.raise_at = rank == size - 1 ? 1 : 0;
  assert_int_equal(run_fake(&f, &options, &sum, &err), PTQ_OK);
  assert_true(sum.stopped);
  assert_true(sum.points_done >= 1);
  int started = f.n_items, done = 0;
  MPI_Allreduce(MPI_IN_PLACE, &started, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  add_up(f.done);
  for (int i = 0; i < 50; i++) done += f.done[i];
  assert_int_equal(done, started);
  fake_release(&f);
}

/* Predicted 1 s to 0.01 s, and as long in truth; 0.45 s to go: only items
 * that are predicted to fit may start, and they all finish. */
static void near_the_time_limit_the_largest_that_fits_starts(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  ptq_dist_options options = quick;
  int started, done = 0;
  options.time_limit_s = 0.45;
  start(&f, 100, 1, 0, 1.0);
  f.blocks = 1;
  f.block_s = 0.05; /* faster than predicted: the correction learns it */
  const double before = MPI_Wtime();
  assert_int_equal(run_fake(&f, &options, &sum, &err), PTQ_OK);
  assert_true(MPI_Wtime() - before < 5.0);
  assert_true(sum.stopped);
  if (f.n_items > 0) assert_true(f.seconds[0] <= 0.45);
  started = f.n_items;
  MPI_Allreduce(MPI_IN_PLACE, &started, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  assert_true(started > 1);
  add_up(f.done);
  for (int i = 0; i < 100; i++) done += f.done[i];
  assert_int_equal(sum.points_done, done);
  fake_release(&f);
}

static void what_runs_at_the_time_limit_is_dropped(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  ptq_dist_options options = quick;
  options.time_limit_s = 0.3;
  start(&f, 8, 1, 0, 0.01); /* far too optimistic */
  f.blocks = 1000;
  f.block_s = 0.01;
  const double before = MPI_Wtime();
  assert_int_equal(run_fake(&f, &options, &sum, &err), PTQ_OK);
  assert_true(MPI_Wtime() - before < 5.0);
  assert_true(sum.stopped);
  assert_int_equal(sum.points_done, 0);
  fake_release(&f);
}

static void an_empty_plan_ends_at_once(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  start(&f, 0, 1, 0, 1.0);
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_OK);
  assert_int_equal(sum.items_done, 0);
  assert_false(sum.stopped);
  fake_release(&f);
}

static void a_plan_that_lies_is_refused_on_every_rank(void **state) {
  (void)state;
  static fake f;
  ptq_dist_summary sum;
  ptq_err err = {0};
  start(&f, 3, 2, 0, 1.0);
  f.plan.items[1].n = 7;
  assert_int_equal(run_fake(&f, &quick, &sum, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "item 1 of the plan"));
  fake_release(&f);
}

/** The program of the death test; see the top of the file. */
static double cpu_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run_for_script(char **argv) {
  static fake f;
  ptq_dist_summary sum = {0};
  ptq_err err = {0};
  char path[512];
  int rank, code = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (fake_init(&f, atol(argv[2]), atol(argv[3]), 3, 1.0, &err) != PTQ_OK)
    return 1;
  f.blocks = atoi(argv[4]);
  f.block_s = atof(argv[5]) / 1e3;
  if (argv[6] != NULL) f.kills = atol(argv[6]);
  snprintf(path, sizeof path, "%s/rank-%d", argv[1], rank);
  f.out = fopen(path, "a");
  if (f.out == NULL) return 1;
  const char *job = getenv("PMIX_NAMESPACE");
  fprintf(f.out, "job %s\npid %ld\n", job != NULL ? job : "0", (long)getpid());
  fflush(f.out);
  const char *patience = getenv("PTQ_FAKE_PATIENCE");
  const ptq_dist_options options = {
      .heartbeat_s = 0.2,
      .silence_factor = 4.0,
      .silence_min_s = patience != NULL ? atof(patience) : 2.0,
      .max_attempts = 3,
      .progress = true};
  const ptq_dist_ops ops = fake_ops(&f);
  const char *death = getenv("PTQ_FAKE_DEATH");
  if (death != NULL && atoi(death) == rank)
    dies_at = strchr(death, ' ') != NULL ? strchr(death, ' ') + 1 : "";
  hears_late = death != NULL && rank == 0;
  const double cpu = cpu_seconds();
  ptq_signals_forget();
  if (ptq_dist_run(MPI_COMM_WORLD, &f.plan, &ops, &options, &sum, &err) !=
      PTQ_OK) {
    fprintf(stderr, "rank %d: %s\n", rank, err.msg);
    code = 1;
  } else if (sum.stopped) {
    code = 75;
  }
  if (rank == 0) {
    fprintf(stderr,
            "done %lld failed %lld items %lld lost %lld in %.3f s: %.0f "
            "items/s, rank 0 used %.2f s of CPU\n",
            (long long)sum.points_done, (long long)sum.points_failed,
            (long long)sum.items_done, (long long)sum.ranks_lost, sum.seconds,
            (double)sum.items_done / sum.seconds, cpu_seconds() - cpu);
  }
  fclose(f.out);
  fake_release(&f);
  return ptq_dist_finalize(MPI_COMM_WORLD, &sum, code);
}

/** No work at all: what remains is the scheduler's own time. */
static ptq_status empty_work(void *ctx, int64_t subject, const int64_t *points,
                             int64_t n, const ptq_sink *sink, ptq_err *err) {
  (void)ctx;
  (void)subject;
  (void)points;
  (void)n;
  (void)sink;
  (void)err;
  return PTQ_OK;
}

static int run_empty(char **argv) {
  static fake f;
  ptq_dist_summary sum = {0};
  ptq_err err = {0};
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (fake_init(&f, 0, 1, atol(argv[2]), 1.0, &err) != PTQ_OK) return 1;
  ptq_dist_ops ops = fake_ops(&f);
  ops.work = empty_work;
  const double cpu = cpu_seconds();
  const ptq_status rc =
      ptq_dist_run(MPI_COMM_WORLD, &f.plan, &ops, &quick, &sum, &err);
  if (rank == 0)
    printf("%lld items in %.3f s: %.0f items/s; %.0f a second of rank 0's own "
           "time\n",
           (long long)sum.items_done, sum.seconds,
           (double)sum.items_done / sum.seconds,
           (double)sum.items_done / (cpu_seconds() - cpu));
  fake_release(&f);
  return ptq_dist_finalize(MPI_COMM_WORLD, &sum, rc != PTQ_OK);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_item_is_done_once),
      cmocka_unit_test(rank_0_works_only_when_alone),
      cmocka_unit_test(the_longest_items_start_first),
      cmocka_unit_test(a_failed_point_is_counted_and_the_rest_goes_on),
      cmocka_unit_test(a_batch_that_cannot_run_gives_up_its_points_only),
      cmocka_unit_test(a_batch_without_memory_is_done_point_by_point),
      cmocka_unit_test(a_full_disk_ends_the_run_on_every_rank),
      cmocka_unit_test(a_signal_on_any_rank_stops_all_in_order),
      cmocka_unit_test(grace_lets_running_items_finish),
      cmocka_unit_test(near_the_time_limit_the_largest_that_fits_starts),
      cmocka_unit_test(what_runs_at_the_time_limit_is_dropped),
      cmocka_unit_test(an_empty_plan_ends_at_once),
      cmocka_unit_test(a_plan_that_lies_is_refused_on_every_rank),
  };
  MPI_Init(&argc, &argv);
  if (argc == 3 && strcmp(argv[1], "--empty") == 0) return run_empty(argv);
  if (argc > 1) return run_for_script(argv);
  int failed = cmocka_run_group_tests_name("dist/run", tests, NULL, NULL);
  /* One rank's failure is everyone's. */
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return failed;
}
