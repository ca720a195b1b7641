/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory of one rank, counted from what the batch runner allocates: the most
 * of what stands while texts are embedded, blocks are walked and windows are
 * scored. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block_loss.h"
#include "derivatives.h"
#include "displaced.h"
#include "lane.h"
#include "ptq/eval/score.h"
#include "ptq/model/forward.h"
#include "ptq/record/rows.h"
#include "ptq/sweep/cost.h"
#include "ptq/sweep/landscape.h"
#include "profile.h"
#include "reference.h"
#include "sensitivity.h"
#include "spectra.h"
#include "workbench.h"

enum {
  /* The program, MPI, HDF5, BLAS buffers, one text's tokens. */
  BASE_BYTES = 56 << 20,
  TEAM_BYTES = 5 << 20, /* what things go round in */
  FLOAT = (int)sizeof(float),
  DOUBLE = (int)sizeof(double)
};

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static int64_t base_bytes(const ptq_texts *t) {
  return BASE_BYTES + (t->room.ranks > 1 ? TEAM_BYTES : 0);
}

static int64_t stream_bytes(const ptq_model_info *info, const ptq_texts *t,
                            const ptq_text_spec *text) {
  return ptq_spool_bytes(t->room, text->windows, text->length * info->d_model);
}

static int64_t longest(const ptq_subject *sub, const ptq_texts *t) {
  const int64_t text = larger(t->select->length, t->eval->length);
  return larger(larger(t->calib->length, text), sub->requests.longest_bundle);
}

/* Further threads' tiles of rows of a layer, of which methods count one. */
static double tile_bytes(const ptq_grid *g, int64_t out, int64_t in) {
  enum { TILE_ROWS = 256, ELEMENT = 10 /* bytes */ };
  const int64_t tiles = (out + TILE_ROWS - 1) / TILE_ROWS;
  const int64_t hands = ptq_room_of(g).hands;
  const int64_t further = (hands < tiles ? hands : tiles) - 1;
  return (double)(further * TILE_ROWS * ELEMENT * in);
}

/* What a method takes for a layer of the model. */
static double method_bytes(const ptq_grid *g, const ptq_method *m,
                           const ptq_model_info *info, ptq_role role) {
  const int64_t out = ptq_role_outputs(info, role);
  const int64_t in = ptq_role_inputs(info, role);
  double bytes =
      m->family->lean ? 0.0 : (DOUBLE + FLOAT) * (double)out * (double)in;
  if (m->family->bytes != NULL)
    bytes += m->family->bytes(m, out, in) + tile_bytes(g, out, in);
  return bytes;
}

void ptq_load_add(ptq_load *l, const ptq_grid *g, int64_t point) {
  const ptq_point *p = &g->points[point];
  const ptq_model_info *info = &g->subjects[p->subject].info;
  const ptq_method *m = &g->spec->methods[p->method];
  /* What a team's ranks share none of them may overwrite. */
  const bool spends = ptq_room_of(g).ranks == 1 &&
                      m->family->spends_h != NULL && m->family->spends_h(m);
  const int64_t group = ptq_point_least_group(g, point);
  l->points++;
  if (group > 0 && (l->smallest_group == 0 || group < l->smallest_group))
    l->smallest_group = group;
  l->spent = false;
  if (ptq_method_is_sequential(m)) {
    l->sequential++;
    l->own_needs |= ptq_method_needs(m);
    l->own_factors = l->own_factors || !spends;
  } else {
    l->needs |= ptq_method_needs(m);
    if (m->family->mode(m) == PTQ_CALIB_STATIC) {
      l->statics++;
      l->methods |= UINT64_C(1) << (p->method % 64);
      l->spent = spends && l->points == 1;
    }
  }
  l->backward = l->backward || m->family->backward;
  if (m->family->tune_block != NULL) {
    const double bytes =
        m->family->tuning_bytes(m, info->params_quantizable / info->n_blocks);
    l->tuned++;
    if (bytes > l->tuning_bytes) l->tuning_bytes = bytes;
  }
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    double *most = &l->method_bytes[ptq_role_site((ptq_role)role)];
    const double bytes = method_bytes(g, m, info, (ptq_role)role);
    if (bytes > *most) *most = bytes;
  }
}

/* Factors of H that are there at a kind of site: each static method's of all
 * sites, of this one where the batch has one point, and those of the
 * sequential point at hand. */
static int64_t factor_bytes(const ptq_model_info *info, const ptq_load *l,
                            int kind) {
  int64_t squares = 0, methods = 0;
  const int64_t d = ptq_site_width(info, kind);
  for (int site = 0; site < ptq_site_count(info); site++) {
    const int64_t width = ptq_site_width(info, site);
    squares += width * width;
  }
  for (uint64_t left = l->methods; left != 0; left &= left - 1) methods++;
  int64_t elements = l->own_factors ? d * d : 0;
  if (l->points > 1)
    elements += methods * squares;
  else if (!l->spent)
    elements += methods * d * d;
  return DOUBLE * elements;
}

/* The requests: tokens and targets, */
static int64_t request_token_bytes(const ptq_subject *sub) {
  const ptq_request_size *r = &sub->requests;
  return r->rows * (int64_t)(sizeof(uint32_t) + sizeof(ptq_branch)) +
         r->targets * (int64_t)(sizeof(ptq_target) + sizeof(ptq_target_score));
}

/* hidden states of one model, of which a team's ranks have whole bundles, */
static int64_t request_state_bytes(const ptq_subject *sub, const ptq_texts *t) {
  const ptq_request_size *r = &sub->requests;
  const int64_t share = ptq_room_share(t->room, r->rows);
  const int64_t rows = t->room.ranks > 1 ? share + r->longest_bundle : r->rows;
  return FLOAT * (rows < r->rows ? rows : r->rows) * sub->info.d_model;
}

/* logits, answers of reference and point, rows. */
static int64_t request_scoring_bytes(const ptq_subject *sub, int hands) {
  const ptq_request_size *r = &sub->requests;
  if (r->n == 0) return 0;
  return hands * ptq_target_scorer_bytes(&sub->info, r->longest_bundle) +
         r->n * (int64_t)(2 * sizeof(ptq_answer) +
                          sizeof(ptq_baseline_answer_row));
}

/* Rows that are still kept at a kind of site. */
static int64_t kept_bytes(const ptq_collected_size *s, const ptq_load *l,
                          int kind) {
  int64_t bytes = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    if (l->points > 1 || (l->backward ? k <= kind : k >= kind))
      bytes += s->kept[k];
  return bytes;
}

static int64_t most_built(const ptq_collected_size *s) {
  int64_t most = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) most = larger(most, s->built[k]);
  return most;
}

/* What is there while sites are quantized, at the kind that takes most. */
static int64_t quantize_bytes(const ptq_model_info *info, const ptq_load *l,
                              const ptq_reference_size *r,
                              const ptq_workbench_size *b) {
  int64_t most = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    int64_t built = r->calib.built[k] + b->inputs.built[k];
    /* One of them may be left from the point before. */
    if (l->points > 1) built = most_built(&r->calib) + most_built(&b->inputs);
    most = larger(
        most, built + b->site[k] + kept_bytes(&r->calib, l, k) +
                  kept_bytes(&r->select, l, k) + kept_bytes(&b->inputs, l, k) +
                  factor_bytes(info, l, k) + (int64_t)l->method_bytes[k]);
  }
  return most;
}

/* What is there while inputs are collected, of all kinds. */
static int64_t collect_bytes(const ptq_reference_size *r,
                             const ptq_workbench_size *b) {
  int64_t kept = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    kept += r->calib.kept[k] + r->select.kept[k] + b->inputs.kept[k];
  return kept + larger(r->calib.sums, larger(r->select.sums, b->inputs.sums));
}

/* Of a point: what it has in the blocks, and what scoring takes of it. */
static int64_t lane_bytes(const ptq_subject *sub, const ptq_texts *t) {
  const int64_t windows = t->eval->windows;
  return stream_bytes(&sub->info, t, t->eval) +
         ptq_subject_layers(sub) * (int64_t)sizeof(ptq_layer_row) +
         windows * (int64_t)sizeof(ptq_window_score) +
         FLOAT * windows * t->eval->length;
}

/* While one tunes a block; what it found stands until its last site. */
static int64_t tune_bytes(const ptq_model_info *info, const ptq_load *l,
                          const ptq_texts *t) {
  if (l->tuned == 0) return 0;
  return (int64_t)l->tuning_bytes +
         ptq_block_probe_bytes(info, t->room.hands, t->calib->length);
}

int64_t ptq_batch_bytes(const ptq_grid *g, int64_t subject, const ptq_load *l) {
  const ptq_subject *sub = &g->subjects[subject];
  const ptq_model_info *info = &sub->info;
  const ptq_texts t = ptq_texts_of(g, subject);
  const int64_t eval = stream_bytes(info, &t, t.eval);
  const int64_t requests = request_state_bytes(sub, &t);
  const int64_t streams = eval + requests + stream_bytes(info, &t, t.calib) +
                          stream_bytes(info, &t, t.select);
  const int64_t lanes = l->points * (lane_bytes(sub, &t) + requests);
  const ptq_reference_size r = ptq_reference_bytes(info, &t, l);
  const ptq_workbench_size b = ptq_workbench_bytes(info, &t, l);
  const int64_t walk =
      larger(quantize_bytes(info, l, &r, &b), collect_bytes(&r, &b)) + r.fixed +
      r.calib.fixed + r.select.fixed + b.fixed + b.inputs.fixed + streams +
      lanes + l->points * stream_bytes(info, &t, t.select) +
      (l->sequential + l->tuned) * stream_bytes(info, &t, t.calib) +
      tune_bytes(info, l, &t) +
      ptq_hands_bytes(info, t.room.hands, longest(sub, &t));
  const int64_t score =
      ptq_model_head_bytes(info) + eval + requests + lanes +
      t.eval->windows * (int64_t)sizeof(ptq_window_row) +
      larger(t.room.hands * ptq_scorer_bytes(info, t.eval->length, l->points),
             request_scoring_bytes(sub, t.room.hands));
  const int64_t start = ptq_model_embedding_bytes(info) + streams;
  return base_bytes(&t) + request_token_bytes(sub) +
         larger(start, larger(walk, score));
}

int64_t ptq_subject_bytes(const ptq_grid *g, int64_t subject) {
  const ptq_subject *sub = &g->subjects[subject];
  const ptq_model_info *info = &sub->info;
  const ptq_texts t = ptq_texts_of(g, subject);
  int64_t streams =
      stream_bytes(info, &t, t.eval) + request_state_bytes(sub, &t);
  int64_t spectra = 0;
  const int64_t score =
      ptq_model_head_bytes(info) + streams +
      larger(t.room.hands * ptq_scorer_bytes(info, t.eval->length, 0),
             request_scoring_bytes(sub, t.room.hands));
  if (g->spec->spectra == PTQ_SPECTRA_FULL) {
    streams += stream_bytes(info, &t, t.calib);
    spectra =
        ptq_spectra_bytes(info, t.room, t.calib->windows, t.calib->length);
  }
  const int64_t walk = streams + ptq_model_block_bytes(info) +
                       ptq_hands_bytes(info, t.room.hands, longest(sub, &t)) +
                       spectra;
  const int64_t start = ptq_model_embedding_bytes(info) + streams;
  return base_bytes(&t) + request_token_bytes(sub) +
         larger(start, larger(walk, score));
}

int64_t ptq_direction_bytes(const ptq_grid *g, int64_t direction) {
  const ptq_direction *d = &g->directions[direction];
  const ptq_subject *sub = &g->subjects[d->subject];
  const ptq_model_info *info = &sub->info;
  ptq_texts t = ptq_texts_of(g, d->subject);
  const int64_t windows = t.eval->windows;
  t.room = ptq_room_alone(t.room); /* one rank of a team does it */
  ptq_direction_size n;
  ptq_direction_rows(g, direction, &n);
  int64_t at_once = ptq_profile_lanes(n.steps);
  if (d->kind == PTQ_DIRECTION_SENSITIVITY)
    at_once = ptq_sensitivity_lanes(info);
  int64_t lane =
      stream_bytes(info, &t, t.eval) + windows * (int64_t)sizeof(double);
  if (g->spec->landscape.mode == PTQ_LANDSCAPE_FULL &&
      d->kind != PTQ_DIRECTION_SENSITIVITY)
    lane += stream_bytes(info, &t, t.calib);
  const int64_t lanes =
      at_once * lane + n.steps * (int64_t)sizeof(ptq_profile_row);
  const int64_t walk = ptq_model_block_bytes(info) +
                       ptq_displacer_bytes(info, d->kind) +
                       ptq_hands_bytes(info, t.room.hands, longest(sub, &t));
  const int64_t score =
      ptq_model_head_bytes(info) +
      t.room.hands *
          ptq_scorer_bytes(info, larger(t.eval->length, t.calib->length), 0);
  int64_t start = ptq_model_embedding_bytes(info);
  if (d->kind == PTQ_DIRECTION_SENSITIVITY)
    start += ptq_displacer_bytes(info, d->kind);
  int64_t most = at_once > 0 ? lanes + larger(start, larger(walk, score)) : 0;
  if (d->kind != PTQ_DIRECTION_SENSITIVITY &&
      g->spec->landscape.mode == PTQ_LANDSCAPE_FULL)
    most = larger(most, ptq_derivatives_bytes(g, direction));
  most += ptq_displaced_left_bytes(g, direction);
  if (ptq_displaced_is_needed(g, direction))
    most = larger(most, ptq_displaced_bytes(g, direction));
  return BASE_BYTES + request_token_bytes(sub) + most;
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
