/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/basins.h"

#include <math.h>

#include "ptq/base/text.h"

#define FIELD(kind, name, length, unit, text)   \
  {#name,                                       \
   PTQ_KIND_##kind,                             \
   offsetof(ptq_basin_row, name),               \
   sizeof(((const ptq_basin_row *)NULL)->name), \
   unit,                                        \
   text},

static const ptq_field fields[] = {PTQ_BASIN_FIELDS(FIELD)};
static const ptq_table table = {
    "basins", fields, sizeof fields / sizeof fields[0], sizeof(ptq_basin_row)};

const ptq_table *ptq_basin_table(void) {
  return &table;
}

bool ptq_basin_has(const ptq_direction_traits *d) {
  return d->n > 1;
}

void ptq_basin_of(const ptq_direction_traits *d, ptq_basin_row *out) {
  const ptq_direction_row *row = d->row;
  ptq_row_clear(&table, out);
  (void)ptq_text_copy(out->key, sizeof out->key, row->key);
  (void)ptq_text_copy(out->model, sizeof out->model, row->model);
  (void)ptq_text_copy(out->calibration, sizeof out->calibration,
                      row->calibration);
  (void)ptq_text_copy(out->evaluation, sizeof out->evaluation, row->evaluation);
  (void)ptq_text_copy(out->kind, sizeof out->kind, row->kind);
  (void)ptq_text_copy(out->scaling, sizeof out->scaling, row->scaling);
  (void)ptq_text_copy(out->dtype, sizeof out->dtype, row->dtype);
  out->number = row->number;
  out->group = row->group;
  out->size = row->size;
  out->n_radii = d->n - 1;
  out->radius_min = d->steps[1].radius;
  out->radius_max = d->steps[d->n - 1].radius;
  out->basin_01 = d->basin[0];
  out->basin_05 = d->basin[1];
  out->basin_1 = d->basin[2];
  out->step_height = d->step.height;
  out->step_height_se = d->step.height_se;
  out->step_center = d->step.center;
  out->step_center_se = d->step.center_se;
  out->step_width = d->step.width;
  out->step_width_se = d->step.width_se;
  out->slope_at_0 = d->slope;
  out->curvature_at_0 = d->curvature;
  if (!ptq_direction_quantizes(row)) return;
  out->size_over_basin = row->size / d->basin[1];
  out->inside = d->inside ? 1.0 : 0.0;
}
