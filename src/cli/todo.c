/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "todo.h"

#include <stdio.h>

#include "ptq/base/mem.h"
#include "ptq/sweep/cost.h"

/* What the store says of its rows. */
typedef struct past {
  int *point, *subject;     /* owned; states */
  int64_t *attempts;        /* owned */
  ptq_store_past *points;   /* owned */
  ptq_store_past *subjects; /* owned; as `subject`, directions behind */
} past;

static void past_release(past *p) {
  ptq_free(p->point);
  ptq_free(p->subject);
  ptq_free(p->attempts);
  ptq_free(p->points);
  ptq_free(p->subjects);
}

/* n points, m models, k directions */
static ptq_status past_read(ptq_store *st, int64_t n, int64_t m, int64_t k,
                            past *p, int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t more = 0;
  PTQ_TRY(ptq_alloc(&p->point, n, sizeof(int), "states", err));
  PTQ_TRY(ptq_alloc(&p->subject, m + k, sizeof(int), "states", err));
  PTQ_TRY(ptq_alloc(&p->attempts, n, sizeof(int64_t), "states", err));
  PTQ_TRY(ptq_alloc(&p->points, n, sizeof *p->points, "states", err));
  PTQ_TRY(ptq_alloc(&p->subjects, m + k, sizeof *p->subjects, "states", err));
  PTQ_TRY(ptq_store_states(st, p->point, p->attempts, p->subject, n_bad, err));
  PTQ_TRY(ptq_store_history(st, p->points, p->subjects, err));
  PTQ_TRY(
      ptq_store_directions(st, p->subject + m, p->subjects + m, &more, err));
  *n_bad += more;
done:
  return rc;
}

/* It killed its ranks, alone, and the run with them: no run came so far as to
 * say so. */
static ptq_status give_up(ptq_store *st, int64_t point, int64_t deaths,
                          ptq_err *err) {
  char words[128], message[240];
  const ptq_status rc = ptq_store_last_words(st, point, words, err);
  if (rc != PTQ_OK) return rc;
  (void)snprintf(message, sizeof message,
                 "%s%srank vanished %lld time%s while running this alone",
                 words, words[0] != '\0' ? ": " : "", (long long)deaths,
                 deaths == 1 ? "" : "s");
  return ptq_store_mark(st, point, PTQ_STATE_FAILED, message, err);
}

static ptq_status find_points(ptq_store *st, const past *p, int64_t n,
                              int max_attempts, bool retry, ptq_todo *t,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < n; i++) {
    bool failed = p->point[i] == PTQ_STATE_FAILED;
    t->deaths[i] = p->points[i].deaths;
    if (p->point[i] == PTQ_STATE_DONE) continue;
    if (retry && t->deaths[i] > 0) {
      PTQ_TRY(ptq_store_forgive(st, i, err));
      t->deaths[i] = 0;
    } else if (!failed && t->deaths[i] >= max_attempts) {
      PTQ_TRY(give_up(st, i, t->deaths[i], err));
      failed = true;
    }
    if (failed && !retry) {
      t->n_failed++;
      continue;
    }
    t->points[i] = p->points[i].suspect ? PTQ_TODO_ALONE : PTQ_TODO_ANY;
    t->n_points++;
  }
done:
  return rc;
}

static ptq_status give_up_subject(ptq_store *st, int64_t subject,
                                  int64_t deaths, ptq_err *err) {
  ptq_subject_result r = {.subject = subject, .state = PTQ_STATE_FAILED};
  ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), &r.row);
  (void)snprintf(r.message, sizeof r.message,
                 "rank vanished %lld time%s while measuring this model",
                 (long long)deaths, deaths == 1 ? "" : "s");
  return ptq_store_put_subject(st, &r, err);
}

static ptq_status give_up_direction(ptq_store *st, int64_t direction,
                                    int64_t deaths, ptq_err *err) {
  ptq_direction_result r = {.direction = direction, .state = PTQ_STATE_FAILED};
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &r.row);
  (void)snprintf(r.message, sizeof r.message,
                 "rank vanished %lld time%s while measuring along this",
                 (long long)deaths, deaths == 1 ? "" : "s");
  return ptq_store_put_direction(st, &r, err);
}

/* Own items: m models and k directions. */
static ptq_status find_subjects(ptq_store *st, const past *p, int64_t m,
                                int64_t k, int max_attempts, bool retry,
                                ptq_todo *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < m + k; i++) {
    const bool model = i < m;
    t->subject_deaths[i] = p->subjects[i].deaths;
    if (p->subject[i] == PTQ_STATE_DONE) continue;
    if (p->subject[i] == PTQ_STATE_FAILED && !retry) {
      t->n_failed_items++;
      continue;
    }
    if (retry && t->subject_deaths[i] > 0) {
      PTQ_TRY(model ? ptq_store_forgive_subject(st, i, err)
                    : ptq_store_forgive_direction(st, i - m, err));
      t->subject_deaths[i] = 0;
    } else if (t->subject_deaths[i] >= max_attempts) {
      const int64_t deaths = t->subject_deaths[i];
      PTQ_TRY(model ? give_up_subject(st, i, deaths, err)
                    : give_up_direction(st, i - m, deaths, err));
      t->n_failed_items++;
      continue;
    }
    t->subjects[i] = PTQ_TODO_ANY;
    t->n_subjects++;
  }
done:
  return rc;
}

ptq_status ptq_todo_find(ptq_store *st, int64_t n_points, int64_t n_subjects,
                         int64_t n_directions, int max_attempts,
                         bool retry_failed, ptq_todo *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t own = n_subjects + n_directions;
  past p = {0};
  *out = (ptq_todo){0};
  PTQ_TRY(ptq_alloc(&out->points, n_points, 1, "states", err));
  PTQ_TRY(ptq_alloc(&out->subjects, own, 1, "states", err));
  PTQ_TRY(ptq_alloc(&out->deaths, n_points, sizeof(int64_t), "states", err));
  PTQ_TRY(ptq_alloc(&out->subject_deaths, own, sizeof(int64_t), "states", err));
  PTQ_TRY(
      past_read(st, n_points, n_subjects, n_directions, &p, &out->n_bad, err));
  PTQ_TRY(find_points(st, &p, n_points, max_attempts, retry_failed, out, err));
  PTQ_TRY(find_subjects(st, &p, n_subjects, n_directions, max_attempts,
                        retry_failed, out, err));
done:
  past_release(&p);
  if (rc != PTQ_OK) ptq_todo_release(out);
  return rc;
}

void ptq_todo_release(ptq_todo *t) {
  ptq_free(t->points);
  ptq_free(t->subjects);
  ptq_free(t->deaths);
  ptq_free(t->subject_deaths);
  *t = (ptq_todo){0};
}
