/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file dtype_core.h
 * What dtype.c shares with the files beside it; families need dtype_lanes.h.
 */
#ifndef PTQ_NUM_DTYPE_CORE_H
#define PTQ_NUM_DTYPE_CORE_H

#include "ptq/num/dtype.h"

/** Parse "scale=rceil:round=away" ("" if none) into dt->options, append the
 * canonical form to dt->name and ask the family's check. */
ptq_status ptq_dtype_parse_options(ptq_dtype *dt, const char *text,
                                   ptq_err *err);

/** PTQ_E_NUMERIC naming the group at (row, col) of n weights from lo to hi. */
ptq_status ptq_dtype_overflow(const ptq_dtype *dt, double lo, double hi,
                              int64_t n, int64_t row, int64_t col,
                              ptq_err *err);

/** True where keep= or dq= replace a fitted scale. */
bool ptq_dtype_stores(const ptq_dtype *dt);

/** The storable parameters of a group from lo to hi, fitted as *p; a scale
 * that is not finite stays, one beyond the format becomes infinite. */
void ptq_dtype_store(const ptq_dtype *dt, int64_t row, int64_t col, double lo,
                     double hi, ptq_group_params *p);
void ptq_dtype_store64(const ptq_dtype *dt, int64_t row, int64_t col, double lo,
                       double hi, ptq_group_params64 *p);

#endif /* PTQ_NUM_DTYPE_CORE_H */
