/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Profiles go through the model a few radii at a time, hand finished ones over
 * and go on with what an earlier attempt left. */
#include "landscape_fixture.h"

#include "profile.h"

/* Random, RTN and GPTQ; steps that fill no whole number of waves. */
static const char radial[] =
    "{mode: radial, directions: 1, radii: 9, smallest: 0.02, largest: 1,"
    " random: \"gaussian:row\", methods: [rtn, gptq]}";
static const char full[] =
    "{mode: full, directions: 1, radii: 5, smallest: 0.02, largest: 1,"
    " random: \"uniform:layer\", methods: [rtn, gptq], probes: 1, lanczos: 2,"
    " starts: 1}";

/* A sink that keeps rows, and gives back those that it has. */
typedef struct keeper {
  taken t;
  ptq_profile_row rows[MAX_STEPS];
  bool there[MAX_STEPS];
  int64_t handed_over, waves, largest;
  int64_t refuse_after; /* waves; -1: never */
} keeper;

static ptq_status keep_steps(void *ctx, const ptq_steps *s, ptq_err *err) {
  keeper *k = ctx;
  if (k->refuse_after >= 0 && k->waves == k->refuse_after)
    return PTQ_FAIL(err, PTQ_E_IO, "no room");
  for (int64_t i = 0; i < s->n; i++) {
    assert_false(k->there[s->rows[i].step]);
    k->rows[s->rows[i].step] = s->rows[i];
    k->there[s->rows[i].step] = true;
  }
  k->handed_over += s->n;
  k->waves++;
  if (s->n > k->largest) k->largest = s->n;
  return PTQ_OK;
}

static ptq_status give_back(void *ctx, const ptq_steps *s, bool *there,
                            ptq_err *err) {
  const keeper *k = ctx;
  (void)err;
  assert_true(s->n <= MAX_STEPS && strlen(s->key) == 32);
  for (int64_t i = 0; i < s->n; i++) {
    assert_false(there[i]);
    assert_int_equal(s->rows[i].step, i);
    there[i] = k->there[i];
    if (there[i]) s->rows[i] = k->rows[i];
  }
  return PTQ_OK;
}

static int64_t calls; /* of alive */

static ptq_status count_alive(void *ctx, double done, ptq_err *err) {
  calls++;
  return alive(&((keeper *)ctx)->t, done, err);
}

static ptq_status keep_direction(void *ctx, const ptq_direction_result *r,
                                 ptq_err *err) {
  return take_direction(&((keeper *)ctx)->t, r, err);
}

static ptq_status run(const study *s, int64_t direction, keeper *k) {
  const ptq_sink sink = {.ctx = k,
                         .direction = keep_direction,
                         .steps = keep_steps,
                         .left = give_back,
                         .alive = count_alive};
  calls = 0;
  k->t.last = 0.0;
  k->handed_over = k->waves = k->largest = 0;
  k->t.state = PTQ_STATE_PENDING;
  return ptq_direction_run(&s->grid, direction, &sink, NULL);
}

static void same_bits(const taken *a, const taken *b) {
  assert_int_equal(a->state, PTQ_STATE_DONE);
  assert_int_equal(a->n, b->n);
  assert_memory_equal(&a->row, &b->row, sizeof a->row);
  assert_memory_equal(a->steps, b->steps, (size_t)a->n * sizeof *a->steps);
}

static bool has_profile(const study *s, int64_t direction) {
  return s->grid.directions[direction].kind != PTQ_DIRECTION_HESSIAN;
}

static void waves_hand_over_what_the_direction_has(void **state) {
  (void)state;
  const char *const landscapes[] = {radial, full};
  for (int l = 0; l < 2; l++) {
    study s;
    open_study(&s, ZOO "llama-25k", "", landscapes[l]);
    for (int64_t d = 0; d < s.grid.n_directions; d++) {
      keeper k = {.t = {.stop_after = -1}, .refuse_after = -1};
      taken whole;
      if (!has_profile(&s, d)) continue;
      run_direction(&s, d, &whole); /* with a sink that keeps none */
      assert_int_equal(run(&s, d, &k), PTQ_OK);
      same_bits(&k.t, &whole);
      assert_int_equal(k.handed_over, whole.n);
      assert_int_equal(k.waves, ptq_profile_waves(whole.n));
      assert_int_equal(k.largest, PTQ_PROFILE_LANES);
      assert_memory_equal(k.rows, whole.steps,
                          (size_t)whole.n * sizeof *k.rows);
    }
    close_study(&s);
  }
}

/* Calls of alive: a lane's blocks and head are one each. */
static int64_t lanes_run(const study *s, int64_t before) {
  const int64_t a_lane = s->grid.subjects[0].info.n_blocks + 1;
  assert_int_equal((calls - before) % a_lane, 0);
  return (calls - before) / a_lane;
}

static void only_what_is_missing_is_measured(void **state) {
  (void)state;
  const char *const landscapes[] = {radial, full};
  /* Steps that are missing; bits. */
  static const unsigned missing[] = {0x00, 0x01, 0x02, 0x2c, 0x3e, 0x3f};
  for (int l = 0; l < 2; l++) {
    study s;
    open_study(&s, ZOO "llama-25k", "", landscapes[l]);
    for (int64_t d = 0; d < s.grid.n_directions; d++) {
      keeper all = {.t = {.stop_after = -1}, .refuse_after = -1};
      if (!has_profile(&s, d)) continue;
      assert_int_equal(run(&s, d, &all), PTQ_OK);
      const int64_t before =
          calls - all.t.n * (s.grid.subjects[0].info.n_blocks + 1);
      for (size_t m = 0; m < sizeof missing / sizeof *missing; m++) {
        keeper k = all;
        int64_t n = 0;
        for (int64_t i = 0; i < all.t.n; i++) {
          k.there[i] = (missing[m] >> i & 1U) == 0;
          n += !k.there[i];
          if (!k.there[i]) k.rows[i] = (ptq_profile_row){0};
        }
        assert_int_equal(run(&s, d, &k), PTQ_OK);
        same_bits(&k.t, &all.t);
        assert_int_equal(k.handed_over, n);
        /* and radius 0: what others differ from */
        const bool again = (missing[m] & 1U) == 0 && (n > 0 || l == 1);
        assert_int_equal(lanes_run(&s, before), n + again);
      }
    }
    close_study(&s);
  }
}

/* A row that says what no model says, and yet is what the profile has. */
static void rows_that_are_left_are_taken(void **state) {
  (void)state;
  study s;
  open_study(&s, ZOO "llama-25k", "", radial);
  keeper all = {.t = {.stop_after = -1}, .refuse_after = -1};
  assert_int_equal(run(&s, 0, &all), PTQ_OK);
  keeper k = all;
  k.rows[3].nll = 1000.0;
  k.there[7] = false;
  assert_int_equal(run(&s, 0, &k), PTQ_OK);
  assert_true(k.t.steps[3].nll == 1000.0);
  k.t.steps[3].nll = all.t.steps[3].nll;
  same_bits(&k.t, &all.t);
  close_study(&s);
}

static void what_was_stopped_goes_on_by_radius(void **state) {
  (void)state;
  study s;
  taken whole;
  open_study(&s, ZOO "opt-25k", "", radial);
  run_direction(&s, 1, &whole);
  keeper k = {.t = {.stop_with = PTQ_E_STOPPED}, .refuse_after = -1};
  const int64_t a_wave =
      PTQ_PROFILE_LANES * (s.grid.subjects[0].info.n_blocks + 1);
  k.t.stop_after = (int)(a_wave + 3); /* in the second wave */
  assert_int_equal(run(&s, 1, &k), PTQ_E_STOPPED);
  assert_int_equal(k.t.state, PTQ_STATE_PENDING);
  assert_int_equal(k.handed_over, PTQ_PROFILE_LANES);
  k.t.stop_after = -1;
  assert_int_equal(run(&s, 1, &k), PTQ_OK);
  assert_int_equal(lanes_run(&s, 0), whole.n - PTQ_PROFILE_LANES + 1);
  assert_int_equal(k.handed_over, whole.n - PTQ_PROFILE_LANES);
  same_bits(&k.t, &whole);
  close_study(&s);
}

static void a_sink_that_takes_no_rows_ends_the_run(void **state) {
  (void)state;
  study s;
  open_study(&s, ZOO "llama-25k", "", radial);
  keeper k = {.t = {.stop_after = -1}, .refuse_after = 1};
  assert_int_equal(run(&s, 0, &k), PTQ_E_IO);
  assert_int_equal(k.t.state, PTQ_STATE_PENDING);
  assert_int_equal(k.handed_over, PTQ_PROFILE_LANES);
  close_study(&s);
}

static void lanes_and_waves_are_counted(void **state) {
  (void)state;
  assert_int_equal(ptq_profile_lanes(0), 0);
  assert_int_equal(ptq_profile_waves(0), 0);
  assert_int_equal(ptq_profile_lanes(3), 3);
  assert_int_equal(ptq_profile_waves(3), 1);
  assert_int_equal(ptq_profile_lanes(25), PTQ_PROFILE_LANES);
  assert_int_equal(ptq_profile_waves(25),
                   (25 + PTQ_PROFILE_LANES - 1) / PTQ_PROFILE_LANES);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(waves_hand_over_what_the_direction_has),
      cmocka_unit_test(only_what_is_missing_is_measured),
      cmocka_unit_test(rows_that_are_left_are_taken),
      cmocka_unit_test(what_was_stopped_goes_on_by_radius),
      cmocka_unit_test(a_sink_that_takes_no_rows_ends_the_run),
      cmocka_unit_test(lanes_and_waves_are_counted),
  };
  return cmocka_run_group_tests_name("sweep/profile", tests, make_files,
                                     remove_files);
}
