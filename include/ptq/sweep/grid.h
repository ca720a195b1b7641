/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file grid.h
 * The points of a sweep: subjects (model x calibration x evaluation) times
 * dtype x method x group, in the order of the sweep file, duplicates and
 * excluded ones dropped.
 */
#ifndef PTQ_SWEEP_GRID_H
#define PTQ_SWEEP_GRID_H

#include "ptq/base/hash.h"
#include "ptq/base/team.h"
#include "ptq/model/model.h"
#include "ptq/record/rows.h"
#include "ptq/sweep/requests.h"
#include "ptq/sweep/spec.h"

/** One model on one calibration and one evaluation text. */
typedef struct ptq_subject {
  int64_t model;                   /* index into spec->models */
  int64_t calibration, evaluation; /* indices into spec's */
  ptq_model_info info;
  char family[32];
  char fingerprint[PTQ_HASH_HEX]; /* of the checkpoint */
  ptq_request_size requests;      /* set by ptq_grid_measure */
} ptq_subject;

typedef struct ptq_point {
  int64_t subject;
  int64_t dtype, method; /* indices into spec's */
  int64_t group; /* resolved: a group that reaches every row's width is ROW */
  char key[PTQ_HASH_HEX];
} ptq_point;

/** What an item of a model's landscape measures: along a random direction, by
 * its ptq_random_kind, or one of these. */
enum {
  PTQ_DIRECTION_RTN = PTQ_RANDOM_KINDS, /* what RTN does to the weights */
  PTQ_DIRECTION_HESSIAN,                /* derivatives at the weights */
  PTQ_DIRECTION_GPTQ,       /* what static GPTQ does to the weights */
  PTQ_DIRECTION_SENSITIVITY /* a block's layers rounded alone, and left out */
};

typedef struct ptq_direction {
  int64_t subject;
  int kind;
  int64_t number; /* of random ones, by kind; of a sensitivity its block */
  int64_t point;  /* of displacements and sensitivities: the point whose formats
                     it has; -1 */
  char key[PTQ_HASH_HEX];
  char radial_key[PTQ_HASH_HEX]; /* of the same profile without derivatives;
                                    empty where there are none */
} ptq_direction;

/** What a mixture makes of a subject's layers. */
typedef struct ptq_resolved {
  char hash[PTQ_HASH_HEX]; /* of every layer's format, in order */
  int32_t *rule; /* owned; [ptq_subject_layers] of the mixture, -1 the fallback;
                    NULL where it is no mixture, or not for the model */
} ptq_resolved;

typedef struct ptq_grid {
  const ptq_spec *spec;  /* borrowed */
  ptq_subject *subjects; /* owned */
  int64_t n_subjects;
  ptq_resolved *resolved; /* owned; [n_resolved]: subject by dtype */
  int64_t n_resolved;
  ptq_point *points; /* owned */
  int64_t n_points;
  ptq_direction *directions; /* owned; by subject */
  int64_t n_directions;
  int64_t n_duplicates; /* dropped because a group became a row, or because
                           mixtures give a model the same formats */
  int64_t n_excluded;   /* dropped by the sweep file's exclude */
  int64_t n_requests;   /* asked of every model */
  const char *scratch;  /* borrowed, nullable; directory for hidden states, set
                           by  who runs or plans; changes no result */
  int threads;          /* of a rank, likewise; 0 is 1; the sweep file's
                           where the command line has none */
  int ranks;            /* on one item, likewise */
  ptq_team *team;       /* borrowed, nullable; these ranks at work, of which
                           this is one */
  char data_fingerprint[PTQ_HASH_HEX]; /* of all texts; set by keys */
  char fingerprint[PTQ_HASH_HEX];      /* of all keys in order; set by keys */
} ptq_grid;

/** Cross product; opens every model (headers only). Combinations that a
 * method refuses are errors naming dtype, method and reason, and so is a
 * mixture's pattern that decides for no layer of any model. */
ptq_status ptq_grid_build(const ptq_spec *spec, ptq_grid *out, ptq_err *err);
void ptq_grid_release(ptq_grid *g);

/** Size of the requests under each model's tokenizer, which a plan counts:
 * reads their tokens. Does nothing where the sweep has none. PTQ_E_IO: they
 * are not tokenized yet. */
ptq_status ptq_grid_measure(ptq_grid *g, ptq_err *err);

/** Texts of the sweep: calibrations, evaluations, selection, in this order. */
int64_t ptq_grid_texts(const ptq_grid *g);
/** Texts, and where the sweep has requests or the preset lm-eval, the requests'
 * file and each model's settings of its tokenizer. */
int64_t ptq_grid_inputs(const ptq_grid *g);
/** Fingerprints of the models' files (checkpoint and tokenizer.json) and of
 * the texts' bytes: reads them all once. `models` is [n_models] in spec order,
 * `texts` [ptq_grid_inputs(g)]. PTQ_E_IO names what is missing. */
ptq_status ptq_grid_hash_inputs(const ptq_grid *g, char (*models)[PTQ_HASH_HEX],
                                char (*texts)[PTQ_HASH_HEX], ptq_err *err);
/** Fill every key: hash of model fingerprint, the windows and bytes of the
 * point's own three texts, the requests if there are any, dtype, method,
 * options, group, numerics. Nothing else enters, so a sweep that grows keeps
 * the keys it had. PTQ_E_ARG when two points are the same (one checkpoint under
 * two names). Neither array is written (C11 has no conversion to pointers to
 * const arrays). */
ptq_status ptq_grid_set_keys(ptq_grid *g, char (*models)[PTQ_HASH_HEX],
                             char (*texts)[PTQ_HASH_HEX], const char *numerics,
                             ptq_err *err);

/** What a point makes of a layer, whose tensor is given: its format and its
 * group, which may reach a narrow layer's width. */
void ptq_point_format(const ptq_grid *g, int64_t point, const char *tensor,
                      const ptq_dtype **dtype, int64_t *group);
/** The least positive group of a point's layers; 0: rows and tensors only. */
int64_t ptq_point_least_group(const ptq_grid *g, int64_t point);
/** Format, group, weights and bits of a point's layers, in the order of their
 * rows [ptq_subject_layers]; all else is cleared. Bits are those of codes,
 * scales and zero points: what a method adds (factors, orders) is not in
 * them. */
void ptq_point_layers(const ptq_grid *g, int64_t point, ptq_layer_row *rows);
/** Such bits a weight over all layers. PTQ_E_NOMEM. */
ptq_status ptq_point_bits(const ptq_grid *g, int64_t point, double *out,
                          ptq_err *err);

/** A model's own items are numbered: a subject's baseline by the subject, a
 * direction by n_subjects + direction. How many there are; whose one is. */
int64_t ptq_grid_own(const ptq_grid *g);
int64_t ptq_grid_own_subject(const ptq_grid *g, int64_t own);

/** Linear layers of a subject's model that are quantized. */
int64_t ptq_subject_layers(const ptq_subject *s);
/** A group as it is spelled: "32", "row" or "tensor". */
void ptq_group_name(int64_t group, char name[24]);

#endif /* PTQ_SWEEP_GRID_H */
