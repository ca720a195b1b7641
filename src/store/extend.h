/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file extend.h
 * A store that does not belong to this sweep: what differs, and growing it.
 */
#ifndef PTQ_STORE_EXTEND_H
#define PTQ_STORE_EXTEND_H

#include "ptq/store/store.h"

/**
 * Does the store at `path` belong to `layout`? PTQ_OK when it does (or when
 * other checks will say better why not). When every point of the store is one
 * of the layout's and layout->extend is set, makes a new file with the finished
 * rows and puts it in the old one's place at once; else PTQ_E_ARG with the
 * differences, the first in the message, all (up to some twenty) logged. The
 * store is locked by the caller. Rank-local.
 */
ptq_status ptq_extend(const char *path, const ptq_store_layout *layout,
                      ptq_err *err);

#endif /* PTQ_STORE_EXTEND_H */
