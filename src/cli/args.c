/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/team.h"
#include "ptq/base/text.h"

const ptq_option ptq_common_options[] = {
    {"help", 'h', NULL, "show this text"},
    {"quiet", 'q', NULL, "errors and warnings only"},
    {"verbose", 'v', NULL, "more about what is being done"},
    {NULL, 0, NULL, NULL}};

static const ptq_option *find_in(const ptq_option *options, const char *name,
                                 size_t n, char letter) {
  for (; options != NULL && options->name != NULL; options++) {
    if (letter != 0 && options->letter == letter) return options;
    if (letter == 0 && strlen(options->name) == n &&
        strncmp(options->name, name, n) == 0)
      return options;
  }
  return NULL;
}

static const ptq_option *find(const ptq_command *c, const char *name, size_t n,
                              char letter) {
  const ptq_option *o = find_in(c->options, name, n, letter);
  return o != NULL ? o : find_in(ptq_common_options, name, n, letter);
}

static ptq_status unknown(const ptq_command *c, const char *word,
                          ptq_err *err) {
  const char *names[64];
  size_t n = 0;
  for (const ptq_option *o = c->options; o != NULL && o->name != NULL; o++)
    if (n < 64) names[n++] = o->name;
  const char *near =
      ptq_text_nearest(word + (word[1] == '-' ? 2 : 1), names, n);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "unknown option '%s'%s%s; see ptqsweep %s --help", word,
                  near != NULL ? ", did you mean --" : "",
                  near != NULL ? near : "", c->name);
}

/* Option at argv[*i]; moves *i past its value. */
static ptq_status parse_option(const ptq_command *c, int argc, char **argv,
                               int *i, ptq_args *out, ptq_err *err) {
  const char *word = argv[*i];
  const bool is_long = word[1] == '-';
  const char *name = word + (is_long ? 2 : 1);
  const char *equals = is_long ? strchr(name, '=') : NULL;
  const size_t n = equals != NULL ? (size_t)(equals - name) : strlen(name);
  if (!is_long && n != 1) return unknown(c, word, err);
  const ptq_option *o = find(c, name, n, is_long ? 0 : name[0]);
  if (o == NULL) return unknown(c, word, err);
  const char *value = "";
  if (o->value == NULL && equals != NULL)
    return PTQ_FAIL(err, PTQ_E_ARG, "option '--%s' takes no value", o->name);
  if (o->value != NULL) {
    if (equals != NULL)
      value = equals + 1;
    else if (*i + 1 < argc)
      value = argv[++*i];
    else
      return PTQ_FAIL(err, PTQ_E_ARG, "option '--%s' needs %s", o->name,
                      o->value);
  }
  if (out->n_given == PTQ_ARGS_MAX)
    return PTQ_FAIL(err, PTQ_E_ARG, "more than %d options", PTQ_ARGS_MAX);
  out->given[out->n_given] = o;
  out->value[out->n_given++] = value;
  return PTQ_OK;
}

ptq_status ptq_args_parse(const ptq_command *command, int argc, char **argv,
                          ptq_args *out, ptq_err *err) {
  bool options = true;
  *out = (ptq_args){.argv = (const char *const *)argv, .argc = argc};
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i];
    if (options && strcmp(word, "--") == 0) {
      options = false;
    } else if (options && word[0] == '-' && word[1] != '\0') {
      const ptq_status rc = parse_option(command, argc, argv, &i, out, err);
      if (rc != PTQ_OK) return rc;
    } else if (out->n_positional == PTQ_ARGS_MAX) {
      return PTQ_FAIL(err, PTQ_E_ARG, "more than %d arguments", PTQ_ARGS_MAX);
    } else {
      out->positional[out->n_positional++] = word;
    }
  }
  if (ptq_args_has(out, "help")) return PTQ_OK;
  if (out->n_positional < command->min_args ||
      out->n_positional > command->max_args)
    return PTQ_FAIL(
        err, PTQ_E_ARG, "%s arguments; usage: ptqsweep %s %s",
        out->n_positional < command->min_args ? "missing" : "too many",
        command->name, command->args);
  return PTQ_OK;
}

const char *ptq_args_at(const ptq_args *a, int i) {
  return i < a->n_positional ? a->positional[i] : NULL;
}

int ptq_args_count(const ptq_args *a) {
  return a->n_positional;
}

const char *ptq_args_get(const ptq_args *a, const char *name) {
  for (int i = a->n_given - 1; i >= 0; i--)
    if (strcmp(a->given[i]->name, name) == 0) return a->value[i];
  return NULL;
}

bool ptq_args_has(const ptq_args *a, const char *name) {
  return ptq_args_get(a, name) != NULL;
}

int ptq_args_all(const ptq_args *a, const char *name, const char **out,
                 int max) {
  int n = 0;
  for (int i = 0; i < a->n_given && n < max; i++)
    if (strcmp(a->given[i]->name, name) == 0) out[n++] = a->value[i];
  return n;
}

ptq_status ptq_args_check_sets(const ptq_args *a, ptq_err *err) {
  for (int i = 0; i < a->n_given; i++) {
    const char *equals = strchr(a->value[i], '=');
    if (strcmp(a->given[i]->name, "set") == 0 &&
        (equals == NULL || equals == a->value[i]))
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "--set '%s' is not KEY=VALUE, as in grid.group=[32]",
                      a->value[i]);
  }
  return PTQ_OK;
}

ptq_status ptq_args_int(const ptq_args *a, const char *name, long fallback,
                        long *out, ptq_err *err) {
  const char *text = ptq_args_get(a, name);
  *out = fallback;
  if (text == NULL) return PTQ_OK;
  char *end = NULL;
  errno = 0;
  const long v = strtol(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0)
    return PTQ_FAIL(err, PTQ_E_ARG, "--%s: '%s' is not a whole number", name,
                    text);
  *out = v;
  return PTQ_OK;
}

ptq_status ptq_args_double(const ptq_args *a, const char *name, double fallback,
                           double *out, ptq_err *err) {
  const char *text = ptq_args_get(a, name);
  *out = fallback;
  if (text == NULL) return PTQ_OK;
  char *end = NULL;
  const double v = strtod(text, &end);
  if (end == text || *end != '\0' || !(v == v))
    return PTQ_FAIL(err, PTQ_E_ARG, "--%s: '%s' is not a number", name, text);
  *out = v;
  return PTQ_OK;
}

/* A number from 1 to `most`; what *out holds where it is not given. */
static ptq_status count_of(const ptq_args *a, const char *name, int most,
                           int *out, ptq_err *err) {
  long n = *out;
  if (!ptq_args_has(a, name)) return PTQ_OK;
  const ptq_status rc = ptq_args_int(a, name, 1, &n, err);
  if (rc != PTQ_OK) return rc;
  if (n < 1 || n > most)
    return PTQ_FAIL(err, PTQ_E_ARG, "--%s: 1 to %d, got %ld", name, most, n);
  *out = (int)n;
  return PTQ_OK;
}

ptq_status ptq_args_threads(const ptq_args *a, int *threads, ptq_err *err) {
  return count_of(a, "threads", PTQ_CREW_MAX, threads, err);
}

ptq_status ptq_args_ranks_per_point(const ptq_args *a, int *ranks,
                                    ptq_err *err) {
  return count_of(a, "ranks-per-point", PTQ_TEAM_MAX, ranks, err);
}
