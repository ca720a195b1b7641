/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/mem.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PTQ_ALIGN = 64 };

/* For whoever counts through the faults: this one has happened. */
static void leave_mark(void) {
  const char *path = getenv("PTQ_FAIL_MARK");
  const int fd =
      path != NULL ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;
  if (fd >= 0) (void)close(fd);
}

/* The fault counter is process-wide because the fault to inject is. */
bool ptq_fault(void) {
  static atomic_llong count;
  static atomic_llong nth = -2; /* -2: environment not read yet */
  long long n = atomic_load(&nth);
  if (n == -2) {
    const char *text = getenv("PTQ_FAIL_NTH");
    n = text != NULL ? atoll(text) : -1;
    atomic_store(&nth, n);
  }
  if (n < 0) return false;
  if (atomic_fetch_add(&count, 1) + 1 != n) return false;
  leave_mark();
  return true;
}

static void *aligned_zero(size_t bytes) {
  const size_t rounded = (bytes + PTQ_ALIGN) / PTQ_ALIGN * PTQ_ALIGN;
  if (rounded < bytes || ptq_fault()) return NULL;
  void *p = aligned_alloc(PTQ_ALIGN, rounded);
  if (p != NULL) memset(p, 0, rounded);
  return p;
}

ptq_status ptq_alloc(void *out, int64_t n, size_t size, const char *what,
                     ptq_err *err) {
  void *p = NULL;
  memcpy(out, &p, sizeof p);
  if (n < 0 || (n > 0 && size > (SIZE_MAX / 2) / (size_t)n))
    return PTQ_FAIL(err, PTQ_E_NOMEM, "%s: %lld elements of %zu bytes", what,
                    (long long)n, size);
  const size_t bytes = (size_t)n * size;
  p = aligned_zero(bytes);
  if (p == NULL)
    return PTQ_FAIL(err, PTQ_E_NOMEM, "%s: cannot allocate %zu bytes", what,
                    bytes);
  memcpy(out, &p, sizeof p);
  return PTQ_OK;
}

void ptq_free(void *block) {
  free(block);
}

ptq_status ptq_grow(void *block, int64_t have, int64_t want, size_t size,
                    const char *what, ptq_err *err) {
  void *old = NULL, *grown = NULL;
  memcpy(&old, block, sizeof old);
  if (want <= have && old != NULL) return PTQ_OK;
  const ptq_status rc = ptq_alloc(&grown, want, size, what, err);
  if (rc != PTQ_OK) return rc;
  if (old != NULL) memcpy(grown, old, (size_t)have * size);
  ptq_free(old);
  memcpy(block, &grown, sizeof grown);
  return PTQ_OK;
}

ptq_status ptq_strdup(char **out, const char *s, ptq_err *err) {
  const size_t n = strlen(s) + 1;
  const ptq_status rc = ptq_alloc(out, (int64_t)n, 1, "a text", err);
  if (rc == PTQ_OK) memcpy(*out, s, n);
  return rc;
}
