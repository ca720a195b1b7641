/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file export.h
 * Write a model with other weights of its linear layers as a Hugging Face
 * directory.
 */
#ifndef PTQ_MODEL_EXPORT_H
#define PTQ_MODEL_EXPORT_H

#include "ptq/model/model.h"

/** Element type of every tensor written. */
typedef enum ptq_export_type {
  PTQ_EXPORT_F32,
  PTQ_EXPORT_BF16
} ptq_export_type;

typedef struct ptq_export ptq_export;

/**
 * Begin the directory `dir`, made if it is not there: model.safetensors with
 * the tensors of `m` (borrowed until closed) except its blocks' linear
 * layers, and the tokenizer's files from `source`, the model's directory.
 * @param note what the weights are, for config.json's "ptqsweep_source"
 * @return PTQ_E_IO; PTQ_E_ARG when dir has a config.json already
 */
ptq_status ptq_export_open(ptq_model *m, const char *source, const char *dir,
                           ptq_export_type type, const char *note,
                           ptq_export **out, ptq_err *err);
/** Write the weights of a block's linear layers. */
ptq_status ptq_export_block(ptq_export *e, const ptq_block *b, ptq_err *err);
/** Finish: config.json is written last, so a directory that has it is whole.
 * PTQ_E_ARG when a block is missing. `e` stays to be freed. */
ptq_status ptq_export_finish(ptq_export *e, ptq_err *err);
/** Without ptq_export_finish, the weights begun are taken away. */
void ptq_export_free(ptq_export *e);

#endif /* PTQ_MODEL_EXPORT_H */
