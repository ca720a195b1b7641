/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file progress.h
 * The progress line: rewritten in place on a terminal, else a plain line
 * every ten seconds.
 *
 * A terminal is standard error itself, or PTQSWEEP_TERMINAL=1 in the
 * environment: mpirun puts a pipe between the ranks and the terminal.
 */
#ifndef PTQ_DIST_PROGRESS_H
#define PTQ_DIST_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ptq_progress {
  bool on, terminal;
  bool shown; /* a line stands on the terminal */
  double start_s, next_s;
} ptq_progress;

/** What the line says. */
typedef struct ptq_progress_state {
  int64_t points, points_done, points_failed; /* done without failed */
  int64_t items, items_done, items_failed;    /* done with failed */
  int64_t ranks;                              /* that work */
  double left_s; /* predicted work that is not done, of one rank */
} ptq_progress_state;

void ptq_progress_init(ptq_progress *p, bool on, double now_s);
/** Is it time for a line? */
bool ptq_progress_due(const ptq_progress *p, double now_s);
void ptq_progress_show(ptq_progress *p, const ptq_progress_state *state,
                       double now_s);
/** The last line, ended by a newline. */
void ptq_progress_end(ptq_progress *p, const ptq_progress_state *state,
                      double now_s);
/** Make room for another line on the terminal. */
void ptq_progress_clear(ptq_progress *p);

/** The line itself, without newline; `elapsed_s` since the start. */
void ptq_progress_text(char *text, size_t size, const ptq_progress_state *state,
                       double elapsed_s);

#endif /* PTQ_DIST_PROGRESS_H */
