/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file fit_json.h  `ptqsweep fit --json`. */
#ifndef PTQ_CLI_FIT_JSON_H
#define PTQ_CLI_FIT_JSON_H

#include "ptq/analysis/mixed.h"
#include "ptq/analysis/layer_ranks.h"
#include "ptq/analysis/summary.h"

/** Print a summary, the points of mixed precision and what ranks layers as one
 * JSON object; `store` names the file. */
ptq_status ptq_fit_print_json(const ptq_summary *s, const ptq_mixed *mixed,
                              const ptq_sensitivities *layers,
                              const char *store, ptq_err *err);

#endif /* PTQ_CLI_FIT_JSON_H */
