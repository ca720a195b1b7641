/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "leftover.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"

#include "ptq/comm/guard.h"

/* What mpirun may take to end those that MPI_Abort ends, and the rest. */
static const int abort_takes_ms = 5000, launcher_takes_ms = 15000;

bool ptq_leftover_recovers(void) {
  const char *text = getenv("OMPI_MCA_orte_enable_recovery");
  return text != NULL && (strcmp(text, "1") == 0 || strcmp(text, "true") == 0);
}

void ptq_leftover_end(const ptq_wire_leave *leave, bool launcher) {
  ptq_peer self;
  pid_t pids[PTQ_WIRE_LEFT_MAX];
  int n = 0;
  ptq_peer_self(&self);
  const uint64_t here = ptq_peer_place(&self);
  for (int i = 0; i < leave->n_left && i < PTQ_WIRE_LEFT_MAX; i++)
    if (here != 0 && leave->left[i].host == here)
      pids[n++] = (pid_t)leave->left[i].pid;
  if (n == 0 && !launcher) return;
  const ptq_guard_orders orders = {
      .pids = pids,
      .n = n,
      .kill_after_ms = ptq_leftover_recovers() ? 0 : abort_takes_ms,
      .launcher = getppid(),
      .end_launcher_after_ms = launcher ? launcher_takes_ms : 0};
  ptq_guard_stay(&orders);
}
