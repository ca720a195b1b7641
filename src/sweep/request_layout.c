/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A request becomes a trunk, the tokens that all its choices' inputs begin
 * with, and a branch for each input that goes on from there. Requests go into
 * bundles in the order of the file, so that a bundle depends on the file, the
 * tokenizer and the model alone.
 */
#include "request_layout.h"

#include <inttypes.h>
#include <string.h>

#include "ptq/base/mem.h"

enum { COLUMNS = 6 };

/* One choice's input: all tokens but the last, the last `longest` of them. */
typedef struct input {
  const uint32_t *ids; /* borrowed */
  int64_t n;
  const uint32_t *choice; /* borrowed; the tokens to predict */
  int64_t n_choice;
} input;

static input input_of(const ptq_request_source *s, int64_t choice, int64_t at) {
  const int64_t *row = s->table + choice * COLUMNS;
  const int64_t whole = row[1] + row[2] - 1;
  const int64_t cut = whole > s->longest ? whole - s->longest : 0;
  return (input){.ids = s->ids + at + cut,
                 .n = whole - cut,
                 .choice = s->ids + at + row[1],
                 .n_choice = row[2]};
}

/* Tokens that all of n inputs begin with. */
static int64_t common(const ptq_model_info *info, const input *in, int64_t n) {
  int64_t shared = in[0].n, longest = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t k = 0;
    while (k < shared && k < in[i].n && in[i].ids[k] == in[0].ids[k]) k++;
    shared = k;
    if (in[i].n > longest) longest = in[i].n;
  }
  return n == 1 || ptq_bundle_may_share(info, longest) ? shared : 0;
}

static int64_t rows_of(const input *in, int64_t n, int64_t shared) {
  int64_t rows = shared;
  for (int64_t i = 0; i < n; i++) rows += in[i].n - shared;
  return rows;
}

/* n rows of one sequence behind what the bundle has, and its tokens. */
static int64_t add_branch(ptq_requests *r, ptq_bundle *b, const uint32_t *ids,
                          int64_t n, int64_t trunk, int64_t shared) {
  const int64_t start = b->n_rows;
  r->branches[r->n_branches++] =
      (ptq_branch){.start = start, .n = n, .trunk = trunk, .shared = shared};
  memcpy(r->ids + r->n_rows, ids + shared, (size_t)n * sizeof *ids);
  r->n_rows += n;
  b->n_rows += n;
  b->n_branches++;
  r->n_pairs += (double)n * ((double)shared + 0.5 * ((double)n + 1.0));
  return start;
}

/* The tokens to predict, each by the row before it. */
static void add_targets(ptq_requests *r, ptq_bundle *b, const input *in,
                        int64_t trunk, int64_t shared, int64_t start) {
  for (int64_t k = 0; k < in->n_choice; k++) {
    const int64_t position = in->n - in->n_choice + k;
    r->targets[r->n_targets++] = (ptq_target){
        .row = position < shared ? trunk + position : start + position - shared,
        .token = in->choice[k]};
    b->n_targets++;
  }
}

static void add_request(ptq_requests *r, ptq_bundle *b, const int64_t *table,
                        const input *in, int64_t n, int64_t shared) {
  const int64_t trunk =
      shared > 0 ? add_branch(r, b, in[0].ids, shared, 0, 0) : 0;
  for (int64_t i = 0; i < n; i++) {
    const int64_t *row = table + i * COLUMNS;
    const int64_t own = in[i].n - shared;
    const int64_t start =
        own > 0 ? add_branch(r, b, in[i].ids, own, trunk, shared) : 0;
    r->choices[r->n_choices++] =
        (ptq_choice){.request = row[0],
                     .target = r->n_targets,
                     .n_targets = in[i].n_choice,
                     .length = {[PTQ_PER_CHOICE] = 1,
                                [PTQ_PER_CHARACTER] = row[3],
                                [PTQ_PER_BYTE] = row[4],
                                [PTQ_PER_TOKEN] = row[2]},
                     .right = row[5] != 0};
    add_targets(r, b, &in[i], trunk, shared, start);
  }
}

/* The bundle that takes a request of so many rows: the last one, or a new one
 * where that is full. */
static ptq_bundle *bundle_for(ptq_requests *r, int64_t rows) {
  ptq_bundle *last = r->n_bundles > 0 ? &r->bundles[r->n_bundles - 1] : NULL;
  if (last != NULL && last->n_rows + rows <= PTQ_BUNDLE_ROWS) return last;
  last = &r->bundles[r->n_bundles++];
  *last = (ptq_bundle){
      .row = r->n_rows, .branch = r->n_branches, .target = r->n_targets};
  return last;
}

/* How much there can be of everything. */
static ptq_status reserve(const ptq_request_source *s, ptq_requests *r,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t choices = 0, tokens = 0, targets = 0;
  for (; choices < s->n_choices && s->table[choices * COLUMNS] < s->n;
       choices++) {
    tokens += s->table[choices * COLUMNS + 1] + s->table[choices * COLUMNS + 2];
    targets += s->table[choices * COLUMNS + 2];
  }
  PTQ_TRY(ptq_alloc(&r->first, s->n + 1, sizeof *r->first, "requests", err));
  PTQ_TRY(ptq_alloc(&r->choices, choices, sizeof *r->choices, "requests", err));
  PTQ_TRY(ptq_alloc(&r->targets, targets, sizeof *r->targets, "requests", err));
  PTQ_TRY(ptq_alloc(&r->ids, tokens, sizeof *r->ids, "requests", err));
  PTQ_TRY(ptq_alloc(&r->branches, s->n + choices, sizeof *r->branches,
                    "requests", err));
  PTQ_TRY(ptq_alloc(&r->bundles, s->n, sizeof *r->bundles, "requests", err));
done:
  return rc;
}

static ptq_status too_long(const ptq_request_source *s, const char *path,
                           int64_t request, int64_t tokens, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "request %" PRId64 " of '%s' (from 0) has a choice of "
                  "%" PRId64 " tokens, more than the %" PRId64
                  " that the model sees",
                  request, path, tokens, s->longest);
}

/* Rows that predict something, and the largest bundle. */
static ptq_status measure(ptq_requests *r, ptq_err *err) {
  unsigned char *seen = NULL;
  for (int64_t i = 0; i < r->n_bundles; i++)
    if (r->bundles[i].n_rows > r->longest_bundle)
      r->longest_bundle = r->bundles[i].n_rows;
  const ptq_status rc = ptq_alloc(&seen, r->n_rows, 1, "requests", err);
  for (int64_t i = 0; rc == PTQ_OK && i < r->n_bundles; i++)
    for (int64_t k = 0; k < r->bundles[i].n_targets; k++)
      seen[r->bundles[i].row + r->targets[r->bundles[i].target + k].row] = 1;
  for (int64_t i = 0; rc == PTQ_OK && i < r->n_rows; i++)
    r->n_predicting += seen[i];
  ptq_free(seen);
  return rc;
}

ptq_status ptq_request_layout(const ptq_request_source *s,
                              const ptq_model_info *info, const char *path,
                              ptq_requests *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  input *in = NULL;
  int64_t at = 0, room = 0;
  PTQ_TRY(reserve(s, out, err));
  for (int64_t c = 0; out->n < s->n; out->n++) {
    const int64_t *table = s->table + c * COLUMNS;
    int64_t n = 0;
    while (c + n < s->n_choices && table[n * COLUMNS] == out->n) n++;
    if (n == 0)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                       "tokens of the requests '%s' are of %" PRId64
                       " requests, not %" PRId64 "; remove the cache and run "
                       "sweeps/prepare.py again",
                       path, out->n, s->n));
    if (n > room) PTQ_TRY(ptq_grow(&in, room, n, sizeof *in, "choices", err));
    if (n > room) room = n;
    for (int64_t i = 0; i < n; i++) {
      in[i] = input_of(s, c + i, at);
      at += table[i * COLUMNS + 1] + table[i * COLUMNS + 2];
      if (in[i].n_choice > s->longest)
        PTQ_TRY(too_long(s, path, out->n, in[i].n_choice, err));
    }
    const int64_t shared = common(info, in, n);
    ptq_bundle *b = bundle_for(out, rows_of(in, n, shared));
    out->first[out->n] = out->n_choices;
    add_request(out, b, table, in, n, shared);
    c += n;
  }
  out->first[out->n] = out->n_choices;
  PTQ_TRY(measure(out, err));
done:
  ptq_free(in);
  return rc;
}
