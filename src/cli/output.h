/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file output.h  Where a command may not write: over what it reads, and over
 * a store. */
#ifndef PTQ_CLI_OUTPUT_H
#define PTQ_CLI_OUTPUT_H

#include "ptq/base/status.h"

/**
 * Is `path` none of the command's inputs, under any name (links too)?
 * @param path    file or directory to be written; NULL: standard output
 * @param inputs  files that the command reads; NULL: one that is not given
 * @return PTQ_E_ARG with the remedy if it is one
 */
ptq_status ptq_output_check(const char *path, const char *const *inputs, int n,
                            ptq_err *err);
/** The same for a file that is replaced as a whole: no other store either, nor
 * another program's HDF5. What `export -f netcdf` wrote may be replaced. */
ptq_status ptq_output_check_file(const char *path, const char *const *inputs,
                                 int n, ptq_err *err);

#endif /* PTQ_CLI_OUTPUT_H */
