/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/tally.h"

#include <string.h>

#include "ptq/base/mem.h"

static const char mixed[] = "mixed";

static int64_t find(const ptq_tally *t, const char *format) {
  int64_t i = 0;
  while (i < t->n && strcmp(t->row[i].format, format) != 0) i++;
  return i;
}

ptq_status ptq_tally_formats(const ptq_frame *f, ptq_tally *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t room = 0, at = 0;
  *out = (ptq_tally){0};
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_obs *o = &f->obs[i];
    const char *format = ptq_obs_is_mixed(o) ? mixed : o->point->dtype;
    /* Points of a format stand together. */
    if (at == out->n || strcmp(out->row[at].format, format) != 0)
      at = find(out, format);
    if (at == room) {
      PTQ_TRY(ptq_grow(&out->row, room, 2 * room + 16, sizeof *out->row,
                       "number formats", err));
      room = 2 * room + 16;
    }
    if (at == out->n) out->row[out->n++].format = format;
    out->row[at].all++;
    out->row[at].count[o->use]++;
  }
done:
  if (rc != PTQ_OK) ptq_tally_release(out);
  return rc;
}

void ptq_tally_release(ptq_tally *t) {
  ptq_free(t->row);
  *t = (ptq_tally){0};
}
