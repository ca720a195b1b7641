/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file inline.h
 * One rank: the same books and the same way of running a task, no messages.
 */
#ifndef PTQ_DIST_INLINE_H
#define PTQ_DIST_INLINE_H

#include "ptq/dist/run.h"

/** ptq_dist_run for a single rank; options without zeros. */
ptq_status ptq_inline_run(const ptq_plan *plan, const ptq_dist_ops *ops,
                          const ptq_dist_options *options,
                          ptq_dist_summary *out, ptq_err *err);

#endif /* PTQ_DIST_INLINE_H */
