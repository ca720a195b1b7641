/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file grid_mixed.h
 * What mixtures make of the layers of a grid's models. Private to the module.
 */
#ifndef PTQ_SWEEP_GRID_MIXED_H
#define PTQ_SWEEP_GRID_MIXED_H

#include "ptq/sweep/grid.h"

/** Rules of all the mixtures of a sweep. */
int64_t ptq_spec_n_rules(const ptq_spec *spec);

/** Fill the subject's row of g->resolved; `used` [ptq_spec_n_rules] is set for
 * the rules that decide for a layer. */
ptq_status ptq_grid_resolve(ptq_grid *g, int64_t subject, const ptq_model *m,
                            bool *used, ptq_err *err);

/** PTQ_E_ARG: a rule that decides for no layer of any model, with its line and
 * the layer that is spelled most like it; unless the command line changed the
 * sweep. */
ptq_status ptq_grid_check_used(const ptq_grid *g, const bool *used,
                               ptq_err *err);

/** Rules by layer of a subject, NULL where the dtype is no mixture or not for
 * its model. */
const int32_t *ptq_grid_rules(const ptq_grid *g, int64_t subject,
                              int64_t dtype);

/** Do two mixtures give a subject's layers the same formats? */
bool ptq_grid_same_formats(const ptq_grid *g, int64_t subject, int64_t a,
                           int64_t b);

#endif /* PTQ_SWEEP_GRID_MIXED_H */
