/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "command.h"
#include "output.h"
#include "ptq/store/merge.h"

extern const ptq_command ptq_cmd_merge;

enum { MAX_STORES = 200 };

static void print_line(void *ctx, const char *line) {
  (void)ctx;
  printf("disagree: %s\n", line);
}

static ptq_status run(const ptq_args *args, int *exit_code, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *paths[MAX_STORES];
  const char *out = ptq_args_at(args, 0);
  const int n = ptq_args_count(args) - 1;
  ptq_merge_options o = {.program_version = PTQ_VERSION,
                         .keep_first = ptq_args_has(args, "keep-first"),
                         .report = print_line};
  ptq_merge_summary sum;
  rc = ptq_args_double(args, "tolerance", 1e-3, &o.tolerance, err);
  if (rc == PTQ_OK && !(o.tolerance >= 0.0))
    rc = PTQ_FAIL(err, PTQ_E_ARG, "--tolerance %g: 0 or more", o.tolerance);
  for (int i = 0; i < n; i++) paths[i] = ptq_args_at(args, i + 1);
  if (rc == PTQ_OK) rc = ptq_output_check(out, paths, n, err);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  PTQ_TRY(ptq_store_merge(out, paths, n, &o, &sum, err));
  printf("%s: %" PRId64 " points of %d stores, %" PRId64
         " finished; in several stores: %" PRId64 " rows equal bit by bit, "
         "%" PRId64 " of other numerics within %g, %" PRId64
         " disagree (the first store's are kept)\n",
         out, sum.n_points, n, sum.n_finished, sum.n_equal, sum.n_close,
         o.tolerance, sum.n_disagree);
done:
  return rc;
}

static const ptq_option options[] = {
    {"tolerance", 0, "T",
     "allowed between rows of different CPUs, relative\n"
     "                               to max(1, |a|, |b|) (0.001)"},
    {"keep-first", 0, NULL, "where stores disagree take the first one's row"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_merge = {
    .name = "merge",
    .args = "OUT STORE STORE...",
    .summary = "join stores into a new one",
    .details =
        "Writes the points of all stores into the new store OUT, each once, "
        "finished where\none of them finished it. Where several did, their "
        "rows must be equal bit by bit, or,\ncomputed with other numerics "
        "(another CPU or OpenBLAS), agree within the tolerance;\nrows that do "
        "not are listed, and nothing is written (exit status 1).\nResults that "
        "fail their checksum are warned of and count as not done.\n\n"
        "`ptqsweep run --extend -o OUT` with a sweep file of all points goes "
        "on with it.\n\n"
        "  ptqsweep merge all.h5 node1.h5 node2.h5\n",
    .options = options,
    .min_args = 2,
    .max_args = MAX_STORES + 1,
    .run = run,
};
