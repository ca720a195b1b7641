/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "join_layout.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"

void ptq_join_layout_release(ptq_join_layout *p) {
  ptq_free(p->points);
  ptq_free(p->subject);
  ptq_free(p->layers);
  ptq_free(p->windows);
  ptq_free(p->answers);
  ptq_free(p->subjects);
  ptq_free(p->subject_windows);
  ptq_free(p->subject_answers);
  ptq_free(p->spectra);
  ptq_free(p->carry_points);
  ptq_free(p->carry_subjects);
  ptq_joined_directions_release(&p->directions);
  for (int i = 0; i < 4; i++) ptq_free(p->texts[i]);
  ptq_text_release(&p->origin);
}

static void clear_numbers(const ptq_table *t, void *row) {
  const double nothing = (double)NAN;
  for (size_t i = 0; i < t->n_fields; i++)
    if (t->fields[i].kind == PTQ_KIND_F64)
      memcpy((char *)row + t->fields[i].offset, &nothing, sizeof nothing);
}

static ptq_status fill_points(const ptq_joining *j, ptq_join_layout *p,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = j->n_kept;
  PTQ_TRY(ptq_alloc(&p->points, n, sizeof *p->points, "points", err));
  PTQ_TRY(ptq_alloc(&p->subject, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->layers, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->windows, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->answers, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->carry_points, n, sizeof(ptq_carry), "points", err));
  for (int64_t i = 0, last = -1, from = -1, at = -1; i < n; i++) {
    const ptq_join_entry *e = &j->kept[i];
    const ptq_source *s = &j->sources[e->source];
    const int64_t *layer = s->sets.first_layer + e->row;
    const int64_t *window = s->sets.first_window + e->row;
    const int64_t *answer = s->sets.first_answer + e->row;
    p->points[i] = s->points[e->row];
    clear_numbers(ptq_table_get(PTQ_TABLE_POINTS), &p->points[i]);
    p->layers[i] = layer[1] - layer[0];
    p->windows[i] = window[1] - window[0];
    p->answers[i] = answer[1] - answer[0];
    p->carry_points[i] = (ptq_carry){s, e->row};
    /* Points of one model follow one another. */
    if (last != e->source || from != s->sets.subject[e->row])
      at = ptq_joining_find_model(j, s, s->sets.subject[e->row]);
    last = e->source;
    from = s->sets.subject[e->row];
    p->subject[i] = at;
    if (at < 0) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "joining models"));
  }
done:
  return rc;
}

static ptq_status fill_subjects(const ptq_joining *j, ptq_join_layout *p,
                                int64_t *n_spectra, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t m = j->n_kept_models;
  int64_t room = 0;
  PTQ_TRY(ptq_alloc(&p->subjects, m, sizeof *p->subjects, "models", err));
  PTQ_TRY(ptq_alloc(&p->subject_windows, m, sizeof(int64_t), "models", err));
  PTQ_TRY(ptq_alloc(&p->subject_answers, m, sizeof(int64_t), "models", err));
  PTQ_TRY(ptq_alloc(&p->carry_subjects, m, sizeof(ptq_carry), "models", err));
  for (int64_t s = 0; s < j->n_sources; s++)
    room += j->sources[s].sets.n_spectra;
  PTQ_TRY(ptq_alloc(&p->spectra, room, sizeof *p->spectra, "spectra", err));
  for (int64_t i = 0; i < m; i++) {
    const ptq_join_entry *e = &j->kept_models[i];
    const ptq_source *s = &j->sources[e->source];
    const int64_t *first = s->sets.first_baseline + e->row;
    p->subjects[i] = s->models[e->row];
    clear_numbers(ptq_table_get(PTQ_TABLE_MODELS), &p->subjects[i]);
    p->subject_windows[i] = first[1] - first[0];
    first = s->sets.first_baseline_answer + e->row;
    p->subject_answers[i] = first[1] - first[0];
    p->carry_subjects[i] = (ptq_carry){s, e->row};
    for (int64_t k = 0; k < s->sets.n_spectra; k++) {
      if (s->sets.spectra[k].subject != e->row) continue;
      ptq_spectrum_slot *slot = &p->spectra[(*n_spectra)++];
      *slot = s->sets.spectra[k];
      slot->subject = i;
    }
  }
done:
  return rc;
}

/* Spectra of several subjects of one model stand in groups of their own. */
static void name_groups(ptq_join_layout *p, int64_t n,
                        const ptq_model_row *models) {
  for (int64_t i = 0; i < n; i++) {
    ptq_spectrum_slot *a = &p->spectra[i];
    bool shared = false;
    for (int64_t k = 0; k < n && !shared; k++)
      shared = p->spectra[k].subject != a->subject &&
               strcmp(models[p->spectra[k].subject].model,
                      models[a->subject].model) == 0;
    (void)snprintf(a->group, sizeof a->group, shared ? "%s@%lld" : "%s",
                   models[a->subject].model, (long long)a->subject);
  }
}

static ptq_status fingerprint(const ptq_join_layout *p, int64_t n,
                              char hex[PTQ_HASH_HEX], ptq_err *err) {
  ptq_hash *h = NULL;
  const ptq_status rc = ptq_hash_create(&h, err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < n; i++) ptq_hash_text(h, p->points[i].key);
  ptq_hash_hex(h, hex);
  ptq_hash_free(h);
  return PTQ_OK;
}

/* What the stores say of the run as a whole: the first one's word, and whose
 * rows these are. */
static ptq_status fill_attributes(const ptq_joining *j, ptq_join_layout *p,
                                  ptq_err *err) {
  static const char *const names[] = {"bootstrap", "preset", "moments"};
  ptq_status rc = PTQ_OK;
  const ptq_source *first = &j->sources[0];
  int n = 0;
  for (int i = 0; i < 3; i++) {
    if (H5Aexists(first->sets.file, names[i]) <= 0) continue;
    PTQ_TRY(ptq_h5_attribute_get(first->sets.file, first->sets.path, names[i],
                                 &p->texts[n], err));
    p->attributes[n] = (ptq_store_attribute){names[i], p->texts[n]};
    n++;
  }
  (void)ptq_text_copy(p->numerics, sizeof p->numerics, first->numerics);
  for (int64_t s = 0; s < j->n_sources; s++) {
    ptq_text_addf(&p->origin, "%s %s (%s)\n", j->sources[s].uuid,
                  j->sources[s].sets.path, j->sources[s].numerics);
    if (strcmp(first->numerics, j->sources[s].numerics) != 0)
      (void)ptq_text_copy(p->numerics, sizeof p->numerics, "mixed");
  }
  if (p->origin.rc != PTQ_OK)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "joining stores"));
  p->attributes[n++] =
      (ptq_store_attribute){"merged_from", ptq_text_str(&p->origin)};
  p->layout.n_attributes = n;
  p->layout.attributes = p->attributes;
  p->layout.numerics = p->numerics;
done:
  return rc;
}

ptq_status ptq_join_layout_make(const ptq_joining *j, const char *spec_text,
                                ptq_join_layout *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n_spectra = 0;
  PTQ_TRY(fill_points(j, p, err));
  PTQ_TRY(fill_subjects(j, p, &n_spectra, err));
  name_groups(p, n_spectra, p->subjects);
  PTQ_TRY(fill_attributes(j, p, err));
  ptq_store_layout *l = &p->layout;
  l->spec_text = spec_text;
  l->program_version = j->options->program_version;
  l->n_points = j->n_kept;
  l->points = p->points;
  l->point_subject = p->subject;
  l->point_layers = p->layers;
  l->point_windows = p->windows;
  l->point_answers = p->answers;
  l->n_subjects = j->n_kept_models;
  l->subjects = p->subjects;
  l->subject_windows = p->subject_windows;
  l->subject_answers = p->subject_answers;
  l->n_spectra = n_spectra;
  l->spectra = p->spectra;
  ptq_joined_directions_lay_out(&p->directions, l);
  PTQ_TRY(fingerprint(p, j->n_kept, l->fingerprint, err));
done:
  return rc;
}
