/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file store_impl.h
 * The writer's handle, shared by store.c (open, resume, close), put.c
 * (results) and past.c (attempts).
 */
#ifndef PTQ_STORE_STORE_IMPL_H
#define PTQ_STORE_STORE_IMPL_H

#include "lastwords.h"
#include "sets.h"

struct ptq_store {
  char *path;    /* owned */
  ptq_sets sets; /* owned; every id is valid while the handle lives */
  int rank;
  int lock_fd; /* owned; -1 when not locked */
  bool resumed, durable;
  unsigned char *bad_points;     /* owned [n_points]: checksum failed at open */
  unsigned char *bad_models;     /* owned [n_subjects] */
  unsigned char *bad_directions; /* owned [n_directions] */
  char host[64];
  off_t size;             /* of the file, which never changes */
  ptq_words words;        /* what a dying rank writes */
  unsigned char *scratch; /* owned: packed rows on their way out */
  int64_t scratch_cap;
};

/** Open a store that nobody else knows of, without lock or MPI; closed with
 * ptq_store_close. */
ptq_status ptq_store_attach(const char *path, ptq_store **out, ptq_err *err);

/** PTQ_E_IO when the file was removed, replaced or cut since it was opened:
 * what is written now would be lost. */
ptq_status ptq_store_still_there(const ptq_store *st, ptq_err *err);

/** Room for `bytes` in st->scratch. */
ptq_status ptq_store_scratch(ptq_store *st, int64_t bytes, ptq_err *err);

/** One row of a table as the C row. */
ptq_status ptq_store_read_row(const ptq_h5_set *set, const ptq_table *t,
                              int64_t row, void *out, ptq_err *err);
/** The state of a row. */
ptq_status ptq_store_read_state(const ptq_h5_set *set, int64_t row, int *state,
                                ptq_err *err);
ptq_status ptq_store_write_state(const ptq_h5_set *set, int64_t row, int state,
                                 ptq_err *err);
/** The checksum of a row; 0 says that it has none. */
ptq_status ptq_store_write_sum(const ptq_h5_set *set, int64_t row, uint32_t sum,
                               ptq_err *err);
/** PTQ_E_ARG when there is no such point. */
ptq_status ptq_store_check_point(const ptq_store *st, int64_t point,
                                 ptq_err *err);
/** Read and write the volatile row of a point or model. */
ptq_status ptq_attempt_read(ptq_store *st, ptq_set_id id, int64_t row,
                            ptq_attempt_row *out, ptq_err *err);
ptq_status ptq_attempt_write(ptq_store *st, ptq_set_id id, int64_t row,
                             const ptq_attempt_row *a, ptq_err *err);
/** Rank 0 at resume: rows that were in flight when the last run ended wait
 * again. The attempt counts only where a rank died of it. */
ptq_status ptq_past_reset(ptq_store *st, ptq_err *err);
/** The past of every direction. */
ptq_status ptq_past_directions(ptq_store *st, ptq_store_past *out,
                               ptq_err *err);

#endif /* PTQ_STORE_STORE_IMPL_H */
