/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file todo.h
 * What a store still lacks: which points and models to run, which of them
 * alone, and what earlier runs' deaths hold against them.
 */
#ifndef PTQ_CLI_TODO_H
#define PTQ_CLI_TODO_H

#include "ptq/store/store.h"

typedef struct ptq_todo {
  unsigned char *points;   /* owned; [n_points] 0 or a ptq_todo_mark */
  unsigned char *subjects; /* owned; [n_subjects + n_directions] models' own
                              items: baselines, then directions */
  int64_t *deaths;         /* owned; [n_points] of ranks, running it alone */
  int64_t *subject_deaths; /* owned; likewise */
  int64_t n_points;        /* to do */
  int64_t n_subjects;      /* own items */
  int64_t n_failed;        /* failed points that are left alone */
  int64_t n_failed_items;  /* likewise own items */
  int64_t n_bad;           /* finished rows whose checksum failed */
} ptq_todo;

/** Read the store's states. A point that killed `max_attempts` ranks alone in
 * earlier runs is marked failed here. With `retry_failed` failed rows are to
 * do, and nothing is held against them. Rank 0. */
ptq_status ptq_todo_find(ptq_store *st, int64_t n_points, int64_t n_subjects,
                         int64_t n_directions, int max_attempts,
                         bool retry_failed, ptq_todo *out, ptq_err *err);
void ptq_todo_release(ptq_todo *t);

#endif /* PTQ_CLI_TODO_H */
