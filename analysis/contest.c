/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/contest.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

static void enter(ptq_contest *c, ptq_recipe recipe) {
  PTQ_ASSERT(c->n < PTQ_ENTRY_MAX);
  c->entry[c->n++] = (ptq_entry){.recipe = recipe};
}

static ptq_status enter_formula(ptq_contest *c, const char *name,
                                const char *text, const ptq_estimator *e,
                                const ptq_fit_options *options, ptq_err *err) {
  ptq_formula f;
  const ptq_status rc = ptq_formula_parse(text, &f, err);
  if (rc == PTQ_OK) enter(c, ptq_recipe_formula(name, text, &f, e, options));
  return rc;
}

static ptq_status enter_all(ptq_contest *c, const ptq_contest_options *o,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (o->formula != NULL)
    PTQ_TRY(enter_formula(c, "given", o->formula, o->estimator, &o->fit, err));
  for (size_t i = 0; ptq_law_at(i) != NULL; i++)
    PTQ_TRY(enter_formula(c, ptq_law_at(i)->name, ptq_law_at(i)->formula,
                          o->estimator, &o->fit, err));
  for (size_t i = 0; ptq_estimator_at(i) != NULL; i++) {
    const ptq_estimator *e = ptq_estimator_at(i);
    char name[40];
    if (e == o->estimator) continue;
    (void)snprintf(name, sizeof name, "%s/%s", ptq_law_at(0)->name, e->name);
    PTQ_TRY(enter_formula(c, name, ptq_law_at(0)->formula, e, &o->fit, err));
  }
  enter(c, ptq_recipe_choose(o->estimator, &o->fit));
  for (size_t i = 0; ptq_curve_at(i) != NULL; i++)
    enter(c, ptq_recipe_curve(ptq_curve_at(i)));
  for (size_t i = 0; ptq_trees_at(i) != NULL && !o->no_trees; i++)
    enter(c, ptq_recipe_trees(ptq_trees_at(i)));
done:
  return rc;
}

/* Learn from all points: it says whether there is anything to validate. */
static ptq_status learn(const ptq_frame *frame, const ptq_obs *const *obs,
                        ptq_entry *e, ptq_err *err) {
  ptq_err why = {0};
  ptq_learned learned = {0};
  const ptq_status rc =
      ptq_recipe_learn(&e->recipe, NULL, obs, frame->n, &learned, &why);
  if (rc == PTQ_E_NOMEM) return PTQ_FAIL(err, rc, "%s", why.msg);
  e->learned = rc == PTQ_OK;
  e->curve = learned.curve;
  if (rc != PTQ_OK) (void)ptq_text_copy(e->failure, sizeof e->failure, why.msg);
  ptq_learned_release(&learned);
  return PTQ_OK;
}

static double error_of(const ptq_entry *e, int split) {
  if (!e->learned || split >= e->n_splits) return INFINITY;
  const double m = e->splits[split].all.median;
  return isnan(m) ? INFINITY : m;
}

/* Insertion sort: stable, so equals stay in the order of entry. */
static void rank(ptq_contest *c, int split) {
  int *order = c->order[split];
  for (int i = 0; i < c->n; i++) {
    int at = i;
    const double e = error_of(&c->entry[i], split);
    for (; at > 0 && error_of(&c->entry[order[at - 1]], split) > e; at--)
      order[at] = order[at - 1];
    order[at] = i;
  }
}

ptq_status ptq_contest_hold(const ptq_frame *frame,
                            const ptq_contest_options *options,
                            ptq_contest *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **obs = NULL;
  *out = (ptq_contest){0};
  PTQ_TRY(ptq_alloc(&out->entry, PTQ_ENTRY_MAX, sizeof *out->entry,
                    "comparison of laws", err));
  PTQ_TRY(ptq_alloc(&obs, frame->n, sizeof *obs, "points", err));
  for (int64_t i = 0; i < frame->n; i++) obs[i] = &frame->obs[i];
  PTQ_TRY(enter_all(out, options, err));
  while (ptq_split_at((size_t)out->n_splits) != NULL) out->n_splits++;
  PTQ_ASSERT(out->n_splits <= PTQ_SPLIT_MAX);
  for (int i = 0; i < out->n; i++) {
    ptq_entry *e = &out->entry[i];
    PTQ_TRY(learn(frame, obs, e, err));
    for (int s = 0; s < out->n_splits && e->learned; s++) {
      ptq_validation *v = &e->splits[e->n_splits++];
      PTQ_TRY(ptq_validate(&e->recipe, ptq_split_at((size_t)s), frame, v, err));
      ptq_free(v->points);
      v->points = NULL;
    }
  }
  for (int s = 0; s < out->n_splits; s++) rank(out, s);
done:
  ptq_free(obs);
  if (rc != PTQ_OK) ptq_contest_release(out);
  return rc;
}

void ptq_contest_release(ptq_contest *c) {
  for (int i = 0; i < c->n; i++)
    for (int s = 0; s < c->entry[i].n_splits; s++)
      ptq_validation_release(&c->entry[i].splits[s]);
  ptq_free(c->entry);
  *c = (ptq_contest){0};
}

const ptq_entry *ptq_contest_find(const ptq_contest *c, const char *name) {
  for (int i = 0; i < c->n; i++)
    if (strcmp(c->entry[i].recipe.name, name) == 0) return &c->entry[i];
  return NULL;
}
