/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "law_list.h"

#include <string.h>

#include "ptq/base/text.h"

static const ptq_curve *const curves[] = {
    &ptq_law_kumar,        &ptq_law_kumar_fixed, &ptq_law_ouyang,
    &ptq_law_ouyang_fixed, &ptq_law_zhou,        &ptq_law_zhou_fixed,
    &ptq_law_cao,          &ptq_law_power,       &ptq_law_exponential};
enum { N_CURVES = sizeof curves / sizeof curves[0] };

const ptq_curve *ptq_curve_at(size_t i) {
  return i < N_CURVES ? curves[i] : NULL;
}

ptq_status ptq_curve_find(const char *name, const ptq_curve **out,
                          ptq_err *err) {
  const char *names[N_CURVES];
  *out = NULL;
  for (size_t i = 0; i < N_CURVES; i++) {
    names[i] = curves[i]->name;
    if (strcmp(names[i], name) == 0) *out = curves[i];
  }
  if (*out != NULL) return PTQ_OK;
  const char *near = ptq_text_nearest(name, names, N_CURVES);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "unknown law '%s'%s%s%s; 'ptqsweep list laws' lists them",
                  name, near != NULL ? "; did you mean '" : "",
                  near != NULL ? near : "", near != NULL ? "'" : "");
}

int ptq_curve_n_params(const ptq_curve *c) {
  int n = 0;
  while (c->params[n].name != NULL) n++;
  return n;
}
