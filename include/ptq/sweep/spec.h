/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spec.h
 * The sweep file: YAML read, checked and resolved.
 *
 * Unknown keys, wrong types and impossible combinations are errors with file,
 * line and a suggestion. Paths are relative to the sweep file.
 */
#ifndef PTQ_SWEEP_SPEC_H
#define PTQ_SWEEP_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/num/bf16.h"
#include "ptq/num/dtype.h"
#include "ptq/quant/method.h"
#include "ptq/sweep/mixture.h"

enum { PTQ_MODEL_NAME_MAX = 64, PTQ_LABEL_MAX = 96, PTQ_COVARIATES_MAX = 192 };

enum { PTQ_PRESET_MAX = 24 };

/** Which tokens of an evaluation text's windows are scored, and with how much
 * context. All zero: windows without overlap, scored from their second token
 * on (the preset gptq). */
typedef struct ptq_scoring {
  char preset[PTQ_PRESET_MAX]; /* "llama.cpp", "strided:128", "lm-eval",
                                  "bytes:2000"; empty: gptq */
  int64_t stride;   /* from a window's begin to the next one's; 0: length */
  int64_t context;  /* tokens at a window's begin that are not scored; 0: 1 */
  bool first_whole; /* of the first window, only its first token is not */
  bool bos_each; /* where the tokenizer begins a text with a token of its own,
                    that replaces the first token of each window */
  int64_t bytes; /* a window scores so many, by ends of words; 0: as many as
                    its tokens have */
  bool prefixed; /* the text begins with the tokenizer's beginning- or else
                    its end-of-text token, whether or not it adds one */
} ptq_scoring;

/** A text and how windows are cut from it. */
typedef struct ptq_text_spec {
  char *path; /* owned; resolved */
  int64_t windows, length;
  bool random; /* windows at random positions drawn from seed; else the first
                  ones, cut without overlap */
  uint64_t seed;
  ptq_scoring scoring;       /* of evaluation texts */
  char label[PTQ_LABEL_MAX]; /* "train.txt:64x256@1": base name, windows x
                                length, @seed when random, @end for the
                                default selection, /preset */
  int line;                  /* in the sweep file */
} ptq_text_spec;

/** Log-likelihood requests: questions with choices, as lm-eval asks them. */
typedef struct ptq_request_spec {
  char *path;         /* owned; resolved; NULL: the sweep has none */
  int64_t limit;      /* the file's first ones; 0: all */
  int64_t length;     /* tokens that a model sees; 0: all its positions */
  int bos;            /* lm-eval's add_bos_token: 1, 0; -1: as the tokenizer */
  int64_t prefix;     /* token that stands for an empty context; -1: as the
                         tokenizer says */
  char delimiter[16]; /* begins choices and does not count in their length */
  char label[PTQ_LABEL_MAX]; /* "arc.jsonl": base name, what is no default */
  int line;                  /* in the sweep file */
} ptq_request_spec;

typedef struct ptq_model_spec {
  char *path;                    /* owned; resolved directory */
  char name[PTQ_MODEL_NAME_MAX]; /* unique in the sweep: base name of the
                                    directory, or `name:` */
  char family[32];               /* `family:`, or "" for the architecture */
  char covariates[PTQ_COVARIATES_MAX]; /* "train_tokens=3e9,..." sorted */
  int line;
} ptq_model_spec;

/** A pattern that removes points; unset members match everything. `model` may
 * hold the wildcards of fnmatch(3). */
typedef struct ptq_exclude {
  char model[PTQ_MODEL_NAME_MAX], dtype[PTQ_DTYPE_NAME_MAX];
  char method[PTQ_METHOD_NAME_MAX];
  bool has_options; /* method was a mapping: its options must agree too */
  char options[PTQ_METHOD_OPTIONS_MAX];
  bool has_group;
  int64_t group;
  int line;
} ptq_exclude;

typedef enum ptq_spectra_mode {
  PTQ_SPECTRA_OFF,
  PTQ_SPECTRA_FULL
} ptq_spectra_mode;

typedef enum ptq_landscape_mode {
  PTQ_LANDSCAPE_OFF,
  PTQ_LANDSCAPE_RADIAL, /* profiles: forward passes alone */
  PTQ_LANDSCAPE_FULL    /* and gradient and Hessian */
} ptq_landscape_mode;

/** Elements of random directions, and what their length is measured by. */
typedef enum ptq_random_kind {
  PTQ_RANDOM_GAUSSIAN_LAYER,
  PTQ_RANDOM_GAUSSIAN_ROW,
  PTQ_RANDOM_UNIFORM_LAYER,
  PTQ_RANDOM_UNIFORM_ROW,
  PTQ_RANDOM_KINDS
} ptq_random_kind;

/** What is measured of the loss around a model's weights. */
typedef struct ptq_landscape_spec {
  ptq_landscape_mode mode;
  int64_t directions;            /* random ones of each kind */
  bool random[PTQ_RANDOM_KINDS]; /* kinds that are asked for */
  bool rtn;          /* displacements of RTN, one a dtype of the grid, */
  bool gptq;         /* and of GPTQ on the unquantized model's moments */
  bool *sensitivity; /* owned; [n_dtypes] those for which each layer is rounded
                        alone, and each left out; NULL: none */
  int64_t radii;     /* in equal steps of their logarithm, */
  double smallest;   /* from here, */
  double largest;    /* to here: lengths over that of the weights */
  int64_t probes;    /* of the Hessian's trace */
  int64_t lanczos;   /* steps, */
  int64_t starts;    /* from so many vectors */
} ptq_landscape_spec;

typedef struct ptq_spec {
  char *path; /* owned; of the sweep file */
  char *text; /* owned; its contents with --set applied as comments appended */
  bool overridden; /* by --set: what names nothing any more is no slip */
  char name[64];
  ptq_model_spec *models; /* owned, globs expanded, sorted as given */
  int64_t n_models;
  ptq_text_spec *calibrations; /* owned */
  int64_t n_calibrations;
  ptq_text_spec *evaluations; /* owned */
  int64_t n_evaluations;
  ptq_text_spec selection; /* for output SQNR. Given, or 16 windows of the
                              first calibration text's length, taken as the
                              LAST non-overlapping windows of that text */
  bool selection_from_end; /* the default above is in use */
  ptq_request_spec requests;
  ptq_dtype *dtypes;      /* owned; a mixture has its name here, no family */
  ptq_mixture **mixtures; /* owned; [n_dtypes] NULL for a plain dtype; or
                             NULL: there is none */
  int64_t n_dtypes;
  ptq_method *methods; /* owned */
  int *method_lines;   /* owned; [n_methods] in the sweep file */
  int64_t n_methods;
  int64_t *groups; /* owned; > 0, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR */
  int64_t n_groups;
  ptq_exclude *excludes; /* owned */
  int64_t n_excludes;
  ptq_spectra_mode spectra;
  ptq_landscape_spec landscape;
  ptq_compute compute;     /* of every forward pass */
  int64_t threads;         /* of a rank; 0: not given. Changes no result */
  int64_t ranks_per_point; /* likewise */
} ptq_spec;

/**
 * Read `path`; `sets` are "grid.group=[32]" overrides of the command line: a
 * dotted path of keys and a YAML value that replaces what the file says. An
 * exclusion that can match nothing is an error, unless there are overrides.
 * Texts are not opened here, models are only found.
 * @return PTQ_E_IO, PTQ_E_FORMAT (YAML), PTQ_E_ARG (content); messages start
 *         with "path:line:". On failure *out is released. Rank-local.
 */
ptq_status ptq_spec_read(const char *path, const char *const *sets,
                         int64_t n_sets, ptq_spec *out, ptq_err *err);
void ptq_spec_release(ptq_spec *s);
/** Elements ("gaussian") and scaling ("layer") of a kind of random direction.
 */
const char *ptq_random_elements(ptq_random_kind kind);
const char *ptq_random_scaling(ptq_random_kind kind);
/** The mixture behind a dtype, NULL for a plain one. */
const ptq_mixture *ptq_spec_mixture(const ptq_spec *s, int64_t dtype);

#endif /* PTQ_SWEEP_SPEC_H */
