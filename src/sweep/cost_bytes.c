/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory of one rank, counted from what the batch runner allocates. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collect.h"
#include "ptq/eval/score.h"
#include "ptq/model/forward.h"
#include "ptq/record/rows.h"
#include "ptq/sweep/cost.h"

enum {
  /* The program, MPI, HDF5, BLAS buffers, one text's tokens. */
  BASE_BYTES = 96 << 20,
  FLOAT = (int)sizeof(float),
  DOUBLE = (int)sizeof(double)
};

/* Sizes of a model that several terms share, in elements. */
typedef struct sizes {
  int64_t weights;       /* linear layers of a block */
  int64_t packed;        /* bytes of the same as bf16 products take them */
  int64_t largest;       /* largest of them */
  int64_t site;          /* those of the largest site together */
  int64_t outputs;       /* of a block's linear layers, a token */
  int64_t squares;       /* sum over sites of width^2 */
  int64_t widest_square; /* largest width^2 */
  int64_t calib, select, eval; /* hidden states of the texts */
  int64_t select_tokens, eval_tokens, longest;
} sizes;

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static sizes measure(const ptq_grid *g, int64_t subject) {
  const ptq_subject *sub = &g->subjects[subject];
  const ptq_model_info *info = &sub->info;
  const ptq_text_spec *calib = &g->spec->calibrations[sub->calibration];
  const ptq_text_spec *eval = &g->spec->evaluations[sub->evaluation];
  const ptq_text_spec *select = &g->spec->selection;
  sizes s = {0};
  int64_t at_site[PTQ_SITE_COUNT] = {0};
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    const int64_t out = ptq_role_outputs(info, (ptq_role)role);
    const int64_t n = out * ptq_role_inputs(info, (ptq_role)role);
    s.weights += n;
    if (info->compute == PTQ_COMPUTE_BF16)
      s.packed += ptq_packed_bytes(out, ptq_role_inputs(info, (ptq_role)role));
    s.largest = larger(s.largest, n);
    s.outputs += out;
    int64_t *site = &at_site[ptq_role_site((ptq_role)role)];
    *site += n;
    s.site = larger(s.site, *site);
  }
  for (int site = 0; site < PTQ_SITE_COUNT; site++) {
    const int64_t d = ptq_site_width(info, (ptq_site)site);
    s.squares += d * d;
    s.widest_square = larger(s.widest_square, d * d);
  }
  s.select_tokens = select->windows * select->length;
  s.eval_tokens = eval->windows * eval->length;
  s.calib = calib->windows * calib->length * info->d_model;
  s.select = s.select_tokens * info->d_model;
  s.eval = s.eval_tokens * info->d_model;
  s.longest = larger(calib->length, larger(select->length, eval->length));
  return s;
}

/* Embedding while the streams start, head while they are scored: never both,
 * and positions count with the embedding. */
static int64_t vocabulary_bytes(const ptq_model_info *info) {
  const int64_t embedding =
      FLOAT * info->d_model * (info->vocab + ptq_position_rows(info));
  if (info->compute == PTQ_COMPUTE_F32) return embedding;
  /* The head while it is packed. */
  const int64_t head = FLOAT * info->d_model * info->vocab +
                       ptq_packed_bytes(info->vocab, info->d_model);
  return larger(embedding, head);
}

void ptq_load_add(ptq_load *l, const ptq_grid *g, int64_t point) {
  const ptq_point *p = &g->points[point];
  const ptq_model_info *info = &g->subjects[p->subject].info;
  const ptq_method *m = &g->spec->methods[p->method];
  l->points++;
  if (ptq_method_is_sequential(m)) {
    l->sequential++;
    l->own_needs |= ptq_method_needs(m);
  } else {
    l->needs |= ptq_method_needs(m);
    if (m->family->mode(m) == PTQ_CALIB_STATIC)
      l->methods |= UINT64_C(1) << (p->method % 64);
  }
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (m->family->bytes == NULL || !ptq_role_present(info, (ptq_role)role))
      continue;
    const double bytes =
        m->family->bytes(m, ptq_role_outputs(info, (ptq_role)role),
                         ptq_role_inputs(info, (ptq_role)role));
    if (bytes > l->method_bytes) l->method_bytes = bytes;
  }
}

/* Sets of factors that are kept at the same time: each static method's on the
 * shared H, and those of the sequential point at hand. */
static int64_t factor_sets(const ptq_load *l) {
  int64_t n = l->sequential > 0;
  for (uint64_t left = l->methods; left != 0; left &= left - 1) n++;
  return n;
}

/* What methods ask of the calibration text beside H. */
static int64_t needs_bytes(const ptq_grid *g, int64_t subject, const sizes *s,
                           const ptq_load *l) {
  const ptq_model_info *info = &g->subjects[subject].info;
  const ptq_text_spec *calib =
      &g->spec->calibrations[g->subjects[subject].calibration];
  int64_t bytes = ptq_collected_bytes(
      info, l->needs & ~(unsigned)PTQ_NEED_CROSS, calib->length);
  if (l->sequential > 0)
    bytes += ptq_collected_bytes(info, l->own_needs, calib->length);
  if (l->own_needs & PTQ_NEED_CROSS) bytes += FLOAT * s->calib;
  if ((l->needs | l->own_needs) & PTQ_NEED_MODULE_LOSS) {
    const int64_t windows = calib->windows < PTQ_MODULE_WINDOWS
                                ? calib->windows
                                : PTQ_MODULE_WINDOWS;
    bytes += 4 * FLOAT * windows * calib->length * info->d_model;
  }
  return bytes;
}

int64_t ptq_batch_bytes(const ptq_grid *g, int64_t subject, const ptq_load *l) {
  const ptq_subject *sub = &g->subjects[subject];
  const ptq_model_info *info = &sub->info;
  const sizes s = measure(g, subject);
  const int64_t eval_windows = g->spec->evaluations[sub->evaluation].windows;
  /* The reference: a block, its streams, moments (double and scratch), H of
   * both texts (float), outputs, a product. */
  const int64_t reference = FLOAT * (s.weights + 4 * info->d_model) +
                            FLOAT * (s.calib + s.select + s.eval) +
                            s.squares * (DOUBLE + FLOAT + FLOAT + FLOAT) +
                            FLOAT * s.select_tokens * s.outputs +
                            FLOAT * s.largest + s.packed;
  /* The workbench: quantized weights, error, codes, parameters (at most one
   * pair of floats a weight), hidden states, and inside a method a copy of the
   * weights in double and their feedback, H in the making, and factors. */
  const int64_t bench =
      FLOAT * (s.weights + s.largest) + 2 * s.site + 8 * s.site +
      (DOUBLE + FLOAT) * s.largest + FLOAT * s.longest * info->d_model +
      FLOAT * (3 * info->d_model + 4 * info->d_ff) + DOUBLE * s.widest_square +
      factor_sets(l) * DOUBLE * s.squares + (int64_t)l->method_bytes + s.packed;
  /* A point: streams, layer rows, scores a window, KL a position. */
  const int64_t point =
      FLOAT * (s.select + s.eval) +
      ptq_subject_layers(sub) * (int64_t)sizeof(ptq_layer_row) +
      eval_windows *
          (int64_t)(sizeof(ptq_window_row) + sizeof(ptq_window_score)) +
      FLOAT * s.eval_tokens;
  return BASE_BYTES + reference + needs_bytes(g, subject, &s, l) + bench +
         ptq_workspace_bytes(info, s.longest) + vocabulary_bytes(info) +
         ptq_scorer_bytes(info, g->spec->evaluations[sub->evaluation].length,
                          l->points) +
         l->points * point + l->sequential * FLOAT * s.calib;
}

int64_t ptq_subject_bytes(const ptq_grid *g, int64_t subject) {
  const ptq_subject *sub = &g->subjects[subject];
  const ptq_model_info *info = &sub->info;
  const sizes s = measure(g, subject);
  int64_t bytes =
      BASE_BYTES + FLOAT * (s.weights + 4 * info->d_model) + s.packed +
      FLOAT * s.eval + ptq_workspace_bytes(info, s.longest) +
      vocabulary_bytes(info) +
      ptq_scorer_bytes(info, g->spec->evaluations[sub->evaluation].length, 0);
  /* Two moments a site; H and the eigenvalue solver's copy. */
  if (g->spec->spectra == PTQ_SPECTRA_FULL)
    bytes += FLOAT * s.calib + 2 * s.squares * (DOUBLE + FLOAT) +
             2 * DOUBLE * s.widest_square;
  return bytes;
}

ptq_status ptq_bytes_parse(const char *text, int64_t *out, ptq_err *err) {
  /* clang-format off */
  static const struct { const char *suffix; double factor; } units[] = {
    {"", 1.0},      {"B", 1.0},
    {"kB", 1e3},    {"KB", 1e3},    {"MB", 1e6},    {"GB", 1e9},
    {"TB", 1e12},
    {"K", 0x1p10},  {"M", 0x1p20},  {"G", 0x1p30},  {"T", 0x1p40},
    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
  };
  /* clang-format on */
  char *end = NULL;
  *out = 0;
  const size_t n = strspn(text, "0123456789.eE+");
  const double value = n > 0 ? strtod(text, &end) : -1.0;
  if (end == text + n) {
    while (*end == ' ') end++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
      if (strcmp(end, units[i].suffix) != 0) continue;
      const double bytes = value * units[i].factor;
      if (!(bytes >= 1.0) || bytes > 0x1p60) break;
      *out = (int64_t)bytes;
      return PTQ_OK;
    }
  }
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "'%s' is not an amount of memory such as 4GB, 512MiB or 2e9",
                  text);
}

void ptq_bytes_name(int64_t bytes, char name[24]) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double v = (double)bytes;
  size_t i = 0;
  for (; v >= 1024.0 && i + 1 < sizeof units / sizeof units[0]; i++)
    v /= 1024.0;
  snprintf(name, 24, v < 10.0 && i > 0 ? "%.1f %s" : "%.0f %s", v, units[i]);
}
