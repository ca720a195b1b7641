/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/text.h"

ptq_status ptq_option_bool(const ptq_method_option *o, bool *out,
                           ptq_err *err) {
  if (strcmp(o->value, "true") == 0 || strcmp(o->value, "false") == 0) {
    *out = strcmp(o->value, "true") == 0;
    return PTQ_OK;
  }
  return PTQ_FAIL(err, PTQ_E_ARG, "option '%s' is true or false, not '%s'",
                  o->key, o->value);
}

ptq_status ptq_option_int(const ptq_method_option *o, int64_t least,
                          int64_t most, int64_t *out, ptq_err *err) {
  char *end = NULL;
  errno = 0;
  const long long v = strtoll(o->value, &end, 10);
  if (end == o->value || *end != '\0' || errno != 0 || v < least || v > most)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "option '%s' is an integer from %lld to %lld, not '%s'",
                    o->key, (long long)least, (long long)most, o->value);
  *out = v;
  return PTQ_OK;
}

ptq_status ptq_option_double(const ptq_method_option *o, double least,
                             double most, double *out, ptq_err *err) {
  char *end = NULL;
  const double v = strtod(o->value, &end);
  if (end == o->value || *end != '\0' || !(v >= least && v <= most))
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "option '%s' is a number from %g to %g, not '%s'", o->key,
                    least, most, o->value);
  *out = v;
  return PTQ_OK;
}

/* "a, b, c" */
static void join(const char *const *names, char *text, size_t size) {
  size_t len = 0;
  text[0] = '\0';
  for (int i = 0; names[i] != NULL && len < size; i++) {
    const int n =
        snprintf(text + len, size - len, "%s%s", i > 0 ? ", " : "", names[i]);
    len += n > 0 ? (size_t)n : 0;
  }
}

ptq_status ptq_option_choice(const ptq_method_option *o,
                             const char *const *names, int *out, ptq_err *err) {
  for (int i = 0; names[i] != NULL; i++) {
    if (strcmp(o->value, names[i]) != 0) continue;
    *out = i;
    return PTQ_OK;
  }
  char text[160];
  join(names, text, sizeof text);
  return PTQ_FAIL(err, PTQ_E_ARG, "option '%s' is one of %s, not '%s'", o->key,
                  text, o->value);
}

ptq_status ptq_option_unknown(const char *method, const ptq_method_option *o,
                              const char *const *known, ptq_err *err) {
  char text[200];
  join(known, text, sizeof text);
  if (text[0] == '\0')
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "method '%s' has no option '%s'; it has none", method,
                    o->key);
  size_t n = 0;
  while (known[n] != NULL) n++;
  const char *near = ptq_text_nearest(o->key, known, n);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "method '%s' has no option '%s'%s%s%s; known: %s", method,
                  o->key, near != NULL ? ", did you mean '" : "",
                  near != NULL ? near : "", near != NULL ? "'" : "", text);
}

ptq_status ptq_method_add_option(ptq_method *m, const char *key,
                                 const char *value, ptq_err *err) {
  const size_t len = strlen(m->options);
  const size_t room = sizeof m->options - len;
  const int n = snprintf(m->options + len, room, "%s%s=%s", len > 0 ? "," : "",
                         key, value);
  if (n >= 0 && (size_t)n < room) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "the options of method '%s' are longer than %d characters "
                  "at '%s=%s'",
                  m->name, PTQ_METHOD_OPTIONS_MAX - 1, key, value);
}

ptq_status ptq_method_add_number(ptq_method *m, const char *key, double value,
                                 ptq_err *err) {
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, NULL) == value) break;
  }
  return ptq_method_add_option(m, key, text, err);
}
