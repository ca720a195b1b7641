/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/record/rows.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"

#define MEMBER_SIZE(row, name) sizeof(((const row *)NULL)->name)
#define FIELD(row, kind, name, unit, text)                                    \
  {#name, PTQ_KIND_##kind, offsetof(row, name), MEMBER_SIZE(row, name), unit, \
   text},

#define POINT(kind, name, length, unit, text) \
  FIELD(ptq_point_row, kind, name, unit, text)
#define LAYER(kind, name, length, unit, text) \
  FIELD(ptq_layer_row, kind, name, unit, text)
#define WINDOW(kind, name, length, unit, text) \
  FIELD(ptq_window_row, kind, name, unit, text)
#define MODEL(kind, name, length, unit, text) \
  FIELD(ptq_model_row, kind, name, unit, text)
#define BASELINE(kind, name, length, unit, text) \
  FIELD(ptq_baseline_row, kind, name, unit, text)
#define ATTEMPT(kind, name, length, unit, text) \
  FIELD(ptq_attempt_row, kind, name, unit, text)
#define ANSWER(kind, name, length, unit, text) \
  FIELD(ptq_answer_row, kind, name, unit, text)
#define BASELINE_ANSWER(kind, name, length, unit, text) \
  FIELD(ptq_baseline_answer_row, kind, name, unit, text)

#define DIRECTION(kind, name, length, unit, text) \
  FIELD(ptq_direction_row, kind, name, unit, text)
#define PROFILE(kind, name, length, unit, text) \
  FIELD(ptq_profile_row, kind, name, unit, text)
#define DIRECTION_LAYER(kind, name, length, unit, text) \
  FIELD(ptq_direction_layer_row, kind, name, unit, text)
#define RITZ(kind, name, length, unit, text) \
  FIELD(ptq_ritz_row, kind, name, unit, text)

static const ptq_field point_fields[] = {PTQ_POINT_FIELDS(POINT)};
static const ptq_field layer_fields[] = {PTQ_LAYER_FIELDS(LAYER)};
static const ptq_field window_fields[] = {PTQ_WINDOW_FIELDS(WINDOW)};
static const ptq_field model_fields[] = {PTQ_MODEL_FIELDS(MODEL)};
static const ptq_field baseline_fields[] = {PTQ_BASELINE_FIELDS(BASELINE)};
static const ptq_field attempt_fields[] = {PTQ_ATTEMPT_FIELDS(ATTEMPT)};
static const ptq_field answer_fields[] = {PTQ_ANSWER_FIELDS(ANSWER)};
static const ptq_field baseline_answer_fields[] = {
    PTQ_BASELINE_ANSWER_FIELDS(BASELINE_ANSWER)};
static const ptq_field direction_fields[] = {PTQ_DIRECTION_FIELDS(DIRECTION)};
static const ptq_field profile_fields[] = {PTQ_PROFILE_FIELDS(PROFILE)};
static const ptq_field direction_layer_fields[] = {
    PTQ_DIRECTION_LAYER_FIELDS(DIRECTION_LAYER)};
static const ptq_field ritz_fields[] = {PTQ_RITZ_FIELDS(RITZ)};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* clang-format off */
static const ptq_table tables[PTQ_TABLE_COUNT] = {
  [PTQ_TABLE_POINTS]   = {"points", point_fields, COUNT(point_fields),
                          sizeof(ptq_point_row)},
  [PTQ_TABLE_LAYERS]   = {"layers", layer_fields, COUNT(layer_fields),
                          sizeof(ptq_layer_row)},
  [PTQ_TABLE_WINDOWS]  = {"windows", window_fields, COUNT(window_fields),
                          sizeof(ptq_window_row)},
  [PTQ_TABLE_MODELS]   = {"models", model_fields, COUNT(model_fields),
                          sizeof(ptq_model_row)},
  [PTQ_TABLE_BASELINE] = {"baseline", baseline_fields, COUNT(baseline_fields),
                          sizeof(ptq_baseline_row)},
  [PTQ_TABLE_ATTEMPTS] = {"attempts", attempt_fields, COUNT(attempt_fields),
                          sizeof(ptq_attempt_row)},
  [PTQ_TABLE_ANSWERS]  = {"answers", answer_fields, COUNT(answer_fields),
                          sizeof(ptq_answer_row)},
  [PTQ_TABLE_BASELINE_ANSWERS] = {"baseline_answers", baseline_answer_fields,
                          COUNT(baseline_answer_fields),
                          sizeof(ptq_baseline_answer_row)},
  [PTQ_TABLE_DIRECTIONS] = {"directions", direction_fields,
                          COUNT(direction_fields), sizeof(ptq_direction_row)},
  [PTQ_TABLE_PROFILES] = {"profiles", profile_fields, COUNT(profile_fields),
                          sizeof(ptq_profile_row)},
  [PTQ_TABLE_DIRECTION_LAYERS] = {"direction_layers", direction_layer_fields,
                          COUNT(direction_layer_fields),
                          sizeof(ptq_direction_layer_row)},
  [PTQ_TABLE_RITZ]     = {"ritz", ritz_fields, COUNT(ritz_fields),
                          sizeof(ptq_ritz_row)},
};
/* clang-format on */
_Static_assert(COUNT(tables) == PTQ_TABLE_COUNT, "one row per table");

const ptq_table *ptq_table_get(ptq_table_id id) {
  PTQ_ASSERT((unsigned)id < PTQ_TABLE_COUNT);
  return &tables[id];
}

const ptq_field *ptq_table_field(const ptq_table *t, const char *name) {
  for (size_t i = 0; i < t->n_fields; i++)
    if (strcmp(t->fields[i].name, name) == 0) return &t->fields[i];
  return NULL;
}

bool ptq_field_same(const ptq_field *f, const void *a, const void *b) {
  const char *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
  if (memcmp(x, y, f->size) == 0) return true;
  int64_t n = 0, m = 0;
  if (strcmp(f->name, "calib_tokens") != 0) return false;
  memcpy(&n, x, sizeof n);
  memcpy(&m, y, sizeof m);
  return n == 0 || m == 0;
}

void ptq_row_clear(const ptq_table *t, void *row) {
  /* Also the padding between members, so that equal rows are equal bytes. */
  memset(row, 0, t->row_size);
  for (size_t i = 0; i < t->n_fields; i++) {
    if (t->fields[i].kind != PTQ_KIND_F64) continue;
    const double nan_value = (double)NAN;
    memcpy((char *)row + t->fields[i].offset, &nan_value, sizeof nan_value);
  }
}

const char *ptq_state_name(int state) {
  static const char *const names[] = {
      [PTQ_STATE_PENDING] = "pending",
      [PTQ_STATE_STARTED] = "started",
      [PTQ_STATE_DONE] = "done",
      [PTQ_STATE_FAILED] = "failed",
  };
  if (state < 0 || (size_t)state >= COUNT(names)) return "unknown";
  return names[state];
}
