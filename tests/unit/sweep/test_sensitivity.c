/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "landscape_fixture.h"

/* A checkpoint with some layers rounded, evaluated as any other. */
static double rounded_nll(const study *s, int64_t direction, int64_t block,
                          int layer, bool alone) {
  static int count;
  char name[32], dir[256];
  ptq_err err = {0};
  ptq_model *m = NULL;
  ptq_export *e = NULL;
  ptq_displacer d;
  study other;
  snprintf(name, sizeof name, "rounded-%d", count++);
  strcpy(dir, scratch_path(&files, name));
  if (ptq_model_open(ZOO "llama-25k", &m, &err) != PTQ_OK ||
      ptq_export_open(m, ZOO "llama-25k", dir, PTQ_EXPORT_F32, "rounded", &e,
                      &err) != PTQ_OK ||
      ptq_displacer_open(&d, &s->grid, &s->grid.directions[direction], m, NULL,
                         &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  for (int64_t i = 0; i < ptq_model_get_info(m)->n_blocks; i++) {
    ptq_block b = {0};
    assert_int_equal(ptq_model_load_block(m, i, &b, &err), PTQ_OK);
    assert_int_equal(ptq_displacer_block(&d, &b, &err), PTQ_OK);
    for (int l = 0; l < ptq_layer_count(ptq_model_get_info(m)); l++) {
      const ptq_linear *w = &b.linear[l];
      if (w->weight != NULL && (i == block && l == layer) == alone)
        memcpy(w->weight, d.rounded[l],
               (size_t)(w->out * w->in) * sizeof(float));
    }
    if (ptq_export_block(e, &b, &err) != PTQ_OK) fail_msg("%s", err.msg);
    ptq_block_release(&b);
  }
  assert_int_equal(ptq_export_finish(e, &err), PTQ_OK);
  ptq_export_free(e);
  ptq_displacer_close(&d);
  ptq_model_close(m);
  open_study(&other, name, "", "off");
  const double nll = baseline(&other);
  close_study(&other);
  return nll;
}

/* Every layer of the first and the last block against checkpoints. */
static void a_sensitivity_is_the_loss_of_the_checkpoint(void **state) {
  (void)state;
  study s;
  open_study(&s, ZOO "llama-25k", "",
             "{mode: radial, directions: 0, rtn: false, sensitivity: mxint3}");
  const double nll = baseline(&s);
  const int64_t blocks = s.grid.subjects[0].info.n_blocks;
  assert_int_equal(s.grid.n_directions, blocks);
  const double all = rounded_nll(&s, 0, -1, -1, false);
  for (int64_t b = 0; b < blocks; b += blocks - 1) {
    taken t;
    int64_t k = 0;
    assert_int_equal(s.grid.directions[b].number, b);
    run_direction(&s, b, &t);
    assert_string_equal(t.row.kind, "sensitivity");
    assert_string_equal(t.row.dtype, "mxint3");
    assert_memory_equal(&t.row.nll, &nll, sizeof nll);
    assert_true(fabs(t.row.dnll - (all - nll)) < 1e-6);
    assert_int_equal(t.n, 0);
    assert_int_equal(t.n_layers * blocks,
                     ptq_subject_layers(&s.grid.subjects[0]));
    for (int l = 0; l < ptq_layer_count(&s.grid.subjects[0].info); l++) {
      if (!ptq_layer_present(&s.grid.subjects[0].info, l)) continue;
      const ptq_direction_layer_row *r = &t.layers[k++];
      const double alone = rounded_nll(&s, b, b, l, true) - nll;
      const double without = rounded_nll(&s, b, b, l, false) - nll;
      assert_true(fabs(r->alone - alone) < 1e-6);
      assert_true(fabs(t.row.dnll - r->restored - without) < 1e-6);
      assert_true(r->alone_se > 0.0 && r->restored_se > 0.0);
      assert_true(r->size > 0.01 && isnan(r->slope));
    }
    assert_int_equal(k, t.n_layers);
  }
  close_study(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_sensitivity_is_the_loss_of_the_checkpoint),
  };
  return cmocka_run_group_tests_name("sweep/sensitivity", tests, make_files,
                                     remove_files);
}
