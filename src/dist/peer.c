/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/** The running kernel's own number: hosts of one name (localhost) have
 * different ones. */
static bool read_boot(char *out, int size) {
  FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
  const bool read = f != NULL && fgets(out, size, f) != NULL;
  if (f != NULL) (void)fclose(f);
  if (read) out[strcspn(out, "\n")] = '\0';
  return read && out[0] != '\0';
}

void ptq_peer_self(ptq_peer *self) {
  char name[64] = "", space[24] = "", boot[38] = "";
  memset(self, 0, sizeof *self);
  self->pid = (int64_t)getpid();
  /* Containers may share a host name but not process numbers. */
  const ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
  if (n <= 0 || gethostname(name, sizeof name) != 0 ||
      !read_boot(boot, (int)sizeof boot))
    return;
  space[n] = '\0';
  name[sizeof name - 1] = '\0';
  snprintf(self->host, sizeof self->host, "%s %s %s", name, space, boot);
}

bool ptq_peer_watchable(const ptq_peer *self, const ptq_peer *other) {
  return self->host[0] != '\0' && strcmp(self->host, other->host) == 0 &&
         other->pid > 0;
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
