/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replay DIR: the fuzz target over every file of a directory, once. */
#include <dirent.h>
#include <string.h>

#include "fuzz.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"

/* Take the scratch directory away. */
static void sweep_up(void) {
  DIR *dir = opendir(fuzz_dir());
  const struct dirent *entry = NULL;
  while (dir != NULL && (entry = readdir(dir)) != NULL) {
    char path[2 * FUZZ_PATH];
    if (entry->d_name[0] == '.') continue;
    fuzz_path(entry->d_name, path);
    (void)unlink(path);
  }
  if (dir != NULL) closedir(dir);
  (void)rmdir(fuzz_dir());
}

int main(int argc, char **argv) {
  enum { INPUT_MAX = 1 << 20 };
  DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
  const struct dirent *entry = NULL;
  int n = 0;
  if (dir == NULL) {
    fprintf(stderr, "usage: replay DIR\n");
    return 2;
  }
  while ((entry = readdir(dir)) != NULL) {
    char *path = NULL, *text = NULL;
    size_t size = 0;
    if (entry->d_name[0] == '.') continue;
    if (ptq_path_join(argv[1], entry->d_name, &path, NULL) != PTQ_OK ||
        ptq_file_read(path, INPUT_MAX, &text, &size, NULL) != PTQ_OK)
      return 1;
    LLVMFuzzerTestOneInput((const uint8_t *)text, size);
    ptq_free(text);
    ptq_free(path);
    n++;
  }
  closedir(dir);
  sweep_up();
  printf("%d inputs\n", n);
  return n > 0 ? 0 : 1;
}
