/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Linked into the program of sanitizer builds only: libraries stay loaded, so
 * that LeakSanitizer can name what they leak, and lsan.supp leave it out. Open
 * MPI unloads its modules before the process ends.
 */
#include <dlfcn.h>

int dlclose(void *handle) {
  (void)handle;
  return 0;
}
