/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file profile.h
 * The loss along a direction: a lane a factor, walked through the blocks a few
 * together, and what is finished handed over.
 */
#ifndef PTQ_SWEEP_PROFILE_H
#define PTQ_SWEEP_PROFILE_H

#include "displaced.h"
#include "ptq/record/result.h"
#include "setup.h"
#include "stream.h"

/** Lanes at a time: what is not handed over yet is lost with the process, and
 * a wave reads the blocks and makes the direction once. */
enum { PTQ_PROFILE_LANES = 4 };

/** A model displaced by a step's factor. */
typedef struct ptq_profile_lane {
  int64_t step;
  ptq_stream eval, calib; /* owned; calib: without windows unless measured */
  double *nll;            /* owned; [eval windows] sums */
  double nll_calib;       /* sum */
} ptq_profile_lane;

typedef struct ptq_profile {
  ptq_setup setup;                /* owned */
  const ptq_grid *grid;           /* borrowed */
  const ptq_direction *direction; /* borrowed */
  ptq_displaced *from;            /* borrowed, nullable */
  bool with_calib;                /* the calibration text is scored too */
  ptq_displacer displacer;        /* owned; of a wave on its way */
  ptq_hands hands;                /* owned; likewise */
  ptq_block block;                /* owned; likewise */
  ptq_profile_lane lanes[PTQ_PROFILE_LANES];
  double *base;      /* owned; [eval windows] sums at radius 0 */
  double base_calib; /* sum there */
  double size;       /* of the direction */
  double *x, *w;     /* owned; [eval windows] */
  int64_t n;
  ptq_profile_row *rows; /* owned; [n], by radius, from 0 */
  bool *there;           /* owned; [n]: left by an earlier attempt */
  int64_t *todo;         /* owned; [n_todo] steps, by radius */
  int64_t n_todo;
  int64_t moves; /* blocks, and the head, that lanes have behind them */
} ptq_profile;

/** Fill p->rows and, of the row, size, nll, nll_calib and what the whole
 * displacement adds; where the row has slope and curvature, what they
 * predict. What the sink has kept of the profile is not measured again (radius
 * 0 is, as long as any other is missing), and finished waves are handed over.
 * Rank-local.
 * @param from see ptq_displacer_open
 * @return what the sink returns, PTQ_E_IO, PTQ_E_NOMEM, ...; *p is to be closed
 *         then too */
ptq_status ptq_profile_run(ptq_profile *p, const ptq_grid *g, int64_t direction,
                           ptq_displaced *from, const ptq_sink *sink,
                           ptq_direction_row *row, ptq_err *err);
void ptq_profile_close(ptq_profile *p);

/** Lanes that are there at once of a profile of `steps`, and waves of them. */
int64_t ptq_profile_lanes(int64_t steps);
int64_t ptq_profile_waves(int64_t steps);

#endif /* PTQ_SWEEP_PROFILE_H */
