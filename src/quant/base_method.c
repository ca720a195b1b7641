/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base_method.h"

#include <stdio.h>
#include <string.h>

#include "ptq/base/check.h"

enum { MAX_OPTIONS = 32, MAX_BASES = 32 };

static void put_base(const ptq_method *m, ptq_base_method *base) {
  *base = (ptq_base_method){.family = m->family};
  memcpy(base->own.bytes, m->own.bytes, sizeof base->own.bytes);
  /* What is cut off must be unused: a family that needs more may not stand
   * below another. */
  for (size_t i = sizeof base->own.bytes; i < sizeof m->own.bytes; i++)
    PTQ_ASSERT(m->own.bytes[i] == 0);
}

/* Names of all families but those in not_below and those that reach beyond
 * their own layers. */
static void names_of_bases(const char *const *not_below,
                           const char *names[MAX_BASES + 1]) {
  size_t n = 0;
  for (const ptq_method_family *const *f = ptq_method_families(); *f; f++) {
    bool below = !(*f)->backward && (*f)->tune_block == NULL;
    for (size_t i = 0; not_below[i] != NULL; i++)
      below = below && strcmp(not_below[i], (*f)->name) != 0;
    if (below && n < MAX_BASES) names[n++] = (*f)->name;
  }
  names[n] = NULL;
}

ptq_method ptq_base_get(const ptq_base_method *base) {
  ptq_method m = {.family = base->family};
  snprintf(m.name, sizeof m.name, "%s", base->family->name);
  memcpy(m.own.bytes, base->own.bytes, sizeof base->own.bytes);
  return m;
}

/* The name of the base, and the options that are not the upper method's. */
static ptq_status split(const ptq_option_table *t,
                        const ptq_method_option *options, size_t n,
                        const char *const *bases, void *own, int *which,
                        ptq_method_option *rest, size_t *n_rest, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (size_t i = 0; i < n; i++) {
    bool known;
    if (strcmp(options[i].key, "base") == 0) {
      PTQ_TRY(ptq_option_choice(&options[i], bases, which, err));
      continue;
    }
    PTQ_TRY(ptq_option_read(t, &options[i], own, &known, err));
    if (known) continue;
    if (*n_rest == MAX_OPTIONS)
      return PTQ_FAIL(err, PTQ_E_ARG, "more than %d options", MAX_OPTIONS);
    rest[(*n_rest)++] = options[i];
  }
done:
  return rc;
}

ptq_status ptq_base_parse(ptq_method *m, const ptq_option_table *t,
                          const ptq_method_option *options, size_t n,
                          const char *fallback, const char *const *not_below,
                          void *own, size_t size, ptq_base_method *base,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_method_option rest[MAX_OPTIONS];
  const char *bases[MAX_BASES + 1];
  size_t n_rest = 0;
  int which = 0;
  ptq_method below;
  ptq_err why = {0};
  memcpy(own, t->defaults, size);
  names_of_bases(not_below, bases);
  while (strcmp(bases[which], fallback) != 0) which++;
  PTQ_TRY(split(t, options, n, bases, own, &which, rest, &n_rest, err));
  rc = ptq_method_parse(bases[which], rest, n_rest, &below, &why);
  if (rc != PTQ_OK) {
    char known[160] = "base";
    size_t len = strlen(known);
    for (const ptq_option_row *r = t->rows; r->key && len < sizeof known; r++)
      len += (size_t)snprintf(known + len, sizeof known - len, ", %s", r->key);
    rc = PTQ_FAIL(err, rc, "%s (own options: %s) over its base: %s", m->name,
                  known, why.msg);
    goto done;
  }
  put_base(&below, base);
  snprintf(m->options, sizeof m->options, "%s", below.options);
  if (strcmp(bases[which], fallback) != 0)
    PTQ_TRY(ptq_method_add_option(m, "base", bases[which], err));
  PTQ_TRY(ptq_option_spell(t, own, m, err));
done:
  return rc;
}
