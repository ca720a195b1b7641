/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file weights.h
 * All tensors of a checkpoint directory, whatever number of files they are
 * spread over.
 */
#ifndef PTQ_MODEL_WEIGHTS_H
#define PTQ_MODEL_WEIGHTS_H

#include "safetensors.h"

typedef struct ptq_weights ptq_weights;

/** Open model.safetensors, or the shards that model.safetensors.index.json
 * names, and check that index and shards agree. */
ptq_status ptq_weights_open(const char *dir, ptq_weights **out, ptq_err *err);
void ptq_weights_close(ptq_weights *w);

/** The tensor of that name, NULL if there is none; borrowed. */
ptq_tensor *ptq_weights_find(const ptq_weights *w, const char *name);
/** All tensors in name order; borrowed. */
ptq_tensor *const *ptq_weights_all(const ptq_weights *w, int64_t *n);
/** Paths of the files in name order; borrowed. */
const char *ptq_weights_file(const ptq_weights *w, int64_t i);
int64_t ptq_weights_n_files(const ptq_weights *w);

#endif /* PTQ_MODEL_WEIGHTS_H */
