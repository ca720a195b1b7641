/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file store.h
 * The HDF5 result store: writer and resume.
 *
 * Whole from the first second to the last: everything is created under a
 * temporary name, flushed, closed and renamed before any rank goes on; then
 * every rank reopens the file on MPI_COMM_SELF and writes its own slots
 * independently: payload, checksum, and the state last.
 */
#ifndef PTQ_STORE_STORE_H
#define PTQ_STORE_STORE_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/hash.h"
#include "ptq/base/status.h"
#include "ptq/record/result.h"
#include "ptq/record/rows.h"

/** One dataset of /spectra/<model>/<site>. */
typedef struct ptq_spectrum_slot {
  int64_t subject; /* row of /models it belongs to */
  char group[80];  /* name under /spectra */
  char site[32];
  int64_t n_blocks, d;
} ptq_spectrum_slot;

/** A further text about the run as a whole, an attribute of the root. */
typedef struct ptq_store_attribute {
  const char *name, *text;
} ptq_store_attribute;

/** Everything the store must know before the first result. Borrowed during
 * create. */
typedef struct ptq_store_layout {
  const char *spec_text; /* the sweep file, as run */
  const char *program_version;
  const char *numerics;
  char fingerprint[PTQ_HASH_HEX]; /* of the grid: all keys, in order */
  int64_t n_points;
  const ptq_point_row *points;  /* [n_points], identity columns filled */
  const int64_t *point_subject; /* [n_points] row of /models */
  const int64_t *point_layers;  /* [n_points] linear layers of the model */
  const int64_t *point_windows; /* [n_points] evaluation windows */
  const int64_t *point_answers; /* [n_points] requests; NULL: none */
  int64_t n_subjects;
  const ptq_model_row *subjects;  /* [n_subjects], identity columns filled */
  const int64_t *subject_windows; /* [n_subjects] */
  const int64_t *subject_answers; /* [n_subjects]; NULL: none */
  int64_t n_spectra;
  const ptq_spectrum_slot *spectra;    /* [n_spectra] */
  int64_t n_directions;                /* of the models' landscapes */
  const ptq_direction_row *directions; /* [n_directions], identity filled */
  const int64_t *direction_steps;      /* [n_directions] rows of profiles, */
  const int64_t *direction_layers;     /* of landscape/layers */
  const int64_t *direction_ritz;       /* and of landscape/ritz */
  const char (*direction_parts)[PTQ_HASH_HEX]; /* [n_directions] key of a
                                          direction whose results are a part of
                                          these, the same bits; "": none;
                                          NULL: of all */
  int64_t n_attributes;
  const ptq_store_attribute *attributes; /* [n_attributes], written at create:
                                            bootstrap, host, command line */
  bool durable; /* results reach the disk before they are marked done: they
                   outlive a power cut */
  bool extend;  /* may replace a store of a part of this grid by a new file with
                   its finished rows */
} ptq_store_layout;

typedef struct ptq_store ptq_store;

/**
 * Create `path`, or go on with it when it exists and was made by the same
 * grid (fingerprint) and numerics. Collective on comm; every rank passes the
 * same layout. All ranks return together: PTQ_OK everywhere or an error
 * everywhere (PTQ_E_PEER where another rank was first).
 * PTQ_E_ARG: a store of another sweep (the differences are listed by ptq_log)
 * or of other numerics, with the remedy, or one that another run is writing.
 * PTQ_E_IO (also a disk that has no room for every result: the space is
 * reserved here), PTQ_E_FORMAT. On success the handle is rank-local.
 */
ptq_status ptq_store_open(MPI_Comm comm, const char *path,
                          const ptq_store_layout *layout, ptq_store **out,
                          ptq_err *err);
/** Rank-local. Never MPI-collective, so survivors can close alone. NULL is
 * allowed. */
ptq_status ptq_store_close(ptq_store *st, ptq_err *err);
/** Give HDF5's own resources back; once, after the last close and before
 * MPI_Finalize. Rank-local. */
void ptq_store_shutdown(void);
/** "HDF5 1.10.8": the library in use. */
void ptq_store_library(char text[64]);
/** Did open find a store to go on with? */
bool ptq_store_resumed(const ptq_store *st);

/** State and attempts of every point and state of every subject, as stored; a
 * DONE row whose checksum failed at open is PENDING again and counted in
 * *n_bad. Arrays are the caller's, [n_points] and [n_subjects]. Rank-local. */
ptq_status ptq_store_states(ptq_store *st, int *point_state,
                            int64_t *point_attempts, int *subject_state,
                            int64_t *n_bad, ptq_err *err);

/** What earlier runs left of a point or model. */
typedef struct ptq_store_past {
  int64_t deaths; /* ranks that died while running it alone */
  bool suspect;   /* a rank died while running it: run it alone */
} ptq_store_past;

/** The past of every point [n_points] and model [n_subjects]. Rank-local. */
ptq_status ptq_store_history(ptq_store *st, ptq_store_past *points,
                             ptq_store_past *subjects, ptq_err *err);
/** Hold nothing of the past against a row. Rank-local. */
ptq_status ptq_store_forgive(ptq_store *st, int64_t point, ptq_err *err);
ptq_status ptq_store_forgive_subject(ptq_store *st, int64_t subject,
                                     ptq_err *err);

/** Past and state of every direction, [n_directions], and how many of them
 * were done and failed their checksum at open. Rank-local. */
ptq_status ptq_store_directions(ptq_store *st, int *state, ptq_store_past *past,
                                int64_t *n_bad, ptq_err *err);
ptq_status ptq_store_forgive_direction(ptq_store *st, int64_t direction,
                                       ptq_err *err);

/** Record that an attempt at these points begins (attempts + 1; state STARTED
 * unless DONE). Until ptq_store_rest, a deadly signal of this process writes
 * its name into their rows, and one more death into that of a point alone.
 * Rank-local. */
ptq_status ptq_store_begin(ptq_store *st, const int64_t *points, int64_t n,
                           ptq_err *err);
/** The same for a model's own item. */
ptq_status ptq_store_begin_subject(ptq_store *st, int64_t subject,
                                   ptq_err *err);
ptq_status ptq_store_begin_direction(ptq_store *st, int64_t direction,
                                     ptq_err *err);
/** What began has ended, one way or another. */
void ptq_store_rest(ptq_store *st);
/** An attempt was cut short by a stop: it does not count, and the point waits
 * again. Only while nobody runs it. Rank-local. */
ptq_status ptq_store_drop(ptq_store *st, int64_t point, ptq_err *err);
/** A rank vanished while running the point or model; `deaths` of them alone
 * so far. Keeps what the dying rank wrote itself. Rank-local. */
ptq_status ptq_store_died(ptq_store *st, int64_t point, int64_t deaths,
                          const char *who, ptq_err *err);
ptq_status ptq_store_died_subject(ptq_store *st, int64_t subject,
                                  int64_t deaths, const char *who,
                                  ptq_err *err);
ptq_status ptq_store_died_direction(ptq_store *st, int64_t direction,
                                    int64_t deaths, const char *who,
                                    ptq_err *err);
/** What the row's last rank died of, by its own words; "" if it left none.
 * Rank-local. */
ptq_status ptq_store_last_words(ptq_store *st, int64_t point, char text[128],
                                ptq_err *err);
/** Write a finished or failed point. Rank-local, independent; idempotent for
 * equal results, and a failure never replaces a finished row. Text and I64
 * columns of a row whose key (subject: whose model) is empty are taken from
 * the store. A full disk is PTQ_E_IO and leaves the row not done; PTQ_E_ARG:
 * a result that does not fit the grid. */
ptq_status ptq_store_put_point(ptq_store *st, const ptq_point_result *r,
                               ptq_err *err);
ptq_status ptq_store_put_subject(ptq_store *st, const ptq_subject_result *r,
                                 ptq_err *err);
/** The row's key, or an empty one: identity is the store's then. */
ptq_status ptq_store_put_direction(ptq_store *st, const ptq_direction_result *r,
                                   ptq_err *err);
/** Write rows of a direction's profile before there is all of it: each goes to
 * its place (its `step`) and gets a checksum with the key. Nothing where the
 * direction is finished. PTQ_E_ARG: rows that have no place there; PTQ_E_IO,
 * PTQ_E_NOMEM. Rank-local, independent. */
ptq_status ptq_store_put_steps(ptq_store *st, const ptq_steps *s, ptq_err *err);
/** The rows of a direction's profile [s->n] whose checksums hold with the key:
 * there[i] is set, s->rows[i] filled; others are left as they are. PTQ_E_ARG:
 * the profile has another length; PTQ_E_IO, PTQ_E_NOMEM. Rank-local. */
ptq_status ptq_store_left_steps(ptq_store *st, const ptq_steps *s, bool *there,
                                ptq_err *err);
/** Set state and message of a point without results (a vanished rank); a DONE
 * point is left as it is. Rank-local. */
ptq_status ptq_store_mark(ptq_store *st, int64_t point, ptq_state state,
                          const char *message, ptq_err *err);
/** Append a line to /log (bounded ring). Only rank 0 calls it. */
ptq_status ptq_store_log(ptq_store *st, const char *line, ptq_err *err);

#endif /* PTQ_STORE_STORE_H */
