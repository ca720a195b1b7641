/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file fit_json.h  `ptqsweep fit --json`. */
#ifndef PTQ_CLI_FIT_JSON_H
#define PTQ_CLI_FIT_JSON_H

#include "ptq/analysis/mixed.h"
#include "ptq/analysis/summary.h"

/** Print a summary and the points of mixed precision as one JSON object;
 * `store` names the file. */
ptq_status ptq_fit_print_json(const ptq_summary *s, const ptq_mixed *mixed,
                              const char *store, ptq_err *err);

#endif /* PTQ_CLI_FIT_JSON_H */
