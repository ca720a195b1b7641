/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file request_layout.h
 * From the tokens of requests to bundles of them.
 */
#ifndef PTQ_SWEEP_REQUEST_LAYOUT_H
#define PTQ_SWEEP_REQUEST_LAYOUT_H

#include "ptq/sweep/requests.h"

/** What the cache holds: choices in the order of their requests. */
typedef struct ptq_request_source {
  const uint32_t *ids;  /* borrowed; context and choice of each, in order */
  const int64_t *table; /* borrowed; [n_choices, 6]: request, tokens of context
                           and choice, characters, bytes, right */
  int64_t n_choices;
  int64_t n;       /* requests to lay out: the first ones */
  int64_t longest; /* tokens that the model sees */
} ptq_request_source;

/** Lay out. PTQ_E_ARG: fewer than n requests, or a choice longer than
 * `longest`; `path` names the file. */
ptq_status ptq_request_layout(const ptq_request_source *s,
                              const ptq_model_info *info, const char *path,
                              ptq_requests *out, ptq_err *err);

#endif /* PTQ_SWEEP_REQUEST_LAYOUT_H */
