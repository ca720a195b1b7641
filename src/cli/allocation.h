/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file allocation.h  What `ptqsweep allocate` finds for each model: formats
 * of layers under budgets, or probes of their sensitivity; printed, and as
 * entries of a sweep file. */
#ifndef PTQ_CLI_ALLOCATION_H
#define PTQ_CLI_ALLOCATION_H

#include <jansson.h>

#include "ptq/analysis/allocate.h"
#include "ptq/base/text.h"

enum { PTQ_BUDGETS_MAX = 32 };

/** What is asked of every model. Borrowed. */
typedef struct ptq_allocation_task {
  ptq_layer_source store, probes; /* equal where one store has both */
  const char *method, *options;
  const char *name; /* of mixtures, before the budget */
  const char *const *formats;
  int64_t n_formats, group;
  double budget[PTQ_BUDGETS_MAX]; /* bits a weight */
  int n_budgets;
  bool equal; /* take layers to be equally sensitive */
} ptq_allocation_task;

/** One budget of one model. */
typedef struct ptq_budgeted {
  double budget;
  ptq_allocation allocation;
  ptq_prediction predicted;
  const ptq_obs *uniform; /* the best uniform point within it; NULL: none */
  bool is_uniform;        /* every layer got the same */
} ptq_budgeted;

/** One model. */
typedef struct ptq_model_allocation {
  const char *model;
  ptq_layer_table table;
  ptq_layer_law law;
  ptq_budgeted row[PTQ_BUDGETS_MAX];
  int n_rows;
} ptq_model_allocation;

/** PTQ_E_ARG: the store lacks what it takes, with what to do. */
ptq_status ptq_model_allocate(const ptq_allocation_task *task,
                              const char *model, ptq_model_allocation *out,
                              ptq_err *err);
void ptq_model_allocation_release(ptq_model_allocation *a);

void ptq_model_allocation_print(const ptq_allocation_task *task,
                                const ptq_model_allocation *a);
/** NULL: no memory. */
json_t *ptq_model_allocation_json(const ptq_allocation_task *task,
                                  const ptq_model_allocation *a);
/** Entries of grid.dtype, one a budget that is no uniform format. */
void ptq_model_allocation_yaml(const ptq_allocation_task *task,
                               const ptq_model_allocation *a, ptq_text *out);

/** Name of a budget's mixture: "gptq-3.25". */
void ptq_mixture_base_name(const ptq_allocation_task *task, double budget,
                           char *text, size_t size);

/** "{dtype: int4, group: 32}" */
void ptq_format_yaml(const char *dtype, int64_t group, ptq_text *out);

/** Entries of grid.dtype that probe a model: each layer, or each block, rounded
 * to a coarse format, the model's uniform one whose loss suits best, while all
 * others have eight bits. Their number; PTQ_E_ARG as above. */
ptq_status ptq_model_probes(const ptq_allocation_task *task, const char *model,
                            bool blocks, ptq_text *out, int64_t *n,
                            ptq_err *err);

#endif /* PTQ_CLI_ALLOCATION_H */
