/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file config.h
 * config.json of a checkpoint: typed reading of its keys, and the check that
 * none of them asks for a computation nobody here performs.
 */
#ifndef PTQ_MODEL_CONFIG_H
#define PTQ_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"

typedef struct ptq_config ptq_config;

/** Parse dir/config.json. PTQ_E_IO, PTQ_E_FORMAT with file and line. */
ptq_status ptq_config_open(const char *dir, ptq_config **out, ptq_err *err);
void ptq_config_close(ptq_config *c);
const char *ptq_config_path(const ptq_config *c); /* borrowed */

/** True when the key is there and not null. */
bool ptq_config_has(const ptq_config *c, const char *key);
/** True when the key is there, null or not. */
bool ptq_config_mentions(const ptq_config *c, const char *key);

/* Getters leave *out as it was (the caller's default) when the key is absent
 * or null. Another type or a value out of range is PTQ_E_FORMAT with file,
 * key and value. */

/** An integer in [min, 2^31). */
ptq_status ptq_config_int(const ptq_config *c, const char *key, int64_t min,
                          int64_t *out, ptq_err *err);
/** The same, for a key that must be there. */
ptq_status ptq_config_need_int(const ptq_config *c, const char *key,
                               int64_t min, int64_t *out, ptq_err *err);
/** A finite positive number. */
ptq_status ptq_config_positive(const ptq_config *c, const char *key,
                               double *out, ptq_err *err);
/** null is refused where the default is true. */
ptq_status ptq_config_bool(const ptq_config *c, const char *key, bool *out,
                           ptq_err *err);
/** A text; borrowed from the config. */
ptq_status ptq_config_text(const ptq_config *c, const char *key,
                           const char **out, ptq_err *err);
/** Object `key` as a config of its own, whose getters and messages name it;
 * NULL when absent or null. Freed with ptq_config_close. */
ptq_status ptq_config_sub(const ptq_config *c, const char *key,
                          ptq_config **out, ptq_err *err);
/** A list of exactly n positive numbers, which must be there. */
ptq_status ptq_config_list_numbers(const ptq_config *c, const char *key,
                                   int64_t n, double *out, ptq_err *err);
/** PTQ_E_FORMAT unless `key` is a list of exactly n elements. */
ptq_status ptq_config_list_check(const ptq_config *c, const char *key,
                                 int64_t n, ptq_err *err);
/** Element i of a checked list as a text ("" when it is none, borrowed), or
 * as an integer (0 when it is none). */
const char *ptq_config_list_text(const ptq_config *c, const char *key,
                                 int64_t i);
int64_t ptq_config_list_int(const ptq_config *c, const char *key, int64_t i);
/** True when list `key` holds the text `value`. */
bool ptq_config_list_has(const ptq_config *c, const char *key,
                         const char *value);

/** PTQ_E_UNSUPPORTED naming the key and its value, with what is supported. */
ptq_status ptq_config_refuse(const ptq_config *c, const char *key,
                             const char *supported, ptq_err *err);

/**
 * Refuse every key that is neither in `known` (NULL-terminated: what the
 * architecture reads) nor in `more` (n_more spellings "a|b" or NULL) nor known
 * to leave the logits alone, unless its value is null, false or empty; within
 * an object (ptq_config_sub) unless it is null.
 */
ptq_status ptq_config_check_keys(const ptq_config *c, const char *const *known,
                                 const char *const *more, int n_more,
                                 ptq_err *err);

#endif /* PTQ_MODEL_CONFIG_H */
