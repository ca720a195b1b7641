/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/landscape.h"

#include "clock.h"
#include "derivatives.h"
#include "gate.h"
#include "profile.h"
#include "sensitivity.h"
#include "ptq/base/text.h"
#include "ptq/num/numerics.h"
#include "ptq/sweep/identity.h"

static void fill_identity(const ptq_grid *g, int64_t direction,
                          ptq_direction_row *row) {
  char numerics[PTQ_NUMERICS_MAX];
  ptq_numerics_text(g->spec->compute, numerics);
  ptq_direction_identity(g, direction, numerics, row);
}

/* A part of an item's work for its sink. */
typedef struct part {
  const ptq_sink *sink;
  double from, to; /* of the whole */
} part;

static ptq_status part_alive(void *ctx, double done, ptq_err *err) {
  const part *p = ctx;
  return p->sink->alive(p->sink->ctx, p->from + done * (p->to - p->from), err);
}

static ptq_status part_steps(void *ctx, const ptq_steps *s, ptq_err *err) {
  const part *p = ctx;
  return p->sink->steps(p->sink->ctx, s, err);
}

static ptq_status part_left(void *ctx, const ptq_steps *s, bool *there,
                            ptq_err *err) {
  const part *p = ctx;
  return p->sink->left(p->sink->ctx, s, there, err);
}

/* What an item leaves. */
typedef struct parts {
  ptq_displaced displaced; /* owned; until the profile has walked */
  ptq_derivatives d;       /* owned */
  ptq_sensitivity s;       /* owned */
  ptq_profile p;           /* owned */
} parts;

static void parts_release(parts *o) {
  ptq_displaced_close(&o->displaced);
  ptq_derivatives_release(&o->d);
  ptq_sensitivity_release(&o->s);
  ptq_profile_close(&o->p);
}

/* What a method does to the weights; derivatives, where there are any; then
 * the profile. */
static ptq_status measure_along(const ptq_grid *g, int64_t direction,
                                const ptq_sink *sink, parts *o,
                                ptq_direction_row *row, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool full = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL;
  const bool moved = ptq_displaced_is_needed(g, direction);
  const double at = moved ? 0.1 : 0.0, then = full ? at + 0.2 : at;
  part shares[] = {{sink, 0.0, at}, {sink, at, then}, {sink, then, 1.0}};
  const ptq_sink first = {.ctx = &shares[0], .alive = part_alive};
  const ptq_sink second = {.ctx = &shares[1], .alive = part_alive};
  const ptq_sink last = {.ctx = &shares[2],
                         .steps = part_steps,
                         .left = part_left,
                         .alive = part_alive};
  if (moved)
    PTQ_TRY(ptq_displaced_run(&o->displaced, g, direction, &first, err));
  if (full)
    PTQ_TRY(ptq_derivatives_along(&o->d, g, direction, &o->displaced, &second,
                                  row, err));
  PTQ_TRY(ptq_profile_run(&o->p, g, direction, &o->displaced, &last, row, err));
done:
  return rc;
}

static ptq_status measure(const ptq_grid *g, int64_t direction,
                          const ptq_sink *sink, parts *o,
                          ptq_direction_row *row, ptq_err *err) {
  switch (g->directions[direction].kind) {
    case PTQ_DIRECTION_HESSIAN:
      return ptq_derivatives_whole(&o->d, g, direction, sink, row, err);
    case PTQ_DIRECTION_SENSITIVITY:
      return ptq_sensitivity_run(&o->s, g, direction, sink, row, err);
    default:
      return measure_along(g, direction, sink, o, row, err);
  }
}

ptq_status ptq_direction_run(const ptq_grid *g, int64_t direction,
                             const ptq_sink *sink, ptq_err *err) {
  ptq_err why = {0};
  parts o = {.displaced = {.weights = {.fd = -1}}};
  ptq_direction_result result = {.direction = direction,
                                 .state = PTQ_STATE_DONE};
  ptq_gate gate = {.team = g->team, .sink = sink};
  const ptq_sink gated = ptq_gate_sink(&gate);
  const double start = ptq_clock();
  fill_identity(g, direction, &result.row);
  ptq_status rc = measure(g, direction, &gated, &o, &result.row, &why);
  if (rc == PTQ_OK) {
    result.profile = o.p.rows;
    result.n_profile = o.p.n;
    result.layers = o.s.n > 0 ? o.s.rows : o.d.layers;
    result.n_layers = o.s.n > 0 ? o.s.n : o.d.n_layers;
    result.ritz = o.d.ritz;
    result.n_ritz = o.d.n_ritz;
  } else {
    fill_identity(g, direction, &result.row);
    result.state = PTQ_STATE_FAILED;
    (void)ptq_text_copy(result.message, sizeof result.message, why.msg);
  }
  result.seconds = ptq_clock() - start;
  if (ptq_gate_shut(&gate, rc))
    (void)ptq_err_set(err, rc, why.file, why.line, "%s", why.msg);
  else
    rc = gated.direction(gated.ctx, &result, err);
  parts_release(&o);
  return rc;
}
