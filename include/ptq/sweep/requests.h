/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file requests.h
 * A sweep's log-likelihood requests under one model: the tokens of their
 * contexts and choices, from the cache that sweeps/prepare.py writes, put
 * together in bundles for the forward pass.
 *
 * What lm-eval's class for Hugging Face models feeds to a model, choice by
 * choice: context and choice without the last token, cut on the left to what
 * the model sees. The choices of a request share the tokens that they all
 * begin with.
 */
#ifndef PTQ_SWEEP_REQUESTS_H
#define PTQ_SWEEP_REQUESTS_H

#include "ptq/base/hash.h"
#include "ptq/eval/answers.h"
#include "ptq/eval/targets.h"
#include "ptq/model/bundle.h"
#include "ptq/sweep/spec.h"

/** Tokens that a bundle holds, unless one request has more. */
enum { PTQ_BUNDLE_ROWS = 512 };

typedef struct ptq_choice {
  int64_t request;
  int64_t target, n_targets; /* of ptq_requests.targets: its tokens, in order */
  int64_t length[PTQ_PER_COUNT]; /* 1, characters, bytes, tokens */
  bool right;
} ptq_choice;

/** Whole requests that run together. */
typedef struct ptq_bundle {
  int64_t row, n_rows;        /* of ptq_requests.ids */
  int64_t branch, n_branches; /* of ptq_requests.branches, rows counted from
                                 the bundle's first */
  int64_t target, n_targets;  /* of ptq_requests.targets, likewise */
} ptq_bundle;

typedef struct ptq_requests {
  int64_t n;            /* requests */
  int64_t *first;       /* owned; [n + 1] first choice of each request */
  ptq_choice *choices;  /* owned */
  ptq_target *targets;  /* owned; in the order of the choices */
  uint32_t *ids;        /* owned; [n_rows] input tokens */
  ptq_branch *branches; /* owned */
  ptq_bundle *bundles;  /* owned */
  int64_t n_choices, n_targets, n_rows, n_branches, n_bundles;
  int64_t longest_bundle; /* rows */
  double n_pairs;         /* of a token and one it attends to */
  int64_t n_predicting;   /* rows that predict some choice's token */
} ptq_requests;

/** What requests ask of time and memory. */
typedef struct ptq_request_size {
  int64_t n, rows, targets, predicting, longest_bundle;
  double pairs;
} ptq_request_size;
ptq_request_size ptq_requests_size(const ptq_requests *r);

/** How many requests a sweep asks: lines of its file that are not blank, or
 * its limit; 0 without a file. PTQ_E_ARG: the file has none. */
ptq_status ptq_requests_count(const ptq_spec *spec, int64_t *n, ptq_err *err);

/**
 * Load and lay out the requests of `spec` for a model; without a file
 * everything stays empty.
 * @return PTQ_E_IO: not tokenized, with the command that does it. PTQ_E_FORMAT:
 *         a damaged cache, a token beyond the vocabulary. PTQ_E_ARG: a choice
 *         longer than what the model sees. On failure *out is released.
 */
ptq_status ptq_requests_load(const ptq_spec *spec, const char *model_dir,
                             const ptq_model_info *info, ptq_requests *out,
                             ptq_err *err);
void ptq_requests_release(ptq_requests *r);

#endif /* PTQ_SWEEP_REQUESTS_H */
