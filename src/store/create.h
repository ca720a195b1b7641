/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file create.h
 * Making a store file: whole, or not there.
 */
#ifndef PTQ_STORE_CREATE_H
#define PTQ_STORE_CREATE_H

#include "sets.h"

/**
 * Make `path` from `layout` under a temporary name beside it, reserve every
 * byte that results will need, and rename. One process does it while the
 * others wait; `path` must be locked (lockfile.h). Remains of creations that
 * were killed are removed.
 * @return PTQ_OK, PTQ_E_IO (directory missing or read-only, no room),
 *         PTQ_E_NOMEM; `path` does not exist after a failure.
 */
ptq_status ptq_store_create(const char *path, const ptq_store_layout *layout,
                            ptq_err *err);

/** The same without the rename: the file stays under the name *temporary (freed
 * with ptq_free), for ptq_reserve_publish. */
ptq_status ptq_store_make(const char *path, const ptq_store_layout *layout,
                          char **temporary, ptq_err *err);

/** Rows of every set for `layout`. */
void ptq_store_count(const ptq_store_layout *layout, ptq_set_rows *out);

#endif /* PTQ_STORE_CREATE_H */
