/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 */
/*
 * PTQ_STORE_OUT=PATH in the environment makes the program write a finished
 * synthetic store there, PATH.half, one with pending and failed points and
 * difficult names, PATH.one with one finished model, PATH.empty, and
 * PATH.tokens, whose loss grows with the power 0.4 of the covariate
 * train_tokens, of two tokenizers and a model without an NLL, for tests in
 * other languages; then it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ptq/analysis/report.h"
#include "ptq/base/file.h"
#include "synthetic_store.h"

static tables table;
static char dir[512], store_path[600], report_dir[600];

static const char *const ids[] = {
    "nll-bits",  "dnll-bits", "gptq-gain", "predicted-measured",
    "sqnr-dnll", "spectra",   "residuals"};

/* Half of the points pending, some failed, names that try to break out. */
static void make_half(tables *t) {
  static const char evil[] = "a'b\"<i>&_^{x}`id`";
  for (int64_t i = 0; i < t->n_points; i++) {
    if (i % 3 == 0) t->states[i] = PTQ_STATE_PENDING;
    if (i % 40 == 1) t->states[i] = PTQ_STATE_FAILED;
    if (t->subject[i] == 9)
      (void)ptq_text_copy(t->points[i].model, sizeof t->points[i].model, evil);
    if (t->subject[i] >= 5)
      (void)ptq_text_copy(t->points[i].family, sizeof t->points[i].family,
                          "f'@{<&");
  }
  (void)ptq_text_copy(t->models[9].model, sizeof t->models[9].model, evil);
  for (int s = 5; s < 10; s++)
    (void)ptq_text_copy(t->models[s].family, sizeof t->models[s].family,
                        "f'@{<&");
}

static void open_store(const char *path, ptq_view **view, ptq_frame *frame) {
  ptq_err err = {0};
  if (ptq_view_open(path, view, &err) != PTQ_OK ||
      ptq_frame_from_view(*view, frame, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void write_store(void) {
  ptq_err err = {0};
  (void)remove(store_path);
  if (synthetic_store(&table, store_path, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static char *read_text(const char *name) {
  char path[700], *text = NULL;
  size_t size = 0;
  ptq_err err = {0};
  (void)snprintf(path, sizeof path, "%s/%s", report_dir, name);
  if (ptq_file_read(path, 64u << 20, &text, &size, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return text;
}

static void write_report(const ptq_summary_options *options) {
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  static ptq_summary summary;
  ptq_err err = {0}, why = {0};
  open_store(store_path, &view, &frame);
  const bool fitted =
      ptq_summary_build(&frame, options, &summary, &why) == PTQ_OK;
  const ptq_report report = {.view = view,
                             .frame = &frame,
                             .summary = fitted ? &summary : NULL,
                             .why_not = why.msg,
                             .version = "test"};
  if (ptq_report_write(&report, report_dir, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  if (fitted) ptq_summary_release(&summary);
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

static void store_gives_back_the_tables_it_was_made_of(void **state) {
  (void)state;
  tables_synthetic(&table, &synthetic_default, 8);
  table.states[17] = PTQ_STATE_FAILED;
  table.states[18] = PTQ_STATE_PENDING;
  write_store();
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  open_store(store_path, &view, &frame);
  assert_int_equal(frame.n, table.n_points);
  assert_int_equal(frame.count[PTQ_USE_FAILED], 1);
  assert_int_equal(frame.count[PTQ_USE_PENDING], 1);
  for (int64_t i = 0; i < frame.n; i++) {
    if (frame.obs[i].use == PTQ_USE_FAILED ||
        frame.obs[i].use == PTQ_USE_PENDING)
      continue;
    assert_true(frame.obs[i].point->dnll == table.points[i].dnll);
    assert_string_equal(frame.obs[i].model->model, table.points[i].model);
    assert_int_equal(frame.obs[i].n_layers, LAYERS);
    assert_true(fabs(frame.obs[i].log_err_hessian +
                     table.points[i].sqnr_output * log(10.0) / 10.0) < 1e-9);
  }
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

static void report_has_every_plot_and_its_data(void **state) {
  (void)state;
  const ptq_summary_options options = {.no_comparison = true};
  tables_synthetic(&table, &synthetic_default, 8);
  write_store();
  write_report(&options);
  char *page = read_text("index.html");
  for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
    char name[64], anchor[64];
    (void)snprintf(anchor, sizeof anchor, "<h2 id=\"%s\">", ids[i]);
    assert_non_null(strstr(page, anchor));
    (void)snprintf(name, sizeof name, "%s.svg", ids[i]);
    char *svg = read_text(name);
    assert_true(strncmp(svg, "<svg", 4) == 0);
    assert_non_null(strstr(page, svg));
    ptq_free(svg);
    (void)snprintf(name, sizeof name, "%s.csv", ids[i]);
    char *csv_text_ = read_text(name);
    assert_true(strncmp(csv_text_, "model,", 6) == 0 ||
                strncmp(csv_text_, "split,", 6) == 0);
    ptq_free(csv_text_);
  }
  assert_non_null(strstr(page, "dnll = exp("));
  ptq_free(page);
}

/* The last model: of a family of its own that nothing learns from. */
static void make_held(tables *t) {
  static const char family[] = "third";
  const int64_t last = t->n_models - 1;
  (void)ptq_text_copy(t->models[last].family, sizeof t->models[last].family,
                      family);
  (void)ptq_text_copy(t->models[last].covariates,
                      sizeof t->models[last].covariates, "holdout=true");
  for (int64_t i = 0; i < t->n_points; i++)
    if (t->subject[i] == last)
      (void)ptq_text_copy(t->points[i].family, sizeof t->points[i].family,
                          family);
}

static void report_predicts_what_is_held_out_for_good(void **state) {
  (void)state;
  const ptq_summary_options options = {.no_comparison = true};
  for (int held = 0; held < 2; held++) {
    tables_synthetic(&table, &synthetic_default, 8);
    if (held) make_held(&table);
    write_store();
    write_report(&options);
    char *page = read_text("index.html");
    char *svg = read_text("predicted-measured.svg");
    char *rows = read_text("predicted-measured.csv");
    assert_int_equal(strstr(page, "held-out-family (1)") != NULL, held);
    assert_int_equal(strstr(page, "held out for good") != NULL, held);
    assert_int_equal(strstr(svg, "held-out-family") != NULL, held);
    assert_int_equal(strstr(rows, "\nheld-out-family,") != NULL, held);
    ptq_free(rows);
    ptq_free(svg);
    ptq_free(page);
  }
}

static void names_cannot_break_out_of_page_or_script(void **state) {
  (void)state;
  const ptq_summary_options options = {.no_comparison = true};
  tables_synthetic(&table, &synthetic_default, 8);
  make_half(&table);
  write_store();
  write_report(&options);
  char *page = read_text("index.html");
  assert_null(strstr(page, "<i>"));
  assert_null(strstr(page, "<Hessian>"));
  assert_non_null(strstr(page, "a&#39;b&quot;&lt;i&gt;&amp;_^{x}`id`"));
  /* in a picture: escaped by gnuplot, and as it was written */
  char *svg = read_text("nll-bits.svg");
  assert_non_null(strstr(svg, "f'@{&lt;&amp;"));
  ptq_free(svg);
  ptq_free(page);
}

static void empty_store_gives_a_page_that_says_so(void **state) {
  (void)state;
  const ptq_summary_options options = {.no_comparison = true};
  tables_synthetic(&table, &synthetic_default, 8);
  for (int64_t i = 0; i < table.n_points; i++)
    table.states[i] = PTQ_STATE_PENDING;
  write_store();
  write_report(&options);
  char *page = read_text("index.html");
  assert_non_null(strstr(page, "No law could be fitted"));
  assert_non_null(strstr(page, "0 / 320"));
  /* neither links to what is not there nor captions without a picture */
  assert_null(strstr(page, "#validation"));
  assert_null(strstr(page, "nll-bits.svg"));
  assert_null(strstr(page, "Each mark"));
  assert_null(strstr(page, "line is the least"));
  assert_null(strstr(page, "marks of all models"));
  assert_null(strstr(page, "coloured are"));
  char path[700];
  (void)snprintf(path, sizeof path, "%s/nll-bits.svg", report_dir);
  assert_false(ptq_path_exists(path)); /* the earlier report's is gone */
  ptq_free(page);
}

/* Sizes within a decade, where powers of ten would be one mark. */
static void axes_of_few_decades_have_marks_between(void **state) {
  (void)state;
  const ptq_summary_options options = {.no_comparison = true};
  tables_synthetic(&table, &synthetic_default, 8);
  for (int64_t i = 0; i < table.n_models; i++)
    table.models[i].params_nonembedding = 25000 * (i + 1);
  write_store();
  write_report(&options);
  static const char *const marks[] = {">50k<", ">100k<", ">200k<"};
  static const char *const pictures[] = {"gptq-gain.svg", "sqnr-dnll.svg"};
  for (int k = 0; k < 2; k++) {
    char *svg = read_text(pictures[k]);
    for (int i = 0; i < 3; i++)
      if (strstr(svg, marks[i]) == NULL)
        fail_msg("%s has no %s", pictures[k], marks[i]);
    ptq_free(svg);
  }
}

static void reason_for_no_law_names_the_command_of_its_option(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  open_store(store_path, &view, &frame);
  const ptq_report report = {.view = view,
                             .frame = &frame,
                             .why_not = "shorten the formula or use --power 1",
                             .version = "test"};
  assert_int_equal(ptq_report_write(&report, report_dir, NULL), PTQ_OK);
  char *page = read_text("index.html");
  assert_non_null(strstr(page, "<code>ptqsweep fit STORE --power 1</code>"));
  ptq_free(page);
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

/* Measured losses below zero, of zero, and too small for the axis. */
static void predictions_that_are_not_drawn_are_counted(void **state) {
  (void)state;
  const ptq_summary_options options = {.no_comparison = true};
  tables_synthetic(&table, &synthetic_default, 8);
  for (int64_t i = 0; i < table.n_points; i++)
    table.points[i].dnll = fmax(table.points[i].dnll, 1e-3);
  table.points[8].dnll = -0.001; /* mxint4: the first has collapsed */
  table.points[9].dnll = 0.0;
  table.points[10].dnll = 1e-9;
  write_store();
  write_report(&options);
  char *page = read_text("index.html");
  const char *at = strstr(page, " are not drawn: 4 of losses measured at or "
                                "below zero, 2 that lie beyond the axes");
  if (at == NULL) {
    at = strstr(page, "are not drawn");
    fail_msg("%.200s", at != NULL ? at : "nothing is said");
  }
  ptq_free(page);
}

/* Of a store that a run is filling: points in order, the others pending. */
static void keep_first(tables *t, int64_t n) {
  for (int64_t i = n; i < t->n_points; i++) t->states[i] = PTQ_STATE_PENDING;
}

static void report_can_be_written_however_little_is_done(void **state) {
  (void)state;
  const ptq_summary_options options = {.no_comparison = true};
  static const int64_t done[] = {1, 4, 32, 160}; /* a model's; a family's */
  for (size_t i = 0; i < sizeof done / sizeof *done; i++) {
    tables_synthetic(&table, &synthetic_default, 8);
    keep_first(&table, done[i]);
    if (done[i] == 4)
      for (int64_t j = 0; j < 4; j++) table.points[j].dnll = -0.001;
    write_store();
    write_report(&options);
    char *page = read_text("index.html");
    assert_null(strstr(page, ">nan<"));
    assert_non_null(strstr(page, "id=\"nll-bits\""));
    ptq_free(page);
  }
}

static void missing_gnuplot_names_the_package(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_err err = {0};
  tables_synthetic(&table, &synthetic_default, 8);
  write_store();
  open_store(store_path, &view, &frame);
  const ptq_report report = {.view = view, .frame = &frame, .version = "test"};
  char *path = NULL;
  assert_int_equal(ptq_strdup(&path, getenv("PATH"), NULL), PTQ_OK);
  assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
  assert_int_equal(ptq_report_write(&report, report_dir, &err),
                   PTQ_E_UNSUPPORTED);
  assert_int_equal(setenv("PATH", path, 1), 0);
  assert_non_null(strstr(err.msg, "gnuplot-nox"));
  ptq_free(path);
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

/* A gnuplot that likes no script. */
static void what_cannot_be_drawn_does_not_end_the_report(void **state) {
  (void)state;
  static const char script[] =
      "#!/bin/sh\necho 'line 7: logscaled <axis>' >&2\nexit 1\n";
  const ptq_summary_options options = {.no_comparison = true};
  char program[700], *path = NULL;
  ptq_err err = {0};
  tables_synthetic(&table, &synthetic_default, 8);
  write_store();
  (void)snprintf(program, sizeof program, "%s/gnuplot", dir);
  if (ptq_file_write_atomic(program, script, sizeof script - 1, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  assert_int_equal(chmod(program, 0700), 0);
  assert_int_equal(ptq_strdup(&path, getenv("PATH"), NULL), PTQ_OK);
  assert_int_equal(setenv("PATH", dir, 1), 0);
  write_report(&options);
  assert_int_equal(setenv("PATH", path, 1), 0);
  (void)remove(program);
  ptq_free(path);
  char *page = read_text("index.html");
  assert_non_null(strstr(page, "Not drawn: gnuplot failed: line 7: logscaled "
                               "&lt;axis&gt;."));
  assert_non_null(strstr(page, "</html>"));
  ptq_free(page);
  char *rows = read_text("nll-bits.csv"); /* the data are there */
  ptq_free(rows);
  char svg[700];
  (void)snprintf(svg, sizeof svg, "%s/nll-bits.svg", report_dir);
  assert_false(ptq_path_exists(svg));
}

static void file_in_the_way_of_the_directory_is_named(void **state) {
  (void)state;
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_err err = {0};
  open_store(store_path, &view, &frame);
  const ptq_report report = {.view = view, .frame = &frame, .version = "test"};
  assert_int_equal(ptq_report_write(&report, store_path, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "in the way"));
  ptq_frame_release(&frame);
  ptq_view_close(view);
}

/* Two tokenizers, and one model whose own NLL is not there. */
static void make_tokenizers(tables *t) {
  for (int64_t i = 0; i < t->n_models; i++) {
    ptq_model_row *m = &t->models[i];
    const bool opt = strcmp(m->family, "opt") == 0;
    m->vocab = opt ? 2048 : 1024;
    m->tokens = opt ? 400 : 510;
    m->bytes = 1800;
  }
  t->models[0].nll = NAN;
}

/* Tokens without order in size; the loss grows with their power 0.4. */
static void make_tokens(tables *t) {
  make_tokenizers(t);
  for (int64_t i = 0; i < t->n_models; i++)
    (void)snprintf(t->models[i].covariates, sizeof t->models[i].covariates,
                   "train_tokens=%.0f", 1e6 * pow(4.0, (double)(i % 3)));
  for (int64_t i = 0; i < t->n_points; i++) {
    ptq_point_row *p = &t->points[i];
    const double grown =
        p->dnll * 0.25 * pow(4.0, 0.4 * (double)(t->subject[i] % 3));
    p->nll += grown - p->dnll;
    p->dnll = grown;
  }
}

/* For tests in other languages. */
static int write_stores(const char *out) {
  ptq_err err = {0};
  char half[700], tokens[700], one[700], empty[700];
  (void)snprintf(half, sizeof half, "%s.half", out);
  (void)snprintf(one, sizeof one, "%s.one", out);
  (void)snprintf(empty, sizeof empty, "%s.empty", out);
  (void)snprintf(tokens, sizeof tokens, "%s.tokens", out);
  tables_synthetic(&table, &synthetic_default, 8);
  ptq_status rc = synthetic_store(&table, out, &err);
  make_tokens(&table);
  if (rc == PTQ_OK) rc = synthetic_store(&table, tokens, &err);
  tables_synthetic(&table, &synthetic_default, 8);
  make_half(&table);
  if (rc == PTQ_OK) rc = synthetic_store(&table, half, &err);
  tables_synthetic(&table, &synthetic_default, 8);
  keep_first(&table, 32);
  if (rc == PTQ_OK) rc = synthetic_store(&table, one, &err);
  keep_first(&table, 0);
  if (rc == PTQ_OK) rc = synthetic_store(&table, empty, &err);
  if (rc != PTQ_OK) fprintf(stderr, "%s\n", err.msg);
  return rc == PTQ_OK ? 0 : 1;
}

static void remove_all(void) {
  char path[700];
  static const char *const ends[] = {".svg", ".csv"};
  for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
    for (int e = 0; e < 2; e++) {
      (void)snprintf(path, sizeof path, "%s/%s%s", report_dir, ids[i], ends[e]);
      (void)remove(path);
    }
  (void)snprintf(path, sizeof path, "%s/index.html", report_dir);
  (void)remove(path);
  (void)remove(report_dir);
  (void)remove(store_path);
  (void)snprintf(path, sizeof path, "%s.lock", store_path);
  (void)remove(path);
  (void)remove(dir);
}

int main(void) {
  int failed = 1;
  MPI_Init(NULL, NULL);
  const char *out = getenv("PTQ_STORE_OUT");
  if (out != NULL) {
    failed = write_stores(out);
    MPI_Finalize();
    return failed;
  }
  const char *tmp = getenv("TMPDIR");
  (void)snprintf(dir, sizeof dir, "%s/ptq-report-XXXXXX",
                 tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(dir) != NULL) {
    (void)snprintf(store_path, sizeof store_path, "%s/quick.h5", dir);
    (void)snprintf(report_dir, sizeof report_dir, "%s/report", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store_gives_back_the_tables_it_was_made_of),
        cmocka_unit_test(report_has_every_plot_and_its_data),
        cmocka_unit_test(report_predicts_what_is_held_out_for_good),
        cmocka_unit_test(names_cannot_break_out_of_page_or_script),
        cmocka_unit_test(empty_store_gives_a_page_that_says_so),
        cmocka_unit_test(axes_of_few_decades_have_marks_between),
        cmocka_unit_test(reason_for_no_law_names_the_command_of_its_option),
        cmocka_unit_test(predictions_that_are_not_drawn_are_counted),
        cmocka_unit_test(report_can_be_written_however_little_is_done),
        cmocka_unit_test(missing_gnuplot_names_the_package),
        cmocka_unit_test(what_cannot_be_drawn_does_not_end_the_report),
        cmocka_unit_test(file_in_the_way_of_the_directory_is_named),
    };
    failed = cmocka_run_group_tests_name("analysis/report", tests, NULL, NULL);
    remove_all();
  }
  MPI_Finalize();
  return failed;
}
