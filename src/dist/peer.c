/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

void ptq_peer_self(ptq_peer *self) {
  char name[64] = "", space[48] = "";
  memset(self, 0, sizeof *self);
  self->pid = (int64_t)getpid();
  /* Containers may share a host name but not process numbers. */
  const ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
  if (n <= 0 || gethostname(name, sizeof name) != 0) return;
  space[n] = '\0';
  name[sizeof name - 1] = '\0';
  snprintf(self->host, sizeof self->host, "%s %s", name, space);
}

bool ptq_peer_watchable(const ptq_peer *self, const ptq_peer *other) {
  return self->host[0] != '\0' && strcmp(self->host, other->host) == 0 &&
         other->pid > 0 && !ptq_peer_gone(other);
}

uint64_t ptq_peer_place(const ptq_peer *peer) {
  uint64_t hash = 14695981039346656037U; /* FNV-1a */
  for (const char *c = peer->host; *c != '\0'; c++)
    hash = (hash ^ (unsigned char)*c) * 1099511628211U;
  return peer->host[0] != '\0' ? hash : 0;
}

bool ptq_peer_gone(const ptq_peer *other) {
  return kill((pid_t)other->pid, 0) != 0 && errno == ESRCH;
}
