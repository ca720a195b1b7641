/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file h5io.h
 * HDF5 with messages: one-dimensional datasets read and written by rows as
 * the bytes that stand in the file, and root attributes. Nothing here is
 * collective.
 */
#ifndef PTQ_STORE_H5IO_H
#define PTQ_STORE_H5IO_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "pack.h"
#include "ptq/record/rows.h"

/** What this program writes. Grows when a column or dataset is added; stores
 * of lower schemas are read, and what they lack is empty, NaN or 0, or what
 * the list says.
 *   1  the first
 *   2  attempts: deaths
 *   3  layers: format, size and bits of each, calib_tokens; requests: answers,
 *      baseline_answers, columns of points and models; points, models: compute
 *      (which was f32); landscape
 *   4  checksums of attempts, log, index and the file's structure; columns of
 *      landscape/directions, profiles and layers
 *   5  checksums of the rows of landscape/profiles; columns of
 *      landscape/directions and layers; the landscape by model */
enum { PTQ_H5_SCHEMA = 5 };

/** Stop HDF5 from printing; called before anything else here. */
void ptq_h5_quiet(void);

/** Fail with "store 'path': what 'name': reason", the reason from HDF5's own
 * error stack. */
ptq_status ptq_h5_fail(ptq_err *err, ptq_status code, const char *path,
                       const char *what, const char *name);

/** Access properties of the plain POSIX driver without file locks, so that a
 * file can be read while a run writes it; < 0 on failure. Freed with
 * H5Pclose. */
hid_t ptq_h5_plain_access(void);

/** The packed little-endian type of a table's row; < 0 on failure. */
hid_t ptq_h5_row_type(const ptq_table *t);
/** A fixed text of `size` bytes, NUL-terminated UTF-8; < 0 on failure. */
hid_t ptq_h5_text_type(size_t size);

/** A dataset held open. */
typedef struct ptq_h5_set {
  hid_t id, type;   /* owned; type is the file's */
  int64_t rows;     /* first dimension */
  size_t row_bytes; /* bytes of a row in the file */
  const char *path; /* borrowed: the file's name for messages */
  const char *name; /* borrowed: the dataset's */
} ptq_h5_set;

/** A set that is not open; ptq_h5_close accepts it. */
#define PTQ_H5_SET_NONE \
  ((ptq_h5_set){H5I_INVALID_HID, H5I_INVALID_HID, 0, 0, "", ""})

/** Open dataset `name`, of one or two dimensions. PTQ_E_FORMAT when it is
 * missing. */
ptq_status ptq_h5_open(hid_t file, const char *path, const char *name,
                       ptq_h5_set *out, ptq_err *err);
void ptq_h5_close(ptq_h5_set *set);

/** Rows [at, at + n) as file bytes; n == 0 does nothing. PTQ_E_IO. */
ptq_status ptq_h5_read(const ptq_h5_set *set, int64_t at, int64_t n, void *buf,
                       ptq_err *err);
ptq_status ptq_h5_write(const ptq_h5_set *set, int64_t at, int64_t n,
                        const void *buf, ptq_err *err);

/** Where a file of a schema has our columns [t->n_fields]: by name, so that a
 * store with further columns reads too. Size 0: it has none. PTQ_E_FORMAT. */
ptq_status ptq_h5_columns(const ptq_h5_set *set, const ptq_table *t,
                          int64_t schema, ptq_pack_column *out, ptq_err *err);

/** Text attribute of an object, made or read. The text read is freed with
 * ptq_free; an attribute that is not a fixed text is PTQ_E_FORMAT. */
ptq_status ptq_h5_attribute_set(hid_t object, const char *path,
                                const char *name, const char *text,
                                ptq_err *err);
ptq_status ptq_h5_attribute_get(hid_t object, const char *path,
                                const char *name, char **out, ptq_err *err);
/** An attribute that is an array of `n` texts. */
ptq_status ptq_h5_attribute_list(hid_t object, const char *path,
                                 const char *name, const char *const *texts,
                                 int64_t n, ptq_err *err);

#endif /* PTQ_STORE_H5IO_H */
