/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/landscape.h"

#include "clock.h"
#include "derivatives.h"
#include "profile.h"
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

/* Derivatives first, where there are any; then the profile. */
static ptq_status measure(const ptq_grid *g, int64_t direction,
                          const ptq_sink *sink, ptq_derivatives *d,
                          ptq_profile *p, ptq_direction_row *row,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool full = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL;
  if (g->directions[direction].kind == PTQ_DIRECTION_HESSIAN)
    return ptq_derivatives_whole(d, g, direction, sink, row, err);
  part first = {sink, 0.0, 0.2}, rest = {sink, full ? 0.2 : 0.0, 1.0};
  const ptq_sink before = {.ctx = &first, .alive = part_alive};
  const ptq_sink after = {.ctx = &rest, .alive = part_alive};
  if (full) PTQ_TRY(ptq_derivatives_along(d, g, direction, &before, row, err));
  PTQ_TRY(ptq_profile_run(p, g, direction, &after, row, err));
done:
  return rc;
}

ptq_status ptq_direction_run(const ptq_grid *g, int64_t direction,
                             const ptq_sink *sink, ptq_err *err) {
  ptq_err why = {0};
  ptq_profile p = {0};
  ptq_derivatives d = {0};
  ptq_direction_result result = {.direction = direction,
                                 .state = PTQ_STATE_DONE};
  const double start = ptq_clock();
  fill_identity(g, direction, &result.row);
  ptq_status rc = measure(g, direction, sink, &d, &p, &result.row, &why);
  if (rc == PTQ_OK) {
    result.profile = p.rows;
    result.n_profile = p.n;
    result.layers = d.layers;
    result.n_layers = d.n_layers;
    result.ritz = d.ritz;
    result.n_ritz = d.n_ritz;
  } else {
    fill_identity(g, direction, &result.row);
    result.state = PTQ_STATE_FAILED;
    (void)ptq_text_copy(result.message, sizeof result.message, why.msg);
  }
  result.seconds = ptq_clock() - start;
  if (rc == PTQ_E_STOPPED)
    (void)ptq_err_set(err, rc, why.file, why.line, "%s", why.msg);
  else
    rc = sink->direction(sink->ctx, &result, err);
  ptq_derivatives_release(&d);
  ptq_profile_close(&p);
  return rc;
}
