/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "spec_parts.h"

enum {
  MAX_WINDOWS = 1 << 24,
  MAX_LENGTH = 1 << 20,
  MAX_BYTES = 1 << 24,
  DEFAULT_SELECTION_WINDOWS = 16
};

/* "train.txt:64x256@1" */
static ptq_status make_label(const ptq_spec_source *src, ptq_text_spec *t,
                             bool from_end, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *base = NULL;
  ptq_text label = {0};
  PTQ_TRY(ptq_path_base(t->path, &base, err));
  ptq_text_addf(&label, "%s:%" PRId64 "x%" PRId64, base, t->windows, t->length);
  if (t->random) ptq_text_addf(&label, "@%" PRIu64, t->seed);
  if (from_end) ptq_text_add(&label, "@end");
  if (t->scoring.preset[0] != '\0')
    ptq_text_addf(&label, "/%s", t->scoring.preset);
  if (label.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "a label"));
  if (!ptq_text_copy(t->label, sizeof t->label, ptq_text_str(&label)))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "%s:%d: the text's file name '%s' is too long; rename it "
                     "to at most 48 characters",
                     src->path, t->line, base));
done:
  ptq_text_release(&label);
  ptq_free(base);
  return rc;
}

/* Conventions of other tools; README.md says what each scores. */
static ptq_status read_preset(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_text_spec *t,
                              ptq_err *err) {
  static const char strided[] = "strided:", bytes[] = "bytes:";
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_spec_check_scalar(src, node, "preset", err));
  const char *name = node->text;
  char *end = NULL;
  if (strcmp(name, "gptq") == 0) return PTQ_OK;
  t->scoring = (ptq_scoring){.context = 1};
  if (strcmp(name, "llama.cpp") == 0 && t->length >= 4) {
    t->scoring.context = t->length / 2 + 1;
    t->scoring.bos_each = true;
  } else if (strcmp(name, "lm-eval") == 0 && !t->random) {
    t->scoring.stride = t->length - 1;
    t->scoring.prefixed = true;
  } else if (strncmp(name, strided, sizeof strided - 1) == 0 && !t->random) {
    const long long n = strtoll(name + sizeof strided - 1, &end, 10);
    if (*end != '\0' || n < 1 || n >= t->length)
      PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                            "preset '%s': the stride must be 1 to %" PRId64
                            ", less than 'length'",
                            name, t->length - 1));
    t->scoring.stride = n;
    t->scoring.context = t->length - n;
    t->scoring.first_whole = true;
  } else if (strncmp(name, bytes, sizeof bytes - 1) == 0 && !t->random) {
    const long long n = strtoll(name + sizeof bytes - 1, &end, 10);
    if (*end != '\0' || n < 1 || n > MAX_BYTES)
      PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                            "preset '%s': the bytes of a window must be 1 to "
                            "%d",
                            name, MAX_BYTES));
    t->scoring.bytes = n;
  } else {
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                          "preset '%s' is not gptq, llama.cpp (of windows of "
                          "4 tokens or more), lm-eval, strided:N or bytes:N "
                          "(these without a seed)",
                          name));
  }
  if (!ptq_text_copy(t->scoring.preset, sizeof t->scoring.preset, name))
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                          "preset '%s' is too long", name));
done:
  return rc;
}

static ptq_status read_text(const ptq_spec_source *src,
                            const ptq_yaml_node *node, const char *what,
                            ptq_text_spec *out, ptq_err *err) {
  static const char *const known[] = {"text", "windows", "length",
                                      "seed", "preset",  NULL};
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *path = NULL;
  int64_t seed = 0;
  *out = (ptq_text_spec){.line = node->line};
  PTQ_TRY(ptq_spec_check_map(src, node, what, known, err));
  PTQ_TRY(ptq_spec_member(src, node, what, "text", &path, err));
  PTQ_TRY(ptq_spec_check_scalar(src, path, "text", err));
  PTQ_TRY(ptq_spec_count(src, node, what, "windows", 1, MAX_WINDOWS,
                         &out->windows, err));
  /* The first token of a window is context only, so one is not enough. */
  PTQ_TRY(ptq_spec_count(src, node, what, "length", 2, MAX_LENGTH, &out->length,
                         err));
  if (ptq_yaml_get(node, "seed") != NULL) {
    PTQ_TRY(ptq_spec_count(src, node, what, "seed", 0, INT64_MAX, &seed, err));
    out->random = true;
    out->seed = (uint64_t)seed;
  }
  const ptq_yaml_node *preset = ptq_yaml_get(node, "preset");
  if (preset != NULL && strcmp(what, "evaluation") != 0)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, preset, err, PTQ_E_ARG,
                          "only evaluation texts are scored: no preset here"));
  if (preset != NULL) PTQ_TRY(read_preset(src, preset, out, err));
  PTQ_TRY(ptq_path_join(src->dir, path->text, &out->path, err));
  PTQ_TRY(make_label(src, out, false, err));
done:
  if (rc != PTQ_OK) {
    ptq_free(out->path);
    out->path = NULL;
  }
  return rc;
}

/* One text or a list; `*count` counts what `*texts` owns at any time. */
static ptq_status read_texts(const ptq_spec_source *src,
                             const ptq_yaml_node *node, const char *what,
                             ptq_text_spec **texts, int64_t *count,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, what, &item, &n, err));
  PTQ_TRY(ptq_alloc(texts, n, sizeof **texts, what, err));
  for (; *count < n; item = item->next) {
    ptq_text_spec *t = &(*texts)[*count];
    PTQ_TRY(read_text(src, item, what, t, err));
    ++*count;
    for (int64_t i = 0; i + 1 < *count; i++)
      if (strcmp((*texts)[i].label, t->label) == 0)
        PTQ_TRY(PTQ_YAML_FAIL(src->path, item, err, PTQ_E_ARG,
                              "two %s texts are called '%s'; remove one, or "
                              "rename its file",
                              what, t->label));
  }
done:
  return rc;
}

/* The last windows of the first calibration text. */
static ptq_status default_selection(const ptq_spec_source *src, ptq_spec *out,
                                    ptq_err *err) {
  const ptq_text_spec *calib = &out->calibrations[0];
  ptq_text_spec *t = &out->selection;
  *t = (ptq_text_spec){.windows = DEFAULT_SELECTION_WINDOWS,
                       .length = calib->length,
                       .line = calib->line};
  out->selection_from_end = true;
  const ptq_status rc = ptq_strdup(&t->path, calib->path, err);
  return rc == PTQ_OK ? make_label(src, t, true, err) : rc;
}

ptq_status ptq_spec_read_data(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_spec *out,
                              ptq_err *err) {
  static const char *const known[] = {"calibration", "evaluation", "selection",
                                      "requests", NULL};
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *calibration = NULL, *evaluation = NULL;
  PTQ_TRY(ptq_spec_check_map(src, node, "data", known, err));
  PTQ_TRY(ptq_spec_member(src, node, "data", "calibration", &calibration, err));
  PTQ_TRY(ptq_spec_member(src, node, "data", "evaluation", &evaluation, err));
  PTQ_TRY(read_texts(src, calibration, "calibration", &out->calibrations,
                     &out->n_calibrations, err));
  PTQ_TRY(read_texts(src, evaluation, "evaluation", &out->evaluations,
                     &out->n_evaluations, err));
  const ptq_yaml_node *selection = ptq_yaml_get(node, "selection");
  if (selection != NULL)
    PTQ_TRY(read_text(src, selection, "selection", &out->selection, err));
  else
    PTQ_TRY(default_selection(src, out, err));
  PTQ_TRY(
      ptq_spec_read_requests(src, ptq_yaml_get(node, "requests"), out, err));
done:
  return rc;
}
