/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file lastwords.h
 * What a rank that dies of a signal still writes: the signal's name into the
 * rows of what it was running. From the signal handler itself, with pwrite:
 * the tables of a store have their places in the file from the start.
 */
#ifndef PTQ_STORE_LASTWORDS_H
#define PTQ_STORE_LASTWORDS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "sets.h"

/** Where the words go. Read by the handler while `armed`. */
typedef struct ptq_words {
  int fd;        /* owned; the store, for writing; -1: nowhere */
  int64_t *rows; /* owned; [n], -1: finished meanwhile */
  int64_t n, cap;
  bool alone;
  off_t at;                     /* of row 0 in the file */
  off_t sums_at;                /* of its checksum, of four bytes */
  size_t row_bytes;             /* of the table of attempts */
  off_t deaths_at, message_at;  /* in a row */
  unsigned char next_deaths[8]; /* what a death alone makes of its count */
  volatile sig_atomic_t armed;
} ptq_words;

/** Every deadly signal's words begin so. */
#define PTQ_WORDS_PREFIX "SIG"

/** From now on the signals SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT of this
 * process are noted before they kill it; what caught them before does so
 * afterwards. `words` is the process's only one until ptq_words_release. */
ptq_status ptq_words_init(ptq_words *words, const char *path, ptq_err *err);
void ptq_words_release(ptq_words *words);

/** These rows of set `attempts` are running; `deaths` is the count of
 * rows[0]. */
ptq_status ptq_words_arm(ptq_words *words, const ptq_sets *sets,
                         ptq_set_id attempts, const int64_t *rows, int64_t n,
                         int64_t deaths, ptq_err *err);
/** A row has its result. */
void ptq_words_finish(ptq_words *words, int64_t row);
void ptq_words_disarm(ptq_words *words);

#endif /* PTQ_STORE_LASTWORDS_H */
