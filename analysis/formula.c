/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/formula.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/text.h"

static double identity(double x) {
  return x;
}

static double square(double x) {
  return x * x;
}

static double inverse(double x) {
  return 1.0 / x;
}

static const struct {
  const char *name;
  double (*apply)(double);
} transforms[PTQ_TF_COUNT] = {
    [PTQ_TF_NONE] = {"", identity},          [PTQ_TF_LOG] = {"log", log},
    [PTQ_TF_LOG2] = {"log2", log2},          [PTQ_TF_LOG10] = {"log10", log10},
    [PTQ_TF_LOG1P] = {"log1p", log1p},       [PTQ_TF_SQRT] = {"sqrt", sqrt},
    [PTQ_TF_SQUARE] = {"square", square},    [PTQ_TF_EXP] = {"exp", exp},
    [PTQ_TF_INVERSE] = {"inverse", inverse},
};

double ptq_part_value(const ptq_part *part, const ptq_obs *o) {
  return transforms[part->transform].apply(part->feature->get(o));
}

void ptq_part_name(const ptq_part *part, char *text, size_t size) {
  if (part->factor != NULL)
    (void)snprintf(text, size, "%s", part->factor->name);
  else if (part->transform == PTQ_TF_NONE)
    (void)snprintf(text, size, "%s", part->feature->name);
  else
    (void)snprintf(text, size, "%s(%s)", transforms[part->transform].name,
                   part->feature->name);
}

enum { WORD = 64 };

/* A name or a sign of the formula's text. */
typedef struct lexer {
  const char *at;
  char word[WORD]; /* empty at the end */
} lexer;

/* Bytes of the character at text: of UTF-8, with those that continue it. */
static int character(const char *text) {
  int n = 1;
  if (((unsigned char)text[0] & 0xc0u) != 0xc0u) return n;
  while (n < 4 && ((unsigned char)text[n] & 0xc0u) == 0x80u) n++;
  return n;
}

static ptq_status next(lexer *lx, ptq_err *err) {
  while (isspace((unsigned char)*lx->at)) lx->at++;
  size_t n = 0;
  while (isalnum((unsigned char)lx->at[n]) || lx->at[n] == '_') n++;
  if (n == 0 && *lx->at != '\0') {
    n = 1;
    if (strchr("+:*()~", *lx->at) == NULL)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "formula: '%.*s' is not understood; terms are joined by "
                      "+, interactions by : or *",
                      character(lx->at), lx->at);
  }
  if (n >= WORD)
    return PTQ_FAIL(err, PTQ_E_ARG, "formula: word too long: '%.40s...'",
                    lx->at);
  memcpy(lx->word, lx->at, n);
  lx->word[n] = '\0';
  lx->at += n;
  return PTQ_OK;
}

static ptq_status unknown(const char *word, ptq_err *err) {
  const char *names[128];
  size_t n = 0;
  for (size_t i = 0; ptq_feature_at(i) != NULL; i++)
    names[n++] = ptq_feature_at(i)->name;
  for (size_t i = 0; ptq_factor_at(i) != NULL; i++)
    names[n++] = ptq_factor_at(i)->name;
  const char *near = ptq_text_nearest(word, names, n);
  if (word[0] == '\0')
    return PTQ_FAIL(err, PTQ_E_ARG, "formula: ends where a term should be");
  if (!isalnum((unsigned char)word[0]) && word[0] != '_')
    return PTQ_FAIL(err, PTQ_E_ARG, "formula: '%s' where a column should be",
                    word);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "formula: unknown column '%s'%s%s%s; 'ptqsweep list "
                  "columns' tells them",
                  word, near != NULL ? ", did you mean '" : "",
                  near != NULL ? near : "", near != NULL ? "'?" : "");
}

static ptq_status parse_call(lexer *lx, ptq_transform tf, ptq_part *part,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(next(lx, err)); /* the parenthesis, seen by the caller */
  PTQ_TRY(next(lx, err));
  part->transform = tf;
  part->feature = ptq_feature_find(lx->word);
  if (part->feature == NULL) {
    rc = ptq_factor_find(lx->word) != NULL
             ? PTQ_FAIL(err, PTQ_E_ARG,
                        "formula: '%s' is a factor and takes no %s()", lx->word,
                        transforms[tf].name)
             : unknown(lx->word, err);
    goto done;
  }
  PTQ_TRY(next(lx, err));
  if (strcmp(lx->word, ")") != 0)
    rc = PTQ_FAIL(err, PTQ_E_ARG, "formula: ')' missing after '%s(%s'",
                  transforms[tf].name, part->feature->name);
done:
  return rc;
}

/* lx->word is the first word of the part; leaves the word behind it. */
static ptq_status parse_part(lexer *lx, ptq_part *part, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *part = (ptq_part){0};
  const char *after = lx->at + strspn(lx->at, " \t\n");
  if (*after == '(' && lx->word[0] != '\0') {
    int tf = PTQ_TF_NONE + 1;
    while (tf < PTQ_TF_COUNT && strcmp(transforms[tf].name, lx->word) != 0)
      tf++;
    if (tf == PTQ_TF_COUNT) {
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "formula: unknown transform '%s'; there are log, log2, "
                    "log10, log1p, sqrt, square, exp and inverse",
                    lx->word);
      goto done;
    }
    PTQ_TRY(parse_call(lx, (ptq_transform)tf, part, err));
  } else {
    part->feature = ptq_feature_find(lx->word);
    part->factor = ptq_factor_find(lx->word);
    if (part->feature == NULL && part->factor == NULL) {
      rc = unknown(lx->word, err);
      goto done;
    }
  }
  PTQ_TRY(next(lx, err));
done:
  return rc;
}

/* A term; *crossed when its parts are joined by *. */
static ptq_status parse_term(lexer *lx, ptq_term *term, bool *crossed,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *term = (ptq_term){0};
  *crossed = false;
  for (;;) {
    if (term->n_parts == PTQ_TERM_PARTS) {
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "formula: an interaction joins at most %d columns",
                    PTQ_TERM_PARTS);
      goto done;
    }
    PTQ_TRY(parse_part(lx, &term->parts[term->n_parts++], err));
    const bool star = strcmp(lx->word, "*") == 0;
    if (!star && strcmp(lx->word, ":") != 0) break;
    if (term->n_parts > 1 && star != *crossed) {
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "formula: ':' and '*' in one term; write it out with +");
      goto done;
    }
    *crossed = star;
    PTQ_TRY(next(lx, err));
  }
done:
  return rc;
}

static bool same_part(const ptq_part *a, const ptq_part *b) {
  return a->feature == b->feature && a->factor == b->factor &&
         a->transform == b->transform;
}

/* Do the parts of `term` outside the bits of `without` make up `other`, in any
 * order? */
static bool is_rest(const ptq_term *other, const ptq_term *term,
                    unsigned without) {
  bool taken[PTQ_TERM_PARTS] = {false};
  int left = 0;
  for (int p = 0; p < term->n_parts; p++) {
    if ((without >> p & 1u) != 0) continue;
    int q = 0;
    while (q < other->n_parts &&
           (taken[q] || !same_part(&other->parts[q], &term->parts[p])))
      q++;
    if (q == other->n_parts) return false;
    taken[q] = true;
    left++;
  }
  return left == other->n_parts;
}

/* Is `term` without some parts in the formula? The intercept always is. */
static bool has_rest(const ptq_formula *f, const ptq_term *term,
                     unsigned without) {
  const ptq_term intercept = {.n_parts = 0};
  if (is_rest(&intercept, term, without)) return true;
  for (int t = 0; t < f->n_terms; t++)
    if (is_rest(&f->terms[t], term, without)) return true;
  return false;
}

bool ptq_formula_all_levels(const ptq_formula *f, const ptq_term *term,
                            int part) {
  return !has_rest(f, term, 1u << part);
}

static void term_name(const ptq_term *term, unsigned without, char *text,
                      size_t size) {
  size_t at = 0;
  text[0] = '\0';
  for (int p = 0; p < term->n_parts && at < size; p++) {
    char part[2 * WORD];
    if ((without >> p & 1u) != 0) continue;
    ptq_part_name(&term->parts[p], part, sizeof part);
    const int n =
        snprintf(text + at, size - at, "%s%s", at > 0 ? ":" : "", part);
    at += n > 0 ? (size_t)n : 0;
  }
}

/* Factors that all lack their margins would repeat a smaller term, and which
 * of their columns stays would be chance. */
static ptq_status check_margins(const ptq_formula *f, const ptq_term *term,
                                ptq_err *err) {
  unsigned factors = 0;
  int first = -1;
  for (int p = 0; p < term->n_parts; p++) {
    if (term->parts[p].factor == NULL) continue;
    if (!ptq_formula_all_levels(f, term, p)) return PTQ_OK;
    if (first < 0) first = p;
    factors |= 1u << p;
  }
  for (unsigned out = factors; out != 0; out = (out - 1) & factors) {
    if (!has_rest(f, term, out)) continue;
    char name[4 * WORD], margin[4 * WORD];
    term_name(term, 0, name, sizeof name);
    term_name(term, 1u << first, margin, sizeof margin);
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "formula: '%s' stands without the terms it is made of; "
                    "write '%s + %s'",
                    name, margin, name);
  }
  return PTQ_OK;
}

static bool has_term(const ptq_formula *f, const ptq_term *term) {
  for (int t = 0; t < f->n_terms; t++)
    if (is_rest(&f->terms[t], term, 0)) return true;
  return false;
}

static ptq_status add_term(ptq_formula *f, const ptq_term *term, ptq_err *err) {
  if (f->n_terms == PTQ_FORMULA_TERMS)
    return PTQ_FAIL(err, PTQ_E_ARG, "formula: more than %d terms",
                    PTQ_FORMULA_TERMS);
  f->terms[f->n_terms++] = *term;
  return PTQ_OK;
}

/* a*b*c: every subset of the parts, smaller ones first. */
static ptq_status add_crossed(ptq_formula *f, const ptq_term *term,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int size = 1; size <= term->n_parts; size++)
    for (unsigned set = 1; set < 1u << term->n_parts; set++) {
      ptq_term part = {.n_parts = 0};
      for (int p = 0; p < term->n_parts; p++)
        if ((set >> p & 1u) != 0) part.parts[part.n_parts++] = term->parts[p];
      if (part.n_parts == size && !has_term(f, &part))
        PTQ_TRY(add_term(f, &part, err));
    }
done:
  return rc;
}

/* Skip "dnll ~" or "log(dnll) ~". */
static ptq_status parse_left(const char **text, ptq_err *err) {
  const char *tilde = strchr(*text, '~');
  if (tilde == NULL) return PTQ_OK;
  char left[32] = "";
  size_t n = 0;
  for (const char *c = *text; c < tilde; c++)
    if (!isspace((unsigned char)*c) && n + 1 < sizeof left) left[n++] = *c;
  left[n] = '\0';
  if (left[0] != '\0' && strcmp(left, "dnll") != 0 &&
      strcmp(left, "log(dnll)") != 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "formula: the left side is dnll or log(dnll), not '%s'",
                    left);
  *text = tilde + 1;
  return PTQ_OK;
}

ptq_status ptq_formula_parse(const char *text, ptq_formula *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_formula){0};
  PTQ_TRY(parse_left(&text, err));
  lexer lx = {.at = text};
  PTQ_TRY(next(&lx, err));
  if (strcmp(lx.word, "1") == 0) { /* the intercept alone, or written out */
    PTQ_TRY(next(&lx, err));
    if (lx.word[0] == '\0') goto done;
    if (strcmp(lx.word, "+") == 0) PTQ_TRY(next(&lx, err));
  }
  for (;;) {
    ptq_term term;
    bool crossed = false;
    PTQ_TRY(parse_term(&lx, &term, &crossed, err));
    PTQ_TRY(crossed ? add_crossed(out, &term, err) : add_term(out, &term, err));
    if (lx.word[0] == '\0') break;
    if (strcmp(lx.word, "+") != 0) {
      rc = PTQ_FAIL(err, PTQ_E_ARG, "formula: '+' expected before '%s'",
                    lx.word);
      goto done;
    }
    PTQ_TRY(next(&lx, err));
  }
  for (int t = 0; t < out->n_terms; t++)
    PTQ_TRY(check_margins(out, &out->terms[t], err));
done:
  return rc;
}
