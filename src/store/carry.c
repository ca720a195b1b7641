/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "carry.h"

#include <string.h>

#include "attempt.h"
#include "create.h"
#include "logring.h"
#include "pack.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "reserve.h"
#include "steps.h"
#include "store_impl.h"

/* A row in flight waits again, and its attempt does not count unless a rank
 * died of it, as in past.c. */
static ptq_status carry_attempt(ptq_store *st, ptq_set_id id, int64_t row,
                                int state, const ptq_attempt_row *a,
                                ptq_err *err) {
  ptq_attempt_row own = *a;
  const bool silent = own.message[0] == '\0';
  if (state == PTQ_STATE_STARTED && own.attempts > 0 && silent) own.attempts--;
  if (state != PTQ_STATE_DONE && state != PTQ_STATE_FAILED &&
      own.attempts == 0 && own.deaths == 0 && silent)
    return PTQ_OK;
  return ptq_attempt_put(&st->sets, id, row, &own, err);
}

static ptq_status carry_point(ptq_store *st, int64_t row, const ptq_carry *c,
                              int64_t *n_points, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_source *s = c->source;
  const ptq_attempt_row *a = &s->attempts[c->from];
  const int state = s->state[c->from];
  ptq_source_point p = {0};
  if (state == PTQ_STATE_DONE || state == PTQ_STATE_FAILED) {
    ptq_point_result r = {.point = row,
                          .state = (ptq_state)state,
                          .row = s->points[c->from],
                          .seconds = a->seconds};
    PTQ_TRY(ptq_source_read_point(s, c->from, &p, err));
    r.row.key[0] = '\0'; /* identity is the new store's */
    for (int64_t i = 0; i < p.n_layers; i++) p.layers[i].point = row;
    for (int64_t i = 0; i < p.n_windows; i++) p.windows[i].point = row;
    for (int64_t i = 0; i < p.n_answers; i++) p.answers[i].point = row;
    r.layers = p.layers;
    r.n_layers = p.n_layers;
    r.windows = p.windows;
    r.n_windows = p.n_windows;
    r.answers = p.answers;
    r.n_answers = p.n_answers;
    PTQ_TRY(ptq_store_put_point(st, &r, err));
    ++*n_points;
  }
  PTQ_TRY(carry_attempt(st, PTQ_SET_ATTEMPTS, row, state, a, err));
done:
  ptq_source_point_release(&p);
  return rc;
}

/* The source's spectrum for a slot of the new store, -1 if it has none. */
static int64_t find_slot(const ptq_source *s, int64_t subject,
                         const ptq_spectrum_slot *slot) {
  for (int64_t i = 0; i < s->sets.n_spectra; i++) {
    const ptq_spectrum_slot *have = &s->sets.spectra[i];
    if (have->subject == subject && strcmp(have->site, slot->site) == 0 &&
        have->n_blocks == slot->n_blocks && have->d == slot->d)
      return i;
  }
  return -1;
}

static ptq_status read_spectrum(const ptq_source *s, int64_t i,
                                ptq_spectrum *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_spectrum_slot *slot = &s->sets.spectra[i];
  ptq_h5_set set = PTQ_H5_SET_NONE;
  unsigned char tokens[8];
  double *values = NULL;
  *out = (ptq_spectrum){
      .site = slot->site, .n_blocks = slot->n_blocks, .d = slot->d};
  PTQ_TRY(ptq_sets_spectrum(&s->sets, i, &set, err));
  PTQ_TRY(ptq_alloc(&values, slot->n_blocks * slot->d, sizeof *values,
                    slot->site, err));
  out->values = values;
  PTQ_TRY(ptq_h5_read(&set, 0, set.rows, values, err));
  PTQ_TRY(ptq_h5_read(&s->sets.set[PTQ_SET_SPECTRA_TOKENS], i, 1, tokens, err));
  out->n_tokens = ptq_unpack_i64(tokens);
  for (int64_t k = 0; k < slot->n_blocks * slot->d; k++) {
    const int64_t bits = ptq_unpack_i64((unsigned char *)values + 8 * k);
    memcpy(&values[k], &bits, sizeof bits);
  }
done:
  ptq_h5_close(&set);
  return rc;
}

/* The spectra that the new store asks of a subject; *all: they are there. */
static ptq_status read_spectra(const ptq_store *st, int64_t row,
                               const ptq_carry *c, ptq_spectrum *out,
                               int64_t *n, bool *all, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *all = true;
  for (int64_t i = 0; i < st->sets.n_spectra && *all; i++) {
    if (st->sets.spectra[i].subject != row) continue;
    const int64_t from = find_slot(c->source, c->from, &st->sets.spectra[i]);
    unsigned char state = 0;
    if (from >= 0)
      PTQ_TRY(ptq_h5_read(&c->source->sets.set[PTQ_SET_SPECTRA_STATE], from, 1,
                          &state, err));
    *all = state == PTQ_STATE_DONE;
    if (*all) PTQ_TRY(read_spectrum(c->source, from, &out[(*n)++], err));
  }
done:
  return rc;
}

/* *all: its spectra are there, and it was put. */
static ptq_status put_finished_subject(ptq_store *st, int64_t row,
                                       const ptq_carry *c, bool *all,
                                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_source *s = c->source;
  const int64_t *first = s->sets.first_baseline + c->from;
  const int64_t *answer = s->sets.first_baseline_answer + c->from;
  ptq_baseline_row *windows = NULL;
  ptq_baseline_answer_row *answers = NULL;
  ptq_spectrum *spectra = NULL;
  int64_t n_spectra = 0;
  ptq_subject_result r = {.subject = row,
                          .state = PTQ_STATE_DONE,
                          .row = s->models[c->from],
                          .n_windows = first[1] - first[0],
                          .n_answers = answer[1] - answer[0],
                          .seconds = s->model_attempts[c->from].seconds};
  PTQ_TRY(
      ptq_alloc(&spectra, st->sets.n_spectra, sizeof *spectra, "spectra", err));
  PTQ_TRY(read_spectra(st, row, c, spectra, &n_spectra, all, err));
  if (!*all) goto done;
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_BASELINE, first[0], r.n_windows, &windows,
                          err));
  for (int64_t i = 0; i < r.n_windows; i++) windows[i].subject = row;
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_BASELINE_ANSWERS, answer[0], r.n_answers,
                          &answers, err));
  for (int64_t i = 0; i < r.n_answers; i++) answers[i].subject = row;
  r.windows = windows;
  r.answers = answers;
  r.spectra = spectra;
  r.n_spectra = n_spectra;
  r.row.model[0] = '\0'; /* identity is the new store's */
  PTQ_TRY(ptq_store_put_subject(st, &r, err));
done:
  for (int64_t i = 0; i < n_spectra; i++)
    ptq_free((void *)(uintptr_t)spectra[i].values);
  ptq_free(spectra);
  ptq_free(windows);
  ptq_free(answers);
  return rc;
}

static ptq_status carry_subject(ptq_store *st, int64_t row, const ptq_carry *c,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_source *s = c->source;
  const ptq_attempt_row *a = &s->model_attempts[c->from];
  const int state = s->model_state[c->from];
  bool all = true;
  if (state == PTQ_STATE_DONE)
    PTQ_TRY(put_finished_subject(st, row, c, &all, err));
  if (!all) goto done;
  if (state == PTQ_STATE_FAILED) {
    ptq_subject_result r = {.subject = row,
                            .state = PTQ_STATE_FAILED,
                            .row = s->models[c->from],
                            .seconds = a->seconds};
    r.row.model[0] = '\0'; /* identity is the new store's */
    PTQ_TRY(ptq_store_put_subject(st, &r, err));
  }
  PTQ_TRY(carry_attempt(st, PTQ_SET_MODELS_ATTEMPTS, row, state, a, err));
done:
  return rc;
}

static ptq_status put_finished_direction(ptq_store *st, int64_t row,
                                         const ptq_carry *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_source *s = c->source;
  const int64_t *step = s->sets.first_profile + c->from;
  const int64_t *layer = s->sets.first_direction_layer + c->from;
  const int64_t *value = s->sets.first_ritz + c->from;
  ptq_profile_row *profile = NULL;
  ptq_direction_layer_row *layers = NULL;
  ptq_ritz_row *ritz = NULL;
  ptq_direction_result r = {.direction = row,
                            .state = PTQ_STATE_DONE,
                            .row = s->directions[c->from],
                            .n_profile = step[1] - step[0],
                            .n_layers = layer[1] - layer[0],
                            .n_ritz = value[1] - value[0],
                            .seconds = s->direction_attempts[c->from].seconds};
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_PROFILES, step[0], r.n_profile, &profile,
                          err));
  for (int64_t i = 0; i < r.n_profile; i++) profile[i].direction = row;
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_DIRECTION_LAYERS, layer[0], r.n_layers,
                          &layers, err));
  for (int64_t i = 0; i < r.n_layers; i++) layers[i].direction = row;
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_RITZ, value[0], r.n_ritz, &ritz, err));
  for (int64_t i = 0; i < r.n_ritz; i++) ritz[i].direction = row;
  r.profile = profile;
  r.layers = layers;
  r.ritz = ritz;
  r.row.key[0] = '\0'; /* identity is the new store's */
  r.row.subject = 0;
  PTQ_TRY(ptq_store_put_direction(st, &r, err));
done:
  ptq_free(profile);
  ptq_free(layers);
  ptq_free(ritz);
  return rc;
}

/* The steps that any of the sources has of a direction. */
static ptq_status carry_steps(ptq_store *st, int64_t row, const char *key,
                              const ptq_carry_plan *plan, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  /* Backwards: what is written last, the first one's, stays. */
  for (int64_t k = plan->n_sources - 1; k >= 0; k--) {
    const ptq_source *s = &plan->sources[k];
    for (int64_t i = 0; i < s->sets.n_directions; i++)
      if (strcmp(s->directions[i].key, key) == 0)
        PTQ_TRY(ptq_steps_carry(&s->sets, i, st, row, key, err));
  }
done:
  return rc;
}

static ptq_status carry_direction(ptq_store *st, int64_t row,
                                  const ptq_carry_plan *plan, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_carry *c = &plan->directions[row];
  const ptq_source *s = c->source;
  const ptq_attempt_row *a = &s->direction_attempts[c->from];
  const int state = s->direction_state[c->from];
  if (state == PTQ_STATE_DONE)
    PTQ_TRY(put_finished_direction(st, row, c, err));
  else
    PTQ_TRY(carry_steps(st, row, s->directions[c->from].key, plan, err));
  if (state == PTQ_STATE_FAILED) {
    ptq_direction_result r = {.direction = row,
                              .state = PTQ_STATE_FAILED,
                              .row = s->directions[c->from],
                              .seconds = a->seconds};
    r.row.key[0] = '\0'; /* identity is the new store's */
    r.row.subject = 0;
    PTQ_TRY(ptq_store_put_direction(st, &r, err));
  }
  PTQ_TRY(carry_attempt(st, PTQ_SET_DIRECTIONS_ATTEMPTS, row, state, a, err));
done:
  return rc;
}

static ptq_status fill(ptq_store *st, const ptq_carry_plan *plan,
                       int64_t *n_points, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < plan->layout->n_points; i++)
    if (plan->points[i].source != NULL)
      PTQ_TRY(carry_point(st, i, &plan->points[i], n_points, err));
  for (int64_t i = 0; i < plan->layout->n_subjects; i++)
    if (plan->subjects[i].source != NULL)
      PTQ_TRY(carry_subject(st, i, &plan->subjects[i], err));
  for (int64_t i = 0;
       plan->directions != NULL && i < plan->layout->n_directions; i++)
    if (plan->directions[i].source != NULL)
      PTQ_TRY(carry_direction(st, i, plan, err));
  if (plan->log != NULL)
    PTQ_TRY(ptq_logring_copy(&st->sets, &plan->log->sets, err));
  PTQ_TRY(ptq_store_log(st, plan->line, err));
done:
  return rc;
}

ptq_status ptq_carry_into(const char *path, const ptq_carry_plan *plan,
                          int64_t *n_points, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_store *st = NULL;
  char *temporary = NULL;
  *n_points = 0;
  PTQ_TRY(ptq_store_make(path, plan->layout, &temporary, err));
  PTQ_TRY(ptq_store_attach(temporary, &st, err));
  PTQ_TRY(fill(st, plan, n_points, err));
  rc = ptq_store_close(st, err);
  st = NULL;
  PTQ_TRY(rc);
  PTQ_TRY(ptq_reserve_publish(temporary, path, err));
done:
  (void)ptq_store_close(st, NULL);
  if (rc != PTQ_OK && temporary != NULL) ptq_reserve_discard(temporary);
  ptq_free(temporary);
  return rc;
}
