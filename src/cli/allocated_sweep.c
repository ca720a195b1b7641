/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "allocated_sweep.h"

#include <fnmatch.h>
#include <stdbool.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/yaml.h"
#include "ptq/sweep/rewrite.h"
#include "study.h"

/* Exclusions of the mixtures under every other method of the sweep. */
static void exclude_others(const ptq_allocated_sweep *s, ptq_text *out) {
  const ptq_allocation_task *t = s->task;
  const ptq_frame *f = s->frame;
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_point_row *p = f->obs[i].point;
    int64_t earlier = 0;
    while (strcmp(f->obs[earlier].point->method, p->method) != 0 ||
           strcmp(f->obs[earlier].point->options, p->options) != 0)
      earlier++;
    if (earlier < i || (strcmp(p->method, t->method) == 0 &&
                        strcmp(p->options, t->options) == 0))
      continue;
    for (int b = 0; b < t->n_budgets; b++) {
      char name[96], options[160];
      ptq_mixture_base_name(t, t->budget[b], name, sizeof name);
      ptq_text_addf(out, "- {dtype: 'mixed:%s', method: {name: %s", name,
                    p->method);
      (void)ptq_text_copy(options, sizeof options, p->options);
      for (char *at = strtok(options, ","); at != NULL;
           at = strtok(NULL, ",")) {
        char *equals = strchr(at, '=');
        if (equals != NULL) *equals = '\0';
        ptq_text_addf(out, ", %s: '%s'", at, equals != NULL ? equals + 1 : "");
      }
      ptq_text_add(out, "}}\n");
    }
  }
}

/* Do relative paths of the store's sweep mean the same from where `path` is? */
static ptq_status moves(const char *from, const char *path, bool *out,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *dir = NULL;
  PTQ_TRY(ptq_path_dir(path, &dir, err));
  *out = !ptq_path_same(dir, from);
done:
  ptq_free(dir);
  return rc;
}

static void add_model(const ptq_model_spec *m, ptq_text *out) {
  char covariates[PTQ_COVARIATES_MAX];
  ptq_text_add(out, "{path: ");
  ptq_yaml_scalar(m->path, out);
  ptq_text_add(out, ", name: ");
  ptq_yaml_scalar(m->name, out);
  if (m->family[0] != '\0') {
    ptq_text_add(out, ", family: ");
    ptq_yaml_scalar(m->family, out);
  }
  (void)ptq_text_copy(covariates, sizeof covariates, m->covariates);
  for (char *at = strtok(covariates, ","); at != NULL; at = strtok(NULL, ",")) {
    char *equals = strchr(at, '=');
    if (equals == NULL) continue;
    *equals = '\0';
    ptq_text_addf(out, ", %s: ", at);
    ptq_yaml_scalar(equals + 1, out);
  }
  ptq_text_add(out, "}");
}

/* "models=[...]" with those that --model names. Where the sweep file cannot be
 * read any more, all of them stay. */
static void chosen_models(const ptq_allocated_sweep *s, const char *const *sets,
                          int64_t n, ptq_text *out) {
  ptq_spec spec = {0};
  ptq_err why = {0};
  bool first = true;
  if (s->model == NULL) return;
  if (ptq_spec_read(ptq_view_attribute(s->store, "spec_path"), sets, n, &spec,
                    &why) != PTQ_OK) {
    ptq_log(PTQ_LOG_WARN, "all models of the sweep stay in it: %s", why.msg);
    return;
  }
  ptq_text_add(out, "models=[");
  for (int64_t i = 0; i < spec.n_models; i++) {
    if (fnmatch(s->model, spec.models[i].name, 0) != 0) continue;
    ptq_text_add(out, first ? "" : ", ");
    add_model(&spec.models[i], out);
    first = false;
  }
  ptq_text_add(out, "]");
  ptq_spec_release(&spec);
}

ptq_status ptq_allocated_sweep_write(const ptq_allocated_sweep *s,
                                     const char *path, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *sets[PTQ_SETS_MAX + 6];
  char *text = NULL, *dir = NULL;
  const char *spec_path = ptq_view_attribute(s->store, "spec_path");
  ptq_text excludes = {0}, sweep = {0}, models = {0};
  bool moved = false;
  PTQ_TRY(ptq_strdup(&text, ptq_view_attribute(s->store, "spec_text"), err));
  int64_t n = ptq_study_sets(text, sets);
  if (s->probes) {
    static const char *const alone[] = {"grid.dtype=[]", "grid.method=rtn",
                                        "grid.group=row", "exclude=[]",
                                        "measure.spectra=off"};
    chosen_models(s, sets, n, &models);
    for (int i = 0; i < 5; i++) sets[n++] = alone[i];
    if (models.len > 0) sets[n++] = ptq_text_str(&models);
  } else {
    exclude_others(s, &excludes);
  }
  if (spec_path[0] != '\0') {
    PTQ_TRY(ptq_path_dir(spec_path, &dir, err));
    PTQ_TRY(moves(dir, path, &moved, err));
  }
  const ptq_rewrite change = {
      .sets = sets,
      .n_sets = n,
      .dir = moved ? dir : NULL,
      .dtypes = ptq_text_str(s->dtypes),
      .excludes = excludes.len > 0 ? ptq_text_str(&excludes) : NULL,
      .selection_evaluates = s->probes};
  PTQ_TRY(ptq_spec_rewrite(spec_path[0] != '\0' ? spec_path : "sweep", text,
                           &change, &sweep, err));
  PTQ_TRY(ptq_file_write_atomic(path, ptq_text_str(&sweep), sweep.len, err));
done:
  ptq_text_release(&excludes);
  ptq_text_release(&models);
  ptq_text_release(&sweep);
  ptq_free(dir);
  ptq_free(text);
  return rc;
}
