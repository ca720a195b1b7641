/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gptq_site.h
 * GPTQ and GPTAQ on the layers of one site, which share H and its factor.
 */
#ifndef PTQ_QUANT_GPTQ_SITE_H
#define PTQ_QUANT_GPTQ_SITE_H

#include <stdbool.h>

#include "ptq/quant/method.h"

/** Value of `damp` that asks for a search. */
#define PTQ_DAMP_SEARCH (-1.0)

enum { PTQ_GROUP_PARAMS_STALE, PTQ_GROUP_PARAMS_FRESH };
enum { PTQ_ORDER_NATURAL, PTQ_ORDER_DIAGONAL, PTQ_ORDER_GROUPS };
/** "false", "true", "group", NULL. */
extern const char *const ptq_gptq_orders[];

enum { PTQ_MX_COLUMNS, PTQ_MX_JOINT };

/** How the columns are walked; the two methods' options in common. */
typedef struct ptq_gptq_walk {
  double damp;   /* or PTQ_DAMP_SEARCH */
  double alpha;  /* GPTAQ's; 0: none */
  int64_t block; /* columns */
  int group_params, mx;
  int act_order; /* PTQ_ORDER_... */
  bool static_groups, true_sequential;
} ptq_gptq_walk;

/** PTQ_E_ARG where options of `method` exclude each other. */
ptq_status ptq_gptq_walk_check(const char *method, const ptq_gptq_walk *w,
                               ptq_err *err);
/** Dtypes that the walk cannot take. */
ptq_status ptq_gptq_walk_accepts(const char *method, const ptq_gptq_walk *w,
                                 const ptq_dtype *dt, ptq_err *err);

/** ptq_method_family.quantize_site. */
ptq_status ptq_gptq_site(const ptq_gptq_walk *w, const ptq_quant_input *in,
                         ptq_quant_output *out, int n, ptq_err *err);

/** ptq_method_family.spends_h: columns as they are, one damping, no drift. */
bool ptq_gptq_walk_spends_h(const ptq_gptq_walk *w);
/** ptq_method_family.flops and .bytes. */
double ptq_gptq_walk_flops(const ptq_gptq_walk *w, int64_t rows, int64_t cols);
double ptq_gptq_walk_bytes(const ptq_gptq_walk *w, int64_t rows, int64_t cols);

#endif /* PTQ_QUANT_GPTQ_SITE_H */
