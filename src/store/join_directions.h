/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file join_directions.h
 * The directions of several stores, each once by its key: numerics are part
 * of it, so that equal keys are equal bits.
 */
#ifndef PTQ_STORE_JOIN_DIRECTIONS_H
#define PTQ_STORE_JOIN_DIRECTIONS_H

#include "carry.h"

typedef struct ptq_joined_directions {
  int64_t n;
  ptq_direction_row *rows;        /* owned; [n] identity */
  int64_t *steps, *layers, *ritz; /* owned; [n] */
  ptq_carry *carry;               /* owned; [n] */
  int64_t n_equal, n_disagree;    /* finished ones of several stores */
} ptq_joined_directions;

/**
 * @param subject  place of a source's row of models in the new store; its
 *                 `ctx` first
 * @param report   nullable; a line for each that disagrees
 */
ptq_status ptq_join_directions(
    const ptq_source *sources, int64_t n_sources,
    int64_t (*subject)(const void *ctx, const ptq_source *s, int64_t row),
    const void *ctx, void (*report)(void *ctx, const char *line),
    void *report_ctx, ptq_joined_directions *out, ptq_err *err);
void ptq_joined_directions_release(ptq_joined_directions *j);
/** Give a layout its directions; borrows j. */
void ptq_joined_directions_lay_out(const ptq_joined_directions *j,
                                   ptq_store_layout *l);

#endif /* PTQ_STORE_JOIN_DIRECTIONS_H */
