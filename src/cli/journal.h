/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file journal.h
 * What a rank did, for programs: one JSON object a line and event, in
 * DIR/rank-<r>.jsonl.
 *
 * Every line has "time" (UTC), "rank", "host", "pid" and "event"; what else is
 * said of each event is in `ptqsweep run --help`.
 */
#ifndef PTQ_CLI_JOURNAL_H
#define PTQ_CLI_JOURNAL_H

#include "ptq/record/result.h"

typedef struct ptq_journal {
  int fd; /* owned; -1: none is kept */
  int rank;
  char host[64];
} ptq_journal;

/** Open the rank's file for appending, making `dir` if need be; NULL: keep no
 * journal. PTQ_E_IO. Rank-local. */
ptq_status ptq_journal_open(const char *dir, int rank, ptq_journal *out,
                            ptq_err *err);
void ptq_journal_close(ptq_journal *j);

/** Lines are dropped where they cannot be written: a journal is no result. */
void ptq_journal_text(ptq_journal *j, const char *event, const char *name,
                      const char *text);
void ptq_journal_begin(ptq_journal *j, const int64_t *points, int64_t n);
void ptq_journal_point(ptq_journal *j, const ptq_point_result *p);
void ptq_journal_direction(ptq_journal *j, const ptq_direction_result *d);
/** Rows of a direction's profile: "steps" that were finished, or "left" by an
 * earlier attempt. */
void ptq_journal_steps(ptq_journal *j, const char *event, int64_t direction,
                       int64_t n);
void ptq_journal_subject(ptq_journal *j, const ptq_subject_result *s);
void ptq_journal_end(ptq_journal *j, int exit_code, int64_t done,
                     int64_t failed, double seconds);

#endif /* PTQ_CLI_JOURNAL_H */
