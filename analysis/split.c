/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/analysis/validate.h"
#include "ptq/base/text.h"

/* Models of one training run are left out together. */
static bool by_model(const ptq_frame *f, const ptq_obs *o, char *text,
                     size_t size) {
  (void)f;
  (void)ptq_text_copy(text, size, o->run);
  return true;
}

static bool by_family(const ptq_frame *f, const ptq_obs *o, char *text,
                      size_t size) {
  (void)f;
  (void)ptq_text_copy(text, size, o->point->family);
  return true;
}

/* Is the point's model the largest of its family? All of them are one group,
 * and the smaller ones predict it. */
static bool largest(const ptq_frame *f, const ptq_obs *o, char *text,
                    size_t size) {
  int64_t smaller = 0;
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_obs *other = &f->obs[i];
    if (other->model == o->model || other->use != PTQ_USE_OK ||
        strcmp(other->point->family, o->point->family) != 0)
      continue;
    if (other->model->params_nonembedding > o->model->params_nonembedding)
      return false;
    smaller +=
        other->model->params_nonembedding < o->model->params_nonembedding;
  }
  (void)ptq_text_copy(text, size, "the largest of each family");
  return smaller > 0;
}

/* All groups and dialects of an element: the name before the options. */
static bool by_dtype(const ptq_frame *f, const ptq_obs *o, char *text,
                     size_t size) {
  (void)f;
  (void)snprintf(text, size, "%.*s", (int)strcspn(o->point->dtype, ":"),
                 o->point->dtype);
  return true;
}

static bool by_method(const ptq_frame *f, const ptq_obs *o, char *text,
                      size_t size) {
  (void)f;
  ptq_factor_find("method")->get(o, text, size);
  return true;
}

static const ptq_split splits[] = {
    {"leave-one-model-out", "models", "model", 2, 20, true, false, by_model},
    {"leave-one-family-out", "families", "family", 2, 20, true, false,
     by_family},
    {"largest-size-out", "largest", "size", 1, 20, true, false, largest},
    {"leave-one-dtype-out", "dtypes", "dtype", 2, 20, false, false, by_dtype},
    {"leave-one-method-out", "methods", "method", 2, 20, false, false,
     by_method},
    {"held-out-family", "held out", "family", 1, 20, true, true, by_family},
};

const ptq_split *ptq_split_at(size_t i) {
  return i < sizeof splits / sizeof splits[0] ? &splits[i] : NULL;
}

/* Choices are made in every fold of the outer split: few folds, they are many.
 */
enum { INNER_FOLDS = 3 };

ptq_split ptq_split_inside(const ptq_split *outer) {
  ptq_split s = outer != NULL ? *outer : splits[0];
  if (s.held) s.least = 2; /* no training point is held: groups as usual */
  s.held = false;
  if (s.most > INNER_FOLDS) s.most = INNER_FOLDS;
  return s;
}
