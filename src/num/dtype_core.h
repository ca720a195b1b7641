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

/** Number of the group that holds (row, col) of the matrix dt is prepared on,
 * row by row; 0 if dt is not. */
int64_t ptq_dtype_index(const ptq_dtype *dt, int64_t row, int64_t col);

/** The storable parameters of a group from lo to hi, fitted as *p; a scale
 * that is not finite stays, one beyond the format becomes infinite. */
void ptq_dtype_store(const ptq_dtype *dt, int64_t index, double lo, double hi,
                     ptq_group_params *p);
void ptq_dtype_store64(const ptq_dtype *dt, int64_t index, double lo, double hi,
                       ptq_group_params64 *p);

/** ptq_dtype_store for groups with ranges r, the first of which is `index`. */
void ptq_dtype_store_all(const ptq_dtype *dt, int64_t index, const ptq_range *r,
                         int64_t groups, ptq_group_params *p);

/**
 * Fit and round a run of groups of `width` values, the first of which is
 * number `index` of its matrix; params may be NULL. dt is prepared. `stream`:
 * the matrix is too large for the caches.
 * @return how many groups were done: all, or those before the first with a
 *         value or a scale that is not finite
 */
int64_t ptq_dtype_round_run(const ptq_dtype *dt, int64_t index, const float *x,
                            int64_t n, int64_t width, float *y, int16_t *q,
                            ptq_group_params *params, bool stream);

/** Fit such a run alone; params is [number of groups]. */
int64_t ptq_dtype_fit_run(const ptq_dtype *dt, int64_t index, const float *x,
                          int64_t n, int64_t width, ptq_group_params *params);

#endif /* PTQ_NUM_DTYPE_CORE_H */
