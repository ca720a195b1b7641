/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Methods that ask for more than H on a small model of every architecture:
 * fused projections, norms in other places, blocks in parallel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lane.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"

#define MODELS PTQ_SOURCE_DIR "/tests/golden/architectures"

enum { LENGTH = 12, CALIB = 5 };

static const struct {
  const char *method;
  ptq_method_option option;
  const char *dtype;
} cases[] = {{"awq", {"clip", "true"}, "mxint4"},
             {"awq", {"scaling", "duo"}, "int4:asym"},
             {"gptaq", {"true_sequential", "true"}, "int4:asym"},
             {"gptq", {"damp", "search"}, "int4"}};
enum { CASES = sizeof cases / sizeof cases[0] };

static ptq_windows random_windows(int64_t n, int64_t vocab, uint64_t seed) {
  ptq_windows w = {.n = n, .length = LENGTH};
  ptq_rng r;
  ptq_rng_init(&r, seed);
  assert_int_equal(ptq_alloc(&w.ids, n * LENGTH, sizeof *w.ids, "ids", NULL),
                   PTQ_OK);
  for (int64_t i = 0; i < n * LENGTH; i++)
    w.ids[i] = (uint32_t)ptq_rng_below(&r, (uint64_t)vocab);
  return w;
}

/* One row a layer, in the order of the roles, with finite errors. */
static void check_rows(const ptq_lane *l, const ptq_setup *s,
                       const char *name) {
  int64_t at = 0;
  for (int64_t block = 0; block < s->info->n_blocks; block++)
    for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
      char tensor[PTQ_TENSOR_NAME_MAX];
      if (!ptq_role_present(s->info, (ptq_role)role)) continue;
      ptq_role_tensor_name(s->model, block, (ptq_role)role, tensor);
      const ptq_layer_row *row = &l->layers[at++];
      if (strcmp(row->layer, tensor) != 0)
        fail_msg("%s: row %lld is '%s', not '%s'", name, (long long)at - 1,
                 row->layer, tensor);
      if (!isfinite(row->sqnr_output) || !isfinite(row->sqnr_output_prop) ||
          row->sqnr_output < 3.0)
        fail_msg("%s: '%s' has %g and %g dB", name, tensor, row->sqnr_output,
                 row->sqnr_output_prop);
    }
  assert_int_equal(at, l->n_layers);
}

static void run_case(ptq_setup *s, int k, const char *name) {
  ptq_err err = {0};
  ptq_load load = {0};
  ptq_method m;
  ptq_dtype dt;
  if (ptq_method_parse(cases[k].method, &cases[k].option, 1, &m, &err) !=
          PTQ_OK ||
      ptq_dtype_parse(cases[k].dtype, &dt, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_spec spec = {.methods = &m, .dtypes = &dt, .n_methods = 1};
  ptq_subject subject = {.info = *s->info};
  ptq_point point = {.group = 8};
  const ptq_grid grid = {.spec = &spec,
                         .subjects = &subject,
                         .points = &point,
                         .n_subjects = 1,
                         .n_points = 1};
  ptq_reference r;
  ptq_workbench b;
  ptq_lane l;
  ptq_workspace *ws = NULL;
  ptq_load_add(&load, &grid, 0);
  if (ptq_reference_open(&r, s, load.needs, load.own_needs, &err) != PTQ_OK ||
      ptq_workbench_open(&b, s, 8, load.sequential > 0, load.own_needs, &err) !=
          PTQ_OK ||
      ptq_workspace_create(s->info, LENGTH, &ws, &err) != PTQ_OK ||
      ptq_lane_open(&l, &grid, 0, &r, &err) != PTQ_OK)
    fail_msg("%s: %s", name, err.msg);
  for (int64_t i = 0; i < s->info->n_blocks; i++) {
    assert_int_equal(ptq_reference_block(&r, i, ws, &err), PTQ_OK);
    ptq_lane_block(&l, &r, &b, ws);
    if (l.status != PTQ_OK)
      fail_msg("%s, %s: %s", name, cases[k].method, l.err.msg);
  }
  check_rows(&l, s, name);
  ptq_lane_close(&l);
  ptq_workbench_close(&b);
  ptq_workspace_free(ws);
  ptq_reference_close(&r);
}

static void run_model(const char *name) {
  char path[512];
  ptq_err err = {0};
  ptq_setup s = {0};
  snprintf(path, sizeof path, MODELS "/%s", name);
  if (ptq_model_open(path, &s.model, &err) != PTQ_OK) fail_msg("%s", err.msg);
  s.info = ptq_model_get_info(s.model);
  s.calib = random_windows(CALIB, s.info->vocab, 1);
  s.select = random_windows(2, s.info->vocab, 2);
  s.eval = random_windows(1, s.info->vocab, 3);
  for (int k = 0; k < CASES; k++) run_case(&s, k, name);
  ptq_setup_close(&s);
}

static void every_architecture_gives_what_methods_ask_for(void **state) {
  (void)state;
  int n = 0;
  DIR *d = opendir(MODELS);
  assert_non_null(d);
  for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
    char path[512];
    snprintf(path, sizeof path, MODELS "/%.200s/config.json", e->d_name);
    FILE *f = fopen(path, "r");
    if (f == NULL) continue;
    fclose(f);
    run_model(e->d_name);
    n++;
  }
  closedir(d);
  assert_true(n >= 20);
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_architecture_gives_what_methods_ask_for),
  };
  return cmocka_run_group_tests_name("sweep/lane_architectures", tests, blas,
                                     NULL);
}
