/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "landscape_fixture.h"

static const char gptq[] =
    "{mode: full, directions: 0, methods: [rtn, gptq], radii: 8, smallest: "
    "0.004, largest: 0.3, probes: 1, lanczos: 2, starts: 1}";

/* The NLL of a point, by the batch that a sweep would make of it. */
static ptq_status take_point(void *ctx, const ptq_point_result *r,
                             ptq_err *err) {
  (void)err;
  if (r->state != PTQ_STATE_DONE) fail_msg("%s", r->message);
  ((taken *)ctx)->baseline = r->row.nll;
  assert_true(r->n_layers <= MAX_LAYERS);
  for (int64_t i = 0; i < r->n_layers; i++)
    ((taken *)ctx)->layers[i].err_hessian = r->layers[i].err_hessian;
  return PTQ_OK;
}

static ptq_status begin_points(void *ctx, const int64_t *points, int64_t n,
                               ptq_err *err) {
  (void)ctx, (void)points, (void)n, (void)err;
  return PTQ_OK;
}

static void run_point(const study *s, int64_t point, taken *t) {
  ptq_err err = {0};
  *t = (taken){.stop_after = -1};
  ptq_sink sink = sink_of(t);
  sink.begin = begin_points;
  sink.point = take_point;
  if (ptq_batch_run(&s->grid, &point, 1, &sink, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

/* At factor 1 stands the very point of GPTQ on static moments, and what is
 * said of the layers' errors is what the point says. */
static void gptq_displaces_to_its_point(void **state) {
  (void)state;
  static const char *const models[] = {ZOO "llama-25k", ZOO "opt-25k"};
  for (int m = 0; m < 2; m++) {
    study s, points;
    open_study(&s, models[m], "", gptq);
    methods = "rtn, {name: gptq, hessian: static}";
    open_study(&points, models[m], "", "off");
    methods = "rtn";
    assert_int_equal(s.grid.n_directions, 5);
    for (int64_t i = 1; i < 5; i++) {
      taken t, p;
      double sum = 0.0, fisher = 0.0, factors = 0.0, half = 0.0;
      const ptq_direction *d = &s.grid.directions[i];
      const bool rtn = d->kind == PTQ_DIRECTION_RTN;
      const int64_t dtype = s.grid.points[d->point].dtype;
      assert_int_equal(rtn, i < 3);
      run_direction(&s, i, &t);
      /* points by dtype, method, group; the first group is the direction's */
      run_point(&points, 4 * dtype + 2 * !rtn, &p);
      int64_t at = 0;
      while (t.steps[at].factor != 1.0) at++;
      assert_memory_equal(&t.steps[at].nll, &p.baseline, sizeof p.baseline);
      assert_true(t.row.dnll == t.steps[at].dnll);
      assert_true(t.row.dnll_calib == t.steps[at].dnll_calib);
      assert_true(fabs(t.row.slope + t.row.curvature / 2.0 -
                       t.row.dnll_quadratic) < 1e-12);
      for (int64_t k = 0; k < t.n_layers; k++) {
        const ptq_direction_layer_row *r = &t.layers[k];
        assert_true(fabs(r->err_hessian / p.layers[k].err_hessian - 1.0) <
                    1e-4);
        assert_true(r->err_top > 0.0 && r->err_top < 1.0);
        /* rounding errors lie anyhow, GPTQ's keep away from what counts */
        assert_true(rtn ? r->size_top > 0.01 && r->size_top < 0.3
                        : r->size_top < 0.16);
        sum += r->gradient_curvature;
        /* of windows: never less than of their mean gradient */
        assert_true(r->fisher_diagonal > 0.0);
        fisher += r->fisher_diagonal;
        /* B's trace alone would make it the mean of B's eigenvalues times
         * tr(E H E') */
        assert_true(r->kronecker > 0.0);
        factors += r->kronecker;
        half += r->gauss_newton;
      }
      assert_true(half > 0.0);
      assert_true(fabs(half - t.row.gauss_newton) < 1e-9 * half);
      assert_true(fabs(factors - t.row.kronecker) < 1e-9 * factors);
      assert_true(fabs(fisher - t.row.fisher_diagonal) < 1e-9 * fisher);
      assert_true(fabs(sum - t.row.gradient_curvature) <
                  1e-9 * (fabs(sum) + 1e-6));
    }
    close_study(&points);
    close_study(&s);
  }
}

/* The radius is the last before the prediction is off for the first time. */
static void the_radius_of_the_prediction_is_found(void **state) {
  (void)state;
  study s;
  taken t;
  open_study(&s, ZOO "llama-25k", "", gptq);
  run_direction(&s, 1, &t);
  double radius = 0.0;
  for (int64_t k = 1; k < t.n; k++) {
    const ptq_profile_row *r = &t.steps[k];
    const double f = r->factor;
    assert_true(fabs(f * t.row.slope + f * f * t.row.curvature / 2.0 -
                     r->dnll_quadratic) < 1e-12);
    const double miss = fabs(r->dnll_quadratic - r->dnll_calib);
    if (!(miss <= fmax(0.01, 0.1 * fabs(r->dnll_calib)))) break;
    radius = r->radius;
  }
  assert_true(t.row.quadratic_radius == radius);
  assert_true(radius > 0.004 && radius < 0.3);
  close_study(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gptq_displaces_to_its_point),
      cmocka_unit_test(the_radius_of_the_prediction_is_found),
  };
  return cmocka_run_group_tests_name("sweep/displaced", tests, make_files,
                                     remove_files);
}
