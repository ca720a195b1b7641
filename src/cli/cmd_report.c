/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "output.h"
#include "ptq/analysis/report.h"
#include "ptq/num/blas.h"
#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"

/* "<store without .h5>-report", in the current directory. */
static ptq_status default_dir(const char *store, ptq_text *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *base = NULL;
  PTQ_TRY(ptq_path_base(store, &base, err));
  const size_t n = strlen(base);
  if (n > 3 && strcmp(base + n - 3, ".h5") == 0) base[n - 3] = '\0';
  ptq_text_addf(out, "%s-report", base);
  rc = out->rc;
done:
  ptq_free(base);
  return rc;
}

/* A report's files are all of three kinds: a store of that kind in its
 * directory might be taken for one of an earlier report. */
static ptq_status check_dir(const char *dir, const char *store, ptq_err *err) {
  static const char *const ends[] = {".html", ".svg", ".csv"};
  ptq_status rc = PTQ_OK;
  char *base = NULL, *inside = NULL;
  PTQ_TRY(ptq_output_check(dir, &store, 1, err));
  PTQ_TRY(ptq_path_base(store, &base, err));
  PTQ_TRY(ptq_path_join(dir, base, &inside, err));
  const char *end = strrchr(base, '.');
  for (size_t i = 0; end != NULL && i < sizeof ends / sizeof ends[0]; i++)
    if (strcmp(end, ends[i]) == 0)
      PTQ_TRY(ptq_output_check(inside, &store, 1, err));
done:
  ptq_free(base);
  ptq_free(inside);
  return rc;
}

static ptq_status report(const ptq_args *args, int *exit_code, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_err why = {0};
  ptq_text dir = {0};
  const char *store = ptq_args_at(args, 0);
  const ptq_summary_options options = {
      .formula = ptq_args_get(args, "formula"),
      .no_trees = ptq_args_has(args, "no-trees"),
      .no_comparison = ptq_args_has(args, "no-comparison")};
  bool fitted = false;
  ptq_summary *summary = calloc(1, sizeof *summary);
  if (summary == NULL) {
    rc = PTQ_FAIL(err, PTQ_E_NOMEM, "summary of '%s'", store);
    goto done;
  }
  if (options.formula != NULL) { /* a wrong formula is not an empty store */
    ptq_formula parsed;
    rc = ptq_formula_parse(options.formula, &parsed, err);
    if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
    PTQ_TRY(rc);
  }
  if (ptq_args_has(args, "output"))
    ptq_text_add(&dir, ptq_args_get(args, "output"));
  else
    PTQ_TRY(default_dir(store, &dir, err));
  rc = check_dir(ptq_text_str(&dir), store, err);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  PTQ_TRY(ptq_blas_init(err)); /* one thread: the matrices are small */
  PTQ_TRY(ptq_view_open(store, &view, err));
  PTQ_TRY(ptq_frame_from_view(view, &frame, err));
  fitted = ptq_summary_build(&frame, &options, summary, &why) == PTQ_OK;
  if (!fitted)
    ptq_log(PTQ_LOG_WARN, "no law in the report: %s%s", why.msg,
            strstr(why.msg, "--power") != NULL
                ? " (ptqsweep fit STORE --power 1)"
                : "");
  const ptq_report page = {.view = view,
                           .frame = &frame,
                           .summary = fitted ? summary : NULL,
                           .why_not = why.msg,
                           .version = PTQ_VERSION};
  PTQ_TRY(ptq_report_write(&page, ptq_text_str(&dir), err));
  if (printf("%s/index.html\n", ptq_text_str(&dir)) < 0)
    rc = PTQ_FAIL(err, PTQ_E_IO, "writing to standard output");
done:
  if (fitted) ptq_summary_release(summary);
  free(summary);
  ptq_text_release(&dir);
  ptq_frame_release(&frame);
  ptq_view_close(view);
  return rc;
}

static const ptq_option options[] = {
    {"output", 'o', "DIR", "directory; default: the store's name -report"},
    {"formula", 0, "TEXT", "the law's right side, as in fit"},
    {"no-trees", 0, NULL, "leave forest and boosting out of the comparison"},
    {"no-comparison", 0, NULL, "without the comparison of laws"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_report = {
    .name = "report",
    .args = "STORE [-o DIR]",
    .summary = "one HTML page with the law, its validation and plots",
    .details =
        "Writes DIR/index.html, a page that needs no network, every plot as\n"
        "SVG and its data as CSV. Works on a half-finished store: it shows\n"
        "what is done and says what is missing. Plots are drawn by gnuplot.\n\n"
        "  ptqsweep report quick.h5 -o quick-report\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .needs_mpi = false,
    .run = report,
};
