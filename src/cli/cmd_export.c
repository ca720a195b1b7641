/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "export_table.h"
#include "output.h"
#include "ptq/base/text.h"

extern const ptq_command ptq_cmd_export;

static ptq_status parse_format(const char *name, ptq_export_format *out,
                               ptq_err *err) {
  *out = PTQ_EXPORT_CSV;
  if (name == NULL || strcmp(name, "csv") == 0) return PTQ_OK;
  if (strcmp(name, "jsonl") == 0) {
    *out = PTQ_EXPORT_JSONL;
    return PTQ_OK;
  }
  if (strcmp(name, "netcdf") == 0) {
    *out = PTQ_EXPORT_NETCDF;
    return PTQ_OK;
  }
  return PTQ_FAIL(err, PTQ_E_ARG, "unknown format '%s'; csv, jsonl or netcdf",
                  name);
}

/* A pipe or a device is written into: renaming a file over it would replace
 * it. */
static ptq_status export_device(ptq_view *v, const char *table,
                                ptq_export_format format, bool stable,
                                const char *path, ptq_err *err) {
  FILE *out = fopen(path, "w");
  if (out == NULL)
    return PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s", path,
                    strerror(errno));
  ptq_status rc = ptq_export_table(v, table, format, stable, out, err);
  if (fclose(out) != 0 && rc == PTQ_OK)
    rc =
        PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s", path, strerror(errno));
  return rc;
}

static bool is_special(const char *path) {
  struct stat s;
  return stat(path, &s) == 0 && !S_ISREG(s.st_mode);
}

/* Whole under its name, or not at all. */
static ptq_status export_file(ptq_view *v, const char *table,
                              ptq_export_format format, bool stable,
                              const char *path, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text temporary = {0};
  FILE *out = NULL;
  ptq_text_addf(&temporary, "%s.new-%ld", path, (long)getpid());
  if (temporary.rc != PTQ_OK)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "'%s': its name", path));
  if (format == PTQ_EXPORT_NETCDF) {
    rc = ptq_export_netcdf(v, table, stable, temporary.buf, err);
  } else {
    out = fopen(temporary.buf, "w");
    if (out == NULL)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s", path,
                       strerror(errno)));
    rc = ptq_export_table(v, table, format, stable, out, err);
    if (fclose(out) != 0 && rc == PTQ_OK)
      rc = PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s", path,
                    strerror(errno));
  }
  if (rc == PTQ_OK && rename(temporary.buf, path) != 0)
    rc =
        PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s", path, strerror(errno));
  if (rc != PTQ_OK) (void)unlink(temporary.buf);
done:
  ptq_text_release(&temporary);
  return rc;
}

static ptq_status run_export(const ptq_args *args, int *exit_code,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *v = NULL;
  ptq_export_format format = PTQ_EXPORT_CSV;
  const char *table = ptq_args_get(args, "table");
  const char *output = ptq_args_get(args, "output");
  const char *store = ptq_args_at(args, 0);
  const bool stable = ptq_args_has(args, "stable");
  rc = ptq_export_check_name(table, err);
  if (rc == PTQ_OK)
    rc = parse_format(ptq_args_get(args, "format"), &format, err);
  if (rc == PTQ_OK && format == PTQ_EXPORT_NETCDF &&
      (output == NULL || is_special(output)))
    rc = PTQ_FAIL(err, PTQ_E_ARG, "netcdf needs a file: -o FILE");
  if (rc == PTQ_OK) rc = ptq_output_check_file(output, &store, 1, err);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  PTQ_TRY(ptq_view_open(store, &v, err));
  if (output != NULL && is_special(output))
    PTQ_TRY(export_device(v, table, format, stable, output, err));
  else if (output != NULL)
    PTQ_TRY(export_file(v, table, format, stable, output, err));
  else
    PTQ_TRY(ptq_export_table(v, table, format, stable, stdout, err));
done:
  ptq_view_close(v);
  return rc;
}

static const ptq_option options[] = {
    {"table", 't', "TABLE",
     "points, layers, windows, spectra, models, answers,\n"
     "                               directions, landscape, "
     "direction_layers, ritz,\n"
     "                               sensitivity or basins"},
    {"format", 'f', "FORMAT", "csv (default), jsonl or netcdf"},
    {"output", 'o', "FILE", "write FILE instead of standard output"},
    {"stable", 0, NULL,
     "results only: without attempts, seconds, rank, host and message"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_export = {
    .name = "export",
    .args = "STORE --table TABLE [options]",
    .summary = "write a table of a store as CSV, JSON lines or netCDF",
    .details =
        "Columns have the names they have in the store. Points come one a row "
        "in the\norder of the grid, with their state and attempts; layers, "
        "windows and answers\nrepeat the key, model, dtype, method and group "
        "of their point; answers have the\nunquantized model's beside them, "
        "and the right one. Of a landscape\n(measure.landscape), directions "
        "come one a "
        "row, and their losses (landscape),\nlayers and the Hessian's Ritz "
        "values "
        "(ritz) one a row behind what the\ndirection is; sensitivity has what "
        "each layer costs beside what is cheaper to\nknow of it, and basins "
        "how wide, high and steep each profile is. What is not\nfinished is an "
        "empty field (CSV) or null (JSON), NaN in netCDF-4 (HDF5 with\n"
        "dimension scales, text as strings, units as attributes). With "
        "--stable two runs\nof one sweep can be compared with cmp. Works while "
        "a run is writing.\n\n"
        "  ptqsweep export quick.h5 --table points -o points.csv\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_export,
};
