/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file export_table.h  Tables of a store as CSV or JSON lines. */
#ifndef PTQ_CLI_EXPORT_TABLE_H
#define PTQ_CLI_EXPORT_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "ptq/store/view.h"

typedef enum ptq_export_format {
  PTQ_EXPORT_CSV,   /* RFC 4180, header line, NaN as an empty field */
  PTQ_EXPORT_JSONL, /* an object a line, NaN as null */
  PTQ_EXPORT_NETCDF /* netCDF-4, a variable a column */
} ptq_export_format;

/** What can be exported, in the order of --help. */
#define PTQ_EXPORT_NAMES                                            \
  "points, layers, windows, spectra, models, answers, directions, " \
  "landscape, direction_layers, ritz, sensitivity, basins"
/** PTQ_E_ARG: `table` is none of them, or NULL. */
ptq_status ptq_export_check_name(const char *table, ptq_err *err);

/**
 * Write a table: points and models whole and in grid order, layers, windows
 * and spectra of what is finished.
 * @param table   one of PTQ_EXPORT_NAMES
 * @param stable  leave out what is not a result (attempts, seconds, rank,
 *                host, message), so that equal results are equal bytes
 * @return PTQ_OK, PTQ_E_ARG (no such table), PTQ_E_IO (`out`), or what reading
 *         the store gives
 */
ptq_status ptq_export_table(ptq_view *v, const char *table,
                            ptq_export_format format, bool stable, FILE *out,
                            ptq_err *err);
/** The same as a netCDF-4 file `path`. */
ptq_status ptq_export_netcdf(ptq_view *v, const char *table, bool stable,
                             const char *path, ptq_err *err);

#endif /* PTQ_CLI_EXPORT_TABLE_H */
