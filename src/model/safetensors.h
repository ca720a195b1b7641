/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file safetensors.h
 * One safetensors file: an 8-byte little-endian header length, a JSON header
 * that maps tensor names to dtype, shape and byte range, and the data.
 *
 * Every statement of the header is checked against the others and against the
 * file's size when it is opened, so that readers need not.
 */
#ifndef PTQ_MODEL_SAFETENSORS_H
#define PTQ_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/file.h"
#include "ptq/base/status.h"

enum { PTQ_TENSOR_DIMS = 8 };

/** How elements are stored. Only some can be read as float32. */
typedef struct ptq_storage {
  const char *name; /* "BF16": the header's spelling */
  int size;         /* bytes an element */
  /** `n` elements from raw bytes; NULL: not readable as weights. */
  void (*to_f32)(const void *raw, int64_t n, float *out);
} ptq_storage;

typedef struct ptq_tensor {
  char *name;                 /* owned */
  const ptq_storage *storage; /* static */
  int n_dims;
  int64_t dims[PTQ_TENSOR_DIMS];
  int64_t count;  /* product of dims */
  int64_t offset; /* of the first byte in the file */
  int64_t bytes;
  ptq_file *file; /* borrowed from its ptq_safetensors */
  /* For the caller: has a place in the model; is a linear layer's weight. */
  bool used, linear;
} ptq_tensor;

typedef struct ptq_safetensors {
  ptq_file *file;      /* owned */
  ptq_tensor *tensors; /* owned; [n], in the header's order */
  int64_t n;
} ptq_safetensors;

/**
 * Open a file and check its header.
 * @return PTQ_E_IO, PTQ_E_NOMEM, or PTQ_E_FORMAT: the message names the file,
 *         the tensor and what is wrong. On failure `*out` is zero.
 */
ptq_status ptq_safetensors_open(const char *path, ptq_safetensors *out,
                                ptq_err *err);
void ptq_safetensors_close(ptq_safetensors *st);

/** Read a whole tensor as float32 into out[t->count]. PTQ_E_UNSUPPORTED: its
 * dtype; PTQ_E_NUMERIC: NaN or infinity, with the index. */
ptq_status ptq_tensor_read(const ptq_tensor *t, float *out, ptq_err *err);

#endif /* PTQ_MODEL_SAFETENSORS_H */
