/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file law_list.h  The nonlinear laws' rows. Private to the module. */
#ifndef PTQ_ANALYSIS_LAW_LIST_H
#define PTQ_ANALYSIS_LAW_LIST_H

#include "ptq/analysis/curve.h"

extern const ptq_curve ptq_law_kumar, ptq_law_kumar_fixed, ptq_law_ouyang,
    ptq_law_ouyang_fixed, ptq_law_zhou, ptq_law_zhou_fixed, ptq_law_cao,
    ptq_law_power, ptq_law_exponential;

#endif /* PTQ_ANALYSIS_LAW_LIST_H */
