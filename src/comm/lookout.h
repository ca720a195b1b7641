/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file lookout.h
 * Looking after the other ranks of this host while nobody else does: who has
 * gone, who is stopped for too long.
 */
#ifndef PTQ_COMM_LOOKOUT_H
#define PTQ_COMM_LOOKOUT_H

#include <stdbool.h>
#include <sys/types.h>

enum { PTQ_LOOKOUT_MAX = 4096 };

typedef struct ptq_lookout {
  pid_t parent;     /* of all ranks of this host */
  int n_ranks;      /* that shall be there, this one included; 1: alone */
  double silence_s; /* a rank that is stopped longer than this is killed */
  long pause_ms;    /* between two looks */
  double last_s;    /* of the clock */
  int n;            /* of pid and stopped_s */
  pid_t pid[PTQ_LOOKOUT_MAX];
  double stopped_s[PTQ_LOOKOUT_MAX];
} ptq_lookout;

/** What one look tells. */
typedef struct ptq_sight {
  int n;      /* ranks that are there */
  pid_t lost; /* one that was there before; 0: none */
} ptq_sight;

/** Ask the environment; false when there is nobody else to look after. */
bool ptq_lookout_init(ptq_lookout *l, double silence_s);
/** One look; false where the others cannot be seen. `step_s` has passed since
 * the last one. Ranks that were stopped (not by a debugger) for longer than
 * they may be silent are killed: they will not wake, and mpirun and the others
 * wait for them. */
bool ptq_lookout_look(ptq_lookout *l, double step_s, ptq_sight *out);
/** Sleep until the next look. Returns the seconds since the last call, of this
 * process's own time: none of what it was stopped itself. */
double ptq_lookout_pause(ptq_lookout *l);

#endif /* PTQ_COMM_LOOKOUT_H */
