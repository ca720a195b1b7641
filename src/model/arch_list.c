/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "arch.h"

bool ptq_arch_row(int i, const char **name, const char **class_name) {
  const ptq_arch *const *rows = ptq_archs();
  for (int at = 0; at < i && *rows != NULL; at++) rows++;
  if (*rows == NULL) return false;
  *name = (*rows)->model_type;
  *class_name = (*rows)->class_name;
  return true;
}
