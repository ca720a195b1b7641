/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "exporter.h"
#include "ptq/analysis/validate.h"
#include "ptq/base/text.h"
#include "ptq/model/model.h"
#include "ptq/num/dtype.h"
#include "ptq/quant/method.h"
#include "ptq/record/rows.h"

/* Where rows go: printed as text or collected as JSON. */
typedef struct listing {
  json_t *rows; /* owned; NULL when text is printed */
  bool headed;  /* the names of the columns have been printed */
} listing;

/* One row of `n` named cells; widths are of text columns, 0 for the rest of
 * the line. */
typedef struct cell {
  const char *name, *text;
  int width;
} cell;

static void add_row(listing *l, const cell *cells, size_t n) {
  if (l->rows != NULL) {
    json_t *row = json_object();
    for (size_t i = 0; i < n; i++)
      (void)json_object_set_new(row, cells[i].name, json_string(cells[i].text));
    (void)json_array_append_new(l->rows, row);
    return;
  }
  for (size_t i = 0; i < n && !l->headed; i++)
    printf("%-*s%s", cells[i].width, cells[i].name, i + 1 < n ? "  " : "\n");
  l->headed = true;
  for (size_t i = 0; i < n; i++)
    printf("%-*s%s", cells[i].width, cells[i].text, i + 1 < n ? "  " : "\n");
}

/* "4", or "2..8" where the least and the largest width differ. */
static void spell_range(char *out, size_t size, double least, double most) {
  if (least == most)
    snprintf(out, size, "%.6g", least);
  else
    snprintf(out, size, "%.6g..%.6g", least, most);
}

static double code_bits(const ptq_dtype *dt) {
  const ptq_dtype_family *f = dt->family;
  return f->code_bits != NULL ? f->code_bits(dt) : dt->bits;
}

/* Bits a weight of a large matrix, all counted. */
static double bits_a_weight(const ptq_dtype *dt, int64_t group) {
  const double n = 4096.0;
  return ptq_dtype_storage_bits(dt, (int64_t)n, (int64_t)n, group) / (n * n);
}

/* What tests hold the default dialect to. */
static void spell_properties(char *out, size_t size, const ptq_dtype *dt) {
  /* clang-format off */
  static const struct { unsigned exception; const char *text; } all[] = {
    {PTQ_NOT_IDEMPOTENT, "idempotent"}, {PTQ_NOT_MONOTONE, "monotone"},
    {PTQ_NOT_ODD, "odd"}, {PTQ_NOT_EQUIVARIANT, "equivariant"},
    {PTQ_NOT_NEAREST, "nearest"},
  };
  /* clang-format on */
  const ptq_dtype_family *f = dt->family;
  const unsigned lacks = f->exceptions != NULL ? f->exceptions(dt) : 0;
  size_t at = 0;
  out[0] = '\0';
  for (size_t i = 0; i < sizeof all / sizeof all[0] && at < size; i++) {
    if ((lacks & all[i].exception) != 0) continue;
    const int n =
        snprintf(out + at, size - at, "%s%s", at > 0 ? " " : "", all[i].text);
    at += n > 0 ? (size_t)n : 0;
  }
}

static void list_family(listing *l, const ptq_dtype_family *f) {
  char least[PTQ_DTYPE_NAME_MAX], most[PTQ_DTYPE_NAME_MAX];
  char spelling[2 * PTQ_DTYPE_NAME_MAX + 4], bits[32], levels[32];
  char group[32], matrix[32], options[240], bits_32[32], bits_128[32];
  char bound[32], properties[64];
  ptq_dtype small, large;
  ptq_dtype_spelling(f, f->min_bits, least);
  ptq_dtype_spelling(f, f->max_bits, most);
  const bool one = f->min_bits == f->max_bits;
  snprintf(spelling, sizeof spelling, "%s%s%s", least, one ? "" : "..",
           one ? "" : most);
  if (ptq_dtype_parse(least, &small, NULL) != PTQ_OK ||
      ptq_dtype_parse(most, &large, NULL) != PTQ_OK)
    return; /* a family takes its own spelling */
  spell_range(bits, sizeof bits, code_bits(&small), code_bits(&large));
  spell_range(levels, sizeof levels, f->levels(&small), f->levels(&large));
  spell_range(group, sizeof group, f->param_bits(&small),
              f->param_bits(&large));
  snprintf(matrix, sizeof matrix, "%g",
           f->matrix_bits != NULL ? f->matrix_bits(&small) : 0.0);
  spell_range(bits_32, sizeof bits_32, bits_a_weight(&small, 32),
              bits_a_weight(&large, 32));
  spell_range(bits_128, sizeof bits_128, bits_a_weight(&small, 128),
              bits_a_weight(&large, 128));
  spell_range(bound, sizeof bound, f->error_bound(&small),
              f->error_bound(&large));
  spell_properties(properties, sizeof properties, &small);
  ptq_dtype_options(f, options, sizeof options);
  const cell row[] = {{"dtype", spelling, 16},
                      {"bits", bits, 5},
                      {"levels", levels, 8},
                      {"group_bits", group, 10},
                      {"matrix_bits", matrix, 11},
                      {"bits_32", bits_32, 11},
                      {"bits_128", bits_128, 14},
                      {"summary", f->summary, 60},
                      {"options", options, 52},
                      {"last_group", f->pads_groups ? "padded" : "short", 10},
                      {"properties", properties, 43},
                      {"error_bound", bound, 20},
                      {"source", f->source, 0}};
  add_row(l, row, sizeof row / sizeof row[0]);
}

static void list_dtypes(listing *l) {
  const ptq_dtype_family *const *f = ptq_dtype_families();
  for (; *f != NULL; f++) list_family(l, *f);
}

static void list_methods(listing *l) {
  const ptq_method_family *const *f = ptq_method_families();
  for (; *f != NULL; f++) {
    const cell row[] = {{"method", (*f)->name, 8},
                        {"summary", (*f)->summary, 48},
                        {"options", (*f)->options_help, 48},
                        {"source", (*f)->source, 0}};
    add_row(l, row, 4);
  }
}

static void list_architectures(listing *l) {
  const char *name = NULL, *class_name = NULL;
  for (int i = 0; ptq_arch_row(i, &name, &class_name); i++) {
    const cell row[] = {{"architecture", name, 16}, {"class", class_name, 0}};
    add_row(l, row, 2);
  }
}

static void list_field(listing *l, const char *table, const ptq_field *f) {
  const cell row[] = {{"table", table, 16},
                      {"column", f->name, 22},
                      {"unit", f->unit, 5},
                      {"text", f->text, 0}};
  add_row(l, row, 4);
}

static bool is_stored(const char *table, const char *column) {
  for (int id = 0; id < PTQ_TABLE_COUNT; id++) {
    const ptq_table *t = ptq_table_get((ptq_table_id)id);
    if (strcmp(t->name, table) == 0 && ptq_table_field(t, column) != NULL)
      return true;
  }
  return false;
}

/* Tables as they are stored; then what exports have in tables of their own, or
 * beside the stored columns. */
static void list_metrics(listing *l) {
  const ptq_exporter *e = NULL;
  for (int id = 0; id < PTQ_TABLE_COUNT; id++) {
    const ptq_table *t = ptq_table_get((ptq_table_id)id);
    for (size_t i = 0; i < t->n_fields; i++)
      list_field(l, t->name, &t->fields[i]);
  }
  for (size_t i = 0; (e = ptq_exporter_at(i)) != NULL; i++) {
    ptq_table_writer w = {.format = PTQ_EXPORT_CSV};
    e->columns(&w, false);
    for (int k = 0; k < w.n_columns; k++)
      if (!is_stored(e->name, w.columns[k].field->name))
        list_field(l, e->name, w.columns[k].field);
  }
}

static void list_columns(listing *l) {
  const ptq_feature *number = NULL;
  const ptq_factor *factor = NULL;
  for (size_t i = 0; (number = ptq_feature_at(i)) != NULL; i++) {
    const cell row[] = {{"column", number->name, 19},
                        {"kind", "number", 6},
                        {"unit", number->unit, 4},
                        {"tier", ptq_tier_name(number->tier), 11},
                        {"text", number->text, 0}};
    add_row(l, row, sizeof row / sizeof row[0]);
  }
  for (size_t i = 0; (factor = ptq_factor_at(i)) != NULL; i++) {
    const cell row[] = {{"column", factor->name, 19},
                        {"kind", "factor", 6},
                        {"unit", "", 4},
                        {"tier", ptq_tier_name(PTQ_TIER_CONFIG), 11},
                        {"text", factor->text, 0}};
    add_row(l, row, sizeof row / sizeof row[0]);
  }
}

static void list_laws(listing *l) {
  const ptq_law *law = NULL;
  const ptq_curve *curve = NULL;
  const ptq_trees *trees = NULL;
  for (size_t i = 0; (law = ptq_law_at(i)) != NULL; i++) {
    const cell row[] = {{"name", law->name, 18},
                        {"text", law->text, 58},
                        {"formula", law->formula, 0}};
    add_row(l, row, 3);
  }
  for (size_t i = 0; (curve = ptq_curve_at(i)) != NULL; i++) {
    const cell row[] = {{"name", curve->name, 18},
                        {"text", curve->text, 58},
                        {"formula", curve->equation, 40},
                        {"source", curve->source, 0}};
    add_row(l, row, 4);
  }
  for (size_t i = 0; (trees = ptq_trees_at(i)) != NULL; i++) {
    const cell row[] = {{"name", trees->name, 18},
                        {"text", trees->text, 58},
                        {"formula", "", 0}};
    add_row(l, row, 3);
  }
}

static void list_compute(listing *l) {
  for (int c = 0; c < PTQ_COMPUTE_COUNT; c++) {
    const cell row[] = {{"compute", ptq_compute_name((ptq_compute)c), 7},
                        {"summary", ptq_compute_summary((ptq_compute)c), 0}};
    add_row(l, row, 2);
  }
}

/* clang-format off */
static const struct { const char *name; void (*list)(listing *l); } lists[] = {
  {"dtypes", list_dtypes},
  {"methods", list_methods},
  {"architectures", list_architectures},
  {"compute", list_compute},
  {"metrics", list_metrics},
  {"columns", list_columns},
  {"laws", list_laws},
};
/* clang-format on */
enum { N_LISTS = sizeof lists / sizeof lists[0] };

static ptq_status run(const ptq_args *args, int *exit_code, ptq_err *err) {
  const char *what = ptq_args_at(args, 0);
  const char *names[N_LISTS];
  listing l = {0};
  size_t i = 0;
  for (size_t j = 0; j < N_LISTS; j++) names[j] = lists[j].name;
  while (i < N_LISTS && strcmp(names[i], what) != 0) i++;
  if (i == N_LISTS) {
    const char *near = ptq_text_nearest(what, names, N_LISTS);
    *exit_code = PTQ_EXIT_USAGE;
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "there is no list of '%s'%s%s%s; known: dtypes, methods, "
                    "architectures, compute, metrics, columns, laws",
                    what, near != NULL ? ", did you mean '" : "",
                    near != NULL ? near : "", near != NULL ? "'?" : "");
  }
  if (ptq_args_has(args, "json")) {
    l.rows = json_array();
    if (l.rows == NULL) return PTQ_FAIL(err, PTQ_E_NOMEM, "a list");
  }
  lists[i].list(&l);
  if (l.rows == NULL) return PTQ_OK;
  const int bad = json_dumpf(l.rows, stdout, JSON_INDENT(1));
  json_decref(l.rows);
  printf("\n");
  if (bad != 0 && !ferror(stdout))
    return PTQ_FAIL(err, PTQ_E_NOMEM, "writing a list as JSON");
  return PTQ_OK;
}

static const ptq_option options[] = {
    {"json", 0, NULL, "an array of objects instead of columns"}, {0}};

const ptq_command ptq_cmd_list = {
    .name = "list",
    .args =
        "dtypes|methods|architectures|compute|metrics|columns|laws [options]",
    .summary =
        "list number formats, methods, architectures, metrics, columns of "
        "formulas or laws",
    .details =
        "Prints a table of what this program knows: number formats and\n"
        "methods as they are spelled in a sweep file, architectures as\n"
        "config.json names them, what `compute:` of a sweep file takes, and\n"
        "every column of the store's tables and of those that export writes,\n"
        "with its unit and meaning (metrics); the columns that a formula of\n"
        "`fit` can name, with what they cost to know; and the laws that `fit`\n"
        "compares.\n"
        "\n"
        "Of dtypes: bits of a code, distinct codes, bits of a group's\n"
        "parameters (before keep= and dq=) and of what a matrix shares; all\n"
        "bits of a weight in groups of 32 and of 128; options, the default\n"
        "first; whether a short last group is padded with zeros or stands\n"
        "alone; what tests hold the default to: rounding twice changes\n"
        "nothing (idempotent), -w has the value of w negated (odd), powers of\n"
        "two pass through (equivariant), no code is nearer than the one\n"
        "chosen (nearest), and the largest error of a weight in units of its\n"
        "group's largest (error_bound).\n\n"
        "  ptqsweep list dtypes\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
