/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file sets.h
 * The datasets of a store: ONE table of names and element types, and all of
 * them held open, as writer and reader both need them.
 */
#ifndef PTQ_STORE_SETS_H
#define PTQ_STORE_SETS_H

#include "h5io.h"
#include "ptq/store/store.h"

/** Root attributes that every store has. */
#define PTQ_STORE_FORMAT "ptqsweep"
enum { PTQ_STORE_SCHEMA = PTQ_H5_SCHEMA };

typedef enum ptq_set_id {
  PTQ_SET_POINTS,
  PTQ_SET_STATE,
  PTQ_SET_CHECKSUM,
  PTQ_SET_ATTEMPTS,
  PTQ_SET_LAYERS,
  PTQ_SET_WINDOWS,
  PTQ_SET_MODELS,
  PTQ_SET_MODELS_STATE,
  PTQ_SET_MODELS_CHECKSUM,
  PTQ_SET_MODELS_ATTEMPTS,
  PTQ_SET_BASELINE,
  PTQ_SET_SPECTRA_STATE,
  PTQ_SET_SPECTRA_CHECKSUM,
  PTQ_SET_SPECTRA_TOKENS,
  PTQ_SET_SUBJECT,
  PTQ_SET_FIRST_LAYER,
  PTQ_SET_FIRST_WINDOW,
  PTQ_SET_FIRST_BASELINE,
  PTQ_SET_ANSWERS,
  PTQ_SET_FIRST_ANSWER,
  PTQ_SET_BASELINE_ANSWERS,
  PTQ_SET_FIRST_BASELINE_ANSWER,
  PTQ_SET_DIRECTIONS,
  PTQ_SET_DIRECTIONS_STATE,
  PTQ_SET_DIRECTIONS_CHECKSUM,
  PTQ_SET_DIRECTIONS_ATTEMPTS,
  PTQ_SET_PROFILES,
  PTQ_SET_DIRECTION_LAYERS,
  PTQ_SET_RITZ,
  PTQ_SET_FIRST_PROFILE,
  PTQ_SET_FIRST_DIRECTION_LAYER,
  PTQ_SET_FIRST_RITZ,
  PTQ_SET_SPECTRA_INDEX,
  PTQ_SET_LOG,
  PTQ_SET_LOG_NEXT,
  PTQ_SET_ATTEMPTS_CHECKSUM,
  PTQ_SET_MODELS_ATTEMPTS_CHECKSUM,
  PTQ_SET_DIRECTIONS_ATTEMPTS_CHECKSUM,
  PTQ_SET_LOG_CHECKSUM,
  PTQ_SET_FIXED_CHECKSUM,
  PTQ_SET_PROFILES_CHECKSUM,
  PTQ_SET_COUNT
} ptq_set_id;

/** What an element of a set is. */
typedef enum ptq_element {
  PTQ_ELEMENT_ROW, /* compound of a table */
  PTQ_ELEMENT_U8,
  PTQ_ELEMENT_U32,
  PTQ_ELEMENT_I64,
  PTQ_ELEMENT_LINE /* fixed text of PTQ_LOG_LINE bytes */
} ptq_element;

enum { PTQ_LOG_LINES = 1024, PTQ_LOG_LINE = 240 };

typedef struct ptq_set_info {
  const char *name; /* path below the root */
  ptq_element element;
  const ptq_table *(*table)(void); /* for ROW */
  const char *text;                /* attribute `description` */
  int since;                       /* schema that has it; 0: all */
} ptq_set_info;

/** Never NULL for id < PTQ_SET_COUNT; static storage. */
const ptq_set_info *ptq_set_get(ptq_set_id id);
/** The element's type in the file; < 0 on failure. */
hid_t ptq_set_type(const ptq_set_info *info);
/** Units and meanings as attributes of a new dataset, for whoever opens the
 * file without this program. */
ptq_status ptq_set_describe(hid_t set, const char *path,
                            const ptq_set_info *info, ptq_err *err);

/** How many rows each set has. */
typedef struct ptq_set_rows {
  int64_t n[PTQ_SET_COUNT];
} ptq_set_rows;

/** A store's datasets, open, and the index that says which rows are whose. */
typedef struct ptq_sets {
  char *path; /* owned */
  hid_t file; /* owned */
  int64_t schema;
  ptq_h5_set set[PTQ_SET_COUNT];
  int64_t n_points, n_subjects, n_spectra;
  int64_t *subject;               /* owned [n_points] */
  int64_t *first_layer;           /* owned [n_points + 1] */
  int64_t *first_window;          /* owned [n_points + 1] */
  int64_t *first_answer;          /* owned [n_points + 1] */
  int64_t *first_baseline;        /* owned [n_subjects + 1] */
  int64_t *first_baseline_answer; /* owned [n_subjects + 1] */
  ptq_spectrum_slot *spectra;     /* owned [n_spectra] */
  int64_t n_directions;
  int64_t *first_profile;         /* owned [n_directions + 1] */
  int64_t *first_direction_layer; /* likewise */
  int64_t *first_ritz;            /* likewise */
} ptq_sets;

/** Nothing open; ptq_sets_close accepts it. */
void ptq_sets_init(ptq_sets *s);
/**
 * Open `path` with access properties `fapl` and check that it is a store:
 * format, schema, every dataset of that schema, sizes that fit each other.
 * Later ones are without rows.
 * PTQ_E_IO (cannot open), PTQ_E_FORMAT (not a store, truncated, newer).
 */
ptq_status ptq_sets_open(const char *path, unsigned flags, hid_t fapl,
                         ptq_sets *s, ptq_err *err);
/** PTQ_E_IO if the file could not be closed; everything is released. */
ptq_status ptq_sets_close(ptq_sets *s, ptq_err *err);

/** Open the dataset of spectrum `i`. */
ptq_status ptq_sets_spectrum(const ptq_sets *s, int64_t i, ptq_h5_set *out,
                             ptq_err *err);

#endif /* PTQ_STORE_SETS_H */
