/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"
#include "ptq/sweep/landscape.h"
#include "sweep_files.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"

/* Two models, 2 x 4 x 3 points each. */
static const char sweep_text[] =
    "models: [" ZOO "llama-25k, " ZOO "opt-25k]\n"
    "data:\n"
    "  calibration: {text: c.txt, windows: 8, length: 128, seed: 1}\n"
    "  evaluation: {text: e.txt, windows: 16, length: 128}\n"
    "grid:\n"
    "  dtype: [int4, mxint3]\n"
    "  method: [rtn, {name: gptq, hessian: static}, gptq,\n"
    "           {name: gptq, true_sequential: true}]\n"
    "  group: [8, 16, row]\n";

enum { POINTS = 48, SUBJECTS = 2 };

static scratch files;
static ptq_spec spec;
static ptq_grid grid;
static unsigned char all[POINTS];

static void open_text(const char *text, const char *set, ptq_spec *s,
                      ptq_grid *g) {
  ptq_err err = {0};
  scratch_text(&files, "s.yaml", text);
  if (ptq_spec_read(files.path, &set, set != NULL, s, &err) != PTQ_OK ||
      ptq_grid_build(s, g, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void open_grid(const char *set, ptq_spec *s, ptq_grid *g) {
  open_text(sweep_text, set, s, g);
}

static int make_grid(void **state) {
  (void)state;
  if (ptq_blas_init(NULL) != PTQ_OK || ptq_bf16_init(NULL) != PTQ_OK) return -1;
  scratch_make(&files);
  open_grid(NULL, &spec, &grid);
  memset(all, 1, sizeof all);
  return grid.n_points == POINTS ? 0 : -1;
}

static int drop_grid(void **state) {
  (void)state;
  ptq_grid_release(&grid);
  ptq_spec_release(&spec);
  scratch_remove(&files);
  return 0;
}

/* Bytes of n points of which some are sequential, as the grid's are. */
static int64_t batch_bytes(const ptq_grid *g, int64_t subject, int64_t n,
                           int64_t sequential) {
  ptq_load load = {0};
  for (int64_t i = 0; i < n; i++) /* methods are three points apart */
    ptq_load_add(&load, g, 24 * subject + (i < sequential ? 6 : 0));
  return ptq_batch_bytes(g, subject, &load);
}

static void build(const unsigned char *points, const unsigned char *subjects,
                  int workers, int64_t memory, const ptq_rates *rates,
                  ptq_plan *plan) {
  ptq_err err = {0};
  if (ptq_plan_build(&grid, points, subjects, workers, memory, rates, plan,
                     &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

/* Everything to do is in exactly one batch, of its own subject; every subject
 * to do is one item; longest items come first. */
static void check_partition(const ptq_plan *plan, const unsigned char *points,
                            const unsigned char *subjects) {
  int seen[POINTS] = {0}, seen_subjects[SUBJECTS] = {0};
  double total = 0.0;
  for (int64_t i = 0; i < plan->n_items; i++) {
    const ptq_item *item = &plan->items[i];
    assert_true(item->seconds > 0.0);
    /* A landscape's items may have come forward. */
    if (item->n > 0) assert_int_equal(item->turn, PTQ_TURN_MAIN);
    if (item->n == 0 && item->subject < grid.n_subjects)
      assert_int_equal(item->turn, PTQ_TURN_BASELINE);
    if (i > 0) {
      assert_true(item->turn >= plan->items[i - 1].turn);
      if (item->turn == plan->items[i - 1].turn)
        assert_true(item->seconds <= plan->items[i - 1].seconds);
    }
    total += item->seconds;
    if (item->n == 0) seen_subjects[item->subject]++;
    for (int64_t j = 0; j < item->n; j++) {
      const int64_t point = plan->order[item->first + j];
      assert_int_equal(grid.points[point].subject, item->subject);
      seen[point]++;
    }
  }
  for (int i = 0; i < POINTS; i++) assert_int_equal(seen[i], points[i] != 0);
  for (int i = 0; i < SUBJECTS; i++)
    assert_int_equal(seen_subjects[i], subjects[i] != 0);
  assert_true(total == plan->seconds_total);
}

static void batches_partition_what_is_to_do(void **state) {
  (void)state;
  ptq_rng rng;
  ptq_rng_init(&rng, 1);
  for (int round = 0; round < 200; round++) {
    unsigned char points[POINTS], subjects[SUBJECTS];
    const uint64_t share = ptq_rng_below(&rng, 5);
    for (int i = 0; i < POINTS; i++) points[i] = ptq_rng_below(&rng, 4) < share;
    for (int i = 0; i < SUBJECTS; i++)
      subjects[i] = (unsigned char)ptq_rng_below(&rng, 2);
    const int64_t memory =
        ptq_rng_below(&rng, 2) == 0
            ? 0
            : batch_bytes(&grid, 1, 1 + (int64_t)ptq_rng_below(&rng, 9), 1) +
                  ptq_subject_bytes(&grid, 1);
    ptq_plan plan;
    build(points, subjects, 1 + (int)ptq_rng_below(&rng, 20), memory, NULL,
          &plan);
    check_partition(&plan, points, subjects);
    if (memory > 0) assert_true(plan.memory_bytes <= memory);
    ptq_plan_release(&plan);
  }
}

static void equal_arguments_give_equal_plans(void **state) {
  (void)state;
  ptq_plan a, b;
  const ptq_rates slow = {.flops_per_s = 1e9, .correction = 3.0};
  build(all, all, 3, 0, &slow, &a);
  build(all, all, 3, 0, &slow, &b);
  assert_int_equal(a.n_items, b.n_items);
  assert_memory_equal(a.items, b.items, (size_t)a.n_items * sizeof *a.items);
  assert_memory_equal(a.order, b.order, (size_t)a.n_order * sizeof *a.order);
  ptq_plan_release(&a);
  ptq_plan_release(&b);
}

static int64_t batches(const ptq_plan *plan) {
  int64_t n = 0;
  for (int64_t i = 0; i < plan->n_items; i++) n += plan->items[i].n > 0;
  return n;
}

static void every_rank_gets_at_least_four_batches(void **state) {
  (void)state;
  const unsigned char none[SUBJECTS] = {0};
  for (int workers = 1; workers <= 20; workers++) {
    ptq_plan plan;
    build(all, none, workers, 0, NULL, &plan);
    const int64_t want = 4 * workers < POINTS ? 4 * workers : POINTS;
    assert_true(batches(&plan) >= want);
    /* no more than rounding up for each subject asks for */
    assert_true(batches(&plan) <= want + SUBJECTS);
    if (workers == 20) assert_int_equal(batches(&plan), POINTS);
    ptq_plan_release(&plan);
  }
}

static void a_batch_takes_ten_minutes_or_is_one_point(void **state) {
  (void)state;
  const unsigned char none[SUBJECTS] = {0};
  const double each = ptq_point_flops(&grid, 0);
  const double speeds[] = {each / 1.0, each / 20.0, each / 200.0,
                           each / 1000.0};
  for (int i = 0; i < 4; i++) {
    const ptq_rates rates = {.flops_per_s = speeds[i], .correction = 1.0};
    ptq_plan plan;
    build(all, none, 1, 0, &rates, &plan);
    for (int64_t j = 0; j < plan.n_items; j++)
      assert_true(plan.items[j].n == 1 || plan.items[j].seconds <= 600.0);
    if (i == 3) assert_int_equal(batches(&plan), POINTS);
    ptq_plan_release(&plan);
  }
}

static void memory_bounds_the_width(void **state) {
  (void)state;
  const unsigned char none[SUBJECTS] = {0};
  ptq_plan plan;
  int64_t widest = 0;
  /* Room for two sequential points of the larger model. */
  const int64_t two = batch_bytes(&grid, 1, 2, 2);
  build(all, none, 1, two, NULL, &plan);
  assert_true(plan.memory_bytes <= two);
  for (int64_t i = 0; i < plan.n_items; i++)
    if (plan.items[i].subject == 1 && plan.items[i].n > widest)
      widest = plan.items[i].n;
  assert_in_range(widest, 2, 4); /* more only where points need no Hessian */
  ptq_plan_release(&plan);
}

static void a_point_beyond_the_memory_is_refused_with_the_number(void **state) {
  (void)state;
  const unsigned char none[POINTS] = {0};
  char bytes[64];
  ptq_plan plan;
  ptq_err err = {0};
  const int64_t one = batch_bytes(&grid, 0, 1, 0);
  snprintf(bytes, sizeof bytes, "(%lld bytes)", (long long)one);
  assert_int_equal(
      ptq_plan_build(&grid, all, none, 2, one - 1, NULL, &plan, &err),
      PTQ_E_ARG);
  assert_non_null(
      strstr(err.msg, "a point, alone in its batch, of model 'llama-25k'"));
  assert_non_null(strstr(err.msg, bytes));
  assert_non_null(strstr(err.msg, "raise --memory, name a directory by "
                                  "--scratch ("));
  /* What it says would be enough is enough. */
  ptq_grid with = grid;
  with.scratch = "/tmp";
  const int64_t less = batch_bytes(&with, 0, 1, 0);
  assert_true(less < one);
  ptq_plan fits;
  assert_int_equal(
      ptq_plan_build(&with, all, none, 2, one - 1, NULL, &fits, NULL), PTQ_OK);
  ptq_plan_release(&fits);
  assert_null(plan.items);
  err = (ptq_err){0};
  assert_int_equal(ptq_plan_build(&grid, none, all, 2, 1, NULL, &plan, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "the baseline of model 'llama-25k' takes"));
}

static void nothing_to_do_is_an_empty_plan(void **state) {
  (void)state;
  const unsigned char none[POINTS] = {0};
  ptq_plan plan;
  build(none, none, 4, 0, NULL, &plan);
  assert_int_equal(plan.n_items, 0);
  assert_true(plan.seconds_total == 0.0);
  assert_true(ptq_plan_makespan(&plan, 4) == 0.0);
  ptq_plan_release(&plan);
}

static void the_makespan_lies_within_the_bounds_of_list_scheduling(
    void **state) {
  (void)state;
  for (int workers = 1; workers <= 8; workers++) {
    ptq_plan plan;
    build(all, all, workers, 0, NULL, &plan);
    const double m = ptq_plan_makespan(&plan, workers);
    const double ideal = plan.seconds_total / workers;
    const double slack = 1.0 + 1e-12; /* of summing in another order */
    double longest = 0.0;
    for (int64_t i = 0; i < plan.n_items; i++)
      longest = fmax(longest, plan.items[i].seconds);
    assert_true(m * slack >= ideal && m * slack >= longest);
    assert_true(m <= (ideal + longest) * slack);
    if (workers == 1) assert_true(m <= ideal * slack);
    ptq_plan_release(&plan);
  }
}

static void costs_order_methods_and_sizes(void **state) {
  (void)state;
  ptq_spec longer_spec;
  ptq_grid longer;
  /* Methods are three points apart: rtn, static, sequential, true. */
  for (int i = 0; i < 3; i++)
    assert_true(ptq_point_flops(&grid, 3 * i) <
                ptq_point_flops(&grid, 3 * (i + 1)));
  open_grid("data.evaluation.windows=32", &longer_spec, &longer);
  assert_true(ptq_point_flops(&longer, 0) > ptq_point_flops(&grid, 0));
  assert_true(ptq_shared_flops(&longer, 0) > ptq_shared_flops(&grid, 0));
  assert_true(ptq_subject_flops(&longer, 0) > ptq_subject_flops(&grid, 0));
  assert_true(batch_bytes(&longer, 0, 1, 0) > batch_bytes(&grid, 0, 1, 0));
  ptq_grid_release(&longer);
  ptq_spec_release(&longer_spec);
  open_grid("measure.spectra=off", &longer_spec, &longer);
  assert_true(ptq_subject_flops(&longer, 0) < ptq_subject_flops(&grid, 0));
  assert_true(ptq_subject_bytes(&longer, 0) <= ptq_subject_bytes(&grid, 0));
  ptq_grid_release(&longer);
  ptq_spec_release(&longer_spec);
}

static void bytes_grow_with_points_and_their_hessians(void **state) {
  (void)state;
  for (int64_t n = 1; n < 10; n++) {
    assert_true(batch_bytes(&grid, 0, n + 1, 0) > batch_bytes(&grid, 0, n, 0));
    for (int64_t k = 0; k < n; k++)
      assert_true(batch_bytes(&grid, 0, n, k + 1) >
                  batch_bytes(&grid, 0, n, k));
  }
}

/* Pairs of methods of which the second asks for more of the same. */
static void what_a_method_asks_for_is_counted(void **state) {
  (void)state;
  static const char text[] =
      "models: " ZOO "llama-25k\n"
      "data:\n"
      "  calibration: {text: c.txt, windows: 8, length: 128, seed: 1}\n"
      "  evaluation: {text: e.txt, windows: 16, length: 128}\n"
      "grid:\n"
      "  dtype: mxint3\n"
      "  method: [gptq, gptaq,\n"
      "           {name: gptq, hessian: static},\n"
      "           {name: gptq, hessian: static, damp: search},\n"
      "           {name: awq, scaling: none}, {name: awq, objective: site},\n"
      "           awq]\n"
      "  group: 16\n";
  ptq_spec s;
  ptq_grid g;
  open_text(text, NULL, &s, &g);
  assert_int_equal(g.n_points, 7);
  static const int pairs[][2] = {{0, 1}, {2, 3}, {4, 5}, {5, 6}};
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    ptq_load less = {0}, more = {0};
    ptq_load_add(&less, &g, pairs[i][0]);
    ptq_load_add(&more, &g, pairs[i][1]);
    assert_true(ptq_point_flops(&g, pairs[i][1]) >
                ptq_point_flops(&g, pairs[i][0]));
    assert_true(ptq_batch_bytes(&g, 0, &more) > ptq_batch_bytes(&g, 0, &less));
    /* together: what both share is there once */
    ptq_load both = less;
    ptq_load_add(&both, &g, pairs[i][1]);
    assert_true(ptq_batch_bytes(&g, 0, &both) > ptq_batch_bytes(&g, 0, &more));
    assert_true(ptq_batch_bytes(&g, 0, &both) <
                ptq_batch_bytes(&g, 0, &less) + ptq_batch_bytes(&g, 0, &more));
  }
  ptq_grid_release(&g);
  ptq_spec_release(&s);
}

/* Weights beside float32 ones; less time where the CPU has bfloat16. */
static void bf16_costs_memory_and_saves_time(void **state) {
  (void)state;
  ptq_spec s;
  ptq_grid g;
  ptq_load f32 = {0}, bf16 = {0};
  open_grid("compute=bf16", &s, &g);
  ptq_load_add(&f32, &grid, 0);
  ptq_load_add(&bf16, &g, 0);
  assert_true(ptq_batch_bytes(&g, 0, &bf16) > ptq_batch_bytes(&grid, 0, &f32));
  assert_true(ptq_subject_bytes(&g, 0) > ptq_subject_bytes(&grid, 0));
  const bool fast = ptq_bf16_is_fast();
  for (int64_t i = 0; i < g.n_points; i++) {
    const double mine = ptq_point_flops(&g, i);
    const double plain = ptq_point_flops(&grid, i);
    assert_true(fast ? mine < plain && mine > 0.4 * plain : mine == plain);
  }
  ptq_grid_release(&g);
  ptq_spec_release(&s);
}

/* A profile holds a few lanes' streams whatever its radii; each radius takes
 * its time, and each wave reads the blocks. */
static void radii_cost_time_and_no_memory(void **state) {
  (void)state;
  static const char *const sets[] = {
      "measure.landscape={mode: radial, radii: 8}",
      "measure.landscape={mode: radial, radii: 24}",
      "measure.landscape={mode: radial, radii: 72}",
      "measure.landscape={mode: radial, radii: 2}"};
  int64_t bytes[4], random = 1;
  double flops[4];
  for (int i = 0; i < 4; i++) {
    ptq_spec s;
    ptq_grid g;
    open_grid(sets[i], &s, &g);
    bytes[i] = ptq_direction_bytes(&g, random);
    flops[i] = ptq_direction_flops(&g, random);
    ptq_grid_release(&g);
    ptq_spec_release(&s);
  }
  const int64_t row = sizeof(ptq_profile_row);
  const int64_t stream = 16 * 128 * grid.subjects[0].info.d_model * 4;
  assert_int_equal(bytes[1] - bytes[0], 16 * row);
  assert_int_equal(bytes[2] - bytes[1], 48 * row);
  /* three lanes, not four */
  assert_int_equal(bytes[0] - bytes[3], 6 * row + stream + 16 * 8);
  const double few = flops[1] - flops[0], many = flops[2] - flops[1];
  assert_true(fabs(many / few - 3.0) < 1e-9);
  assert_true(flops[0] > few / 2.0 && flops[0] < few);
}

/* Ten times the tokens cost ten times as much, and are held by the reference
 * and by each point. */
static void requests_are_counted(void **state) {
  (void)state;
  ptq_subject *s = &grid.subjects[0];
  ptq_load load = {0};
  for (int i = 0; i < 3; i++) ptq_load_add(&load, &grid, i);
  const double flops = ptq_point_flops(&grid, 0);
  const double shared = ptq_shared_flops(&grid, 0);
  const double own = ptq_subject_flops(&grid, 0);
  const int64_t bytes = ptq_batch_bytes(&grid, 0, &load);
  const int64_t subject = ptq_subject_bytes(&grid, 0);
  s->requests = (ptq_request_size){.n = 100,
                                   .rows = 4000,
                                   .targets = 2000,
                                   .predicting = 1500,
                                   .longest_bundle = 128,
                                   .pairs = 1e5};
  const double more = ptq_point_flops(&grid, 0) - flops;
  /* The linear layers, twice a weight and token, and the head. */
  const double least = 2.0 * (double)s->info.params_quantizable * 4000.0 +
                       2.0 * 1500.0 * (double)(s->info.vocab * s->info.d_model);
  assert_true(more > least && more < 3.0 * least);
  assert_true(ptq_shared_flops(&grid, 0) - shared > least);
  assert_true(ptq_subject_flops(&grid, 0) - own > least);
  const int64_t states = 4000 * s->info.d_model * 4;
  const int64_t held = ptq_batch_bytes(&grid, 0, &load) - bytes;
  assert_true(held > 4 * states && held < 4 * states + (8 << 20));
  assert_true(ptq_subject_bytes(&grid, 0) - subject > states);
  s->requests = (ptq_request_size){.n = 100,
                                   .rows = 40000,
                                   .targets = 20000,
                                   .predicting = 15000,
                                   .longest_bundle = 128,
                                   .pairs = 1e6};
  assert_true(fabs((ptq_point_flops(&grid, 0) - flops) / more - 10.0) < 1e-6);
  s->requests = (ptq_request_size){0};
}

static void the_correction_scales_seconds(void **state) {
  (void)state;
  ptq_rates rates = ptq_rates_default();
  ptq_plan once, twice;
  assert_true(rates.flops_per_s == 50e9 && rates.correction == 1.0);
  build(all, all, 2, 0, &rates, &once);
  rates.correction = 2.0;
  build(all, all, 2, 0, &rates, &twice);
  assert_int_equal(once.n_items, twice.n_items);
  assert_true(twice.seconds_total > 1.999 * once.seconds_total);
  assert_true(twice.seconds_total < 2.001 * once.seconds_total);
  ptq_plan_release(&once);
  ptq_plan_release(&twice);
}

static void amounts_of_memory_are_read_and_written(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t bytes;
  } good[] = {
      {"1", 1},
      {"4GB", 4000000000},
      {"4GiB", INT64_C(4) << 30},
      {"2G", 2147483648},
      {"1.5kB", 1500},
      {"2e9", 2000000000},
      {"512 MiB", 512 << 20},
      {"3TB", INT64_C(3000000000000)},
  };
  static const char *const bad[] = {"",  "GB",  "4XB",  "-4GB",
                                    "0", "nan", "1e99", "4GBs"};
  int64_t bytes = 0;
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    assert_int_equal(ptq_bytes_parse(good[i].text, &bytes, NULL), PTQ_OK);
    assert_int_equal(bytes, good[i].bytes);
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    ptq_err err = {0};
    assert_int_equal(ptq_bytes_parse(bad[i], &bytes, &err), PTQ_E_ARG);
    assert_non_null(strstr(err.msg, "is not an amount of memory"));
  }
  char name[24];
  ptq_bytes_name(512, name);
  assert_string_equal(name, "512 B");
  ptq_bytes_name(3 << 19, name);
  assert_string_equal(name, "1.5 MiB");
  ptq_bytes_name(INT64_C(24) << 30, name);
  assert_string_equal(name, "24 GiB");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(batches_partition_what_is_to_do),
      cmocka_unit_test(equal_arguments_give_equal_plans),
      cmocka_unit_test(every_rank_gets_at_least_four_batches),
      cmocka_unit_test(a_batch_takes_ten_minutes_or_is_one_point),
      cmocka_unit_test(memory_bounds_the_width),
      cmocka_unit_test(a_point_beyond_the_memory_is_refused_with_the_number),
      cmocka_unit_test(nothing_to_do_is_an_empty_plan),
      cmocka_unit_test(the_makespan_lies_within_the_bounds_of_list_scheduling),
      cmocka_unit_test(costs_order_methods_and_sizes),
      cmocka_unit_test(bytes_grow_with_points_and_their_hessians),
      cmocka_unit_test(what_a_method_asks_for_is_counted),
      cmocka_unit_test(bf16_costs_memory_and_saves_time),
      cmocka_unit_test(radii_cost_time_and_no_memory),
      cmocka_unit_test(requests_are_counted),
      cmocka_unit_test(the_correction_scales_seconds),
      cmocka_unit_test(amounts_of_memory_are_read_and_written),
  };
  return cmocka_run_group_tests_name("sweep/cost", tests, make_grid, drop_grid);
}
