/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file formula.h
 * Formulas as text: "log(dnll) ~ log(params_nonembedding) + bits_per_weight +
 * method", with interactions a:b, a*b for a + b + a:b, and transforms such as
 * log(x): a row each in formula.c.
 */
#ifndef PTQ_ANALYSIS_FORMULA_H
#define PTQ_ANALYSIS_FORMULA_H

#include <stdbool.h>

#include "ptq/analysis/feature.h"

enum { PTQ_TERM_PARTS = 3, PTQ_FORMULA_TERMS = 64 };

typedef enum ptq_transform {
  PTQ_TF_NONE,
  PTQ_TF_LOG,
  PTQ_TF_LOG2,
  PTQ_TF_LOG10,
  PTQ_TF_LOG1P,
  PTQ_TF_SQRT,
  PTQ_TF_SQUARE,
  PTQ_TF_EXP,
  PTQ_TF_INVERSE,
  PTQ_TF_COUNT
} ptq_transform;

/** One name of a term: a transformed feature or a factor. */
typedef struct ptq_part {
  const ptq_feature *feature; /* NULL for a factor */
  const ptq_factor *factor;   /* NULL for a feature */
  ptq_transform transform;
} ptq_part;

/** A product of parts; one or more columns of the model matrix. */
typedef struct ptq_term {
  ptq_part parts[PTQ_TERM_PARTS];
  int n_parts;
} ptq_term;

/** Right side of a law for the logarithm of dnll; an intercept is always
 * there. Plain data. */
typedef struct ptq_formula {
  ptq_term terms[PTQ_FORMULA_TERMS];
  int n_terms;
} ptq_formula;

/**
 * Parse `text`; the left side may be dnll or log(dnll), or be left out with
 * its "~". PTQ_E_ARG names the word that is not understood, what is near it
 * and where names are listed; or an interaction of factors that lacks all of
 * its margins, and what to write.
 */
ptq_status ptq_formula_parse(const char *text, ptq_formula *out, ptq_err *err);

/**
 * Is the factor at `part` of a term coded by all its levels? It is where the
 * term without it, its margin, is not in the formula; else the reference
 * level has no column of its own. So the columns span the same whichever
 * level is the reference.
 */
bool ptq_formula_all_levels(const ptq_formula *f, const ptq_term *term,
                            int part);

/** Value of a part that is a feature: NaN or infinite when it has none. */
double ptq_part_value(const ptq_part *part, const ptq_obs *o);
/** "log(params)" or "method" into text[size]. */
void ptq_part_name(const ptq_part *part, char *text, size_t size);

#endif /* PTQ_ANALYSIS_FORMULA_H */
