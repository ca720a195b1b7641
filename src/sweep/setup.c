/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "setup.h"

static ptq_status windows_of(const ptq_spec *spec, const ptq_text_spec *text,
                             const char *model_dir, int64_t vocab,
                             bool from_end, ptq_windows *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_tokens tokens = {0};
  PTQ_TRY(ptq_tokens_load(spec->path, text, model_dir, vocab, &tokens, err));
  PTQ_TRY(ptq_windows_cut(text, from_end, &tokens, out, err));
done:
  ptq_tokens_release(&tokens);
  return rc;
}

ptq_room ptq_room_of(const ptq_grid *g) {
  return (ptq_room){.scratch = g->scratch,
                    .hands = g->threads > 1 ? g->threads : 1,
                    .ranks = g->ranks > 1 ? g->ranks : 1,
                    .team = g->team};
}

ptq_texts ptq_texts_of(const ptq_grid *g, int64_t subject) {
  const ptq_subject *s = &g->subjects[subject];
  return (ptq_texts){.calib = &g->spec->calibrations[s->calibration],
                     .select = &g->spec->selection,
                     .eval = &g->spec->evaluations[s->evaluation],
                     .room = ptq_room_of(g)};
}

ptq_status ptq_setup_open(ptq_setup *s, const ptq_grid *g, int64_t subject,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_spec *spec = g->spec;
  const ptq_subject *sub = &g->subjects[subject];
  const char *dir = spec->models[sub->model].path;
  const ptq_text_spec *calib = &spec->calibrations[sub->calibration];
  *s = (ptq_setup){.room = ptq_room_of(g)};
  PTQ_TRY(ptq_model_open(dir, &s->model, err));
  PTQ_TRY(ptq_model_set_compute(s->model, spec->compute, err));
  s->info = ptq_model_get_info(s->model);
  const int64_t vocab = s->info->vocab;
  PTQ_TRY(
      ptq_tokens_load(spec->path, calib, dir, vocab, &s->calib_tokens, err));
  PTQ_TRY(ptq_windows_cut(calib, false, &s->calib_tokens, &s->calib, err));
  PTQ_TRY(windows_of(spec, &spec->selection, dir, vocab,
                     spec->selection_from_end, &s->select, err));
  PTQ_TRY(windows_of(spec, &spec->evaluations[sub->evaluation], dir, vocab,
                     false, &s->eval, err));
  PTQ_TRY(ptq_requests_load(spec, dir, s->info, &s->requests, err));
done:
  if (rc != PTQ_OK) ptq_setup_close(s);
  return rc;
}

void ptq_setup_close(ptq_setup *s) {
  ptq_windows_release(&s->calib);
  ptq_windows_release(&s->select);
  ptq_windows_release(&s->eval);
  ptq_requests_release(&s->requests);
  ptq_tokens_release(&s->calib_tokens);
  ptq_model_close(s->model);
  *s = (ptq_setup){0};
}

int64_t ptq_setup_max_length(const ptq_setup *s) {
  int64_t n = s->calib.length;
  if (s->select.length > n) n = s->select.length;
  if (s->eval.length > n) n = s->eval.length;
  if (s->requests.longest_bundle > n) n = s->requests.longest_bundle;
  return n;
}
