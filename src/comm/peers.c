/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "peers.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int ptq_peers_find(pid_t parent, bool all, pid_t *out, int max) {
  struct stat mine, theirs;
  char path[64];
  int n = 0;
  (void)snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)parent,
                 (long)parent);
  FILE *f = fopen(path, "r");
  if (f == NULL || stat("/proc/self/exe", &mine) != 0) {
    if (f != NULL) (void)fclose(f);
    return -1;
  }
  for (long pid; (n < max || n == 0) && fscanf(f, "%ld", &pid) == 1;) {
    (void)snprintf(path, sizeof path, "/proc/%ld/exe", pid);
    if (stat(path, &theirs) != 0) continue; /* a zombie has no exe */
    if (!all && (theirs.st_ino != mine.st_ino || theirs.st_dev != mine.st_dev))
      continue;
    if (n < max) out[n] = (pid_t)pid;
    n++;
  }
  (void)fclose(f);
  return n;
}

bool ptq_peers_is_rank(pid_t pid) {
  struct stat mine, theirs;
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/%ld/exe", (long)pid);
  return stat("/proc/self/exe", &mine) == 0 && stat(path, &theirs) == 0 &&
         theirs.st_ino == mine.st_ino && theirs.st_dev == mine.st_dev;
}

bool ptq_peers_is_stopped(pid_t pid) {
  char path[64], text[512];
  (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  FILE *f = fopen(path, "r");
  if (f == NULL) return false;
  const size_t n = fread(text, 1, sizeof text - 1, f);
  (void)fclose(f);
  text[n] = '\0';
  /* The name before it may be anything, parentheses too. */
  const char *state = strrchr(text, ')');
  return state != NULL && strncmp(state, ") T", 3) == 0;
}

bool ptq_peers_is_launcher(pid_t parent) {
  static const char *const names[] = {"mpirun",  "mpiexec", "orterun", "orted",
                                      "prterun", "prte",    "prted"};
  char path[64], name[64] = "";
  (void)snprintf(path, sizeof path, "/proc/%ld/comm", (long)parent);
  FILE *f = fopen(path, "r");
  if (f == NULL) return false;
  if (fgets(name, sizeof name, f) == NULL) name[0] = '\0';
  (void)fclose(f);
  name[strcspn(name, "\n")] = '\0';
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(name, names[i]) == 0) return true;
  return false;
}
