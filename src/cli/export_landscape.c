/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "exporter.h"

#include "ptq/analysis/basins.h"
#include "ptq/analysis/landscape.h"
#include "ptq/analysis/layer_ranks.h"

/* What parts of the landscape repeat of their direction. */
static void part_columns(ptq_table_writer *w, ptq_table_id id) {
  static const char *const names[] = {"key",    "model", "kind", "scaling",
                                      "number", "dtype", "group"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    ptq_writer_add_table(w, 0, PTQ_TABLE_DIRECTIONS, names[i]);
  ptq_writer_add_table(w, 1, id, NULL);
}

static void direction_columns(ptq_table_writer *w, bool stable) {
  ptq_writer_add_table(w, 0, PTQ_TABLE_DIRECTIONS, NULL);
  ptq_writer_add(w, 1, &ptq_state_field, 1, NULL);
  if (!stable) ptq_writer_add_table(w, 2, PTQ_TABLE_ATTEMPTS, NULL);
}

static ptq_status direction_rows(ptq_view *v, const ptq_export_source *s,
                                 ptq_table_writer *w, bool stable,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  const ptq_attempt_row *attempts = NULL;
  int64_t n = 0;
  ptq_view_landscape l;
  (void)s;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &n, err));
  PTQ_TRY(ptq_view_item_attempts(v, true, &attempts, err));
  ptq_view_directions(v, &l);
  ptq_writer_header(w);
  for (int64_t i = 0; i < n; i++) {
    ptq_state_cell state;
    ptq_state_cell_set(&state, l.state[i], stable);
    const void *parts[PTQ_WRITER_PARTS] = {(const ptq_direction_row *)rows + i,
                                           &state, &attempts[i]};
    ptq_writer_row(w, parts);
  }
done:
  return rc;
}

/* Rows of one part of the finished directions; `first` [directions + 1]. */
static ptq_status export_part(ptq_view *v, ptq_table_writer *w, ptq_table_id id,
                              const int64_t *first, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_table *t = ptq_table_get(id);
  const void *directions = NULL, *rows = NULL;
  int64_t n = 0, n_rows = 0;
  ptq_view_landscape l;
  ptq_view_directions(v, &l);
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &directions, &n, err));
  PTQ_TRY(ptq_view_table(v, id, &rows, &n_rows, err));
  ptq_writer_header(w);
  for (int64_t i = 0; i < n; i++) {
    if (l.state[i] != PTQ_STATE_DONE) continue;
    for (int64_t k = first[i]; k < first[i + 1]; k++) {
      const void *parts[PTQ_WRITER_PARTS] = {
          (const ptq_direction_row *)directions + i,
          (const char *)rows + (size_t)k * t->row_size};
      ptq_writer_row(w, parts);
    }
  }
done:
  return rc;
}

static void profile_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  part_columns(w, PTQ_TABLE_PROFILES);
}

static ptq_status profile_rows(ptq_view *v, const ptq_export_source *s,
                               ptq_table_writer *w, bool stable, ptq_err *err) {
  ptq_view_landscape l;
  (void)s, (void)stable;
  ptq_view_directions(v, &l);
  return export_part(v, w, PTQ_TABLE_PROFILES, l.first_profile, err);
}

static void layer_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  part_columns(w, PTQ_TABLE_DIRECTION_LAYERS);
}

static ptq_status layer_rows(ptq_view *v, const ptq_export_source *s,
                             ptq_table_writer *w, bool stable, ptq_err *err) {
  ptq_view_landscape l;
  (void)s, (void)stable;
  ptq_view_directions(v, &l);
  return export_part(v, w, PTQ_TABLE_DIRECTION_LAYERS, l.first_layer, err);
}

/* Layers one by one beside what else is known of them. */
static void sensitivity_columns(ptq_table_writer *w, bool stable) {
  const ptq_table *t = ptq_sensitivity_table();
  (void)stable;
  ptq_writer_add(w, 0, t->fields, t->n_fields, NULL);
}

static ptq_status sensitivity_rows(ptq_view *v, const ptq_export_source *s,
                                   ptq_table_writer *w, bool stable,
                                   ptq_err *err) {
  ptq_sensitivities all;
  (void)s, (void)stable;
  const ptq_status rc = ptq_sensitivities_read(v, &all, err);
  if (rc != PTQ_OK) return rc;
  ptq_writer_header(w);
  for (int64_t i = 0; i < all.n; i++) {
    const void *parts[PTQ_WRITER_PARTS] = {&all.rows[i]};
    ptq_writer_row(w, parts);
  }
  ptq_sensitivities_release(&all);
  return PTQ_OK;
}

/* What profiles come to. */
static void basin_columns(ptq_table_writer *w, bool stable) {
  const ptq_table *t = ptq_basin_table();
  (void)stable;
  ptq_writer_add(w, 0, t->fields, t->n_fields, NULL);
}

static ptq_status basin_rows(ptq_view *v, const ptq_export_source *s,
                             ptq_table_writer *w, bool stable, ptq_err *err) {
  ptq_landscape all;
  (void)stable;
  const ptq_status rc = ptq_landscape_read(v, s->n_models, &all, err);
  if (rc != PTQ_OK) return rc;
  ptq_writer_header(w);
  for (int64_t i = 0; i < all.n; i++) {
    ptq_basin_row row;
    if (!ptq_basin_has(&all.directions[i])) continue;
    ptq_basin_of(&all.directions[i], &row);
    const void *parts[PTQ_WRITER_PARTS] = {&row};
    ptq_writer_row(w, parts);
  }
  ptq_landscape_release(&all);
  return PTQ_OK;
}

static void ritz_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  part_columns(w, PTQ_TABLE_RITZ);
}

static ptq_status ritz_rows(ptq_view *v, const ptq_export_source *s,
                            ptq_table_writer *w, bool stable, ptq_err *err) {
  ptq_view_landscape l;
  (void)s, (void)stable;
  ptq_view_directions(v, &l);
  return export_part(v, w, PTQ_TABLE_RITZ, l.first_ritz, err);
}

const ptq_exporter ptq_export_directions = {"directions", direction_columns,
                                            direction_rows};
const ptq_exporter ptq_export_landscape = {"landscape", profile_columns,
                                           profile_rows};
const ptq_exporter ptq_export_direction_layers = {"direction_layers",
                                                  layer_columns, layer_rows};
const ptq_exporter ptq_export_ritz = {"ritz", ritz_columns, ritz_rows};
const ptq_exporter ptq_export_sensitivity = {"sensitivity", sensitivity_columns,
                                             sensitivity_rows};
const ptq_exporter ptq_export_basins = {"basins", basin_columns, basin_rows};
