/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ptq/analysis/mixed.h"
#include "ptq/analysis/report.h"
#include "ptq/base/file.h"
#include "synthetic_store.h"

static tables table;
static char dir[512], store_path[600];

/* In tables_synthetic a model has 32 points: 8 dtypes of rtn and gptq in two
 * groups; this is mxint4, gptq, 32, whose bits are 4.25. */
enum { PER_MODEL = 32, MIXED_AT = 2 * 4 + 2 };

/* Best gptq point within bits + 0.01 of a model's others. */
static int64_t best_of(int64_t model, double bits) {
  int64_t best = -1;
  for (int64_t i = model * PER_MODEL; i < (model + 1) * PER_MODEL; i++) {
    const ptq_point_row *p = &table.points[i];
    if (i % PER_MODEL == MIXED_AT || strcmp(p->method, "gptq") != 0 ||
        p->bits_per_weight > bits + 0.01)
      continue;
    if (best < 0 || p->dnll < table.points[best].dnll) best = i;
  }
  return best;
}

/* Each model's point becomes a mixture of 0.7 times the best uniform loss. */
static void make_mixtures(void) {
  const synthetic_law law = {.intercept = 5.2,
                             .params = -0.2,
                             .bits = -1.2,
                             .gptq = -0.4,
                             .noise = 0.1,
                             .floor = 1e-5};
  tables_synthetic(&table, &law, 3);
  for (int64_t m = 0; m < table.n_models; m++) {
    ptq_point_row *p = &table.points[m * PER_MODEL + MIXED_AT];
    assert_string_equal(p->dtype, "mxint4");
    assert_string_equal(p->method, "gptq");
    (void)ptq_text_copy(
        p->dtype, sizeof p->dtype,
        m == 0 ? "mixed:by hand-0123abcd" : "mixed:probed-0123abcd");
    p->dnll = 0.7 * table.points[best_of(m, p->bits_per_weight)].dnll;
    p->nll = table.models[m].nll + p->dnll;
  }
}

static void write_and_open(ptq_view **view, ptq_frame *frame) {
  ptq_err err = {0};
  (void)remove(store_path);
  if (synthetic_store(&table, store_path, &err) != PTQ_OK ||
      ptq_view_open(store_path, view, &err) != PTQ_OK ||
      ptq_frame_from_view(*view, frame, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void points_stand_beside_prediction_and_uniform_format(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_mixed m = {0};
  ptq_err err = {0};
  make_mixtures();
  synthetic_spec =
      "name: synthetic\ngrid:\n  dtype:\n    - int4\n"
      "    - {mixed: probed, default: int4, models: opt-*, predicted: 9}\n"
      "    - {mixed: probed, default: int4, models: [llama-*],\n"
      "       predicted: [0.5, 0.25, 1]}\n";
  write_and_open(&view, &frame);
  if (ptq_mixed_compare(view, &frame, &m, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  assert_int_equal(m.n, 10);
  for (int64_t i = 0; i < m.n; i++) {
    const ptq_mixed_row *r = &m.row[i];
    const int64_t at = best_of(i, r->obs->point->bits_per_weight);
    assert_ptr_equal(r->uniform, &frame.obs[at]);
    assert_true(r->uniform->point->bits_per_weight <= 4.26);
    assert_true(fabs(r->difference + 0.3 / 0.7 * r->obs->point->dnll) < 1e-9);
    assert_true(r->difference_se >= 0.0 && isfinite(r->difference_se));
    assert_true(isfinite(r->equal_bits));
    assert_int_equal(r->ahead, i > 0); /* by hand: of its layers */
    assert_true(isfinite(r->predicted.dnll));
  }
  assert_true(m.row[1].predicted.dnll == 0.5 && m.row[1].predicted.low == 0.25);
  assert_true(m.row[5].predicted.dnll == 9.0 && isnan(m.row[5].predicted.low));
  assert_int_equal(m.within.n_models, 10);
  assert_true(fabs(m.within.ratio - 0.7) < 1e-9);
  assert_true(fabs(m.within.low - 0.7) < 1e-6);
  assert_true(fabs(m.within.high - 0.7) < 1e-6);
  assert_int_equal(m.n_worse, 0);
  assert_int_equal(m.n_predicted, 10);
  ptq_text text = {0};
  ptq_mixed_text(&m, &text);
  assert_non_null(strstr(ptq_text_str(&text), "mixed:probed-0123abcd"));
  assert_non_null(strstr(ptq_text_str(&text), "0.700 [0.700, 0.700]"));
  ptq_text_release(&text);
  ptq_mixed_release(&m);
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

/* Of a pair by hand: (4, 0.2) and (5, 0.05) have 0.1 at 4.5 between them. */
static void equal_bits_are_read_off_the_lower_envelope(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_mixed m = {0};
  make_mixtures();
  table.n_points = PER_MODEL;
  table.n_models = 1;
  for (int64_t i = 0; i < PER_MODEL; i++) {
    ptq_point_row *p = &table.points[i];
    const bool low = i % 8 < 4; /* mxint2, mxint4, mxint6, int4 */
    p->bits_per_weight = low ? 4.0 : 5.0;
    p->dnll = low ? 0.2 : 0.05;
    if (i == 3) p->dnll = 0.9; /* above the envelope */
  }
  table.points[MIXED_AT].bits_per_weight = 4.5;
  table.points[MIXED_AT].dnll = 0.08;
  synthetic_spec = "name: synthetic\n";
  write_and_open(&view, &frame);
  assert_int_equal(ptq_mixed_compare(view, &frame, &m, NULL), PTQ_OK);
  assert_int_equal(m.n, 1);
  assert_true(fabs(m.row[0].equal_bits - 0.1) < 1e-12);
  assert_true(m.row[0].uniform->point->dnll == 0.2);
  assert_true(isnan(m.within.low)); /* one model has no interval */
  assert_true(fabs(m.within.ratio - 0.4) < 1e-12);
  assert_true(fabs(m.fewer - 0.5) < 1e-12);
  assert_true(m.row[0].equal_clear);
  assert_int_equal(m.equal.n_pairs, 1);
  assert_true(fabs(m.equal.ratio - 0.8) < 1e-12 && isnan(m.equal.low));
  ptq_text text = {0};
  ptq_mixed_text(&m, &text);
  assert_non_null(strstr(ptq_text_str(&text), "of one model, so without an"));
  assert_non_null(
      strstr(ptq_text_str(&text),
             "dnll over that of the best uniform format with at most its "
             "bits, both above noise: 0.400 of one model"));
  assert_non_null(strstr(ptq_text_str(&text), "0.500 bits fewer"));
  assert_non_null(strstr(ptq_text_str(&text),
                         "uniform formats at equal bits, all above noise: "
                         "0.800 of one model"));
  assert_null(strstr(ptq_text_str(&text), "nan"));
  ptq_text_release(&text);
  ptq_mixed_release(&m);
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

/* The same pair, of which what has more bits lies within noise. */
static void noise_at_an_end_of_the_envelope_is_no_rival(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_mixed m = {0};
  make_mixtures();
  table.n_points = PER_MODEL;
  table.n_models = 1;
  for (int64_t i = 0; i < PER_MODEL; i++) {
    ptq_point_row *p = &table.points[i];
    const bool low = i % 8 < 4;
    p->bits_per_weight = low ? 4.0 : 5.0;
    p->dnll = low ? 0.2 : 0.05;
    p->dnll_se = low ? 0.01 : 0.04;
  }
  table.points[MIXED_AT].bits_per_weight = 4.5;
  table.points[MIXED_AT].dnll = 0.08;
  synthetic_spec = "name: synthetic\n";
  write_and_open(&view, &frame);
  assert_int_equal(ptq_mixed_compare(view, &frame, &m, NULL), PTQ_OK);
  assert_true(fabs(m.row[0].equal_bits - 0.1) < 1e-12);
  assert_false(m.row[0].equal_clear);
  assert_int_equal(m.equal.n_pairs, 0);
  assert_int_equal(m.any.n_pairs, 1);
  assert_true(fabs(m.any.ratio - 0.8) < 1e-12);
  assert_int_equal(m.within.n_pairs, 1);
  ptq_mixed_release(&m);
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

static void probes_and_unfinished_points_are_no_results(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_mixed m = {0};
  make_mixtures();
  for (int64_t i = 0; i < table.n_points; i++)
    if (i % PER_MODEL == MIXED_AT) table.states[i] = PTQ_STATE_PENDING;
  write_and_open(&view, &frame);
  assert_false(ptq_frame_has_mixed(&frame));
  assert_int_equal(ptq_mixed_compare(view, &frame, &m, NULL), PTQ_OK);
  assert_int_equal(m.n, 0);
  ptq_text text = {0};
  ptq_mixed_text(&m, &text);
  assert_int_equal(text.len, 0);
  ptq_mixed_release(&m);
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

static char *read_text(const char *name) {
  char path[700], *text = NULL;
  size_t size = 0;
  (void)snprintf(path, sizeof path, "%s/%s", dir, name);
  assert_int_equal(ptq_file_read(path, 64u << 20, &text, &size, NULL), PTQ_OK);
  (void)remove(path);
  return text;
}

static void report_has_their_section_and_pictures(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_err err = {0};
  make_mixtures();
  synthetic_spec = "name: synthetic\n";
  write_and_open(&view, &frame);
  const ptq_report report = {
      .view = view, .frame = &frame, .why_not = "none", .version = "test"};
  if (ptq_report_write(&report, dir, &err) != PTQ_OK) fail_msg("%s", err.msg);
  char *page = read_text("index.html");
  assert_non_null(strstr(page, "<h2 id=\"mixed\">"));
  assert_non_null(strstr(page, "0.70 times that of the best uniform"));
  /* all mixtures are one row of what takes part */
  assert_non_null(strstr(page, "<th scope=\"row\">mixed</th><td>10</td>"));
  ptq_free(page);
  static const char *const files[] = {"mixed-precision", "mixed-layers"};
  for (int i = 0; i < 2; i++) {
    char name[64];
    (void)snprintf(name, sizeof name, "%s.svg", files[i]);
    char *svg = read_text(name);
    assert_true(strncmp(svg, "<svg", 4) == 0);
    ptq_free(svg);
    (void)snprintf(name, sizeof name, "%s.csv", files[i]);
    char *data = read_text(name);
    assert_true(strncmp(data, "model,", 6) == 0);
    assert_non_null(strstr(data, "mixed:probed-0123abcd"));
    ptq_free(data);
  }
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

int main(void) {
  int failed = 1;
  char command[600];
  MPI_Init(NULL, NULL);
  const char *tmp = getenv("TMPDIR");
  (void)snprintf(dir, sizeof dir, "%s/ptq-mixed-XXXXXX",
                 tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(dir) != NULL) {
    (void)snprintf(store_path, sizeof store_path, "%s/mixed.h5", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_stand_beside_prediction_and_uniform_format),
        cmocka_unit_test(equal_bits_are_read_off_the_lower_envelope),
        cmocka_unit_test(noise_at_an_end_of_the_envelope_is_no_rival),
        cmocka_unit_test(probes_and_unfinished_points_are_no_results),
        cmocka_unit_test(report_has_their_section_and_pictures),
    };
    failed = cmocka_run_group_tests_name("analysis/mixed", tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0) failed = 1;
  }
  MPI_Finalize();
  return failed;
}
