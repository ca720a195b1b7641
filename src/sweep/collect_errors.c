/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What other weights err on collected inputs. */
#include "collect.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

/* The pieces of error jobs: a window of kept rows, or a whole quadratic
 * form. */
typedef struct error_work {
  const ptq_error_job *jobs; /* borrowed; [n] */
  int n;
  float *const *scratch; /* borrowed; [hands] */
  double *part;          /* owned; [pieces] */
} error_work;

/* A window's piece is of the rank that has the window: every job takes a
 * multiple of the ranks. */
static int64_t error_pieces(const ptq_error_job *j) {
  const int64_t ranks = ptq_team_size(j->c->room.team);
  const int64_t n = j->c->keeps[ptq_site_kind(j->site)] ? j->c->n : 1;
  return (n + ranks - 1) / ranks * ranks;
}

/* Whole forms go to the ranks in turns. */
static int64_t whole_piece(const error_work *w, const ptq_error_job *j) {
  return (j - w->jobs) % ptq_team_size(j->c->room.team);
}

static ptq_status error_piece(void *ctx, int hand, int64_t index,
                              ptq_order *order, ptq_err *err) {
  const error_work *w = ctx;
  const ptq_error_job *j = w->jobs;
  float *scratch = w->scratch[hand];
  double *out = &w->part[index];
  (void)order;
  for (; index >= error_pieces(j); j++) index -= error_pieces(j);
  const ptq_site kind = ptq_site_kind(j->site);
  const int64_t d = ptq_site_width(j->c->info, j->site);
  if (ptq_collected_tokens(j->c, j->site) == 0) return PTQ_OK;
  if (!j->c->keeps[kind]) {
    if (index != whole_piece(w, j)) return PTQ_OK;
    *out = ptq_moment_quadratic(j->e, j->rows, j->c->h32[j->site], d, scratch);
    return PTQ_OK;
  }
  ptq_kept_part p;
  if (index >= j->c->n) return PTQ_OK;
  const ptq_status rc = ptq_kept_get(&j->c->kept[kind], hand, index,
                                     ptq_site_expert(j->site), &p, err);
  if (rc != PTQ_OK || p.n == 0) return rc;
  ptq_sgemm_nt(p.n, j->rows, d, 1.0F, p.x, d, j->e, d, 0.0F, scratch, j->rows);
  *out = ptq_vec_sum_sq(scratch, p.n * j->rows);
  return PTQ_OK;
}

/* The pieces of a job, added in the order of windows. */
static double sum_pieces(const error_work *w, const ptq_error_job *j,
                         const double *part) {
  const int64_t n = ptq_collected_tokens(j->c, j->site);
  double sum = 0.0;
  if (n == 0) return 0.0;
  if (!j->c->keeps[ptq_site_kind(j->site)]) return part[whole_piece(w, j)];
  for (int64_t i = 0; i < j->c->n; i++) sum += part[i];
  return sum / (double)n;
}

ptq_status ptq_collected_errors(const ptq_error_job *jobs, int n,
                                float *const *scratch, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  error_work w = {.jobs = jobs, .n = n, .scratch = scratch};
  int64_t pieces = 0;
  for (int i = 0; i < n; i++) {
    PTQ_ASSERT(jobs[i].c->uses & PTQ_COLLECT_ERRORS);
    pieces += error_pieces(&jobs[i]);
  }
  if (n == 0) return PTQ_OK;
  PTQ_TRY(ptq_alloc(&w.part, pieces, sizeof *w.part, "errors", err));
  const ptq_room *room = &jobs->c->room;
  PTQ_TRY(ptq_team_run(room->team, room->hands, pieces, error_piece, &w, err));
  PTQ_TRY(ptq_team_share(room->team, w.part, pieces, sizeof *w.part, 1, err));
  pieces = 0;
  for (int i = 0; i < n; i++) {
    *jobs[i].out = sum_pieces(&w, &jobs[i], w.part + pieces);
    pieces += error_pieces(&jobs[i]);
  }
done:
  ptq_free(w.part);
  return rc;
}

int64_t ptq_collected_scratch(const ptq_model_info *info, int64_t n_tokens,
                              int64_t length) {
  int64_t most = 0;
  for (int l = 0; l < PTQ_ROLE_COUNT; l++) {
    if (!ptq_layer_present(info, l)) continue;
    const ptq_site kind = ptq_role_site((ptq_role)l);
    const int64_t out = ptq_role_outputs(info, (ptq_role)l);
    const int64_t n = ptq_collect_keeps(info, kind, n_tokens)
                          ? length * out
                          : out * ptq_role_inputs(info, (ptq_role)l);
    if (n > most) most = n;
  }
  return most;
}
