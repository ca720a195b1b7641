/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file option_table.h
 * The options of a method as a table: key, kind, place and range. Parsing and
 * the canonical spelling follow from it.
 */
#ifndef PTQ_QUANT_OPTION_TABLE_H
#define PTQ_QUANT_OPTION_TABLE_H

#include <stddef.h>

#include "options.h"

typedef enum ptq_option_kind {
  PTQ_OPTION_BOOL,   /* bool */
  PTQ_OPTION_INT,    /* int64_t */
  PTQ_OPTION_DOUBLE, /* double; with names: -1 - the index of a word */
  PTQ_OPTION_CHOICE  /* int, an index of names */
} ptq_option_kind;

typedef struct ptq_option_row {
  const char *key;
  ptq_option_kind kind;
  size_t offset;            /* in the family's struct of options */
  double least, most;       /* of numbers, inclusive */
  const char *const *names; /* of choices, NULL-terminated; words that may
                               stand for a number >= 0, or NULL */
} ptq_option_row;

typedef struct ptq_option_table {
  const ptq_option_row *rows; /* sorted by key, ended by a NULL key */
  const void *defaults;       /* the family's struct */
} ptq_option_table;

/**
 * Read one option into `own`, the family's struct.
 * @param[out] known whether the table has it; if not, nothing was done
 * @return PTQ_E_ARG naming option, value and what is allowed
 */
ptq_status ptq_option_read(const ptq_option_table *t,
                           const ptq_method_option *o, void *own, bool *known,
                           ptq_err *err);

/** Append to m->options what in `own` is not the default, sorted among what
 * stands there already. PTQ_E_ARG when the text is full. */
ptq_status ptq_option_spell(const ptq_option_table *t, const void *own,
                            ptq_method *m, ptq_err *err);

/** All of a family's options: `own` starts as the defaults; m->options is
 * spelled. PTQ_E_ARG also for an option the table does not have. */
ptq_status ptq_options_parse(const ptq_option_table *t,
                             const ptq_method_option *options, size_t n,
                             void *own, size_t size, ptq_method *m,
                             ptq_err *err);

/** PTQ_E_ARG for option `o`, which neither the table nor `also` (nullable,
 * NULL-terminated) has. */
ptq_status ptq_option_not_in(const ptq_option_table *t, const char *method,
                             const ptq_method_option *o,
                             const char *const *also, ptq_err *err);

#endif /* PTQ_QUANT_OPTION_TABLE_H */
