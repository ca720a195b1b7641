/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file profile.h
 * The loss along a direction: a lane a factor, all of them walked through the
 * blocks together.
 */
#ifndef PTQ_SWEEP_PROFILE_H
#define PTQ_SWEEP_PROFILE_H

#include "displaced.h"
#include "ptq/record/result.h"
#include "setup.h"
#include "stream.h"

/** A model displaced by a factor. */
typedef struct ptq_profile_lane {
  double factor, radius;
  ptq_stream eval, calib; /* owned; calib: without windows unless measured */
  double *nll;            /* owned; [eval windows] sums */
  double nll_calib;       /* sum */
} ptq_profile_lane;

typedef struct ptq_profile {
  ptq_setup setup;         /* owned */
  int kind;                /* of the direction */
  bool with_calib;         /* the calibration text is scored too */
  ptq_displacer displacer; /* owned */
  ptq_hands hands;         /* owned */
  ptq_block block;         /* owned */
  ptq_profile_lane *lanes; /* owned; [n], by radius, from 0 */
  int64_t n;
  double size;           /* of the direction */
  double *x, *w;         /* owned; [eval windows] */
  ptq_profile_row *rows; /* owned; [n] */
} ptq_profile;

/** Fill p->rows and, of the row, size, nll, nll_calib and what the whole
 * displacement adds; where the row has slope and curvature, what they
 * predict.
 * @param from see ptq_displacer_open */
ptq_status ptq_profile_run(ptq_profile *p, const ptq_grid *g, int64_t direction,
                           ptq_displaced *from, const ptq_sink *sink,
                           ptq_direction_row *row, ptq_err *err);
void ptq_profile_close(ptq_profile *p);

#endif /* PTQ_SWEEP_PROFILE_H */
