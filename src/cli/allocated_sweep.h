/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file allocated_sweep.h  The sweep file that `ptqsweep allocate` writes. */
#ifndef PTQ_CLI_ALLOCATED_SWEEP_H
#define PTQ_CLI_ALLOCATED_SWEEP_H

#include "allocation.h"
#include "ptq/store/view.h"

/** What is to be written. Borrowed. */
typedef struct ptq_allocated_sweep {
  const ptq_allocation_task *task;
  const ptq_frame *frame;
  ptq_view *store;
  const char *model;      /* pattern of names that probes are of; NULL: all */
  bool probes;            /* these alone, else the store's sweep and more */
  const ptq_text *dtypes; /* lines for its dtype axis */
} ptq_allocated_sweep;

/** The store's sweep with more on its dtype axis, for the one method; probes
 * alone, evaluated on the selection text, from the same. */
ptq_status ptq_allocated_sweep_write(const ptq_allocated_sweep *s,
                                     const char *path, ptq_err *err);

#endif /* PTQ_CLI_ALLOCATED_SWEEP_H */
