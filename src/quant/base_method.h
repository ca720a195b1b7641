/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file base_method.h
 * A method that works on top of another: `{name: eora, base: gptq, rank: 16,
 * damp: 0.05}`. Options that the upper method does not know are its base's.
 */
#ifndef PTQ_QUANT_BASE_METHOD_H
#define PTQ_QUANT_BASE_METHOD_H

#include "option_table.h"

enum { PTQ_BASE_OWN_MAX = 128 };

/** The base with its options, small enough for the upper method's `own`. */
typedef struct ptq_base_method {
  const ptq_method_family *family; /* static */
  union {
    double align;
    unsigned char bytes[PTQ_BASE_OWN_MAX];
  } own;
} ptq_base_method;

/**
 * Read the options of an upper method and of its base; m->options is spelled,
 * the base's among them.
 * @param fallback the base where none is given; left out of the spelling
 * @param not_below methods that may not stand below, NULL-terminated
 * @param own      receives the upper method's options, `size` bytes
 * @return PTQ_E_ARG naming what is wrong and what is known
 */
ptq_status ptq_base_parse(ptq_method *m, const ptq_option_table *t,
                          const ptq_method_option *options, size_t n,
                          const char *fallback, const char *const *not_below,
                          void *own, size_t size, ptq_base_method *base,
                          ptq_err *err);

/** The base as a method; its option text is empty. */
ptq_method ptq_base_get(const ptq_base_method *base);

#endif /* PTQ_QUANT_BASE_METHOD_H */
