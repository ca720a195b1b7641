/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "by_model.h"

#include <stdio.h>
#include <string.h>

#include "h5io.h"
#include "sets.h"

/* Longer than any group: a model's name, and a number. */
enum { NAME_MAX_BYTES = 160 };

/* A table of the landscape, with the rows of each direction in it. */
typedef struct part {
  ptq_set_id set;
  const int64_t *rows; /* borrowed; [n_directions]; NULL: one each */
} part;

static int64_t rows_of(const part *p, int64_t direction) {
  return p->rows != NULL ? p->rows[direction] : 1;
}

static void name_group(const ptq_store_layout *l, hid_t landscape,
                       int64_t subject, char *name) {
  const char *model = l->subjects[subject].model;
  bool shared = H5Lexists(landscape, model, H5P_DEFAULT) > 0;
  for (int64_t i = 0; i < l->n_subjects && !shared; i++)
    shared = i != subject && strcmp(l->subjects[i].model, model) == 0;
  (void)snprintf(name, NAME_MAX_BYTES, shared ? "%s@%lld" : "%s", model,
                 (long long)subject);
}

static hid_t rows_space(int64_t rows) {
  const hsize_t dims[1] = {(hsize_t)rows};
  return H5Screate_simple(1, dims, NULL);
}

/* Rows [from, from + n) of the source at rows [to, to + n) of the view. */
static bool map(hid_t dcpl, hid_t view, int64_t to, hid_t source, int64_t from,
                int64_t n, const char *name) {
  const hsize_t at[1] = {(hsize_t)to}, start[1] = {(hsize_t)from};
  const hsize_t count[1] = {(hsize_t)n};
  char place[NAME_MAX_BYTES];
  (void)snprintf(place, sizeof place, "/%s", name);
  return H5Sselect_hyperslab(view, H5S_SELECT_SET, at, NULL, count, NULL) >=
             0 &&
         H5Sselect_hyperslab(source, H5S_SELECT_SET, start, NULL, count,
                             NULL) >= 0 &&
         H5Pset_virtual(dcpl, view, ".", place, source) >= 0;
}

/* A model's directions are runs of rows: one, but for joined stores. */
static bool map_runs(const ptq_store_layout *l, int64_t subject, const part *p,
                     hid_t dcpl, hid_t view, hid_t source) {
  const char *name = ptq_set_get(p->set)->name;
  int64_t from = 0, to = 0, run = 0;
  for (int64_t i = 0; i < l->n_directions; i++) {
    const int64_t n = rows_of(p, i);
    if (l->directions[i].subject == subject) {
      run += n;
    } else if (run > 0) {
      if (!map(dcpl, view, to, source, from - run, run, name)) return false;
      to += run;
      run = 0;
    }
    from += n;
  }
  return run == 0 || map(dcpl, view, to, source, from - run, run, name);
}

static ptq_status create_view(hid_t group, const char *path,
                              const ptq_store_layout *l, int64_t subject,
                              const part *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t own = 0, all = 0;
  const ptq_set_info *info = ptq_set_get(p->set);
  const char *name = strrchr(info->name, '/') + 1;
  hid_t view = H5I_INVALID_HID, source = view, dcpl = view, type = view;
  hid_t set = view;
  for (int64_t i = 0; i < l->n_directions; i++) {
    all += rows_of(p, i);
    if (l->directions[i].subject == subject) own += rows_of(p, i);
  }
  if (own == 0) return PTQ_OK;
  view = rows_space(own);
  source = rows_space(all);
  dcpl = H5Pcreate(H5P_DATASET_CREATE);
  type = ptq_set_type(info);
  if (view >= 0 && source >= 0 && dcpl >= 0 && type >= 0 &&
      map_runs(l, subject, p, dcpl, view, source) && H5Sselect_all(view) >= 0)
    set = H5Dcreate2(group, name, type, view, H5P_DEFAULT, dcpl, H5P_DEFAULT);
  if (set < 0)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_IO, path, "cannot create the view", name));
  PTQ_TRY(ptq_set_describe(set, path, info, err));
done:
  if (set >= 0) (void)H5Dclose(set);
  if (type >= 0) (void)H5Tclose(type);
  if (dcpl >= 0) (void)H5Pclose(dcpl);
  if (source >= 0) (void)H5Sclose(source);
  if (view >= 0) (void)H5Sclose(view);
  return rc;
}

static ptq_status create_group(hid_t landscape, const char *path,
                               const ptq_store_layout *l, int64_t subject,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const part parts[] = {
      {PTQ_SET_DIRECTIONS, NULL},
      {PTQ_SET_DIRECTIONS_STATE, NULL},
      {PTQ_SET_PROFILES, l->direction_steps},
      {PTQ_SET_DIRECTION_LAYERS, l->direction_layers},
      {PTQ_SET_RITZ, l->direction_ritz},
  };
  char name[NAME_MAX_BYTES];
  name_group(l, landscape, subject, name);
  const hid_t group =
      H5Gcreate2(landscape, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (group < 0)
    return ptq_h5_fail(err, PTQ_E_IO, path, "cannot create the group", name);
  PTQ_TRY(ptq_h5_attribute_set(
      group, path, "description",
      "the model's rows of the tables in /landscape, in whose numbers "
      "'direction' counts; rows of directions whose state is not 2 are no "
      "results, and may be zero. Lengths of directions are over that of the "
      "weights of all linear layers, losses and their derivatives means over "
      "scored tokens in nats",
      err));
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
    PTQ_TRY(create_view(group, path, l, subject, &parts[i], err));
done:
  (void)H5Gclose(group);
  return rc;
}

ptq_status ptq_by_model_create(hid_t file, const char *path,
                               const ptq_store_layout *l, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  hid_t landscape = H5I_INVALID_HID;
  if (l->n_directions == 0) return PTQ_OK;
  landscape = H5Gopen2(file, "landscape", H5P_DEFAULT);
  if (landscape < 0)
    return ptq_h5_fail(err, PTQ_E_IO, path, "cannot open", "landscape");
  for (int64_t s = 0; s < l->n_subjects; s++) {
    bool any = false;
    for (int64_t i = 0; i < l->n_directions && !any; i++)
      any = l->directions[i].subject == s;
    if (any) PTQ_TRY(create_group(landscape, path, l, s, err));
  }
done:
  (void)H5Gclose(landscape);
  return rc;
}
