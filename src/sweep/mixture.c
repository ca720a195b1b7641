/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/mixture.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

void ptq_mixture_free(ptq_mixture *m) {
  if (m == NULL) return;
  for (int64_t i = 0; m->rules != NULL && i < m->n_rules; i++)
    ptq_free(m->rules[i].pattern);
  for (int64_t i = 0; m->models != NULL && i < m->n_models; i++)
    ptq_free(m->models[i]);
  ptq_free(m->rules);
  ptq_free(m->models);
  ptq_free(m);
}

bool ptq_mixture_is_for(const ptq_mixture *m, const char *model) {
  for (int64_t i = 0; i < m->n_models; i++)
    if (fnmatch(m->models[i], model, 0) == 0) return true;
  return m->n_models == 0;
}

int64_t ptq_mixture_rule_of(const ptq_mixture *m, const char *tensor) {
  static const char end[] = ".weight";
  const size_t n = strlen(tensor), tail = sizeof end - 1;
  char stem[256];
  (void)ptq_text_copy(stem, sizeof stem, tensor);
  if (n >= tail && n < sizeof stem && strcmp(tensor + n - tail, end) == 0)
    stem[n - tail] = '\0';
  for (int64_t i = 0; i < m->n_rules; i++)
    if (fnmatch(m->rules[i].pattern, tensor, 0) == 0 ||
        fnmatch(m->rules[i].pattern, stem, 0) == 0)
      return i;
  return -1;
}

const ptq_layer_format *ptq_mixture_format(const ptq_mixture *m, int64_t rule) {
  return rule < 0 ? &m->fallback : &m->rules[rule].format;
}

bool ptq_mixture_is_called(const char *name, const char *text) {
  const char *dash = strrchr(name, '-');
  const size_t n = strlen(text);
  if (strncmp(name, PTQ_MIXTURE_PREFIX, sizeof PTQ_MIXTURE_PREFIX - 1) != 0)
    return false;
  return strcmp(name, text) == 0 ||
         (dash != NULL && (size_t)(dash - name) == n &&
          strncmp(name, text, n) == 0);
}
