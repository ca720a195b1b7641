/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file geometry.h  The sizes of a model, from its config.json alone or from
 * a store, and what a format would make of it. */
#ifndef PTQ_CLI_GEOMETRY_H
#define PTQ_CLI_GEOMETRY_H

#include "ptq/num/dtype.h"
#include "ptq/quant/method.h"
#include "ptq/record/rows.h"

/** Linear layers of one block: q and o, k and v, the MLP's. */
typedef struct ptq_geometry {
  ptq_model_row row;       /* sizes, name, family; nll where it is known */
  int64_t heads_width;     /* n_heads d_head */
  int64_t kv_width;        /* n_kv_heads d_head */
  int mlp_layers;          /* of an MLP: 3 with a gate, else 2 */
  int64_t mlps;            /* of a block: experts, or 1 */
  double bits_unquantized; /* of the checkpoint beside the linear layers */
} ptq_geometry;

/**
 * Sizes of the Hugging Face directory `dir`: exact ones if its weights are
 * there, else counted from config.json. PTQ_E_IO, PTQ_E_FORMAT name the file
 * and the key that is missing.
 */
ptq_status ptq_geometry_read(const char *dir, ptq_geometry *out, ptq_err *err);
/** Sizes of a model of a store; bits from one of its finished points. */
void ptq_geometry_of_row(const ptq_model_row *m, double bits_unquantized,
                         ptq_geometry *out);

/** Fill a point's identity and bits; a group that reaches the widest row is a
 * row. */
void ptq_geometry_point(const ptq_geometry *g, const ptq_dtype *dtype,
                        const ptq_method *method, int64_t group,
                        ptq_point_row *out);
/** Linear layers of the whole model. */
int64_t ptq_geometry_layers(const ptq_geometry *g);

#endif /* PTQ_CLI_GEOMETRY_H */
