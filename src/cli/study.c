/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "study.h"

#include <stdio.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/comm/agree.h"
#include "ptq/comm/meet.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/identity.h"
#include "ptq/sweep/landscape.h"
#include "ptq/sweep/sites.h"
#include "ptq/sweep/tokens.h"

/* What each rank does for itself. */
static ptq_status prepare(const char *path, const char *const *sets,
                          int64_t n_sets, ptq_study *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_spec_read(path, sets, n_sets, &s->spec, err));
  if (s->spec.compute == PTQ_COMPUTE_BF16) PTQ_TRY(ptq_bf16_init(err));
  ptq_numerics_text(s->spec.compute, s->numerics);
  PTQ_TRY(ptq_grid_build(&s->spec, &s->grid, err));
done:
  return rc;
}

/* Rank 0 reads and hashes every input once; the others take its word. */
static ptq_status set_keys(MPI_Comm comm, ptq_study *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char(*hashes)[PTQ_HASH_HEX] = NULL; /* models, then texts */
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const int64_t n_models = s->spec.n_models;
  const int64_t n = n_models + ptq_grid_inputs(&s->grid);
  rc = ptq_alloc(&hashes, n, PTQ_HASH_HEX, "fingerprints", err);
  if (rc == PTQ_OK && rank == 0)
    rc = ptq_grid_hash_inputs(&s->grid, hashes, hashes + n_models, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  PTQ_TRY(ptq_meet_bcast(comm, hashes, n * PTQ_HASH_HEX, MPI_CHAR, 0,
                         "fingerprints", err));
  PTQ_TRY(ptq_agree(
      comm,
      ptq_grid_set_keys(&s->grid, hashes, hashes + n_models, s->numerics, err),
      err));
done:
  ptq_free(hashes);
  return rc;
}

ptq_status ptq_study_open(MPI_Comm comm, const char *path,
                          const char *const *sets, int64_t n_sets,
                          ptq_study *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_study){0};
  PTQ_TRY(ptq_agree(comm, prepare(path, sets, n_sets, out, err), err));
  PTQ_TRY(ptq_agree_text(comm, out->numerics,
                         "numerics (BLAS and kernels; set OPENBLAS_CORETYPE, "
                         "ONEDNN_MAX_CPU_ISA and PTQ_ISA alike on every host)",
                         err));
  PTQ_TRY(ptq_agree_text(comm, out->spec.text, "the sweep file's text", err));
  PTQ_TRY(set_keys(comm, out, err));
done:
  if (rc != PTQ_OK) ptq_study_close(out);
  return rc;
}

int64_t ptq_study_sets(char *text, const char *sets[PTQ_SETS_MAX]) {
  static const char mark[] = "# --set ";
  int64_t n = 0;
  for (char *end = text + strlen(text); n < PTQ_SETS_MAX && end > text;) {
    if (end[-1] == '\n') *--end = '\0';
    char *line = end;
    while (line > text && line[-1] != '\n') line--;
    if (strncmp(line, mark, sizeof mark - 1) != 0) break;
    sets[n++] = line + sizeof mark - 1;
    end = line;
  }
  for (int64_t i = 0; i < n / 2; i++) {
    const char *swap = sets[i];
    sets[i] = sets[n - 1 - i];
    sets[n - 1 - i] = swap;
  }
  return n;
}

void ptq_study_close(ptq_study *s) {
  ptq_grid_release(&s->grid);
  ptq_spec_release(&s->spec);
  *s = (ptq_study){0};
}

/* lm-eval scores documents to their end. */
static void warn_of_rest(const ptq_study *s, const ptq_text_spec *text,
                         const ptq_subject *sub, int64_t n_tokens) {
  const int64_t missing = ptq_windows_missing(text, n_tokens);
  if (missing > 0)
    ptq_log(PTQ_LOG_WARN,
            "model '%s': preset lm-eval scores %lld tokens of '%s' and leaves "
            "%lld out; %lld windows would score all",
            s->spec.models[sub->model].name,
            (long long)(text->windows * (text->length - 1)), text->path,
            (long long)(n_tokens - 1 - text->windows * (text->length - 1)),
            (long long)(text->windows + missing));
}

/* Cut a text's windows under a subject's tokenizer. */
static ptq_status cut(const ptq_study *s, const ptq_text_spec *text,
                      bool from_end, const ptq_subject *sub, ptq_windows *out,
                      ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_tokens tokens = {0};
  PTQ_TRY(ptq_tokens_load(s->spec.path, text, s->spec.models[sub->model].path,
                          sub->info.vocab, &tokens, err));
  PTQ_TRY(ptq_windows_cut(text, from_end, &tokens, out, err));
  warn_of_rest(s, text, sub, tokens.n);
done:
  ptq_tokens_release(&tokens);
  return rc;
}

static int64_t count_overlaps(const ptq_windows *a, const ptq_windows *b) {
  int64_t n = 0;
  for (int64_t i = 0; i < a->n; i++)
    for (int64_t j = 0; j < b->n; j++)
      if (a->start[i] < b->start[j] + b->length &&
          b->start[j] < a->start[i] + a->length) {
        n++;
        break;
      }
  return n;
}

/* Second moments of few tokens are noisy: fewer than ten a dimension is worth
 * a word. An expert gets its share of the tokens, on average. */
static void warn_of_few_tokens(const ptq_study *s, const ptq_subject *sub,
                               int64_t n_tokens) {
  const ptq_model_info *info = &sub->info;
  int64_t least = n_tokens, width = 0;
  for (int i = 0; i < PTQ_SITE_COUNT; i++) {
    const bool shared = info->n_experts > 0 && i >= PTQ_SITE_MLP_IN;
    const int64_t d = ptq_site_width(info, i);
    const int64_t n =
        shared ? n_tokens * info->experts_used / info->n_experts : n_tokens;
    if (width > 0 && (double)n / (double)d >= (double)least / (double)width)
      continue;
    least = n;
    width = d;
  }
  if (least < 10 * width)
    ptq_log(
        PTQ_LOG_WARN,
        "model '%s': %lld calibration tokens%s for inputs %lld wide; second "
        "moments want at least ten a dimension",
        s->spec.models[sub->model].name, (long long)least,
        least < n_tokens ? " an expert" : "", (long long)width);
}

static ptq_status check_subject(const ptq_study *s, const ptq_subject *sub,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_spec *spec = &s->spec;
  ptq_windows calib = {0}, select = {0}, eval = {0};
  ptq_requests requests = {0};
  PTQ_TRY(
      cut(s, &spec->calibrations[sub->calibration], false, sub, &calib, err));
  PTQ_TRY(
      cut(s, &spec->selection, spec->selection_from_end, sub, &select, err));
  PTQ_TRY(cut(s, &spec->evaluations[sub->evaluation], false, sub, &eval, err));
  PTQ_TRY(ptq_requests_load(spec, spec->models[sub->model].path, &sub->info,
                            &requests, err));
  warn_of_few_tokens(s, sub, calib.n * calib.length);
  const int64_t shared = spec->selection_from_end && sub->calibration == 0
                             ? count_overlaps(&select, &calib)
                             : 0;
  if (shared > 0)
    ptq_log(PTQ_LOG_WARN,
            "model '%s': %lld of %lld selection windows share text with "
            "calibration windows, which flatters output SQNR; name a "
            "data.selection text",
            spec->models[sub->model].name, (long long)shared,
            (long long)select.n);
done:
  ptq_windows_release(&calib);
  ptq_windows_release(&select);
  ptq_windows_release(&eval);
  ptq_requests_release(&requests);
  return rc;
}

ptq_status ptq_study_check_tokens(const ptq_study *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < s->grid.n_subjects && rc == PTQ_OK; i++)
    rc = check_subject(s, &s->grid.subjects[i], err);
  return rc;
}

/* Are a subject's texts tokens? */
static ptq_status is_prepared(const ptq_study *s, const ptq_subject *sub,
                              bool *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_spec *spec = &s->spec;
  const ptq_text_spec *texts[] = {&spec->calibrations[sub->calibration],
                                  &spec->selection,
                                  &spec->evaluations[sub->evaluation]};
  *out = true;
  for (size_t i = 0; i < sizeof texts / sizeof texts[0] && *out; i++)
    PTQ_TRY(ptq_tokens_exist(spec->path, texts[i],
                             spec->models[sub->model].path, out, err));
done:
  return rc;
}

ptq_status ptq_study_check_prepared(const ptq_study *s, bool *all,
                                    ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *all = true;
  for (int64_t i = 0; i < s->grid.n_subjects; i++) {
    bool there = false;
    PTQ_TRY(is_prepared(s, &s->grid.subjects[i], &there, err));
    if (there) PTQ_TRY(check_subject(s, &s->grid.subjects[i], err));
    *all = *all && there;
  }
done:
  return rc;
}

/* Group name of a subject's spectra: the model's, and the row where several
 * subjects share it. */
static void spectra_group(const ptq_study *s, int64_t subject, char *name,
                          size_t size) {
  const ptq_subject *sub = &s->grid.subjects[subject];
  const char *model = s->spec.models[sub->model].name;
  const bool shared = s->spec.n_calibrations * s->spec.n_evaluations > 1;
  memset(name, 0, size);
  (void)snprintf(name, size, shared ? "%s@%lld" : "%s", model,
                 (long long)subject);
}

static void fill_spectra(const ptq_study *s, ptq_spectrum_slot *slots) {
  for (int64_t i = 0; i < s->grid.n_subjects; i++) {
    const ptq_model_info *info = &s->grid.subjects[i].info;
    for (int j = 0; j < PTQ_SPECTRA_ROWS; j++, slots++) {
      *slots = (ptq_spectrum_slot){
          .subject = i,
          .n_blocks = info->n_blocks,
          .d = ptq_site_width(info, (int)ptq_spectra_site(j))};
      spectra_group(s, i, slots->group, sizeof slots->group);
      (void)ptq_text_copy(slots->site, sizeof slots->site, ptq_spectra_name(j));
    }
  }
}

static void fill_rows(const ptq_study *s, ptq_study_layout *l) {
  const ptq_grid *g = &s->grid;
  for (int64_t i = 0; i < g->n_points; i++) {
    const ptq_subject *sub = &g->subjects[g->points[i].subject];
    ptq_point_identity(g, i, s->numerics, &l->points[i]);
    l->point_subject[i] = g->points[i].subject;
    l->point_layers[i] = ptq_subject_layers(sub);
    l->point_windows[i] = s->spec.evaluations[sub->evaluation].windows;
    l->point_answers[i] = g->n_requests;
  }
  for (int64_t i = 0; i < g->n_subjects; i++) {
    ptq_subject_identity(g, i, &l->subjects[i]);
    l->subject_windows[i] =
        s->spec.evaluations[g->subjects[i].evaluation].windows;
    l->subject_answers[i] = g->n_requests;
  }
}

static ptq_status fill_directions(const ptq_study *s, ptq_study_layout *l,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_grid *g = &s->grid;
  const int64_t n = g->n_directions;
  PTQ_TRY(
      ptq_alloc(&l->directions, n, sizeof *l->directions, "directions", err));
  PTQ_TRY(
      ptq_alloc(&l->direction_rows, 3 * n, sizeof(int64_t), "directions", err));
  PTQ_TRY(ptq_alloc(&l->direction_parts, n, sizeof *l->direction_parts,
                    "directions", err));
  int64_t *steps = l->direction_rows, *layers = steps + n, *ritz = layers + n;
  for (int64_t i = 0; i < n; i++) {
    ptq_direction_size size;
    ptq_direction_identity(g, i, s->numerics, &l->directions[i]);
    ptq_direction_rows(g, i, &size);
    steps[i] = size.steps;
    layers[i] = size.layers;
    ritz[i] = size.ritz;
    memcpy(l->direction_parts[i], g->directions[i].radial_key, PTQ_HASH_HEX);
  }
  l->layout.n_directions = n;
  l->layout.directions = l->directions;
  l->layout.direction_steps = steps;
  l->layout.direction_layers = layers;
  l->layout.direction_ritz = ritz;
  l->layout.direction_parts = (const char(*)[PTQ_HASH_HEX])l->direction_parts;
done:
  return rc;
}

/* What every store of this program says, and more. */
static ptq_status fill_attributes(ptq_study_layout *l,
                                  const ptq_store_attribute *more,
                                  int64_t n_more, ptq_err *err) {
  static const ptq_store_attribute always[] = {
      {"bootstrap",
       "moving blocks of ceil(n^(1/3)) windows, 1000 resamples, seed the "
       "XXH3-64 of the point's key"},
      {"preset", "gptq: positions 1.. of windows cut without overlap"},
      {"landscape",
       "NLL at W + factor * D, W and D the weights of all linear layers in the "
       "blocks; size |D| / |W|, radius factor * size; kinds gaussian and "
       "uniform: |D| = |W| in every layer or every output row (scaling), kind "
       "rtn: D = RTN(W) - W, kind gptq likewise, with moments of W's inputs on "
       "the calibration text. Derivatives are of the calibration text's mean "
       "NLL in nats a token by these weights"},
      {"moments", "H = (1/n) sum x x', uncentred, undamped"},
  };
  enum { N_ALWAYS = sizeof always / sizeof always[0] };
  const ptq_status rc = ptq_alloc(&l->attributes, N_ALWAYS + n_more,
                                  sizeof *l->attributes, "attributes", err);
  if (rc != PTQ_OK) return rc;
  memcpy(l->attributes, always, sizeof always);
  if (n_more > 0)
    memcpy(l->attributes + N_ALWAYS, more, (size_t)n_more * sizeof *more);
  l->layout.attributes = l->attributes;
  l->layout.n_attributes = N_ALWAYS + n_more;
  return PTQ_OK;
}

ptq_status ptq_study_layout_make(const ptq_study *s,
                                 const ptq_store_attribute *more,
                                 int64_t n_more, ptq_study_layout *out,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_grid *g = &s->grid;
  const int64_t n = g->n_points, m = g->n_subjects;
  const int64_t n_spectra =
      s->spec.spectra == PTQ_SPECTRA_FULL ? m * PTQ_SPECTRA_ROWS : 0;
  *out = (ptq_study_layout){0};
  PTQ_TRY(ptq_alloc(&out->points, n, sizeof *out->points, "points", err));
  PTQ_TRY(ptq_alloc(&out->point_subject, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&out->point_layers, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&out->point_windows, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&out->point_answers, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&out->subject_answers, m, sizeof(int64_t), "models", err));
  PTQ_TRY(ptq_alloc(&out->subjects, m, sizeof *out->subjects, "models", err));
  PTQ_TRY(ptq_alloc(&out->subject_windows, m, sizeof(int64_t), "models", err));
  PTQ_TRY(ptq_alloc(&out->spectra, n_spectra, sizeof *out->spectra, "spectra",
                    err));
  fill_rows(s, out);
  if (n_spectra > 0) fill_spectra(s, out->spectra);
  out->layout = (ptq_store_layout){.spec_text = s->spec.text,
                                   .program_version = PTQ_VERSION,
                                   .numerics = s->numerics,
                                   .n_points = n,
                                   .points = out->points,
                                   .point_subject = out->point_subject,
                                   .point_layers = out->point_layers,
                                   .point_windows = out->point_windows,
                                   .point_answers = out->point_answers,
                                   .n_subjects = m,
                                   .subjects = out->subjects,
                                   .subject_windows = out->subject_windows,
                                   .subject_answers = out->subject_answers,
                                   .n_spectra = n_spectra,
                                   .spectra = out->spectra};
  PTQ_TRY(fill_directions(s, out, err));
  PTQ_TRY(fill_attributes(out, more, n_more, err));
  (void)ptq_text_copy(out->layout.fingerprint, sizeof out->layout.fingerprint,
                      g->fingerprint);
done:
  if (rc != PTQ_OK) ptq_study_layout_release(out);
  return rc;
}

void ptq_study_layout_release(ptq_study_layout *l) {
  ptq_free(l->points);
  ptq_free(l->point_subject);
  ptq_free(l->point_layers);
  ptq_free(l->point_windows);
  ptq_free(l->point_answers);
  ptq_free(l->subjects);
  ptq_free(l->subject_windows);
  ptq_free(l->subject_answers);
  ptq_free(l->spectra);
  ptq_free(l->directions);
  ptq_free(l->direction_rows);
  ptq_free(l->direction_parts);
  ptq_free(l->attributes);
  *l = (ptq_study_layout){0};
}
