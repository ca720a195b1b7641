/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file study.h
 * A sweep file made ready to run: spec, grid, keys and numerics, the same on
 * every rank.
 */
#ifndef PTQ_CLI_STUDY_H
#define PTQ_CLI_STUDY_H

#include <mpi.h>

#include "ptq/num/numerics.h"
#include "ptq/store/store.h"
#include "ptq/sweep/grid.h"

typedef struct ptq_study {
  ptq_spec spec; /* owned */
  ptq_grid grid; /* owned */
  char numerics[PTQ_NUMERICS_MAX];
} ptq_study;

/** Read the sweep file, build the grid, start BLAS and set the keys: rank 0
 * hashes the inputs for all. Collective: all ranks return together. */
ptq_status ptq_study_open(MPI_Comm comm, const char *path,
                          const char *const *sets, int64_t n_sets,
                          ptq_study *out, ptq_err *err);
void ptq_study_close(ptq_study *s);

enum { PTQ_SETS_MAX = 64 };
/** The overrides that stand as comments at the end of a store's sweep text;
 * they point into `text`, which is cut. Their number. */
int64_t ptq_study_sets(char *text, const char *sets[PTQ_SETS_MAX]);

/** Are the tokens of every subject there, long enough and within the
 * vocabulary? Rank-local. */
ptq_status ptq_study_check_tokens(const ptq_study *s, ptq_err *err);

/** The same of the subjects whose texts are tokens already; `*all` says whether
 * each one's are. */
ptq_status ptq_study_check_prepared(const ptq_study *s, bool *all,
                                    ptq_err *err);

/** Layout of the study's store, with its arrays. */
typedef struct ptq_study_layout {
  ptq_store_layout layout;       /* borrows the arrays below */
  ptq_point_row *points;         /* owned */
  int64_t *point_subject;        /* owned */
  int64_t *point_layers;         /* owned */
  int64_t *point_windows;        /* owned */
  int64_t *point_answers;        /* owned */
  ptq_model_row *subjects;       /* owned */
  int64_t *subject_windows;      /* owned */
  int64_t *subject_answers;      /* owned */
  ptq_spectrum_slot *spectra;    /* owned */
  ptq_direction_row *directions; /* owned */
  int64_t *direction_rows;       /* owned; steps, layers, Ritz values of all */
  char (*direction_parts)[PTQ_HASH_HEX]; /* owned */
  ptq_store_attribute *attributes;       /* owned */
} ptq_study_layout;

/** `more` attributes [n_more] are borrowed; may be NULL. */
ptq_status ptq_study_layout_make(const ptq_study *s,
                                 const ptq_store_attribute *more,
                                 int64_t n_more, ptq_study_layout *out,
                                 ptq_err *err);
void ptq_study_layout_release(ptq_study_layout *l);

#endif /* PTQ_CLI_STUDY_H */
