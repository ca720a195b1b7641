/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file join_layout.h
 * The layout of the store that several are joined into, and from where each of
 * its rows is carried over.
 */
#ifndef PTQ_STORE_JOIN_LAYOUT_H
#define PTQ_STORE_JOIN_LAYOUT_H

#include "carry.h"
#include "join_directions.h"
#include "join_rows.h"
#include "ptq/base/text.h"

typedef struct ptq_join_layout {
  ptq_store_layout layout;
  ptq_point_row *points;                    /* owned */
  int64_t *subject;                         /* owned */
  int64_t *layers, *windows, *answers;      /* owned */
  ptq_model_row *subjects;                  /* owned */
  int64_t *subject_windows;                 /* owned */
  int64_t *subject_answers;                 /* owned */
  ptq_spectrum_slot *spectra;               /* owned */
  ptq_carry *carry_points, *carry_subjects; /* owned */
  char *texts[4]; /* owned; attributes of the first store */
  ptq_store_attribute attributes[4];
  ptq_joined_directions directions;
  ptq_text origin; /* where the rows are from */
  char numerics[128];
} ptq_join_layout;

/**
 * Lay out the rows that were kept, and the directions, which are there already.
 *
 * @param spec_text  borrowed for as long as the layout is used
 * @return PTQ_E_NOMEM, PTQ_E_IO; release the layout on failure too
 */
ptq_status ptq_join_layout_make(const ptq_joining *j, const char *spec_text,
                                ptq_join_layout *p, ptq_err *err);
void ptq_join_layout_release(ptq_join_layout *p);

#endif /* PTQ_STORE_JOIN_LAYOUT_H */
