/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file netcdf.h
 * A table as a netCDF-4 file: HDF5 with dimension scales, one variable a
 * column along the dimension `row`, numbers as double and int64, text as
 * strings, units and meanings as attributes. xarray, R's ncdf4 and h5py read
 * it.
 */
#ifndef PTQ_STORE_NETCDF_H
#define PTQ_STORE_NETCDF_H

#include <stdbool.h>

#include "ptq/base/status.h"
#include "ptq/record/rows.h"

/** One column of n rows. */
typedef struct ptq_netcdf_column {
  const ptq_field *field; /* name, kind, unit, text; borrowed */
  const void *values;     /* borrowed; double[n], int64_t[n], or
                             const char *[n] */
} ptq_netcdf_column;

/** Write `path`, replacing it; on failure it is removed. PTQ_E_IO. */
ptq_status ptq_netcdf_write(const char *path, const char *title, int64_t n,
                            const ptq_netcdf_column *columns, int n_columns,
                            ptq_err *err);

/** May a table be written over what is at `path`? Over nothing, what is no
 * HDF5, and what ptq_netcdf_write() wrote; not over a store, be it damaged. */
bool ptq_netcdf_may_replace(const char *path);

#endif /* PTQ_STORE_NETCDF_H */
