/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "option_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 32 };

static void *member(const ptq_option_row *r, void *own) {
  return (char *)own + r->offset;
}

static const void *member_of(const ptq_option_row *r, const void *own) {
  return (const char *)own + r->offset;
}

/* A number, or a word in its place. */
static ptq_status read_number(const ptq_option_row *r,
                              const ptq_method_option *o, double *out,
                              ptq_err *err) {
  ptq_err why = {0};
  for (int i = 0; r->names != NULL && r->names[i] != NULL; i++)
    if (strcmp(r->names[i], o->value) == 0) {
      *out = -1.0 - (double)i;
      return PTQ_OK;
    }
  if (ptq_option_double(o, r->least, r->most, out, &why) == PTQ_OK)
    return PTQ_OK;
  if (r->names == NULL) return PTQ_FAIL(err, why.code, "%s", why.msg);
  return PTQ_FAIL(err, why.code, "%s; nor is that '%s'", why.msg, r->names[0]);
}

static ptq_status read_row(const ptq_option_row *r, const ptq_method_option *o,
                           void *own, ptq_err *err) {
  switch (r->kind) {
    case PTQ_OPTION_BOOL:
      return ptq_option_bool(o, member(r, own), err);
    case PTQ_OPTION_INT:
      return ptq_option_int(o, (int64_t)r->least, (int64_t)r->most,
                            member(r, own), err);
    case PTQ_OPTION_DOUBLE:
      return read_number(r, o, member(r, own), err);
    case PTQ_OPTION_CHOICE:
      return ptq_option_choice(o, r->names, member(r, own), err);
  }
  return PTQ_FAIL(err, PTQ_E_ARG, "option '%s' has no kind", r->key);
}

ptq_status ptq_option_read(const ptq_option_table *t,
                           const ptq_method_option *o, void *own, bool *known,
                           ptq_err *err) {
  *known = false;
  for (const ptq_option_row *r = t->rows; r->key != NULL; r++) {
    if (strcmp(r->key, o->key) != 0) continue;
    *known = true;
    return read_row(r, o, own, err);
  }
  return PTQ_OK;
}

static ptq_status spell_row(const ptq_option_row *r, const void *own,
                            const void *defaults, ptq_method *m, ptq_err *err) {
  const void *v = member_of(r, own), *d = member_of(r, defaults);
  switch (r->kind) {
    case PTQ_OPTION_BOOL: {
      const bool is = *(const bool *)v;
      if (is == *(const bool *)d) return PTQ_OK;
      return ptq_method_add_option(m, r->key, is ? "true" : "false", err);
    }
    case PTQ_OPTION_INT: {
      const int64_t is = *(const int64_t *)v;
      if (is == *(const int64_t *)d) return PTQ_OK;
      return ptq_method_add_number(m, r->key, (double)is, err);
    }
    case PTQ_OPTION_DOUBLE: {
      const double is = *(const double *)v, def = *(const double *)d;
      if (!(is < def) && !(is > def)) return PTQ_OK;
      if (r->names != NULL && is < 0.0)
        return ptq_method_add_option(m, r->key, r->names[(int)(-1.0 - is)],
                                     err);
      return ptq_method_add_number(m, r->key, is, err);
    }
    case PTQ_OPTION_CHOICE: {
      const int is = *(const int *)v;
      if (is == *(const int *)d) return PTQ_OK;
      return ptq_method_add_option(m, r->key, r->names[is], err);
    }
  }
  return PTQ_FAIL(err, PTQ_E_ARG, "option '%s' has no kind", r->key);
}

/* strcmp of the keys of two "key=value" texts. */
static int by_key(const void *a, const void *b) {
  const char *const *x = a, *const *y = b;
  const size_t nx = strcspn(*x, "="), ny = strcspn(*y, "=");
  const int order = strncmp(*x, *y, nx < ny ? nx : ny);
  return order != 0 ? order : (nx > ny) - (nx < ny);
}

static void sort_options(ptq_method *m) {
  char text[PTQ_METHOD_OPTIONS_MAX];
  const char *list[PTQ_METHOD_OPTIONS_MAX / 2];
  size_t n = 0, len = 0;
  memcpy(text, m->options, sizeof text);
  for (char *s = text; *s != '\0';) {
    list[n++] = s;
    s += strcspn(s, ",");
    if (*s == ',') *s++ = '\0';
  }
  qsort(list, n, sizeof *list, by_key);
  for (size_t i = 0; i < n; i++)
    len += (size_t)snprintf(m->options + len, sizeof m->options - len, "%s%s",
                            i > 0 ? "," : "", list[i]);
}

ptq_status ptq_option_spell(const ptq_option_table *t, const void *own,
                            ptq_method *m, ptq_err *err) {
  for (const ptq_option_row *r = t->rows; r->key != NULL; r++) {
    const ptq_status rc = spell_row(r, own, t->defaults, m, err);
    if (rc != PTQ_OK) return rc;
  }
  sort_options(m);
  return PTQ_OK;
}

ptq_status ptq_option_not_in(const ptq_option_table *t, const char *method,
                             const ptq_method_option *o,
                             const char *const *also, ptq_err *err) {
  const char *known[MAX_ROWS + 1] = {NULL};
  size_t n = 0;
  for (const ptq_option_row *r = t->rows; r->key != NULL && n < MAX_ROWS; r++)
    known[n++] = r->key;
  for (; also != NULL && *also != NULL && n < MAX_ROWS; also++)
    known[n++] = *also;
  return ptq_option_unknown(method, o, known, err);
}

ptq_status ptq_options_parse(const ptq_option_table *t,
                             const ptq_method_option *options, size_t n,
                             void *own, size_t size, ptq_method *m,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  memcpy(own, t->defaults, size);
  for (size_t i = 0; i < n; i++) {
    bool known;
    PTQ_TRY(ptq_option_read(t, &options[i], own, &known, err));
    if (!known) PTQ_TRY(ptq_option_not_in(t, m->name, &options[i], NULL, err));
  }
  PTQ_TRY(ptq_option_spell(t, own, m, err));
done:
  return rc;
}
