/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/dist/teams.h"

#include "peer.h"
#include "protocol.h"

#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/comm/agree.h"
#include "ptq/comm/meet.h"

/** What all ranks know of each. */
typedef struct layout {
  int ranks, rank;
  ptq_wire_place *places; /* owned; [ranks] */
  int64_t *what;          /* owned; [ranks] of ptq_team_open */
} layout;

/* Ranks that share memory. Where nothing tells hosts apart, nobody does. */
static bool together(const layout *l, int a, int b) {
  const uint64_t host = l->places[a].host;
  return host != 0 && host == l->places[b].host;
}

/* Working ranks on the host of `rank` among first .. last. */
static int count(const layout *l, int rank, int first, int last) {
  int n = 0;
  for (int i = first; i <= last; i++) n += i == rank || together(l, i, rank);
  return n;
}

static int most_on_a_host(const layout *l) {
  int most = 1;
  for (int i = 1; i < l->ranks; i++) {
    const int n = count(l, i, 1, l->ranks - 1);
    if (n > most) most = n;
  }
  return most;
}

/* The k-th rank of a host, counted from 0, is in its team k / size; a team that
 * does not fill up is none. */
static void deal_out(const layout *l, ptq_teams *t) {
  t->n = 0;
  for (int i = 1; i < l->ranks; i++) {
    const int k = count(l, i, 1, i) - 1;
    const int there = count(l, i, 1, l->ranks - 1);
    if (k / t->size >= there / t->size) continue;
    if (k % t->size == 0) t->n++;
    int leader = i;
    for (int back = k % t->size; back > 0; back--) {
      leader--;
      while (!together(l, leader, i)) leader--;
    }
    t->leader[i] = leader;
  }
}

static void say_layout(const layout *l, int asked, const ptq_teams *t) {
  ptq_text idle = {0};
  int n = 0;
  if (l->rank != 0) return;
  if (t->size < asked)
    ptq_log(PTQ_LOG_WARN,
            "ranks_per_point %d: no host has more than %d working rank%s, so "
            "that is what works on a point; rank 0 hands out the work",
            asked, t->size, t->size == 1 ? "" : "s");
  for (int i = 1; i < l->ranks; i++)
    if (t->leader[i] == 0) ptq_text_addf(&idle, n++ == 0 ? "%d" : ", %d", i);
  ptq_log(PTQ_LOG_INFO, "%d team%s of %d ranks a point%s%s", t->n,
          t->n == 1 ? "" : "s", t->size,
          n > 0 ? "; without a full team, and idle: rank " : "",
          ptq_text_str(&idle));
  ptq_text_release(&idle);
}

/* The place of a rank in its team, whose processes go to pids. */
static int members(const layout *l, const ptq_teams *t, int64_t *pids) {
  int n = 0, place = 0;
  for (int i = t->leader[l->rank]; i < l->ranks; i++) {
    if (t->leader[i] != t->leader[l->rank]) continue;
    if (i == l->rank) place = n;
    pids[n++] = l->places[i].pid;
  }
  return place;
}

/* Leaders first, who tell the others how to come in. */
static ptq_status join(MPI_Comm comm, layout *l, ptq_teams *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t pids[PTQ_TEAM_MAX], what = 0;
  const int leader = t->leader[l->rank];
  const bool leads = leader == l->rank && l->rank > 0;
  const int place = leader > 0 ? members(l, t, pids) : 0;
  if (leads) rc = ptq_team_open(place, t->size, pids, &what, &t->team, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  PTQ_TRY(ptq_meet_allgather(comm, &what, (int64_t)sizeof what, l->what,
                             "forming teams", err));
  what = l->what[leader];
  if (leader > 0 && !leads)
    rc = ptq_team_open(place, t->size, pids, &what, &t->team, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
done:
  return rc;
}

static ptq_status form(MPI_Comm comm, layout *l, int asked, ptq_teams *t,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_peer self;
  ptq_peer_self(&self);
  const ptq_wire_place here = {.pid = self.pid, .host = ptq_peer_place(&self)};
  rc = ptq_alloc(&t->leader, l->ranks, sizeof *t->leader, "teams", err);
  if (rc == PTQ_OK)
    rc = ptq_alloc(&l->places, l->ranks, sizeof *l->places, "teams", err);
  if (rc == PTQ_OK)
    rc = ptq_alloc(&l->what, l->ranks, sizeof *l->what, "teams", err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  PTQ_TRY(ptq_meet_allgather(comm, &here, (int64_t)sizeof here, l->places,
                             "forming teams", err));
  const int most = most_on_a_host(l);
  t->size = asked < most ? asked : most;
  deal_out(l, t);
  if (asked > 1) say_layout(l, asked, t);
  if (t->size > 1) PTQ_TRY(join(comm, l, t, err));
done:
  return rc;
}

ptq_status ptq_teams_form(MPI_Comm comm, int ranks_per_point, ptq_teams *out,
                          ptq_err *err) {
  layout l = {0};
  *out = (ptq_teams){.n = 1, .size = 1};
  MPI_Comm_size(comm, &l.ranks);
  MPI_Comm_rank(comm, &l.rank);
  const ptq_status rc = form(comm, &l, ranks_per_point, out, err);
  if (out->n < 1) out->n = 1;
  ptq_free(l.places);
  ptq_free(l.what);
  if (rc != PTQ_OK) ptq_teams_release(out);
  return rc;
}

void ptq_teams_release(ptq_teams *t) {
  ptq_team_close(t->team);
  ptq_free(t->leader);
  *t = (ptq_teams){.n = 1, .size = 1};
}
