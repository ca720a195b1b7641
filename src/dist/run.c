/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/dist/run.h"

#include "coordinator.h"
#include "inline.h"
#include "signals.h"
#include "worker.h"

#include "ptq/base/mem.h"
#include "ptq/comm/agree.h"
#include "ptq/comm/meet.h"
#include "ptq/comm/startup.h"

static ptq_dist_options with_defaults(const ptq_dist_options *asked) {
  ptq_dist_options o = *asked;
  if (!(o.heartbeat_s > 0.0)) o.heartbeat_s = 5.0;
  if (!(o.silence_factor > 0.0)) o.silence_factor = 10.0;
  if (!(o.silence_min_s > 0.0)) o.silence_min_s = PTQ_DIST_SILENCE_S;
  if (o.max_attempts < 1) o.max_attempts = 2;
  return o;
}

/** Who lives where, told before anyone may die unseen: a rank that died before
 * its first word is then known to be dead. */
static ptq_status meet_peers(MPI_Comm comm, ptq_dist_ending *e, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_peer self;
  ptq_peer_self(&self);
  PTQ_TRY(ptq_meet_allgather(comm, &self, (int64_t)sizeof self, e->peers,
                             "places of ranks", err));
  for (int i = 0; i < e->size; i++)
    e->peers[i].host[sizeof e->peers[i].host - 1] = '\0';
  e->coordinator_watchable =
      e->rank != 0 && ptq_peer_watchable(&self, &e->peers[0]);
done:
  return rc;
}

ptq_status ptq_dist_run(MPI_Comm comm, const ptq_plan *plan,
                        const ptq_dist_ops *ops,
                        const ptq_dist_options *options, ptq_dist_summary *out,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_dist_options o = with_defaults(options);
  ptq_dist_ending *e = NULL;
  int size = 1, rank = 0;
  *out = (ptq_dist_summary){0};
  ptq_signals_install();
  PTQ_TRY(ptq_wire_mpi(MPI_Comm_size(comm, &size), "size of the communicator",
                       err));
  if (size == 1) return ptq_inline_run(plan, ops, &o, out, err);
  MPI_Comm_rank(comm, &rank);
  rc = ptq_alloc(&e, 1, sizeof *e, "ending", err);
  if (rc == PTQ_OK)
    rc = ptq_alloc(&e->peers, size, sizeof *e->peers, "places of ranks", err);
  if (rc == PTQ_OK && rank == 0)
    rc = ptq_alloc(&e->ranks, size, sizeof *e->ranks, "ranks", err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  e->size = size;
  e->rank = rank;
  e->patience_s = o.silence_min_s;
  e->comm = MPI_COMM_NULL;
  PTQ_TRY(meet_peers(comm, e, err));
  PTQ_TRY(ptq_meet_dup(comm, &e->comm, err));
  ptq_startup_end(); /* from here on a dead rank is noticed by rank 0 */
  MPI_Comm_set_errhandler(e->comm, MPI_ERRORS_RETURN);
  out->ending = e;
  if (e->rank == 0)
    rc = ptq_coordinator_run(e->comm, plan, ops, &o, out, e, err);
  else
    rc = ptq_worker_run(e->comm, ops, &o, out, e, err);
  e = NULL;
done:
  if (e != NULL) ptq_free(e->peers);
  if (e != NULL) ptq_free(e->ranks);
  ptq_free(e);
  return rc;
}
