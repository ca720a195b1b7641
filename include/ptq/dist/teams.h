/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file teams.h
 * Working ranks in teams, each of which has one item at a time.
 *
 * A team is of one host: its ranks share memory (ptq/base/team.h). MPI only
 * brings them together, because a communicator of Open MPI 4.1 is of no use
 * once one of its ranks has died, and its collective calls then hang.
 */
#ifndef PTQ_DIST_TEAMS_H
#define PTQ_DIST_TEAMS_H

#include <mpi.h>

#include "ptq/base/team.h"

typedef struct ptq_teams {
  int n;          /* teams; at least 1 */
  int size;       /* ranks of each; at least 1 */
  int *leader;    /* owned; [ranks of comm] the team's first rank, 0: none */
  ptq_team *team; /* owned; this rank's; NULL: it works alone, or not */
} ptq_teams;

/**
 * Put ranks 1, 2, ... (rank 0 hands out the work) into teams of
 * `ranks_per_point`, in the order of ranks on each host. Where no host has so
 * many, teams are as large as one has, and a warning says so; ranks that are
 * left over stay without a team, and a line says so. A communicator of one rank
 * is a team of one. Collective on comm: all ranks return together.
 */
ptq_status ptq_teams_form(MPI_Comm comm, int ranks_per_point, ptq_teams *out,
                          ptq_err *err);
/** Rank-local; whoever waits for this rank waits no more. */
void ptq_teams_release(ptq_teams *t);

#endif /* PTQ_DIST_TEAMS_H */
