/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <mpi.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "ptq/store/view.h"
#include "recompute.h"

extern const ptq_command ptq_cmd_verify;

static void print_bad(void *ctx, const char *line) {
  (void)ctx;
  printf("bad: %s\n", line);
}

/* Every finished row against its checksum. */
static ptq_status check_sums(ptq_view *v, int64_t *n_bad, ptq_err *err) {
  int64_t n_checked = 0;
  const ptq_status rc =
      ptq_view_verify(v, print_bad, NULL, &n_checked, n_bad, err);
  if (rc == PTQ_OK)
    printf("%s: %" PRId64 " finished rows checked, %" PRId64 " bad\n",
           ptq_view_path(v), n_checked, *n_bad);
  return rc;
}

/* K finished points once more. */
static ptq_status redo(const ptq_args *args, ptq_view *v, int64_t *n_bad,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  long k = 0, seed = 0;
  int64_t n_done = 0;
  PTQ_TRY(ptq_args_int(args, "recompute", 0, &k, err));
  PTQ_TRY(ptq_args_int(args, "seed", (long)time(NULL) ^ (long)getpid() << 16,
                       &seed, err));
  int threads = 0;
  PTQ_TRY(ptq_args_threads(args, &threads, err));
  const ptq_recompute_options o = {.spec_path = ptq_args_get(args, "spec"),
                                   .n_points = k,
                                   .seed = (uint64_t)seed,
                                   .threads = threads};
  if (MPI_Init(NULL, NULL) != MPI_SUCCESS)
    return PTQ_FAIL(err, PTQ_E_PEER, "MPI_Init failed");
  rc = ptq_recompute(v, &o, &n_done, n_bad, err);
  MPI_Finalize();
  if (rc == PTQ_OK)
    printf("%s: %" PRId64 " points recomputed (--seed %ld), %" PRId64
           " differ\n",
           ptq_view_path(v), n_done, seed, *n_bad);
done:
  return rc;
}

/* PTQ_E_ARG: wrong use. */
static ptq_status check_options(const ptq_args *args, ptq_err *err) {
  long k = 1, seed = 0;
  int threads = 0;
  ptq_status rc = ptq_args_int(args, "recompute", 1, &k, err);
  if (rc == PTQ_OK) rc = ptq_args_threads(args, &threads, err);
  if (rc == PTQ_OK) rc = ptq_args_int(args, "seed", 0, &seed, err);
  if (rc == PTQ_OK && k < 1)
    rc = PTQ_FAIL(err, PTQ_E_ARG, "--recompute %ld: 1 or more points", k);
  return rc;
}

static ptq_status run_verify(const ptq_args *args, int *exit_code,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *v = NULL;
  int64_t n_bad = 0, n_wrong = 0;
  rc = check_options(args, err);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  PTQ_TRY(ptq_view_open(ptq_args_at(args, 0), &v, err));
  PTQ_TRY(check_sums(v, &n_bad, err));
  if (n_bad > 0) {
    printf("`ptqsweep run` with the same sweep file redoes the bad rows\n");
    *exit_code = PTQ_EXIT_FAILED;
  }
  if (ptq_args_has(args, "recompute")) PTQ_TRY(redo(args, v, &n_wrong, err));
  if (n_wrong > 0) *exit_code = PTQ_EXIT_FAILED;
done:
  ptq_view_close(v);
  return rc;
}

static const ptq_option options[] = {
    {"recompute", 0, "K", "compute K random finished points again"},
    {"seed", 0, "N", "which ones (default: others each time)"},
    {"threads", 0, "N", "as of run: threads that recompute"},
    {"spec", 0, "SPEC", "the sweep file, if it is no longer where it was"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_verify = {
    .name = "verify",
    .args = "STORE [options]",
    .summary = "check every checksum of a store, recompute points",
    .details =
        "Recomputes the checksum of every finished point (with its layers and "
        "windows),\nmodel and spectrum from the bytes in the file, and those "
        "of attempts, log, index and\nall bytes outside the datasets, and "
        "names what differs. Exit status 1 if anything\ndoes. Works while a "
        "run is writing. Stores from before schema 4 have checksums of\n"
        "results only.\n\n"
        "--recompute K quantizes and evaluates K finished points again and "
        "compares every\nnumber of theirs, with layers and windows, bit for "
        "bit. Needs the sweep file, its\nmodels, texts and tokens.\n\n"
        "  ptqsweep verify quick.h5 --recompute 3\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_verify,
};
