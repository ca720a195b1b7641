/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "table_writer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/store/netcdf.h"

/* The shortest of three spellings that reads back as the same number. */
static void write_f64(FILE *out, double v, ptq_export_format format) {
  char text[40];
  const bool json = format == PTQ_EXPORT_JSONL;
  if (isnan(v)) {
    if (json) fputs("null", out);
    return;
  }
  if (isinf(v)) { /* JSON has no word for it; this overflows to it */
    fprintf(out, "%s%s", v < 0 ? "-" : "", json ? "1e999" : "inf");
    return;
  }
  for (int digits = 15; digits <= 17; digits++) {
    (void)snprintf(text, sizeof text, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  fputs(text, out);
}

static void write_csv_text(FILE *out, const char *s) {
  if (strpbrk(s, ",\"\r\n") == NULL) {
    fputs(s, out);
    return;
  }
  fputc('"', out);
  for (; *s != '\0'; s++) {
    if (*s == '"') fputc('"', out);
    fputc(*s, out);
  }
  fputc('"', out);
}

static void write_json_text(FILE *out, const char *s) {
  fputc('"', out);
  for (; *s != '\0'; s++) {
    const unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      fprintf(out, "\\%c", c);
    else if (c < 0x20)
      fprintf(out, "\\u%04x", c);
    else
      fputc(c, out);
  }
  fputc('"', out);
}

static void write_cell(const ptq_table_writer *w, const ptq_field *f,
                       const void *row) {
  const char *at = (const char *)row + f->offset;
  const bool json = w->format == PTQ_EXPORT_JSONL;
  int64_t i = 0;
  double v = 0.0;
  switch (f->kind) {
    case PTQ_KIND_TEXT:
      if (json)
        write_json_text(w->out, at);
      else
        write_csv_text(w->out, at);
      break;
    case PTQ_KIND_F64:
      memcpy(&v, at, sizeof v);
      write_f64(w->out, v, w->format);
      break;
    case PTQ_KIND_I64:
      memcpy(&i, at, sizeof i);
      fprintf(w->out, "%" PRId64, i);
      break;
  }
}

void ptq_writer_add(ptq_table_writer *w, int part, const ptq_field *fields,
                    size_t n, const char *name) {
  for (size_t i = 0; i < n && w->n_columns < PTQ_WRITER_COLUMNS; i++)
    if (name == NULL || strcmp(fields[i].name, name) == 0)
      w->columns[w->n_columns++] = (ptq_writer_column){&fields[i], part};
}

void ptq_writer_add_table(ptq_table_writer *w, int part, ptq_table_id id,
                          const char *name) {
  const ptq_table *t = ptq_table_get(id);
  ptq_writer_add(w, part, t->fields, t->n_fields, name);
}

void ptq_writer_header(const ptq_table_writer *w) {
  if (w->format != PTQ_EXPORT_CSV) return;
  for (int i = 0; i < w->n_columns; i++)
    fprintf(w->out, "%s%s", i > 0 ? "," : "", w->columns[i].field->name);
  fputc('\n', w->out);
}

/* One row behind the gathered columns. */
static ptq_status gather(ptq_table_writer *w,
                         const void *const parts[PTQ_WRITER_PARTS]) {
  ptq_status rc = PTQ_OK;
  if (w->n_rows == w->capacity) {
    const int64_t more = w->capacity > 0 ? 2 * w->capacity : 256;
    for (int i = 0; i < w->n_columns; i++)
      PTQ_TRY(ptq_grow(&w->values[i], w->capacity, more, sizeof(double),
                       "export", NULL));
    w->capacity = more;
  }
  for (int i = 0; i < w->n_columns; i++) {
    const ptq_field *f = w->columns[i].field;
    const char *at = (const char *)parts[w->columns[i].part] + f->offset;
    if (f->kind == PTQ_KIND_TEXT)
      PTQ_TRY(ptq_strdup(&((char **)w->values[i])[w->n_rows], at, NULL));
    else
      memcpy((char *)w->values[i] + w->n_rows * 8, at, 8);
  }
  w->n_rows++;
done:
  return rc;
}

void ptq_writer_row(ptq_table_writer *w,
                    const void *const parts[PTQ_WRITER_PARTS]) {
  if (w->format == PTQ_EXPORT_NETCDF) {
    if (w->rc == PTQ_OK) w->rc = gather(w, parts);
    return;
  }
  const bool json = w->format == PTQ_EXPORT_JSONL;
  if (json) fputc('{', w->out);
  for (int i = 0; i < w->n_columns; i++) {
    const ptq_field *f = w->columns[i].field;
    if (i > 0) fputc(',', w->out);
    if (json) fprintf(w->out, "\"%s\":", f->name);
    write_cell(w, f, parts[w->columns[i].part]);
  }
  fputs(json ? "}\n" : "\n", w->out);
}

ptq_status ptq_writer_save_netcdf(const ptq_table_writer *w, const char *table,
                                  const char *path, ptq_err *err) {
  ptq_netcdf_column columns[PTQ_WRITER_COLUMNS];
  char title[96];
  if (w->rc != PTQ_OK)
    return PTQ_FAIL(err, w->rc, "export of the table '%s'", table);
  for (int i = 0; i < w->n_columns; i++)
    columns[i] = (ptq_netcdf_column){w->columns[i].field, w->values[i]};
  (void)snprintf(title, sizeof title, "%s of a ptqsweep store", table);
  return ptq_netcdf_write(path, title, w->n_rows, columns, w->n_columns, err);
}

void ptq_writer_release(ptq_table_writer *w) {
  for (int i = 0; i < w->n_columns; i++) {
    for (int64_t k = 0; w->columns[i].field->kind == PTQ_KIND_TEXT &&
                        w->values[i] != NULL && k < w->n_rows;
         k++)
      ptq_free(((char **)w->values[i])[k]);
    ptq_free(w->values[i]);
    w->values[i] = NULL;
  }
}
