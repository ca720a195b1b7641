/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file peer.h
 * Is another process of the job still there? Answered for processes of the
 * same host and process-number space; for others only silence tells.
 */
#ifndef PTQ_DIST_PEER_H
#define PTQ_DIST_PEER_H

#include <stdbool.h>
#include <stdint.h>

enum { PTQ_PEER_HOST_MAX = 128 };

/** Where a process lives. */
typedef struct ptq_peer {
  int64_t pid;
  char host[PTQ_PEER_HOST_MAX]; /* host name, pid namespace and boot of the
                                   kernel; "" unknown */
} ptq_peer;

/** This process. */
void ptq_peer_self(ptq_peer *self);
/** Can `self` watch `other`? Whether that lives does not matter. */
bool ptq_peer_watchable(const ptq_peer *self, const ptq_peer *other);
/** Hash of its host; 0 where that is not known. */
uint64_t ptq_peer_place(const ptq_peer *peer);
/** A watchable process has ended. */
bool ptq_peer_gone(const ptq_peer *other);

#endif /* PTQ_DIST_PEER_H */
