/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file lockfile.h
 * One run a store: `<store>.lock`, released by the kernel when its holders
 * die. Symbolic links to a store share its lock; a store with several hard
 * links, which would have one each, is refused.
 *
 * Also seen from hosts that its locks do not reach: the owner writes a new word
 * into it every other second, which a crash ends.
 *
 * A file of its own, because closing any descriptor of a file drops the
 * process's locks on it, and HDF5 opens and closes the store as it likes.
 */
#ifndef PTQ_STORE_LOCKFILE_H
#define PTQ_STORE_LOCKFILE_H

#include <stdbool.h>

#include "ptq/base/status.h"

/**
 * Take the store for this run. `owner` (rank 0) takes it alone, and only when
 * no rank of another run still lives; the others join the run.
 * @param[out] fd  to be given to ptq_lockfile_release; -1 on failure
 * @return PTQ_OK, PTQ_E_ARG (another run has it, or the store has several
 *         hard links: told to the owner), PTQ_E_IO. Waits up to two
 *         seconds for dying processes. Rank-local.
 */
ptq_status ptq_lockfile_take(const char *store, int owner, int *fd,
                             ptq_err *err);
/** Whoever leaves last removes the file. fd < 0 is allowed. */
void ptq_lockfile_release(const char *store, int fd);

/** Does a process have the store? *pid is one of them, as its host counts. */
bool ptq_lockfile_held(const char *store, long *pid);

#endif /* PTQ_STORE_LOCKFILE_H */
