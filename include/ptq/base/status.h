/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file status.h
 * Status codes and the error record that every fallible ptq_ function fills.
 *
 * A code tells the program what to do; the record tells the human why.
 */
#ifndef PTQ_BASE_STATUS_H
#define PTQ_BASE_STATUS_H

/* One row = enum value, exit text, test coverage
 * (tests/unit/base/test_status.c). */
#define PTQ_STATUS_LIST(X)                                     \
  X(PTQ_OK, "success")                                         \
  X(PTQ_E_ARG, "invalid argument")                             \
  X(PTQ_E_NOMEM, "out of memory")                              \
  X(PTQ_E_IO, "input/output error")                            \
  X(PTQ_E_FORMAT, "malformed file")                            \
  X(PTQ_E_UNSUPPORTED, "not supported by this build or model") \
  X(PTQ_E_NUMERIC, "numerical failure")                        \
  X(PTQ_E_PEER, "another rank failed")                         \
  X(PTQ_E_STOPPED, "stopped early")

#define PTQ_STATUS_ENUM(name, text) name,
typedef enum ptq_status {
  PTQ_STATUS_LIST(PTQ_STATUS_ENUM) PTQ_STATUS_COUNT
} ptq_status;
#undef PTQ_STATUS_ENUM

/** First failure on this call chain. Plain data: safe to copy and to send. */
typedef struct ptq_err {
  ptq_status code;
  int line;
  const char *file; /* static string, never freed */
  char msg[480];    /* NUL-terminated, truncated rather than overrun */
} ptq_err;

/** Text of `code`; never NULL, "unknown status" if out of range. */
const char *ptq_status_str(ptq_status code);

#if defined(__GNUC__)
__attribute__((format(printf, 5, 6)))
#endif
/** Fill `err` unless it already holds a failure (the first cause wins);
 * `err` may be NULL. Returns `code`. */
ptq_status
ptq_err_set(ptq_err *err, ptq_status code, const char *file, int line,
            const char *fmt, ...);

#define PTQ_FAIL(err, code, ...) \
  ptq_err_set((err), (code), __FILE__, __LINE__, __VA_ARGS__)

/** The one macro with hidden control flow: needs a local `rc` and a `done:`. */
#define PTQ_TRY(expr)            \
  do {                           \
    rc = (expr);                 \
    if (rc != PTQ_OK) goto done; \
  } while (0)

#endif /* PTQ_BASE_STATUS_H */
