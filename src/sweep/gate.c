/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gate.h"

static ptq_status agree(ptq_gate *g, ptq_status mine, ptq_err *err) {
  const ptq_status rc = ptq_team_agree(g->team, mine, err);
  if (rc != PTQ_OK) g->refused = true;
  return rc;
}

static ptq_status pass_point(void *ctx, const ptq_point_result *r,
                             ptq_err *err) {
  ptq_gate *g = ctx;
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(g->team)) rc = g->sink->point(g->sink->ctx, r, err);
  g->handed_over++;
  return agree(g, rc, err);
}

static ptq_status pass_subject(void *ctx, const ptq_subject_result *r,
                               ptq_err *err) {
  ptq_gate *g = ctx;
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(g->team)) rc = g->sink->subject(g->sink->ctx, r, err);
  return agree(g, rc, err);
}

static ptq_status pass_direction(void *ctx, const ptq_direction_result *r,
                                 ptq_err *err) {
  ptq_gate *g = ctx;
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(g->team)) rc = g->sink->direction(g->sink->ctx, r, err);
  return agree(g, rc, err);
}

static ptq_status pass_steps(void *ctx, const ptq_steps *s, ptq_err *err) {
  ptq_gate *g = ctx;
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(g->team) && g->sink->steps != NULL)
    rc = g->sink->steps(g->sink->ctx, s, err);
  return agree(g, rc, err);
}

/* The leader's answer: a direction is its alone. */
static ptq_status pass_left(void *ctx, const ptq_steps *s, bool *there,
                            ptq_err *err) {
  ptq_gate *g = ctx;
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(g->team) && g->sink->left != NULL)
    rc = g->sink->left(g->sink->ctx, s, there, err);
  return agree(g, rc, err);
}

static ptq_status pass_alive(void *ctx, double done, ptq_err *err) {
  ptq_gate *g = ctx;
  return agree(g, g->sink->alive(g->sink->ctx, done, err), err);
}

ptq_sink ptq_gate_sink(ptq_gate *gate) {
  return (ptq_sink){.ctx = gate,
                    .point = pass_point,
                    .subject = pass_subject,
                    .direction = pass_direction,
                    .steps = pass_steps,
                    .left = pass_left,
                    .alive = pass_alive};
}

bool ptq_gate_shut(const ptq_gate *gate, ptq_status rc) {
  return rc != PTQ_OK && (gate->refused || ptq_team_broken(gate->team));
}
