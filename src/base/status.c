/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/status.h"

#include <stdarg.h>
#include <stdio.h>

#define PTQ_STATUS_TEXT(name, text) [name] = text,
static const char *const texts[PTQ_STATUS_COUNT] = {
    PTQ_STATUS_LIST(PTQ_STATUS_TEXT)};

const char *ptq_status_str(ptq_status code) {
  return (unsigned)code < PTQ_STATUS_COUNT ? texts[code] : "unknown status";
}

ptq_status ptq_err_set(ptq_err *err, ptq_status code, const char *file,
                       int line, const char *fmt, ...) {
  if (err == NULL || err->code != PTQ_OK) return code;
  err->code = code;
  err->file = file;
  err->line = line;
  va_list args;
  va_start(args, fmt);
  vsnprintf(err->msg, sizeof err->msg, fmt, args);
  va_end(args);
  return code;
}
