/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/store/merge.h"

#include <stdio.h>

#include "carry.h"
#include "join_directions.h"
#include "join_layout.h"
#include "join_rows.h"
#include "lockfile.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"

static ptq_status refuse(const ptq_joining *j, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "the stores disagree in %lld rows, and nothing was "
                  "written; --tolerance allows more between different "
                  "CPUs, --keep-first takes the first store's rows",
                  (long long)j->summary->n_disagree);
}

static ptq_status join_directions(const ptq_joining *j, ptq_join_layout *p,
                                  ptq_err *err) {
  const ptq_status rc = ptq_join_directions(
      j->sources, j->n_sources, ptq_joining_find_model, j, j->options->report,
      j->options->ctx, &p->directions, err);
  if (rc != PTQ_OK) return rc;
  j->summary->n_equal += p->directions.n_equal;
  j->summary->n_disagree += p->directions.n_disagree;
  if (j->summary->n_disagree > 0 && !j->options->keep_first)
    return refuse(j, err);
  return PTQ_OK;
}

static ptq_status write_out(const char *out, const ptq_joining *j,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_join_layout p = {.numerics = ""};
  char *spec_text = NULL;
  char line[80];
  int lock = -1;
  const ptq_sets *first = &j->sources[0].sets;
  if (H5Aexists(first->file, "spec_text") > 0)
    PTQ_TRY(ptq_h5_attribute_get(first->file, first->path, "spec_text",
                                 &spec_text, err));
  PTQ_TRY(join_directions(j, &p, err));
  PTQ_TRY(ptq_join_layout_make(j, spec_text != NULL ? spec_text : "", &p, err));
  (void)snprintf(line, sizeof line, "merged from %lld stores",
                 (long long)j->n_sources);
  const ptq_carry_plan plan = {.layout = &p.layout,
                               .points = p.carry_points,
                               .subjects = p.carry_subjects,
                               .directions = p.directions.carry,
                               .sources = j->sources,
                               .n_sources = j->n_sources,
                               .line = line};
  PTQ_TRY(ptq_lockfile_take(out, 1, &lock, err));
  PTQ_TRY(ptq_carry_into(out, &plan, &j->summary->n_finished, err));
done:
  ptq_lockfile_release(out, lock);
  ptq_free(spec_text);
  ptq_join_layout_release(&p);
  return rc;
}

static ptq_status open_sources(ptq_joining *j, const char *const *paths,
                               int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_alloc(&j->sources, n, sizeof *j->sources, "stores", err));
  for (int64_t s = 0; s < n; s++) ptq_sets_init(&j->sources[s].sets);
  j->n_sources = n;
  for (int64_t s = 0; s < n; s++) {
    PTQ_TRY(ptq_source_open(paths[s], &j->sources[s], err));
    ptq_source_tell_bad(&j->sources[s]);
  }
done:
  return rc;
}

ptq_status ptq_store_merge(const char *out, const char *const *paths,
                           int64_t n_paths, const ptq_merge_options *options,
                           ptq_merge_summary *summary, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_joining j = {.options = options, .summary = summary};
  *summary = (ptq_merge_summary){0};
  ptq_h5_quiet();
  if (ptq_path_exists(out))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "'%s' is there already; name a new file for the merged "
                     "store",
                     out));
  PTQ_TRY(open_sources(&j, paths, n_paths, err));
  PTQ_TRY(ptq_joining_choose(&j, err));
  summary->n_points = j.n_kept;
  if (summary->n_disagree > 0 && !options->keep_first) PTQ_TRY(refuse(&j, err));
  PTQ_TRY(write_out(out, &j, err));
done:
  ptq_joining_release(&j);
  return rc;
}
