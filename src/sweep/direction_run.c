/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/landscape.h"

#include "clock.h"
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

ptq_status ptq_direction_run(const ptq_grid *g, int64_t direction,
                             const ptq_sink *sink, ptq_err *err) {
  ptq_err why = {0};
  ptq_profile p = {0};
  ptq_direction_result result = {.direction = direction,
                                 .state = PTQ_STATE_DONE};
  const double start = ptq_clock();
  fill_identity(g, direction, &result.row);
  ptq_status rc = ptq_profile_run(&p, g, direction, sink, &result.row, &why);
  if (rc == PTQ_OK) {
    result.profile = p.rows;
    result.n_profile = p.n;
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
  ptq_profile_close(&p);
  return rc;
}
