/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file module_loss.h
 * The ptq_module_loss of a site: attention or MLP run on the unquantized
 * model's inputs with other weights.
 */
#ifndef PTQ_SWEEP_MODULE_LOSS_H
#define PTQ_SWEEP_MODULE_LOSS_H

#include "reference.h"

typedef struct ptq_module_probe {
  ptq_reference *r;          /* borrowed; opened with PTQ_NEED_MODULE_LOSS */
  const ptq_hands *hands;    /* borrowed */
  float *error;              /* borrowed; scratch, largest [out, in] */
  ptq_packed *const *packed; /* borrowed; [layers] scratch for weights as bf16
                                products take them; NULL in float32 */
  int site;
} ptq_module_probe;

/** ptq_module_loss.eval; the probe is its ctx. */
ptq_status ptq_module_probe_eval(void *probe, float *const *w, double *loss,
                                 ptq_err *err);

#endif /* PTQ_SWEEP_MODULE_LOSS_H */
