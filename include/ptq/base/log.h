/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file log.h
 * Lines for the human on standard error. The level is the program's one
 * mutable global.
 */
#ifndef PTQ_BASE_LOG_H
#define PTQ_BASE_LOG_H

typedef enum ptq_log_level {
  PTQ_LOG_ERROR,
  PTQ_LOG_WARN,
  PTQ_LOG_INFO,
  PTQ_LOG_DEBUG
} ptq_log_level;

/** Lines above `level` are dropped. Default PTQ_LOG_INFO. */
void ptq_log_set_level(ptq_log_level level);
ptq_log_level ptq_log_get_level(void);

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
/** One line, written with one call so that ranks do not interleave. Warnings
 * and errors are prefixed with their level. `fmt` has no newline. */
void ptq_log(ptq_log_level level, const char *fmt, ...);

#endif /* PTQ_BASE_LOG_H */
