/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "command.h"
#include "ptq/store/view.h"

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

static ptq_status run_verify(const ptq_args *args, int *exit_code,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *v = NULL;
  int64_t n_bad = 0;
  PTQ_TRY(ptq_view_open(ptq_args_at(args, 0), &v, err));
  PTQ_TRY(check_sums(v, &n_bad, err));
  if (n_bad > 0) {
    printf("`ptqsweep run` with the same sweep file redoes the bad rows\n");
    *exit_code = PTQ_EXIT_FAILED;
  }
done:
  ptq_view_close(v);
  return rc;
}

const ptq_command ptq_cmd_verify = {
    .name = "verify",
    .args = "STORE",
    .summary = "check every checksum of a store",
    .details =
        "Recomputes the checksum of every finished point (with its layers and "
        "windows),\nmodel and spectrum from the bytes in the file and names "
        "those that differ. Exit\nstatus 1 if there are any. Works while a "
        "run is writing.\n\n"
        "  ptqsweep verify quick.h5\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_verify,
};
