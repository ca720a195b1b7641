/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "sets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fixed.h"
#include "pack.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"

static const ptq_table *points(void) {
  return ptq_table_get(PTQ_TABLE_POINTS);
}
static const ptq_table *layers(void) {
  return ptq_table_get(PTQ_TABLE_LAYERS);
}
static const ptq_table *windows(void) {
  return ptq_table_get(PTQ_TABLE_WINDOWS);
}
static const ptq_table *models(void) {
  return ptq_table_get(PTQ_TABLE_MODELS);
}
static const ptq_table *baseline(void) {
  return ptq_table_get(PTQ_TABLE_BASELINE);
}
static const ptq_table *answers(void) {
  return ptq_table_get(PTQ_TABLE_ANSWERS);
}
static const ptq_table *baseline_answers(void) {
  return ptq_table_get(PTQ_TABLE_BASELINE_ANSWERS);
}
static const ptq_table *directions(void) {
  return ptq_table_get(PTQ_TABLE_DIRECTIONS);
}
static const ptq_table *profiles(void) {
  return ptq_table_get(PTQ_TABLE_PROFILES);
}
static const ptq_table *direction_layers(void) {
  return ptq_table_get(PTQ_TABLE_DIRECTION_LAYERS);
}
static const ptq_table *ritz(void) {
  return ptq_table_get(PTQ_TABLE_RITZ);
}
static const ptq_table *attempts(void) {
  return ptq_table_get(PTQ_TABLE_ATTEMPTS);
}

#define SLOT_FIELD(kind, name, text)                           \
  {                                                            \
#name, PTQ_KIND_##kind, offsetof(ptq_spectrum_slot, name), \
        sizeof(((ptq_spectrum_slot *)NULL)->name), "", text    \
  }

/* Members of a slot as a table of its own: only the store has it. */
static const ptq_table *slots(void) {
  static const ptq_field fields[] = {
      SLOT_FIELD(I64, subject, "row of /models"),
      SLOT_FIELD(TEXT, group, "group below /spectra"),
      SLOT_FIELD(TEXT, site, "dataset in the group"),
      SLOT_FIELD(I64, n_blocks, "blocks: rows of the dataset"),
      SLOT_FIELD(I64, d, "width of the site: columns of the dataset"),
  };
  static const ptq_table table = {"spectra", fields,
                                  sizeof fields / sizeof fields[0],
                                  sizeof(ptq_spectrum_slot)};
  return &table;
}

#define STATE_TEXT "0 pending, 1 started, 2 done, 3 failed"
#define ZERO_TEXT \
  "; only rows of points whose /state is 2 mean anything, others may be zero"
#define SUM_ZERO \
  "; 0 while being written, and one with a single 1 bit is stored inverted"
#define LANDSCAPE_ZERO                                         \
  "; only rows of directions whose landscape/state is 2 mean " \
  "anything, others may be zero"

/* clang-format off */
static const ptq_set_info infos[PTQ_SET_COUNT] = {
  [PTQ_SET_POINTS] = {"points", PTQ_ELEMENT_ROW, points,
    "one row a grid point; results are NaN until /state is 2", 0},
  [PTQ_SET_STATE] = {"state", PTQ_ELEMENT_U8, NULL, STATE_TEXT, 0},
  [PTQ_SET_CHECKSUM] = {"checksum", PTQ_ELEMENT_U32, NULL,
    "CRC-32 of index/subject (8 bytes), state (1) and the point's rows in "
    "points, layers, windows and answers; 0 before there is one", 0},
  [PTQ_SET_ATTEMPTS] = {"attempts", PTQ_ELEMENT_ROW, attempts,
    "one row a grid point: what is not a result", 0},
  [PTQ_SET_LAYERS] = {"layers", PTQ_ELEMENT_ROW, layers,
    "one row a (point, linear layer); those of point p begin at "
    "index/first_layer[p]" ZERO_TEXT, 0},
  [PTQ_SET_WINDOWS] = {"windows", PTQ_ELEMENT_ROW, windows,
    "one row a (point, evaluation window); those of point p begin at "
    "index/first_window[p]" ZERO_TEXT, 0},
  [PTQ_SET_MODELS] = {"models", PTQ_ELEMENT_ROW, models,
    "one row a model and its texts; results are NaN until models_state is 2",
    0},
  [PTQ_SET_MODELS_STATE] = {"models_state", PTQ_ELEMENT_U8, NULL, STATE_TEXT,
    0},
  [PTQ_SET_MODELS_CHECKSUM] = {"models_checksum", PTQ_ELEMENT_U32, NULL,
    "CRC-32 of 8 zero bytes, models_state (1) and the rows in models, "
    "baseline and baseline_answers; 0 before there is one", 0},
  [PTQ_SET_MODELS_ATTEMPTS] = {"models_attempts", PTQ_ELEMENT_ROW, attempts,
    "one row a row of models: what is not a result", 0},
  [PTQ_SET_BASELINE] = {"baseline", PTQ_ELEMENT_ROW, baseline,
    "one row a (row of models, evaluation window) of the unquantized model; "
    "those of row m begin at index/first_baseline[m]" ZERO_TEXT, 0},
  [PTQ_SET_SPECTRA_STATE] = {"spectra_state", PTQ_ELEMENT_U8, NULL,
    "one a row of index/spectra: " STATE_TEXT, 0},
  [PTQ_SET_SPECTRA_CHECKSUM] = {"spectra_checksum", PTQ_ELEMENT_U32, NULL,
    "CRC-32 of the row of models (8 bytes), spectra_state (1), "
    "spectra_tokens (8) and the eigenvalues; 0 before there is one", 0},
  [PTQ_SET_SPECTRA_TOKENS] = {"spectra_tokens", PTQ_ELEMENT_I64, NULL,
    "tokens behind the second moment of a row of index/spectra", 0},
  [PTQ_SET_SUBJECT] = {"index/subject", PTQ_ELEMENT_I64, NULL,
    "row of models that a point belongs to", 0},
  [PTQ_SET_FIRST_LAYER] = {"index/first_layer", PTQ_ELEMENT_I64, NULL,
    "first row in layers of every point; the last entry is their number", 0},
  [PTQ_SET_FIRST_WINDOW] = {"index/first_window", PTQ_ELEMENT_I64, NULL,
    "first row in windows of every point; the last entry is their number", 0},
  [PTQ_SET_FIRST_BASELINE] = {"index/first_baseline", PTQ_ELEMENT_I64, NULL,
    "first row in baseline of every row of models, and their number", 0},
  [PTQ_SET_ANSWERS] = {"answers", PTQ_ELEMENT_ROW, answers,
    "one row a (point, request); those of point p begin at "
    "index/first_answer[p]" ZERO_TEXT, 3},
  [PTQ_SET_FIRST_ANSWER] = {"index/first_answer", PTQ_ELEMENT_I64, NULL,
    "first row in answers of every point; the last entry is their number", 3},
  [PTQ_SET_BASELINE_ANSWERS] = {"baseline_answers", PTQ_ELEMENT_ROW,
    baseline_answers,
    "one row a (row of models, request) of the unquantized model; those of "
    "row m begin at index/first_baseline_answer[m]" ZERO_TEXT, 3},
  [PTQ_SET_FIRST_BASELINE_ANSWER] = {"index/first_baseline_answer",
    PTQ_ELEMENT_I64, NULL,
    "first row in baseline_answers of every row of models, and their number",
    3},
  [PTQ_SET_DIRECTIONS] = {"landscape/directions", PTQ_ELEMENT_ROW, directions,
    "one row an item of a model's loss landscape: displacements of all linear "
    "layers' weights, in units of the weights' length (size); results are NaN "
    "until landscape/state is 2", 3},
  [PTQ_SET_DIRECTIONS_STATE] = {"landscape/state", PTQ_ELEMENT_U8, NULL,
    STATE_TEXT, 3},
  [PTQ_SET_DIRECTIONS_CHECKSUM] = {"landscape/checksum", PTQ_ELEMENT_U32, NULL,
    "CRC-32 of 8 zero bytes, landscape/state (1) and the direction's rows in "
    "directions, profiles, layers and ritz; 0 before there is one", 3},
  [PTQ_SET_DIRECTIONS_ATTEMPTS] = {"landscape/attempts", PTQ_ELEMENT_ROW,
    attempts, "one row a row of directions: what is not a result", 3},
  [PTQ_SET_PROFILES] = {"landscape/profiles", PTQ_ELEMENT_ROW, profiles,
    "one row a (direction, radius): the loss at weights + factor * direction; "
    "those of direction d begin at index/first_profile[d]" LANDSCAPE_ZERO, 3},
  [PTQ_SET_DIRECTION_LAYERS] = {"landscape/layers", PTQ_ELEMENT_ROW,
    direction_layers,
    "one row a (direction, linear layer); those of direction d begin at "
    "index/first_direction_layer[d]" LANDSCAPE_ZERO, 3},
  [PTQ_SET_RITZ] = {"landscape/ritz", PTQ_ELEMENT_ROW, ritz,
    "one row a node of the Hessian's spectral density; those of direction d "
    "begin at index/first_ritz[d]" LANDSCAPE_ZERO, 3},
  [PTQ_SET_FIRST_PROFILE] = {"index/first_profile", PTQ_ELEMENT_I64, NULL,
    "first row in landscape/profiles of every direction, and their number", 3},
  [PTQ_SET_FIRST_DIRECTION_LAYER] = {"index/first_direction_layer",
    PTQ_ELEMENT_I64, NULL,
    "first row in landscape/layers of every direction, and their number", 3},
  [PTQ_SET_FIRST_RITZ] = {"index/first_ritz", PTQ_ELEMENT_I64, NULL,
    "first row in landscape/ritz of every direction, and their number", 3},
  [PTQ_SET_SPECTRA_INDEX] = {"index/spectra", PTQ_ELEMENT_ROW, slots,
    "one row a dataset below /spectra", 0},
  [PTQ_SET_LOG] = {"log", PTQ_ELEMENT_LINE, NULL,
    "what happened: a ring, line i stands at i modulo its length", 0},
  [PTQ_SET_LOG_NEXT] = {"log_next", PTQ_ELEMENT_I64, NULL,
    "number of lines ever written to log", 0},
  [PTQ_SET_ATTEMPTS_CHECKSUM] = {"attempts_checksum", PTQ_ELEMENT_U32, NULL,
    "CRC-32 of the row's number (8 bytes) and the row of attempts" SUM_ZERO, 4},
  [PTQ_SET_MODELS_ATTEMPTS_CHECKSUM] = {"models_attempts_checksum",
    PTQ_ELEMENT_U32, NULL,
    "CRC-32 of the row's number (8 bytes) and the row of models_attempts"
    SUM_ZERO, 4},
  [PTQ_SET_DIRECTIONS_ATTEMPTS_CHECKSUM] = {"landscape/attempts_checksum",
    PTQ_ELEMENT_U32, NULL,
    "CRC-32 of the row's number (8 bytes) and the row of landscape/attempts"
    SUM_ZERO, 4},
  [PTQ_SET_LOG_CHECKSUM] = {"log_checksum", PTQ_ELEMENT_U32, NULL,
    "one a line of log: CRC-32 of its number (8 bytes) and text; the last: of "
    "log_next" SUM_ZERO, 4},
  [PTQ_SET_FIXED_CHECKSUM] = {"fixed_checksum", PTQ_ELEMENT_U32, NULL,
    "the first: CRC-32 of all bytes of the file that belong to none of these "
    "datasets nor those below spectra; then one a dataset of index, in the "
    "order subject, first_layer, first_window, first_baseline, first_answer, "
    "first_baseline_answer, first_profile, first_direction_layer, first_ritz, "
    "spectra", 4},
  [PTQ_SET_PROFILES_CHECKSUM] = {"landscape/profiles_checksum",
    PTQ_ELEMENT_U32, NULL,
    "one a row of profiles, by which a direction that was cut short goes on: "
    "CRC-32 of the direction's key (32 characters) and the row; 0 where it is "
    "not measured, and one with a single 1 bit is stored inverted", 5},
};
/* clang-format on */
_Static_assert(sizeof infos / sizeof infos[0] == PTQ_SET_COUNT,
               "one row per set");

const ptq_set_info *ptq_set_get(ptq_set_id id) {
  PTQ_ASSERT((unsigned)id < PTQ_SET_COUNT);
  return &infos[id];
}

hid_t ptq_set_type(const ptq_set_info *info) {
  switch (info->element) {
    case PTQ_ELEMENT_ROW:
      return ptq_h5_row_type(info->table());
    case PTQ_ELEMENT_U8:
      return H5Tcopy(H5T_STD_U8LE);
    case PTQ_ELEMENT_U32:
      return H5Tcopy(H5T_STD_U32LE);
    case PTQ_ELEMENT_I64:
      return H5Tcopy(H5T_STD_I64LE);
    case PTQ_ELEMENT_LINE:
      return ptq_h5_text_type(PTQ_LOG_LINE);
  }
  return H5I_INVALID_HID;
}

ptq_status ptq_set_describe(hid_t set, const char *path,
                            const ptq_set_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *units[64], *texts[64];
  PTQ_TRY(ptq_h5_attribute_set(set, path, "description", info->text, err));
  if (info->element != PTQ_ELEMENT_ROW) goto done;
  const ptq_table *t = info->table();
  const size_t n = t->n_fields < 64 ? t->n_fields : 64;
  for (size_t i = 0; i < n; i++) {
    units[i] = t->fields[i].unit;
    texts[i] = t->fields[i].text;
  }
  PTQ_TRY(ptq_h5_attribute_list(set, path, "units", units, (int64_t)n, err));
  PTQ_TRY(
      ptq_h5_attribute_list(set, path, "descriptions", texts, (int64_t)n, err));
done:
  return rc;
}

void ptq_sets_init(ptq_sets *s) {
  *s = (ptq_sets){.file = H5I_INVALID_HID};
  for (int i = 0; i < PTQ_SET_COUNT; i++) s->set[i] = PTQ_H5_SET_NONE;
}

/* Say what is wrong before HDF5 does, in words that help. */
static ptq_status open_file(const char *path, unsigned flags, hid_t fapl,
                            hid_t *out, ptq_err *err) {
  struct stat st;
  if (stat(path, &st) != 0)
    return PTQ_FAIL(err, PTQ_E_IO, "store '%s': %s", path, strerror(errno));
  if (!S_ISREG(st.st_mode))
    return PTQ_FAIL(err, PTQ_E_IO, "store '%s': not a regular file", path);
  *out = ptq_fault() ? H5I_INVALID_HID : H5Fopen(path, flags, fapl);
  if (*out >= 0) return PTQ_OK;
  const htri_t is_hdf5 = H5Fis_hdf5(path);
  if (is_hdf5 == 0)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "store '%s': not an HDF5 file", path);
  if (is_hdf5 < 0) return ptq_h5_fail(err, PTQ_E_IO, path, "cannot open", "/");
  /* The reason was lost to H5Fis_hdf5: fail again for it. */
  *out = H5Fopen(path, flags, fapl);
  if (*out >= 0) return PTQ_OK;
  return ptq_h5_fail(err, PTQ_E_FORMAT, path, "cannot open (damaged?)", "/");
}

static ptq_status check_schema(ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *format = NULL;
  long long schema = 0;
  if (ptq_h5_attribute_get(s->file, s->path, "format", &format, NULL) !=
          PTQ_OK ||
      strcmp(format, PTQ_STORE_FORMAT) != 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                     "store '%s': an HDF5 file, but not one of ptqsweep "
                     "(attribute 'format' of the root)",
                     s->path));
  const hid_t attribute = H5Aopen(s->file, "schema_version", H5P_DEFAULT);
  const bool good =
      attribute >= 0 && H5Aread(attribute, H5T_NATIVE_LLONG, &schema) >= 0;
  if (attribute >= 0) (void)H5Aclose(attribute);
  if (!good)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_FORMAT, s->path, "no attribute",
                        "schema_version"));
  if (schema > PTQ_STORE_SCHEMA)
    rc = PTQ_FAIL(err, PTQ_E_FORMAT,
                  "store '%s': made by a newer ptqsweep (schema %lld, this "
                  "program reads up to %d); use a newer program",
                  s->path, schema, PTQ_STORE_SCHEMA);
  else if (schema < 1)
    rc = PTQ_FAIL(err, PTQ_E_FORMAT, "store '%s': schema version %lld", s->path,
                  schema);
  s->schema = schema;
done:
  ptq_free(format);
  return rc;
}

/* Does a store of this schema have the set? */
static bool is_there(const ptq_sets *s, ptq_set_id id) {
  return s->schema >= infos[id].since;
}

static ptq_status load_i64(const ptq_sets *s, ptq_set_id id, int64_t **out,
                           ptq_err *err) {
  const ptq_h5_set *set = &s->set[id];
  ptq_status rc = ptq_alloc(out, set->rows, sizeof **out, set->name, err);
  if (rc == PTQ_OK) rc = ptq_h5_read(set, 0, set->rows, *out, err);
  /* The file's integers are little-endian whatever the machine. */
  const unsigned char *bytes = (const unsigned char *)*out;
  for (int64_t i = 0; rc == PTQ_OK && i < set->rows; i++)
    (*out)[i] = ptq_unpack_i64(bytes + 8 * i);
  return rc;
}

static ptq_status load_spectra(ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *set = &s->set[PTQ_SET_SPECTRA_INDEX];
  ptq_pack_column columns[8];
  unsigned char *raw = NULL;
  ptq_pack_columns(slots(), columns);
  PTQ_TRY(ptq_alloc(&raw, set->rows, set->row_bytes, set->name, err));
  PTQ_TRY(
      ptq_alloc(&s->spectra, set->rows, sizeof *s->spectra, set->name, err));
  PTQ_TRY(ptq_h5_read(set, 0, set->rows, raw, err));
  ptq_unpack_rows(slots(), columns, set->row_bytes, raw, set->rows, s->spectra);
  for (int64_t i = 0; i < set->rows; i++) {
    const ptq_spectrum_slot *slot = &s->spectra[i];
    if (slot->subject < 0 || slot->subject >= s->n_subjects ||
        slot->n_blocks < 0 || slot->d < 0)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                       "store '%s': row %lld of '%s' is damaged", s->path,
                       (long long)i, set->name));
  }
done:
  ptq_free(raw);
  return rc;
}

/* Entry i to i + 1 of `first` are the rows of owner i in a set of `rows`. */
static ptq_status check_ranges(const ptq_sets *s, ptq_set_id id,
                               const int64_t *first, int64_t n, int64_t rows,
                               ptq_err *err) {
  bool good = first[0] == 0 && first[n] == rows;
  for (int64_t i = 0; good && i < n; i++) good = first[i] <= first[i + 1];
  if (good) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_FORMAT, "store '%s': '%s' is damaged", s->path,
                  s->set[id].name);
}

static ptq_status check_counts(const ptq_sets *s, ptq_err *err) {
  int64_t expect[PTQ_SET_COUNT];
  for (int i = 0; i < PTQ_SET_COUNT; i++) expect[i] = s->set[i].rows;
  expect[PTQ_SET_STATE] = expect[PTQ_SET_CHECKSUM] = expect[PTQ_SET_ATTEMPTS] =
      expect[PTQ_SET_SUBJECT] = s->n_points;
  expect[PTQ_SET_FIRST_LAYER] = expect[PTQ_SET_FIRST_WINDOW] =
      expect[PTQ_SET_FIRST_ANSWER] = s->n_points + 1;
  expect[PTQ_SET_MODELS_STATE] = expect[PTQ_SET_MODELS_CHECKSUM] =
      expect[PTQ_SET_MODELS_ATTEMPTS] = s->n_subjects;
  expect[PTQ_SET_FIRST_BASELINE] = expect[PTQ_SET_FIRST_BASELINE_ANSWER] =
      s->n_subjects + 1;
  expect[PTQ_SET_SPECTRA_STATE] = expect[PTQ_SET_SPECTRA_CHECKSUM] =
      expect[PTQ_SET_SPECTRA_TOKENS] = s->n_spectra;
  expect[PTQ_SET_DIRECTIONS_STATE] = expect[PTQ_SET_DIRECTIONS_CHECKSUM] =
      expect[PTQ_SET_DIRECTIONS_ATTEMPTS] = s->n_directions;
  expect[PTQ_SET_FIRST_PROFILE] = expect[PTQ_SET_FIRST_DIRECTION_LAYER] =
      expect[PTQ_SET_FIRST_RITZ] = s->n_directions + 1;
  expect[PTQ_SET_LOG_NEXT] = 1;
  expect[PTQ_SET_ATTEMPTS_CHECKSUM] = s->n_points;
  expect[PTQ_SET_MODELS_ATTEMPTS_CHECKSUM] = s->n_subjects;
  expect[PTQ_SET_DIRECTIONS_ATTEMPTS_CHECKSUM] = s->n_directions;
  expect[PTQ_SET_LOG_CHECKSUM] = s->set[PTQ_SET_LOG].rows + 1;
  expect[PTQ_SET_FIXED_CHECKSUM] = ptq_fixed_count();
  expect[PTQ_SET_PROFILES_CHECKSUM] = s->set[PTQ_SET_PROFILES].rows;
  for (int i = 0; i < PTQ_SET_COUNT; i++)
    if (is_there(s, (ptq_set_id)i) && s->set[i].rows != expect[i])
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "store '%s': '%s' has %lld rows, %lld expected", s->path,
                      s->set[i].name, (long long)s->set[i].rows,
                      (long long)expect[i]);
  return PTQ_OK;
}

/* Where the rows of n owners stand in a set; all at 0 in stores without it. */
static ptq_status load_ranges(const ptq_sets *s, ptq_set_id index, int64_t n,
                              ptq_set_id rows, int64_t **out, ptq_err *err) {
  if (!is_there(s, index))
    return ptq_alloc(out, n + 1, sizeof **out, infos[index].name, err);
  const ptq_status rc = load_i64(s, index, out, err);
  return rc != PTQ_OK ? rc
                      : check_ranges(s, index, *out, n, s->set[rows].rows, err);
}

static ptq_status load_index(ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = s->n_points = s->set[PTQ_SET_POINTS].rows;
  const int64_t m = s->n_subjects = s->set[PTQ_SET_MODELS].rows;
  s->n_spectra = s->set[PTQ_SET_SPECTRA_INDEX].rows;
  const int64_t k = s->n_directions = s->set[PTQ_SET_DIRECTIONS].rows;
  PTQ_TRY(check_counts(s, err));
  PTQ_TRY(load_i64(s, PTQ_SET_SUBJECT, &s->subject, err));
  PTQ_TRY(load_ranges(s, PTQ_SET_FIRST_LAYER, n, PTQ_SET_LAYERS,
                      &s->first_layer, err));
  PTQ_TRY(load_ranges(s, PTQ_SET_FIRST_WINDOW, n, PTQ_SET_WINDOWS,
                      &s->first_window, err));
  PTQ_TRY(load_ranges(s, PTQ_SET_FIRST_ANSWER, n, PTQ_SET_ANSWERS,
                      &s->first_answer, err));
  PTQ_TRY(load_ranges(s, PTQ_SET_FIRST_BASELINE, m, PTQ_SET_BASELINE,
                      &s->first_baseline, err));
  PTQ_TRY(load_ranges(s, PTQ_SET_FIRST_BASELINE_ANSWER, m,
                      PTQ_SET_BASELINE_ANSWERS, &s->first_baseline_answer,
                      err));
  PTQ_TRY(load_ranges(s, PTQ_SET_FIRST_PROFILE, k, PTQ_SET_PROFILES,
                      &s->first_profile, err));
  PTQ_TRY(load_ranges(s, PTQ_SET_FIRST_DIRECTION_LAYER, k,
                      PTQ_SET_DIRECTION_LAYERS, &s->first_direction_layer,
                      err));
  PTQ_TRY(
      load_ranges(s, PTQ_SET_FIRST_RITZ, k, PTQ_SET_RITZ, &s->first_ritz, err));
  for (int64_t i = 0; i < s->n_points; i++)
    if (s->subject[i] < 0 || s->subject[i] >= s->n_subjects)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                       "store '%s': 'index/subject' of point %lld is damaged",
                       s->path, (long long)i));
  PTQ_TRY(load_spectra(s, err));
done:
  return rc;
}

ptq_status ptq_sets_open(const char *path, unsigned flags, hid_t fapl,
                         ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_sets_init(s);
  PTQ_TRY(ptq_strdup(&s->path, path, err));
  PTQ_TRY(open_file(path, flags, fapl, &s->file, err));
  PTQ_TRY(check_schema(s, err));
  for (int i = 0; i < PTQ_SET_COUNT; i++) {
    if (!is_there(s, (ptq_set_id)i)) {
      s->set[i].path = s->path;
      s->set[i].name = infos[i].name;
      continue;
    }
    PTQ_TRY(ptq_h5_open(s->file, s->path, infos[i].name, &s->set[i], err));
    /* Scalars have one type for ever; rows may gain columns. */
    const hid_t type = ptq_set_type(&infos[i]);
    const bool same = infos[i].element == PTQ_ELEMENT_ROW
                          ? H5Tget_class(s->set[i].type) == H5T_COMPOUND
                          : H5Tequal(type, s->set[i].type) > 0;
    if (type >= 0) (void)H5Tclose(type);
    if (!same)
      PTQ_TRY(ptq_h5_fail(err, PTQ_E_FORMAT, path, "unexpected type of",
                          infos[i].name));
  }
  PTQ_TRY(load_index(s, err));
done:
  if (rc != PTQ_OK) (void)ptq_sets_close(s, NULL);
  return rc;
}

ptq_status ptq_sets_close(ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int i = 0; i < PTQ_SET_COUNT; i++) ptq_h5_close(&s->set[i]);
  if (s->file >= 0 && H5Fclose(s->file) < 0)
    rc = ptq_h5_fail(err, PTQ_E_IO, s->path, "cannot close", "/");
  ptq_free(s->path);
  ptq_free(s->subject);
  ptq_free(s->first_layer);
  ptq_free(s->first_window);
  ptq_free(s->first_answer);
  ptq_free(s->first_baseline);
  ptq_free(s->first_baseline_answer);
  ptq_free(s->spectra);
  ptq_free(s->first_profile);
  ptq_free(s->first_direction_layer);
  ptq_free(s->first_ritz);
  ptq_sets_init(s);
  return rc;
}

ptq_status ptq_sets_spectrum(const ptq_sets *s, int64_t i, ptq_h5_set *out,
                             ptq_err *err) {
  const ptq_spectrum_slot *slot = &s->spectra[i];
  char name[160];
  (void)snprintf(name, sizeof name, "spectra/%s/%s", slot->group, slot->site);
  ptq_status rc = ptq_h5_open(s->file, s->path, name, out, err);
  if (rc != PTQ_OK) return rc;
  out->name = slot->site; /* `name` does not outlive this call */
  if (out->rows == slot->n_blocks &&
      out->row_bytes == (size_t)slot->d * sizeof(double) &&
      H5Tequal(out->type, H5T_IEEE_F64LE) > 0)
    return PTQ_OK;
  ptq_h5_close(out);
  return PTQ_FAIL(err, PTQ_E_FORMAT, "store '%s': unexpected shape of '%s'",
                  s->path, name);
}
