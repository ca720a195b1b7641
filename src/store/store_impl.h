/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file store_impl.h
 * The writer's handle, shared by store.c (open, resume, close) and put.c
 * (results).
 */
#ifndef PTQ_STORE_STORE_IMPL_H
#define PTQ_STORE_STORE_IMPL_H

#include "sets.h"

struct ptq_store {
  char *path;    /* owned */
  ptq_sets sets; /* owned; every id is valid while the handle lives */
  int rank;
  int lock_fd; /* owned; -1 when not locked */
  bool resumed;
  unsigned char *bad_points; /* owned [n_points]: checksum failed at open */
  unsigned char *bad_models; /* owned [n_subjects] */
  char host[64];
  unsigned char *scratch; /* owned: packed rows on their way out */
  int64_t scratch_cap;
};

/** Room for `bytes` in st->scratch. */
ptq_status ptq_store_scratch(ptq_store *st, int64_t bytes, ptq_err *err);

#endif /* PTQ_STORE_STORE_IMPL_H */
