/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file options.h
 * Reading a method's options and spelling them canonically.
 */
#ifndef PTQ_QUANT_OPTIONS_H
#define PTQ_QUANT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/quant/method.h"

/** Values of one option. PTQ_E_ARG names the option, its value and what is
 * allowed; *out is untouched then. Bounds are inclusive. */
ptq_status ptq_option_bool(const ptq_method_option *o, bool *out, ptq_err *err);
ptq_status ptq_option_int(const ptq_method_option *o, int64_t least,
                          int64_t most, int64_t *out, ptq_err *err);
ptq_status ptq_option_double(const ptq_method_option *o, double least,
                             double most, double *out, ptq_err *err);
/** `names` is NULL-terminated; *out is the index of the one given. */
ptq_status ptq_option_choice(const ptq_method_option *o,
                             const char *const *names, int *out, ptq_err *err);

/** PTQ_E_ARG for an option that `method` does not have; `known` is
 * NULL-terminated. */
ptq_status ptq_option_unknown(const char *method, const ptq_method_option *o,
                              const char *const *known, ptq_err *err);

/** Append "key=value" to m->options; call in the order of the keys, and only
 * for values that are not the default. PTQ_E_ARG when the text is full. */
ptq_status ptq_method_add_option(ptq_method *m, const char *key,
                                 const char *value, ptq_err *err);
/** The same with the shortest decimal number that reads back as `value`. */
ptq_status ptq_method_add_number(ptq_method *m, const char *key, double value,
                                 ptq_err *err);

#endif /* PTQ_QUANT_OPTIONS_H */
