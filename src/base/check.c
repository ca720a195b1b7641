/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/check.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void ptq_check_failed(const char *expr, const char *file, int line) {
  fprintf(stderr, "ptqsweep: bug: %s:%d: %s does not hold\n", file, line, expr);
  abort();
}

int ptq_int(int64_t v) {
  PTQ_ASSERT(v >= INT_MIN && v <= INT_MAX);
  return (int)v;
}
