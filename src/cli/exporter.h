/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file exporter.h
 * What writes the rows of one table; export_table.c lists them by name.
 */
#ifndef PTQ_CLI_EXPORTER_H
#define PTQ_CLI_EXPORTER_H

#include "ptq/store/view.h"
#include "table_writer.h"

/** Every table of a store, as rows of several need them. */
typedef struct ptq_export_source {
  const ptq_point_row *points;
  const ptq_attempt_row *attempts;
  const ptq_model_row *models;
  const int *point_state, *model_state;
  const int64_t *subject, *first_layer, *first_window;
  int64_t n_points, n_models;
} ptq_export_source;

/** A table.
 * @param stable  as of ptq_export_table() */
typedef struct ptq_exporter {
  const char *name;
  /** Adds the columns; needs no store, so that they can be listed. */
  void (*columns)(ptq_table_writer *w, bool stable);
  /** Header and rows, behind columns(). */
  ptq_status (*rows)(ptq_view *v, const ptq_export_source *s,
                     ptq_table_writer *w, bool stable, ptq_err *err);
} ptq_exporter;

/* Of the landscape: export_landscape.c. */
extern const ptq_exporter ptq_export_directions, ptq_export_landscape,
    ptq_export_direction_layers, ptq_export_ritz, ptq_export_sensitivity,
    ptq_export_basins;

/** Table i in the order of --help; NULL behind the last. */
const ptq_exporter *ptq_exporter_at(size_t i);

/** State as a column of its own. */
typedef struct ptq_state_cell {
  char state[16];
} ptq_state_cell;
extern const ptq_field ptq_state_field;

/** @param stable  what does not depend on who was interrupted when */
void ptq_state_cell_set(ptq_state_cell *cell, int state, bool stable);

#endif /* PTQ_CLI_EXPORTER_H */
