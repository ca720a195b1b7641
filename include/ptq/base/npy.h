/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file npy.h
 * NumPy .npy arrays (format 1.0 to 3.0), little-endian, C order: reader only.
 */
#ifndef PTQ_BASE_NPY_H
#define PTQ_BASE_NPY_H

#include <stdint.h>

#include "ptq/base/status.h"

typedef enum ptq_npy_type {
  PTQ_NPY_F32, /* <f4 */
  PTQ_NPY_F64, /* <f8 */
  PTQ_NPY_I8,  /* |i1 */
  PTQ_NPY_U8,  /* |u1 */
  PTQ_NPY_I32, /* <i4 */
  PTQ_NPY_U32, /* <u4 */
  PTQ_NPY_I64, /* <i8 */
  PTQ_NPY_U64, /* <u8 */
  PTQ_NPY_COUNT
} ptq_npy_type;

typedef struct ptq_npy {
  ptq_npy_type type;
  int n_dims;
  int64_t dims[4];
  int64_t n;  /* product of dims */
  void *data; /* owned, ptq_free */
} ptq_npy;

/**
 * Read `path` and check its type and number of dimensions.
 * @return PTQ_OK, PTQ_E_IO, PTQ_E_NOMEM, or PTQ_E_FORMAT (not an .npy file,
 *         other type, other rank, truncated); the message names the path.
 *         On failure `*out` is zero. Rank-local.
 */
ptq_status ptq_npy_read(const char *path, ptq_npy_type type, int n_dims,
                        ptq_npy *out, ptq_err *err);
void ptq_npy_release(ptq_npy *a);

#endif /* PTQ_BASE_NPY_H */
