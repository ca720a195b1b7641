/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Options of number formats: parsed and spelled from a family's table. */
#include <stdio.h>
#include <string.h>

#include "dtype_core.h"

/* Length of "scale=" in "scale=mse", 0 for "asym". */
static size_t key_length(const char *text) {
  const char *equals = strchr(text, '=');
  return equals != NULL ? (size_t)(equals - text) + 1 : 0;
}

static size_t append(char *out, size_t size, size_t at, const char *text) {
  if (at >= size) return at;
  const int n = snprintf(out + at, size - at, "%s", text);
  return at + (n > 0 ? (size_t)n : 0);
}

/* The spellings of one mask: "scale=floor|ceil", "sym|asym"; where keys
 * differ "keep=f32|f16 or :dq=fp8|bnb". */
static size_t spell_choice(const ptq_dtype_option *first, char *out,
                           size_t size, size_t at) {
  const ptq_dtype_option *before = NULL;
  for (const ptq_dtype_option *o = first; o->text != NULL; o++) {
    if (o->mask != first->mask) continue;
    const size_t key = key_length(o->text);
    const bool same = before != NULL && key_length(before->text) == key &&
                      strncmp(before->text, o->text, key) == 0;
    if (before != NULL) at = append(out, size, at, same ? "|" : " or :");
    at = append(out, size, at, o->text + (same ? key : 0));
    before = o;
  }
  return at;
}

void ptq_dtype_options(const ptq_dtype_family *f, char *out, size_t size) {
  size_t at = 0;
  out[0] = '\0';
  if (f->options == NULL) return;
  for (const ptq_dtype_option *o = f->options; o->text != NULL; o++) {
    if (o->value != 0) continue;
    at = append(out, size, at, "[:");
    at = spell_choice(o, out, size, at);
    at = append(out, size, at, "]");
  }
}

static bool keeps_scales(const ptq_dtype_family *f) {
  for (const ptq_dtype_option *o = f->options; o != NULL && o->text != NULL;
       o++)
    if (o->mask == PTQ_OPTION_STORE) return true;
  return false;
}

/* Why a format does not have an option that others have; "" if it is one that
 * none has. */
static const char *why_not(const ptq_dtype *dt, const char *text) {
  if (strncmp(text, "keep=", 5) != 0 && strncmp(text, "dq=", 3) != 0) return "";
  return keeps_scales(dt->family) ? "" : ": its scales have 8 bits already";
}

static ptq_status unknown_option(const ptq_dtype *dt, const char *text,
                                 size_t n, ptq_err *err) {
  char known[160];
  ptq_dtype_options(dt->family, known, sizeof known);
  const int shown = n < 40 ? (int)n : 40;
  if (known[0] == '\0')
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "dtype '%s' has no option '%.*s'%s; it has none", dt->name,
                    shown, text, why_not(dt, text));
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "dtype '%s' has no option '%.*s'%s; known: %s", dt->name,
                  shown, text, why_not(dt, text), known);
}

static ptq_status parse_one(ptq_dtype *dt, const char *text, size_t n,
                            unsigned *seen, ptq_err *err) {
  const ptq_dtype_option *o = dt->family->options;
  for (; o != NULL && o->text != NULL; o++) {
    if (strlen(o->text) != n || strncmp(o->text, text, n) != 0) continue;
    if ((*seen & o->mask) != 0)
      return PTQ_FAIL(err, PTQ_E_ARG, "dtype '%s': '%.*s' repeats an option",
                      dt->name, (int)n, text);
    *seen |= o->mask;
    dt->options |= o->value;
    return PTQ_OK;
  }
  return unknown_option(dt, text, n, err);
}

/* The option of o's mask that need not be spelled. */
static unsigned default_of(const ptq_dtype *dt, const ptq_dtype_option *o) {
  if (o->mask != PTQ_OPTION_STORE || dt->family->default_store == NULL)
    return 0;
  return dt->family->default_store(dt);
}

/* What differs from the default, in the table's order. */
static void spell(ptq_dtype *dt) {
  const ptq_dtype_option *o = dt->family->options;
  size_t at = strlen(dt->name);
  for (; o != NULL && o->text != NULL; o++) {
    if (o->value == default_of(dt, o) || (dt->options & o->mask) != o->value)
      continue;
    at = append(dt->name, sizeof dt->name, at, ":");
    at = append(dt->name, sizeof dt->name, at, o->text);
  }
}

ptq_status ptq_dtype_parse_options(ptq_dtype *dt, const char *text,
                                   ptq_err *err) {
  unsigned seen = 0;
  while (*text != '\0') {
    const size_t n = strcspn(text, ":");
    const ptq_status rc = parse_one(dt, text, n, &seen, err);
    if (rc != PTQ_OK) return rc;
    text += n;
    if (*text == ':' && *++text == '\0')
      return PTQ_FAIL(err, PTQ_E_ARG, "dtype '%s': no option after the colon",
                      dt->name);
  }
  if ((seen & PTQ_OPTION_STORE) == 0 && dt->family->default_store != NULL)
    dt->options |= dt->family->default_store(dt);
  spell(dt);
  return dt->family->check != NULL ? dt->family->check(dt, err) : PTQ_OK;
}
