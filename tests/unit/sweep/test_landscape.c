/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "landscape_fixture.h"

/* Write the model at weights + factor * direction as a checkpoint. */
static void write_displaced(const study *s, int64_t direction, double factor,
                            const char *source, const char *dir) {
  ptq_err err = {0};
  ptq_model *m = NULL;
  ptq_export *e = NULL;
  ptq_displacer d;
  if (ptq_model_open(source, &m, &err) != PTQ_OK ||
      ptq_export_open(m, source, dir, PTQ_EXPORT_F32, "displaced", &e, &err) !=
          PTQ_OK ||
      ptq_displacer_open(&d, &s->grid, &s->grid.directions[direction], m, NULL,
                         &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  for (int64_t i = 0; i < ptq_model_get_info(m)->n_blocks; i++) {
    ptq_block b = {0};
    if (ptq_model_load_block(m, i, &b, &err) != PTQ_OK ||
        ptq_displacer_block(&d, &b, &err) != PTQ_OK ||
        ptq_export_block(e, ptq_displacer_move(&d, &b, factor), &err) != PTQ_OK)
      fail_msg("%s", err.msg);
    ptq_block_release(&b);
  }
  assert_int_equal(ptq_export_finish(e, &err), PTQ_OK);
  ptq_export_free(e);
  ptq_displacer_close(&d);
  ptq_model_close(m);
}

/* The step of a profile against the model that stands there, evaluated as any
 * other. */
static void check_step(const study *s, int64_t direction, const taken *t,
                       int64_t step, const char *source, const char *scoring) {
  static int count;
  char name[32], dir[256];
  study other;
  snprintf(name, sizeof name, "displaced-%d", count++);
  strcpy(dir, scratch_path(&files, name));
  write_displaced(s, direction, t->steps[step].factor, source, dir);
  open_study(&other, name, scoring, "off");
  const double nll = baseline(&other);
  close_study(&other);
  if (fabs(nll - t->steps[step].nll) > 1e-6)
    fail_msg("direction %d step %d: %.12g, the checkpoint has %.12g",
             (int)direction, (int)step, t->steps[step].nll, nll);
}

static const char radial[] =
    "{mode: radial, directions: 1, radii: 8, smallest: 0.02, largest: 1,"
    " random: [\"gaussian:layer\", \"gaussian:row\", \"uniform:layer\","
    " \"uniform:row\"]}";

static void a_profile_is_the_loss_of_the_displaced_checkpoint(void **state) {
  (void)state;
  static const char *const models[] = {ZOO "llama-25k", ZOO "opt-25k"};
  static const char *const scorings[] = {"", ", preset: llama.cpp"};
  for (int m = 0; m < 2; m++) {
    study s;
    open_study(&s, models[m], scorings[m], radial);
    assert_int_equal(s.grid.n_directions, 6);
    const double nll = baseline(&s);
    for (int64_t i = 0; i < s.grid.n_directions; i++) {
      taken t;
      run_direction(&s, i, &t);
      assert_int_equal(t.n, i < 4 ? 9 : 10);
      assert_memory_equal(&t.steps[0].nll, &nll, sizeof nll);
      for (int64_t k = 1; k < t.n; k++) {
        assert_true(t.steps[k].radius > t.steps[k - 1].radius);
        assert_true(fabs(t.steps[k].nll - nll - t.steps[k].dnll) < 1e-12);
        assert_true(t.steps[k].dnll_se > 0.0);
        assert_true(isnan(t.steps[k].dnll_calib));
      }
      check_step(&s, i, &t, 3, models[m], scorings[m]);
      check_step(&s, i, &t, t.n - 1, models[m], scorings[m]);
    }
    close_study(&s);
  }
}

static double length(const float *x, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
  return sqrt(sum);
}

/* Relative lengths, and elements that depend on checkpoint, kind and number
 * alone. */
static void random_directions_are_as_long_as_the_weights(void **state) {
  (void)state;
  study s;
  ptq_model *m = NULL;
  ptq_block b = {0};
  ptq_displacer d;
  open_study(&s, ZOO "llama-25k", "", radial);
  assert_int_equal(ptq_model_open(ZOO "llama-25k", &m, NULL), PTQ_OK);
  assert_int_equal(ptq_model_load_block(m, 1, &b, NULL), PTQ_OK);
  const ptq_model_info *info = ptq_model_get_info(m);
  for (int kind = 0; kind < PTQ_RANDOM_KINDS; kind++) {
    const bool by_row =
        kind == PTQ_RANDOM_GAUSSIAN_ROW || kind == PTQ_RANDOM_UNIFORM_ROW;
    assert_int_equal(s.grid.directions[kind].kind, kind);
    assert_int_equal(ptq_displacer_open(&d, &s.grid, &s.grid.directions[kind],
                                        m, NULL, NULL),
                     PTQ_OK);
    assert_int_equal(ptq_displacer_block(&d, &b, NULL), PTQ_OK);
    for (int layer = 0; layer < ptq_layer_count(info); layer++) {
      const ptq_linear *w = &b.linear[layer];
      if (w->weight == NULL) continue;
      const int64_t n = by_row ? w->in : w->out * w->in;
      double z[4];
      ptq_probe_fill(
          ptq_probe_seed(ptq_direction_seed(&s.grid.subjects[0], kind), 0,
                         ptq_layer_count(info) + layer),
          kind < PTQ_RANDOM_UNIFORM_LAYER ? PTQ_PROBE_GAUSSIAN
                                          : PTQ_PROBE_UNIFORM,
          4, z);
      for (int i = 1; i < 4; i++)
        assert_true(fabs(d.d[layer][i] * z[0] - d.d[layer][0] * z[i]) < 1e-6);
      for (int64_t at = 0; at < w->out * w->in; at += n)
        assert_true(
            fabs(length(d.d[layer] + at, n) - length(w->weight + at, n)) <
            1e-5 * length(w->weight + at, n));
    }
    ptq_displacer_close(&d);
  }
  ptq_block_release(&b);
  ptq_model_close(m);
  close_study(&s);
}

static void a_stop_hands_nothing_over(void **state) {
  (void)state;
  static const ptq_status codes[] = {PTQ_E_STOPPED, PTQ_E_PEER};
  study s;
  open_study(&s, ZOO "llama-25k", "", "radial");
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    taken t = {
        .stop_after = 3, .stop_with = codes[i], .state = PTQ_STATE_PENDING};
    ptq_err err = {0};
    const ptq_sink sink = sink_of(&t);
    assert_int_equal(ptq_direction_run(&s.grid, 0, &sink, &err), codes[i]);
    assert_int_equal(t.state, PTQ_STATE_PENDING);
  }
  close_study(&s);
}

static void an_unreadable_input_fails_the_direction(void **state) {
  (void)state;
  study s;
  taken t = {.stop_after = -1};
  open_study(&s, ZOO "llama-25k", "", "radial");
  const ptq_sink sink = sink_of(&t);
  setenv("PTQSWEEP_TOKENS", "nowhere", 1);
  assert_int_equal(ptq_direction_run(&s.grid, 0, &sink, NULL), PTQ_OK);
  unsetenv("PTQSWEEP_TOKENS");
  assert_int_equal(t.state, PTQ_STATE_FAILED);
  assert_non_null(strstr(t.message, "prepare.py"));
  assert_true(isnan(t.row.nll));
  close_study(&s);
}

/* opt-25k with one projection of its MLPs 2^110 times as large and the other as
 * small: far away, activations overflow float32. */
static void write_extreme(const char *dir) {
  const char *source = ZOO "opt-25k";
  ptq_err err = {0};
  ptq_model *m = NULL;
  ptq_export *e = NULL;
  if (ptq_model_open(source, &m, &err) != PTQ_OK ||
      ptq_export_open(m, source, dir, PTQ_EXPORT_F32, "extreme", &e, &err) !=
          PTQ_OK)
    fail_msg("%s", err.msg);
  for (int64_t i = 0; i < ptq_model_get_info(m)->n_blocks; i++) {
    ptq_block b = {0};
    if (ptq_model_load_block(m, i, &b, &err) != PTQ_OK) fail_msg("%s", err.msg);
    const ptq_linear *up = &b.linear[PTQ_ROLE_UP];
    const ptq_linear *down = &b.linear[PTQ_ROLE_DOWN];
    for (int64_t k = 0; k < up->out * up->in; k++)
      up->weight[k] = ldexpf(up->weight[k], 110);
    for (int64_t k = 0; k < down->out * down->in; k++)
      down->weight[k] = ldexpf(down->weight[k], -110);
    if (ptq_export_block(e, &b, &err) != PTQ_OK) fail_msg("%s", err.msg);
    ptq_block_release(&b);
  }
  if (ptq_export_finish(e, &err) != PTQ_OK) fail_msg("%s", err.msg);
  ptq_export_free(e);
  ptq_model_close(m);
}

/* Stored as not finite, and the steps before stay. */
static void a_loss_that_is_not_finite_is_said(void **state) {
  (void)state;
  study s;
  taken t;
  char dir[256];
  int64_t lost = 0;
  strcpy(dir, scratch_path(&files, "extreme"));
  write_extreme(dir);
  open_study(&s, "extreme", "",
             "{mode: radial, directions: 1, radii: 12, smallest: 0.01, "
             "largest: 1e6, rtn: false, random: \"gaussian:layer\"}");
  run_direction(&s, 0, &t);
  assert_int_equal(t.n, 13);
  for (int64_t k = 0; k < 6; k++) {
    assert_true(isfinite(t.steps[k].nll) && isfinite(t.steps[k].dnll));
    assert_true(k == 0 || t.steps[k].dnll_se > 0.0);
  }
  for (int64_t k = 0; k < t.n; k++) {
    assert_true(isfinite(t.steps[k].nll) == isfinite(t.steps[k].dnll));
    assert_true(isfinite(t.steps[k].radius) && isfinite(t.steps[k].factor));
    if (!isfinite(t.steps[k].nll)) lost++;
  }
  if (lost == 0) fail_msg("%g at the end", t.steps[t.n - 1].nll);
  assert_true(!isfinite(t.steps[t.n - 1].nll));
  close_study(&s);
}

/* A text that the windows do not fit into: the direction fails with what it
 * has and what they take. */
static void a_short_text_fails_the_direction(void **state) {
  (void)state;
  static const char *const landscapes[] = {
      "{mode: radial, rtn: false, directions: 1}",
      "{mode: full, rtn: false, directions: 0, probes: 2, lanczos: 2}"};
  for (int i = 0; i < 2; i++) {
    study s;
    taken t = {.stop_after = -1};
    n_tokens = 100;
    write_tokens("e.txt", ZOO "llama-25k");
    write_tokens("c.txt", ZOO "llama-25k");
    open_study(&s, ZOO "llama-25k", "", landscapes[i]);
    const ptq_sink sink = sink_of(&t);
    assert_int_equal(ptq_direction_run(&s.grid, 0, &sink, NULL), PTQ_OK);
    assert_int_equal(t.state, PTQ_STATE_FAILED);
    if (strstr(t.message, "has 100 tokens, but 4 windows of 32 take 128") ==
            NULL &&
        strstr(t.message, "has 100 tokens, but 5 windows of 40 take 200") ==
            NULL)
      fail_msg("%s", t.message);
    assert_true(t.n + t.n_layers + t.n_ritz == 0);
    close_study(&s);
    n_tokens = N_TOKENS;
    write_tokens("e.txt", ZOO "llama-25k");
    write_tokens("c.txt", ZOO "llama-25k");
  }
}

static const char full[] =
    "{mode: full, directions: 1, radii: 6, smallest: 0.002, largest: 0.02,"
    " probes: 40, lanczos: 30, starts: 2}";

/* What derivatives say of the first steps, where the third order is small; in
 * OPT, tokens that pass ReLU's kink bend the loss at the second, which no
 * derivative sees. */
static void derivatives_predict_the_profile(void **state) {
  (void)state;
  static const char *const models[] = {ZOO "llama-25k", ZOO "opt-25k"};
  for (int m = 0; m < 2; m++) {
    study s;
    open_study(&s, models[m], "", full);
    assert_int_equal(s.grid.n_directions, 5);
    for (int64_t i = 1; i < s.grid.n_directions; i++) {
      taken t;
      double slope = 0.0, curvature = 0.0;
      run_direction(&s, i, &t);
      assert_int_equal(t.n_layers, ptq_subject_layers(&s.grid.subjects[0]));
      for (int64_t k = 0; k < t.n_layers; k++) {
        slope += t.layers[k].slope;
        curvature += t.layers[k].curvature;
        assert_true(t.layers[k].size > 0.0 && isnan(t.layers[k].trace));
      }
      assert_true(fabs(slope - t.row.slope) < 1e-12);
      assert_true(fabs(curvature - t.row.curvature) < 1e-12);
      for (int64_t k = 1; k < 4; k++) {
        const double f = t.steps[k].factor, r = t.steps[k].radius;
        const double linear = f * t.row.slope;
        const double quadratic = linear + f * f * t.row.curvature / 2.0;
        const double miss = fabs(quadratic - t.steps[k].dnll_calib);
        if (miss > (m == 0 ? 200.0 * r * r * r + 2e-6 : 60.0 * r * r))
          fail_msg("direction %d step %d: %g, measured %g", (int)i, (int)k,
                   quadratic, t.steps[k].dnll_calib);
      }
    }
    close_study(&s);
  }
}

static void the_hessian_is_summed_up_in_itself(void **state) {
  (void)state;
  study s;
  taken t;
  open_study(&s, ZOO "llama-25k", "", full);
  assert_int_equal(s.grid.directions[0].kind, PTQ_DIRECTION_HESSIAN);
  run_direction(&s, 0, &t);
  assert_int_equal(t.n, 0);
  assert_int_equal(t.n_ritz, 60);
  double norm = 0.0, traces = 0.0, weights = 0.0, fisher = 0.0, halves = 0.0;
  for (int64_t k = 0; k < t.n_layers; k++) {
    norm += t.layers[k].gradient_norm * t.layers[k].gradient_norm;
    traces += t.layers[k].trace;
    weights += (double)t.layers[k].weights;
    assert_true(t.layers[k].trace_se > 0.0 && isnan(t.layers[k].slope));
    fisher += t.layers[k].fisher;
    /* of windows: never less than of their mean gradient */
    assert_true(t.layers[k].fisher >
                t.layers[k].gradient_norm * t.layers[k].gradient_norm);
    halves += t.layers[k].gauss_newton_trace;
    assert_true(t.layers[k].gauss_newton_trace > 0.0);
    assert_true(t.layers[k].input_max <= t.layers[k].input_trace);
    assert_true(t.layers[k].input_rank >= 1.0 &&
                t.layers[k].input_rank <= 100.0);
    assert_true(t.layers[k].input_condition > 1.0 &&
                t.layers[k].input_tail > 0.0);
    assert_true(t.layers[k].output_max <= t.layers[k].output_trace);
    assert_true(t.layers[k].output_rank >= 1.0 &&
                t.layers[k].output_rank <= 100.0);
  }
  assert_true(fabs(sqrt(norm) - t.row.gradient_norm) <
              1e-9 * t.row.gradient_norm);
  assert_true(fabs(traces - t.row.trace) < 5.0 * t.row.trace_se);
  assert_true(fabs(fisher - t.row.fisher) < 1e-9 * fisher);
  assert_true(fabs(halves - t.row.gauss_newton_trace) < 1e-9 * halves);
  assert_true(t.row.gauss_newton_max > 0.0 &&
              t.row.gauss_newton_max < t.row.gauss_newton_trace);
  double top[2], mean = 0.0;
  for (int start = 0; start < 2; start++) {
    double sum = 0.0;
    const ptq_ritz_row *r = &t.ritz[30 * start];
    for (int i = 0; i < 30; i++) {
      assert_int_equal(r[i].start, start);
      assert_int_equal(r[i].rank, i);
      assert_true(i == 0 || r[i].value <= r[i - 1].value);
      sum += r[i].weight;
      mean += r[i].weight * r[i].value / 2.0;
    }
    assert_true(fabs(sum - 1.0) < 1e-9);
    top[start] = r[0].value;
  }
  assert_true(fabs(top[0] - top[1]) < 1e-4 * top[0]);
  assert_true(t.row.eigen_max == fmax(top[0], top[1]));
  assert_true(t.row.eigen_min < 0.0); /* a saddle: signs are kept */
  /* A start scatters like a probe. */
  assert_true(fabs(weights * mean - t.row.trace) <
              5.0 * t.row.trace_se * sqrt(40.0 / 2.0));
  close_study(&s);
}

static void keys_are_of_what_is_measured(void **state) {
  (void)state;
  study a, b;
  open_study(&a, ZOO "llama-25k", "", radial);
  open_study(&b, ZOO "llama-25k", "",
             "{mode: radial, directions: 2, radii: 8, smallest: 0.02, "
             "largest: 1, random: \"gaussian:row\"}");
  assert_int_equal(b.grid.n_directions, 4);
  assert_string_equal(a.grid.directions[1].key, b.grid.directions[0].key);
  assert_string_equal(a.grid.directions[4].key, b.grid.directions[2].key);
  assert_string_equal(a.grid.fingerprint, b.grid.fingerprint);
  assert_string_not_equal(b.grid.directions[0].key, b.grid.directions[1].key);
  close_study(&b);
  open_study(&b, ZOO "llama-25k", "",
             "{mode: radial, radii: 9, smallest: 0.02, largest: 1}");
  assert_string_not_equal(a.grid.directions[0].key, b.grid.directions[0].key);
  close_study(&b);
  close_study(&a);
  /* with derivatives and without: other rows */
  open_study(&a, ZOO "llama-25k", "",
             "{mode: radial, directions: 1, methods: [rtn, gptq]}");
  open_study(&b, ZOO "llama-25k", "",
             "{mode: full, directions: 1, methods: [rtn, gptq]}");
  for (int64_t i = 0; i < a.grid.n_directions; i++)
    for (int64_t k = 0; k < b.grid.n_directions; k++)
      assert_string_not_equal(a.grid.directions[i].key,
                              b.grid.directions[k].key);
  /* which tell what they would be without */
  assert_int_equal(b.grid.n_directions, 1 + a.grid.n_directions);
  assert_string_equal(b.grid.directions[0].radial_key, "");
  for (int64_t i = 0; i < a.grid.n_directions; i++) {
    assert_string_equal(a.grid.directions[i].radial_key, "");
    assert_string_equal(b.grid.directions[1 + i].radial_key,
                        a.grid.directions[i].key);
  }
  close_study(&b);
  close_study(&a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_profile_is_the_loss_of_the_displaced_checkpoint),
      cmocka_unit_test(random_directions_are_as_long_as_the_weights),
      cmocka_unit_test(a_stop_hands_nothing_over),
      cmocka_unit_test(an_unreadable_input_fails_the_direction),
      cmocka_unit_test(a_loss_that_is_not_finite_is_said),
      cmocka_unit_test(a_short_text_fails_the_direction),
      cmocka_unit_test(derivatives_predict_the_profile),
      cmocka_unit_test(the_hessian_is_summed_up_in_itself),
      cmocka_unit_test(keys_are_of_what_is_measured),
  };
  return cmocka_run_group_tests_name("sweep/landscape", tests, make_files,
                                     remove_files);
}
