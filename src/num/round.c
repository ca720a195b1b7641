/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/num/vec.h"
#include "round_table.h"

static const ptq_round_table *const tables[] = {
#ifdef PTQ_VEC_X86
    &ptq_round_avx512,
    &ptq_round_avx2,
#endif
    &ptq_round_generic,
};
enum { N_TABLES = sizeof tables / sizeof tables[0] };

const ptq_round_table *ptq_rounding(void) {
  const char *isa = ptq_vec_isa();
  int i = 0;
  while (i < N_TABLES && strcmp(tables[i]->isa, isa) != 0) i++;
  PTQ_ASSERT(i < N_TABLES); /* the same list as in vec.c */
  return tables[i];
}
