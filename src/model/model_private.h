/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file model_private.h
 * An open checkpoint, and the names of its tensors.
 */
#ifndef PTQ_MODEL_MODEL_PRIVATE_H
#define PTQ_MODEL_MODEL_PRIVATE_H

#include "arch.h"
#include "config.h"
#include "ptq/model/model.h"
#include "weights.h"

struct ptq_model {
  ptq_model_info info;
  const ptq_arch *arch; /* static */
  const char *prefix;   /* static; one of arch->prefixes */
  ptq_config *config;   /* owned */
  ptq_weights *weights; /* owned */
  ptq_multiplier *mul;  /* owned; packs weights where products take bfloat16 */
};

typedef enum ptq_part { PTQ_PART_WEIGHT, PTQ_PART_BIAS } ptq_part;

/** <prefix><tail>.weight or .bias, for tensors outside the blocks. */
void ptq_name_outer(const ptq_model *m, const char *tail, ptq_part part,
                    char name[PTQ_TENSOR_NAME_MAX]);
/** <prefix><blocks>.<block>.<tail>.weight or .bias */
void ptq_name_inner(const ptq_model *m, int64_t block, const char *tail,
                    ptq_part part, char name[PTQ_TENSOR_NAME_MAX]);
/** A linear layer's weight or bias. */
void ptq_name_layer(const ptq_model *m, int64_t block, int layer, ptq_part part,
                    char name[PTQ_TENSOR_NAME_MAX]);
/** A norm's weight or bias; `block` matters within blocks only. */
void ptq_name_norm(const ptq_model *m, int64_t block, ptq_norm_place place,
                   ptq_part part, char name[PTQ_TENSOR_NAME_MAX]);
/** <head>.weight or .bias: without prefix. */
void ptq_name_head(const ptq_model *m, ptq_part part,
                   char name[PTQ_TENSOR_NAME_MAX]);
/** Tensors of each norm: 0 to 2. */
int ptq_norm_parts(const ptq_model_info *info);

/** Does every tensor have its place, and every place its tensor? Fills the
 * counts of m->info. */
ptq_status ptq_model_check_tensors(ptq_model *m, ptq_err *err);

#endif /* PTQ_MODEL_MODEL_PRIVATE_H */
