/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file table_writer.h
 * Rows of a table as CSV, JSON lines or netCDF, put together from parts: C rows
 * of several tables.
 */
#ifndef PTQ_CLI_TABLE_WRITER_H
#define PTQ_CLI_TABLE_WRITER_H

#include <stdio.h>

#include "export_table.h"
#include "ptq/record/rows.h"

enum { PTQ_WRITER_COLUMNS = 64, PTQ_WRITER_PARTS = 4 };

typedef struct ptq_writer_column {
  const ptq_field *field; /* borrowed */
  int part;
} ptq_writer_column;

/** Begin with {.out = ..., .format = ...}. */
typedef struct ptq_table_writer {
  FILE *out; /* borrowed; NULL for netCDF */
  ptq_export_format format;
  ptq_writer_column columns[PTQ_WRITER_COLUMNS];
  int n_columns;
  /* netCDF: columns are gathered */
  void *
      values[PTQ_WRITER_COLUMNS]; /* owned; double, int64_t or char * (owned) */
  int64_t n_rows, capacity;
  ptq_status rc; /* of gathering */
} ptq_table_writer;

/** The column `name` of `part`, or every one when it is NULL. Names are our
 * own. */
void ptq_writer_add(ptq_table_writer *w, int part, const ptq_field *fields,
                    size_t n, const char *name);
void ptq_writer_add_table(ptq_table_writer *w, int part, ptq_table_id id,
                          const char *name);

/** Once all columns are there; of formats that have a header. */
void ptq_writer_header(const ptq_table_writer *w);

/** One row of the parts that columns were added of. What goes wrong is told at
 * the end, by `out` or by ptq_writer_save_netcdf(). */
void ptq_writer_row(ptq_table_writer *w,
                    const void *const parts[PTQ_WRITER_PARTS]);

/**
 * Write what was gathered as a netCDF-4 file.
 * @param table  its name, for the title
 * @return PTQ_E_NOMEM, PTQ_E_IO
 */
ptq_status ptq_writer_save_netcdf(const ptq_table_writer *w, const char *table,
                                  const char *path, ptq_err *err);

void ptq_writer_release(ptq_table_writer *w);

#endif /* PTQ_CLI_TABLE_WRITER_H */
