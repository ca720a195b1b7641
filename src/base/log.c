/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static ptq_log_level level_now = PTQ_LOG_INFO;

void ptq_log_set_level(ptq_log_level level) {
  level_now = level;
}

ptq_log_level ptq_log_get_level(void) {
  return level_now;
}

void ptq_log(ptq_log_level level, const char *fmt, ...) {
  static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
  char line[1024];
  va_list args;
  if (level > level_now) return;
  va_start(args, fmt);
  vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  fprintf(stderr, "ptqsweep: %s%s\n", prefix[level], line);
}
