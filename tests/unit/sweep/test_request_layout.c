/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every choice's input and targets, read back from its bundle, are those that
 * lm-eval would feed to the model. */
#include "request_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"

enum { COLUMNS = 6, MOST = 40000, CHOICES = 2000 };

typedef struct tokens {
  uint32_t ids[MOST];
  int64_t n;
  int64_t table[CHOICES * COLUMNS];
  int64_t n_choices;
} tokens;

static const ptq_model_info plain_model = {.d_model = 8, .vocab = 1000};

/* One choice: `shared` tokens counted from `first` on, then others. */
static void add(tokens *t, int64_t request, int64_t context, int64_t own,
                int64_t shared, uint32_t first, bool right) {
  const int64_t row[COLUMNS] = {request, context, own, 3 * own, 4 * own, right};
  memcpy(t->table + t->n_choices * COLUMNS, row, sizeof row);
  t->n_choices++;
  for (int64_t i = 0; i < context + own; i++)
    t->ids[t->n++] =
        (uint32_t)(i < shared ? first + i : 500 + (t->n_choices * 7 + i) % 400);
}

static void lay_out(const tokens *t, const ptq_model_info *info, int64_t n,
                    int64_t longest, ptq_requests *r) {
  const ptq_request_source s = {t->ids, t->table, t->n_choices, n, longest};
  ptq_err err = {0};
  *r = (ptq_requests){0};
  if (ptq_request_layout(&s, info, "file", r, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static const ptq_branch *branch_of_row(const ptq_requests *r,
                                       const ptq_bundle *b, int64_t row) {
  for (int64_t i = 0; i < b->n_branches; i++) {
    const ptq_branch *x = &r->branches[b->branch + i];
    if (row >= x->start && row < x->start + x->n) return x;
  }
  fail_msg("row %d is in no branch", (int)row);
  return NULL;
}

/* The sequence up to a row, by the branches; its length. */
static int64_t sequence_to(const ptq_requests *r, const ptq_bundle *b,
                           int64_t row, uint32_t *out) {
  const ptq_branch *x = branch_of_row(r, b, row);
  const uint32_t *ids = r->ids + b->row;
  const int64_t n = x->shared + row - x->start + 1;
  for (int64_t i = 0; i < n; i++)
    out[i] = ids[i < x->shared ? x->trunk + i : x->start + i - x->shared];
  return n;
}

static const ptq_bundle *bundle_of(const ptq_requests *r, int64_t target) {
  for (int64_t i = 0; i < r->n_bundles; i++)
    if (target >= r->bundles[i].target &&
        target < r->bundles[i].target + r->bundles[i].n_targets)
      return &r->bundles[i];
  fail_msg("target %d is in no bundle", (int)target);
  return NULL;
}

/* lm-eval: (context + choice)[-(longest + 1):][:-1], then the choice. */
static void check_all(const tokens *t, const ptq_requests *r, int64_t longest) {
  static uint32_t found[MOST];
  int64_t at = 0;
  for (int64_t c = 0; c < r->n_choices; c++) {
    const int64_t *row = t->table + c * COLUMNS;
    const int64_t whole = row[1] + row[2];
    const int64_t kept = whole > longest + 1 ? longest + 1 : whole;
    const ptq_choice *x = &r->choices[c];
    assert_int_equal(x->request, row[0]);
    assert_int_equal(x->n_targets, row[2]);
    assert_int_equal(x->length[PTQ_PER_CHARACTER], row[3]);
    assert_int_equal(x->length[PTQ_PER_BYTE], row[4]);
    assert_int_equal(x->length[PTQ_PER_TOKEN], row[2]);
    assert_int_equal(x->right, row[5]);
    assert_true(c >= r->first[row[0]] && c < r->first[row[0] + 1]);
    for (int64_t k = 0; k < row[2]; k++) {
      const ptq_target *target = &r->targets[x->target + k];
      const int64_t n =
          sequence_to(r, bundle_of(r, x->target + k), target->row, found);
      assert_int_equal(target->token, t->ids[at + row[1] + k]);
      assert_int_equal(n, kept - row[2] + k);
      assert_memory_equal(found, t->ids + at + whole - kept,
                          (size_t)n * sizeof *found);
    }
    at += whole;
  }
}

/* Branches cover a bundle's rows in order, trunks come before them. */
static void check_bundles(const ptq_requests *r) {
  int64_t rows = 0, branches = 0, targets = 0;
  for (int64_t i = 0; i < r->n_bundles; i++) {
    const ptq_bundle *b = &r->bundles[i];
    assert_int_equal(b->row, rows);
    assert_int_equal(b->branch, branches);
    assert_int_equal(b->target, targets);
    int64_t row = 0;
    for (int64_t k = 0; k < b->n_branches; k++) {
      const ptq_branch *x = &r->branches[b->branch + k];
      assert_int_equal(x->start, row);
      assert_true(x->n > 0 && x->trunk + x->shared <= x->start);
      row += x->n;
    }
    assert_int_equal(row, b->n_rows);
    assert_true(b->n_rows <= r->longest_bundle);
    rows += b->n_rows;
    branches += b->n_branches;
    targets += b->n_targets;
  }
  assert_int_equal(rows, r->n_rows);
  assert_int_equal(branches, r->n_branches);
  assert_int_equal(targets, r->n_targets);
}

static void choices_share_what_they_begin_with(void **state) {
  (void)state;
  static tokens t;
  ptq_requests r;
  t = (tokens){.n = 0};
  add(&t, 0, 10, 3, 10, 100, false);
  add(&t, 0, 10, 1, 10, 100, true); /* the context alone is its input */
  add(&t, 0, 10, 4, 10, 100, false);
  add(&t, 1, 5, 2, 3, 200, true); /* contexts that differ behind 3 tokens */
  add(&t, 1, 6, 2, 3, 200, false);
  add(&t, 2, 4, 6, 4, 300, true); /* one choice only */
  lay_out(&t, &plain_model, 3, 64, &r);
  check_all(&t, &r, 64);
  check_bundles(&r);
  assert_int_equal(r.n_bundles, 1);
  /* 10 + 2 + 0 + 3, 3 + 3 + 4, 9 */
  assert_int_equal(r.n_rows, 34);
  assert_int_equal(r.branches[0].n, 10);
  assert_int_equal(r.n_branches, 7);
  /* Each choice begins at the same row: 10's last predicts three first. */
  assert_int_equal(r.n_targets, 18);
  assert_int_equal(r.n_predicting, 16);
  ptq_requests_release(&r);
}

static void pairs_of_tokens_are_counted(void **state) {
  (void)state;
  static tokens t;
  ptq_requests r;
  t = (tokens){.n = 0};
  add(&t, 0, 4, 3, 4, 100, true); /* inputs of 6 tokens */
  add(&t, 0, 4, 3, 4, 100, false);
  lay_out(&t, &plain_model, 1, 64, &r);
  /* 4 tokens see 1 to 4; two branches of 2 see 5 and 6. */
  assert_true(r.n_pairs == 10.0 + 2.0 * 11.0);
  const ptq_request_size size = ptq_requests_size(&r);
  assert_int_equal(size.rows, 8);
  assert_int_equal(size.targets, 6);
  assert_int_equal(size.longest_bundle, 8);
  ptq_requests_release(&r);
}

static void what_is_too_long_loses_its_beginning(void **state) {
  (void)state;
  static tokens t;
  ptq_requests r;
  t = (tokens){.n = 0};
  add(&t, 0, 30, 3, 30, 100, true);
  add(&t, 0, 30, 5, 30, 100, false);
  add(&t, 1, 16, 1, 16, 100, true); /* just fits */
  lay_out(&t, &plain_model, 2, 16, &r);
  check_all(&t, &r, 16);
  check_bundles(&r);
  ptq_requests_release(&r);
}

static void bundles_are_cut_at_whole_requests(void **state) {
  (void)state;
  static tokens t;
  ptq_requests r;
  ptq_rng rng;
  ptq_rng_init(&rng, 3);
  t = (tokens){.n = 0};
  for (int64_t i = 0; i < 150; i++) {
    const int64_t context = 1 + (int64_t)ptq_rng_below(&rng, 90);
    const int64_t n = 1 + (int64_t)ptq_rng_below(&rng, 4);
    for (int64_t k = 0; k < n; k++)
      add(&t, i, context, 1 + (int64_t)ptq_rng_below(&rng, 12),
          context > 5 ? context - 2 : context, 100, k == 0);
  }
  /* One alone is longer than a bundle. */
  add(&t, 150, PTQ_BUNDLE_ROWS + 70, 2, PTQ_BUNDLE_ROWS, 10, true);
  lay_out(&t, &plain_model, 151, 2000, &r);
  check_all(&t, &r, 2000);
  check_bundles(&r);
  assert_true(r.n_bundles > 5);
  assert_int_equal(r.longest_bundle, PTQ_BUNDLE_ROWS + 71);
  for (int64_t i = 0; i + 1 < r.n_bundles; i++)
    assert_true(r.bundles[i].n_rows <= PTQ_BUNDLE_ROWS);
  /* A limit takes the first ones, laid out alike. */
  ptq_requests few;
  lay_out(&t, &plain_model, 20, 2000, &few);
  assert_int_equal(few.n, 20);
  assert_memory_equal(few.ids, r.ids, (size_t)few.n_rows * sizeof *r.ids);
  ptq_requests_release(&few);
  ptq_requests_release(&r);
}

static void longrope_keeps_sequences_whole(void **state) {
  (void)state;
  static tokens t;
  ptq_requests r;
  ptq_model_info info = plain_model;
  info.rope_long_from = 12;
  t = (tokens){.n = 0};
  add(&t, 0, 10, 2, 10, 100, true); /* 11 and 12 tokens: short */
  add(&t, 0, 10, 3, 10, 100, false);
  add(&t, 1, 10, 2, 10, 100, true); /* 11 and 13: one is long */
  add(&t, 1, 10, 4, 10, 100, false);
  lay_out(&t, &info, 2, 64, &r);
  check_all(&t, &r, 64);
  assert_int_equal(r.n_rows, 10 + 1 + 2 + 11 + 13);
  ptq_requests_release(&r);
}

static void what_does_not_fit_is_refused(void **state) {
  (void)state;
  static tokens t;
  ptq_requests r = {0};
  ptq_err err = {0};
  t = (tokens){.n = 0};
  add(&t, 0, 3, 2, 3, 100, true);
  add(&t, 1, 3, 9, 3, 100, true);
  const ptq_request_source s = {t.ids, t.table, 2, 2, 8};
  assert_int_equal(ptq_request_layout(&s, &plain_model, "x.jsonl", &r, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "request 1 of 'x.jsonl'"));
  assert_non_null(strstr(err.msg, "9 tokens, more than the 8"));
  ptq_requests_release(&r);
  err = (ptq_err){0};
  const ptq_request_source more = {t.ids, t.table, 2, 3, 64};
  assert_int_equal(ptq_request_layout(&more, &plain_model, "x.jsonl", &r, &err),
                   PTQ_E_FORMAT);
  assert_non_null(strstr(err.msg, "are of 2 requests, not 3"));
  ptq_requests_release(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(choices_share_what_they_begin_with),
      cmocka_unit_test(pairs_of_tokens_are_counted),
      cmocka_unit_test(what_is_too_long_loses_its_beginning),
      cmocka_unit_test(bundles_are_cut_at_whole_requests),
      cmocka_unit_test(longrope_keeps_sequences_whole),
      cmocka_unit_test(what_does_not_fit_is_refused),
  };
  return cmocka_run_group_tests_name("sweep/request_layout", tests, NULL, NULL);
}
